/* SPDX-License-Identifier: MIT */
#include "daemon/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "daemon/passt.h"
#include "daemon/ports.h"
#include "daemon/resolv.h"
#include "daemon/sidecar.h"
#include "daemon/tap.h"
#include "lib/base/io.h"
#include "lib/base/log.h"

/* Few real networks are there. The name server is where WSL's is, at 10.255.255.254. */
#define NETWORK4  "10.255.255.0/24"
#define NETWORK6  "fd77:736c:7800::/64"
#define GUEST_MAC "52:57:53:4c:58:01"

enum { MTU = 65520, TAP_MTU = 1500 };

struct net {
	struct loop *loop;
	struct vm *vm;
	const struct settings *set; /* borrowed, of the vm */
	char path[PATH_MAX];	    /* of wslx-netd's socket */
	/* Where wslx-vmm connects its device when it starts; negative: it has, or does so by a control call. */
	int listen;
	char listen_path[PATH_MAX];
	struct loop_src *listen_src;
	const char *network, *network6, *resolv_conf;
	/* as texts; those of the second family may be "" */
	char guest[2][64], host[2][64], dns[2][64];
	char inward[64]; /* by which this host's clients come to listeners; "": by none */
	unsigned prefix[2];
	/* NET_BRIDGED, NET_TAP: of the first family, the addresses are those of a lease, whose changes so far are counted; or fixed */
	bool bridged, leases;
	unsigned lease, mtu;
	char mac[24];
	struct resolv leased; /* name servers and domain of the lease */
	struct loop_src *patience;
	struct sidecar *netd;
	struct resolv resolv;
	struct resolv_watch *watch;
	struct ports *ports;
};

/* --- addresses: as wslx-netd takes them from the network, .1 is the host, .2 the guest, .3 the host's clients, the last but one the resolver --- */

static bool plan4(struct net *n)
{
	struct in_addr a;
	char text[64];
	unsigned bits;
	uint32_t base, mask;
	int end = 0;

	/* What wslx-netd would not take is none here, either: it would not begin. */
	if (sscanf(n->network, "%63[0-9.]/%u%n", text, &bits, &end) != 2 || n->network[end] ||
		bits < 8 || bits > 29 || inet_pton(AF_INET, text, &a) != 1)
		return false;
	mask = (uint32_t)(UINT64_MAX << (32 - bits));
	base = ntohl(a.s_addr) & mask;
	n->prefix[0] = bits;
	a.s_addr = htonl(base + 1);
	inet_ntop(AF_INET, &a, n->host[0], sizeof(n->host[0]));
	a.s_addr = htonl(base + 2);
	inet_ntop(AF_INET, &a, n->guest[0], sizeof(n->guest[0]));
	a.s_addr = htonl(base + 3);
	inet_ntop(AF_INET, &a, n->inward, sizeof(n->inward));
	a.s_addr = htonl((base | ~mask) - 1);
	inet_ntop(AF_INET, &a, n->dns[0], sizeof(n->dns[0]));
	return true;
}

static bool plan6(struct net *n)
{
	struct in6_addr a;
	char text[64];
	int end = 0;

	if (!*n->network6)
		return true;
	if (sscanf(n->network6, "%63[0-9a-fA-F:]/64%n", text, &end) != 1 || !end ||
		n->network6[end] || inet_pton(AF_INET6, text, &a) != 1)
		return false;
	memset(a.s6_addr + 8, 0, 8);
	n->prefix[1] = 64;
	a.s6_addr[15] = 1;
	inet_ntop(AF_INET6, &a, n->host[1], sizeof(n->host[1]));
	a.s6_addr[15] = 2;
	inet_ntop(AF_INET6, &a, n->guest[1], sizeof(n->guest[1]));
	a.s6_addr[15] = 0xfe;
	inet_ntop(AF_INET6, &a, n->dns[1], sizeof(n->dns[1]));
	return true;
}

static void complain(const struct net *n, const char *key, const char *value, const char *instead)
{
	char text[400];

	snprintf(text, sizeof(text), "bad value for wslx.%s: '%.80s'; using %s", key, value,
		instead);
	settings_warn(n->set, text);
}

static void plan(struct net *n)
{
	if (!plan4(n)) {
		complain(n, "network", n->network, NETWORK4);
		n->network = NETWORK4;
		plan4(n);
	}
	if (!plan6(n)) {
		complain(n, "network6", n->network6, NETWORK6);
		n->network6 = NETWORK6;
		plan6(n);
	}
}

