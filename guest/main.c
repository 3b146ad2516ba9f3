/* SPDX-License-Identifier: MIT */
/*
 * wslx-init: pid 1 of the virtual machine. Sets the system up, connects to the host and does what it asks: starts and
 * stops distributions, each by a supervisor of its own, and powers off. The control connection may break at any time (the
 * service was restarted); init then connects again and says in its HELLO what runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
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
#include "guest/cgroup.h"
#include "guest/fs-work.h"
#include "guest/guest.h"
#include "guest/interop.h"
#include "guest/share.h"
#include "guest/mirror.h"
#include "guest/net.h"
#include "guest/ports.h"
#include "guest/shared.h"
#include "guest/shell.h"
#include "guest/tools.h"
#include "guest/vm.h"
#include "guest/volume.h"
#include "guest/worker.h"
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/session/conn.h"

enum { RETRY_MS = 100, MAX_DISTROS = 64, HARDWARE_BOOT_US = 150000, MAX_SLOW = 8 };
/* A distribution whose processes were killed has this long to end. */
enum { KILLED_MS = 10000 };

/* A distribution that was asked for and has not ended. */
struct distro {
	bool used;
	struct distro_spec spec;
	pid_t pid; /* the supervisor */
	int pair;
	struct loop_src *src;
	uint32_t port;	      /* 0: not up yet */
	bool busy, services;  /* as its last BUSY said */
	bool stopping;	      /* was sent STOP, or did not start */
	uint32_t stop_id;     /* the last STOP, to be answered; 0: none */
	uint32_t start_error; /* errno, as its START's reply said */
};

struct init {
	struct loop *loop;
	struct conn *host;
	struct loop_src *retry, *chld, *last;
	uint64_t boot_us;
	struct distro distros[MAX_DISTROS];
	bool shutting_down;
	uint32_t shutdown_id;
};

static struct init in;
static uint8_t buf[WSLX_MSG_MAX];

static unsigned slow(void)
{
	return (unsigned)MAX(1, MIN(in.boot_us / HARDWARE_BOOT_US, MAX_SLOW));
}

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

	volume_unmount_all();
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
	ports_distro(d->spec.id, 0);
	loop_src_free(d->src);
	close(d->pair);
	*d = (struct distro){0};
	maybe_power_off();
}

static void set_port(struct distro *d, uint32_t port)
{
	d->port = port;
	ports_distro(d->spec.id, d->pid);
}

