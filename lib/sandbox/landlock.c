/* SPDX-License-Identifier: MIT */
/*
 * Landlock (linux/landlock.h), by its raw system calls: every access right the kernel knows is handled and none is
 * granted, so that no path can be opened, made or removed; newer kernels also take TCP, abstract sockets and signals to
 * others away.
 */
#include "lib/sandbox/profile.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"

enum { CREATE_RULESET = 444, RESTRICT_SELF = 446, VERSION_FLAG = 1, SCOPE_SIGNAL = 2 };

/* struct landlock_ruleset_attr as of ABI 6; older kernels take a shorter one. */
struct ruleset {
	uint64_t fs, net, scoped;
};

/* Rights by ABI version: how many bits of each field it knows, and how long its structure is. */
static const struct {
	uint8_t fs, net, scoped, size;
} abis[] = {
	{13, 0, 0, 8},	/* 1: Linux 5.13 */
	{14, 0, 0, 8},	/* 2: moving between folders */
	{15, 0, 0, 8},	/* 3: truncation */
	{15, 2, 0, 16}, /* 4: TCP */
	{16, 2, 0, 16}, /* 5: requests to devices */
	{16, 2, 2, 24}, /* 6: abstract sockets, signals */
};

int sandbox_landlock(const struct sandbox_profile *p, const char **ret_why, struct err *e)
{
	int abi = syscall(CREATE_RULESET, NULL, 0, VERSION_FLAG);
	struct ruleset rs;
	unsigned i;

	if (abi < 1) {
		*ret_why = errno == EOPNOTSUPP ? "Landlock is off in this kernel"
					       : "this kernel has no Landlock";
		return 1;
	}
	i = MIN((unsigned)abi, ARRAY_LEN(abis)) - 1;
	rs = (struct ruleset){BIT(abis[i].fs) - 1, BIT(abis[i].net) - 1, BIT(abis[i].scoped) - 1};
	if (p->signals)
		rs.scoped &= ~(uint64_t)SCOPE_SIGNAL;
	cleanup_close int fd = syscall(CREATE_RULESET, &rs, (size_t)abis[i].size, 0);
	if (fd < 0)
		return err_sys(e, -errno, "make a Landlock ruleset");
	if (syscall(RESTRICT_SELF, fd, 0) < 0)
		return err_sys(e, -errno, "enter the Landlock ruleset");
	return 0;
}