/* A fixed address of a network that others share. */
static void plan_static(struct net *n)
{
	const char *address = n->set->network, *gateway = n->set->gateway;
	struct in_addr a;
	char text[64];
	unsigned bits;

	if (address && (sscanf(address, "%63[0-9.]/%u", text, &bits) != 2 || !bits || bits > 32 ||
			       inet_pton(AF_INET, text, &a) != 1)) {
		complain(n, "network", address, "no address");
		return;
	}
	if (!address)
		return;
	strcpy(n->guest[0], text);
	n->prefix[0] = bits;
	if (gateway && inet_pton(AF_INET, gateway, &a) == 1)
		snprintf(n->host[0], sizeof(n->host[0]), "%s", gateway);
	else if (gateway)
		complain(n, "gateway", gateway, "no gateway");
}

/* --- wslx-netd --- */

static void failed(void *ctx, struct json_object *result, const struct err *e)
{
	if (e && e->code != -EPIPE)
		log_warn("net", "%s: %s", (const char *)ctx, e->text);
}

static void send_servers(struct net *n)
{
	static char what[] = "tell wslx-netd the name servers";
	struct json_object *list = js_array();
	struct ctl_async *ctl = sidecar_ctl(n->netd);

	for (unsigned i = 0; i < n->resolv.n_servers; i++)
		js_push(list, json_object_new_string(n->resolv.server[i]));
	if (ctl)
		ctl_async_call(ctl, "nameservers", js_set(js_object(), "servers", list), NULL,
			failed, what);
	else
		js_free(list);
}

static void give_device(struct net *n, int fd)
{
	static char what[] = "connect wslx-netd";
	struct ctl_fds f = {.fd = {fd}, .n = 1};

	if (sidecar_ctl(n->netd))
		ctl_async_call(sidecar_ctl(n->netd), "device", NULL, &f, failed, what);
	else
		close(fd);
}

static void stop_listening(struct net *n)
{
	n->listen_src = loop_src_free(n->listen_src);
	if (n->listen < 0)
		return;
	close(take_fd(n->listen));
	unlink(n->listen_path);
}

static void on_vmm(void *ctx, int fd, uint32_t revents)
{
	struct net *n = ctx;
	int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

	if (conn < 0)
		return;
	stop_listening(n);
	give_device(n, conn);
}

/* A new process for a device that had another one. */
static void connect_device(struct net *n)
{
	static char what[] = "connect the network device";
	struct ctl_fds f = {.n = 1};
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		log_warn("net", "connect the network device: %s", strerror(errno));
		return;
	}
	give_device(n, pair[0]);
	f.fd[0] = pair[1];
	vm_call(n->vm, "vhost-user-attach", js_set_str(js_object(), "device", "net0"), &f, failed,
		what);
}

/* A service that died may have done so before it gave the process its device. */
static void on_vmm_status(void *ctx, struct json_object *result)
{
	struct json_object *served = js_get(js_get(result, "servers"), "net0");

	if (served && !json_object_get_boolean(served))
		connect_device(ctx);
}

/* --- the lease --- */

static void tell_guest(struct net *n);
static void ask_lease(struct net *n);

/* wslx-netd is ours, what it was told is not: only addresses become some. */
static bool take_address(
	struct json_object *o, const char *key, char *buf, size_t cap, unsigned *ret_bits)
{
	const char *text = js_str(o, key, "");
	struct in_addr a;
	char addr[64];
	unsigned bits = 0;

	if (sscanf(text, "%63[0-9.]/%u", addr, &bits) < 1 || inet_pton(AF_INET, addr, &a) != 1)
		return false;
	snprintf(buf, cap, "%s", addr);
	if (ret_bits)
		*ret_bits = bits;
	return true;
}

static void lease_told(void *ctx, struct json_object *result, const struct err *e)
{
	struct net *n = ctx;
	struct json_object *list = js_get(result, "nameservers");

	/* The next process is asked when it is there. */
	if (e)
		return;
	n->lease = (unsigned)js_u64(result, "seen", 0);
	n->guest[0][0] = n->host[0][0] = '\0';
	n->leased = (struct resolv){0};
	if (take_address(result, "address", n->guest[0], sizeof(n->guest[0]), &n->prefix[0])) {
		log_info("net", "the guest's address is %s/%u", n->guest[0], n->prefix[0]);
		take_address(result, "gateway", n->host[0], sizeof(n->host[0]), NULL);
		loop_timer_arm(n->patience, 0);
	}
	for (size_t i = 0; list && i < json_object_array_length(list) && i < RESOLV_SERVERS; i++)
		snprintf(n->leased.server[n->leased.n_servers++], sizeof(n->leased.server[0]), "%s",
			json_object_get_string(json_object_array_get_idx(list, i)));
	if (*js_str(result, "domain", ""))
		snprintf(n->leased.domain[n->leased.n_domains++], sizeof(n->leased.domain[0]), "%s",
			js_str(result, "domain", ""));
	tell_guest(n);
	ask_lease(n);
}

