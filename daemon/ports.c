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
	AGAIN_MS =
		5000, /* until a port that another program had is tried again: nobody tells when that ends */
	OWNERS = 8, /* that one description looks for: each takes a walk through /proc */
};

struct entry {
	struct entry *next;
	char listen[FORWARD_TEXT], to[FORWARD_TEXT];
	bool added;  /* by the user: stays whatever the guest does */
	bool wanted; /* as of the last LISTENERS */
	bool inward; /* by wslx-netd, not wslx-forward */
	bool closing; /* whoever had it was told to end it, and has not answered: no other may begin */
	bool taken;	 /* another program has the port */
	bool nameless;	 /* the port is used, and nobody has looked by whom */
	char error[200]; /* "": it leads there */
};

struct ports {
	struct loop *loop;
	const struct settings *set;
	struct sidecar *const *netd;
	char dir[PATH_MAX], path[PATH_MAX];
	struct sidecar *forward;
	struct loop_src *again;
	uint32_t vsock_port;
	uint64_t look_at; /* not before this for an owner that no user asks for */
	struct entry *all;
};

/* A call to wslx-forward or wslx-netd, which ends before struct ports does; the entry may have gone by then. */
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

static bool is_used(const struct entry *en)
{
	return en->wanted || en->added;
}

/* Those that only close make room. */
static unsigned count(const struct ports *p)
{
	unsigned n = 0;

	for (const struct entry *en = p->all; en; en = en->next)
		n += is_used(en) || !en->closing;
	return n;
}

/* One that closes is there again when it has. */
static struct entry *make(struct ports *p, const char *listen_at, const char *to, bool added)
{
	struct entry *en = *find(p, listen_at);

	if ((!en || (en->closing && !is_used(en))) &&
		count(p) >= MAX_PORTS + (added ? RESERVED : 0u))
		return NULL;
	if (!en) {
		en = calloc(1, sizeof(*en));
		if (!en)
			abort();
		snprintf(en->listen, sizeof(en->listen), "%s", listen_at);
		en->next = p->all;
		p->all = en;
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
	free(en);
}

/* --- wslx-forward, wslx-netd --- */

static void send_add(struct ports *p, const struct entry *en, ports_done done, void *ctx);

/* Nobody has it any more. */
static void closed(struct ports *p, struct entry *en)
{
	if (is_used(en)) {
		en->closing = false;
		en->error[0] = '\0';
		send_add(p, en, NULL, NULL);
	} else {
		drop(p, en->listen);
	}
}

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

/* True: it has been before, and that was said. */
static bool is_still_taken(struct ports *p, struct entry *en, const struct err *e)
{
	bool before = en->taken && en->error[0];

	en->taken = e && e->code == -EADDRINUSE;
	if (en->taken)
		loop_timer_arm(p->again, loop_now() + AGAIN_MS * 1000000ull);
	return before && en->taken;
}

static void answered(void *ctx, struct json_object *result, const struct err *e)
{
	struct call *c = ctx;
	struct ports *p = c->p;
	struct entry *en = *find(p, c->listen);
	struct err told = {0};
	bool by_name = c->done;

	if (en && !c->remove && is_still_taken(p, en, e) && !c->done) {
		free(c);
		return;
	}
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
		/* What the user asked for and did not get is not kept, or the guest's as before. */
		if (told.code && c->done && !en->wanted)
			drop(p, c->listen);
		else if (told.code && c->done)
			en->added = false;
	}
	if (en && c->remove && en->closing)
		closed(p, en);
	if (c->done)
		c->done(c->ctx, told.code ? &told : NULL);
	free(c);
}

static void call(struct ports *p, bool inward, bool remove, const char *listen_at,
	struct json_object *params, ports_done done, void *ctx)
{
	struct ctl_async *ctl = sidecar_ctl(inward ? *p->netd : p->forward);
	const char *method = inward   ? (remove ? "inward-remove" : "inward-add")
			     : remove ? "remove"
				      : "add";
	struct call *c = calloc(1, sizeof(*c));
	struct err e = {0};

