/* SPDX-License-Identifier: MIT */
/*
 * Confinement of one of our processes, in stages: stray descriptors are closed, privileges can no longer be gained,
 * capabilities are dropped, no path can be opened (Landlock), and only the system calls in the profile's table remain
 * (seccomp). To be entered with everything the process needs already open, before its threads start: Landlock and
 * capabilities bind the calling thread and those it starts later; seccomp binds all.
 */
#ifndef WSLX_SANDBOX_SANDBOX_H
#define WSLX_SANDBOX_SANDBOX_H

#include <stdbool.h>
#include "lib/base/err.h"

struct sandbox_profile;
extern const struct sandbox_profile sandbox_vmm; /* wslx-vmm: KVM, code generation, local sockets */
extern const struct sandbox_profile
	sandbox_netd; /* wslx-netd: the guest's connections, and nothing of files */
extern const struct sandbox_profile sandbox_netd_tap; /* the same on a tap device */
extern const struct sandbox_profile
	sandbox_forward; /* wslx-forward: the same, and the machine's vsock socket */
extern const struct sandbox_profile sandbox_importer; /* lib/image: descriptor in, descriptor out */
extern const struct sandbox_profile
	sandbox_exporter; /* the same, with threads; copies files as a whole */
extern const struct sandbox_profile
	sandbox_tool; /* a program of somebody else's that works on a file (tool.h): to be executed in it */

extern const struct sandbox_profile sandbox_fsd; /* wslx-fsd: whole folders, and nothing besides */

enum sandbox_stage {
	SANDBOX_FDS,
	SANDBOX_NO_NEW_PRIVS,
	SANDBOX_CAPS,
	SANDBOX_LANDLOCK,
	SANDBOX_SECCOMP,
	SANDBOX_STAGES,
};
extern const char *const sandbox_stage_names[SANDBOX_STAGES];

/* What Landlock leaves open, for programs that are executed inside. */
struct sandbox_grants {
	const char *const *readable; /* paths, and what is below them, up to NULL; may be NULL */
	const int *files;	     /* what these descriptors refer to may be read and written */
	unsigned n_files;
	const int *trees; /* below these folders everything is allowed */
	unsigned n_trees;
};

struct sandbox_opts {
	const int *keep_fds; /* all others are closed; n_keep 0: none is */
	unsigned n_keep;
	/* A forbidden system call is reported on stderr and fails with ENOSYS, instead of ending the process. */
	bool debug;
	const struct sandbox_grants *grants; /* NULL: none */
	int landlock_abi;		     /* tests: as on an older kernel; 0: as it is */
	/* Which stages took effect, a bit each, and why the others did not. May be NULL. */
	struct sandbox_result *ret;
};

struct sandbox_result {
	unsigned done;
	char note[160];
};

/*
 * 0, or a negative errno; the process is then partly confined and should end. A kernel without Landlock is no failure:
 * see sandbox_result.
 */
int sandbox_enter(const struct sandbox_profile *p, const struct sandbox_opts *o, struct err *e);

/* Closes all descriptors but these. */
int sandbox_close_others(const int *keep, unsigned n, struct err *e);

const char *sandbox_profile_name(const struct sandbox_profile *p);

/* True where an address sanitizer has reserved so much address space that it cannot be limited. */
bool sandbox_address_space_is_huge(void);

#endif
