/* SPDX-License-Identifier: MIT */
#include "guest/share.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "guest/guest.h"
#include "guest/tools.h"
#include "guest/watch.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/log.h"

#define TAG	"wslx"		   /* of the device */
#define VM_BASE "/run/hostfs"	   /* where it is mounted in the VM */
#define BASE	"/run/wslx/hostfs" /* and in a distribution */

enum { TRIES = 100 };

/* Those of drvfs that mean nothing here are left out; the server knows the others. */
static void add_options(char *buf, size_t cap, const char *options)
{
	static const char *const nothing[] = {"case=", "symlinkroot=", "defaults", "noauto", "auto",
		"user", "nofail", "_netdev", "x-"};

	while (*options) {
		size_t n = strcspn(options, ","), len = strlen(buf);
		bool skip = n == 0;

		for (size_t i = 0; i < ARRAY_LEN(nothing); i++) {
			size_t k = strlen(nothing[i]);
			bool prefix = nothing[i][k - 1] == '=' || nothing[i][k - 1] == '-';

			skip |= n >= k && (prefix || n == k) && !strncmp(options, nothing[i], k);
		}
		if (!skip)
			snprintf(buf + len, cap - len, "%s%.*s", len ? "," : "", (int)n, options);
		options += n + (options[n] == ',');
	}
}

/* Which of the two kinds of devices is there? */
static bool is_9p(void)
{
	DIR *d = opendir("/sys/bus/virtio/drivers/9pnet_virtio");
	bool found = false;

	for (struct dirent *de; d && (de = readdir(d));)
		found |= strncmp(de->d_name, "virtio", 6) == 0;
	if (d)
		closedir(d);
	return found;
}

/* By 9P every user has an attach of his own, and rights are checked here; mmap(2) needs cached pages. */
#define OPTIONS_9P "trans=virtio,version=9p2000.L,msize=512000,access=client,cache=mmap,posixacl"

int share_set_up(struct err *e)
{
	static bool mounted;
	bool p9 = is_9p();
	int r = 0;

	if (!mounted)
		r = mount_at(TAG, VM_BASE, p9 ? "9p" : "virtiofs", MS_NOSUID | MS_NODEV,
			p9 ? OPTIONS_9P : NULL, e);
	/* 9P has no way to tell of changes */
	if (r == 0 && !mounted && !p9 && watch_start(VM_BASE) < 0)
		log_warn("init", "no process to watch files of the host with");
	mounted = r == 0;
	return r;
}

