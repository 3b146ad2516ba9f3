/* SPDX-License-Identifier: MIT */
/*
 * A distribution's supervisor, outside its PID namespace: disk, namespaces, cgroup, and the end of it all. Being a
 * process of its own, it may block on a slow or broken disk without holding up its neighbours.
 */
#include "guest/guest.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"

#define ROOT	    "/run/distro"
#define CGROUP_BASE "/sys/fs/cgroup"

enum { DISK_TIMEOUT_MS = 10000, BUSY_TIMEOUT_MS = 10000 };

struct super {
	const struct distro_spec *spec;
	struct loop *loop;
	struct loop_src *from_host, *from_init, *child, *deadline;
	int host, init;
	pid_t pid;
	char dev[64];
	bool started, stopping;
	uint32_t stop_id;
	int start_error; /* negative errno, and why, as its init said */
	char start_text[400];
};

static uint8_t buf[WSLX_MSG_MAX];

static bool name_ok(const char *s)
{
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("-_.", *s))
			return false;
	return true;
}

int distro_spec_parse(const struct wire_msg *m, struct distro_spec *ret, struct err *e)
{
	*ret = (struct distro_spec){.lun = wire_get_u32(m, WSLX_A_LUN, UINT32_MAX),
		.uid = wire_get_u32(m, WSLX_A_UID, 0),
		.request_id = m->id};
	if (wire_get_str(m, WSLX_A_DISTRO, ret->id, sizeof(ret->id)) <= 0 || !name_ok(ret->id) ||
		ret->id[0] == '.')
		return err_set(e, -EINVAL, "START without a proper distribution id");
	if (wire_get_str(m, WSLX_A_NAME, ret->name, sizeof(ret->name)) <= 0)
		strcpy(ret->name, ret->id);
	if (wire_get_str(m, WSLX_A_FSTYPE, ret->fstype, sizeof(ret->fstype)) <= 0)
		strcpy(ret->fstype, "ext4");
	if (wire_get_str(m, WSLX_A_OPTIONS, ret->options, sizeof(ret->options)) < 0)
		strcpy(ret->options, "discard,errors=remount-ro");
	if (wire_get_str(m, WSLX_A_HOSTNAME, ret->hostname, sizeof(ret->hostname)) <= 0 ||
		!name_ok(ret->hostname))
		strcpy(ret->hostname, "wslx");
	if (ret->lun == UINT32_MAX)
		return err_set(e, -EINVAL, "START without a LUN");
	return 0;
}

static void reply(struct super *s, unsigned type, uint32_t id, int code, const char *text)
{
	struct wire_w w;

	wire_begin(&w, buf, sizeof(buf), type, WSLX_MSG_REPLY, id, (uint32_t)-code);
	wire_str(&w, WSLX_A_DISTRO, s->spec->id);
	if (text)
		wire_str(&w, WSLX_A_TEXT, text);
	pair_send(s->host, &w);
}

/* -EBUSY: something holds on to the disk, which must not be taken away. */
static int unmount(struct super *s)
{
	char cg[160];
	int r = 0;

	if (umount(ROOT) < 0 && errno != EINVAL) {
		log_warn(s->spec->name, "unmount: %s; detaching", strerror(errno));
		umount2(ROOT, MNT_DETACH);
	}
	if (s->dev[0]) {
		r = disk_remove(s->spec->lun, s->dev, BUSY_TIMEOUT_MS);
		if (r < 0)
			log_warn(s->spec->name, "remove %s: %s", s->dev, strerror(-r));
	}
	/* The distribution's cgroup tree, leaves first. */
	snprintf(cg, sizeof(cg), CGROUP_BASE "/distro-%s", s->spec->id);
	for (int pass = 0; pass < 16 && rmdir(cg) < 0 && errno == EBUSY; pass++)
		usleep(1000);
	return r == -EBUSY ? r : 0;
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
	if (m.type != WSLX_STOP)
		return;
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
	loop_timer_arm(s->deadline, loop_now() + (ms + 1000) * 1000000ull);
}

static void on_init(void *ctx, int fd, uint32_t revents)
{
	struct super *s = ctx;
	struct wire_msg m;
	struct wire_w w;

	if (pair_recv(fd, buf, sizeof(buf), &m) < 0) {
		loop_io_events(s->from_init, 0);
		return;
	}
	/* Its root can be in control of it: that all has ended is for us to say. */
	if (m.type != WSLX_START && m.type != WSLX_BUSY)
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

	kill(s->pid, SIGKILL);
}

/* Its init, and with it every process of it, has ended. */
static void on_child(void *ctx, pid_t pid, int status)
{
	struct super *s = ctx;
	int r = unmount(s);
	char text[96];
	struct wire_w w;

	if (s->start_error)
		reply(s, WSLX_START, s->spec->request_id, r < 0 ? r : s->start_error,
			s->start_text);
	if (s->stopping)
		reply(s, WSLX_STOP, s->stop_id, r, r < 0 ? "its disk is still in use" : NULL);
	if (s->start_error || s->stopping)
		_exit(0);
	if (WIFSIGNALED(status))
		snprintf(text, sizeof(text), "its init was killed by signal %d", WTERMSIG(status));
	else
		snprintf(text, sizeof(text), "its init exited with status %d", WEXITSTATUS(status));
	wire_begin(&w, buf, sizeof(buf), WSLX_EXITED, 0, 0, (uint32_t)-r);
	wire_str(&w, WSLX_A_DISTRO, s->spec->id);
	wire_str(&w, WSLX_A_TEXT, text);
	pair_send(s->host, &w);
	_exit(0);
}

static int mount_disk(struct super *s, struct err *e)
{
	int r;

	/* What is mounted from here on, no other distribution sees. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(e, -errno, "make a mount namespace");
	r = disk_wait(s->spec->lun, DISK_TIMEOUT_MS, s->dev, sizeof(s->dev), e);
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
