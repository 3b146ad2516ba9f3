/* SPDX-License-Identifier: MIT */
#include "vmm/sink.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/os/thread.h"

enum { FLUSH_NS = 5000000 };

struct sink {
	struct loop_src *timer;
	int fd;
	uint64_t max;	      /* 0: no limit */
	struct os_mutex lock; /* what follows */
	uint64_t size;	      /* of the file */
	unsigned n;
	bool armed;
	uint8_t buf[512];
};

/* Somebody may have closed the other end, or may not read: then the bytes are lost, the VM goes on. */
static void put(struct sink *s, const void *buf, size_t len)
{
	ssize_t n = write(s->fd, buf, len);

	if (n > 0)
		s->size += (uint64_t)n;
	else
		errno = 0;
}

/* What came last says most about a crash. What cannot be cut (a pipe, a terminal) takes no room either. */
static void start_anew(struct sink *s)
{
	static const char note[] = "[the output before this was too long, and is left out]\n";

	s->size = 0;
	if (ftruncate(s->fd, 0) == 0)
		put(s, note, sizeof(note) - 1);
	else
		errno = 0;
}

static void flush(struct sink *s)
{
	if (!s->n)
		return;
	if (s->max && s->size + s->n > s->max)
		start_anew(s);
	put(s, s->buf, s->n);
	s->n = 0;
}

static void on_timer(void *ctx)
{
	struct sink *s = ctx;

	OS_GUARD(&s->lock);
	s->armed = false;
	flush(s);
}

int sink_new(struct sink **ret, struct loop *l, int fd, uint64_t max)
{
	struct sink *s = calloc(1, sizeof(*s));
	struct stat st;
	int r;

	if (!s)
		return -ENOMEM;
	s->fd = fd;
	s->max = max;
	/* It may hold something already. */
	if (max && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		s->size = (uint64_t)st.st_size;
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
