/* SPDX-License-Identifier: MIT */
#include "daemon/ports.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/sidecar.h"
#include "lib/base/log.h"

enum {
	MAX_PORTS = 1024,
	RESERVED = 256, /* more, for what the user adds: no guest is to take all */
	OWNERS = 8,	/* that one description looks for: each takes a walk through /proc */
};

struct entry {
	struct entry *next;
	char listen[FORWARD_TEXT], to[FORWARD_TEXT];
	bool added;	 /* by the user: stays whatever the guest does */
	bool wanted;	 /* as of the last LISTENERS */
	bool nameless;	 /* the port is used, and nobody has looked by whom */
	char error[200]; /* "": it leads there */
};

struct ports {
	struct loop *loop;
	struct vm *vm;
	const struct settings *set;
	char dir[PATH_MAX], path[PATH_MAX];
	struct sidecar *forward;
	uint32_t vsock_port;
	uint64_t look_at; /* not before this for an owner that no user asks for */
	struct entry *all;
	unsigned n;
};

/* A call to wslx-forward, which ends before struct ports does; the entry may have gone by then. */
struct call {
	struct ports *p;
	char listen[FORWARD_TEXT];
	bool remove;
	ports_done done; /* may be NULL */
	void *ctx;
};

static struct entry **find(struct ports *p, const char *listen_at)
{
	struct entry **e = &p->all;

	while (*e && strcmp((*e)->listen, listen_at) != 0)
		e = &(*e)->next;
	return e;
}

static struct entry *make(struct ports *p, const char *listen_at, const char *to, bool added)
{
	struct entry *en = *find(p, listen_at);

	if (!en) {
		en = p->n < MAX_PORTS + (added ? RESERVED : 0u) ? calloc(1, sizeof(*en)) : NULL;
		if (!en)
			return NULL;
		snprintf(en->listen, sizeof(en->listen), "%s", listen_at);
		en->next = p->all;
		p->all = en;
		p->n++;
	}
	snprintf(en->to, sizeof(en->to), "%s", to);
	return en;
}

static void drop(struct ports *p, const char *listen_at)
{
	struct entry **at = find(p, listen_at), *en = *at;

	if (!en)
		return;
	*at = en->next;
	p->n--;
	free(en);
}

/* --- wslx-forward --- */

static void explain(const char *listen_at, const struct err *e, bool by_name, struct err *ret)
{
	char who[120];

	if (e->code == -EADDRINUSE && by_name && port_owner(listen_at, who, sizeof(who)))
		err_set(ret, e->code, "%s: the port is used by %s", listen_at, who);
	else if (e->code == -EADDRINUSE)
		err_set(ret, e->code, "%s: the port is used by another program", listen_at);
	else if (e->code == -EACCES)
		err_set(ret, e->code,
			"%s: ports of this number are not for users (net.ipv4.ip_unprivileged_port_start)",
			listen_at);
	else
		*ret = *e;
}

static void answered(void *ctx, struct json_object *result, const struct err *e)
{
	struct call *c = ctx;
	struct ports *p = c->p;
	struct entry *en = *find(p, c->listen);
	struct err told = {0};
	bool by_name = c->done;

	/* A guest has as many of these as it likes. */
	if (e && e->code == -EADDRINUSE && !c->done && loop_now() >= p->look_at) {
		by_name = true;
		p->look_at = loop_now() + 1000000000ull;
	}
	if (e)
		explain(c->listen, e, by_name, &told);
	if (en && !c->remove) {
		if (told.code && strcmp(en->error, told.text) != 0 && !c->done)
			log_limited("net", "not forwarded: %s", told.text);
		en->nameless = told.code == -EADDRINUSE && !by_name;
		snprintf(en->error, sizeof(en->error), "%s", told.code ? told.text : "");
		/* What the user asked for and did not get is not kept. */
		if (told.code && c->done && !en->wanted)
			drop(p, c->listen);
	}
	if (c->done)
		c->done(c->ctx, told.code ? &told : NULL);
	free(c);
}

static void call(struct ports *p, const char *method, const char *listen_at,
	struct json_object *params, ports_done done, void *ctx)
{
	struct ctl_async *ctl = sidecar_ctl(p->forward);
	struct call *c = calloc(1, sizeof(*c));
	struct err e = {0};

