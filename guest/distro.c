/* SPDX-License-Identifier: MIT */
/*
 * A distribution's supervisor, outside its PID namespace: disk, namespaces, cgroup, and the end of it all. Being a
 * process of its own, it may block on a slow or broken disk without holding up its neighbours.
 */
#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "guest/cgroup.h"
#include "guest/shared.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"

#define ROOT "/run/distro"

enum { BUSY_TIMEOUT_MS = 10000, POWEROFF_MS = 10000 };

struct super {
	const struct distro_spec *spec;
	struct loop *loop;
	struct loop_src *from_host, *from_init, *child, *deadline, *thaw;
	int host, init;
	pid_t pid;
	char dev[64];
	bool started, stopping;
	bool lost;	 /* its init, which is not its pid 1, is gone ... */
	bool turned_off; /* ... because systemd has come to the end of a power-off */
	uint32_t stop_id;
	uint64_t frozen; /* the freeze's number; 0: its file system is not frozen */
	uint64_t freezes;
	int start_error; /* negative errno, and why, as its init said */
	char start_text[400];
};

static uint8_t buf[WSLX_MSG_MAX];

static void reply(struct super *s, unsigned type, uint32_t id, int code, const char *text)
{
	struct wire_w w;

	wire_begin(&w, buf, sizeof(buf), type, WSLX_MSG_REPLY, id, (uint32_t)-code);
	wire_str(&w, WSLX_A_DISTRO, s->spec->id);
	if (text)
		wire_str(&w, WSLX_A_TEXT, text);
	pair_send(s->host, &w);
}