	if (!c)
		abort();
	*c = (struct call){p, "", remove, done, ctx};
	snprintf(c->listen, sizeof(c->listen), "%s", listen_at);
	if (ctl) {
		ctl_async_call(ctl, method, params, NULL, answered, c);
		return;
	}
	js_free(params);
	err_set(&e, -EPIPE, "the machine does not forward ports yet");
	answered(c, NULL, &e);
}

/* The port of "tcp 0.0.0.0 8080". */
static unsigned port_of(const char *to)
{
	unsigned port = 0;

	sscanf(to, "%*s %*s %u", &port);
	return port;
}

static void send_add(struct ports *p, const struct entry *en, ports_done done, void *ctx)
{
	struct json_object *o = js_set_str(js_object(), "listen", en->listen);

	if (en->inward) {
		js_set_u64(o, "port", port_of(en->to));
	} else {
		js_set_str(o, "to", en->to);
		js_set_u64(o, "port", p->vsock_port);
		js_set_bool(o, "added", en->added);
	}
	call(p, en->inward, false, en->listen, o, done, ctx);
}

static void try_again(void *ctx)
{
	struct ports *p = ctx;

	for (struct entry *en = p->all; en; en = en->next)
		if (en->taken && is_used(en) && !en->closing)
			send_add(p, en, NULL, NULL);
}

static void send_remove(
	struct ports *p, bool inward, const char *listen_at, ports_done done, void *ctx)
{
	call(p, inward, true, listen_at, js_set_str(js_object(), "listen", listen_at), done, ctx);
}

/* What it is for from then on, if anything, is done when it has ended. */
static void begin_close(struct ports *p, struct entry *en, ports_done done, void *ctx)
{
	en->closing = true;
	send_remove(p, en->inward, en->listen, done, ctx);
}

/* What an earlier service had it do. */
static void take_list(struct ports *p, bool inward, struct json_object *list)
{
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		const char *listen_at = js_str(o, "listen", "");
		bool added = js_bool(o, "added", false);
		struct entry *en = *find(p, listen_at);
		char to[FORWARD_TEXT];

		/* What we have is newer. */
		if (en && en->inward != inward && !en->closing) {
			en->closing = true;
			send_remove(p, inward, listen_at, NULL, NULL);
		}
		if (en)
			continue;
		snprintf(to, sizeof(to), "%.3s 0.0.0.0 %u", listen_at,
			(unsigned)js_u64(o, "port", 0));
		en = make(p, listen_at, inward ? to : js_str(o, "to", ""), added);
		if (en) {
			en->added = added;
			en->inward = inward;
		}
	}
}

static void forward_listed(void *ctx, struct json_object *result, const struct err *e)
{
	take_list(ctx, false, js_get(result, "ports"));
}

static void netd_listed(void *ctx, struct json_object *result, const struct err *e)
{
	take_list(ctx, true, js_get(result, "ports"));
}

static void send_all(struct ports *p, bool inward)
{
	for (struct entry *en = p->all; en; en = en->next)
		if (en->inward == inward && !en->closing)
			send_add(p, en, NULL, NULL);
}

static void forward_up(void *ctx, bool found)
{
	struct ports *p = ctx;

	/* Also to one that is found: the connection may have ended before it heard of all. */
	send_all(p, false);
	if (found)
		ctl_async_call(sidecar_ctl(p->forward), "list", NULL, NULL, forward_listed, p);
}

