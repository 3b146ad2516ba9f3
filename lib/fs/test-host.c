/* SPDX-License-Identifier: MIT */
/* The host back end by itself: what a peer cannot reach, what it keeps, what happens when the host changes things. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include "lib/fs/test-host.h"

/* fstatfs(3), by the name that it has where files may be large. */
#ifdef __GLIBC__
#define REAL_FSTATFS __real_fstatfs64
#define WRAP_FSTATFS __wrap_fstatfs64
#else
#define REAL_FSTATFS __real_fstatfs
#define WRAP_FSTATFS __wrap_fstatfs
#endif
static bool all_is_nfs;

int REAL_FSTATFS(int fd, struct statfs *ret);
int WRAP_FSTATFS(int fd, struct statfs *ret);

int WRAP_FSTATFS(int fd, struct statfs *ret)
{
	int r = REAL_FSTATFS(fd, ret);

	if (all_is_nfs)
		ret->f_type = 0x6969;
	return r;
}

TEST(names_that_are_not_one_component_are_refused)
{
	static const char *const names[] = {
		"", ".", "..", "a/b", "/", "/etc/passwd", "../canary", "a/"};
	struct fs_entry e;
	char longest[257];

	set_up(NULL);
	struct fs_node *root = fs->ops->root(fs);
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		CHECK_EQ(lookup(root, names[i], &e), -EINVAL);
		CHECK_EQ(fs->ops->mkdir(fs, &cred, root, names[i], 0700, &e), -EINVAL);
		CHECK_EQ(fs->ops->unlink(fs, &cred, root, names[i]), -EINVAL);
		CHECK_EQ(fs->ops->symlink(fs, &cred, root, names[i], "x", &e), -EINVAL);
		CHECK_EQ(fs->ops->rename(fs, &cred, root, names[i], root, "x", 0), -EINVAL);
	}
	memset(longest, 'x', 256);
	longest[256] = '\0';
	CHECK_EQ(lookup(root, longest, &e), -ENAMETOOLONG);
	tear_down();
}

TEST(links_lead_nowhere)
{
	struct fs_entry up, abs, dir, e;
	struct fs_handle *h;
	char text[16];

	set_up(NULL);
	struct fs_node *root = fs->ops->root(fs);
	CHECK(symlinkat("../canary", in, "up") == 0 && symlinkat("/etc/passwd", in, "abs") == 0 &&
		symlinkat("..", in, "dir") == 0);
	REQUIRE(lookup(root, "up", &up) == 0 && lookup(root, "abs", &abs) == 0 &&
		lookup(root, "dir", &dir) == 0);
	CHECK(S_ISLNK(up.attr.mode));
	CHECK_EQ(fs->ops->open(fs, &cred, up.node, O_RDONLY, &h), -EACCES);
	CHECK_EQ(fs->ops->open(fs, &cred, abs.node, O_RDWR | O_TRUNC, &h), -EACCES);
	CHECK_EQ(fs->ops->opendir(fs, &cred, dir.node, &h), -ENOTDIR);
	CHECK_EQ(lookup(dir.node, "canary", &e), -ENOTDIR);
	CHECK_EQ(fs->ops->create(fs, &cred, root, "up", 0600, O_RDWR | O_TRUNC, &e, &h), -EEXIST);
	CHECK_EQ(fs->ops->readlink(fs, up.node, text, sizeof(text)), 9);
	const struct fs_attr a = {.size = 0, .mode = 0777};
	CHECK(fs->ops->setattr(fs, &cred, up.node, NULL, FS_SET_SIZE, &a, NULL) < 0);
	CHECK(fs->ops->setattr(fs, &cred, up.node, NULL, FS_SET_MODE, &a, NULL) < 0);
	struct stat st;
	CHECK(fstatat(out, "canary", &st, 0) == 0 && st.st_size == 6 &&
		(st.st_mode & 0777) == 0600);
	tear_down();
}

TEST(a_file_that_becomes_a_link_is_not_followed)
{
	struct fs_entry e;
	char text[16];

	set_up(NULL);
	put(in, "f", "mine");
	REQUIRE(lookup(fs->ops->root(fs), "f", &e) == 0);
	unlinkat(in, "f", 0);
	CHECK(symlinkat("../canary", in, "f") == 0);
	CHECK_EQ(text_of(e.node, text, sizeof(text)), -ESTALE);
	const struct fs_attr a = {.mode = 0777};
	CHECK_EQ(fs->ops->setattr(fs, &cred, e.node, NULL, FS_SET_MODE, &a, NULL), -ESTALE);
	tear_down();
}

