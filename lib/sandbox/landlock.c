/* SPDX-License-Identifier: MIT */
/*
 * Landlock (linux/landlock.h), by its raw system calls: every access right the kernel knows is handled and none is
 * granted but those the caller names, so that no other path can be opened, made or removed; newer kernels also take TCP,
 * abstract sockets and signals to others away.
 */
#include "lib/sandbox/profile.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"

enum {
	CREATE_RULESET = 444,
	ADD_RULE,
	RESTRICT_SELF,
	VERSION_FLAG = 1,
	SCOPE_SIGNAL = 2,
	PATH_BENEATH = 1
};
/* Rights to files (LANDLOCK_ACCESS_FS_*), all of which a rule for a file may name; and to read folders. */
enum { EXECUTE = 1, WRITE_FILE = 2, READ_FILE = 4, READ_DIR = 8, TRUNCATE = 1 << 14 };

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

/* struct landlock_path_beneath_attr */
struct rule {
	uint64_t rights;
	int32_t fd;
} PACKED;

static int allow(int set, int fd, uint64_t rights)
{
	const struct rule r = {rights, fd};

	return syscall(ADD_RULE, set, PATH_BENEATH, &r, 0) < 0 ? -errno : 0;
}

static int grant(int set, const struct sandbox_grants *g, uint64_t known, struct err *e)
{
	struct stat st;
	int r = 0;

	for (unsigned i = 0; g->readable && g->readable[i]; i++) {
		cleanup_close int fd = open(g->readable[i], O_PATH | O_CLOEXEC);

		if (fd < 0 || fstat(fd, &st) < 0)
			continue; /* what is not there cannot be read either */
		r = allow(
			set, fd, S_ISDIR(st.st_mode) ? EXECUTE | READ_FILE | READ_DIR : READ_FILE);
		if (r < 0)
			return err_sys(e, r, "allow %s in the Landlock ruleset", g->readable[i]);
	}
	for (unsigned i = 0; i < g->n_files && r == 0; i++)
		r = allow(set, g->files[i], (READ_FILE | WRITE_FILE | TRUNCATE) & known);
	for (unsigned i = 0; i < g->n_trees && r == 0; i++)
		r = allow(set, g->trees[i], known);
	return r < 0 ? err_sys(e, r, "allow a file in the Landlock ruleset") : 0;
}

int sandbox_landlock(const struct sandbox_profile *p, const struct sandbox_opts *o,
	const char **ret_why, struct err *e)
{
	const struct sandbox_grants *g = o->grants;
	int abi = syscall(CREATE_RULESET, NULL, 0, VERSION_FLAG);
	struct ruleset rs;
	unsigned i;

	if (abi < 1) {
		*ret_why = errno == EOPNOTSUPP ? "Landlock is off in this kernel"
					       : "this kernel has no Landlock";
		return 1;
	}
	if (o->landlock_abi)
		abi = MIN(abi, o->landlock_abi);
	/* moving to and linking in another folder is then forbidden whatever is granted, and has to work in trees */
	if (abi < 2 && g && g->n_trees) {
		*ret_why =
			"the Landlock of this kernel cannot allow files to be moved between folders";
		return 1;
	}
	i = MIN((unsigned)abi, ARRAY_LEN(abis)) - 1;
	rs = (struct ruleset){BIT(abis[i].fs) - 1, BIT(abis[i].net) - 1, BIT(abis[i].scoped) - 1};
	if (p->signals)
		rs.scoped &= ~(uint64_t)SCOPE_SIGNAL;
	if (p->tcp)
		rs.net = 0;
	cleanup_close int fd = syscall(CREATE_RULESET, &rs, (size_t)abis[i].size, 0);
	if (fd < 0)
		return err_sys(e, -errno, "make a Landlock ruleset");
	if (g) {
		int r = grant(fd, g, rs.fs, e);

		if (r < 0)
			return r;
	}
	if (syscall(RESTRICT_SELF, fd, 0) < 0)
		return err_sys(e, -errno, "enter the Landlock ruleset");
	return 0;
}
