/* SPDX-License-Identifier: MIT */
/*
 * fs-escape raw FOLDER OUTSIDE SECONDS SEED [UID]
 * fs-escape mounted MOUNTPOINT OUTSIDE SECONDS SEED
 * fs-escape host FOLDER OUTSIDE SECONDS SEED BESIDE [mounts]
 *
 * An attacker on a shared folder who wants to what is
 * outside. Prints how often what he tried went through; ends with 1 if he got to read a canary. What he may have done
 * to it otherwise, test_escape.py sees.
 */
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "tests/fs/escape.h"

const char *const did_names[DIDS] = {"lookup", "open", "read", "write", "make", "rename", "remove",
	"link", "setattr", "xattr", "list", "swap", "mount"};

const char *plain_name(struct rng *r)
{
	static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h", "m0", "m1"};

	return names[rnd(r, ARRAY_LEN(names))];
}

void target(struct rng *r, const char *outside, char *buf, size_t cap)
{
	switch (rnd(r, 6)) {
	case 0: snprintf(buf, cap, "%s/canary", outside); break;
	case 1: snprintf(buf, cap, "%s", outside); break;
	case 2: snprintf(buf, cap, "../outside"); break;
	case 3: snprintf(buf, cap, "../outside/nest/egg"); break;
	case 4: snprintf(buf, cap, "../../outside/nest"); break;
	default: snprintf(buf, cap, "%s/nest", outside);
	}
}

/* --- the host beside --- */

struct host {
	int share, beside, outside;
	struct rng r;
};

/* A folder of the share, never by a link: what the attacker on the host does himself proves nothing. */
static int some_dir(struct host *a)
{
	int fd = rnd(&a->r, 3) ? openat(a->share, plain_name(&a->r),
					 O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
			       : -1;

	return fd >= 0 ? fd : fcntl(a->share, F_DUPFD_CLOEXEC, 3);
}

static bool swap(struct host *a, const char *outside)
{
	cleanup_close int one = some_dir(a), two = some_dir(a);
	const char *name = plain_name(&a->r), *other = plain_name(&a->r);
	char to[4096];

	switch (rnd(&a->r, 8)) {
	case 0: target(&a->r, outside, to, sizeof(to)); return symlinkat(to, one, name) == 0;
	case 1: return mkdirat(one, name, 0777) == 0;
	case 2: {
		cleanup_close int fd = openat(
			one, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0666);

		return fd >= 0 && write(fd, "text", 4) == 4;
	}
	case 3: return linkat(one, name, two, other, 0) == 0;
	case 4: return unlinkat(one, name, rnd(&a->r, 2) ? AT_REMOVEDIR : 0) == 0;
	case 5: /* out of the share, and what was out back in */
		(void)!renameat(a->beside, "moved", two, other);
		return renameat(one, name, a->beside, "moved") == 0;
	case 6: return renameat(one, name, two, other) == 0;
	default: return syscall(SYS_renameat2, one, name, two, other, RENAME_EXCHANGE) == 0;
	}
}

/* A folder that is nobody's canary onto one of the share, or one of the share to elsewhere; and off again. */
static bool mount_something(struct host *a)
{
	char at[64], from[64];
	cleanup_close int fd = openat(a->share, rnd(&a->r, 2) ? "m0" : "m1",
		O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_close int other = openat(a->beside, rnd(&a->r, 2) ? "third" : "place",
		O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	bool ok;

	if (fd < 0 || other < 0)
		return false;
	snprintf(at, sizeof(at), "/proc/self/fd/%d", rnd(&a->r, 3) ? fd : other);
	snprintf(from, sizeof(from), "/proc/self/fd/%d", rnd(&a->r, 2) ? fd : other);
	ok = mount(from, at, NULL, MS_BIND, NULL) == 0;
	usleep(rnd(&a->r, 1000));
	if (ok) {
		/* the descriptors are of what is below */
		for (const char *const *p = (const char *const[]){"m0", "m1", NULL}; *p; p++) {
			cleanup_close int m =
				openat(a->share, *p, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			char path[64];

			snprintf(path, sizeof(path), "/proc/self/fd/%d", m);
			if (m >= 0)
				umount2(path, MNT_DETACH);
		}
	}
	return ok;
}

void attack_host(const char *share, const char *beside, const char *outside, bool mounts,
	uint64_t seed, const struct timespec *end, uint64_t done[DIDS])
{
	struct host a = {.share = open(share, O_PATH | O_DIRECTORY | O_CLOEXEC),
		.beside = open(beside, O_PATH | O_DIRECTORY | O_CLOEXEC),
		.r = {seed}};

	if (a.share < 0 || a.beside < 0)
		exit(2);
	while (!time_is_up(end)) {
		for (unsigned i = 0; i < 64; i++)
			done[DID_SWAP] += swap(&a, outside);
		if (mounts && rnd(&a.r, 2) == 0)
			done[DID_MOUNT] += mount_something(&a);
	}
	close(a.share);
	close(a.beside);
}

/* A server without privileges, for whom the canary is open: who guards it is he alone. */
static void become(unsigned uid, const char *outside)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/nest/egg", outside);
	if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 ||
		setresuid(uid, uid, uid) < 0 || access(path, R_OK | W_OK) < 0)
		exit(3);
}

int main(int argc, char **argv)
{
	uint64_t done[DIDS] = {0};
	struct timespec end;
	bool well = true;
	uint64_t seed;

	if (argc < 6)
		return 2;
	seed = strtoull(argv[5], NULL, 10) * 0x9e3779b97f4a7c15ull + 1;
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += atoi(argv[4]);
	umask(0);
	if (!strcmp(argv[1], "raw") && argc > 6)
		become((unsigned)atoi(argv[6]), argv[3]);
	if (!strcmp(argv[1], "raw"))
		well = attack_raw(argv[2], argv[3], seed, &end, done);
	else if (!strcmp(argv[1], "mounted"))
		well = attack_mounted(argv[2], argv[3], seed, &end, done);
	else if (!strcmp(argv[1], "host") && argc > 6)
		attack_host(argv[2], argv[6], argv[3], argc > 7, seed, &end, done);
	else
		return 2;
	for (unsigned i = 0; i < DIDS; i++)
		printf("%s %llu\n", did_names[i], (unsigned long long)done[i]);
	return well ? 0 : 1;
}