TEST(one_file_has_one_node)
{
	struct fs_entry a, b;

	set_up(NULL);
	struct fs_node *root = fs->ops->root(fs);
	put(in, "a", "1");
	CHECK(linkat(in, "a", in, "b", 0) == 0);
	REQUIRE(lookup(root, "a", &a) == 0 && lookup(root, "b", &b) == 0);
	CHECK(a.node == b.node && fs->ops->id(a.node) != fs->ops->id(root));
	/* known twice: the first forget leaves it, the second does not, and too many are as good */
	uint64_t id = fs->ops->id(a.node);
	struct fs_node *n = fs->ops->get(fs, id);
	REQUIRE(n == a.node);
	fs->ops->forget(fs, n, 1);
	fs->ops->put(fs, n);
	n = fs->ops->get(fs, id);
	REQUIRE(n);
	fs->ops->forget(fs, n, 100);
	fs->ops->put(fs, n);
	CHECK(!fs->ops->get(fs, id));
	CHECK(!fs->ops->get(fs, UINT64_MAX) && !fs->ops->get(fs, 0) && fs->ops->get(fs, 1) == root);
	fs->ops->put(fs, root);
	tear_down();
}

TEST(what_the_host_moves_is_found_again_by_name)
{
	struct fs_entry e, f;
	char text[16];

	set_up(NULL);
	struct fs_node *root = fs->ops->root(fs);
	put(in, "a", "one");
	REQUIRE(lookup(root, "a", &e) == 0);
	CHECK(renameat(in, "a", in, "b") == 0);
	CHECK_EQ(text_of(e.node, text, sizeof(text)), -ESTALE);
	REQUIRE(lookup(root, "b", &f) == 0);
	CHECK(e.node == f.node);
	CHECK_EQ(text_of(e.node, text, sizeof(text)), 0);
	CHECK_STR(text, "one");
	/* replaced, as editors do: another file */
	put(in, "new", "two");
	CHECK(renameat(in, "new", in, "b") == 0);
	REQUIRE(lookup(root, "b", &f) == 0);
	CHECK(e.node != f.node);
	CHECK_EQ(text_of(f.node, text, sizeof(text)), 0);
	CHECK_STR(text, "two");
	tear_down();
}

TEST(folders_that_the_host_moves_into_one_another)
{
	struct fs_entry x, y, y2, x2;

	set_up(NULL);
	struct fs_node *root = fs->ops->root(fs);
	mkdirat(in, "x", 0700);
	mkdirat(in, "x/y", 0700);
	REQUIRE(lookup(root, "x", &x) == 0 && lookup(x.node, "y", &y) == 0);
	CHECK(renameat(in, "x/y", in, "y") == 0 && renameat(in, "x", in, "y/x") == 0);
	REQUIRE(lookup(root, "y", &y2) == 0 && lookup(y2.node, "x", &x2) == 0);
	CHECK(y.node == y2.node && x.node == x2.node);
	fs->ops->forget_all(fs);
	CHECK(!fs->ops->get(fs, 2));
	tear_down();
}

TEST(many_folders_with_few_descriptors)
{
	const struct rlimit few = {300, 300};
	enum { N = 1000 };
	static struct fs_entry d[N], f;
	char name[16];
	int bad = 0, open_fds = 0;

	/* the back end takes what it may have: only the hard limit holds it back */
	pid_t pid = fork();
	if (pid == 0) {
		setrlimit(RLIMIT_NOFILE, &few);
		set_up(NULL);
		for (int i = 0; i < N; i++) {
			snprintf(name, sizeof(name), "d%d", i);
			mkdirat(in, name, 0700);
			bad += lookup(fs->ops->root(fs), name, &d[i]) != 0;
			bad += fs->ops->mkdir(fs, &cred, d[i].node, "sub", 0700, &f) != 0;
		}
		for (int i = 0; i < N; i++)
			bad += lookup(d[i].node, "sub", &f) != 0;
		DIR *p = opendir("/proc/self/fd");
		while (readdir(p))
			open_fds++;
		closedir(p);
		tear_down();
		_exit(bad != 0 || open_fds > 200);
	}
	int status = -1;
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
}

