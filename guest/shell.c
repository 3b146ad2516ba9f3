/* SPDX-License-Identifier: MIT */
#include "guest/shell.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/vm_sockets.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "guest/guest.h"
#include "guest/shared.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/loop.h"
#include "lib/session/session.h"

enum { LOOK_MS = 500, FIRST_MS = 30000 };

/* --- what it sees --- */

static const char *const lent[] = {"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc"};

int distro_init_pid(pid_t supervisor, pid_t *ret)
{
	cleanup_free char *text = NULL;
	char path[80];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)supervisor, (int)supervisor);
	r = io_read_file(path, 4096, &text, NULL);
	*ret = r < 0 ? 0 : (pid_t)atoi(text);
	return *ret > 0 ? 0 : -ESRCH;
}

/* Copies of the distribution's folders, made in its namespace; -1: it has no such folder. */
static int borrow(pid_t pid, int tree[ARRAY_LEN(lent)])
{
	cleanup_close int own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC), theirs = -EBADF;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
	theirs = open(path, O_RDONLY | O_CLOEXEC);
	if (own < 0 || theirs < 0 || setns(theirs, CLONE_NEWNS) < 0)
		return -errno;
	/* Its root is ours here: a link of its leads nowhere else. */
	for (size_t i = 0; i < ARRAY_LEN(lent); i++)
		tree[i] = (int)syscall(
			SYS_open_tree, AT_FDCWD, lent[i], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	return setns(own, CLONE_NEWNS) < 0 ? -errno : 0;
}

static int attach(int tree, const char *at)
{
	if (mkdir(at, 0755) < 0 && errno != EEXIST)
		return -errno;
	if (syscall(SYS_move_mount, tree, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH) < 0 ||
		mount(NULL, at, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0)
		return -errno;
	return 0;
}

static int make_view(pid_t pid, struct err *e)
{
	int tree[ARRAY_LEN(lent)], r;

	if (unshare(CLONE_NEWNS) < 0)
		return err_sys(e, -errno, "make a mount namespace");
	r = shared_slave(e);
	if (r < 0)
		return r;
	r = borrow(pid, tree);
	if (r < 0)
		return err_sys(e, r, "reach the distribution's files");
	for (size_t i = 0; i < ARRAY_LEN(lent); i++) {
		cleanup_close int fd = tree[i];

		if (fd >= 0 && r == 0)
			r = attach(fd, lent[i]);
		if (r < 0)
			return err_sys(e, r, "lend %s", lent[i]);
	}
	mkdir("/root", 0700);
	if (mkdir("/tmp", 01777) < 0 && errno != EEXIST)
		return err_sys(e, -errno, "create /tmp");
	return mount_at("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
		"gid=5,mode=620,ptmxmode=666", e);
}

/* --- serving --- */

struct server {
	struct loop *loop;
	struct session_server *sessions;
	struct loop_src *chld, *accept, *look;
	uint64_t since;
	bool used;
};

static void on_chld(void *ctx, int signo)
{
	struct server *s = ctx;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		session_child_ended(s->sessions, pid, status);
}

static void on_accept(void *ctx, int fd, uint32_t revents)
{
	struct server *s = ctx;
	struct sockaddr_vm sa;
	socklen_t len = sizeof(sa);
	int c = accept4(fd, (struct sockaddr *)&sa, &len, SOCK_CLOEXEC);

	if (c < 0)
		return;
	/* Nobody in the guest becomes root of the machine this way. */
	if (sa.svm_family == AF_VSOCK && sa.svm_cid == WSLX_CID_HOST)
		session_server_add(s->sessions, c);
	else
		close(c);
}

/* Nobody tells when the last byte of a session has gone; this process is not there for long. */
static void on_look(void *ctx)
{
	struct server *s = ctx;

	s->used |= session_server_count(s->sessions) > 0;
	if (session_server_count(s->sessions) == 0 &&
		(s->used || loop_now() - s->since > FIRST_MS * 1000000ull))
		_exit(0);
	loop_timer_arm(s->look, loop_now() + LOOK_MS * 1000000ull);
}

static void NORETURN serve(int listener)
{
	static struct server s;
	static const struct exec_place place = {.cgroup = -1, .umask = 022};
	struct session_config sc = {.listen_fd = -1, .place = &place};
	int r = loop_new(&s.loop);

	sc.loop = s.loop;
	s.since = loop_now();
	if (r == 0)
		r = loop_signal(s.loop, SIGCHLD, on_chld, &s, &s.chld);
	if (r == 0)
		r = session_server_new(&s.sessions, &sc);
	if (r == 0)
		r = loop_io(s.loop, listener, EPOLLIN, on_accept, &s, &s.accept);
	if (r == 0)
		r = loop_timer(s.loop, on_look, &s, &s.look);
	if (r < 0)
		_exit(1);
	on_look(&s);
	loop_run(s.loop);
	_exit(1);
}

int shell_start(pid_t supervisor, struct wire_w *w, struct err *e)
{
	cleanup_close int fd = -EBADF;
	uint32_t port;
	pid_t init, pid;
	int r = distro_init_pid(supervisor, &init);

	if (r < 0)
		return err_sys(e, r, "find the distribution's init");
	r = make_view(init, e);
	if (r < 0)
		return r;
	fd = listen_vsock(8, &port);
	if (fd < 0)
		return err_sys(e, fd, "listen for the shell");
	pid = fork();
	if (pid < 0)
		return err_sys(e, -errno, "start the shell");
	if (pid == 0)
		serve(fd);
	wire_u32(w, WSLX_A_PORT, port);
	return 0;
}