static void ask_lease(struct net *n)
{
	if (sidecar_ctl(n->netd))
		ctl_async_call(sidecar_ctl(n->netd), "lease",
			js_set_u64(js_object(), "seen", n->lease), NULL, lease_told, n);
}

static void no_lease(void *ctx)
{
	struct net *n = ctx;

	log_warn("net", "no DHCP server has answered on %s within %lld ms", n->set->vm_switch,
		(long long)n->set->dhcp_timeout_ms);
}

static void netd_up(void *ctx, bool found)
{
	struct net *n = ctx;

	if (n->listen < 0 && found)
		vm_query(n->vm, on_vmm_status, n);
	else if (n->listen < 0)
		connect_device(n);
	ports_netd_up(n->ports, found);
	if (!n->bridged)
		send_servers(n);
	else if (n->leases) {
		/* This process counts from the start. */
		n->lease = found ? n->lease : 0;
		ask_lease(n);
	}
}

static void start_netd(struct net *n)
{
	struct sidecar_config c = {.loop = n->loop,
		.program = "wslx-netd",
		.folder = "netd",
		.env = "WSLX_NETD",
		.path = n->path,
		.args = {"--mac", n->mac, "--network", n->network, "--network6", n->network6},
		.up = netd_up,
		.ctx = n};
	char program[PATH_MAX];
	struct err e = {0};
	int r;

	if (settings_passt(n->set)) {
		/* It was there when the machine was planned. */
		if (passt_find(program, sizeof(program), &e) < 0)
			log_warn("net", "%s; using slirp", e.text);
		else {
			c.args[6] = "--passt";
			c.args[7] = program;
		}
	}
	if (n->set->net == NET_TAP) {
		/* The same, and if it has gone since wslx-netd says so. */
		c.args[2] = "--new-tap";
		c.args[3] = tap_find(program, sizeof(program), NULL) < 0 ? "wslx-tap" : program;
		c.args[4] = NULL;
	} else if (n->bridged) {
		c.args[2] = "--tap";
		c.args[3] = n->set->vm_switch;
		c.args[4] = n->set->dhcp ? "--dhcp" : NULL;
	}
	r = sidecar_new(&n->netd, &c);
	if (r < 0)
		log_warn("net", "start wslx-netd: %s", strerror(-r));
}

/* --- the guest --- */

/* Not one at this host's localhost, nor at a port of its own. */
static bool is_for_guests(const char *server)
{
	return strncmp(server, "127.", 4) != 0 && !strpbrk(server, "#%") &&
	       strcmp(server, "::1") != 0;
}

/* A guest that asks the servers itself cannot ask systemd-resolved, but those that it asks. */
static const char *resolv_conf_of(const struct net *n)
{
	struct resolv r;

	if (n->set->resolv_conf || !n->bridged)
		return n->set->resolv_conf ? n->set->resolv_conf : RESOLV_CONF;
	resolv_read(RESOLV_CONF, &r);
	for (unsigned i = 0; i < r.n_servers; i++)
		if (is_for_guests(r.server[i]))
			return RESOLV_CONF;
	return access(RESOLV_UPLINK, R_OK) == 0 ? RESOLV_UPLINK : RESOLV_CONF;
}

static const struct resolv *servers(const struct net *n)
{
	return n->set->net == NET_BRIDGED && n->leases ? &n->leased : &n->resolv;
}

static void add_dns(const struct net *n, struct wire_w *w)
{
	/* On a network that others share it asks the servers itself: those of the lease, or this host's. */
	const struct resolv *r = servers(n);

	if (!n->bridged)
		wire_str(w, WSLX_A_NAMESERVER, n->dns[0]);
	for (unsigned i = 0; n->bridged && i < r->n_servers; i++)
		if (is_for_guests(r->server[i]))
			wire_str(w, WSLX_A_NAMESERVER, r->server[i]);
	for (unsigned i = 0; i < r->n_domains; i++)
		wire_str(w, WSLX_A_SEARCH, r->domain[i]);
}

/* The guest's address and this many more. */
static void own_address(const char *guest, unsigned more, char *buf, size_t cap)
{
	int family = strchr(guest, ':') ? AF_INET6 : AF_INET;
	uint8_t bin[16];
	unsigned last = (family == AF_INET ? 4 : 16) - 1;

	inet_pton(family, guest, bin);
	bin[last] = (uint8_t)(bin[last] + more);
	inet_ntop(family, bin, buf, (socklen_t)cap);
}

