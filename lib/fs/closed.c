/* SPDX-License-Identifier: MIT */
/*
 * Mounts that are shown and not entered: file systems that are no files but the host's kernel itself, or the server's own process
 * (/proc/self/mem), where reading tells and writing does what no file of a user's could.
 *
 * In a virtual machine also those through which the machine has files of its host. The host asks for files here while it answers for
 * those there, and each would wait for the other. So they are known by what this kernel says of its mounts, without a question to the
 * file system itself, be it only statx(2).
 */
#include "lib/fs/host-internal.h"

#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

/* Magic numbers that <linux/magic.h> lacks, as the kernel's own sources have them. */
enum {
	CONFIGFS = 0x62656570,
	FUSECTL = 0x65735543,
	NFSD = 0x6e667364,
	RPC_PIPEFS = 0x67596969,
	FUNCTIONFS = 0x0a647361,
	RESCTRL = 0x07655821,
	EFIVARFS = 0xde5e81e4u,
	BPFFS = 0xcafe4a11u,
	TRACEFS = 0x74726163,
	MQUEUE = 0x19800202,
};

bool fs_is_closed(int fd)
{
	static const uint32_t types[] = {PROC_SUPER_MAGIC, SYSFS_MAGIC, CGROUP_SUPER_MAGIC,
		CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, TRACEFS, SECURITYFS_MAGIC, SELINUX_MAGIC,
		SMACK_MAGIC, BPFFS, EFIVARFS, PSTOREFS_MAGIC, CONFIGFS, BINFMTFS_MAGIC, FUSECTL,
		NSFS_MAGIC, DEVPTS_SUPER_MAGIC, XENFS_SUPER_MAGIC, NFSD, RPC_PIPEFS, FUNCTIONFS,
		RESCTRL, MQUEUE};
	struct statfs st;

	if (fstatfs(fd, &st) < 0)
		return true;
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if ((uint32_t)st.f_type == types[i])
			return true;
	return false;
}

bool fs_is_overlay(int fd)
{
	struct statfs st;

	return fstatfs(fd, &st) == 0 && st.f_type == OVERLAYFS_SUPER_MAGIC;
}

bool fs_is_remote(int fd)
{
	struct statfs st;

	return fstatfs(fd, &st) < 0 || is_remote((uint32_t)st.f_type);
}

/* What is known of what the entry is on; fd: of the entry itself. */
static void look_at_mount(int fd, struct statx *stx, struct mounted *ret)
{
	if (fs_is_overlay(fd))
		birth_forget(stx);
	ret->remote = fs_is_remote(fd);
	ret->closed = fs_is_closed(fd);
}

/* What cannot be looked at, or is another file by now, counts as closed: it is looked up again. */
static struct mounted find_mount(
	const struct fs_node *dir, int dirfd, const char *name, struct statx *stx)
{
	struct mounted m = {.closed = true, .remote = true};
	cleanup_close int fd = -1;
	struct statx now;

	if (dir->closed)
		return m;
	if (dir->ident.mnt == stx->stx_mnt_id &&
		(stx->stx_mask & STATX_MNT_ID || dir->ident.dev == ident_dev(stx)))
		return (struct mounted){.remote = dir->remote};
	fd = sys_open_beneath(dirfd, name, O_PATH, 0);
	if (fd >= 0 && sys_statx(fd, "", &now) == 0 && now.stx_mnt_id == stx->stx_mnt_id &&
		ident_dev(&now) == ident_dev(stx))
		look_at_mount(fd, stx, &m);
	return m;
}

/* --- mounts of the host's files --- */

/* The mount a descriptor is of. */
static int mount_of(int fd, uint64_t *ret)
{
	char path[FD_PATH], line[128];
	cleanup_fclose FILE *f = NULL;
	int r = -ENOENT;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "re");
	while (f && r < 0 && fgets(line, sizeof(line), f))
		r = sscanf(line, "mnt_id: %" SCNu64, ret) == 1 ? 0 : r;
	return r;
}

