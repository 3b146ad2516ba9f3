/* SPDX-License-Identifier: MIT */
/*
 * libslirp says anew before every wait which of its sockets it waits for. Ours are in an epoll set of their own, which the
 * loop watches as one descriptor; a socket costs a system call only when what is waited for changes.
 */
#include "netd/stack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <slirp/libslirp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include "lib/base/log.h"

enum { READY_MAX = 256, BACKLOG = 4096 };

/* One socket of libslirp's, by its descriptor. */
struct watched {
	uint32_t round;	 /* in which it was last asked for */
	uint32_t events; /* as the epoll set has them; 0: it is not in there */
	uint32_t ready;
	int index; /* in active; -1: it is not */
	bool listens;
};

/* How far libslirp's clock may be behind. */
#define CLOCK_NS 100000000ull

struct stack {
	struct loop *loop;
	Slirp *slirp;
	stack_output_fn output;
	void *ctx;
	int epfd;
	struct loop_src *src, *timer;
	uint64_t polled;     /* when libslirp last looked at its sockets */
	struct watched *fds; /* by descriptor */
	int nfds;
	int *active; /* descriptors in the epoll set, in no order */
	int nactive, cap;
	uint32_t round;
	bool paused;
	bool inside; /* libslirp is at work: it calls back, and must not be called */
	bool inward;
	unsigned accepted; /* connections of stack_listen()'s that are there */
	int spare; /* a descriptor, given up to refuse a connection when there are no more */
};

/* A timer of libslirp's: router advertisements. */
struct slirp_timer {
	struct stack *s;
	struct loop_src *src;
	SlirpTimerCb fn;
	SlirpTimerId id;
	void *ctx;
};

static struct watched *watched(struct stack *s, int fd)
{
	if (fd >= s->nfds) {
		int n = MAX(fd + 1, s->nfds * 2);
		struct watched *more = realloc(s->fds, (size_t)n * sizeof(*more));

		if (!more)
			abort();
		for (int i = s->nfds; i < n; i++)
			more[i] = (struct watched){.index = -1};
		s->fds = more;
		s->nfds = n;
	}
	return &s->fds[fd];
}

static void forget(struct stack *s, int fd)
{
	struct watched *w = watched(s, fd);
	int last;

	if (w->index < 0)
		return;
	epoll_ctl(s->epfd, EPOLL_CTL_DEL, fd, NULL);
	last = s->active[--s->nactive];
	s->active[w->index] = last;
	s->fds[last].index = w->index;
	*w = (struct watched){.index = -1, .listens = w->listens};
}