void net_add_start(const struct net *n, unsigned number, struct wire_w *w)
{
	char line[160], addr[64];

	if (!n)
		return;
	wire_str(w, WSLX_A_NETWORKING, settings_net_name(n->set->net));
	add_dns(n, w);
	for (unsigned i = 0; !n->bridged && i < 2 && n->host[i][0]; i++) {
		snprintf(line, sizeof(line), "%s %s", n->host[i], NET_HOST_NAME);
		wire_str(w, WSLX_A_HOST_LINE, line);
		/* A small network has no room for them, and passt knows one guest. */
		if ((i == 0 && n->prefix[0] > 24) || settings_passt(n->set))
			continue;
		own_address(n->guest[i], 8 + number, addr, sizeof(addr));
		snprintf(line, sizeof(line), "%s/%u", addr, n->prefix[i]);
		wire_str(w, WSLX_A_ADDRESS, line);
		wire_str(w, WSLX_A_GATEWAY, n->host[i]);
	}
	if (n->set->net == NET_TAP && n->host[0][0]) {
		snprintf(line, sizeof(line), "%s %s", n->host[0], NET_HOST_NAME);
		wire_str(w, WSLX_A_HOST_LINE, line);
	}
	wire_u32(w, WSLX_A_MTU, n->mtu);
}

static void network_done(void *ctx, const struct wire_msg *m, const struct err *e)
{
	struct net *n = ctx;

	if (e && e->code != -EPIPE)
		log_warn("net", "the guest's network: %s", e->text);
	if (!e && wire_get_u32(m, WSLX_A_FORWARD_PORT, 0))
		ports_up(n->ports, wire_get_u32(m, WSLX_A_FORWARD_PORT, 0));
}

static void tell_guest(struct net *n)
{
	struct guestlink *g = vm_guest(n->vm);
	char text[80];
	struct wire_w w;

	if (!g)
		return;
	guestlink_begin(g, &w, WSLX_NETWORK);
	for (unsigned i = 0; i < 2 && n->guest[i][0]; i++) {
		snprintf(text, sizeof(text), "%s/%u", n->guest[i], n->prefix[i]);
		wire_str(&w, WSLX_A_ADDRESS, text);
		if (n->host[i][0])
			wire_str(&w, WSLX_A_GATEWAY, n->host[i]);
	}
	wire_u32(&w, WSLX_A_MTU, n->mtu);
	if (n->set->net == NET_BRIDGED && n->set->ipv6)
		wire_u32(&w, WSLX_A_AUTOCONF, 1);
	if (n->ports)
		wire_u32(&w, WSLX_A_FORWARD, 1);
	if (n->ports && n->inward[0])
		wire_str(&w, WSLX_A_INWARD, n->inward);
	if (n->set->net == NET_MIRRORED) {
		wire_u32(&w, WSLX_A_MIRRORED, 1);
		wire_str(&w, WSLX_A_IGNORED_PORTS,
			n->set->ignored_ports ? n->set->ignored_ports : "");
	}
	add_dns(n, &w);
	guestlink_send(g, &w, network_done, n);
}

void net_up(struct net *n)
{
	if (!n)
		return;
	tell_guest(n);
	if (n->set->net == NET_BRIDGED && n->leases && !n->guest[0][0])
		loop_timer_arm(
			n->patience, loop_now() + (uint64_t)n->set->dhcp_timeout_ms * 1000000ull);
}

void net_listeners(struct net *n, const struct wire_msg *m)
{
	if (n && n->ports)
		ports_listeners(n->ports, m);
}

static void resolv_changed(void *ctx)
{
	struct net *n = ctx;
	struct resolv now;

	resolv_read(n->resolv_conf, &now);
	if (!memcmp(&now, &n->resolv, sizeof(now)))
		return;
	bool domains = now.n_domains != n->resolv.n_domains ||
		       memcmp(now.domain, n->resolv.domain, sizeof(now.domain)) != 0;

	log_debug("net", "name servers or domains changed");
	n->resolv = now;
	if (!n->bridged)
		send_servers(n);
	/* What the guest has of the servers is ours. */
	if (domains || n->bridged)
		tell_guest(n);
}

static int listen_for_vmm(struct net *n)
{
	int r;

	n->listen = io_unix_listen(n->listen_path, 1);
	if (n->listen < 0)
		return n->listen;
	r = io_set_nonblock(n->listen, true);
	return r < 0 ? r : loop_io(n->loop, n->listen, EPOLLIN, on_vmm, n, &n->listen_src);
}

