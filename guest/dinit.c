/* SPDX-License-Identifier: MIT */
/*
 * A distribution's init: makes its view of the system, brings it into the state /etc/wsl.conf asks for, serves sessions on
 * a vsock port of its own, reaps, tells when the last process has gone, and stops everything when asked. It is pid 1 of
 * the distribution's namespaces, or the first child of systemd, which then is.
 */
#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "guest/boot.h"
#include "guest/cgroup.h"
#include "guest/conf.h"
#include "guest/files.h"
#include "guest/interop.h"
#include "guest/login.h"
#include "guest/p9.h"
#include "guest/share.h"
#include "guest/systemd.h"
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/session/session.h"

enum { INIT_TIMEOUT_MS = 10000, MOUNT_MS = 10000, LOOK_MS = 5000, POWER_OFF_MS = 1000 };

struct dinit {
	const struct distro_spec *spec;
	struct loop *loop;
	int super;
	uint32_t port;
	struct session_server *sessions;
	struct interop *interop;
	struct loop_src *from_super, *from_oobe, *chld, *deadline, *look;
	struct cgroups cgroups;
	bool busy, services, stopping;
	struct wsl_conf conf;
	char hostname[65];
	bool systemd; /* is pid 1 */
	struct systemd_wait *starting;
	pid_t boot_command;
	struct login login;
	struct exec_place place;
	struct warnings warnings;
};

static uint8_t buf[32768];

static void NORETURN fail(struct dinit *d, int code, const char *text)
{
	struct wire_w w;

	wire_begin(&w, buf, sizeof(buf), WSLX_START, WSLX_MSG_REPLY, d->spec->request_id,
		(uint32_t)-code);
	wire_str(&w, WSLX_A_DISTRO, d->spec->id);
	wire_str(&w, WSLX_A_TEXT, text);
	pair_send(d->super, &w);
	_exit(1);
}

/* The host hears that it runs, and its user what is wrong with it. */
static void tell_started(struct dinit *d)
{
	struct wire_w w;

	wire_begin(&w, buf, sizeof(buf), WSLX_START, WSLX_MSG_REPLY, d->spec->request_id, 0);
	wire_str(&w, WSLX_A_DISTRO, d->spec->id);
	wire_u32(&w, WSLX_A_PORT, d->port);
	for (unsigned i = 0; i < d->warnings.n; i++) {
		log_warn(d->spec->name, "%s", d->warnings.text[i]);
		wire_str(&w, WSLX_A_WARNING, d->warnings.text[i]);
	}
	if (d->warnings.dropped)
		wire_str(&w, WSLX_A_WARNING, "and more of that kind");
	pair_send(d->super, &w);
}

/* Tells what has changed: whether sessions' processes live, and services. */
static void look(struct dinit *d)
{
	bool sessions = cgroup_populated(d->cgroups.sessions);
	bool services = cgroup_populated(d->cgroups.services);
	struct wire_w w;

	/* Outside systemd, what is in a cgroup of its own making was once started from a session. */
	if (d->systemd)
		services |= cgroup_services(d->cgroups.root);
	else if (!sessions)
		sessions = cgroup_services(d->cgroups.root);
	if (d->stopping)
		return;
	/* Nobody tells when one of systemd's services ends or starts; it matters only while nothing else goes on. */
	if (d->systemd)
		loop_timer_arm(d->look, sessions ? 0 : loop_now() + LOOK_MS * 1000000ull);
	if (sessions == d->busy && services == d->services)
		return;
	d->busy = sessions;
	d->services = services;
	wire_begin(&w, buf, sizeof(buf), WSLX_BUSY, 0, 0, 0);
	wire_str(&w, WSLX_A_DISTRO, d->spec->id);
	wire_u32(&w, WSLX_A_COUNT, sessions);
	wire_u32(&w, WSLX_A_SERVICES, services);
	pair_send(d->super, &w);
}

static void on_look(void *ctx)
{
	look(ctx);
}

