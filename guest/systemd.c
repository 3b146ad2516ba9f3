/* SPDX-License-Identifier: MIT */
#include "guest/systemd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "guest/boot.h"
#include "guest/guest.h"
#include "lib/base/cleanup.h"
#include "lib/session/exec.h"

#define UNITS "/run/systemd/system"

/* Numbered by the C library systemd is linked with, glibc: musl's own SIGRTMIN is another. */
enum { GLIBC_SIGRTMIN = 34, SIG_POWEROFF = GLIBC_SIGRTMIN + 4 };
enum { POLL_MS = 50, RETRY_MS = 250 };

bool systemd_present(struct warnings *w)
{
	struct stat st;

	if (stat("/sbin/init", &st) == 0 && S_ISREG(st.st_mode) && access("/sbin/init", X_OK) == 0)
		return true;
	warn_add(w,
		"/etc/wsl.conf: boot.systemd: the distribution has no /sbin/init that can be executed; "
		"it runs without");
	return false;
}

bool systemd_is_init(void)
{
	char path[PATH_MAX];
	const char *base = realpath("/sbin/init", path) ? strrchr(path, '/') : NULL;

	return base && !strcmp(base, "/systemd");
}

/* Waiting for a network and devices that never come, what is the virtual machine's and not the distribution's. */
static const char *const masked[] = {"systemd-networkd-wait-online.service",
	"NetworkManager-wait-online.service", "console-getty.service", "systemd-udevd.service",
	"systemd-udevd-control.socket", "systemd-udevd-kernel.socket",
	"systemd-udev-trigger.service", "systemd-udev-settle.service",
	"systemd-hwdb-update.service", "systemd-modules-load.service", "modprobe@.service",
	"sys-kernel-config.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount",
	"systemd-timesyncd.service"};

static const char *const binfmt[] = {"systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount",
	"proc-sys-fs-binfmt_misc.mount"};

/*
 * A PAM session that lasts: logind knows the user, and the user's manager runs. RuntimeDirectory says so; the program is
 * none.
 */
static const char login_unit[] =
	"[Unit]\n"
	"Description=Session of user %i in wslx\n"
	"After=systemd-user-sessions.service systemd-logind.service dbus.socket\n"
	"[Service]\n"
	"Type=simple\n"
	"User=%i\n"
	"PAMName=login\n"
	"Environment=XDG_SESSION_CLASS=user XDG_SESSION_TYPE=unspecified\n"
	"WorkingDirectory=/\n"
	"RuntimeDirectory=wslx-login-%i\n"
	"ExecStart=/bin/sleep infinity\n";

static void mask(const char *const *units, size_t n, struct warnings *w)
{
	char path[160];

	for (size_t i = 0; i < n; i++) {
		snprintf(path, sizeof(path), UNITS "/%s", units[i]);
		if (symlink("/dev/null", path) < 0)
			warn_add(w, "%s: %s", path, strerror(errno));
	}
}

void systemd_prepare(const struct wsl_conf *conf, struct warnings *w)
{
	struct err e = {0};
	int fd;

	mkdir("/run/systemd", 0755);
	mkdir(UNITS, 0755);
	mask(masked, ARRAY_LEN(masked), w);
	if (conf->protect_binfmt)
		mask(binfmt, ARRAY_LEN(binfmt), w);
	fd = open(UNITS "/wslx-login@.service", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, login_unit, sizeof(login_unit) - 1) < 0)
		warn_add(w, UNITS "/wslx-login@.service: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
	/* A container's is: with it writable systemd would look for devices, and wait for some. */
	if (view_protect_sys(&e) < 0)
		warn_add(w, "%s", e.text);
}

int systemd_exec(void)
{
	static const char *const argv[] = {"/sbin/init", NULL};
	static const char *const env[] = {"container=wslx", "container_host_id=linux",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=dumb",
		NULL};
	union {
		const char *const *in;
		char *const *out;
	} a = {argv}, e = {env};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(022);
	execve(argv[0], a.out, e.out);
	return -errno;
}

struct systemd_wait {
	struct loop *loop;
	struct loop_src *timer, *io;
	uint64_t end;
	int out;
	pid_t pid;
	bool old; /* this systemctl cannot wait */
	char text[32];
	size_t len;
	void (*fn)(void *ctx, const char *state);
	void *ctx;
};

static void finish(struct systemd_wait *w, const char *state)
{
	void (*fn)(void *, const char *) = w->fn;

	w->fn = NULL;
	loop_timer_arm(w->timer, 0);
	if (fn)
		fn(w->ctx, state);
}

static void again(struct systemd_wait *w, unsigned ms)
{
	uint64_t at = loop_now() + ms * 1000000ull;

	loop_timer_arm(w->timer, MIN(at, w->end));
}

static void on_output(void *ctx, int fd, uint32_t revents)
{
	struct systemd_wait *w = ctx;
	ssize_t n = read(fd, w->text + w->len, sizeof(w->text) - 1 - w->len);

	if (n > 0)
		w->len += (size_t)n;
	else
		w->io = loop_src_free(w->io);
}