static atomic_bool stop;

/* A hostile peer's other half: the name is now a file, now a link out, now a folder. */
static void *flip(void *arg)
{
	while (!stop) {
		unlinkat(in, "f", 0);
		(void)!symlinkat("../canary", in, "f");
		unlinkat(in, "f", 0);
		(void)!symlinkat("..", in, "d");
		close(openat(in, "f", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
		unlinkat(in, "d", 0);
		mkdirat(in, "d", 0700);
		unlinkat(in, "d", AT_REMOVEDIR);
	}
	return NULL;
}

TEST(links_raced_against_opens_never_lead_out)
{
	struct timespec t0, t;
	struct fs_handle *h;
	struct fs_entry e;
	char text[16];
	pthread_t thread;
	unsigned tries = 0;

	set_up(NULL);
	struct fs_node *root = fs->ops->root(fs);
	stop = false;
	REQUIRE(pthread_create(&thread, NULL, flip, NULL) == 0);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	do {
		const struct fs_attr a = {.size = 0, .mode = 0777};

		tries++;
		if (lookup(root, "f", &e) == 0) {
			if (text_of(e.node, text, sizeof(text)) == 0)
				CHECK(strcmp(text, "secret") != 0);
			fs->ops->setattr(
				fs, &cred, e.node, NULL, FS_SET_SIZE | FS_SET_MODE, &a, NULL);
			fs->ops->forget(fs, e.node, 1);
		}
		if (fs->ops->create(fs, &cred, root, "f", 0600, O_RDWR | O_TRUNC, &e, &h) == 0) {
			struct iovec iov = {text, 1};

			fs->ops->write(fs, h, &iov, 1, 0, 0);
			fs->ops->close(fs, h);
			fs->ops->forget(fs, e.node, 1);
		}
		if (lookup(root, "d", &e) == 0) {
			struct fs_entry c;

			CHECK(lookup(e.node, "canary", &c) < 0);
			fs->ops->forget(fs, e.node, 1);
		}
		clock_gettime(CLOCK_MONOTONIC, &t);
	} while (t.tv_sec - t0.tv_sec <
		 (getenv("WSLX_TEST_RACE_S") ? atoi(getenv("WSLX_TEST_RACE_S")) : 3));
	stop = true;
	pthread_join(thread, NULL);
	CHECK(tries > 10);
	struct stat st;
	CHECK(fstatat(out, "canary", &st, 0) == 0 && st.st_size == 6 &&
		(st.st_mode & 0777) == 0600);
	tear_down();
}

TEST(views_have_options_of_their_own)
{
	struct fs_entry host, view, f, g;
	struct fs *set;
	struct fs_share_opts ro = {.fmask = 0111};

	set_up(NULL);
	put(in, "f", "1");
	fchmodat(in, "f", 0777, 0);
	REQUIRE(fs_host_new_set(&set, NULL) == 0);
	int fd = openat(out, "share", O_PATH | O_DIRECTORY | O_CLOEXEC);
	REQUIRE(fs_host_add(set, "host", fd, &ro, NULL) == 0);
	struct fs_node *root = set->ops->root(set);
	CHECK_EQ(set->ops->lookup(set, &cred, root, "nothing", &f), -ENOENT);
	CHECK_EQ(set->ops->lookup(set, &cred, root, "host:colour=red", &f), -ENOENT);
	REQUIRE(set->ops->lookup(set, &cred, root, "host", &host) == 0);
	REQUIRE(set->ops->lookup(set, &cred, root, "host:ro,uid=77,gid=78,umask=022", &view) == 0);
	/* it is of its root's file system: what is not has no ACLs in Linux */
	CHECK(!(host.attr.flags & FS_ATTR_SUBMOUNT));
	REQUIRE(set->ops->lookup(set, &cred, host.node, "f", &f) == 0);
	REQUIRE(set->ops->lookup(set, &cred, view.node, "f", &g) == 0);
	CHECK(f.node != g.node);
	CHECK_EQ(f.attr.ino, g.attr.ino);
	CHECK_EQ(f.attr.mode & 0777, 0666);
	CHECK_EQ(g.attr.mode & 0777, 0644);
	CHECK_EQ(g.attr.uid, 77);
	CHECK_EQ(f.attr.uid, geteuid());
	CHECK_EQ(set->ops->unlink(set, &cred, view.node, "f"), -EROFS);
	CHECK_EQ(set->ops->rename(set, &cred, view.node, "f", host.node, "g", 0), -EXDEV);
	CHECK_EQ(set->ops->mkdir(set, &cred, root, "x", 0700, &f), -EROFS);
	/* no view has more than its share */
	for (int i = 0; i < 200; i++) {
		char name[64];

		snprintf(name, sizeof(name), "host:uid=%d", i);
		set->ops->lookup(set, &cred, root, name, &f);
	}
	CHECK_EQ(set->ops->lookup(set, &cred, root, "host:uid=4000", &f), -ENOENT);
	set->ops->free(set);
	tear_down();
}

/* Nothing else tells a peer apart that writes to what it may only read. */
TEST(set_uid_bit_lost_on_a_read_only_share)
{
	const struct fs_share_opts ro = {.read_only = true};
	char x = 0;
	struct iovec iov = {&x, 1};
	struct fs_handle *h;
	struct fs_entry e;
	struct stat st;

	set_up(&ro);
	put(in, "f", "text");
	CHECK_EQ(fchmodat(in, "f", 04755, 0), 0);
	REQUIRE(lookup(fs->ops->root(fs), "f", &e) == 0);
	REQUIRE(fs->ops->open(fs, &cred, e.node, O_RDONLY, &h) == 0);
	CHECK_EQ(fs->ops->write(fs, h, &iov, 1, 0, FS_KILL_SUIDGID), -EBADF);
	CHECK_EQ(fs->ops->fallocate(fs, h, 0, 0, 100), -EBADF);
	CHECK(fstatat(in, "f", &st, 0) == 0 && (st.st_mode & 07777) == 04755);
	fs->ops->close(fs, h);
	tear_down();
}

struct lister {
	struct fs_handle *h;
	unsigned bad;
};

static bool list_entry(void *ctx, const struct fs_dirent *d)
{
	struct lister *l = ctx;

	l->bad += strcmp(d->name, ".") && strcmp(d->name, "..") &&
		  strspn(d->name, "n0123456789") != 40;
	return true;
}

static void *list_often(void *arg)
{
	struct lister *l = arg;

	for (int i = 0; i < 300; i++)
		l->bad += fs->ops->readdir(fs, &cred, l->h, 0, false, list_entry, l) < 0;
	return NULL;
}

TEST(two_who_list_with_one_handle_see_what_is_not_there)
{
	struct lister l[2] = {0};
	pthread_t thread;
	struct fs_handle *h;
	char name[48];

	set_up(NULL);
	for (int i = 0; i < 1200; i++) {
		snprintf(name, sizeof(name), "n%039d", i);
		put(in, name, "");
	}
	REQUIRE(fs->ops->opendir(fs, &cred, fs->ops->root(fs), &h) == 0);
	l[0].h = l[1].h = h;
	REQUIRE(pthread_create(&thread, NULL, list_often, &l[0]) == 0);
	list_often(&l[1]);
	pthread_join(thread, NULL);
	CHECK_EQ(l[0].bad + l[1].bad, 0);
	fs->ops->close(fs, h);
	tear_down();
}

/* Some file systems (FAT, NTFS, FUSE) list names of more bytes than NAME_MAX. */
TEST(a_name_longer_than_NAME_MAX_overruns_a_buffer)
{
	struct host *h;
	struct fs_node *root, *n = NULL;
	struct statx stx;
	char name[701];

	set_up(NULL);
	h = to_host(fs);
	root = fs->ops->root(fs);
	put(in, "f", "text");
	REQUIRE(sys_statx(in, "f", &stx) == 0);
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	CHECK_EQ(node_enter(h, root, name, &stx, &(struct mounted){0}, &n), -ENAMETOOLONG);
	if (n)
		node_stat(h, n, &stx);
	/* there, as far as the kernel is asked, and not to be looked at */
	stx.stx_mode = S_IFREG;
	CHECK(!meta_apply(in, name, &stx));
	tear_down();
}

/* As in /proc/kmsg and tracefs' trace_pipe, which are files as any other; reading one would take from the host what is there. */
TEST(reading_a_file_that_has_nothing_to_read_yet_waits_for_ever)
{
	struct fs_handle *h;
	struct fs_entry e;

	set_up(NULL);
	put(in, "f", "text");
	REQUIRE(lookup(fs->ops->root(fs), "f", &e) == 0);
	REQUIRE(fs->ops->open(fs, &cred, e.node, O_RDONLY, &h) == 0);
	CHECK(fcntl(h->fd, F_GETFL) & O_NONBLOCK);
	fs->ops->close(fs, h);
	tear_down();
}

static int leased = -1;

static void give_lease_back(int sig)
{
	fcntl(leased, F_SETLEASE, F_UNLCK);
}

/* Servers of the host, for NFS and SMB, have such on files that their clients keep. */
TEST(a_file_that_somebody_has_a_lease_on_cannot_be_opened)
{
	struct sigaction old, sa = {.sa_handler = give_lease_back, .sa_flags = SA_RESTART};
	struct fs_entry e;
	char text[16] = "";

	set_up(NULL);
	put(in, "f", "text");
	leased = openat(in, "f", O_RDWR | O_CLOEXEC);
	sigaction(SIGIO, &sa, &old);
	REQUIRE(lookup(fs->ops->root(fs), "f", &e) == 0);
	if (fcntl(leased, F_SETLEASE, F_WRLCK) == 0) {
		CHECK_EQ(text_of(e.node, text, sizeof(text)), 0);
		CHECK_STR(text, "text");
	} else {
		printf("# this file system has no leases: %s\n", strerror(errno));
	}
	sigaction(SIGIO, &old, NULL);
	close(leased);
	tear_down();
}

TEST(the_host_cannot_unmount_what_a_peer_has_looked_at)
{
	struct fs_entry m, d;
	char path[96];

	set_up(NULL);
	mkdirat(in, "stick", 0700);
	snprintf(path, sizeof(path), "%s/share/stick", top);
	if (mount("stick", path, "tmpfs", 0, NULL) < 0) {
		printf("# root is needed\n");
		tear_down();
		return;
	}
	REQUIRE(lookup(fs->ops->root(fs), "stick", &m) == 0);
	CHECK(m.attr.flags & FS_ATTR_SUBMOUNT);
	CHECK_EQ(fs->ops->mkdir(fs, &cred, m.node, "d", 0700, &d), 0);
	CHECK_EQ(lookup(d.node, "nothing", &m), -ENOENT);
	fs_host_let_go(fs);
	if (umount(path) < 0) {
		CHECK_STR(strerror(errno), "");
		umount2(path, MNT_DETACH);
	}
	tear_down();
}

TEST(folders_that_are_gone_do_not_use_up_descriptors)
{
	const struct rlimit few = {240, 240};
	struct fs_entry e[400], f;
	struct fs_handle *hd;
	struct rlimit old;

	getrlimit(RLIMIT_NOFILE, &old);
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){few.rlim_cur, old.rlim_max});
	set_up(NULL);
	to_host(fs)->max_fds = 40;
	put(in, "f", "text");
	for (unsigned i = 0; i < ARRAY_LEN(e); i++) {
		struct fs_entry x;

		REQUIRE(fs->ops->mkdir(fs, &cred, fs->ops->root(fs), "d", 0700, &e[i]) == 0);
		/* by each way that a folder can go */
		CHECK_EQ(lookup(e[i].node, "nothing", &x), -ENOENT);
		if (i % 2)
			CHECK_EQ(fs->ops->rmdir(fs, &cred, fs->ops->root(fs), "d"), 0);
		else
			CHECK_EQ(unlinkat(in, "d", AT_REMOVEDIR), 0);
	}
	/* the first are there yet, the last may be lost; what is there is not in need */
	CHECK_EQ(fs->ops->getattr(fs, &cred, e[1].node, NULL, &f.attr), 0);
	CHECK(to_host(fs)->n_fds <= 2 * to_host(fs)->max_fds);
	REQUIRE(lookup(fs->ops->root(fs), "f", &f) == 0);
	CHECK_EQ(fs->ops->open(fs, &cred, f.node, O_RDWR, &hd), 0);
	fs->ops->close(fs, hd);
	for (unsigned i = 0; i < ARRAY_LEN(e); i++)
		fs->ops->forget(fs, e[i].node, 1);
	CHECK_EQ(to_host(fs)->n_kept, 0);
	tear_down();
	setrlimit(RLIMIT_NOFILE, &old);
}