void ports_netd_up(struct ports *p, bool found)
{
	if (!p || !p->netd)
		return;
	send_all(p, true);
	if (found)
		ctl_async_call(sidecar_ctl(*p->netd), "inward-list", NULL, NULL, netd_listed, p);
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

/* What becomes of one of the guest's listeners. */
struct wish {
	char to[FORWARD_TEXT]; /* what the guest said, of parts that were understood: nothing else of it goes further */
	char listen
		[FORWARD_TEXT]; /* on this host: at localhost, or, in mirrored mode, where the guest has it */
	bool inward;
};

static bool wish_parse(const struct ports *p, const char *text, struct wish *ret)
{
	char proto[4], addr[INET6_ADDRSTRLEN], distro[40] = "";
	static const struct in6_addr any;
	struct in6_addr bin;
	bool v6, is_any, everywhere;
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
	snprintf(ret->to, sizeof(ret->to), "%s %s %u%s%s", proto, addr, port, distro[0] ? " " : "",
		distro);
	is_any = !memcmp(&bin, &any, v6 ? 16 : 4);
	everywhere = p->set->net == NET_MIRRORED && is_any;
	snprintf(ret->listen, sizeof(ret->listen), "%s %s %u", proto,
		everywhere ? (v6 ? "::" : "0.0.0.0") : (v6 ? "::1" : "127.0.0.1"), port);
	/* Others are not at the address that it leads to, or are for clients whose address the guest is to be told. */
	ret->inward = p->netd && !v6 && is_any && !everywhere && !distro[0];
	return true;
}

/* known: only those that were there before; otherwise all. */
static void want(struct ports *p, const struct wire_attr *a, bool known)
{
	char text[FORWARD_TEXT];
	struct entry *en;
	struct wish wish;
	bool is_new, same;

	if (a->len >= sizeof(text) || memchr(a->data, 0, a->len))
		return;
	memcpy(text, a->data, a->len);
	text[a->len] = '\0';
	if (!wish_parse(p, text, &wish))
		return;
	en = *find(p, wish.listen);
	if (en ? is_used(en) : known)
		return; /* the user's goes where the user said; of two listeners of one port the first counts */
	is_new = !en;
	same = en && !strcmp(en->to, wish.to);
	en = make(p, wish.listen, wish.to, false);
	if (!en)
		return;
	en->wanted = true;
	if (is_new)
		en->inward = wish.inward;
	if (en->closing) {
		en->inward = wish.inward;
	} else if (en->inward != wish.inward) {
		begin_close(p, en, NULL, NULL);
		en->inward = wish.inward;
	} else if (!same) {
		send_add(p, en, NULL, NULL);
	}
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
		if (is_used(en) || en->closing)
			continue;
		/* Also if it led nowhere: it may have been tried again since, and the answer is on its way. */
		begin_close(p, en, NULL, NULL);
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
		send_all(p, false);
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
	/* The guest has it at localhost alone, maybe. */
	if (en->inward && !en->closing)
		begin_close(p, en, NULL, NULL);
	en->inward = false;
	if (en->closing)
		done(ctx, NULL);
	else
		send_add(p, en, done, ctx);
}

void ports_remove(struct ports *p, const char *listen_at, ports_done done, void *ctx)
{
	struct entry *en = *find(p, listen_at);

	if (!en || en->closing) {
		send_remove(p, false, listen_at, done, ctx);
		return;
	}
	en->added = en->wanted = false;
	begin_close(p, en, done, ctx);
}

struct json_object *ports_describe(struct ports *p)
{
	const struct err used = {.code = -EADDRINUSE};
	struct json_object *list = js_array();
	unsigned owners = 0;

	for (struct entry *en = p ? p->all : NULL; en; en = en->next) {
		struct json_object *o = js_set_str(js_object(), "listen", en->listen);
		struct err told = {0};

		if (en->closing && !is_used(en)) {
			js_free(o);
			continue;
		}
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

struct ports *ports_new(
	struct loop *l, const struct settings *set, const char *dir, struct sidecar *const *netd)
{
	struct ports *p = calloc(1, sizeof(*p));

	if (!p)
		abort();
	*p = (struct ports){.loop = l, .set = set, .netd = netd};
	if (loop_timer(l, try_again, p, &p->again) < 0)
		abort();
	snprintf(p->dir, sizeof(p->dir), "%s", dir);
	snprintf(p->path, sizeof(p->path), "%s/ports", dir);
	return p;
}

struct ports *ports_free(struct ports *p)
{
	if (!p)
		return NULL;
	sidecar_free(p->forward); /* ends the calls */
	loop_src_free(p->again);
	while (p->all)
		drop(p, p->all->listen);
	free(p);
	return NULL;
}
