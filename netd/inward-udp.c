/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "lib/base/le.h"
#include "netd/inward.h"

enum {
	PEERS = 256,
	ETH = 14,
	IP = 20,
	UDP = 8,
	LARGEST = 65535 - IP - UDP,
	BATCH = 16, /* datagrams of one port before others have their turn */
	FIRST_PORT = 49152,
	MORE = 0x2000, /* RFC 791: more fragments */
	OFFSET = 0x1fff,
};

/* A client of this host; the guest knows it by its port, or another one if a client before it has that. */
struct peer {
	struct sockaddr_in addr;
	uint16_t port;
	uint64_t used; /* when something last went by; 0: this one is free */
};

struct inward_udp {
	struct inward_net *net;
	int fd;
	uint16_t port; /* the guest's */
	struct loop_src *src;
	struct peer peer[PEERS];
	uint8_t buf[ETH + IP + UDP + LARGEST + 1];
};

/* --- to the guest --- */

static bool port_is_taken(const struct inward_udp *u, uint16_t port)
{
	for (unsigned i = 0; i < PEERS; i++)
		if (u->peer[i].used && u->peer[i].port == port)
			return true;
	return false;
}

/* The one with this address; or a free one, or the one that has been silent for longest. */
static struct peer *find(struct inward_udp *u, const struct sockaddr_in *a)
{
	struct peer *best = &u->peer[0];
	uint16_t port = ntohs(a->sin_port);

	for (unsigned i = 0; i < PEERS; i++) {
		struct peer *p = &u->peer[i];

		if (p->used && p->addr.sin_port == a->sin_port &&
			p->addr.sin_addr.s_addr == a->sin_addr.s_addr)
			return p;
		if (p->used < best->used)
			best = p;
	}
	best->used = 0;
	/* there are more of these than clients */
	for (unsigned n = FIRST_PORT; port_is_taken(u, port); n++)
		port = (uint16_t)n;
	best->addr = *a;
	best->port = port;
	return best;
}

static unsigned sum16(const uint8_t *p, size_t len)
{
	uint32_t s = 0;

	for (size_t i = 0; i < len; i += 2)
		s += be16_get(p + i);
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return ~s & 0xffff;
}

/* What is in front of the fragment is there no more: it has gone out. */
static void send_fragment(struct inward_net *net, uint8_t *data, size_t len, size_t at, bool more)
{
	uint8_t *ip = data - IP, *eth = ip - ETH;

	memcpy(eth, net->mac, 6);
	eth[6] = 0x52;
	eth[7] = 0x55;
	memcpy(eth + 8, &net->inward, 4);
	be16_put(eth + 12, ETHERTYPE_IP);
	memset(ip, 0, IP);
	ip[0] = 0x45;
	be16_put(ip + 2, (uint16_t)(IP + len));
	be16_put(ip + 4, net->id);
	be16_put(ip + 6, (uint16_t)(at / 8 | (more ? MORE : 0)));
	ip[8] = 64;
	ip[9] = IPPROTO_UDP;
	memcpy(ip + 12, &net->inward, 4);
	memcpy(ip + 16, &net->guest, 4);
	be16_put(ip + 10, (uint16_t)sum16(ip, IP));
	net->output(net->ctx, eth, ETH + IP + len);
}

static void send_datagram(struct inward_udp *u, const struct peer *p, size_t len)
{
	struct inward_net *net = u->net;
	uint8_t *udp = u->buf + ETH + IP;
	size_t most = net->mtu - IP, total = UDP + len;

	be16_put(udp, p->port);
	be16_put(udp + 2, u->port);
	be16_put(udp + 4, (uint16_t)total);
	be16_put(udp + 6, 0); /* none: nothing on the way could spoil it */
	net->id++;
	for (size_t at = 0; at < total;) {
		size_t n = total - at <= most ? total - at : most & ~(size_t)7;

		send_fragment(net, udp + at, n, at, at + n < total);
		at += n;
	}
}

static void on_datagram(void *ctx, int fd, uint32_t revents)
{
	struct inward_udp *u = ctx;

	for (unsigned i = 0; i < BATCH && !u->net->paused; i++) {
		struct sockaddr_in from;
		socklen_t from_len = sizeof(from);
		ssize_t n = recvfrom(fd, u->buf + ETH + IP + UDP, LARGEST, MSG_DONTWAIT,
			(struct sockaddr *)&from, &from_len);
		struct peer *p;

		if (n < 0)
			return;
		p = find(u, &from);
		p->used = loop_now();
		send_datagram(u, p, (size_t)n);
	}
}

/* --- from the guest --- */

bool inward_udp_take(struct inward_net *net, const uint8_t *packet, size_t len,
	const uint8_t **ret_datagram, size_t *ret_len)
{
	size_t hl = len >= IP ? (size_t)(packet[0] & 15) * 4 : 0, total, at;
	unsigned frag;

	if (hl < IP || packet[0] >> 4 != 4)
		return false;
	total = be16_get(packet + 2);
	if (total < hl || total > len)
		return false;
	frag = be16_get(packet + 6);
	at = (size_t)(frag & OFFSET) * 8;
	total -= hl;
	if (!(frag & (MORE | OFFSET))) {
		*ret_datagram = packet + hl;
		*ret_len = total;
		return true;
	}
	/* In order, as one device's queue has them; others are lost. */
	if (at == 0) {
		net->part.id = be16_get(packet + 4);
		net->part.len = 0;
	} else if (be16_get(packet + 4) != net->part.id || at != net->part.len) {
		return false;
	}
	if (at + total > sizeof(net->part.data))
		return false;
	memcpy(net->part.data + at, packet + hl, total);
	net->part.len = at + total;
	*ret_datagram = net->part.data;
	*ret_len = net->part.len;
	return !(frag & MORE);
}

bool inward_udp_input(struct inward_udp *u, const uint8_t *datagram, size_t len)
{
	size_t total = len >= UDP ? be16_get(datagram + 4) : 0;

	if (total < UDP || total > len || be16_get(datagram) != u->port)
		return false;
	for (unsigned i = 0; i < PEERS; i++) {
		struct peer *p = &u->peer[i];

		if (!p->used || p->port != be16_get(datagram + 2))
			continue;
		p->used = loop_now();
		(void)!sendto(u->fd, datagram + UDP, total - UDP, MSG_NOSIGNAL | MSG_DONTWAIT,
			(struct sockaddr *)&p->addr, sizeof(p->addr));
		return true;
	}
	return false;
}

/* --- life --- */

void inward_udp_pause(struct inward_udp *u, bool paused)
{
	loop_io_events(u->src, paused ? 0 : EPOLLIN);
}

void inward_udp_lead(struct inward_udp *u, uint16_t port)
{
	u->port = port;
}

int inward_udp_new(struct inward_udp **ret, struct inward_net *net, const struct sockaddr_in *at,
	uint16_t port)
{
	struct inward_udp *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return -ENOMEM;
	u->net = net;
	u->port = port;
	u->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = u->fd < 0 || bind(u->fd, (const struct sockaddr *)at, sizeof(*at)) < 0 ? -errno : 0;
	if (r == 0)
		r = loop_io(net->loop, u->fd, net->paused ? 0 : EPOLLIN, on_datagram, u, &u->src);
	if (r < 0) {
		inward_udp_free(u);
		return r;
	}
	*ret = u;
	return 0;
}

struct inward_udp *inward_udp_free(struct inward_udp *u)
{
	if (!u)
		return NULL;
	loop_src_free(u->src);
	if (u->fd >= 0)
		close(u->fd);
	free(u);
	return NULL;
}
