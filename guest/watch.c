/* SPDX-License-Identifier: MIT */
#include "guest/watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/log.h"

enum {
	MAX_INSTANCES = 4096,
	MAX_TREES = 256,
	CHUNK = 4000,	/* watches the server is told of at once */
	TURN = 128,	/* changes before the loop has its turn */
	AGAIN_MS = 500, /* without a server */
};

/* An inotify descriptor that watches something of the host's. */
struct instance {
	pid_t pid;
	int fd;
	bool dirty;
	struct watch_list l;
};

/* A mount of one of the file systems: all shares and views are one, and each that the host has mounted below, of which a
 * distribution's are others than its neighbour's. */
struct tree {
	uint32_t dev;
	int fd;
	bool used;
};

static struct {
	const char *fs;
	struct loop *loop;
	struct loop_src *timer, *news, *again;
	bool armed, scan, removed, asked, full;
	uint64_t took_ns; /* to look, the last time */
	struct instance *in[MAX_INSTANCES];
	unsigned n_in;
	struct tree tree[MAX_TREES];
	unsigned n_trees;
	struct watch_list now, told;
	int proc, ns; /* /proc, and our mount namespace */
	int pair;     /* to who waits */
} x = {.proc = -EBADF, .ns = -EBADF, .pair = -EBADF};

/* --- file systems --- */

/* A copy of the mount, of the process's namespace, which keeps nobody from unmounting it there. */
static int copy_mount(pid_t pid, const char *path, uint32_t dev)
{
	struct mount_attr attr = {.attr_clr = MOUNT_ATTR_RDONLY};
	char text[4200];
	cleanup_close int ns = -EBADF;
	cleanup_close int at = -EBADF;
	int fd = -ESTALE;
	struct stat st;

	snprintf(text, sizeof(text), "%d/ns/mnt", (int)pid);
	ns = openat(x.proc, text, O_RDONLY | O_CLOEXEC);
	if (ns < 0 || setns(ns, CLONE_NEWNS) < 0)
		return -errno;
	snprintf(text, sizeof(text), "%d/root%s", (int)pid, path);
	at = openat(x.proc, text, O_PATH | O_CLOEXEC);
	if (at >= 0 && fstat(at, &st) == 0 && (major(st.st_dev) << 20 | minor(st.st_dev)) == dev) {
		fd = (int)syscall(
			SYS_open_tree, at, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
		if (fd < 0)
			fd = -errno;
	}
	if (setns(x.ns, CLONE_NEWNS) < 0) {
		log_err("files", "watches: back to the own namespace: %s", strerror(errno));
		_exit(1);
	}
	/* what is read-only there can have changed here */
	if (fd >= 0)
		syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attr, sizeof(attr));
	return fd;
}

static struct tree *find_tree(uint32_t dev)
{
	for (unsigned i = 0; i < x.n_trees; i++)
		if (x.tree[i].dev == dev)
			return &x.tree[i];
	return NULL;
}

static int tree_fd(uint32_t dev)
{
	const struct tree *t = find_tree(dev);

	return t ? t->fd : -1;
}

/* Is it a file system of the host's? Any process that has watches there has it mounted. */
static bool know_tree(pid_t pid, uint32_t dev)
{
	cleanup_free char *text = NULL;
	char path[64], at[4096];
	int fd;

	if (find_tree(dev))
		return true;
	snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)pid);
	if (x.n_trees == MAX_TREES || io_read_file(path, 4 << 20, &text, NULL) < 0 ||
		!watch_mount_point(text, dev, at, sizeof(at)))
		return false;
	fd = copy_mount(pid, at, dev);
	if (fd < 0) {
		log_warn("files", "watches in %s of process %d: %s", at, (int)pid, strerror(-fd));
		return false;
	}
	x.tree[x.n_trees++] = (struct tree){.dev = dev, .fd = fd};
	return true;
}

static void drop_unused_trees(void)
{
	for (unsigned i = 0; i < x.n_trees; i++)
		x.tree[i].used = false;
	for (unsigned i = 0; i < x.now.n; i++) {
		struct tree *t = find_tree(x.now.w[i].dev);

		if (t)
			t->used = true;
	}
	for (unsigned i = x.n_trees; i-- > 0;)
		if (!x.tree[i].used) {
			close(x.tree[i].fd);
			x.tree[i] = x.tree[--x.n_trees];
		}
}

/* --- who watches what --- */

