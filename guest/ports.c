/* SPDX-License-Identifier: MIT */
#include "guest/ports.h"

#include <errno.h>
#include <fcntl.h>
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
#include <unistd.h>
#include "guest/guest.h"
#include "guest/shell.h"
#include "lib/base/cleanup.h"
#include "lib/base/log.h"

/* --- the process --- */

enum { MAX_NETWORKS = 64, BACKLOG = 1024 };

static struct {
	int init;
	int own; /* the machine's network namespace */
	struct {
		char id[40];
		int fd; /* 0: free */
	} net[MAX_NETWORKS];
	int in; /* the one that we are in */
	struct listener now[LISTENERS_MAX];
	unsigned n;
	bool told;
} tracker;

static void tell(void)
{
	static uint8_t buf[LISTENERS_MAX * (LISTENER_TEXT + 8) + 64];
	char text[LISTENER_TEXT];
	struct wire_w w;

	wire_begin(&w, buf, sizeof(buf), WSLX_LISTENERS, 0, 0, 0);
	for (unsigned i = 0; i < tracker.n; i++) {
		listener_text(&tracker.now[i], text, sizeof(text));
		wire_str(&w, WSLX_A_LISTENER, text);
	}
	pair_send(tracker.init, &w);
	tracker.told = true;
}

void ports_enter(const char *distro)
{
	int fd = tracker.own;

	for (unsigned i = 0; *distro && i < MAX_NETWORKS; i++)
		if (tracker.net[i].fd > 0 && !strcmp(tracker.net[i].id, distro))
			fd = tracker.net[i].fd;
	if (fd == tracker.in)
		return;
	if (setns(fd, CLONE_NEWNET) < 0)
		log_limited("net", "enter a distribution's network: %s", strerror(errno));
	else
		tracker.in = fd;
}

static unsigned dump(const char *distro, struct listener *list, unsigned n)
{
	int r = listeners_dump(distro, list + n, LISTENERS_MAX - n);

	if (r < 0)
		log_limited("net", "who listens: %s", strerror(-r));
	return n + (unsigned)MAX(r, 0);
}

static void look(void *ctx)
{
	static struct listener list[LISTENERS_MAX];
	unsigned n = dump("", list, 0);

	for (unsigned i = 0; i < MAX_NETWORKS; i++) {
		if (tracker.net[i].fd <= 0)
			continue;
		ports_enter(tracker.net[i].id);
		n = dump(tracker.net[i].id, list, n);
		ports_enter("");
	}
	udp_looked();
	if (tracker.told && n == tracker.n && !memcmp(list, tracker.now, n * sizeof(*list)))
		return;
	memcpy(tracker.now, list, n * sizeof(*list));
	tracker.n = n;
	tell();
}

/* The network of a supervisor's child; 0: it is the machine's, or cannot be found. */
static int network_of(pid_t supervisor)
{
	cleanup_close int fd = -EBADF;
	struct stat own, its;
	char path[80];
	pid_t init;

	if (distro_init_pid(supervisor, &init) < 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)init);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &its) < 0 || fstat(tracker.own, &own) < 0 ||
		its.st_ino == own.st_ino)
		return 0;
	return take_fd(fd);
}

static void distro_changed(const char *id, pid_t supervisor)
{
	int free_at = -1;

	for (int i = MAX_NETWORKS - 1; i >= 0; i--) {
		if (tracker.net[i].fd > 0 && !strcmp(tracker.net[i].id, id)) {
			close(tracker.net[i].fd);
			tracker.net[i].fd = 0;
		}
		if (tracker.net[i].fd <= 0)
			free_at = i;
	}
	if (!supervisor || free_at < 0 || strlen(id) >= sizeof(tracker.net[0].id))
		return;
	tracker.net[free_at].fd = network_of(supervisor);
	strcpy(tracker.net[free_at].id, id);
}

/* A distribution has come or gone; or the host is a new one, and knows of nothing. */
static void on_init(void *ctx, int fd, uint32_t revents)
{
	static uint8_t buf[512];
	struct wire_msg m;
	char id[65];

	if (pair_recv(fd, buf, sizeof(buf), &m) < 0)
		_exit(0);
	if (m.type == WSLX_START && wire_get_str(&m, WSLX_A_DISTRO, id, sizeof(id)) > 0)
		distro_changed(id, (pid_t)wire_get_u32(&m, WSLX_A_PID, 0));
	else
		tracker.told = false;
	look(NULL);
}

