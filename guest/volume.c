/* SPDX-License-Identifier: MIT */
#include "guest/volume.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "guest/fstype.h"
#include "guest/guest.h"
#include "guest/share.h"
#include "guest/shared.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/log.h"

enum { REMOVE_MS = 5000 };

/* --- nodes of its devices --- */

/* Pid 1 of a namespace one below ours; a container's in a distribution would be two below. */
static bool is_distro_init(const char *pid)
{
	cleanup_free char *status = NULL;
	unsigned outer, inner;
	char path[300], *ns, end;

	snprintf(path, sizeof(path), "/proc/%s/status", pid);
	if (io_read_file(path, 1 << 16, &status, NULL) < 0)
		return false;
	ns = strstr(status, "\nNSpid:");
	return ns && sscanf(ns, " NSpid: %u %u%c", &outer, &inner, &end) == 3 && inner == 1 &&
	       end == '\n';
}

/* Calls fn with the /dev of every distribution that runs: an open folder. */
static void each_dev(void (*fn)(int dev, const char *node), const char *node)
{
	DIR *d = opendir("/proc");

	for (struct dirent *de; d && (de = readdir(d));) {
		cleanup_close int root = -EBADF, dev = -EBADF;
		char path[300];

		if (!isdigit((unsigned char)de->d_name[0]) || !is_distro_init(de->d_name))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/root", de->d_name);
		root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (root >= 0)
			dev = openat(root, "dev", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (dev >= 0)
			fn(dev, node);
	}
	if (d)
		closedir(d);
}

static void add_nodes(int dev, const char *unused)
{
	shared_devices(dev);
}

static void remove_node(int dev, const char *node)
{
	struct stat st;

	if (fstatat(dev, node, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISBLK(st.st_mode))
		unlinkat(dev, node, 0);
}

/* The disk's own, and its partitions': all names in /dev that begin with it. fn gets each. */
static void each_node(const char *in, const char *disk, void (*fn)(const char *node))
{
	size_t n = strlen(disk);
	DIR *d = opendir(in);

	for (struct dirent *de; d && (de = readdir(d));)
		if (!strncmp(de->d_name, disk, n) &&
			strspn(de->d_name + n, "0123456789") == strlen(de->d_name + n))
			fn(de->d_name);
	if (d)
		closedir(d);
}

static void show_node(const char *node)
{
	char from[300], to[300];
	struct stat st;

	snprintf(from, sizeof(from), "/dev/%s", node);
	snprintf(to, sizeof(to), SHARED_DEVICES "/%s", node);
	if (stat(from, &st) == 0 && mknod(to, S_IFBLK | 0600, st.st_rdev) < 0 && errno != EEXIST)
		log_warn("volume", "%s: %s", to, strerror(errno));
}

static void hide_node(const char *node)
{
	char path[300];

	snprintf(path, sizeof(path), SHARED_DEVICES "/%s", node);
	unlink(path);
	each_dev(remove_node, node);
}

/* --- mounting --- */

static int probe(const char *dev, struct fstype *ret)
{
	cleanup_free uint8_t *buf = malloc(FSTYPE_BYTES);
	cleanup_close int fd = open(dev, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (!buf || fd < 0)
		return fd < 0 ? -errno : -ENOMEM;
	len = io_pread(fd, buf, FSTYPE_BYTES, 0);
	if (len < 0)
		return (int)len;
	fstype_probe(buf, (size_t)len, ret);
	return 0;
}

/* "1, 2": the partitions the kernel has found. */
static void list_partitions(const char *disk, char *buf, size_t cap)
{
	char path[300];

	buf[0] = '\0';
	for (unsigned i = 1; i <= 16; i++) {
		size_t len = strlen(buf);

		snprintf(path, sizeof(path), "/sys/class/block/%s/%s%u", disk, disk, i);
		if (access(path, F_OK) == 0)
			snprintf(buf + len, cap - len, "%s%u", len ? ", " : "", i);
	}
}

/* What is to be mounted: "sdb", "sdb1". */
static int choose(
	const char *disk, const struct volume_spec *v, char *ret, size_t cap, struct err *e)
{
	char path[300], have[100];

	snprintf(ret, cap, "%s", disk);
	if (!v->partition)
		return 0;
	snprintf(ret, cap, "%s%u", disk, v->partition);
	snprintf(path, sizeof(path), "/sys/class/block/%s/%s", disk, ret);
	if (access(path, F_OK) == 0)
		return 0;
	list_partitions(disk, have, sizeof(have));
	return have[0] ? err_set(e, -ENXIO, "the disk has no partition %u; it has %s", v->partition,
				 have)
		       : err_set(e, -ENXIO, "the disk has no partitions that are known");
}

static int find_type(const char *dev, const char *disk, struct volume_spec *v, struct err *e)
{
	struct fstype t;
	char have[100];
	int r = probe(dev, &t);

	if (r < 0)
		return err_sys(e, r, "read %s", dev);
	if (t.type) {
		snprintf(v->fstype, sizeof(v->fstype), "%s", t.type);
		return 0;
	}
	if (t.what)
		return err_set(e, -EINVAL, "it holds %s, no file system", t.what);
	list_partitions(disk, have, sizeof(have));
	if (!v->partition && have[0])
		return err_set(e, -EINVAL,
			"the disk has partitions (%s); choose one with --partition", have);
	return err_set(
		e, -EINVAL, "no file system that is known was found; --type says which one it is");
}

static int make_place(const char *name, char *at, size_t cap, struct err *e)
{
	snprintf(at, cap, SHARED_TREE "/%s", name);
	if (mkdir(at, 0755) == 0)
		return 0;
	return errno == EEXIST ? err_set(e, -EEXIST, "something is mounted as %s already", name)
			       : err_sys(e, -errno, "create %s", at);
}

static int mount_folder(const struct volume_spec *v, struct err *e)
{
	char data[sizeof(v->options)], at[100];
	unsigned long flags;
	int r = volume_options(v->options, &flags, data, sizeof(data));

	if (r < 0)
		return err_sys(e, r, "mount options");
	r = make_place(v->name, at, sizeof(at), e);
	if (r < 0)
		return r;
	r = share_mount_in_vm(v->folder, data, flags, at, e);
	if (r < 0)
		rmdir(at);
	return r;
}

static int mount_file_system(const char *dev, const struct volume_spec *v, struct err *e)
{
	char data[sizeof(v->options) + 32], at[100];
	unsigned long flags;
	int r = volume_options(v->options, &flags, data, sizeof(v->options));

	if (r < 0)
		return err_sys(e, r, "mount options");
	/* The disk may say that errors are to end the whole machine. */
	if (!strncmp(v->fstype, "ext", 3) && !strstr(data, "errors="))
		strcat(data, data[0] ? ",errors=remount-ro" : "errors=remount-ro");
	r = make_place(v->name, at, sizeof(at), e);
	if (r < 0)
		return r;
	if (mount(dev, at, v->fstype, flags, data) == 0)
		return 0;
	r = -errno;
	rmdir(at);
	if (r == -ENODEV)
		return err_set(e, r, "this kernel has no file system \"%s\"", v->fstype);
	if (r == -EROFS || r == -EACCES)
		return err_sys(e, r, "mount %s (%s); '--options ro' may do", dev, v->fstype);
	return err_sys(e, r, "mount %s (%s)", dev, v->fstype);
}

int volume_mount(const struct wire_msg *m, struct wire_w *w, struct err *e)
{
	char dev[64], name[64], path[80];
	struct volume_spec v;
	const char *disk;
	int r = volume_spec_parse(m, &v, e);

	if (r == 0 && v.is_folder)
		return mount_folder(&v, e);
	if (r == 0)
		r = disk_wait(v.lun, v.timeout_ms, dev, sizeof(dev), e);
	if (r < 0)
		return r;
	disk = dev + strlen("/dev/");
	if (!v.name[0]) {
		each_node("/dev", disk, show_node);
		each_dev(add_nodes, NULL);
		wire_str(w, WSLX_A_DEVICE, disk);
		return 0;
	}
	r = choose(disk, &v, name, sizeof(name), e);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/dev/%s", name);
	if (!v.fstype[0])
		r = find_type(path, disk, &v, e);
	if (r == 0)
		r = mount_file_system(path, &v, e);
	wire_str(w, WSLX_A_DEVICE, name);
	wire_str(w, WSLX_A_FSTYPE, v.fstype);
	return r;
}

/* --- and back --- */

/* Other mounts of the host's files may have the same device number: their users are no users of this one. */
static bool is_folder(const char *at)
{
	struct statfs f;

	return statfs(at, &f) == 0 && (f.f_type == FUSE_SUPER_MAGIC || f.f_type == V9FS_MAGIC);
}

/* 0 when nothing is mounted there any more. */
static int unmount(const char *name, volume_owner_fn owner, struct err *e)
{
	struct stat st = {0}, above;
	char at[100], who[400];
	int r;

	snprintf(at, sizeof(at), SHARED_TREE "/%s", name);
	if (stat(at, &st) < 0 && errno == ENOENT)
		return 0;
	if (umount2(at, UMOUNT_NOFOLLOW) < 0 && errno != EINVAL) {
		r = -errno;
		who[0] = '\0';
		if (r == -EBUSY && st.st_dev && stat(SHARED_TREE, &above) == 0 &&
			above.st_dev != st.st_dev && !is_folder(at))
			volume_users(st.st_dev, owner, who, sizeof(who));
		if (who[0])
			return err_set(e, r, "%s is in use: %s", name, who);
		return err_sys(e, r, "unmount %s", name);
	}
	rmdir(at);
	return 0;
}

int volume_unmount(const struct wire_msg *m, volume_owner_fn owner, struct wire_w *w, struct err *e)
{
	uint32_t lun = wire_get_u32(m, WSLX_A_LUN, UINT32_MAX);
	struct wire_attr a;
	char dev[64], name[65];
	int r;

	for (size_t pos = 0; wire_next(m, &pos, &a);) {
		if (a.tag != WSLX_A_NAME || a.len >= sizeof(name))
			continue;
		memcpy(name, a.data, a.len);
		name[a.len] = '\0';
		r = volume_name_ok(name) ? unmount(name, owner, e) : 0;
		if (r < 0)
			return r;
	}
	/* A folder has no disk; one that is not there any more has gone already. */
	if (lun == UINT32_MAX || disk_wait(lun, 0, dev, sizeof(dev), NULL) < 0)
		return 0;
	r = disk_remove(lun, dev, REMOVE_MS);
	if (r == -EBUSY)
		return err_set(e, r,
			"the disk is in use yet: a distribution has mounted it itself, or a container "
			"or service keeps the mount");
	if (r < 0)
		return err_sys(e, r, "remove %s", dev);
	each_node(SHARED_DEVICES, dev + strlen("/dev/"), hide_node);
	return 0;
}

void volume_unmount_all(void)
{
	DIR *d = opendir(SHARED_TREE);
	char at[300];

	for (struct dirent *de; d && (de = readdir(d));) {
		if (de->d_name[0] == '.')
			continue;
		snprintf(at, sizeof(at), SHARED_TREE "/%s", de->d_name);
		if (umount2(at, UMOUNT_NOFOLLOW) < 0 && errno != EINVAL)
			log_warn("volume", "unmount %s: %s", de->d_name, strerror(errno));
	}
	if (d)
		closedir(d);
}