int share_open(void)
{
	int fd;

	/* what is under the mount point is a file system of another kind */
	if (access(VM_BASE, F_OK) < 0)
		return -errno;
	fd = (int)syscall(SYS_open_tree, AT_FDCWD, VM_BASE, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

void share_attach(int tree)
{
	if (tree < 0)
		return;
	if (mkdir(BASE, 0700) < 0 ||
		syscall(SYS_move_mount, tree, "", AT_FDCWD, BASE, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		log_warn("init", "%s: %s", BASE, strerror(errno));
	close(tree);
}

/*
 * What is at path below the folder. Links on the way are the host's, and mean its files: not this machine's, where they could lead to
 * what nobody but init is to see.
 */
static int open_beneath(const char *folder, const char *path)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC | O_DIRECTORY,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	cleanup_close int at = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = -1;

	if (at < 0)
		return -errno;
	for (unsigned i = 0; fd < 0 && i < TRIES; i++) {
		fd = (int)syscall(SYS_openat2, at, path[0] ? path : ".", &how, sizeof(how));
		/* a folder that the host has mounted is mounted here when it is asked for as one */
		if (fd < 0 && errno == ENOTDIR && how.flags & O_DIRECTORY)
			how.flags &= ~(uint64_t)O_DIRECTORY;
		/* somebody mounted or renamed something, anywhere, while it was on its way up */
		else if (fd < 0 && errno != EAGAIN)
			break;
	}
	return fd < 0 ? -errno : fd;
}

/* A mount of its own of what is at path, in a view with these options; base: where the device is mounted. A descriptor. */
static int clone_folder(
	const char *base, const char *share, const char *path, const char *options, struct err *e)
{
	char opts[512] = "", from[5000];
	cleanup_close int fd = -EBADF;
	int tree;

	add_options(opts, sizeof(opts), options);
	if (strlen(share) + strlen(opts) > 250)
		return err_set(e, -ENAMETOOLONG, "the options are too long");
	snprintf(from, sizeof(from), "%s/%s%s%s", base, share, opts[0] ? ":" : "", opts);
	/* Of what is mounted there on the way, the host's own mounts, each appears when it is looked at. */
	fd = open_beneath(from, path);
	tree = fd < 0 ? fd
		      : (int)syscall(SYS_open_tree, fd, "",
				OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (tree >= 0)
		return tree;
	if (fd >= 0)
		tree = -errno;
	if (access(base, F_OK) < 0)
		return err_set(e, -ENODEV,
			"files of the host are not shared with this virtual machine (hostFileSystemAccess in wslx.conf)");
	if (tree == -ENOENT && access(from, F_OK) < 0)
		return err_set(
			e, -EINVAL, "there is no share \"%s\" with options \"%s\"", share, opts);
	return err_sys(e, tree, "/%s of the host", path);
}

static int attach(int tree, const char *target, struct err *e)
{
	if (syscall(SYS_move_mount, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys(e, -errno, "mount at %s", target);
	return 0;
}

int share_mount(
	const char *share, const char *path, const char *options, const char *target, struct err *e)
{
	cleanup_close int tree = clone_folder(BASE, share, path, options, e);

	return tree < 0 ? tree : attach(tree, target, e);
}

int share_mount_in_vm(const char *path, const char *options, unsigned long flags,
	const char *target, struct err *e)
{
	static const struct {
		unsigned long flag;
		uint64_t attr;
	} known[] = {{MS_RDONLY, MOUNT_ATTR_RDONLY}, {MS_NOSUID, MOUNT_ATTR_NOSUID},
		{MS_NODEV, MOUNT_ATTR_NODEV}, {MS_NOEXEC, MOUNT_ATTR_NOEXEC},
		{MS_NODIRATIME, MOUNT_ATTR_NODIRATIME}};
	struct mount_attr a = {0};
	cleanup_close int tree = clone_folder(VM_BASE, SHARE_DEFAULT, path, options, e);

	if (tree < 0)
		return tree;
	/* The copy has the flags of the VM's own mount. */
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		*(flags & known[i].flag ? &a.attr_set : &a.attr_clr) |= known[i].attr;
	if (flags & (MS_NOATIME | MS_STRICTATIME)) {
		a.attr_clr |= MOUNT_ATTR__ATIME;
		a.attr_set |= flags & MS_NOATIME ? MOUNT_ATTR_NOATIME : MOUNT_ATTR_STRICTATIME;
	}
	if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &a, sizeof(a)) < 0)
		return err_sys(e, -errno, "mount options");
	return attach(tree, target, e);
}

/* mount(8) looks for helpers there and nowhere else; a distribution whose disk is read-only goes without. */
void share_link_helper(void)
{
	(void)!symlink(TOOLS_DIR "/mount.drvfs", "/sbin/mount.drvfs");
}

void share_automount(const struct wsl_conf *conf, uint32_t uid, struct warnings *w)
{
	const char *root = conf->automount_root && conf->automount_root[0] == '/'
				   ? conf->automount_root
				   : "/mnt";
	const struct passwd *pw = conf->user ? getpwnam(conf->user) : NULL;
	char target[4096], options[512];
	struct err e = {0};
	int r;

	if (!conf->automount)
		return;
	if (!pw)
		pw = getpwuid(uid);
	snprintf(options, sizeof(options), "%s%suser=%u:%u",
		conf->automount_options ? conf->automount_options : "",
		conf->automount_options ? "," : "", pw ? pw->pw_uid : uid, pw ? pw->pw_gid : uid);
	snprintf(target, sizeof(target), "%s/%s", root, SHARE_DEFAULT);
	r = io_mkdir_p(target, 0755);
	if (r < 0)
		err_sys(&e, r, "make %s", target);
	else
		r = share_mount(SHARE_DEFAULT, "", options, target, &e);
	if (r < 0)
		warn_add(w, "/etc/wsl.conf: automount: %s", e.text);
}
