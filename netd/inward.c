/* SPDX-License-Identifier: MIT */
#include "netd/inward.h"

#include <errno.h>
#include <net/ethernet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/le.h"

enum {
	MAX_PORTS = 1280, /* wslxd asks for fewer */
	ETH = 14,
	INWARD = 3, /* the address's place in the network: host and guest have the first two */
};

struct port {
	struct port *next;
	char listen[ENDPOINT_TEXT];
	struct sockaddr_in at;
	uint16_t to;
	struct inward_udp *udp; /* NULL: TCP */
};

struct inward {
	struct inward_net net;
	struct stack *stack;
	struct port *ports;
	unsigned n;
};

/* --- frames --- */

static void udp_input(struct inward *w, const uint8_t *packet, size_t len)
{
	const uint8_t *datagram;
	size_t n;

	if (!inward_udp_take(&w->net, packet, len, &datagram, &n))
		return;
	for (struct port *p = w->ports; p; p = p->next)
		if (p->udp && inward_udp_input(p->udp, datagram, n))
			return;
}

bool inward_input(struct inward *w, const uint8_t *frame, size_t len)
{
	unsigned type = len >= ETH + 28 ? be16_get(frame + 12) : 0;

	if (type == ETHERTYPE_ARP && !memcmp(frame + ETH + 24, &w->net.inward, 4)) {
		stack_input(w->stack, frame, len);
		return true;
	}
	if (type != ETHERTYPE_IP || memcmp(frame + ETH + 16, &w->net.inward, 4) != 0)
		return false;
	if (frame[ETH + 9] == IPPROTO_UDP)
		udp_input(w, frame + ETH, len - ETH);
	else
		stack_input(w->stack, frame, len);
	return true;
}

void inward_settle(struct inward *w)
{
	stack_settle(w->stack);
}

void inward_pause(struct inward *w, bool paused)
{
	if (w->net.paused == paused)
		return;
	w->net.paused = paused;
	stack_pause(w->stack, paused);
	for (struct port *p = w->ports; p; p = p->next)
		if (p->udp)
			inward_udp_pause(p->udp, paused);
}

/* --- ports --- */

static struct port **find(struct inward *w, const char *listen_at)
{
	struct port **p = &w->ports;

	while (*p && strcmp((*p)->listen, listen_at) != 0)
		p = &(*p)->next;
	return p;
}

static int open_port(struct inward *w, struct port *p)
{
	const struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(p->to), .sin_addr = w->net.guest};
	struct sockaddr_storage ss;
	int type = endpoint_parse(p->listen, &ss);

	if (type < 0 || ss.ss_family != AF_INET)
		return -EINVAL;
	p->at = *(struct sockaddr_in *)&ss;
	return type == SOCK_DGRAM ? inward_udp_new(&p->udp, &w->net, &p->at, p->to)
				  : stack_listen(w->stack, &p->at, &to);
}

static void close_port(struct inward *w, struct port *p)
{
	if (p->udp)
		p->udp = inward_udp_free(p->udp);
	else
		stack_unlisten(w->stack, &p->at);
}

int inward_add(struct inward *w, const char *listen_at, uint16_t port, struct err *e)
{
	struct port *p = *find(w, listen_at);
	int r;

	if (p && p->to == port)
		return 0;
	if (p)
		inward_remove(w, listen_at);
	p = w->n < MAX_PORTS ? calloc(1, sizeof(*p)) : NULL;
	if (!p)
		return err_set(e, -ENOSPC, "too many ports are forwarded");
	snprintf(p->listen, sizeof(p->listen), "%s", listen_at);
	p->to = port;
	r = open_port(w, p);
	if (r < 0) {
		free(p);
		return err_sys(e, r, "%s", listen_at);
	}
	p->next = w->ports;
	w->ports = p;
	w->n++;
	return 0;
}

int inward_remove(struct inward *w, const char *listen_at)
{
	struct port **at = find(w, listen_at), *p = *at;

	if (!p)
		return -ENOENT;
	*at = p->next;
	w->n--;
	close_port(w, p);
	free(p);
	return 0;
}

struct json_object *inward_list(const struct inward *w)
{
	struct json_object *list = js_array();

	for (const struct port *p = w->ports; p; p = p->next)
		js_push(list,
			js_set_u64(js_set_str(js_object(), "listen", p->listen), "port", p->to));
	return list;
}

/* --- life --- */

/* libslirp would ask for the guest's address when the first client comes, and then let that one wait for its next look at the clock. */
static void introduce_guest(struct inward *w)
{
	uint8_t f[60] = {0}, *arp = f + ETH;

	be16_put(f + 12, ETHERTYPE_ARP);
	be16_put(arp, 1); /* Ethernet, RFC 826 */
	be16_put(arp + 2, ETHERTYPE_IP);
	arp[4] = 6;
	arp[5] = 4;
	be16_put(arp + 6, 2); /* a reply */
	memcpy(arp + 8, w->net.mac, 6);
	memcpy(arp + 14, &w->net.guest, 4);
	memcpy(arp + 24, &w->net.inward, 4);
	stack_input(w->stack, f, sizeof(f));
}

int inward_new(struct inward **ret, struct loop *l, const struct stack_config *net,
	const uint8_t mac[6], stack_output_fn output, void *ctx)
{
	struct stack_config cfg = *net;
	struct inward *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	cfg.host.s_addr = htonl(ntohl(net->network.s_addr) + INWARD);
	cfg.ipv6 = false;
	cfg.inward = true;
	w->net = (struct inward_net){.loop = l,
		.inward = cfg.host,
		.guest = net->guest,
		.mtu = net->mtu,
		.output = output,
		.ctx = ctx};
	memcpy(w->net.mac, mac, 6);
	r = stack_new(&w->stack, l, &cfg, output, ctx);
	if (r < 0) {
		free(w);
		return r;
	}
	introduce_guest(w);
	*ret = w;
	return 0;
}

void inward_free(struct inward *w)
{
	if (!w)
		return;
	while (w->ports)
		inward_remove(w, w->ports->listen);
	stack_free(w->stack);
	free(w);
}