static void *give_back(void *arg)
{
	usleep(300000);
	CHECK_EQ(fcntl(*(int *)arg, F_SETLEASE, F_UNLCK), 0);
	return NULL;
}

TEST(who_has_a_lease_is_waited_for_only_by_who_may_wait)
{
	struct fs_entry e;
	struct fs_handle *hd;
	pthread_t t;
	int fd;

	set_up(NULL);
	put(in, "f", "text");
	signal(SIGIO, SIG_IGN);
	fd = openat(in, "f", O_RDONLY | O_CLOEXEC);
	REQUIRE(fd >= 0 && lookup(fs->ops->root(fs), "f", &e) == 0);
	if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0) {
		printf("# no leases on this file system\n");
	} else {
		CHECK_EQ(fs->ops->open(fs, &cred, e.node, O_RDWR | O_NONBLOCK, &hd), -EAGAIN);
		pthread_create(&t, NULL, give_back, &fd);
		CHECK_EQ(fs->ops->open(fs, &cred, e.node, O_RDWR, &hd), 0);
		pthread_join(t, NULL);
		fs->ops->close(fs, hd);
	}
	close(fd);
	tear_down();
}

/* What cannot be read has to be told from the end of the file: a program that copies would be done, with half of it. */
TEST(a_read_that_fails_midway_looks_like_the_end_of_the_file)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct iovec iov = {.iov_len = 2 * page};
	struct fs_handle *hd;
	struct fs_entry e;

	set_up(NULL);
	put(in, "f", "text");
	iov.iov_base =
		mmap(NULL, iov.iov_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(iov.iov_base != MAP_FAILED && lookup(fs->ops->root(fs), "f", &e) == 0);
	CHECK_EQ(fs->ops->open(fs, &cred, e.node, O_RDWR, &hd), 0);
	CHECK_EQ(ftruncate(fs_host_fd(hd), (off_t)iov.iov_len), 0);
	CHECK_EQ(fs->ops->read(fs, hd, &iov, 1, 0, 0), (ssize_t)iov.iov_len);
	/* here it is memory that fails, not a disk */
	CHECK_EQ(mprotect((char *)iov.iov_base + page, page, PROT_NONE), 0);
	CHECK_EQ(fs->ops->read(fs, hd, &iov, 1, 0, 0), -EFAULT);
	fs->ops->close(fs, hd);
	munmap(iov.iov_base, iov.iov_len);
	tear_down();
}