	if (!c)
		abort();
	*c = (struct call){p, "", !strcmp(method, "remove"), done, ctx};
	snprintf(c->listen, sizeof(c->listen), "%s", listen_at);
	if (ctl) {
		ctl_async_call(ctl, method, params, NULL, answered, c);
		return;
	}
	js_free(params);
	err_set(&e, -EPIPE, "the machine does not forward ports yet");
	answered(c, NULL, &e);
}

static void send_add(struct ports *p, const struct entry *en, ports_done done, void *ctx)
{
	struct json_object *o = js_set_str(js_object(), "listen", en->listen);

	js_set_str(o, "to", en->to);
	js_set_u64(o, "port", p->vsock_port);
	call(p, "add", en->listen, js_set_bool(o, "added", en->added), done, ctx);
}

static void send_remove(struct ports *p, const char *listen_at, ports_done done, void *ctx)
{
	call(p, "remove", listen_at, js_set_str(js_object(), "listen", listen_at), done, ctx);
}

/* What an earlier service had it do. */
static void listed(void *ctx, struct json_object *result, const struct err *e)
{
	struct ports *p = ctx;
	struct json_object *list = js_get(result, "ports");

	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		const char *listen_at = js_str(o, "listen", "");
		bool added = js_bool(o, "added", false);
		struct entry *en;

		/* What we have is newer. */
		if (*find(p, listen_at))
			continue;
		en = make(p, listen_at, js_str(o, "to", ""), added);
		if (en)
			en->added = added;
	}
}

static void send_all(struct ports *p)
{
	for (struct entry *en = p->all; en; en = en->next)
		send_add(p, en, NULL, NULL);
}

static void forward_up(void *ctx, bool found)
{
	struct ports *p = ctx;

	/* Also to one that is found: the connection may have ended before it heard of all. */
	send_all(p);
	if (found)
		ctl_async_call(sidecar_ctl(p->forward), "list", NULL, NULL, listed, p);
}

static void start(struct ports *p)
{
	struct sidecar_config c = {.loop = p->loop,
		.program = "wslx-forward",
		.folder = "netd",
		.env = "WSLX_FORWARD",
		.path = p->path,
		.args = {p->dir},
		.up = forward_up,
		.ctx = p};
	int r = sidecar_new(&p->forward, &c);

	if (r < 0)
		log_warn("net", "start wslx-forward: %s", strerror(-r));
}

/* --- the guest's listeners --- */

/* "80,443": is this port among them? */
static bool is_ignored(const char *list, unsigned port)
{
	for (const char *p = list; p && *p;) {
		char *end;
		unsigned long n = strtoul(p, &end, 10);

		if (end != p && n == port)
			return true;
		p = end != p ? end : p + 1;
	}
	return false;
}

/*
 * Where the guest's listener appears on this host: at localhost, or, in mirrored mode, where the guest has it; false: nowhere.
 * ret_to: what it says, of parts that were understood: whatever else a guest says goes no further.
 */
static bool host_side(
	const struct ports *p, const char *text, char ret_to[FORWARD_TEXT], char *buf, size_t cap)
{
	char proto[4], addr[INET6_ADDRSTRLEN], distro[40] = "";
	static const struct in6_addr any;
	struct in6_addr bin;
	bool v6, everywhere;
	unsigned port;
	int n = 0, more = 0;

	if (sscanf(text, "%3s %45s %u%n", proto, addr, &port, &n) != 3 || !port || port > 65535 ||
		(strcmp(proto, "tcp") != 0 && strcmp(proto, "udp") != 0))
		return false;
	if (text[n] && (sscanf(text + n, " %39[0-9a-f-]%n", distro, &more) != 1 || text[n] != ' ' ||
			       text[n + more]))
		return false;
	v6 = inet_pton(AF_INET6, addr, &bin) == 1;
	if ((!v6 && inet_pton(AF_INET, addr, &bin) != 1) || is_ignored(p->set->ignored_ports, port))
		return false;
	snprintf(ret_to, FORWARD_TEXT, "%s %s %u%s%s", proto, addr, port, distro[0] ? " " : "",
		distro);
	everywhere = p->set->net == NET_MIRRORED && !memcmp(&bin, &any, v6 ? 16 : 4);
	snprintf(buf, cap, "%s %s %u", proto,
		everywhere ? (v6 ? "::" : "0.0.0.0") : (v6 ? "::1" : "127.0.0.1"), port);
	return true;
}

