/* SPDX-License-Identifier: MIT */
/*
 * wslx-init: pid 1 of the virtual machine. Sets the system up, connects to the host and does what it asks: starts and
 * stops distributions, each by a supervisor of its own, and powers off. The control connection may break at any time (the
 * service was restarted); init then connects again and says in its HELLO what runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "guest/conn.h"
#include "guest/guest.h"
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"

enum { RETRY_MS = 100, MAX_DISTROS = 64 };

/* A distribution that was asked for and has not ended. */
struct distro {
	bool used;
	struct distro_spec spec;
	pid_t pid; /* the supervisor */
	int pair;
	struct loop_src *src;
	uint32_t port; /* 0: not up yet */
	bool busy;     /* as its last BUSY said */
	bool stopping; /* was sent STOP, or did not start */
};

struct init {
	struct loop *loop;
	struct conn *host;
	struct loop_src *retry, *chld;
	uint64_t boot_us;
	struct distro distros[MAX_DISTROS];
	bool shutting_down;
	uint32_t shutdown_id;
};

static struct init in;
static uint8_t buf[WSLX_MSG_MAX];

static struct distro *distro_find(const char *id)
{
	for (int i = 0; i < MAX_DISTROS; i++)
		if (in.distros[i].used && !strcmp(in.distros[i].spec.id, id))
			return &in.distros[i];
	return NULL;
}

static void reply_error(uint32_t type, uint32_t id, int code, const char *text)
{
	struct wire_w w;

	wire_begin(&w, buf, sizeof(buf), type, WSLX_MSG_REPLY, id, (uint32_t)-code);
	wire_str(&w, WSLX_A_TEXT, text);
	if (in.host)
		conn_send(in.host, &w);
}

static void NORETURN power_off(void)
{
	struct wire_w w;

	sync();
	if (in.host) {
		wire_begin(&w, buf, sizeof(buf), WSLX_SHUTDOWN, WSLX_MSG_REPLY, in.shutdown_id, 0);
		conn_send(in.host, &w);
		/* Sending is asynchronous in the kernel: powering off at once would lose the reply. */
		conn_linger(in.host, 500);
	}
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void maybe_power_off(void)
{
	if (!in.shutting_down)
		return;
	for (int i = 0; i < MAX_DISTROS; i++)
		if (in.distros[i].used)
			return;
	power_off();
}

static void distro_gone(struct distro *d)
{
	loop_src_free(d->src);
	close(d->pair);
	*d = (struct distro){0};
	maybe_power_off();
}

/* From a supervisor to the host, as it is; START's reply tells us the port. */
static void on_supervisor(void *ctx, int fd, uint32_t revents)
{
	struct distro *d = ctx;
	struct wire_msg m;
	char id[65];
	int r = pair_recv(fd, buf, sizeof(buf), &m);

	if (r < 0) {
		waitpid(d->pid, NULL, 0);
		distro_gone(d);
		return;
	}
	/* A distribution speaks for itself, not for its neighbours. */
	if (wire_get_str(&m, WSLX_A_DISTRO, id, sizeof(id)) <= 0 || strcmp(id, d->spec.id) != 0)
		return;
	if (m.type == WSLX_START && (m.flags & WSLX_MSG_REPLY) && !m.error)
		d->port = wire_get_u32(&m, WSLX_A_PORT, 0);
	if (m.type == WSLX_BUSY)
		d->busy = wire_get_u32(&m, WSLX_A_COUNT, 1) != 0;
	/* Its last word: gone before the host hears of it, or a START that follows would find it still there. */
	if (m.type == WSLX_EXITED || (m.type == WSLX_STOP && (m.flags & WSLX_MSG_REPLY))) {
		waitpid(d->pid, NULL, 0);
		distro_gone(d);
	} else if (m.type == WSLX_START) {
		struct wslx_msg h;

		if (m.error)
			d->stopping = true;
		/* The host may have asked again since, on a new connection. */
		memcpy(&h, buf, sizeof(h));
		h.id = d->spec.request_id;
		memcpy(buf, &h, sizeof(h));
	}
	/* The answers to our own STOPs at shutdown have no request of the host's behind them. */
	if (in.shutting_down && m.type == WSLX_STOP)
		return;
	if (in.host) {
		struct wire_w w = {
			.buf = buf, .cap = sizeof(buf), .len = sizeof(struct wslx_msg) + m.len};

		conn_send(in.host, &w);
	}
}

static void start(const struct wire_msg *m)
{
	struct distro_spec spec;
	struct err e = {0};
	struct distro *d = NULL;
	struct wire_w w;
	int pair[2];
	int r = distro_spec_parse(m, &spec, &e);

	if (r < 0) {
		reply_error(m->type, m->id, r, e.text);
		return;
	}
	d = distro_find(spec.id);
	if (d && d->port && !d->stopping) {
		wire_begin(&w, buf, sizeof(buf), m->type, WSLX_MSG_REPLY, m->id, 0);
		wire_str(&w, WSLX_A_DISTRO, spec.id);
		wire_u32(&w, WSLX_A_PORT, d->port);
		conn_send(in.host, &w);
		return;
	}
	if (d && !d->stopping && !in.shutting_down) {
		d->spec.request_id = m->id; /* whoever asked last is told when it is up */
		return;
	}
	if (d || in.shutting_down) {
		reply_error(m->type, m->id, -EBUSY, "the distribution is starting or stopping");
		return;
	}
	for (int i = 0; i < MAX_DISTROS && !d; i++)
		if (!in.distros[i].used)
			d = &in.distros[i];
	if (!d || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		reply_error(m->type, m->id, -EAGAIN, "too many distributions are running");
		return;
	}
	pid_t pid = fork();
	if (pid == 0) {
		close(pair[0]);
		distro_supervise(&spec, pair[1]);
	}
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		reply_error(m->type, m->id, -EAGAIN, "no process could be made");
		return;
	}
	*d = (struct distro){.used = true, .spec = spec, .pid = pid, .pair = pair[0]};
	r = loop_io(in.loop, d->pair, EPOLLIN, on_supervisor, d, &d->src);
	if (r < 0)
		kill(pid, SIGKILL);
}