/* What a peer knows in an overlay stays what it is when it goes to the upper layer. */
static void copy_up(struct fs_node *root)
{
	const struct fs_attr a = {.mode = 0640};
	struct fs_entry d, again, f, made;
	struct fs_handle *hd;

	REQUIRE(lookup(root, "d", &d) == 0 && lookup(d.node, "f", &f) == 0);
	REQUIRE(fs->ops->create(fs, &cred, d.node, "new", 0600, O_RDWR, &made, &hd) == 0);
	fs->ops->close(fs, hd);
	CHECK_EQ(fs->ops->setattr(fs, &cred, f.node, NULL, FS_SET_MODE, &a, NULL), 0);
	/* nothing is held open that need not be */
	fs_host_let_go(fs);
	CHECK_EQ(fs->ops->getattr(fs, &cred, f.node, NULL, &f.attr), 0);
	CHECK_EQ(f.attr.mode & 07777, 0640);
	REQUIRE(lookup(root, "d", &again) == 0);
	CHECK(again.node == d.node);
	REQUIRE(lookup(d.node, "f", &again) == 0);
	CHECK(again.node == f.node);
	REQUIRE(lookup(d.node, "new", &again) == 0);
	CHECK(again.node == made.node);
	/* another is another */
	CHECK_EQ(fs->ops->unlink(fs, &cred, d.node, "new"), 0);
	CHECK_EQ(fs->ops->mkdir(fs, &cred, d.node, "new", 0700, &again), 0);
	CHECK(again.node != made.node);
}

