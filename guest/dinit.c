/* SPDX-License-Identifier: MIT */
/*
 * Pid 1 of a distribution: makes its view of the system (root, /proc, /dev, cgroup), serves sessions on a vsock port of
 * its own, reaps, tells when the last process has gone, and stops everything when asked.
 */
#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
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
#include <sys/wait.h>
#include <unistd.h>
#include "guest/session.h"
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/conf/conf.h"

struct dinit {
	const struct distro_spec *spec;
	struct loop *loop;
	int super;
	struct session_server *sessions;
	struct loop_src *from_super, *chld, *deadline;
	bool busy, stopping;
	struct wsl_conf {
		char *user, *hostname; /* NULL: not said */
	} conf;
};

static uint8_t buf[4096];

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

/* A cgroup of its own, seen as the root from inside. */
static int enter_cgroup(const struct distro_spec *spec, struct err *e)
{
	char path[160], procs[192];

	snprintf(path, sizeof(path), "/sys/fs/cgroup/distro-%s", spec->id);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return err_sys(e, -errno, "create %s", path);
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", path);
	int r = write_text(procs, "0");
	if (r < 0)
		return err_sys(e, r, "enter %s", path);
	if (unshare(CLONE_NEWCGROUP) < 0)
		return err_sys(e, -errno, "make a cgroup namespace");
	return 0;
}

/*
 * /dev is a small file system of its own with the devices every program expects; the VM's other devices, its
 * neighbours' disks among them, have no name in it.
 */
static int make_dev(const char *root, struct err *e)
{
	static const struct {
		const char *name;
		unsigned maj, min;
		mode_t mode;
	} nodes[] = {{"null", 1, 3, 0666}, {"zero", 1, 5, 0666}, {"full", 1, 7, 0666},
		{"random", 1, 8, 0666}, {"urandom", 1, 9, 0666}, {"tty", 5, 0, 0666},
		{"kmsg", 1, 11, 0644}, {"fuse", 10, 229, 0666}, {"net/tun", 10, 200, 0666}};
	static const char *const links[][2] = {{"pts/ptmx", "ptmx"}, {"/proc/self/fd", "fd"},
		{"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
		{"/proc/self/fd/2", "stderr"}, {"/proc/kcore", "core"}};
	char path[256];
	int r;

	snprintf(path, sizeof(path), "%s/dev", root);
	r = mount_at("dev", path, "tmpfs", MS_NOSUID, "mode=755,size=1m", e);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/dev/net", root);
	mkdir(path, 0755);
	for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
		snprintf(path, sizeof(path), "%s/dev/%s", root, nodes[i].name);
		if (mknod(path, S_IFCHR | nodes[i].mode, makedev(nodes[i].maj, nodes[i].min)) < 0)
			return err_sys(e, -errno, "create %s", path);
	}
	for (size_t i = 0; i < ARRAY_LEN(links); i++) {
		snprintf(path, sizeof(path), "%s/dev/%s", root, links[i][1]);
		if (symlink(links[i][0], path) < 0)
			return err_sys(e, -errno, "create %s", path);
	}
	snprintf(path, sizeof(path), "%s/dev/pts", root);
	r = mount_at("devpts", path, "devpts", MS_NOSUID | MS_NOEXEC,
		"newinstance,gid=5,mode=620,ptmxmode=666", e);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/dev/shm", root);
	r = mount_at("shm", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777", e);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/dev/mqueue", root);
	if (mount_at("mqueue", path, "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, NULL) < 0)
		rmdir(path); /* a kernel without POSIX queues */
	return 0;
}

static int make_view(const struct distro_spec *spec, const char *root, struct err *e)
{
	static const struct {
		const char *type, *at, *data;
		unsigned long flags;
	} m[] = {{"proc", "proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"sysfs", "sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"cgroup2", "sys/fs/cgroup", "nsdelegate", MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"tmpfs", "run", "mode=755", MS_NOSUID | MS_NODEV}};
	char path[128];
	int r;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(e, -errno, "make a mount namespace");
	for (size_t i = 0; i < ARRAY_LEN(m); i++) {
		snprintf(path, sizeof(path), "%s/%s", root, m[i].at);
		r = mount_at(m[i].type, path, m[i].type, m[i].flags, m[i].data, e);
		if (r < 0)
			return r;
	}
	snprintf(path, sizeof(path), "%s/run/lock", root);
	mkdir(path, 01777);
	chmod(path, 01777);
	r = make_dev(root, e);
	if (r < 0)
		return r;
	/* pivot_root(".", "."): the old root ends up under the new one, from where it is detached (pivot_root(2)). */
	if (chdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
		umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return err_sys(e, -errno, "change to the distribution's root");
	if (sethostname(spec->hostname, strlen(spec->hostname)) < 0)
		return err_sys(e, -errno, "set the host name");
	return 0;
}

static void conf_warn(void *ctx, unsigned line, const char *text)
{
	const struct distro_spec *spec = ctx;

	log_warn(spec->name, "/etc/wsl.conf:%u: %s", line, text);
}

/* What /etc/wsl.conf of the distribution says, as far as this init has a use for it. */
static void read_conf(struct dinit *d)
{
	static const struct conf_key keys[] = {
		{"user", "default", CONF_STR, offsetof(struct wsl_conf, user)},
		{"network", "hostname", CONF_STR, offsetof(struct wsl_conf, hostname)}};
	union {
		const struct distro_spec *in;
		void *out;
	} spec = {d->spec};
	cleanup_free char *text = NULL;
	struct stat st;
	size_t len;

	if (stat("/etc/wsl.conf", &st) < 0 || !S_ISREG(st.st_mode) ||
		io_read_file("/etc/wsl.conf", CONF_MAX_FILE, &text, &len) < 0)
		return;
	conf_apply(text, len, keys, ARRAY_LEN(keys), &d->conf, conf_warn, spec.out);
	if (d->conf.hostname && sethostname(d->conf.hostname, strlen(d->conf.hostname)) < 0)
		log_warn(d->spec->name, "host name \"%s\": %s", d->conf.hostname, strerror(errno));
}

/* A vsock port of the kernel's choosing. */
static int listen_vsock(uint32_t *ret_port)
{
	struct sockaddr_vm sa = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = VMADDR_PORT_ANY};
	cleanup_close int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(sa);

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 128) < 0 ||
		getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		return -errno;
	*ret_port = sa.svm_port;
	return take_fd(fd);
}

static void tell_busy(struct dinit *d, bool busy)
{
	struct wire_w w;

	if (d->busy == busy || d->stopping)
		return;
	d->busy = busy;
	wire_begin(&w, buf, sizeof(buf), WSLX_BUSY, 0, 0, 0);
	wire_str(&w, WSLX_A_DISTRO, d->spec->id);
	wire_u32(&w, WSLX_A_COUNT, busy);
	pair_send(d->super, &w);
}

/* Every process of the namespace descends from us and is our child in the end: no children means nobody lives. */
static void reap(struct dinit *d)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		session_child_ended(d->sessions, pid, status);
	if (pid < 0 && errno == ECHILD) {
		if (d->stopping) {
			sync();
			_exit(0);
		}
		tell_busy(d, false);
	}
}

