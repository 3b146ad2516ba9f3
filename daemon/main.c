/* SPDX-License-Identifier: MIT */
/*
 * wslxd: the service behind wslx, one a user. Started by wslx when needed, by systemd's socket unit,
 * or by hand. Whoever holds the lock in the data folder is the one.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "daemon/distro.h"
#include "daemon/fswork.h"
#include "daemon/machine.h"
#include "daemon/service.h"
#include "daemon/volume.h"
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/notify.h"
#include "lib/base/xdg.h"

static const char usage[] =
	"usage: wslxd [OPTION...]\n"
	"\n"
	"The service behind wslx: keeps the list of distributions, runs their virtual machine.\n"
	"wslx starts it when needed.\n"
	"\n"
	"  --ready-fd N    tell on descriptor N when clients can connect, or why not\n"
	"  -v, --verbose   debug messages\n"
	"  --version, --help\n";

struct options {
	int ready_fd;
	bool verbose;
};

/* Whoever started us waits for one line: "ok", "busy: " and who is, or the error. */
static void tell_starter(const struct options *o, const char *line)
{
	char text[1200];
	int n = snprintf(text, sizeof(text), "%s\n", line);

	if (o->ready_fd < 0)
		return;
	if (write(o->ready_fd, text, MIN((size_t)n, sizeof(text) - 1)) < 0)
		log_debug("main", "nobody waits for us");
	close(o->ready_fd);
}

/* 0, or -EBUSY with the other one's pid. */
static int take_lock(const char *dir, int *ret_pid)
{
	char path[PATH_MAX], text[32] = "";
	cleanup_close int fd = -EBADF;
	int n;

	*ret_pid = 0;
	snprintf(path, sizeof(path), "%s/wslxd.lock", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return -errno;
		if (pread(fd, text, sizeof(text) - 1, 0) > 0)
			*ret_pid = atoi(text);
		return -EBUSY;
	}
	n = snprintf(text, sizeof(text), "%d\n", getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n)
		return -errno;
	(void)take_fd(fd); /* held until we end */
	return 0;
}

static int lock_all(const struct service *s, struct err *e)
{
	const char *dirs[] = {s->data_dir, s->runtime_dir};

	for (unsigned i = 0; i < ARRAY_LEN(dirs); i++) {
		int pid, r = take_lock(dirs[i], &pid);

		if (r == -EBUSY)
			return err_set(
				e, r, "another wslxd, process %d, serves %s already", pid, dirs[i]);
		if (r < 0)
			return err_sys(e, r, "lock %s", dirs[i]);
	}
	return 0;
}

/* The socket systemd made for us (sd_listen_fds(3)), or our own. */
static int listen_socket(const struct service *s, struct err *e)
{
	const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");
	char path[PATH_MAX];
	int fd;

	if (pid && n && atoi(pid) == getpid() && atoi(n) >= 1) {
		unsetenv("LISTEN_PID");
		unsetenv("LISTEN_FDS");
		fcntl(3, F_SETFD, FD_CLOEXEC);
		return 3;
	}
	snprintf(path, sizeof(path), "%s/%s", s->runtime_dir, XDG_SOCKET_NAME);
	fd = io_unix_listen(path, 128);
	return fd < 0 ? err_sys(e, fd, "listen on %s", path) : fd;
}

static void on_signal(void *ctx, int signo)
{
	struct service *s = ctx;

	log_info("main", "%s: ending; the virtual machine stays", strsignal(signo));
	loop_quit(s->loop, 0);
}

static void more_descriptors(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
}

static int set_up(struct service *s, struct err *e)
{
	cleanup_close int fd = -EBADF;
	struct settings set;
	int r = xdg_runtime(s->runtime_dir, sizeof(s->runtime_dir), e);

	if (r == 0)
		r = xdg_data(s->data_dir, sizeof(s->data_dir), e);
	if (r == 0)
		r = xdg_config(s->config, sizeof(s->config), e);
	if (r == 0)
		r = lock_all(s, e);
	if (r == 0)
		r = registry_open(s->data_dir, &s->reg, e);
	if (r == 0)
		r = settings_load(s->config, &set, e);
	if (r < 0)
		return r;
	s->service_idle_ms = set.service_idle_ms;
	settings_done(&set);
	registry_recover(s->reg);
	r = loop_new(&s->loop);
	if (r == 0)
		r = idle_init(s);
	if (r < 0)
		return err_sys(e, r, "create the event loop");
	r = volumes_open(s, e);
	if (r < 0)
		return r;
	machine_adopt_all(s);
	fd = listen_socket(s, e);
	if (fd < 0)
		return fd;
	r = ctl_server_new(s->loop, fd, service_methods, service_nmethods, s, &s->srv);
	if (r < 0)
		return err_sys(e, r, "serve clients");
	(void)take_fd(fd);
	ctl_server_on_change(s->srv, idle_check, s);
	return 0;
}

static int parse(int argc, char **argv, struct options *o)
{
	static const struct option longopts[] = {{"ready-fd", required_argument, NULL, 'r'},
		{"verbose", no_argument, NULL, 'v'}, {"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'}, {0}};
	int c;

	*o = (struct options){.ready_fd = -1};
	while ((c = getopt_long(argc, argv, "vh", longopts, NULL)) != -1) {
		switch (c) {
		case 'r': o->ready_fd = atoi(optarg); break;
		case 'v': o->verbose = true; break;
		case 'V': printf("wslxd %s\n", WSLX_VERSION); exit(0);
		case 'h': fputs(usage, stdout); exit(0);
		default: return -EINVAL;
		}
	}
	if (optind < argc)
		fprintf(stderr, "wslxd: unexpected argument '%s'\n", argv[optind]);
	return optind < argc ? -EINVAL : 0;
}

int main(int argc, char **argv)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
	struct loop_src *src[ARRAY_LEN(signals)];
	static struct service s;
	struct options o;
	struct err e = {0};
	int r;

	log_init("wslxd", LOG_LVL_INFO);
	if (parse(argc, argv, &o) < 0)
		return 2;
	if (o.verbose)
		log_set_level(LOG_LVL_DEBUG);
	if (o.ready_fd >= 0)
		fcntl(o.ready_fd, F_SETFD, FD_CLOEXEC);
	umask(077);
	signal(SIGPIPE, SIG_IGN);
	more_descriptors();
	r = set_up(&s, &e);
	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(signals); i++)
		r = loop_signal(s.loop, signals[i], on_signal, &s, &src[i]);
	if (r < 0) {
		/* Two clients that start us at once are no news: the second one's try is quiet. */
		if (o.ready_fd < 0 || r != -EBUSY)
			log_err(NULL, "%s", e.code ? e.text : strerror(-r));
		if (r == -EBUSY)
			err_wrap(&e, r, "busy");
		tell_starter(&o, e.text);
		return 1;
	}
	tell_starter(&o, "ok");
	notify_state("READY=1");
	distro_autostart(&s);
	idle_check(&s);
	r = loop_run(s.loop);
	notify_state("STOPPING=1");
	for (unsigned i = 0; i < ARRAY_LEN(src); i++)
		loop_src_free(src[i]);
	ctl_server_free(s.srv);
	fswork_end_all(&s);
	machine_free_all(&s);
	volumes_free(&s);
	registry_free(s.reg);
	return r < 0;
}