static void send_stop(struct distro *d, uint32_t id, uint32_t timeout_ms)
{
	uint8_t small[64];
	struct wire_w w;

	wire_begin(&w, small, sizeof(small), WSLX_STOP, 0, id, 0);
	wire_u32(&w, WSLX_A_TIMEOUT_MS, timeout_ms);
	d->stopping = true;
	pair_send(d->pair, &w);
}

static void stop(const struct wire_msg *m)
{
	char id[65];
	struct distro *d;

	wire_get_str(m, WSLX_A_DISTRO, id, sizeof(id));
	d = distro_find(id);
	if (!d)
		reply_error(m->type, m->id, -ENOENT, "the distribution is not running");
	else
		send_stop(d, m->id, wire_get_u32(m, WSLX_A_TIMEOUT_MS, 3000));
}

static void shut_down(const struct wire_msg *m)
{
	in.shutting_down = true;
	in.shutdown_id = m->id;
	for (int i = 0; i < MAX_DISTROS; i++)
		if (in.distros[i].used)
			send_stop(&in.distros[i], 0, wire_get_u32(m, WSLX_A_TIMEOUT_MS, 3000));
	maybe_power_off();
}

static void stat_reply(const struct wire_msg *m)
{
	struct sysinfo si;
	struct wire_w w;

	if (sysinfo(&si) < 0)
		memset(&si, 0, sizeof(si));
	wire_begin(&w, buf, sizeof(buf), m->type, WSLX_MSG_REPLY, m->id, 0);
	wire_u64(&w, WSLX_A_MEM_TOTAL, (uint64_t)si.totalram * si.mem_unit / 1024);
	wire_u64(&w, WSLX_A_MEM_FREE, (uint64_t)si.freeram * si.mem_unit / 1024);
	wire_u64(&w, WSLX_A_UPTIME_MS, loop_now() / 1000000);
	conn_send(in.host, &w);
}

static void set_time(const struct wire_msg *m)
{
	uint64_t ns = wire_get_u64(m, WSLX_A_TIME_NS, 0);
	struct timespec ts = {
		.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
	struct wire_w w;
	int r = ns && clock_settime(CLOCK_REALTIME, &ts) < 0 ? -errno : 0;

	wire_begin(&w, buf, sizeof(buf), m->type, WSLX_MSG_REPLY, m->id, (uint32_t)-r);
	conn_send(in.host, &w);
}

static void on_host(void *ctx, struct conn *c, const struct wire_msg *m)
{
	if (m->flags & WSLX_MSG_REPLY)
		return; /* to our HELLO */
	switch (m->type) {
	case WSLX_START: start(m); break;
	case WSLX_STOP: stop(m); break;
	case WSLX_SHUTDOWN: shut_down(m); break;
	case WSLX_STAT: stat_reply(m); break;
	case WSLX_SET_TIME: set_time(m); break;
	default:
		if (m->id)
			reply_error(m->type, m->id, -ENOSYS, "unknown request");
		break;
	}
}

static void on_host_end(void *ctx, struct conn *c, int code)
{
	in.host = conn_free(in.host);
	loop_timer_arm(in.retry, loop_now() + RETRY_MS * 1000000ull);
}

static const struct conn_ops host_ops = {on_host, on_host_end};

static void hello(void)
{
	struct utsname un;
	struct wire_w w;

	uname(&un);
	wire_begin(&w, buf, sizeof(buf), WSLX_HELLO, 0, 1, 0);
	wire_u32(&w, WSLX_A_VERSION, WSLX_PROTOCOL_VERSION);
	wire_u64(&w, WSLX_A_CAPS, WSLX_CAP_EXEC);
	wire_str(&w, WSLX_A_TEXT, un.release);
	wire_u64(&w, WSLX_A_BOOT_US, in.boot_us);
	for (int i = 0; i < MAX_DISTROS; i++) {
		if (!in.distros[i].used || !in.distros[i].port)
			continue;
		wire_str(&w, WSLX_A_DISTRO, in.distros[i].spec.id);
		wire_u32(&w, WSLX_A_PORT, in.distros[i].port);
		wire_u32(&w, WSLX_A_COUNT, in.distros[i].busy);
	}
	conn_send(in.host, &w);
}

static void connect_host(void *ctx)
{
	struct sockaddr_vm sa = {
		.svm_family = AF_VSOCK, .svm_cid = WSLX_CID_HOST, .svm_port = WSLX_PORT_CONTROL};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		if (fd >= 0)
			close(fd);
		loop_timer_arm(in.retry, loop_now() + RETRY_MS * 1000000ull);
		return;
	}
	if (conn_new(&in.host, in.loop, fd, &host_ops, NULL) < 0) {
		loop_timer_arm(in.retry, loop_now() + RETRY_MS * 1000000ull);
		return;
	}
	hello();
}