/* "systemctl is-system-running --wait" says nothing before the end of the start. */
static int ask(struct systemd_wait *w)
{
	const char *argv[] = {
		"/usr/bin/systemctl", "is-system-running", w->old ? NULL : "--wait", NULL};
	int p[2], r;

	if (access(argv[0], X_OK) < 0)
		argv[0] = "/bin/systemctl";
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	w->out = p[0];
	w->len = 0;
	w->pid = boot_start_to(argv, -1, p[1]);
	close(p[1]);
	r = w->pid < 0 ? w->pid : loop_io(w->loop, w->out, EPOLLIN, on_output, w, &w->io);
	return r < 0 ? r : 0;
}

static void on_time(void *ctx)
{
	struct systemd_wait *w = ctx;

	if (loop_now() >= w->end)
		finish(w, NULL);
	else if (w->pid > 0)
		loop_timer_arm(w->timer, w->end);
	else if (access("/run/systemd/private", F_OK) < 0 || ask(w) < 0)
		again(w, POLL_MS);
	else
		loop_timer_arm(w->timer, w->end);
}

void systemd_wait_child(struct systemd_wait *w, pid_t pid)
{
	if (!w || !w->fn || w->pid != pid)
		return;
	w->pid = 0;
	/* What it wrote is all there; the loop may not have come to it. */
	if (w->io)
		on_output(w, w->out, 0);
	w->io = loop_src_free(w->io);
	close(w->out);
	w->out = -EBADF;
	w->text[w->len] = '\0';
	w->text[strcspn(w->text, "\n")] = '\0';
	if (!strcmp(w->text, "running") || !strcmp(w->text, "degraded") ||
		!strcmp(w->text, "maintenance")) {
		finish(w, w->text);
		return;
	}
	/* Not reachable yet, or of a version without --wait. */
	w->old = true;
	again(w, RETRY_MS);
}

int systemd_wait_new(struct systemd_wait **ret, struct loop *l, unsigned timeout_ms,
	void (*fn)(void *ctx, const char *state), void *ctx)
{
	struct systemd_wait *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	*w = (struct systemd_wait){.loop = l,
		.end = loop_now() + timeout_ms * 1000000ull,
		.out = -EBADF,
		.fn = fn,
		.ctx = ctx};
	r = loop_timer(l, on_time, w, &w->timer);
	if (r < 0) {
		free(w);
		return r;
	}
	again(w, POLL_MS);
	*ret = w;
	return 0;
}

struct systemd_wait *systemd_wait_free(struct systemd_wait *w)
{
	if (!w)
		return NULL;
	if (w->pid > 0)
		kill(w->pid, SIGKILL);
	loop_src_free(w->io);
	loop_src_free(w->timer);
	if (w->out >= 0)
		close(w->out);
	free(w);
	return NULL;
}

void systemd_power_off(void)
{
	kill(1, SIG_POWEROFF);
}

/* Starting the unit has only begun the login: its process opens the PAM session, which starts the user's manager. */
static bool wait_for_manager(const char *unit_dir, const char *manager, unsigned timeout_ms)
{
	uint64_t start = loop_now(), begun = start + timeout_ms * 100000ull;

	while (access(manager, F_OK) < 0) {
		uint64_t now = loop_now();

		if (now - start > timeout_ms * 1000000ull ||
			(now > begun && access(unit_dir, F_OK) < 0))
			return false;
		nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000 / 2}, NULL);
	}
	return true;
}

void systemd_login(uid_t uid, unsigned timeout_ms)
{
	char up[64], manager[64], failed[64], unit[64], line[160];
	const char *argv[] = {"/usr/bin/systemctl", "start", unit, NULL};
	cleanup_close int log_fd = -EBADF, failed_fd = -EBADF;
	int r;

	snprintf(up, sizeof(up), "/run/wslx-login-%u", (unsigned)uid);
	snprintf(manager, sizeof(manager), "/run/user/%u/systemd/private", (unsigned)uid);
	snprintf(failed, sizeof(failed), "/run/wslx/no-login-%u", (unsigned)uid);
	if ((access(up, F_OK) == 0 && access(manager, F_OK) == 0) || access(failed, F_OK) == 0)
		return;
	/* Without logind a login is nothing. */
	if (access("/run/systemd/seats", F_OK) < 0)
		return;
	snprintf(unit, sizeof(unit), "wslx-login@%u.service", (unsigned)uid);
	if (access(argv[0], X_OK) < 0)
		argv[0] = "/bin/systemctl";
	r = boot_run(argv, timeout_ms, line, sizeof(line));
	if (r == 0 && wait_for_manager(up, manager, timeout_ms))
		return;
	/* Sessions work without; the next one does not try again. Standard error is the session's already. */
	log_fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (log_fd >= 0)
		dprintf(log_fd, "<4>wslx-init: user %u could not be logged in: %s\n", (unsigned)uid,
			r < 0 ? strerror(-r) : line);
	failed_fd = open(failed, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
}