static void set_events(struct stack *s, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.fd = fd};
	struct watched *w = watched(s, fd);

	if (w->index < 0) {
		if (s->nactive == s->cap) {
			int n = MAX(64, s->cap * 2);
			int *more = realloc(s->active, (size_t)n * sizeof(*more));

			if (!more)
				abort();
			s->active = more;
			s->cap = n;
		}
		if (epoll_ctl(s->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
			return;
		w->index = s->nactive;
		s->active[s->nactive++] = fd;
	} else if (w->events != events && epoll_ctl(s->epfd, EPOLL_CTL_MOD, fd, &ev) < 0) {
		/* It was closed, and is another socket now. */
		epoll_ctl(s->epfd, EPOLL_CTL_ADD, fd, &ev);
	}
	w->events = events;
}

static const struct {
	int slirp;
	uint32_t epoll;
} event_map[] = {
	{SLIRP_POLL_IN, EPOLLIN},
	{SLIRP_POLL_OUT, EPOLLOUT},
	{SLIRP_POLL_PRI, EPOLLPRI},
	{SLIRP_POLL_ERR, EPOLLERR},
	{SLIRP_POLL_HUP, EPOLLHUP},
};

static int add_poll(int fd, int events, void *ctx)
{
	struct stack *s = ctx;
	uint32_t want = 0;

	for (unsigned i = 0; i < ARRAY_LEN(event_map); i++)
		if (events & event_map[i].slirp)
			want |= event_map[i].epoll;
	watched(s, fd)->round = s->round;
	set_events(s, fd, want);
	return fd;
}

static int get_revents(int fd, void *ctx)
{
	struct stack *s = ctx;
	int revents = 0;

	/* Not asked for before the last wait. */
	if (fd < 0 || fd >= s->nfds)
		return 0;
	for (unsigned i = 0; i < ARRAY_LEN(event_map); i++)
		if (s->fds[fd].ready & event_map[i].epoll)
			revents |= event_map[i].slirp;
	s->fds[fd].ready = 0;
	return revents;
}

/* What libslirp waits for from here on. */
static void prepare(struct stack *s)
{
	uint32_t timeout = UINT32_MAX;

	s->round++;
	if (!s->paused)
		slirp_pollfds_fill(s->slirp, &timeout, add_poll, s);
	for (int i = 0; i < s->nactive;)
		if (s->fds[s->active[i]].round == s->round)
			i++;
		else
			forget(s, s->active[i]);
	/* for who listens alone libslirp would look twice a second */
	if (s->inward && !s->accepted)
		timeout = UINT32_MAX;
	loop_timer_arm(s->timer, timeout == UINT32_MAX ? 0 : loop_now() + timeout * 1000000ull + 1);
}

/* False: without one, libslirp would be told of the connection again and again. */
static bool has_descriptor(struct stack *s)
{
	int fd = dup(s->epfd);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void refuse(struct stack *s, int listener)
{
	const struct linger now = {.l_onoff = 1};
	int fd;

	log_limited("net", "there are too many connections: one more to the guest is refused");
	if (s->spare >= 0)
		close(s->spare);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0) {
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(fd);
	}
	s->spare = dup(s->epfd);
}

static void on_ready(void *ctx, int fd, uint32_t revents)
{
	struct epoll_event evs[READY_MAX];
	struct stack *s = ctx;
	int n = epoll_wait(s->epfd, evs, READY_MAX, 0);

	for (int i = 0; i < n; i++) {
		struct watched *w = watched(s, evs[i].data.fd);

		w->ready = evs[i].events;
		if (w->listens && !has_descriptor(s)) {
			w->ready = 0;
			refuse(s, evs[i].data.fd);
		}
	}
	s->inside = true;
	s->polled = loop_now();
	slirp_pollfds_poll(s->slirp, n < 0, get_revents, s);
	s->inside = false;
	prepare(s);
}

static void on_timer(void *ctx)
{
	on_ready(ctx, -1, 0);
}

void stack_input(struct stack *s, const uint8_t *frame, size_t len)
{
	if (len < 14 || len > STACK_FRAME_MAX)
		return;
	/* libslirp's clock goes when it is polled: by one that has stood still, what begins now would be over at once. */
	if (loop_now() - s->polled > CLOCK_NS)
		on_timer(s);
	s->inside = true;
	slirp_input(s->slirp, frame, (int)len);
	s->inside = false;
}

void stack_settle(struct stack *s)
{
	prepare(s);
}

void stack_pause(struct stack *s, bool paused)
{
	if (s->paused == paused)
		return;
	s->paused = paused;
	/* From a callback of libslirp's: whoever called it prepares, or settles. */
	if (!s->inside)
		prepare(s);
}

static ssize_t send_packet(const void *buf, size_t len, void *ctx)
{
	struct stack *s = ctx;

	s->output(s->ctx, buf, len);
	return (ssize_t)len;
}

static void guest_error(const char *msg, void *ctx)
{
	log_limited("net", "the guest sent nonsense: %s", msg);
}

static int64_t clock_ns(void *ctx)
{
	return (int64_t)loop_now();
}

static void timer_fired(void *ctx)
{
	struct slirp_timer *t = ctx;
	struct stack *s = t->s;

	s->inside = true;
	if (t->fn)
		t->fn(t->ctx);
	else
		slirp_handle_timer(s->slirp, t->id, t->ctx);
	s->inside = false;
	prepare(s);
}

static struct slirp_timer *timer_make(struct stack *s, void *timer_ctx)
{
	struct slirp_timer *t = calloc(1, sizeof(*t));

	if (!t || loop_timer(s->loop, timer_fired, t, &t->src) < 0)
		abort();
	t->s = s;
	t->ctx = timer_ctx;
	return t;
}

static void *timer_new(SlirpTimerCb fn, void *timer_ctx, void *ctx)
{
	struct slirp_timer *t = timer_make(ctx, timer_ctx);

	t->fn = fn;
	return t;
}

static void *timer_new_id(SlirpTimerId id, void *timer_ctx, void *ctx)
{
	struct slirp_timer *t = timer_make(ctx, timer_ctx);

	t->id = id;
	return t;
}

static void timer_free(void *timer, void *ctx)
{
	struct slirp_timer *t = timer;

	if (!t)
		return;
	loop_src_free(t->src);
	free(t);
}

static void timer_mod(void *timer, int64_t expire_ms, void *ctx)
{
	struct slirp_timer *t = timer;

	loop_timer_arm(t->src, (uint64_t)MAX(expire_ms, (int64_t)1) * 1000000u);
}

static void fd_opened(int fd, void *ctx)
{
	struct stack *s = ctx;

	s->accepted++;
}

static void fd_closed(int fd, void *ctx)
{
	struct stack *s = ctx;

	if (fd < 0)
		return;
	if (!watched(s, fd)->listens)
		s->accepted--;
	watched(s, fd)->listens = false;
	forget(s, fd);
}

/* More room in a buffer that only guestfwd uses, which we do not. */
static void notify(void *ctx)
{
}

static const SlirpCb callbacks = {
	.send_packet = send_packet,
	.guest_error = guest_error,
	.clock_get_ns = clock_ns,
	.timer_new = timer_new,
	.timer_new_opaque = timer_new_id,
	.timer_free = timer_free,
	.timer_mod = timer_mod,
	.register_poll_fd = fd_opened,
	.unregister_poll_fd = fd_closed,
	.notify = notify,
};

struct look {
	struct stack *s;
	const struct sockaddr_in *at;
};

/* libslirp keeps the descriptor to itself, and has room for one connection to wait there. */
static int look_for_listener(int fd, int events, void *ctx)
{
	const struct look *k = ctx;
	struct sockaddr_in at = {0};
	socklen_t len = sizeof(at);

	if (getsockname(fd, (struct sockaddr *)&at, &len) == 0 && at.sin_port == k->at->sin_port &&
		at.sin_addr.s_addr == k->at->sin_addr.s_addr && listen(fd, BACKLOG) == 0)
		watched(k->s, fd)->listens = true;
	return fd;
}

int stack_listen(struct stack *s, const struct sockaddr_in *at, const struct sockaddr_in *to)
{
	struct look look = {s, at};
	uint32_t timeout = UINT32_MAX;

	if (slirp_add_hostxfwd(s->slirp, (const struct sockaddr *)at, sizeof(*at),
		    (const struct sockaddr *)to, sizeof(*to), 0) < 0)
		return -errno;
	slirp_pollfds_fill(s->slirp, &timeout, look_for_listener, &look);
	prepare(s);
	return 0;
}

void stack_unlisten(struct stack *s, const struct sockaddr_in *at)
{
	slirp_remove_hostxfwd(s->slirp, (const struct sockaddr *)at, sizeof(*at), 0);
	prepare(s);
}

int stack_new(struct stack **ret, struct loop *l, const struct stack_config *cfg,
	stack_output_fn output, void *ctx)
{
	const SlirpConfig sc = {.version = 4,
		.in_enabled = true,
		.vnetwork = cfg->network,
		.vnetmask = cfg->mask,
		.vhost = cfg->host,
		.in6_enabled = cfg->ipv6,
		.vprefix_addr6 = cfg->network6,
		.vprefix_len = (uint8_t)cfg->prefix6,
		.vhost6 = cfg->host6,
		.vdhcp_start = cfg->guest,
		.vnameserver = cfg->dns,
		.vnameserver6 = cfg->dns6,
		.if_mtu = cfg->mtu,
		.if_mru = cfg->mtu,
		.restricted = cfg->inward,
		.disable_dhcp = cfg->inward,
		.disable_host_loopback = !cfg->loopback};
	struct stack *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	*s = (struct stack){.loop = l, .output = output, .ctx = ctx, .inward = cfg->inward};
	s->epfd = epoll_create1(EPOLL_CLOEXEC);
	s->spare = cfg->inward ? dup(s->epfd) : -1;
	r = s->epfd < 0 ? -errno : loop_io(l, s->epfd, EPOLLIN, on_ready, s, &s->src);
	if (r == 0)
		r = loop_timer(l, on_timer, s, &s->timer);
	if (r == 0) {
		s->slirp = slirp_new(&sc, &callbacks, s);
		r = s->slirp ? 0 : -EINVAL;
	}
	if (r < 0) {
		stack_free(s);
		return r;
	}
	prepare(s);
	*ret = s;
	return 0;
}

void stack_free(struct stack *s)
{
	if (!s)
		return;
	if (s->slirp)
		slirp_cleanup(s->slirp);
	loop_src_free(s->src);
	loop_src_free(s->timer);
	if (s->epfd >= 0)
		close(s->epfd);
	if (s->spare >= 0)
		close(s->spare);
	free(s->fds);
	free(s->active);
	free(s);
}

/* "ADDRESS/BITS" into an address; the number of bits, or a negative errno. */
static int parse_net(int family, const char *text, void *addr, int min, int max)
{
	char buf[64], *slash, *end;
	long bits;

	if (snprintf(buf, sizeof(buf), "%s", text) >= (int)sizeof(buf))
		return -EINVAL;
	slash = strchr(buf, '/');
	if (!slash)
		return -EINVAL;
	*slash = '\0';
	bits = strtol(slash + 1, &end, 10);
	if (*end || end == slash + 1 || bits < min || bits > max ||
		inet_pton(family, buf, addr) != 1)
		return -EINVAL;
	return (int)bits;
}

int stack_config_parse(const char *net4, const char *net6, struct stack_config *ret, struct err *e)
{
	uint32_t base, mask;
	int bits;

	*ret = (struct stack_config){.mtu = STACK_MTU_MAX, .loopback = true};
	bits = parse_net(AF_INET, net4, &ret->network, 8, 29);
	if (bits < 0)
		return err_set(e, bits, "'%s' is no IPv4 network", net4);
	mask = (uint32_t)(UINT64_MAX << (32 - bits));
	base = ntohl(ret->network.s_addr) & mask;
	ret->network.s_addr = htonl(base);
	ret->mask.s_addr = htonl(mask);
	ret->host.s_addr = htonl(base + 1);
	ret->guest.s_addr = htonl(base + 2);
	ret->dns.s_addr = htonl((base | ~mask) - 1);
	if (!*net6)
		return 0;
	bits = parse_net(AF_INET6, net6, &ret->network6, 64, 64);
	if (bits < 0)
		return err_set(e, bits, "'%s' is no IPv6 network of 64 bits", net6);
	memset(ret->network6.s6_addr + 8, 0, 8);
	ret->ipv6 = true;
	ret->prefix6 = (unsigned)bits;
	ret->host6 = ret->guest6 = ret->dns6 = ret->network6;
	ret->host6.s6_addr[15] = 1;
	ret->guest6.s6_addr[15] = 2;
	ret->dns6.s6_addr[15] = 0xfe;
	return 0;
}
