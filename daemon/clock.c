/* SPDX-License-Identifier: MIT */
#include "daemon/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include "lib/base/log.h"

enum { NEAR_NS = 10000000, AGAIN_MS = 1000 };

struct clock_watch {
	struct loop *loop;
	struct vm *vm;
	int64_t interval_ms;
	int fd; /* the timer that ends when the clock is set */
	struct loop_src *set, *timer;
	struct asked *asked; /* NULL: no question is under way */
};

/* A question to the guest; its answer may come after the watch has gone. */
struct asked {
	struct clock_watch *c; /* NULL: it has gone */
	uint64_t sent;
};

static uint64_t wall_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int64_t clock_correction(uint64_t sent, uint64_t received, uint64_t guest)
{
	int64_t unsure, off;

	if (received < sent || !guest)
		return 0; /* the clock was set meanwhile: asked again for that reason */
	unsure = (int64_t)((received - sent) / 2);
	off = (int64_t)(sent + (uint64_t)unsure - guest);
	return llabs(off) > MAX(unsure, (int64_t)NEAR_NS) ? off : 0;
}

static void arm(struct clock_watch *c, int64_t ms)
{
	loop_timer_arm(c->timer, ms < 0 ? 0 : loop_now() + (uint64_t)ms * 1000000u + 1);
}

static void moved(void *ctx, const struct wire_msg *m, const struct err *e)
{
	if (e && e->code != -EPIPE)
		log_warn("clock", "set the guest's clock: %s", e->text);
}

static void answered(void *ctx, const struct wire_msg *m, const struct err *e)
{
	struct asked *a = ctx;
	struct clock_watch *c = a->c;
	uint64_t received = wall_clock(), sent = a->sent;
	struct guestlink *g;
	struct wire_w w;
	int64_t off;

	free(a);
	if (!c)
		return;
	c->asked = NULL;
	arm(c, c->interval_ms);
	g = vm_guest(c->vm);
	off = m ? clock_correction(sent, received, wire_get_u64(m, WSLX_A_TIME_NS, 0)) : 0;
	if (!off || !g)
		return;
	log_debug("clock", "the guest's clock is off by %lld us", (long long)(-off / 1000));
	guestlink_begin(g, &w, WSLX_SET_TIME);
	wire_u64(&w, WSLX_A_OFFSET_NS, (uint64_t)off);
	guestlink_send(g, &w, moved, NULL);
	/* A slow answer says little: the next one, of a guest that is awake, more. */
	arm(c, c->interval_ms < 0 ? AGAIN_MS : MIN(c->interval_ms, (int64_t)AGAIN_MS));
}

static void ask(void *ctx)
{
	struct clock_watch *c = ctx;
	struct guestlink *g = vm_guest(c->vm);
	struct wire_w w;

	if (c->asked)
		return;
	if (!g || vm_state(c->vm) != VM_UP) {
		arm(c, c->interval_ms);
		return;
	}
	c->asked = malloc(sizeof(*c->asked));
	if (!c->asked)
		abort();
	*c->asked = (struct asked){c, wall_clock()};
	guestlink_begin(g, &w, WSLX_STAT);
	guestlink_send(g, &w, answered, c->asked);
}

static void watch_set(struct clock_watch *c)
{
	/* Far in the future: it never expires. */
	const struct itimerspec never = {.it_value.tv_sec = INT64_MAX / 1000000000};

	timerfd_settime(c->fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL);
}

static void clock_set(void *ctx, int fd, uint32_t revents)
{
	struct clock_watch *c = ctx;
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0 && errno != ECANCELED)
		return;
	watch_set(c);
	log_debug("clock", "the host's clock was set");
	if (c->asked) {
		c->asked->c = NULL; /* its answer would compare before with after */
		c->asked = NULL;
	}
	ask(c);
}

int clock_watch_new(struct loop *l, struct vm *vm, int64_t interval_ms, struct clock_watch **ret)
{
	struct clock_watch *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	*c = (struct clock_watch){.loop = l, .vm = vm, .interval_ms = interval_ms};
	c->fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	r = c->fd < 0 ? -errno : loop_io(l, c->fd, EPOLLIN, clock_set, c, &c->set);
	if (r == 0)
		r = loop_timer(l, ask, c, &c->timer);
	if (r < 0) {
		clock_watch_free(c);
		return r;
	}
	watch_set(c);
	arm(c, interval_ms < 0 ? -1 : MIN(interval_ms, (int64_t)AGAIN_MS));
	*ret = c;
	return 0;
}

struct clock_watch *clock_watch_free(struct clock_watch *c)
{
	if (!c)
		return NULL;
	if (c->asked)
		c->asked->c = NULL;
	loop_src_free(c->set);
	loop_src_free(c->timer);
	if (c->fd >= 0)
		close(c->fd);
	free(c);
	return NULL;
}