/* known: only those that were there before; otherwise all. */
static void want(struct ports *p, const struct wire_attr *a, bool known)
{
	char text[FORWARD_TEXT], to[FORWARD_TEXT], listen_at[FORWARD_TEXT];
	struct entry *en;
	bool same;

	if (a->len >= sizeof(text) || memchr(a->data, 0, a->len))
		return;
	memcpy(text, a->data, a->len);
	text[a->len] = '\0';
	if (!host_side(p, text, to, listen_at, sizeof(listen_at)))
		return;
	en = *find(p, listen_at);
	if (en ? en->added || en->wanted : known)
		return; /* the user's goes where the user said; of two listeners of one port the first counts */
	same = en && !strcmp(en->to, to);
	en = make(p, listen_at, to, false);
	if (!en)
		return;
	en->wanted = true;
	if (!same)
		send_add(p, en, NULL, NULL);
}

static void want_all(struct ports *p, const struct wire_msg *m, bool known)
{
	struct wire_attr a;

	for (size_t pos = 0; wire_next(m, &pos, &a);)
		if (a.tag == WSLX_A_LISTENER)
			want(p, &a, known);
}

void ports_listeners(struct ports *p, const struct wire_msg *m)
{
	for (struct entry *en = p->all; en; en = en->next)
		en->wanted = false;
	/* Those that have gone make room first. */
	want_all(p, m, true);
	for (struct entry *en = p->all, *next; en; en = next) {
		next = en->next;
		if (en->wanted || en->added)
			continue;
		if (!en->error[0])
			send_remove(p, en->listen, NULL, NULL);
		drop(p, en->listen);
	}
	want_all(p, m, false);
}

void ports_up(struct ports *p, uint32_t vsock_port)
{
	bool moved = p && p->vsock_port != vsock_port;

	if (!p)
		return;
	p->vsock_port = vsock_port;
	if (!p->forward)
		start(p);
	else if (moved)
		send_all(p);
}

void ports_add(struct ports *p, const char *listen_at, const char *to, ports_done done, void *ctx)
{
	struct entry *en = make(p, listen_at, to, true);
	struct err e = {0};

	if (!en) {
		err_set(&e, -ENOSPC, "too many ports are forwarded");
		done(ctx, &e);
		return;
	}
	en->added = true;
	send_add(p, en, done, ctx);
}

void ports_remove(struct ports *p, const char *listen_at, ports_done done, void *ctx)
{
	if (*find(p, listen_at))
		drop(p, listen_at);
	send_remove(p, listen_at, done, ctx);
}

struct json_object *ports_describe(struct ports *p)
{
	const struct err used = {.code = -EADDRINUSE};
	struct json_object *list = js_array();
	unsigned owners = 0;

	for (struct entry *en = p ? p->all : NULL; en; en = en->next) {
		struct json_object *o = js_set_str(js_object(), "listen", en->listen);
		struct err told = {0};

		if (en->nameless && owners++ < OWNERS) {
			explain(en->listen, &used, true, &told);
			snprintf(en->error, sizeof(en->error), "%s", told.text);
			en->nameless = false;
		}

		js_set_str(o, "to", en->to);
		js_set_bool(o, "added", en->added);
		if (en->error[0])
			js_set_str(o, "error", en->error);
		js_push(list, o);
	}
	return list;
}

struct ports *ports_new(struct loop *l, struct vm *vm, const struct settings *set, const char *dir)
{
	struct ports *p = calloc(1, sizeof(*p));

	if (!p)
		abort();
	*p = (struct ports){.loop = l, .vm = vm, .set = set};
	snprintf(p->dir, sizeof(p->dir), "%s", dir);
	snprintf(p->path, sizeof(p->path), "%s/ports", dir);
	return p;
}

struct ports *ports_free(struct ports *p)
{
	if (!p)
		return NULL;
	sidecar_free(p->forward); /* ends the calls */
	while (p->all)
		drop(p, p->all->listen);
	free(p);
	return NULL;
}