static struct instance *find_instance(pid_t pid, int fd)
{
	for (unsigned i = 0; i < x.n_in; i++)
		if (x.in[i]->pid == pid && x.in[i]->fd == fd)
			return x.in[i];
	return NULL;
}

static struct instance *add_instance(pid_t pid, int fd)
{
	struct instance *in = find_instance(pid, fd);

	if (!in && x.n_in < MAX_INSTANCES && (in = calloc(1, sizeof(*in)))) {
		*in = (struct instance){.pid = pid, .fd = fd};
		x.in[x.n_in++] = in;
	}
	if (in)
		in->dirty = true;
	return in;
}

/* False: it watches nothing of ours, or is no more. */
static bool read_instance(struct instance *in)
{
	cleanup_fclose FILE *f = NULL;
	cleanup_free char *line = NULL;
	uint32_t other = UINT32_MAX; /* not one of ours */
	size_t cap = 0;
	char path[64];

	in->l.n = 0;
	in->dirty = false;
	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)in->pid, in->fd);
	f = fopen(path, "re");
	while (f && getline(&line, &cap, f) > 0) {
		struct watched w;

		if (!watch_parse(line, &w) || w.dev == other)
			continue;
		if (!know_tree(in->pid, w.dev))
			other = w.dev;
		else if (watch_add(&in->l, &w) < 0)
			x.full = true;
	}
	return in->l.n > 0;
}

static void scan_process(pid_t pid)
{
	char path[64], to[32];
	struct dirent *d;
	DIR *fds;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	fds = opendir(path);
	while (fds && (d = readdir(fds))) {
		ssize_t n = readlinkat(dirfd(fds), d->d_name, to, sizeof(to));

		if (n == 18 && memcmp(to, "anon_inode:inotify", 18) == 0)
			add_instance(pid, atoi(d->d_name));
	}
	if (fds)
		closedir(fds);
}

static void scan_all(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *d;

	while (proc && (d = readdir(proc)))
		if (d->d_name[0] >= '1' && d->d_name[0] <= '9')
			scan_process(atoi(d->d_name));
	if (proc)
		closedir(proc);
}

/* --- the server --- */

static void tell_all(void);

static void ask(void)
{
	if (x.asked || !x.told.n)
		return;
	x.asked = write(x.pair, "", 1) == 1;
}

static void tell_again(void *ctx)
{
	x.told.n = 0;
	if (setxattr(x.fs, WSLX_WATCH_XATTR, "", 0, 0) == 0)
		tell_all();
	else if (x.now.n)
		loop_timer_arm(x.again, loop_now() + AGAIN_MS * 1000000ull);
}

static void tell_all(void)
{
	static struct wslx_watch w[WATCHED_MAX * 2];
	size_t n = watch_diff(&x.told, &x.now, w, ARRAY_LEN(w));

	for (size_t i = 0; i < n; i += CHUNK)
		if (setxattr(x.fs, WSLX_WATCH_XATTR, &w[i], MIN(n - i, (size_t)CHUNK) * sizeof(*w),
			    0) < 0)
			log_limited("files", "not all that is watched of the host can be: %s",
				strerror(errno));
	x.told.n = 0;
	for (unsigned i = 0; i < x.now.n; i++)
		watch_add(&x.told, &x.now.w[i]);
	ask();
}

/* --- looking --- */

static void arm(uint64_t ms)
{
	if (x.armed)
		return;
	x.armed = true;
	/* who adds thousands, one after the other, has them all read a few times only */
	loop_timer_arm(x.timer, loop_now() + MAX(ms * 1000000, 4 * x.took_ns));
}

static void look(void *ctx)
{
	const uint64_t began = loop_now();
	bool scan = x.scan, all = x.removed || x.scan;

	x.armed = x.removed = x.scan = x.full = false;
	if (scan)
		scan_all();
	for (unsigned i = x.n_in; i-- > 0;) {
		struct instance *in = x.in[i];

		if ((!all && !in->dirty) || read_instance(in))
			continue;
		/* another process may have inherited it */
		if (!scan && kill(in->pid, 0) < 0)
			x.scan = true;
		x.in[i] = x.in[--x.n_in];
		free(in->l.w);
		free(in);
	}
	x.now.n = 0;
	for (unsigned i = 0; i < x.n_in; i++)
		for (unsigned j = 0; j < x.in[i]->l.n; j++)
			if (watch_add(&x.now, &x.in[i]->l.w[j]) < 0)
				x.full = true;
	watch_merge(&x.now);
	if (x.full)
		log_limited(
			"files", "more of the host is watched than can be (%d files)", WATCHED_MAX);
	drop_unused_trees();
	tell_all();
	x.took_ns = loop_now() - began;
	if (x.scan)
		arm(100);
}

