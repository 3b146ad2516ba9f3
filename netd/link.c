/* SPDX-License-Identifier: MIT */
#include "netd/link.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "lib/base/log.h"

enum { PATIENCE_MS = 10000 };

static void on_idle(void *ctx)
{
	struct link *k = ctx;

	if (!k->device && ctl_server_connections(k->ctl) == 0)
		loop_quit(k->loop, 0);
}

/* A service that is started anew, a monitor that connects again: they have some time. */
static void changed(void *ctx)
{
	struct link *k = ctx;

	loop_timer_arm(k->idle, loop_now() + PATIENCE_MS * 1000000ull);
}

int link_begin(struct link *k, struct loop *l, int control, const struct ctl_method *methods,
	unsigned nmethods)
{
	int r = loop_timer(l, on_idle, k, &k->idle);

	k->loop = l;
	if (r == 0)
		r = ctl_server_new(l, control, methods, nmethods, k, &k->ctl);
	if (r < 0) {
		close(control);
		return r;
	}
	ctl_server_on_change(k->ctl, changed, k);
	changed(k);
	return 0;
}

void link_end(struct link *k)
{
	loop_src_free(k->idle);
	ctl_server_free(k->ctl);
	device_free(k->device);
	inward_free(k->inward);
}

static void disconnect(struct link *k)
{
	k->device = device_free(k->device);
	k->ops->congested(k, false);
}

void link_closed(void *ctx, int error)
{
	struct link *k = ctx;

	if (error)
		log_warn("net", "the connection of the virtual machine: %s", strerror(-error));
	disconnect(k);
	changed(k);
	on_idle(k);
}

void link_device(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct link *k = ctx;
	int fd = ctl_call_take_fd(call, 0);
	struct err e = {0};

	/* It is the machine's only network device: the connection before this one is over. */
	disconnect(k);
	if (device_new(&k->device, k->loop, fd, &k->cfg, k->ops, k, &e) < 0) {
		k->device = NULL;
		ctl_fail(call, &e);
	} else {
		ctl_reply(call, NULL, NULL);
	}
}

void link_status(void *ctx, struct ctl_call *call, struct json_object *params)
{
	const struct link *k = ctx;
	struct json_object *o = js_set_bool(js_object(), "connected", k->device != NULL);
	const struct device_counters *c = k->device ? device_counters(k->device) : NULL;

	if (c) {
		js_set_u64(o, "rx_frames", c->rx_frames);
		js_set_u64(o, "rx_bytes", c->rx_bytes);
		js_set_u64(o, "tx_frames", c->tx_frames);
		js_set_u64(o, "tx_bytes", c->tx_bytes);
		js_set_u64(o, "dropped", c->dropped);
		js_set_u64(o, "bad", c->bad);
	}
	ctl_reply(call, o, NULL);
}

/* --- ports that lead to the guest --- */

static void to_guest(void *ctx, const uint8_t *frame, size_t len)
{
	struct link *k = ctx;

	if (!k->device)
		return;
	device_send(k->device, frame, len);
	device_flush(k->device);
}

int link_inward_begin(struct link *k, const struct stack_config *net)
{
	return inward_new(&k->inward, k->loop, net, k->cfg.mac, to_guest, k);
}

const struct js_field link_add_fields[2] = {
	{"listen", JS_STR, .required = true, .max = ENDPOINT_TEXT - 1},
	{"port", JS_U64, .required = true, .max = UINT16_MAX}};
const struct js_field link_remove_fields[1] = {
	{"listen", JS_STR, .required = true, .max = ENDPOINT_TEXT - 1}};

void link_inward_add(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct link *k = ctx;
	struct err e = {0};

	if (inward_add(k->inward, js_str(params, "listen", ""), (uint16_t)js_u64(params, "port", 0),
		    &e) < 0)
		ctl_fail(call, &e);
	else
		ctl_reply(call, NULL, NULL);
}

void link_inward_remove(void *ctx, struct ctl_call *call, struct json_object *params)
{
	const char *listen_at = js_str(params, "listen", "");
	struct link *k = ctx;
	struct err e = {0};

	if (inward_remove(k->inward, listen_at) < 0) {
		err_set(&e, -ENOENT, "%s is not forwarded", listen_at);
		ctl_fail(call, &e);
	} else {
		ctl_reply(call, NULL, NULL);
	}
}

void link_inward_list(void *ctx, struct ctl_call *call, struct json_object *params)
{
	const struct link *k = ctx;

	ctl_reply(call, js_set(js_object(), "ports", inward_list(k->inward)), NULL);
}