/* Orphans of supervisors; the supervisors themselves are noticed by their pair. */
static void on_chld(void *ctx, int signo)
{
	siginfo_t si;

	for (;;) {
		bool ours = false;

		si.si_pid = 0;
		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || si.si_pid == 0)
			return;
		for (int i = 0; i < MAX_DISTROS; i++)
			ours |= in.distros[i].used && in.distros[i].pid == si.si_pid;
		if (ours)
			return; /* reaped by on_supervisor(), after its last message was read */
		waitpid(si.si_pid, NULL, 0);
	}
}

static void open_stdio(void)
{
	int fd = open("/dev/kmsg", O_WRONLY);
	int null = open("/dev/null", O_RDWR);

	if (null >= 0) {
		dup2(null, 0);
		dup2(null, 1);
	}
	if (fd >= 0)
		dup2(fd, 2);
	if (fd > 2)
		close(fd);
	if (null > 2)
		close(null);
	setenv("JOURNAL_STREAM", "kmsg", 1); /* kmsg understands the same level prefix */
	log_init("wslx-init", LOG_LVL_INFO);
	unsetenv("JOURNAL_STREAM");
}

/*
 * The initramfs is the kernel's rootfs, which pivot_root(2) cannot leave: distributions could not be given a root of
 * their own. A tmpfs becomes the root instead, and the initramfs, with nothing of use left in it, stays below.
 */
static int leave_rootfs(struct err *e)
{
	static const char *const move[] = {"/proc", "/sys", "/dev"};
	char to[32];
	int r = mount_at("root", "/root", "tmpfs", MS_NODEV, "mode=755,size=16m", e);

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(move); i++) {
		snprintf(to, sizeof(to), "/root%s", move[i]);
		mkdir(to, 0755);
		if (mount(move[i], to, NULL, MS_MOVE, NULL) < 0)
			r = err_sys(e, -errno, "move %s", move[i]);
	}
	if (r == 0 && (chdir("/root") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 ||
			      chroot(".") < 0 || chdir("/") < 0))
		r = err_sys(e, -errno, "leave the initramfs");
	return r;
}

static void loopback_up(void)
{
	struct ifreq ifr = {.ifr_name = "lo"};
	cleanup_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return; /* a kernel without IPv4 */
	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
		log_warn("init", "loopback interface: %s", strerror(errno));
}

static int set_up(struct err *e)
{
	int r;

	umask(0);
	mount_at("dev", "/dev", "devtmpfs", MS_NOSUID, "mode=755",
		NULL); /* the kernel may have done so */
	open_stdio();
	r = mount_at("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, e);
	if (r == 0)
		r = mount_at("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, e);
	if (r < 0)
		return r;
	modules_load("/modules");
	r = leave_rootfs(e);
	if (r == 0)
		r = mount_at("run", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755", e);
	if (r == 0)
		r = mount_at("cgroup2", "/sys/fs/cgroup", "cgroup2",
			MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsdelegate", e);
	if (r < 0)
		return r;
	/* What distributions may limit for their own processes has to be offered from the top. */
	write_text("/sys/fs/cgroup/cgroup.subtree_control", "+cpu +io +memory +pids");
	loopback_up();
	sethostname("wslx", 4);
	reboot(RB_DISABLE_CAD);
	return 0;
}

int main(int argc, char **argv)
{
	struct err e = {0};
	int r;

	if (getpid() != 1) {
		fprintf(stderr,
			"wslx-init: this is the first process of a wslx virtual machine; it cannot be run by hand\n");
		return 2;
	}
	in.boot_us = loop_now() / 1000;
	r = set_up(&e);
	if (r == 0)
		r = loop_new(&in.loop);
	if (r == 0)
		r = loop_signal(in.loop, SIGCHLD, on_chld, NULL, &in.chld);
	if (r == 0)
		r = loop_timer(in.loop, connect_host, NULL, &in.retry);
	if (r < 0) {
		log_err("init", "%s", e.code ? e.text : strerror(-r));
		sync();
		reboot(RB_POWER_OFF);
	}
	signal(SIGPIPE, SIG_IGN);
	log_info("init", "up after %llu us", (unsigned long long)in.boot_us);
	connect_host(NULL);
	loop_run(in.loop);
	return 1;
}
