/* SPDX-License-Identifier: MIT */
#include "vmm/sink.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "lib/os/thread.h"

enum { FLUSH_NS = 5000000 };

struct sink {
	struct loop_src *timer;
	int fd;
	struct os_mutex lock; /* what follows */
	unsigned n;
	bool armed;
	uint8_t buf[512];
};

/* Somebody may have closed the other end, or may not read: then the bytes are lost, the VM goes on. */
static void flush(struct sink *s)
{
	if (s->n && write(s->fd, s->buf, s->n) < 0)
		errno = 0;
	s->n = 0;
}

static void on_timer(void *ctx)
{
	struct sink *s = ctx;

	OS_GUARD(&s->lock);
	s->armed = false;
	flush(s);
}

int sink_new(struct sink **ret, struct loop *l, int fd)
{
	struct sink *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->fd = fd;
	os_mutex_init(&s->lock);
	r = loop_timer(l, on_timer, s, &s->timer);
	if (r < 0) {
		sink_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void sink_free(struct sink *s)
{
	if (!s)
		return;
	flush(s);
	loop_src_free(s->timer);
	os_mutex_done(&s->lock);
	free(s);
}

void sink_byte(void *ctx, uint8_t byte)
{
	struct sink *s = ctx;

	OS_GUARD(&s->lock);
	s->buf[s->n++] = byte;
	if (byte == '\n' || s->n == sizeof(s->buf)) {
		flush(s);
	} else if (!s->armed) {
		s->armed = true;
		loop_timer_arm(s->timer, os_now() + FLUSH_NS);
	}
}
