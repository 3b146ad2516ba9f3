/* SPDX-License-Identifier: MIT */
/* The host back end by itself: what it does not share, and what it says of files (attributes, modes, groups). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include "lib/fs/test-host.h"

TEST(the_kernels_own_file_systems_are_shown_and_not_entered)
{
	struct fs_entry m, d;
	struct fs_handle *hd;
	struct fs_attr a = {.mode = 0777};
	const char *const types[] = {"proc", "sysfs", "devpts"};
	char path[96], buf[64];

	set_up(NULL);
	mkdirat(in, "m", 0755);
	put(in, "f", "text");
	snprintf(path, sizeof(path), "%s/share/m", top);
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		/* a node that is known from before the mount is what is below it */
		REQUIRE(lookup(fs->ops->root(fs), "m", &d) == 0);
		if (mount(types[i], path, types[i], MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) {
			printf("# root is needed\n");
			break;
		}
		CHECK_EQ(lookup(fs->ops->root(fs), "m", &m), 0);
		CHECK(m.node != d.node);
		CHECK(S_ISDIR(m.attr.mode));
		CHECK_EQ(m.attr.flags, 0);
		CHECK_EQ(fs->ops->getattr(fs, &cred, m.node, NULL, &a), 0);
		CHECK_EQ(lookup(m.node, "self", &d), -EACCES);
		CHECK_EQ(lookup(m.node, "kernel", &d), -EACCES);
		CHECK_EQ(fs->ops->opendir(fs, &cred, m.node, &hd), -EACCES);
		CHECK_EQ(fs->ops->mkdir(fs, &cred, m.node, "x", 0755, &d), -EACCES);
		CHECK_EQ(fs->ops->setattr(fs, &cred, m.node, NULL, FS_SET_MODE, &a, NULL), -EACCES);
		CHECK_EQ(fs->ops->getxattr(fs, m.node, "user.x", buf, sizeof(buf)), -EACCES);
		CHECK_EQ(fs->ops->getxattr(fs, m.node, "system.posix_acl_access", NULL, 0),
			-ENODATA);
		CHECK_EQ(umount(path), 0);
	}
	/* a file of it that is mounted on a file */
	snprintf(path, sizeof(path), "%s/share/f", top);
	if (mount("/proc/self/comm", path, NULL, MS_BIND, NULL) == 0) {
		CHECK_EQ(lookup(fs->ops->root(fs), "f", &m), 0);
		CHECK_EQ(fs->ops->open(fs, &cred, m.node, O_RDWR, &hd), -EACCES);
		CHECK_EQ(fs->ops->create(fs, &cred, fs->ops->root(fs), "f", 0600, O_RDWR, &d, &hd) <
				 0,
			true);
		CHECK_EQ(umount(path), 0);
	}
	tear_down();
}

TEST(the_kernels_own_file_systems_are_not_shared)
{
	int fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct fs *other;
	struct err e = {0};

	CHECK_EQ(fs_host_new(&other, fd, NULL, &e), -EACCES);
	CHECK(strstr(e.text, "the kernel's own"));
	close(fd);
}

TEST(a_list_of_attributes_names_one_that_cannot_be_read)
{
	struct fs_entry e;
	char list[256], path[96];

	set_up(NULL);
	put(in, "f", "text");
	snprintf(path, sizeof(path), "%s/share/f", top);
	REQUIRE(setxattr(path, "user.wslx.meta", "0 0 100644 0", 12, 0) == 0);
	REQUIRE(setxattr(path, "user.other", "1", 1, 0) == 0);
	REQUIRE(lookup(fs->ops->root(fs), "f", &e) == 0);
	const ssize_t n = fs->ops->listxattr(fs, e.node, list, sizeof(list));
	REQUIRE(n > 0);
	for (ssize_t at = 0; at < n; at += (ssize_t)strlen(list + at) + 1)
		CHECK(fs->ops->getxattr(fs, e.node, list + at, path, sizeof(path)) >= 0);
	tear_down();
}

