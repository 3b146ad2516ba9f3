/* SPDX-License-Identifier: MIT */
/*
 * Mounts that are shown and not entered: file systems that are no files but the host's kernel itself, or the server's own process
 * (/proc/self/mem), where reading tells and writing does what no file of a user's could.
 */
#include <linux/magic.h>
#include <sys/vfs.h>
#include "lib/fs/host-internal.h"

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

/* What cannot be looked at, or is another file by now, counts as closed: it is looked up again. */
bool entry_is_closed(
	const struct fs_node *dir, int dirfd, const char *name, const struct statx *stx)
{
	cleanup_close int fd = -1;
	struct statx now;

	if (dir->closed)
		return true;
	if (dir->ident.mnt == stx->stx_mnt_id &&
		(stx->stx_mask & STATX_MNT_ID || dir->ident.dev == ident_dev(stx)))
		return false;
	fd = sys_open_beneath(dirfd, name, O_PATH, 0);
	return fd < 0 || sys_statx(fd, "", &now) < 0 || now.stx_mnt_id != stx->stx_mnt_id ||
	       ident_dev(&now) != ident_dev(stx) || fs_is_closed(fd);
}
