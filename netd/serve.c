/* SPDX-License-Identifier: MIT */
#include "netd/serve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "netd/inward.h"
#include "netd/link.h"
#include "netd/names.h"

struct serve {
	struct link link;
	struct stack *stack;
	struct names names;
	struct redirect_ports ports;
	uint8_t out[STACK_FRAME_MAX];
};

/* --- frames --- */

static void from_guest(void *ctx, uint8_t *frame, size_t len)
{
	struct serve *s = ctx;

	if (!inward_input(s->link.inward, frame, len) &&
		redirect_out(&s->names.redirect, frame, len))
		stack_input(s->stack, frame, len);
}

static void to_guest(void *ctx, const uint8_t *frame, size_t len)
{
	struct serve *s = ctx;

	if (!s->link.device || len > sizeof(s->out))
		return;
	memcpy(s->out, frame, len);
	redirect_in(&s->names.redirect, s->out, len);
	device_send(s->link.device, s->out, len);
	device_flush(s->link.device);
}

static void settled(void *ctx)
{
	struct serve *s = ctx;

	stack_settle(s->stack);
	inward_settle(s->link.inward);
}

static void congested(void *ctx, bool yes)
{
	struct serve *s = ctx;

	stack_pause(s->stack, yes);
	inward_pause(s->link.inward, yes);
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
	struct serve *s = ctx;

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

int serve_new(struct serve **ret, struct loop *l, int control, const struct stack_config *net,
	const struct device_config *dev, struct err *e)
{
	struct serve *s = calloc(1, sizeof(*s));
	int r = s ? 0 : -ENOMEM;

	if (!s) {
		close(control);
	} else {
		s->link = (struct link){.cfg = *dev, .ops = &device_ops};
		r = link_begin(&s->link, l, control, methods, ARRAY_LEN(methods));
	}
	if (r == 0)
		r = names_begin(&s->names, l, net);
	if (r == 0)
		s->names.redirect.ports = &s->ports;
	if (r == 0)
		r = stack_new(&s->stack, l, net, to_guest, s);
	if (r == 0)
		r = link_inward_begin(&s->link, net);
	if (r < 0) {
		serve_free(s);
		return err_sys(e, r, "set the network up");
	}
	*ret = s;
	return 0;
}

void serve_free(struct serve *s)
{
	if (!s)
		return;
	link_end(&s->link);
	stack_free(s->stack);
	names_end(&s->names);
	free(s);
}
