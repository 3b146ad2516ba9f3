/* SPDX-License-Identifier: MIT */
/*
 * The event loop on epoll(7). Timers live in a sorted list (a process has few) and share the epoll
 * timeout through one timerfd, so that nanosecond deadlines hold. Sources freed while events are
 * being dispatched are parked on a list and released after the batch, since later events of the
 * batch may still name them.
 */
#include "lib/base/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum src_kind { SRC_IO, SRC_TIMER, SRC_SIGNAL, SRC_CHILD, SRC_WAKE, SRC_CLOCK };

struct loop_src {
	struct loop *loop;
	enum src_kind kind;
	bool dead;
	uint32_t events; /* what is watched for; 0: not at all */
	int fd; /* owned by SIGNAL, CHILD, WAKE and CLOCK sources; borrowed by IO sources */
	void *ctx;
	union {
		loop_io_fn io;
		loop_fn timer;
		loop_signal_fn signal;
		loop_child_fn child;
	} fn;
	int signo;
	pid_t pid;
	uint64_t deadline;	     /* timers; 0: disarmed. Under loop.lock */
	struct loop_src *next_timer; /* armed timers by deadline. Under loop.lock */
	struct loop_src *next_dead;
};

struct deferred {
	loop_fn fn;
	void *ctx;
	struct deferred *next;
};

struct loop {
	int epfd;
	struct loop_src wake, clock;
	pthread_mutex_t lock;
	struct deferred *def_head, **def_tail; /* under lock */
	struct deferred *running;	       /* those whose turn it is; the loop's thread's */
	struct loop_src *timers;	       /* under lock */
	uint64_t programmed; /* under lock; when the timerfd fires; 0: it does not */
	struct loop_src *dead;
	bool quit;
	int quit_code;
};

/* This thread runs it no more. */
static _Thread_local bool left;

uint64_t loop_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int watch(struct loop *l, struct loop_src *s, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = s};

	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, s->fd, &ev) < 0)
		return -errno;
	s->events = events;
	return 0;
}

static void poke(struct loop *l)
{
	uint64_t one = 1;

	if (write(l->wake.fd, &one, sizeof(one)) < 0)
		return; /* EAGAIN: the counter is full, so a wake-up is pending anyway */
}

int loop_new(struct loop **ret)
{
	struct loop *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	pthread_mutex_init(&l->lock, NULL);
	l->def_tail = &l->def_head;
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	l->wake = (struct loop_src){.loop = l, .kind = SRC_WAKE};
	l->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->clock = (struct loop_src){.loop = l, .kind = SRC_CLOCK};
	l->clock.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (l->epfd < 0 || l->wake.fd < 0 || l->clock.fd < 0) {
		r = -errno;
		loop_free(l);
		return r;
	}
	r = watch(l, &l->wake, EPOLLIN);
	if (r == 0)
		r = watch(l, &l->clock, EPOLLIN);
	if (r < 0) {
		loop_free(l);
		return r;
	}
	*ret = l;
	return 0;
}

static void release_dead(struct loop *l)
{
	while (l->dead) {
		struct loop_src *s = l->dead;

		l->dead = s->next_dead;
		free(s);
	}
}