/*
 * The file system behind a line of /proc/self/mountinfo's " - ": this machine's devices for files of the host. All of virtiofs is, whatever
 * it calls itself: the mounts in a share that follow the host's own have no name.
 */
static bool is_of_host(const char *type)
{
	return strncmp(type, "virtiofs ", 9) == 0 || strncmp(type, "9p wslx ", 8) == 0;
}

/* Is the mount one of the host's files? With what can be told of its root. A negative errno: it is not there any more. */
static int mount_is_of_host(uint64_t mnt, struct statx *ret)
{
	cleanup_fclose FILE *f = fopen("/proc/self/mountinfo", "re");
	cleanup_free char *line = NULL;
	size_t cap = 0;

	while (f && getline(&line, &cap, f) > 0) {
		const char *type = strstr(line, " - ");
		unsigned major, minor;
		uint64_t id;

		if (sscanf(line, "%" SCNu64 " %*u %u:%u", &id, &major, &minor) != 3 || id != mnt)
			continue;
		*ret = (struct statx){.stx_mask = STATX_TYPE | STATX_MNT_ID,
			.stx_nlink = 1,
			.stx_blksize = 4096,
			.stx_ino = 1,
			.stx_dev_major = major,
			.stx_dev_minor = minor,
			.stx_mnt_id = mnt};
		return type && is_of_host(type + 3);
	}
	return -ENOENT;
}

/*
 * An O_PATH descriptor of what name is. -EACCES: it is of the host; *ret is what it looks like, without any rights. Neither O_PATH nor
 * O_DIRECTORY makes a file system be asked.
 */
static int open_unasked(int dirfd, const char *name, struct statx *ret)
{
	cleanup_close int fd = sys_open_unmounted(dirfd, name, O_PATH), dir = -1;
	uint64_t mnt;
	int r;

	if (fd != -EXDEV)
		return take_fd(fd);
	fd = sys_open_beneath(dirfd, name, O_PATH, 0);
	r = fd < 0 ? fd : mount_of(fd, &mnt);
	if (r == 0)
		r = mount_is_of_host(mnt, ret);
	if (r == 0)
		return take_fd(fd);
	if (r < 0)
		return r;
	dir = sys_open_beneath(dirfd, name, O_PATH | O_DIRECTORY, 0);
	ret->stx_mode = dir < 0 ? S_IFREG : S_IFDIR;
	return -EACCES;
}

int entry_stat(const struct host *h, const struct fs_node *dir, int dirfd, const char *name,
	struct statx *ret, struct mounted *ret_m)
{
	cleanup_close int fd = -1;
	int r;

	if (!h->in_machine) {
		r = sys_statx(dirfd, name, ret);
		if (r == 0)
			birth_check(dir, ret);
		if (r == 0)
			*ret_m = find_mount(dir, dirfd, name, ret);
		return r;
	}
	ret->stx_mode = 0;
	fd = open_unasked(dirfd, name, ret);
	*ret_m = (struct mounted){.closed = true, .remote = true};
	if (fd == -EACCES && ret->stx_mode)
		return 0;
	r = fd < 0 ? fd : sys_statx(fd, "", ret);
	if (r < 0)
		return r;
	birth_check(dir, ret);
	*ret_m = (struct mounted){.closed = dir->closed, .remote = dir->remote};
	if (!dir->closed && dir->ident.mnt != ret->stx_mnt_id)
		look_at_mount(fd, ret, ret_m);
	return 0;
}

int entry_open(const struct host *h, int dirfd, const char *name, uint64_t flags)
{
	struct statx stx = {0};
	int fd;

	if (!h->in_machine)
		return sys_open_beneath(dirfd, name, flags, 0);
	if (flags & O_PATH)
		fd = open_unasked(dirfd, name, &stx);
	else
		fd = sys_open_unmounted(dirfd, name, flags);
	return fd == -EXDEV || stx.stx_mode ? -ESTALE : fd;
}