static void NORETURN run(int init, int listen_fd)
{
	enum { MAX_FD = 1024, MORE_FD = 65536 };

	const struct rlimit more = {MORE_FD, MORE_FD};
	struct listen_events *events;
	struct loop_src *src;
	struct loop *l;
	int r;

	prctl(PR_SET_NAME, "wslx-ports");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Two for a connection. */
	setrlimit(RLIMIT_NOFILE, &more);
	/* What init has open has to end when init closes it. */
	for (int fd = 3; fd < MAX_FD; fd++)
		if (fd != init && fd != listen_fd)
			close(fd);
	/* tracefs is for this process alone. */
	r = unshare(CLONE_NEWNS) < 0 ? -errno : loop_new(&l);
	tracker.init = init;
	tracker.own = tracker.in = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (r == 0 && tracker.own < 0)
		r = -errno;
	if (r == 0)
		r = loop_io(l, init, EPOLLIN, on_init, NULL, &src);
	if (r == 0)
		r = forward_serve(l, listen_fd);
	if (r == 0)
		r = listen_events_new(&events, l, look, NULL);
	if (r == 0) {
		look(NULL);
		r = loop_run(l);
	}
	log_err("net", "forwarded ports: %s", strerror(-r));
	_exit(1);
}

/* --- in init --- */

enum { AGAIN_NS = 1000000000 };

/* The listener is init's, so that what the host asks for while there is no process waits for the next one. */
static struct {
	int pair, listener;
	uint32_t port;
	struct loop *l;
	struct loop_src *src, *again;
	void (*send)(struct wire_w *w);
	void (*began)(void);
} proc = {.pair = -1, .listener = -1};

static void tell_process(const char *id, pid_t supervisor)
{
	uint8_t buf[160];
	struct wire_w w;

	if (proc.pair < 0)
		return;
	wire_begin(&w, buf, sizeof(buf), id ? WSLX_START : WSLX_LISTENERS, 0, 0, 0);
	if (id)
		wire_str(&w, WSLX_A_DISTRO, id);
	wire_u32(&w, WSLX_A_PID, (uint32_t)supervisor);
	pair_send(proc.pair, &w);
}

void ports_distro(const char *id, pid_t supervisor)
{
	tell_process(id, supervisor);
}

static void on_process(void *ctx, int fd, uint32_t revents)
{
	static uint8_t buf[WSLX_MSG_MAX];
	struct wire_msg m;
	struct wire_w w;

	if (pair_recv(fd, buf, sizeof(buf), &m) < 0) {
		log_warn("net", "what forwards ports has ended; another one begins");
		proc.src = loop_src_free(proc.src);
		close(take_fd(proc.pair));
		loop_timer_arm(proc.again, loop_now() + AGAIN_NS);
		return;
	}
	w = (struct wire_w){.buf = buf, .cap = sizeof(buf), .len = sizeof(struct wslx_msg) + m.len};
	proc.send(&w);
}

static int begin(void)
{
	int pair[2], r = 0;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		run(pair[1], proc.listener);
	}
	if (pid < 0)
		r = -errno;
	close(pair[1]);
	proc.pair = pair[0];
	if (r == 0)
		r = loop_io(proc.l, proc.pair, EPOLLIN, on_process, NULL, &proc.src);
	if (r < 0)
		close(take_fd(proc.pair));
	else
		proc.began();
	return r;
}

static void begin_again(void *ctx)
{
	int r = begin();

	if (r < 0) {
		log_limited("net", "forwarded ports: %s", strerror(-r));
		loop_timer_arm(proc.again, loop_now() + AGAIN_NS);
	}
}

int ports_start(
	struct loop *l, void (*send)(struct wire_w *w), void (*began)(void), uint32_t *ret_port)
{
	int r = 0;

	if (proc.listener < 0) {
		proc.l = l;
		proc.send = send;
		proc.began = began;
		if (!proc.again)
			r = loop_timer(l, begin_again, NULL, &proc.again);
		if (r == 0)
			r = proc.listener = listen_vsock(BACKLOG, &proc.port);
		if (r < 0)
			return r;
		r = begin();
		if (r < 0)
			close(take_fd(proc.listener));
	} else if (proc.pair >= 0) {
		proc.began();
		tell_process(NULL, 0);
	}
	*ret_port = proc.port;
	return r;
}