/* As an ordinary user, in a process of its own, on a share of that user's. 0: all is well. */
static int unprivileged(const struct fs_share_opts *o, bool (*test)(void))
{
	enum { USER = 65534 };
	int status = -1;

	set_up(o);
	pid_t pid = fork();
	if (pid == 0) {
		/* the bits that a privileged server has set keep capabilities */
		if (geteuid() == 0 &&
			(fchown(in, USER, USER) < 0 || prctl(PR_SET_SECUREBITS, 0) < 0 ||
				setgroups(0, NULL) < 0 || setgid(USER) < 0 || setuid(USER) < 0))
			_exit(2);
		prctl(PR_SET_DUMPABLE, 1);
		if (fs_host_new(&fs, in, o, NULL) < 0)
			_exit(3);
		_exit(!test());
	}
	waitpid(pid, &status, 0);
	tear_down();
	return status;
}

static bool has_mode(const char *name, uint32_t shown, mode_t real)
{
	struct fs_entry e;
	struct stat st;

	if (lookup(fs->ops->root(fs), name, &e) != 0 || fstatat(in, name, &st, 0) != 0)
		return false;
	if ((e.attr.mode & 07777) == shown && (st.st_mode & 07777) == real)
		return true;
	printf("# %s: %o, %o\n", name, e.attr.mode, st.st_mode);
	return false;
}

static bool make_read_only(void)
{
	const struct fs_cred root = {.umask = 0222};
	struct fs_attr a = {.mode = 0440, .uid = 5, .gid = 6};
	char text[] = "text";
	struct iovec iov = {text, 4};
	struct fs_handle *h;
	struct fs_entry e;
	bool ok;

	struct fs_node *top_dir = fs->ops->root(fs);
	/* as git writes its objects */
	ok = fs->ops->create(fs, &cred, top_dir, "f", 0444, O_RDWR | O_EXCL, &e, &h) == 0 &&
	     fs->ops->write(fs, h, &iov, 1, 0, 0) == 4;
	if (ok)
		fs->ops->close(fs, h);
	ok = ok && has_mode("f", 0444, 0644) &&
	     fs->ops->mkdir(fs, &cred, top_dir, "d", 0555, &e) == 0 && has_mode("d", 0555, 0755) &&
	     fs->ops->mkdir(fs, &root, top_dir, "m", 0777, &e) == 0 && has_mode("m", 0555, 0555);
	ok = ok && fs->ops->tmpfile(fs, &cred, top_dir, 0400, O_RDWR, &e, &h) == 0;
	if (ok)
		fs->ops->close(fs, h);
	/* one that the host made, and that stays what it is there */
	put(in, "g", "text");
	ok = ok && fchmodat(in, "g", 0404, 0) == 0 && lookup(top_dir, "g", &e) == 0 &&
	     fs->ops->setattr(fs, &cred, e.node, NULL, FS_SET_UID | FS_SET_GID, &a, &a) == 0 &&
	     a.uid == 5 && has_mode("g", 0404, 0404);
	a.mode = 0440;
	ok = ok && fs->ops->setattr(fs, &cred, e.node, NULL, FS_SET_MODE, &a, NULL) == 0 &&
	     has_mode("g", 0440, 0640);
	return ok;
}

TEST(with_metadata_what_is_made_read_only_fails_and_stays_behind)
{
	const struct fs_share_opts o = {.metadata = true};

	CHECK_EQ(unprivileged(&o, make_read_only), 0);
}

/* A file system without times of birth that gives numbers again makes it look so: here the node is told. */
static void forge(struct host *h, struct fs_node *n, const char *name)
{
	struct statx stx;

	REQUIRE(sys_statx(in, name, &stx) == 0);
	pthread_mutex_lock(&h->lock);
	ident_remove(h, n);
	n->ident = (struct ident){.dev = ident_dev(&stx),
		.ino = stx.stx_ino,
		.mnt = stx.stx_mnt_id,
		.btime = stx.stx_mask & STATX_BTIME ? stx.stx_btime.tv_sec : 0,
		.btime_ns = stx.stx_mask & STATX_BTIME ? stx.stx_btime.tv_nsec : 0};
	pthread_mutex_unlock(&h->lock);
}

