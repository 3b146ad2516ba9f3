/* SPDX-License-Identifier: MIT */
#include "netd/serve-passt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "netd/inward.h"
#include "netd/link.h"
#include "netd/names.h"
#include "netd/stream.h"

enum { BURST = 4 }; /* buffers from passt before anything else is looked at */

struct serve_passt {
	struct link link;
	struct names names;
	int passt;
	struct loop_src *src;
	bool congested, full; /* the guest takes no more; passt */
	bool held;	      /* the guest's queue, until passt takes more */
	bool gone;
	struct stream_in in;
	struct stream_out out;
};

static void passt_gone(struct serve_passt *s, int error)
{
	if (s->gone)
		return;
	s->gone = true;
	log_err("net", "%s: the guest's network starts anew",
		error == -EPROTO ? "passt sent what is no frame" : "passt has ended");
	loop_io_events(s->src, 0);
	loop_quit(s->link.loop, error);
}

static void watch(struct serve_passt *s)
{
	if (!s->gone)
		loop_io_events(s->src, (s->congested ? 0 : EPOLLIN) | (s->full ? EPOLLOUT : 0));
}

/* --- from the guest --- */

static void flush(struct serve_passt *s)
{
	int r = stream_flush(&s->out, s->passt);

	if (r < 0) {
		passt_gone(s, r);
		return;
	}
	/* Who has been held up is let go by an event, even if all of it has gone out meanwhile. */
	if (s->full == (r == 0 || s->held))
		return;
	s->full = !s->full;
	watch(s);
}

static void from_guest(void *ctx, uint8_t *frame, size_t len)
{
	struct serve_passt *s = ctx;

	if (inward_input(s->link.inward, frame, len))
		return;
	/* No room: of a device before this one, which was held. What cannot be sent is lost, as on any network. */
	if (!redirect_out(&s->names.redirect, frame, len) || !stream_has_room(&s->out))
		return;
	stream_put(&s->out, frame, len);
	if (stream_has_room(&s->out))
		return;
	flush(s);
	if (stream_has_room(&s->out))
		return;
	s->held = true;
	device_hold(s->link.device, true);
}

static void settled(void *ctx)
{
	struct serve_passt *s = ctx;

	flush(s);
	inward_settle(s->link.inward);
}

/* --- for the guest --- */

static void to_guest(void *ctx, uint8_t *frame, size_t len)
{
	struct serve_passt *s = ctx;

	if (!s->link.device)
		return;
	redirect_mend(&s->names.redirect, frame, len);
	redirect_in(&s->names.redirect, frame, len);
	device_send(s->link.device, frame, len);
}

/* Of the reads' result; 0: that was all for now. */
static int read_some(struct serve_passt *s)
{
	size_t cap;
	uint8_t *space = stream_space(&s->in, &cap);
	ssize_t n = read(s->passt, space, cap);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	return stream_take(&s->in, (size_t)n, to_guest, s) < 0 ? -EPROTO : 1;
}

static void on_passt(void *ctx, int fd, uint32_t revents)
{
	struct serve_passt *s = ctx;
	int r = 1;

	if (revents & EPOLLOUT) {
		flush(s);
		if (stream_has_room(&s->out)) {
			s->held = false;
			if (s->link.device)
				device_hold(s->link.device, false);
		}
	}
	if (!(revents & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	for (int i = 0; i < BURST && r > 0 && !(s->congested && i); i++)
		r = read_some(s);
	if (s->link.device)
		device_flush(s->link.device);
	if (r < 0)
		passt_gone(s, r);
}

static void congested(void *ctx, bool yes)
{
	struct serve_passt *s = ctx;

	s->congested = yes;
	inward_pause(s->link.inward, yes);
	watch(s);
}

static const struct device_ops device_ops = {
	.input = from_guest,
	.settled = settled,
	.congested = congested,
	.closed = link_closed,
};

/* --- wslxd --- */

static void m_nameservers(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct serve_passt *s = ctx;

	names_servers(&s->names, call, params);
}

static const struct ctl_method methods[] = {
	{"device", link_device, .nfds = 1},
	{"nameservers", m_nameservers, names_fields, ARRAY_LEN(names_fields)},
	{"inward-add", link_inward_add, link_add_fields, ARRAY_LEN(link_add_fields)},
	{"inward-remove", link_inward_remove, link_remove_fields, ARRAY_LEN(link_remove_fields)},
	{"inward-list", link_inward_list},
	{"status", link_status},
};

int serve_passt_new(struct serve_passt **ret, struct loop *l, int control, int passt,
	const struct stack_config *net, const struct device_config *dev, struct err *e)
{
	struct serve_passt *s = calloc(1, sizeof(*s));
	int r = s ? 0 : -ENOMEM;

	if (!s) {
		close(control);
		close(passt);
	} else {
		s->link = (struct link){.cfg = *dev, .ops = &device_ops};
		s->passt = passt;
		r = link_begin(&s->link, l, control, methods, ARRAY_LEN(methods));
	}
	if (r == 0)
		r = io_set_nonblock(passt, true);
	if (r == 0)
		r = names_begin(&s->names, l, net);
	if (r == 0)
		r = link_inward_begin(&s->link, net);
	if (r == 0)
		r = loop_io(l, passt, EPOLLIN, on_passt, s, &s->src);
	if (r < 0) {
		serve_passt_free(s);
		return err_sys(e, r, "set the network up");
	}
	*ret = s;
	return 0;
}

void serve_passt_free(struct serve_passt *s)
{
	if (!s)
		return;
	loop_src_free(s->src);
	link_end(&s->link);
	names_end(&s->names);
	close(s->passt);
	free(s);
}