/* From a supervisor to the host, as it is; START's reply tells us the port. */
static void on_supervisor(void *ctx, int fd, uint32_t revents)
{
	struct distro *d = ctx;
	struct wire_msg m;
	char id[65];
	int r = pair_recv(fd, buf, sizeof(buf), &m);

	if (r < 0) {
		/* A STOP that came while its start was failing is one it has not read. */
		uint32_t stop_id = d->stop_id, busy = d->start_error == EBUSY ? EBUSY : 0;

		waitpid(d->pid, NULL, 0);
		distro_gone(d);
		if (stop_id)
			reply_error(WSLX_STOP, stop_id, -(int)busy,
				busy ? "its disk is still in use" : "");
		return;
	}
	/* A distribution speaks for itself, not for its neighbours. */
	if (wire_get_str(&m, WSLX_A_DISTRO, id, sizeof(id)) <= 0 || strcmp(id, d->spec.id) != 0)
		return;
	if (m.type == WSLX_START && (m.flags & WSLX_MSG_REPLY) && !m.error)
		set_port(d, wire_get_u32(&m, WSLX_A_PORT, 0));
	if (m.type == WSLX_BUSY) {
		d->busy = wire_get_u32(&m, WSLX_A_COUNT, 1) != 0;
		d->services = wire_get_u32(&m, WSLX_A_SERVICES, 0) != 0;
	}
	/* Its last word: gone before the host hears of it, or a START that follows would find it still there. */
	if (m.type == WSLX_EXITED || (m.type == WSLX_STOP && (m.flags & WSLX_MSG_REPLY))) {
		waitpid(d->pid, NULL, 0);
		distro_gone(d);
	} else if (m.type == WSLX_START) {
		struct wslx_msg h;

		d->start_error = m.error;
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

static void forget_secret(struct distro_spec *spec)
{
	explicit_bzero(spec->secret, sizeof(spec->secret));
}

static void start(const struct wire_msg *m)
{
	cleanup(forget_secret) struct distro_spec spec;
	struct err e = {0};
	struct distro *d = NULL;
	struct wire_w w;
	int pair[2];
	int r = distro_spec_parse(m, &spec, &e);

	/* What is in our memory, the processes of the next distribution will have in theirs. */
	wire_wipe(m, WSLX_A_SECRET);
	if (r < 0) {
		reply_error(m->type, m->id, r, e.text);
		return;
	}
	/* What the kernel took to get here is a measure of the machine. */
	spec.slow = slow();
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
	if (spec.host_files && share_set_up(&e) < 0) {
		log_warn("init", "%s", e.text);
		spec.host_files = false;
	}
	if (spec.interop_port)
		binfmt_register();
	pid_t pid = fork();
	if (pid == 0) {
		close(pair[0]);
		distro_supervise(&spec, pair[1]);
	}
	close(pair[1]);
	forget_secret(&spec);
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
	d->stop_id = id;
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

/* FREEZE and THAW are the supervisor's; it answers. */
static void pass_on(const struct wire_msg *m)
{
	uint8_t small[160];
	struct distro *d;
	struct wire_w w;
	char id[65];

	wire_get_str(m, WSLX_A_DISTRO, id, sizeof(id));
	d = distro_find(id);
	if (!d || !d->port || d->stopping) {
		reply_error(m->type, m->id, -ENOENT, "the distribution is not running");
		return;
	}
	wire_begin(&w, small, sizeof(small), m->type, 0, m->id, 0);
	wire_u32(&w, WSLX_A_TIMEOUT_MS, wire_get_u32(m, WSLX_A_TIMEOUT_MS, 0));
	wire_u64(&w, WSLX_A_COOKIE, wire_get_u64(m, WSLX_A_COOKIE, 0));
	pair_send(d->pair, &w);
}

/* Such as one that waits for a host's file system that hangs: it cannot be killed. */
static void no_longer(void *ctx)
{
	log_warn("init", "powers off though there are programs that cannot be killed");
	power_off();
}

static void shut_down(const struct wire_msg *m)
{
	uint64_t ms = wire_get_u32(m, WSLX_A_TIMEOUT_MS, 3000);

	in.shutting_down = true;
	in.shutdown_id = m->id;
	for (int i = 0; i < MAX_DISTROS; i++)
		if (in.distros[i].used)
			send_stop(&in.distros[i], 0, (uint32_t)ms);
	maybe_power_off();
	loop_timer_arm(in.last,
		loop_now() + (ms * MIN(slow(), (unsigned)STOP_MAX_SLOW) + KILLED_MS) * 1000000);
}

/* Also to what changes them. */
static void stat_reply(uint32_t type, uint32_t id)
{
	struct timespec now = {0};
	struct sysinfo si;
	struct wire_w w;

	if (sysinfo(&si) < 0)
		memset(&si, 0, sizeof(si));
	wire_begin(&w, buf, sizeof(buf), type, WSLX_MSG_REPLY, id, 0);
	wire_u64(&w, WSLX_A_MEM_TOTAL, (uint64_t)si.totalram * si.mem_unit / 1024);
	wire_u64(&w, WSLX_A_MEM_FREE, (uint64_t)si.freeram * si.mem_unit / 1024);
	wire_u64(&w, WSLX_A_UPTIME_MS, loop_now() / 1000000);
	clock_gettime(CLOCK_REALTIME, &now);
	wire_u64(&w, WSLX_A_TIME_NS, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
	conn_send(in.host, &w);
}

static void set_time(const struct wire_msg *m)
{
	uint64_t ns = wire_get_u64(m, WSLX_A_TIME_NS, 0);
	int64_t move = (int64_t)wire_get_u64(m, WSLX_A_OFFSET_NS, 0);
	struct timespec ts = {
		.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
	struct wire_w w;
	int r = ns && clock_settime(CLOCK_REALTIME, &ts) < 0 ? -errno : 0;

	if (r == 0 && move)
		r = clock_move(move);

	wire_begin(&w, buf, sizeof(buf), m->type, WSLX_MSG_REPLY, m->id, (uint32_t)-r);
	conn_send(in.host, &w);
}

static void help(const struct wire_msg *m, int (*fn)(const void *arg), const void *arg)
{
	int r = helper_start(m->type, m->id, fn, arg);

	if (r < 0)
		reply_error(m->type, m->id, r, "no process could be made");
}

static void send_host(struct wire_w *w)
{
	if (in.host)
		conn_send(in.host, w);
}

static void work_on(const struct wire_msg *m, worker_fn fn)
{
	int r = worker_start(in.loop, m, fn, send_host);

	if (r < 0)
		reply_error(m->type, m->id, r, "no process could be made");
}

static const char *name_of(const char *id)
{
	struct distro *d = distro_find(id);

	return d ? d->spec.name : NULL;
}

static void mount_volume(const struct wire_msg *m)
{
	struct wire_attr a;
	struct err e = {0};

	/* the device is mounted by this process, which knows whether it was */
	if (wire_find(m, WSLX_A_FOLDER, &a) && share_set_up(&e) < 0) {
		reply_error(m->type, m->id, e.code, e.text);
		return;
	}
	work_on(m, volume_mount);
}

static int unmount_volume(const struct wire_msg *m, struct wire_w *w, struct err *e)
{
	return volume_unmount(m, name_of, w, e);
}

static int start_shell(const struct wire_msg *m, struct wire_w *w, struct err *e)
{
	struct distro *d;
	char id[65];

	wire_get_str(m, WSLX_A_DISTRO, id, sizeof(id));
	d = distro_find(id);
	return d && d->port ? shell_start(d->pid, w, e)
			    : err_set(e, -ENOENT, "the distribution is not running");
}

/* A child nobody else knows. */
static void orphan_ended(pid_t pid, int status)
{
	uint32_t type, id;
	int r;

	if (!helper_ended(pid, status, &type, &id, &r) || !in.host)
		return;
	if (r < 0)
		reply_error(type, id, r, strerror(-r));
	else
		stat_reply(type, id);
}

/* The distributions that run hear of name servers and domains; those that start have them in START. */
static void tell_dns(const struct wire_msg *m)
{
	static uint8_t copy[4096];
	struct wire_attr a;
	struct wire_w w;

	for (int i = 0; i < MAX_DISTROS; i++) {
		struct distro *d = &in.distros[i];

		if (!d->used || !d->port || d->stopping)
			continue;
		wire_begin(&w, copy, sizeof(copy), WSLX_NETWORK, 0, 0, 0);
		for (size_t pos = 0; wire_next(m, &pos, &a);)
			if (a.tag == WSLX_A_NAMESERVER || a.tag == WSLX_A_SEARCH)
				wire_bytes(&w, (enum wslx_tag)a.tag, a.data, a.len);
		pair_send(d->pair, &w);
	}
}

/* A host that is new says the same as the one before. */
static void mirror_once(const struct wire_msg *m, const struct net_plan *plan)
{
	static bool done;
	struct mirror mirror;
	struct err e = {0};

	if (done)
		return;
	mirror_parse(m, plan, &mirror);
	done = true;
	if (mirror_attach(&mirror, DISTRO_CGROUPS, &e) < 0)
		log_warn("net", "%s", e.text);
}

static void clients_once(const struct wire_msg *m)
{
	static bool done;
	struct net_addr from;
	struct err e = {0};
	char text[64];

	if (done || wire_get_str(m, WSLX_A_INWARD, text, sizeof(text)) <= 0 ||
		!net_addr_parse(text, false, &from))
		return;
	done = true;
	if (mirror_clients(&from, DISTRO_CGROUPS, &e) < 0)
		log_warn("net", "%s", e.text);
}

static void tell_ports(void)
{
	for (int i = 0; i < MAX_DISTROS; i++)
		if (in.distros[i].used && in.distros[i].port)
			ports_distro(in.distros[i].spec.id, in.distros[i].pid);
}

static void network(const struct wire_msg *m)
{
	static struct net_plan now;
	struct net_plan plan;
	struct err e = {0};
	uint32_t port = 0;
	struct wire_w w;
	int r = net_plan_parse(m, &plan, &e);

	if (r == 0) {
		r = net_configure("eth0", &plan, &now, &e);
		now = plan;
	}
	if (r == 0 && wire_get_u32(m, WSLX_A_MIRRORED, 0) == 1)
		mirror_once(m, &plan);
	clients_once(m);
	if (r < 0) {
		reply_error(m->type, m->id, r, e.text);
		return;
	}
	tell_dns(m);
	if (wire_get_u32(m, WSLX_A_FORWARD, 0) == 1) {
		r = ports_start(in.loop, send_host, tell_ports, &port);
		if (r < 0)
			log_warn("net", "forwarded ports: %s", strerror(-r));
	}
	wire_begin(&w, buf, sizeof(buf), m->type, WSLX_MSG_REPLY, m->id, 0);
	wire_u32(&w, WSLX_A_FORWARD_PORT, port);
	conn_send(in.host, &w);
}

static void on_host(void *ctx, struct conn *c, const struct wire_msg *m)
{
	uint32_t lun;

	if (m->flags & WSLX_MSG_REPLY)
		return; /* to our HELLO */
	switch (m->type) {
	case WSLX_START: start(m); break;
	case WSLX_STOP: stop(m); break;
	case WSLX_SHUTDOWN: shut_down(m); break;
	case WSLX_FREEZE:
	case WSLX_THAW: pass_on(m); break;
	case WSLX_STAT: stat_reply(m->type, m->id); break;
	case WSLX_SET_TIME: set_time(m); break;
	case WSLX_NETWORK: network(m); break;
	case WSLX_SWAP_ON:
		lun = wire_get_u32(m, WSLX_A_LUN, UINT32_MAX);
		help(m, swap_on, &lun);
		break;
	case WSLX_RECLAIM: help(m, reclaim_now, NULL); break;
	case WSLX_MOUNT: mount_volume(m); break;
	case WSLX_SHELL: work_on(m, start_shell); break;
	case WSLX_UNMOUNT: work_on(m, unmount_volume); break;
	case WSLX_COPY_TREE:
	case WSLX_FS_RESIZE:
	case WSLX_FS_TRIM:
	case WSLX_FS_EXAMINE: work_on(m, fs_work); break;
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
		wire_u32(&w, WSLX_A_SERVICES, in.distros[i].services);
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
		int status = 0;

		si.si_pid = 0;
		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || si.si_pid == 0)
			return;
		for (int i = 0; i < MAX_DISTROS; i++)
			ours |= in.distros[i].used && in.distros[i].pid == si.si_pid;
		if (ours)
			return; /* reaped by on_supervisor(), after its last message was read */
		waitpid(si.si_pid, &status, 0);
		orphan_ended(si.si_pid, status);
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

/* The kernel looks for modprobe in our root: that is this program, and the modules it loads come along. */
static void keep_modprobe(void)
{
	static const char helper[] = "/root/sbin/modprobe";

	if (access("/modules/index", F_OK) < 0)
		return;
	mkdir("/root/sbin", 0755);
	mkdir("/root/modules", 0755);
	if (mknod(helper, S_IFREG | 0755, 0) < 0 ||
		mount("/init", helper, NULL, MS_BIND, NULL) < 0 ||
		mount("/modules", "/root/modules", NULL, MS_BIND, NULL) < 0)
		log_warn("init", "modules will not be loaded on demand: %s", strerror(errno));
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
	if (r == 0)
		keep_modprobe();
	if (r == 0 && (chdir("/root") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 ||
			      chroot(".") < 0 || chdir("/") < 0))
		r = err_sys(e, -errno, "leave the initramfs");
	return r;
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
	modules_for_devices("/modules");
	r = leave_rootfs(e);
	if (r == 0)
		r = mount_at("run", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755", e);
	if (r == 0)
		r = shared_set_up(e);
	if (r == 0)
		r = mount_at("cgroup2", "/sys/fs/cgroup", "cgroup2",
			MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsdelegate", e);
	if (r < 0)
		return r;
	/* What distributions may limit for their own processes has to be offered from the top. */
	cgroup_delegate("/sys/fs/cgroup");
	vm_set_up();
	net_loopback_up();
	sethostname("wslx", 4);
	reboot(RB_DISABLE_CAD);
	return 0;
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');
	struct err e = {0};
	int r;

	/* "modprobe -q -- NAME", from the kernel. */
	if (name && !strcmp(name, "/modprobe"))
		return argc > 1 && modules_request("/modules", argv[argc - 1]) == 0 ? 0 : 1;
	/* By its name first: a tool can be the first process too, of a namespace that somebody makes. */
	r = tools_main(argc, argv);
	if (r >= 0)
		return r;
	if (argc > 1 && !strcmp(argv[1], "wslx-crash"))
		return crash_main(argc - 1, argv + 1);
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
	if (r == 0)
		r = loop_timer(in.loop, no_longer, NULL, &in.last);
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
