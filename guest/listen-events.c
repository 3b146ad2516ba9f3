/* SPDX-License-Identifier: MIT */
/*
 * The kernel's trace events say when a TCP socket begins or ceases to listen, in whatever network namespace, and when a UDP
 * socket is bound to a port of its choice or goes. sock_diag(7) has the truth; but that a UDP socket chose its port, only
 * the event says.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "guest/ports.h"
#include "guest/trace.h"
#include "lib/base/log.h"

#define BUFFER	 "wslx"
#define UDP_BIND "udp_bind"
/* The one in hand is looked at at once, again when the socket is certainly in the tables, and later still on a slow machine. */
enum { AGAIN = 2 };
static const unsigned again_ms[AGAIN] = {10, 150};
/* Without events. */
enum { POLL_MS = 1000 };
/* Between two looks: clients' UDP sockets come and go by the thousand. */
static const uint64_t pause_ns = 10 * 1000000ull;

struct listen_events {
	struct loop_src *pipe, *timer;
	loop_fn fn;
	void *ctx;
	uint64_t looked;
	unsigned step;
	bool polling;
};

static void arm(struct listen_events *v)
{
	if (v->polling)
		loop_timer_arm(v->timer, loop_now() + POLL_MS * 1000000ull);
	else if (v->step < AGAIN)
		loop_timer_arm(v->timer, loop_now() + again_ms[v->step++] * 1000000ull);
}

static void on_timer(void *ctx)
{
	struct listen_events *v = ctx;

	v->fn(v->ctx);
	v->looked = loop_now();
	arm(v);
}

/* The ports that UDP sockets were bound to by their number. */
static void take_ports(char *text)
{
	for (char *line = text, *next; line; line = next) {
		char *port;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		port = strstr(line, UDP_BIND ": ");
		port = port ? strstr(port, " port=") : NULL;
		if (port)
			udp_bound((uint16_t)strtoul(port + strlen(" port="), NULL, 10));
	}
}

static void on_event(void *ctx, int fd, uint32_t revents)
{
	struct listen_events *v = ctx;
	char text[4096];
	ssize_t n;

	/* Whole lines, each time. */
	while ((n = read(fd, text, sizeof(text) - 1)) > 0) {
		text[n] = '\0';
		take_ports(text);
	}
	v->step = 0;
	if (loop_now() - v->looked < pause_ns)
		arm(v);
	else
		on_timer(v);
}

/* A kernel that cannot do this has no events for UDP: its sockets are seen when something else happens. */
static void trace_udp(void)
{
	int r = trace_probe("p:wslx/" UDP_BIND " udp_lib_get_port port=%si:u16\n");

	if (r == 0)
		r = trace_event(BUFFER, "wslx/" UDP_BIND, "port != 0");
	if (r == 0)
		r = trace_probe("p:wslx/udp_gone udp_lib_unhash\n");
	if (r == 0)
		r = trace_event(BUFFER, "wslx/udp_gone", NULL);
	if (r < 0)
		log_debug("net", "no events of UDP sockets: %s", strerror(-r));
}

static int open_events(void)
{
	int r = trace_buffer(BUFFER, 16);

	/* TCP_LISTEN and TCP_CLOSE. A connection that a listener takes begins as its copy, and listens until it has a state of its own. */
	if (r == 0)
		r = trace_event(BUFFER, "sock/inet_sock_set_state",
			"newstate == 10 || (oldstate == 10 && newstate == 7)");
	if (r < 0)
		return r;
	trace_udp();
	return trace_read(BUFFER);
}

int listen_events_new(struct listen_events **ret, struct loop *l, loop_fn fn, void *ctx)
{
	struct listen_events *v = calloc(1, sizeof(*v));
	int fd, r;

	if (!v)
		return -ENOMEM;
	*v = (struct listen_events){.fn = fn, .ctx = ctx};
	r = loop_timer(l, on_timer, v, &v->timer);
	if (r < 0) {
		free(v);
		return r;
	}
	fd = open_events();
	r = fd < 0 ? fd : loop_io(l, fd, EPOLLIN, on_event, v, &v->pipe);
	if (r < 0) {
		log_warn("net", "no events of listening sockets, looking every second: %s",
			strerror(-r));
		v->polling = true;
	}
	arm(v);
	*ret = v;
	return 0;
}
