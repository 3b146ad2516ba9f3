/* SPDX-License-Identifier: MIT */
#include "netd/serve-tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "lib/base/log.h"
#include "netd/dhcp.h"
#include "netd/link.h"
#include "netd/stack.h"
#include "netd/tap.h"

enum { BATCH = 64 };

struct serve_tap {
	struct link link;
	int tap;
	struct loop_src *src;
	struct dhcp *dhcp; /* NULL: not asked for */
	struct lease lease;
	bool has;
	unsigned changes;	  /* of the lease */
	struct ctl_call *waiting; /* for the next one */
	uint8_t buf[DEVICE_HEADER + STACK_FRAME_MAX];
};

/* --- frames --- */

static void from_guest(void *ctx, const struct iovec *iov, unsigned n)
{
	struct serve_tap *s = ctx;

	/* The kernel checks the header. What it does not take is lost, as on any network. */
	(void)!writev(s->tap, iov, (int)n);
}

static void from_tap(void *ctx, int fd, uint32_t revents)
{
	struct serve_tap *s = ctx;
	ssize_t n = 0;

	for (int i = 0; i < BATCH && (n = read(fd, s->buf, sizeof(s->buf))) > 0; i++) {
		if ((size_t)n < DEVICE_HEADER)
			continue;
		if (s->dhcp &&
			dhcp_input(s->dhcp, s->buf + DEVICE_HEADER, (size_t)n - DEVICE_HEADER))
			continue;
		if (s->link.device)
			device_send(s->link.device, s->buf, (size_t)n);
	}
	if (s->link.device)
		device_flush(s->link.device);
	if (n < 0 && errno != EAGAIN && errno != EINTR && errno != EIO /* it is down */) {
		log_warn("net", "the tap device: %s", strerror(errno));
		loop_quit(s->link.loop, -errno);
	}
}

static void settled(void *ctx)
{
}

static void congested(void *ctx, bool yes)
{
	struct serve_tap *s = ctx;

	loop_io_events(s->src, yes ? 0 : EPOLLIN);
}

static void agreed(void *ctx, const struct device_offloads *o)
{
	struct serve_tap *s = ctx;
	int r = tap_offloads(s->tap, o);

	if (r < 0)
		log_warn("net", "the tap device's offloads: %s", strerror(-r));
}

/* --- the lease --- */

static void to_tap(void *ctx, const uint8_t *frame, size_t len)
{
	static const uint8_t header[DEVICE_HEADER];
	struct serve_tap *s = ctx;
	const struct iovec iov[] = {
		{(void *)(uintptr_t)header, sizeof(header)}, {(void *)(uintptr_t)frame, len}};

	(void)!writev(s->tap, iov, 2);
}

static void add_address(struct json_object *o, const char *key, struct in_addr a, unsigned prefix)
{
	char text[INET_ADDRSTRLEN], full[INET_ADDRSTRLEN + 8];

	inet_ntop(AF_INET, &a, text, sizeof(text));
	snprintf(full, sizeof(full), prefix ? "%s/%u" : "%s", text, prefix);
	js_set_str(o, key, full);
}

static struct json_object *describe(const struct serve_tap *s)
{
	struct json_object *o = js_set_u64(js_object(), "seen", s->changes), *list = js_array();
	char text[INET_ADDRSTRLEN];

	if (!s->has) {
		js_free(list);
		return o;
	}
	add_address(o, "address", s->lease.addr, s->lease.prefix);
	if (s->lease.router.s_addr)
		add_address(o, "gateway", s->lease.router, 0);
	for (unsigned i = 0; i < s->lease.n_dns; i++) {
		inet_ntop(AF_INET, &s->lease.dns[i], text, sizeof(text));
		js_push(list, json_object_new_string(text));
	}
	js_set(o, "nameservers", list);
	return js_set_str(o, "domain", s->lease.domain);
}

static void answer(struct serve_tap *s)
{
	struct ctl_call *call = s->waiting;

	s->waiting = NULL;
	if (!call)
		return;
	ctl_call_on_close(call, NULL, NULL);
	ctl_reply(call, describe(s), NULL);
}

static void lease_changed(void *ctx, const struct lease *l)
{
	struct serve_tap *s = ctx;

	s->has = l != NULL;
	if (l)
		s->lease = *l;
	s->changes++;
	answer(s);
}

static const struct dhcp_ops dhcp_ops = {to_tap, lease_changed};

static const struct device_ops device_ops = {
	.raw = from_guest,
	.agreed = agreed,
	.settled = settled,
	.congested = congested,
	.closed = link_closed,
};

/* --- wslxd --- */

static void nobody_waits(void *ctx)
{
	struct serve_tap *s = ctx;

	answer(s);
}

static void m_lease(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct serve_tap *s = ctx;

	answer(s);
	s->waiting = call;
	if (js_u64(params, "seen", 0) != s->changes)
		answer(s);
	else
		ctl_call_on_close(call, nobody_waits, s);
}

static const struct js_field f_lease[] = {{"seen", JS_U64, .max = UINT32_MAX}};
static const struct ctl_method methods[] = {
	{"device", link_device, .nfds = 1},
	{"lease", m_lease, f_lease, ARRAY_LEN(f_lease)},
	{"status", link_status},
};

int serve_tap_new(struct serve_tap **ret, struct loop *l, int control, int tap, bool dhcp,
	const struct lease *fixed, const struct device_config *dev, struct err *e)
{
	struct serve_tap *s = calloc(1, sizeof(*s));
	int r = s ? 0 : -ENOMEM;

	if (!s) {
		close(control);
		close(tap);
	} else {
		*s = (struct serve_tap){.link = {.cfg = *dev, .ops = &device_ops}, .tap = tap};
		if (fixed)
			lease_changed(s, fixed);
		r = link_begin(&s->link, l, control, methods, ARRAY_LEN(methods));
	}
	if (r == 0)
		r = loop_io(l, tap, EPOLLIN, from_tap, s, &s->src);
	if (r == 0 && dhcp)
		r = dhcp_new(&s->dhcp, l, dev->mac, &dhcp_ops, s);
	if (r < 0) {
		serve_tap_free(s);
		return err_sys(e, r, "set the network up");
	}
	*ret = s;
	return 0;
}

void serve_tap_free(struct serve_tap *s)
{
	if (!s)
		return;
	if (s->waiting)
		answer(s);
	loop_src_free(s->src);
	link_end(&s->link);
	dhcp_free(s->dhcp);
	close(s->tap);
	free(s);
}
