/* SPDX-License-Identifier: MIT */
#include "netd/serve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/base/log.h"
#include "lib/ctl/server.h"
#include "netd/dns.h"
#include "netd/redirect.h"

enum { PATIENCE_MS = 10000 };

struct serve {
	struct loop *loop;
	struct device_config dev;
	struct ctl_server *ctl;
	struct stack *stack;
	struct dns *dns;
	struct redirect redirect;
	struct device *device; /* NULL: no monitor is connected */
	struct loop_src *idle;
	uint8_t out[STACK_FRAME_MAX];
};

/* --- frames --- */

static void from_guest(void *ctx, uint8_t *frame, size_t len)
{
	struct serve *s = ctx;

	if (redirect_out(&s->redirect, frame, len))
		stack_input(s->stack, frame, len);
}

static void to_guest(void *ctx, const uint8_t *frame, size_t len)
{
	struct serve *s = ctx;

	if (!s->device || len > sizeof(s->out))
		return;
	memcpy(s->out, frame, len);
	redirect_in(&s->redirect, s->out, len);
	device_send(s->device, s->out, len);
	device_flush(s->device);
}

static void settled(void *ctx)
{
	struct serve *s = ctx;

	stack_settle(s->stack);
}

static void congested(void *ctx, bool yes)
{
	struct serve *s = ctx;

	stack_pause(s->stack, yes);
}

/* --- who is connected --- */

static void on_idle(void *ctx)
{
	struct serve *s = ctx;

	if (!s->device && ctl_server_connections(s->ctl) == 0)
		loop_quit(s->loop, 0);
}

/* A service that is started anew, a monitor that connects again: they have some time. */
static void look(void *ctx)
{
	struct serve *s = ctx;

	loop_timer_arm(s->idle, loop_now() + PATIENCE_MS * 1000000ull);
}

static void monitor_gone(void *ctx, int error)
{
	struct serve *s = ctx;

	if (error)
		log_warn("net", "the connection of the virtual machine: %s", strerror(-error));
	s->device = device_free(s->device);
	stack_pause(s->stack, false);
	look(s);
	if (ctl_server_connections(s->ctl) == 0)
		on_idle(s);
}

static const struct device_ops device_ops = {
	.input = from_guest,
	.settled = settled,
	.congested = congested,
	.closed = monitor_gone,
};

/* --- wslxd --- */

static void m_device(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct serve *s = ctx;
	int fd = ctl_call_take_fd(call, 0);
	struct err e = {0};

	/* It is the machine's only network device: the connection before this one is over. */
	s->device = device_free(s->device);
	stack_pause(s->stack, false);
	if (device_new(&s->device, s->loop, fd, &s->dev, &device_ops, s, &e) < 0) {
		s->device = NULL;
		ctl_fail(call, &e);
	} else {
		ctl_reply(call, NULL, NULL);
	}
}

static void m_nameservers(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct serve *s = ctx;
	struct json_object *list = js_get(params, "servers");
	struct sockaddr_storage servers[DNS_SERVERS_MAX];
	unsigned n = 0;

	for (size_t i = 0; i < json_object_array_length(list) && n < DNS_SERVERS_MAX; i++) {
		const char *text = json_object_get_string(json_object_array_get_idx(list, i));

		if (text && dns_parse_server(text, &servers[n]))
			n++;
		else
			log_warn("net", "name server '%s': no address", text ? text : "");
	}
	dns_set_servers(s->dns, servers, n);
	ctl_reply(call, js_set_u64(js_object(), "servers", n), NULL);
}

struct json_object *serve_counters(const struct device *d)
{
	struct json_object *o = js_set_bool(js_object(), "connected", d != NULL);
	const struct device_counters *c = d ? device_counters(d) : NULL;

	if (c) {
		js_set_u64(o, "rx_frames", c->rx_frames);
		js_set_u64(o, "rx_bytes", c->rx_bytes);
		js_set_u64(o, "tx_frames", c->tx_frames);
		js_set_u64(o, "tx_bytes", c->tx_bytes);
		js_set_u64(o, "dropped", c->dropped);
		js_set_u64(o, "bad", c->bad);
	}
	return o;
}

static void m_status(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct serve *s = ctx;

	ctl_reply(call, serve_counters(s->device), NULL);
}

static const struct js_field f_servers[] = {
	{"servers", JS_ARRAY, .required = true, .max = DNS_SERVERS_MAX}};
static const struct ctl_method methods[] = {
	{"device", m_device, .nfds = 1},
	{"nameservers", m_nameservers, f_servers, ARRAY_LEN(f_servers)},
	{"status", m_status},
};

int serve_new(struct serve **ret, struct loop *l, int control, const struct stack_config *net,
	const struct device_config *dev, struct err *e)
{
	struct serve *s = calloc(1, sizeof(*s));
	struct dns_ports ports = {0};
	int r = s ? 0 : -ENOMEM;

	if (s) {
		*s = (struct serve){.loop = l, .dev = *dev};
		r = loop_timer(l, on_idle, s, &s->idle);
	}
	if (r == 0)
		r = dns_new(&s->dns, l, &net->host, net->ipv6 ? &net->host6 : NULL, &ports);
	if (r == 0)
		r = stack_new(&s->stack, l, net, to_guest, s);
	if (r == 0)
		r = ctl_server_new(l, control, methods, ARRAY_LEN(methods), s, &s->ctl);
	if (r < 0) {
		close(control);
		serve_free(s);
		return err_sys(e, r, "set the network up");
	}
	s->redirect = (struct redirect){.host = net->host,
		.dns = net->dns,
		.host6 = net->host6,
		.dns6 = net->dns6,
		.udp4 = ports.udp4,
		.tcp4 = ports.tcp4,
		.udp6 = ports.udp6,
		.tcp6 = ports.tcp6};
	ctl_server_on_change(s->ctl, look);
	look(s);
	*ret = s;
	return 0;
}

void serve_free(struct serve *s)
{
	if (!s)
		return;
	loop_src_free(s->idle);
	ctl_server_free(s->ctl);
	device_free(s->device);
	stack_free(s->stack);
	dns_free(s->dns);
	free(s);
}