/*
 * Every process of a session is our child in the end: as pid 1's orphans, or because we are a subreaper. So when the last
 * one has gone, we are called.
 */
static void reap(struct dinit *d)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == d->boot_command && status != 0)
			log_warn(d->spec->name, "/etc/wsl.conf: boot.command ended with %s %d",
				WIFSIGNALED(status) ? "signal" : "status",
				WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		systemd_wait_child(d->starting, pid);
		interop_child_ended(d->interop, pid);
		session_child_ended(d->sessions, pid, status);
	}
	if (pid < 0 && errno == ECHILD && d->stopping && !d->systemd) {
		sync();
		_exit(0);
	}
	look(d);
}

static void on_chld(void *ctx, int signo)
{
	reap(ctx);
}

static void on_deadline(void *ctx)
{
	struct dinit *d = ctx;

	if (!d->systemd) {
		kill(-1, SIGKILL);
		return;
	}
	/* It may have been too early for the first one. Its supervisor ends one that does not come to an end. */
	systemd_power_off();
	loop_timer_arm(d->deadline, loop_now() + POWER_OFF_MS * 1000000ull);
}

static void hang_up(struct dinit *d)
{
	static const int signals[] = {
		SIGTERM, SIGHUP /* interactive shells ignore SIGTERM */, SIGCONT};

	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		if (d->systemd) {
			cgroup_signal(d->cgroups.sessions, signals[i]);
			cgroup_signal(d->cgroups.services, signals[i]);
		} else {
			kill(-1, signals[i]);
		}
	}
}

/* The host has other name servers or domains now. */
static void new_dns(struct dinit *d, const struct wire_msg *m)
{
	char servers[256] = "", search[512] = "";
	const struct host_facts host = {.nameservers = servers, .search = search};
	cleanup_close int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	distro_dns_parse(m, servers, sizeof(servers), search, sizeof(search));
	r = files_resolv_conf(root, &d->conf, &host);
	if (r < 0)
		log_warn(d->spec->name, "/etc/resolv.conf: %s", strerror(-r));
}

static void on_super(void *ctx, int fd, uint32_t revents)
{
	struct dinit *d = ctx;
	struct wire_msg m;

	if (pair_recv(fd, buf, sizeof(buf), &m) < 0)
		_exit(1); /* takes the namespace with it */
	if (m.type == WSLX_NETWORK)
		new_dns(d, &m);
	if (m.type != WSLX_STOP || d->stopping)
		return;
	d->stopping = true;
	hang_up(d);
	if (d->systemd)
		on_deadline(d);
	else
		loop_timer_arm(d->deadline,
			loop_now() + wire_get_u32(&m, WSLX_A_TIMEOUT_MS, 3000) * 1000000ull);
	reap(d);
}

static void on_oobe(void *ctx, int fd, uint32_t revents)
{
	struct dinit *d = ctx;
	struct oobe_result res;
	struct wire_w w;

	if (recv(fd, &res, sizeof(res), MSG_DONTWAIT) != sizeof(res))
		return;
	if (res.has_uid)
		d->login.uid = res.uid;
	wire_begin(&w, buf, sizeof(buf), WSLX_OOBE_RESULT, 0, 0, 0);
	wire_str(&w, WSLX_A_DISTRO, d->spec->id);
	if (res.has_uid)
		wire_u32(&w, WSLX_A_UID, res.uid);
	pair_send(d->super, &w);
}

static void started_hook(void *ctx)
{
	look(ctx);
}

static void files_hook(void *ctx, const struct user *u, int fd)
{
	struct dinit *d = ctx;

	p9_start(u, fd, d->cgroups.sessions);
	look(d);
}

static int env_hook(void *ctx, char ***env)
{
	struct dinit *d = ctx;

	return interop_env(d->interop, env);
}

