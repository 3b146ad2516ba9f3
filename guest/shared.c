/* SPDX-License-Identifier: MIT */
#include "guest/shared.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "guest/guest.h"
#include "lib/base/cleanup.h"

int shared_set_up(struct err *e)
{
	int r = mount_at(
		"shared", SHARED_TREE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m", e);

	if (r == 0 && mount(NULL, SHARED_TREE, NULL, MS_SHARED, NULL) < 0)
		r = err_sys(e, -errno, "share %s", SHARED_TREE);
	if (r == 0 && mkdir(SHARED_DEVICES, 0755) < 0)
		r = err_sys(e, -errno, "create %s", SHARED_DEVICES);
	return r;
}

int shared_slave(struct err *e)
{
	/* To mounts that are not shared, which are all but the tree, this is the same as private. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return err_sys(e, -errno, "make a mount namespace");
	return 0;
}

int shared_open(void)
{
	long fd = syscall(SYS_open_tree, AT_FDCWD, SHARED_TREE,
		OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

	return fd < 0 ? -errno : (int)fd;
}

int shared_attach(int tree)
{
	cleanup_close int fd = tree;

	/* The root is the distribution's by now: a link that it has there leads nowhere else. */
	if ((mkdir("/mnt", 0755) < 0 && errno != EEXIST) ||
		(mkdir("/mnt/wsl", 0755) < 0 && errno != EEXIST))
		return -errno;
	if (syscall(SYS_move_mount, fd, "", AT_FDCWD, "/mnt/wsl", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -errno;
	/* The names in it are the VM's to give. */
	if (mount(NULL, "/mnt/wsl", NULL,
		    MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return -errno;
	return 0;
}

void shared_devices(int dev)
{
	DIR *d = opendir(SHARED_DEVICES);
	struct stat st;

	for (struct dirent *de; d && (de = readdir(d));)
		if (fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			S_ISBLK(st.st_mode))
			mknodat(dev, de->d_name, S_IFBLK | 0600, st.st_rdev);
	if (d)
		closedir(d);
}