static void forget_deferred(struct deferred *d)
{
	while (d) {
		struct deferred *next = d->next;

		free(d);
		d = next;
	}
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	release_dead(l);
	forget_deferred(l->running);
	forget_deferred(l->def_head);
	if (l->epfd >= 0)
		close(l->epfd);
	if (l->wake.fd >= 0)
		close(l->wake.fd);
	if (l->clock.fd >= 0)
		close(l->clock.fd);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

void loop_quit(struct loop *l, int code)
{
	pthread_mutex_lock(&l->lock);
	l->quit_code = code;
	l->quit = true;
	pthread_mutex_unlock(&l->lock);
	poke(l);
}

void loop_defer(struct loop *l, loop_fn fn, void *ctx)
{
	struct deferred *d = malloc(sizeof(*d));
	bool first;

	if (!d)
		abort();
	*d = (struct deferred){.fn = fn, .ctx = ctx};
	pthread_mutex_lock(&l->lock);
	first = !l->def_head;
	*l->def_tail = d;
	l->def_tail = &d->next;
	pthread_mutex_unlock(&l->lock);
	if (first)
		poke(l);
}

static struct loop_src *src_new(struct loop *l, enum src_kind kind, int fd, void *ctx)
{
	struct loop_src *s = calloc(1, sizeof(*s));

	if (s)
		*s = (struct loop_src){.loop = l, .kind = kind, .fd = fd, .ctx = ctx};
	return s;
}

int loop_io(
	struct loop *l, int fd, uint32_t events, loop_io_fn fn, void *ctx, struct loop_src **ret)
{
	struct loop_src *s = src_new(l, SRC_IO, fd, ctx);
	int r;

	if (!s)
		return -ENOMEM;
	s->fn.io = fn;
	r = events ? watch(l, s, events) : 0;
	if (r < 0) {
		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

int loop_io_events(struct loop_src *s, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = s};

	if (events == s->events)
		return 0;
	if (!s->events)
		return watch(s->loop, s, events);
	if (epoll_ctl(s->loop->epfd, events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL, s->fd, &ev) < 0)
		return -errno;
	s->events = events;
	return 0;
}

int loop_timer(struct loop *l, loop_fn fn, void *ctx, struct loop_src **ret)
{
	struct loop_src *s = src_new(l, SRC_TIMER, -EBADF, ctx);

	if (!s)
		return -ENOMEM;
	s->fn.timer = fn;
	*ret = s;
	return 0;
}

static void timer_unlink(struct loop *l, struct loop_src *s)
{
	for (struct loop_src **p = &l->timers; *p; p = &(*p)->next_timer)
		if (*p == s) {
			*p = s->next_timer;
			break;
		}
	s->deadline = 0;
}

/*
 * Under lock: programs the timerfd for the earliest deadline. One that it fires before anyway is seen to then: deadlines are moved on far
 * more often than they pass.
 */
static void clock_program(struct loop *l)
{
	uint64_t ns = l->timers ? l->timers->deadline : 0;
	struct itimerspec its = {
		.it_value = {.tv_sec = ns / 1000000000u, .tv_nsec = ns % 1000000000u}};

	if (!ns || (l->programmed && l->programmed <= ns))
		return;
	l->programmed = ns;
	timerfd_settime(l->clock.fd, TFD_TIMER_ABSTIME, &its, NULL);
}

void loop_timer_arm(struct loop_src *s, uint64_t deadline_ns)
{
	struct loop *l = s->loop;
	struct loop_src **p, *first;

	pthread_mutex_lock(&l->lock);
	first = l->timers;
	if (s->deadline)
		timer_unlink(l, s);
	if (deadline_ns) {
		s->deadline = deadline_ns;
		for (p = &l->timers; *p && (*p)->deadline <= deadline_ns;)
			p = &(*p)->next_timer;
		s->next_timer = *p;
		*p = s;
	}
	if (l->timers != first || first == s)
		clock_program(l);
	pthread_mutex_unlock(&l->lock);
}

int loop_signal(struct loop *l, int signo, loop_signal_fn fn, void *ctx, struct loop_src **ret)
{
	cleanup_close int fd = -EBADF;
	struct loop_src *s;
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, signo);
	r = pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (r)
		return -r;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	s = src_new(l, SRC_SIGNAL, fd, ctx);
	if (!s)
		return -ENOMEM;
	s->fn.signal = fn;
	s->signo = signo;
	r = watch(l, s, EPOLLIN);
	if (r < 0) {
		free(s);
		return r;
	}
	(void)take_fd(fd);
	*ret = s;
	return 0;
}

int loop_child(struct loop *l, pid_t pid, loop_child_fn fn, void *ctx, struct loop_src **ret)
{
	cleanup_close int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct loop_src *s;
	int r;

	if (fd < 0)
		return -errno;
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	s = src_new(l, SRC_CHILD, fd, ctx);
	if (!s)
		return -ENOMEM;
	s->fn.child = fn;
	s->pid = pid;
	r = watch(l, s, EPOLLIN);
	if (r < 0) {
		free(s);
		return r;
	}
	(void)take_fd(fd);
	*ret = s;
	return 0;
}

struct loop_src *loop_src_free(struct loop_src *s)
{
	struct loop *l;

	if (!s || s->dead)
		return NULL;
	l = s->loop;
	s->dead = true;
	switch (s->kind) {
	case SRC_TIMER: loop_timer_arm(s, 0); break;
	case SRC_SIGNAL:
	case SRC_CHILD: close(s->fd); break;
	default:
		if (s->events)
			epoll_ctl(l->epfd, EPOLL_CTL_DEL, s->fd, NULL);
		break;
	}
	s->next_dead = l->dead;
	l->dead = s;
	return NULL;
}

static void run_deferred(struct loop *l)
{
	struct deferred *d;

	/* some are left of a thread that left */
	if (!l->running) {
		pthread_mutex_lock(&l->lock);
		l->running = l->def_head;
		l->def_head = NULL;
		l->def_tail = &l->def_head;
		pthread_mutex_unlock(&l->lock);
	}
	while (!left && (d = l->running)) {
		l->running = d->next;
		d->fn(d->ctx);
		free(d);
	}
}

static void run_timers(struct loop *l)
{
	uint64_t now = loop_now();

	pthread_mutex_lock(&l->lock);
	l->programmed = 0;
	pthread_mutex_unlock(&l->lock);
	for (;;) {
		struct loop_src *s;

		pthread_mutex_lock(&l->lock);
		s = l->timers;
		if (!s || s->deadline > now) {
			clock_program(l);
			pthread_mutex_unlock(&l->lock);
			return;
		}
		timer_unlink(l, s);
		pthread_mutex_unlock(&l->lock);
		s->fn.timer(s->ctx);
	}
}

static void dispatch(struct loop *l, struct loop_src *s, uint32_t revents)
{
	struct signalfd_siginfo si;
	uint64_t count;
	int status;

	switch (s->kind) {
	case SRC_IO: s->fn.io(s->ctx, s->fd, revents); break;
	case SRC_WAKE:
		if (read(s->fd, &count, sizeof(count)) == sizeof(count))
			run_deferred(l);
		break;
	case SRC_CLOCK:
		if (read(s->fd, &count, sizeof(count)) == sizeof(count))
			run_timers(l);
		break;
	case SRC_SIGNAL:
		while (!s->dead && read(s->fd, &si, sizeof(si)) == sizeof(si))
			s->fn.signal(s->ctx, (int)si.ssi_signo);
		break;
	case SRC_CHILD:
		if (waitpid(s->pid, &status, WNOHANG) == s->pid) {
			/* The pidfd stays readable: stop watching before the callback frees the
			 * source. */
			epoll_ctl(l->epfd, EPOLL_CTL_DEL, s->fd, NULL);
			s->fn.child(s->ctx, s->pid, status);
		}
		break;
	case SRC_TIMER: break;
	}
}

int loop_run(struct loop *l)
{
	struct epoll_event evs[32];

	left = false;
	if (l->running)
		run_deferred(l);
	while (!left) {
		bool quit;
		int n;

		pthread_mutex_lock(&l->lock);
		quit = l->quit;
		l->quit = false;
		pthread_mutex_unlock(&l->lock);
		if (quit)
			return l->quit_code;
		n = epoll_wait(l->epfd, evs, ARRAY_LEN(evs), -1);
		if (n < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < n && !left; i++) {
			struct loop_src *s = evs[i].data.ptr;

			if (!s->dead && s->events)
				dispatch(l, s, evs[i].events);
		}
		if (!left)
			release_dead(l);
	}
	return -ECANCELED;
}

void loop_leave(void)
{
	left = true;
}