static void start_interop(struct dinit *d)
{
	const struct interop_conf ic = {.enabled = d->conf.interop,
		.append_path = d->conf.append_path,
		.protect_binfmt = d->conf.protect_binfmt,
		.automount = d->conf.automount_root,
		.programs = d->conf.programs};

	d->interop = interop_new(d->loop, d->spec, &ic);
}

static void run_boot_command(struct dinit *d)
{
	const char *argv[] = {"/bin/sh", "-c", d->conf.command, NULL};

	if (!d->conf.command)
		return;
	d->boot_command = boot_start(argv, d->cgroups.services);
	if (d->boot_command < 0)
		warn_add(&d->warnings, "/etc/wsl.conf: boot.command: %s",
			strerror(-d->boot_command));
}

static void go(struct dinit *d)
{
	run_boot_command(d);
	tell_started(d);
	look(d);
}

static void systemd_up(void *ctx, const char *state)
{
	struct dinit *d = ctx;

	if (!state)
		warn_add(&d->warnings,
			"systemd was not up in time (boot.initTimeout in /etc/wsl.conf); it goes on starting");
	else
		log_info(d->spec->name, "systemd: %s", state);
	go(d);
}

/* How long systemd may take before sessions start all the same; the host's patience is the limit. */
static unsigned init_timeout(const struct dinit *d)
{
	uint64_t ms = d->conf.init_timeout_ms ? (uint64_t)d->conf.init_timeout_ms
					      : (uint64_t)INIT_TIMEOUT_MS * d->spec->slow;

	if (d->spec->timeout_ms)
		ms = MIN(ms, (uint64_t)d->spec->timeout_ms * 3 / 4);
	return (unsigned)ms;
}

/* What /etc/wsl.conf says, and the files that follow from it. */
static void configure(struct dinit *d)
{
	const struct distro_spec *spec = d->spec;
	struct host_facts host = {.hostname = d->hostname,
		.timezone = spec->timezone,
		.hosts = spec->hosts,
		.nameservers = spec->nameservers,
		.search = spec->search};
	cleanup_close int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	wsl_conf_read(root, &d->conf, &d->warnings);
	snprintf(d->hostname, sizeof(d->hostname), "%s",
		d->conf.hostname ? d->conf.hostname : spec->hostname);
	if (sethostname(d->hostname, strlen(d->hostname)) < 0)
		warn_add(&d->warnings, "host name \"%s\": %s", d->hostname, strerror(errno));
	if (d->conf.user && !getpwnam(d->conf.user))
		warn_add(&d->warnings, "/etc/wsl.conf: user.default: there is no user '%.64s'",
			d->conf.user);
	files_generate(root, &d->conf, &host, &d->warnings);
	share_link_helper();
	if (spec->host_files)
		share_automount(&d->conf, spec->uid, &d->warnings);
	d->systemd = d->conf.systemd && systemd_present(&d->warnings);
}

/* In pid 1: a child goes on as init while pid 1 becomes systemd, which finds the top of the cgroup tree free. */
static void fork_systemd(struct dinit *d, struct err *e)
{
	int p[2], r;
	char c;

	systemd_prepare(&d->conf, &d->warnings);
	if (pipe2(p, O_CLOEXEC) < 0)
		fail(d, -errno, "make a pipe for systemd");
	pid_t pid = fork();
	if (pid < 0)
		fail(d, -errno, "make a process for systemd");
	if (pid == 0) {
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		r = cgroup_layout(&d->cgroups, e);
		if (r < 0)
			fail(d, r, e->text);
		close(p[0]);
		close(p[1]);
		return;
	}
	close(p[1]);
	if (read(p[0], &c, 1) != 0)
		fail(d, -EIO, "wait for init to be in place");
	r = systemd_exec();
	err_sys(e, r, "execute /sbin/init");
	fail(d, r, e->text);
}

