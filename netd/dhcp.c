/* SPDX-License-Identifier: MIT */
#include "netd/dhcp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include "lib/base/attr.h"

enum { FIRST_S = 1, LAST_S = 32, TRIES = 4, RENEW_MIN_S = 10, LOOK_S = 30 };
#define SECOND_NS 1000000000ull

enum state {
	SELECTING,  /* for an offer */
	REQUESTING, /* of what was offered */
	BOUND,
	RENEWING,
};

struct dhcp {
	struct loop_src *timer;
	const struct dhcp_ops *ops;
	void *ctx;
	uint8_t mac[6];
	enum state state;
	uint32_t xid;
	unsigned wait_s, tries;
	uint64_t began;	       /* the first request */
	uint64_t renews, ends; /* the lease, by clock_now() */
	struct lease offer, lease;
	bool has;
};

static void arm(struct dhcp *d, uint64_t s)
{
	loop_timer_arm(d->timer, loop_now() + s * SECOND_NS);
}

/* A lease ages while the host sleeps, too. */
static uint64_t clock_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec;
}

/* The loop's timers do not: so it is looked at now and then. */
static void wait_bound(struct dhcp *d, uint64_t now)
{
	uint64_t s = d->renews > now ? (d->renews - now + SECOND_NS - 1) / SECOND_NS : 0;

	arm(d, MIN(s, (uint64_t)LOOK_S));
}

static void ask(struct dhcp *d)
{
	uint64_t passed = (loop_now() - d->began) / SECOND_NS;
	struct dhcp_request q = {.type = d->state == SELECTING ? DHCP_DISCOVER : DHCP_REQUEST,
		.xid = d->xid,
		.seconds = (uint16_t)(passed < UINT16_MAX ? passed : UINT16_MAX)};
	uint8_t frame[DHCP_FRAME_MAX];

	memcpy(q.mac, d->mac, sizeof(q.mac));
	if (d->state == REQUESTING) {
		q.wanted = d->offer.addr;
		q.server = d->offer.server;
	} else if (d->state == RENEWING) {
		q.client = d->lease.addr;
	}
	d->ops->send(d->ctx, frame, dhcp_build(&q, frame));
	arm(d, d->wait_s);
	d->tries++;
	if (d->wait_s < LAST_S)
		d->wait_s *= 2;
}

static void enter(struct dhcp *d, enum state state)
{
	d->state = state;
	d->wait_s = FIRST_S;
	d->tries = 0;
	ask(d);
}

static void start(struct dhcp *d)
{
	d->began = loop_now();
	if (getrandom(&d->xid, sizeof(d->xid), 0) != sizeof(d->xid))
		d->xid = (uint32_t)d->began;
	enter(d, SELECTING);
}

static void lose(struct dhcp *d)
{
	if (d->has) {
		d->has = false;
		d->ops->changed(d->ctx, NULL);
	}
	start(d);
}

static void on_timer(void *ctx)
{
	struct dhcp *d = ctx;

	uint64_t now = clock_now();

	if (d->has && now >= d->ends)
		lose(d);
	else if (d->state == BOUND && now < d->renews)
		wait_bound(d, now);
	else if (d->state == BOUND) {
		d->began = loop_now();
		enter(d, RENEWING);
	} else if (d->state == REQUESTING && d->tries == TRIES)
		start(d);
	else
		ask(d);
}

static void bind_to(struct dhcp *d, const struct lease *l)
{
	struct lease now = *l;
	bool same;

	/* how long is of no interest to others */
	now.seconds = d->lease.seconds;
	same = d->has && !memcmp(&now, &d->lease, sizeof(now));
	d->state = BOUND;
	d->lease = *l;
	d->has = true;
	d->ends = clock_now() + l->seconds * SECOND_NS;
	d->renews = clock_now() + MAX(l->seconds / 2, (uint64_t)RENEW_MIN_S) * SECOND_NS;
	wait_bound(d, clock_now());
	if (!same)
		d->ops->changed(d->ctx, &d->lease);
}

bool dhcp_input(struct dhcp *d, const uint8_t *frame, size_t len)
{
	struct lease l;
	int type = dhcp_parse(frame, len, d->xid, d->mac, &l);

	if (!type)
		return false;
	if (type == DHCP_OFFER && d->state == SELECTING) {
		d->offer = l;
		enter(d, REQUESTING);
	} else if (type == DHCP_ACK && (d->state == REQUESTING || d->state == RENEWING)) {
		bind_to(d, &l);
	} else if (type == DHCP_NAK && (d->state == REQUESTING || d->state == RENEWING)) {
		lose(d);
	}
	return true;
}

int dhcp_new(struct dhcp **ret, struct loop *l, const uint8_t mac[6], const struct dhcp_ops *ops,
	void *ctx)
{
	struct dhcp *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	d->ops = ops;
	d->ctx = ctx;
	memcpy(d->mac, mac, sizeof(d->mac));
	r = loop_timer(l, on_timer, d, &d->timer);
	if (r < 0) {
		free(d);
		return r;
	}
	start(d);
	*ret = d;
	return 0;
}

struct dhcp *dhcp_free(struct dhcp *d)
{
	if (d) {
		loop_src_free(d->timer);
		free(d);
	}
	return NULL;
}