static int freeze_ioctl(unsigned long request)
{
	cleanup_close int fd = open(ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || ioctl(fd, request, 0) < 0 ? -errno : 0;
}

static void thaw(struct super *s)
{
	int r = s->frozen ? freeze_ioctl(FITHAW) : 0;

	if (r < 0)
		log_warn(s->spec->name, "thaw its file system: %s", strerror(-r));
	s->frozen = 0;
	if (s->thaw)
		loop_timer_arm(s->thaw, 0);
}

/* Whoever froze it has not been heard of for too long. */
static void on_thaw(void *ctx)
{
	struct super *s = ctx;

	log_warn(s->spec->name, "its file system was frozen for too long");
	thaw(s);
}

static void freeze(struct super *s, const struct wire_msg *m)
{
	uint64_t cookie = wire_get_u64(m, WSLX_A_COOKIE, 0);
	uint32_t ms = MIN(wire_get_u32(m, WSLX_A_TIMEOUT_MS, 0), 60000u), id = m->id;
	struct wire_w w;
	int r = 0;

	if (cookie && cookie != s->frozen) {
		reply(s, WSLX_FREEZE, id, -ETIMEDOUT, "it was frozen for too long");
		return;
	}
	if (!cookie && s->frozen)
		r = -EBUSY;
	else if (!cookie)
		r = freeze_ioctl(FIFREEZE);
	if (r < 0) {
		reply(s, WSLX_FREEZE, id, r, strerror(-r));
		return;
	}
	if (!cookie)
		s->frozen = ++s->freezes;
	loop_timer_arm(s->thaw, loop_now() + ms * 1000000ull + 1);
	wire_begin(&w, buf, sizeof(buf), WSLX_FREEZE, WSLX_MSG_REPLY, id, 0);
	wire_str(&w, WSLX_A_DISTRO, s->spec->id);
	wire_u64(&w, WSLX_A_COOKIE, s->frozen);
	pair_send(s->host, &w);
}

static void thaw_asked(struct super *s, const struct wire_msg *m)
{
	uint64_t cookie = wire_get_u64(m, WSLX_A_COOKIE, 0);
	bool lasted = s->frozen && cookie == s->frozen;

	if (lasted)
		thaw(s);
	reply(s, m->type, m->id, lasted ? 0 : -ETIMEDOUT,
		lasted ? NULL : "it was frozen for too long");
}

/* -EBUSY: something holds on to the disk, which must not be taken away. */
static int unmount(struct super *s)
{
	char cg[160];
	int r = 0;

	thaw(s); /* unmounting would wait for it */
	if (umount(ROOT) < 0 && errno != EINVAL) {
		log_warn(s->spec->name, "unmount: %s; detaching", strerror(errno));
		umount2(ROOT, MNT_DETACH);
	}
	if (s->dev[0]) {
		r = disk_remove(s->spec->lun, s->dev, BUSY_TIMEOUT_MS);
		if (r < 0)
			log_warn(s->spec->name, "remove %s: %s", s->dev, strerror(-r));
	}
	snprintf(cg, sizeof(cg), DISTRO_CGROUPS "/distro-%s", s->spec->id);
	cgroup_remove(cg);
	return r == -EBUSY ? r : 0;
}

static void pass_down(struct super *s, const struct wire_msg *m)
{
	struct wire_w w = {.buf = buf, .cap = sizeof(buf), .len = sizeof(struct wslx_msg) + m->len};

	pair_send(s->init, &w);
}

static void on_host(void *ctx, int fd, uint32_t revents)
{
	struct super *s = ctx;
	struct wire_msg m;
	struct wire_w w;

	if (pair_recv(fd, buf, sizeof(buf), &m) < 0) {
		kill(s->pid, SIGKILL); /* the VM's init is gone, which cannot be */
		loop_io_events(s->from_host, 0);
		return;
	}
	if (m.type == WSLX_FREEZE && s->stopping)
		reply(s, m.type, m.id, -EBUSY, "it is stopping");
	else if (m.type == WSLX_FREEZE)
		freeze(s, &m);
	else if (m.type == WSLX_THAW)
		thaw_asked(s, &m);
	else if (m.type == WSLX_NETWORK)
		pass_down(s, &m);
	if (m.type != WSLX_STOP)
		return;
	thaw(s); /* or its programs could not end */
	uint32_t ms = MIN(wire_get_u32(&m, WSLX_A_TIMEOUT_MS, 3000), 600000u);
	if (s->stopping) {
		/* Asked again by a service that came back: it takes an answer, whatever it says, for the end, and
		 * the disk away. Whoever asked last gets the one true answer. */
		s->stop_id = m.id;
		return;
	}
	s->stopping = true;
	s->stop_id = m.id;
	wire_begin(&w, buf, sizeof(buf), WSLX_STOP, 0, m.id, 0);
	wire_u32(&w, WSLX_A_TIMEOUT_MS, ms);
	pair_send(s->init, &w);
	/* The distribution's own init keeps to the time; this is for one that hangs. */
	ms *= MIN(s->spec->slow, (unsigned)STOP_MAX_SLOW);
	loop_timer_arm(s->deadline, loop_now() + (ms + 1000) * 1000000ull);
}

static bool is_shutting_down(pid_t pid)
{
	cleanup_free char *name = NULL;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	return io_read_file(path, 64, &name, NULL) == 0 && !strncmp(name, "systemd-shutdow", 15);
}

static void on_init(void *ctx, int fd, uint32_t revents)
{
	struct super *s = ctx;
	struct wire_msg m;
	struct wire_w w;

	if (pair_recv(fd, buf, sizeof(buf), &m) < 0) {
		loop_io_events(s->from_init, 0);
		/* With systemd as pid 1 this happens on the way to a power-off, or nobody serves sessions any more. */
		s->lost = true;
		s->turned_off = is_shutting_down(s->pid);
		/* All that it still waits for then is programs that ignore SIGTERM. */
		uint64_t ms = (uint64_t)POWEROFF_MS * (s->turned_off ? 1 : s->spec->slow);
		if (!s->stopping)
			loop_timer_arm(s->deadline, loop_now() + ms * 1000000);
		return;
	}
	/* Its root can be in control of it: that all has ended is for us to say. */
	if (m.type != WSLX_START && m.type != WSLX_BUSY && m.type != WSLX_OOBE_RESULT)
		return;
	if (m.type == WSLX_START && s->started)
		return;
	if (m.type == WSLX_START && m.error) {
		/* Passed on when its disk is free again: the host takes the disk away upon that. */
		s->start_error = m.error <= INT_MAX ? -(int)m.error : -EIO;
		if (wire_get_str(&m, WSLX_A_TEXT, s->start_text, sizeof(s->start_text)) <= 0)
			s->start_text[0] = '\0';
		kill(s->pid, SIGKILL);
		return;
	}
	s->started |= m.type == WSLX_START;
	w = (struct wire_w){.buf = buf, .cap = sizeof(buf), .len = sizeof(struct wslx_msg) + m.len};
	pair_send(s->host, &w);
}

static void on_deadline(void *ctx)
{
	struct super *s = ctx;
	char path[160];

	/* Also what its pid 1 would only come to after all that it waits for. */
	snprintf(path, sizeof(path), DISTRO_CGROUPS "/distro-%s/cgroup.kill", s->spec->id);
	write_text(path, "1");
	kill(s->pid, SIGKILL);
}

/* Its init, and with it every process of it, has ended. */
static void on_child(void *ctx, pid_t pid, int status)
{
	struct super *s = ctx;
	int r = unmount(s);
	char text[96];
	bool orderly;
	struct wire_w w;

	if (s->start_error)
		reply(s, WSLX_START, s->spec->request_id, r < 0 ? r : s->start_error,
			s->start_text);
	if (s->stopping)
		reply(s, WSLX_STOP, s->stop_id, r, r < 0 ? "its disk is still in use" : NULL);
	if (s->start_error || s->stopping)
		_exit(0);
	/* What reboot(2) does to a PID namespace, and what an init that ended well leaves. */
	orderly = WIFSIGNALED(status) ? WTERMSIG(status) == SIGINT || WTERMSIG(status) == SIGHUP
				      : WEXITSTATUS(status) == 0;
	/* Programs that hold up its last step are not waited for as long as systemd would. */
	orderly |= s->turned_off;
	if (orderly)
		snprintf(text, sizeof(text), "it was %s from inside",
			WIFSIGNALED(status) && WTERMSIG(status) == SIGHUP ? "rebooted"
									  : "powered off");
	else if (s->lost && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		snprintf(text, sizeof(text), "what serves its sessions died");
	else if (WIFSIGNALED(status))
		snprintf(text, sizeof(text), "its init was killed by signal %d", WTERMSIG(status));
	else
		snprintf(text, sizeof(text), "its init exited with status %d", WEXITSTATUS(status));
	wire_begin(&w, buf, sizeof(buf), WSLX_EXITED, 0, 0, (uint32_t)-r);
	wire_str(&w, WSLX_A_DISTRO, s->spec->id);
	wire_str(&w, WSLX_A_TEXT, text);
	wire_u32(&w, WSLX_A_ORDERLY, orderly);
	pair_send(s->host, &w);
	_exit(0);
}

static int mount_disk(struct super *s, struct err *e)
{
	int r;

	/* What is mounted from here on, no other distribution sees. */
	if (unshare(CLONE_NEWNS) < 0)
		return err_sys(e, -errno, "make a mount namespace");
	r = shared_slave(e);
	if (r == 0)
		r = disk_wait(s->spec->lun, s->spec->disk_timeout_ms, s->dev, sizeof(s->dev), e);
	if (r < 0)
		return r;
	return mount_at(s->dev, ROOT, s->spec->fstype, MS_NOATIME, s->spec->options, e);
}

static pid_t spawn_init(struct super *s, int init_end)
{
	unsigned long flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | SIGCHLD;
	pid_t pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, NULL);

	if (pid == 0) {
		close(s->host);
		close(s->init);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dinit_main(s->spec, ROOT, init_end);
	}
	return pid;
}

void distro_supervise(const struct distro_spec *spec, int host)
{
	struct super s = {.spec = spec, .host = host, .init = -1};
	struct err e = {0};
	char name[16];
	int pair[2], r;

	snprintf(name, sizeof(name), "%.15s", spec->name);
	prctl(PR_SET_NAME, name);
	r = mount_disk(&s, &e);
	if (r == 0)
		r = limits_set(spec, s.dev, &e);
	if (r == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		r = err_sys(&e, -errno, "start its init");
	if (r == 0) {
		s.init = pair[0];
		s.pid = spawn_init(&s, pair[1]);
		r = s.pid < 0 ? err_sys(&e, -errno, "make its namespaces") : 0;
		close(pair[1]);
	}
	if (r == 0)
		r = loop_new(&s.loop);
	if (r == 0)
		r = loop_io(s.loop, s.host, POLLIN, on_host, &s, &s.from_host);
	if (r == 0)
		r = loop_io(s.loop, s.init, POLLIN, on_init, &s, &s.from_init);
	if (r == 0)
		r = loop_timer(s.loop, on_deadline, &s, &s.deadline);
	if (r == 0)
		r = loop_timer(s.loop, on_thaw, &s, &s.thaw);
	if (r == 0)
		r = loop_child(s.loop, s.pid, on_child, &s, &s.child);
	if (r < 0) {
		if (!e.code)
			err_wrap(&e, r, "supervise it");
		if (s.pid > 0) {
			kill(s.pid, SIGKILL);
			waitpid(s.pid, NULL, 0);
		}
		int busy = unmount(&s);

		reply(&s, WSLX_START, spec->request_id, busy < 0 ? busy : r, e.text);
		_exit(1);
	}
	/* START is answered by the distribution's init, once it listens. */
	loop_run(s.loop);
	_exit(1);
}
