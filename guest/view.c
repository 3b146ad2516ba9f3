/* SPDX-License-Identifier: MIT */
/* What a distribution sees of the system: its disk as root, and proc, sys, dev, run and cgroup of its own. */
#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "guest/share.h"
#include "guest/shared.h"
#include "lib/base/cleanup.h"
#include "lib/base/log.h"

/*
 * /dev is a small file system of its own with the devices every program expects; the VM's other devices, its
 * neighbours' disks among them, have no name in it.
 */
static int make_dev(const char *root, struct err *e)
{
	static const struct {
		const char *name;
		unsigned maj, min;
		mode_t mode;
	} nodes[] = {{"null", 1, 3, 0666}, {"zero", 1, 5, 0666}, {"full", 1, 7, 0666},
		{"random", 1, 8, 0666}, {"urandom", 1, 9, 0666}, {"tty", 5, 0, 0666},
		{"kmsg", 1, 11, 0644}, {"fuse", 10, 229, 0666}, {"net/tun", 10, 200, 0666}};
	static const char *const links[][2] = {{"pts/ptmx", "ptmx"}, {"/proc/self/fd", "fd"},
		{"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
		{"/proc/self/fd/2", "stderr"}, {"/proc/kcore", "core"}};
	char path[256];
	int r;

	snprintf(path, sizeof(path), "%s/dev", root);
	r = mount_at("dev", path, "tmpfs", MS_NOSUID, "mode=755,size=1m", e);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/dev/net", root);
	mkdir(path, 0755);
	for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
		snprintf(path, sizeof(path), "%s/dev/%s", root, nodes[i].name);
		if (mknod(path, S_IFCHR | nodes[i].mode, makedev(nodes[i].maj, nodes[i].min)) < 0)
			return err_sys(e, -errno, "create %s", path);
	}
	for (size_t i = 0; i < ARRAY_LEN(links); i++) {
		snprintf(path, sizeof(path), "%s/dev/%s", root, links[i][1]);
		if (symlink(links[i][0], path) < 0)
			return err_sys(e, -errno, "create %s", path);
	}
	snprintf(path, sizeof(path), "%s/dev", root);
	cleanup_close int dev = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dev >= 0)
		shared_devices(dev);
	snprintf(path, sizeof(path), "%s/dev/pts", root);
	r = mount_at("devpts", path, "devpts", MS_NOSUID | MS_NOEXEC,
		"newinstance,gid=5,mode=620,ptmxmode=666", e);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/dev/shm", root);
	r = mount_at("shm", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777", e);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/dev/mqueue", root);
	if (mount_at("mqueue", path, "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, NULL) < 0)
		rmdir(path); /* a kernel without POSIX queues */
	return 0;
}

/* What every program counts on; a tree made for containers may lack it. Nothing here matters enough to fail. */
static void make_dirs(void)
{
	static const struct {
		const char *path;
		mode_t mode;
	} dirs[] = {{"/tmp", 01777}, {"/var", 0755}, {"/var/tmp", 01777}, {"/run/wslx", 0755},
		{"/run/lock", 01777}, {"/run/user", 0755}};

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		if (mkdir(dirs[i].path, dirs[i].mode) == 0)
			chmod(dirs[i].path, dirs[i].mode);
}

int view_make(const char *root, struct err *e)
{
	static const struct {
		const char *type, *at, *data;
		unsigned long flags;
	} m[] = {{"proc", "proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"sysfs", "sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"cgroup2", "sys/fs/cgroup", "nsdelegate", MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"tmpfs", "run", "mode=755", MS_NOSUID | MS_NODEV}};
	char path[128];
	int r = shared_slave(e), tree, files;

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_LEN(m); i++) {
		snprintf(path, sizeof(path), "%s/%s", root, m[i].at);
		r = mount_at(m[i].type, path, m[i].type, m[i].flags, m[i].data, e);
		if (r < 0)
			return r;
	}
	r = make_dev(root, e);
	if (r < 0)
		return r;
	tree = shared_open();
	files = share_open();
	/* pivot_root(".", "."): the old root ends up under the new one, from where it is detached (pivot_root(2)). */
	if (chdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
		umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return err_sys(e, -errno, "change to the distribution's root");
	make_dirs();
	share_attach(files);
	r = tree < 0 ? tree : shared_attach(tree);
	if (r < 0)
		log_warn("init", "/mnt/wsl: %s", strerror(-r));
	return 0;
}

int view_protect_sys(struct err *e)
{
	if (mount(NULL, "/sys", NULL,
		    MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return err_sys(e, -errno, "make /sys read-only");
	return 0;
}