void net_option(const struct net *n, char *buf, size_t cap)
{
	snprintf(buf, cap, "net,mac=%s,mtu=%u,socket=%s", n->mac, n->mtu, n->listen_path);
}

struct net *net_new(
	struct loop *l, struct vm *vm, const struct settings *set, const char *dir, bool fresh)
{
	struct net *n;
	int r;

	if (set->net == NET_NONE)
		return NULL;
	n = calloc(1, sizeof(*n));
	if (!n)
		abort();
	n->loop = l;
	n->vm = vm;
	n->set = set;
	n->network = set->network ? set->network : NETWORK4;
	n->network6 = set->network6 ? set->network6 : NETWORK6;
	n->listen = -1;
	snprintf(n->path, sizeof(n->path), "%s/netd", dir);
	snprintf(n->listen_path, sizeof(n->listen_path), "%s/net", dir);
	n->bridged = set->net == NET_BRIDGED || set->net == NET_TAP;
	n->resolv_conf = resolv_conf_of(n);
	n->leases = set->net == NET_TAP || (set->net == NET_BRIDGED && set->dhcp);
	n->mtu = set->net == NET_TAP ? TAP_MTU : n->bridged ? tap_mtu(set->vm_switch) : MTU;
	if (set->mac || set->net != NET_BRIDGED)
		snprintf(n->mac, sizeof(n->mac), "%s", set->mac ? set->mac : GUEST_MAC);
	else
		tap_mac(set->vm_switch, n->mac, sizeof(n->mac));
	if (!n->bridged)
		plan(n);
	else if (!n->leases)
		plan_static(n);
	r = loop_timer(l, no_lease, n, &n->patience);
	if (r < 0)
		abort();
	resolv_read(n->resolv_conf, &n->resolv);
	r = resolv_watch_new(&n->watch, l, n->resolv_conf, resolv_changed, n);
	if (r < 0)
		log_warn("net", "changes of %s are not seen: %s", n->resolv_conf, strerror(-r));
	r = fresh ? listen_for_vmm(n) : 0;
	if (r < 0)
		log_warn("net", "listen for the network device: %s", strerror(-r));
	/* Of mirrored mode, ports are what it is about. */
	if (set->localhost_forwarding || set->net == NET_MIRRORED)
		n->ports = ports_new(l, set, dir, n->bridged ? NULL : &n->netd);
	start_netd(n);
	return n;
}

struct net *net_free(struct net *n)
{
	if (!n)
		return NULL;
	stop_listening(n);
	n->netd = sidecar_free(n->netd); /* ports look there */
	resolv_watch_free(n->watch);
	loop_src_free(n->patience);
	ports_free(n->ports);
	free(n);
	return NULL;
}

struct ports *net_ports(const struct net *n)
{
	return n ? n->ports : NULL;
}

struct json_object *net_describe(const struct net *n)
{
	struct json_object *o = js_object(), *list;
	static const char *const families[] = {"ipv4", "ipv6"};
	const struct resolv *r = n ? servers(n) : NULL;

	js_set_str(o, "mode", n ? settings_net_name(n->set->net) : "none");
	for (unsigned i = 0; n && i < 2; i++) {
		struct json_object *f;
		char text[80];

		if (!n->guest[i][0])
			continue;
		f = js_object();
		snprintf(text, sizeof(text), "%s/%u", n->guest[i], n->prefix[i]);
		js_set_str(f, "guest", text);
		js_set_str(f, n->bridged ? "gateway" : "host", n->host[i]);
		if (!n->bridged)
			js_set_str(f, "nameserver", n->dns[i]);
		js_set(o, families[i], f);
	}
	if (!n)
		return o;
	if (n->set->net == NET_BRIDGED)
		js_set_str(o, "device", n->set->vm_switch);
	else if (n->set->net == NET_TAP)
		js_set_str(o, "host_name", NET_HOST_NAME);
	else
		js_set_str(js_set_str(o, "host_name", NET_HOST_NAME), "backend",
			settings_backend_name(n->set->backend));
	js_set_str(o, "mac", n->mac);
	list = js_array();
	for (unsigned i = 0; i < r->n_servers; i++)
		js_push(list, json_object_new_string(r->server[i]));
	js_set(o, "nameservers", list);
	list = js_array();
	for (unsigned i = 0; i < r->n_domains; i++)
		js_push(list, json_object_new_string(r->domain[i]));
	js_set(o, "search", list);
	return o;
}