/* However many programs want to run, this one comes to its turn; what it starts is as programs usually are. */
static void go_first(const struct dinit *d)
{
	const struct sched_param none = {0};

	if (syscall(SYS_sched_setscheduler, 0, SCHED_OTHER | SCHED_RESET_ON_FORK, &none) < 0 ||
		setpriority(PRIO_PROCESS, 0, -20) < 0)
		log_warn(d->spec->name, "go before the programs: %s", strerror(errno));
}

static int serve(struct dinit *d)
{
	struct session_config sc = {.distro_name = d->spec->name,
		.default_uid = d->spec->uid,
		.default_user = d->conf.user,
		.started = started_hook,
		.files = files_hook,
		.env = env_hook,
		.place = &d->place,
		.ctx = d};
	int oobe[2];
	int r = sc.listen_fd = listen_vsock(128, &d->port);

	if (r >= 0)
		r = loop_new(&d->loop);
	sc.loop = d->loop;
	if (r == 0)
		r = loop_signal(d->loop, SIGCHLD, on_chld, d, &d->chld);
	if (r == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, oobe) < 0)
		r = -errno;
	if (r < 0)
		return r;
	d->login = (struct login){.spec = d->spec,
		.conf = &d->conf,
		.hostname = d->hostname,
		.systemd = d->systemd && systemd_is_init(),
		.uid = d->spec->uid,
		.result = oobe[1]};
	d->place = (struct exec_place){.cgroup = d->cgroups.sessions,
		.umask = (mode_t)d->conf.umask,
		.prepare = login_prepare,
		.ctx = &d->login};
	r = loop_io(d->loop, oobe[0], EPOLLIN, on_oobe, d, &d->from_oobe);
	if (r == 0)
		r = session_server_new(&d->sessions, &sc);
	if (r == 0)
		r = loop_timer(d->loop, on_deadline, d, &d->deadline);
	if (r == 0)
		r = loop_timer(d->loop, on_look, d, &d->look);
	if (r == 0)
		r = loop_io(d->loop, d->super, EPOLLIN, on_super, d, &d->from_super);
	return r;
}

/* What its wsl.conf says, whose warnings come when it is read for all else. */
static int isolate_network(struct dinit *d, const char *path, struct err *e)
{
	cleanup_close int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct warnings quiet = {0};
	struct wsl_conf conf;
	int r = 0;

	wsl_conf_read(root, &conf, &quiet);
	if (conf.isolation)
		r = net_isolate("eth0", &d->spec->own_net, e);
	wsl_conf_done(&conf);
	return r < 0 ? err_wrap(e, r, "network.isolation in /etc/wsl.conf") : 0;
}

void dinit_main(const struct distro_spec *spec, const char *root, int super)
{
	static struct dinit d;
	struct err e = {0};
	int r;

	d.spec = spec;
	d.super = super;
	umask(0);
	prctl(PR_SET_NAME, "wslx-init");
	r = cgroup_enter(spec->id, &e);
	if (r == 0)
		r = isolate_network(
			&d, root, &e); /* before /sys, which shows the devices of a namespace */
	if (r == 0)
		r = view_make(root, &e);
	if (r < 0)
		fail(&d, r, e.text);
	configure(&d);
	if (d.systemd) {
		fork_systemd(&d, &e);
	} else {
		r = cgroup_layout(&d.cgroups, &e);
		if (r < 0)
			fail(&d, r, e.text);
		cgroup_delegate("/sys/fs/cgroup");
		if (d.conf.mount_fstab)
			boot_mount_fstab(MOUNT_MS * spec->slow, &d.warnings);
	}
	r = serve(&d);
	umask(022);
	go_first(&d);
	if (r == 0)
		start_interop(&d);
	if (r == 0 && d.login.systemd)
		r = systemd_wait_new(&d.starting, d.loop, init_timeout(&d), systemd_up, &d);
	if (r < 0) {
		err_wrap(&e, r, "serve sessions");
		fail(&d, r, e.text);
	}
	if (!d.starting)
		go(&d);
	loop_run(d.loop);
	_exit(1);
}