TEST(folders_of_an_overlay_become_others_when_a_file_is_made_in_them)
{
	static const char *const dirs[] = {"low", "low/d", "up", "work", "m"};
	char opts[300], path[96];
	struct fs_entry m;

	for (int at_root = 0; at_root < 2; at_root++) {
		set_up(NULL);
		for (unsigned i = 0; i < ARRAY_LEN(dirs); i++)
			mkdirat(in, dirs[i], 0755);
		put(in, "low/d/f", "text");
		snprintf(opts, sizeof(opts),
			"lowerdir=%s/share/low,upperdir=%s/share/up,workdir=%s/share/work", top,
			top, top);
		snprintf(path, sizeof(path), "%s/share/m", top);
		if (mount("overlay", path, "overlay", 0, opts) < 0) {
			printf("# mount(2): %s\n", strerror(errno));
		} else if (!at_root) {
			CHECK_EQ(lookup(fs->ops->root(fs), "m", &m), 0);
			copy_up(m.node);
		} else {
			cleanup_close int fd = openat(in, "m", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			fs->ops->free(fs);
			REQUIRE(fs_host_new(&fs, fd, NULL, NULL) == 0);
			copy_up(fs->ops->root(fs));
		}
		umount2(path, MNT_DETACH);
		tear_down();
	}
}

static atomic_bool stop_looking;

static void *look_for_both(void *arg)
{
	struct fs_entry e;

	for (unsigned i = 0; !stop_looking; i++)
		if (lookup(fs->ops->root(fs), i % 2 ? "a" : "b", &e) == 0)
			fs->ops->forget(fs, e.node, 1);
	return NULL;
}

/* A rename that takes long is one of several requests under way; who looks for the new name meanwhile is let in when it is done. */
TEST(a_file_that_is_found_just_when_it_was_renamed_is_lost)
{
	struct fs_entry e, again;
	struct fs_attr a;
	unsigned lost = 0;
	pthread_t t;

	set_up(NULL);
	struct fs_node *root = fs->ops->root(fs);
	put(in, "a", "text");
	REQUIRE(lookup(root, "a", &e) == 0);
	stop_looking = false;
	pthread_create(&t, NULL, look_for_both, NULL);
	for (unsigned i = 0; i < 20000; i++) {
		const char *from = i % 2 ? "b" : "a", *to = i % 2 ? "a" : "b";

		CHECK_EQ(fs->ops->rename(fs, &cred, root, from, root, to, 0), 0);
		/* as a kernel does, which looks the name up again */
		if (fs->ops->getattr(fs, &cred, e.node, NULL, &a) == 0)
			continue;
		lost += lookup(root, to, &again) < 0 || again.node != e.node;
		fs->ops->forget(fs, again.node, 1);
	}
	stop_looking = true;
	pthread_join(t, NULL);
	CHECK_EQ(lost, 0);
	tear_down();
}

/* Numbers of devices that are none are given again at once. */
TEST(files_of_a_network_are_mapped_where_something_else_was_mounted_before)
{
	const struct fs_share_opts always = {.map = FS_MAP_ALWAYS};
	struct fs_entry m[2], f[2];
	char path[96];

	set_up(&always);
	mkdirat(in, "m", 0700);
	snprintf(path, sizeof(path), "%s/share/m", top);
	for (int i = 0; i < 2; i++) {
		all_is_nfs = i;
		if (mount("m", path, "tmpfs", 0, NULL) < 0) {
			printf("# root is needed\n");
			break;
		}
		put(in, "m/f", "text");
		REQUIRE(lookup(fs->ops->root(fs), "m", &m[i]) == 0);
		REQUIRE(lookup(m[i].node, "f", &f[i]) == 0);
		CHECK_EQ(f[i].attr.flags & FS_ATTR_MAP, i ? 0 : FS_ATTR_MAP);
		CHECK_EQ(fs->ops->getattr(fs, &cred, f[i].node, NULL, &f[i].attr), 0);
		CHECK_EQ(f[i].attr.flags & FS_ATTR_MAP, i ? 0 : FS_ATTR_MAP);
		fs_host_let_go(fs);
		CHECK_EQ(umount(path), 0);
		if (i && f[0].attr.dev != f[1].attr.dev)
			printf("# another device\n");
	}
	all_is_nfs = false;
	tear_down();
}

/* Through a share that holds it, root's server could write its own memory by /proc/self/mem. */

TEST_MAIN()