static void on_chld(void *ctx, int signo)
{
	reap(ctx);
}

/* Runs after each batch of work too: a session may have started a child since. */
static void check_busy(struct dinit *d)
{
	siginfo_t si;

	if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) == 0)
		tell_busy(d, true);
}

static void on_deadline(void *ctx)
{
	kill(-1, SIGKILL);
}

static void on_super(void *ctx, int fd, uint32_t revents)
{
	struct dinit *d = ctx;
	struct wire_msg m;

	if (pair_recv(fd, buf, sizeof(buf), &m) < 0)
		_exit(1); /* takes the namespace with it */
	if (m.type != WSLX_STOP || d->stopping)
		return;
	d->stopping = true;
	kill(-1, SIGTERM);
	kill(-1, SIGHUP); /* interactive shells ignore SIGTERM */
	kill(-1, SIGCONT);
	loop_timer_arm(
		d->deadline, loop_now() + wire_get_u32(&m, WSLX_A_TIMEOUT_MS, 3000) * 1000000ull);
	reap(d);
}

static void started_hook(void *ctx)
{
	check_busy(ctx);
}

void dinit_main(const struct distro_spec *spec, const char *root, int super)
{
	struct dinit d = {.spec = spec, .super = super};
	struct session_config sc = {.distro_name = spec->name,
		.default_uid = spec->uid,
		.default_user = NULL,
		.started = started_hook,
		.ctx = &d};
	struct err e = {0};
	struct wire_w w;
	uint32_t port = 0;
	int r;

	umask(0);
	prctl(PR_SET_NAME, "wslx-init");
	r = enter_cgroup(spec, &e);
	if (r == 0)
		r = make_view(spec, root, &e);
	if (r < 0)
		fail(&d, r, e.text);
	read_conf(&d);
	sc.default_user = d.conf.user;
	r = sc.listen_fd = listen_vsock(&port);
	if (r >= 0)
		r = loop_new(&d.loop);
	sc.loop = d.loop;
	if (r == 0)
		r = loop_signal(d.loop, SIGCHLD, on_chld, &d, &d.chld);
	if (r == 0)
		r = session_server_new(&d.sessions, &sc);
	if (r == 0)
		r = loop_timer(d.loop, on_deadline, &d, &d.deadline);
	if (r == 0)
		r = loop_io(d.loop, super, EPOLLIN, on_super, &d, &d.from_super);
	if (r < 0) {
		err_wrap(&e, r, "serve sessions");
		fail(&d, r, e.text);
	}
	umask(022);
	wire_begin(&w, buf, sizeof(buf), WSLX_START, WSLX_MSG_REPLY, spec->request_id, 0);
	wire_str(&w, WSLX_A_DISTRO, spec->id);
	wire_u32(&w, WSLX_A_PORT, port);
	pair_send(super, &w);
	loop_run(d.loop);
	_exit(1);
}