TEST(a_device_that_gets_a_files_number_is_opened_as_that_file)
{
	static const struct fs_share_opts opts[] = {{0}, {.metadata = true}};
	static const mode_t kinds[] = {S_IFIFO, S_IFCHR};

	for (size_t i = 0; i < ARRAY_LEN(opts) * ARRAY_LEN(kinds); i++) {
		const struct fs_attr a = {0};
		struct fs_entry e, again;
		struct fs_handle *hd = NULL;
		struct fs_attr now;

		set_up(&opts[i / 2]);
		put(in, "f", "text");
		REQUIRE(lookup(fs->ops->root(fs), "f", &e) == 0);
		unlinkat(in, "f", 0);
		if (mknodat(in, "f", kinds[i % 2] | 0600, makedev(1, 3)) == 0) {
			forge(to_host(fs), e.node, "f");
			CHECK_EQ(fs->ops->open(fs, &cred, e.node, O_RDWR, &hd), -ESTALE);
			CHECK_EQ(fs->ops->open(fs, &cred, e.node, O_RDONLY, &hd), -ESTALE);
			CHECK_EQ(fs->ops->setattr(fs, &cred, e.node, NULL, FS_SET_SIZE, &a, NULL),
				-ESTALE);
			CHECK_EQ(fs->ops->getattr(fs, &cred, e.node, NULL, &now), -ESTALE);
			CHECK_EQ(lookup(fs->ops->root(fs), "f", &again), 0);
			CHECK(again.node != e.node);
			CHECK_EQ(again.attr.mode & S_IFMT, kinds[i % 2]);
			CHECK_EQ(fs->ops->open(fs, &cred, again.node, O_RDWR, &hd), -EACCES);
		} else {
			printf("# root is needed\n");
		}
		tear_down();
	}
}

/* Of what stands for a device in a share with metadata, too: a file that is one only by its attribute. */
TEST(with_metadata_a_device_is_taken_for_another_file)
{
	const struct fs_share_opts o = {.metadata = true};
	struct fs_entry e;
	struct fs_attr a = {.mode = 0600};

	set_up(&o);
	REQUIRE(fs->ops->mknod(
			fs, &cred, fs->ops->root(fs), "n", S_IFCHR | 0644, makedev(1, 3), &e) == 0);
	CHECK(S_ISCHR(e.attr.mode));
	fs_host_let_go(fs);
	CHECK_EQ(fs->ops->setattr(fs, &cred, e.node, NULL, FS_SET_MODE, &a, &a), 0);
	CHECK(S_ISCHR(a.mode));
	tear_down();
}

TEST(a_set_uid_bit_survives_that_a_file_is_copied_over)
{
	static const struct fs_share_opts opts[] = {{.metadata = true}, {0}};

	for (size_t i = 0; i < ARRAY_LEN(opts); i++) {
		struct fs_handle *from, *to;
		struct fs_entry f, g;
		struct fs_attr a;
		char path[96];

		set_up(&opts[i]);
		put(in, "f", "text");
		put(in, "g", "");
		CHECK_EQ(fchmodat(in, "g", i ? 06755 : 0755, 0), 0);
		snprintf(path, sizeof(path), "%s/share/g", top);
		if (opts[i].metadata)
			REQUIRE(setxattr(path, "user.wslx.meta", "0 0 106755 0", 12, 0) == 0);
		REQUIRE(lookup(fs->ops->root(fs), "f", &f) == 0);
		REQUIRE(lookup(fs->ops->root(fs), "g", &g) == 0);
		CHECK_EQ(g.attr.mode & 07777, 06755);
		REQUIRE(fs->ops->open(fs, &cred, f.node, O_RDONLY, &from) == 0);
		REQUIRE(fs->ops->open(fs, &cred, g.node, O_RDONLY, &to) == 0);
		/* whoever may not write changes nothing */
		CHECK_EQ(fs->ops->copy_range(fs, from, 0, to, 0, 4), -EBADF);
		CHECK_EQ(fs->ops->getattr(fs, &cred, g.node, NULL, &a), 0);
		CHECK_EQ(a.mode & 07777, 06755);
		fs->ops->close(fs, to);
		REQUIRE(fs->ops->open(fs, &cred, g.node, O_WRONLY, &to) == 0);
		CHECK_EQ(fs->ops->copy_range(fs, from, 0, to, 0, 4), 4);
		CHECK_EQ(fs->ops->getattr(fs, &cred, g.node, NULL, &a), 0);
		CHECK_EQ(a.mode & 07777, 0755);
		fs->ops->close(fs, from);
		fs->ops->close(fs, to);
		tear_down();
	}
}

TEST_MAIN()