static void on_added(pid_t pid, int fd)
{
	if (fd < 0)
		scan_process(pid);
	else
		add_instance(pid, fd);
	arm(0);
}

static void on_removed(void)
{
	if (!x.n_in)
		return;
	x.removed = true;
	arm(10);
}

static void on_lost(void)
{
	x.scan = true;
	arm(100);
}

/* --- changes --- */

static void raise_some(void *ctx)
{
	uint8_t buf[WSLX_CHANGE_MAX];
	char name[256], to[256];
	struct wslx_change c;
	ssize_t n = 0;

	for (unsigned i = 0; i < TURN; i++) {
		n = getxattr(x.fs, WSLX_CHANGE_XATTR, buf, sizeof(buf));
		if (n < (ssize_t)sizeof(c))
			break;
		memcpy(&c, buf, sizeof(c));
		if (c.name_len > 255 || c.to_len > 255 ||
			(size_t)n != sizeof(c) + c.name_len + c.to_len)
			break;
		memcpy(name, buf + sizeof(c), c.name_len);
		name[c.name_len] = '\0';
		memcpy(to, buf + sizeof(c) + c.name_len, c.to_len);
		to[c.to_len] = '\0';
		watch_raise(&x.now, tree_fd, &c, name, to);
	}
	if (n >= (ssize_t)sizeof(c)) {
		loop_defer(x.loop, raise_some, NULL);
		return;
	}
	x.asked = false;
	if (n < 0 && errno == ENODATA)
		ask();
	else
		loop_timer_arm(x.again, loop_now() + AGAIN_MS * 1000000ull);
}

/* Who waits has an answer. */
static void on_news(void *ctx, int fd, uint32_t revents)
{
	char error;

	if (read(fd, &error, 1) != 1)
		_exit(0);
	if (!error) {
		raise_some(NULL);
		return;
	}
	/* another server knows nothing of us */
	x.asked = false;
	loop_timer_arm(x.again, loop_now() + AGAIN_MS * 1000000ull);
}

static void NORETURN wait_for_news(int fd)
{
	char byte, none[16];

	prctl(PR_SET_NAME, "wslx-watch-wait");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(fd, &byte, 1) == 1) {
		byte = getxattr(x.fs, WSLX_WAIT_XATTR, none, sizeof(none)) < 0;
		if (write(fd, &byte, 1) != 1)
			break;
	}
	_exit(0);
}

static int start_waiter(void)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		wait_for_news(pair[1]);
	}
	close(pair[1]);
	x.pair = pair[0];
	return pid < 0 ? -errno : 0;
}

static void NORETURN run(void)
{
	enum { MAX_FD = 1024 };

	static const struct watch_event_fns fns = {on_added, on_removed, on_lost};
	int r;

	prctl(PR_SET_NAME, "wslx-watch");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* What init has open has to end when init closes it. */
	for (int fd = 3; fd < MAX_FD; fd++)
		close(fd);
	signal(SIGPIPE, SIG_IGN);
	/* tracefs is for this process alone. */
	r = unshare(CLONE_NEWNS) < 0 ? -errno : loop_new(&x.loop);
	x.proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	x.ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (r == 0 && (x.proc < 0 || x.ns < 0))
		r = -errno;
	/* nothing is left of what one before us said; a server that cannot do this says so */
	if (r == 0 && setxattr(x.fs, WSLX_WATCH_XATTR, "", 0, 0) < 0)
		r = -errno;
	if (r == 0)
		r = start_waiter();
	if (r == 0)
		r = loop_timer(x.loop, look, NULL, &x.timer);
	if (r == 0)
		r = loop_timer(x.loop, tell_again, NULL, &x.again);
	if (r == 0)
		r = loop_io(x.loop, x.pair, EPOLLIN, on_news, NULL, &x.news);
	if (r == 0)
		r = watch_events_new(x.loop, &fns);
	if (r == 0) {
		on_lost();
		r = loop_run(x.loop);
	}
	log_warn("files", "programs do not hear of what the host changes: %s", strerror(-r));
	_exit(1);
}

int watch_start(const char *fs)
{
	pid_t pid = fork();

	if (pid == 0) {
		x.fs = fs;
		run();
	}
	return pid < 0 ? -errno : 0;
}
