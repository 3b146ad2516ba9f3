/* SPDX-License-Identifier: MIT */
#include "netd/redirect.h"

#include <net/ethernet.h>
#include <netinet/tcp.h>
#include <string.h>

enum { DNS_PORT = 53, ETH = 14, FIRST_PORT = 64512 };
_Static_assert(FIRST_PORT + REDIRECT_PORTS <= 65536, "ports");

/* The parts of a frame that may be rewritten; all lie inside it. */
struct parts {
	bool v6;
	uint8_t proto;
	uint8_t *src, *dst;   /* addresses */
	uint8_t *ports, *sum; /* source and destination port; the transport's checksum */
	uint8_t *ip_sum;      /* IPv4's own */
};

static unsigned get16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static bool transport(struct parts *p, uint8_t *l4, size_t len)
{
	if (p->proto != IPPROTO_UDP && p->proto != IPPROTO_TCP)
		return false;
	if (len < (p->proto == IPPROTO_UDP ? 8u : 20u))
		return false;
	p->ports = l4;
	p->sum = l4 + (p->proto == IPPROTO_UDP ? 6 : 16);
	return true;
}

/* 1: addresses and ports; 0: addresses alone (src NULL: not even those). */
static int take_apart(uint8_t *f, size_t len, struct parts *p)
{
	size_t hl;

	*p = (struct parts){0};
	if (len >= ETH + 20 && get16(f + 12) == ETHERTYPE_IP) {
		hl = (size_t)(f[ETH] & 15) * 4;
		if (f[ETH] >> 4 != 4 || hl < 20 || len < ETH + hl)
			return 0;
		p->proto = f[ETH + 9];
		p->src = f + ETH + 12;
		p->dst = f + ETH + 16;
		p->ip_sum = f + ETH + 10;
		/* fragments are nobody's questions */
		return (get16(f + ETH + 6) & 0x3fff) == 0 &&
		       transport(p, f + ETH + hl, len - ETH - hl);
	}
	if (len >= ETH + 40 && get16(f + 12) == ETHERTYPE_IPV6) {
		if (f[ETH] >> 4 != 6)
			return 0;
		p->v6 = true;
		p->proto = f[ETH + 6];
		p->src = f + ETH + 8;
		p->dst = f + ETH + 24;
		return transport(p, f + ETH + 40, len - ETH - 40);
	}
	return 0;
}

/* RFC 1624: a checksum whose data changes from old to now. */
static void adjust(uint8_t *sum, const uint8_t *old, const uint8_t *now, size_t n)
{
	uint32_t s = ~get16(sum) & 0xffffu;

	for (size_t i = 0; i < n; i += 2)
		s += (~get16(old + i) & 0xffffu) + get16(now + i);
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	put16(sum, ~s & 0xffffu);
}

static void replace(struct parts *p, uint8_t *where, const void *now, size_t n, bool address)
{
	/* without one: UDP over IPv4 only */
	bool summed = p->proto != IPPROTO_UDP || get16(p->sum) != 0;

	if (summed)
		adjust(p->sum, where, now, n);
	if (summed && p->proto == IPPROTO_UDP && get16(p->sum) == 0)
		put16(p->sum, 0xffff);
	if (address && p->ip_sum)
		adjust(p->ip_sum, where, now, n);
	memcpy(where, now, n);
}

static void rewrite(struct parts *p, uint8_t *addr, const void *to, uint8_t *port, unsigned to_port)
{
	uint8_t raw[2];

	put16(raw, to_port);
	replace(p, addr, to, p->v6 ? 16 : 4, true);
	replace(p, port, raw, 2, false);
}

static unsigned resolver_port(const struct redirect *r, const struct parts *p)
{
	if (p->v6)
		return p->proto == IPPROTO_UDP ? r->udp6 : r->tcp6;
	return p->proto == IPPROTO_UDP ? r->udp4 : r->tcp4;
}

static bool same(const struct parts *p, const uint8_t *addr, const struct in_addr *a4,
	const struct in6_addr *a6)
{
	return p->v6 ? !memcmp(addr, a6, 16) : !memcmp(addr, a4, 4);
}

/* 127.0.0.0/8, ::1, and IPv4 addresses in IPv6 clothes. */
static bool is_loopback(const struct parts *p, const uint8_t *addr)
{
	struct in6_addr a6;

	if (!p->v6)
		return addr[0] == 127 || addr[0] == 0;
	memcpy(&a6, addr, sizeof(a6));
	return IN6_IS_ADDR_LOOPBACK(&a6) || IN6_IS_ADDR_UNSPECIFIED(&a6) ||
	       IN6_IS_ADDR_V4MAPPED(&a6) || IN6_IS_ADDR_V4COMPAT(&a6);
}

/* --- where questions come from --- */

static bool is_asker(const struct redirect_asker *a, const struct parts *p, const uint8_t *addr)
{
	return a->used && a->v6 == p->v6 && !memcmp(a->addr, addr, p->v6 ? 16 : 4);
}

/* The one that has asked before, or the place of the one that has not for longest. */
static unsigned find_asker(const struct redirect_ports *t, const struct parts *p)
{
	unsigned oldest = 0;

	for (unsigned i = 0; i < REDIRECT_PORTS; i++) {
		if (is_asker(&t->asker[i], p, p->src) && !memcmp(&t->asker[i].port, p->ports, 2))
			return i;
		if (t->asker[i].used < t->asker[oldest].used)
			oldest = i;
	}
	return oldest;
}

static void lend_port(struct redirect_ports *t, struct parts *p)
{
	unsigned i = find_asker(t, p);
	struct redirect_asker *a = &t->asker[i];
	uint8_t raw[2];

	*a = (struct redirect_asker){.v6 = p->v6, .used = ++t->now};
	memcpy(a->addr, p->src, p->v6 ? 16 : 4);
	memcpy(&a->port, p->ports, 2);
	put16(raw, FIRST_PORT + i);
	replace(p, p->ports, raw, 2, false);
}

static void return_port(const struct redirect_ports *t, struct parts *p)
{
	unsigned i = get16(p->ports + 2) - FIRST_PORT;

	if (i < REDIRECT_PORTS && is_asker(&t->asker[i], p, p->dst))
		replace(p, p->ports + 2, &t->asker[i].port, 2, false);
}

/* --- frames --- */

bool redirect_out(const struct redirect *r, uint8_t *frame, size_t len)
{
	struct parts p;
	int n = take_apart(frame, len, &p);
	unsigned port;

	if (p.src && is_loopback(&p, p.dst))
		return false;
	if (n != 1 || get16(p.ports + 2) != DNS_PORT || !same(&p, p.dst, &r->dns, &r->dns6))
		return true;
	port = resolver_port(r, &p);
	if (!port)
		return true;
	if (r->ports && p.proto == IPPROTO_UDP)
		lend_port(r->ports, &p);
	rewrite(&p, p.dst, p.v6 ? (const void *)&r->host6 : &r->host, p.ports + 2, port);
	return true;
}

void redirect_in(const struct redirect *r, uint8_t *frame, size_t len)
{
	struct parts p;
	unsigned port;

	if (take_apart(frame, len, &p) != 1 || !same(&p, p.src, &r->host, &r->host6))
		return;
	port = resolver_port(r, &p);
	if (!port || get16(p.ports) != port)
		return;
	if (r->ports && p.proto == IPPROTO_UDP)
		return_port(r->ports, &p);
	rewrite(&p, p.src, p.v6 ? (const void *)&r->dns6 : &r->dns, p.ports, DNS_PORT);
}

void redirect_mend(const struct redirect *r, uint8_t *frame, size_t len)
{
	struct in6_addr src = {0};
	struct parts p;

	if (take_apart(frame, len, &p) != 1)
		return;
	if (p.proto == IPPROTO_TCP) {
		/* Data offset and flags: the reset's ACK is there but for its flag. */
		const uint8_t reset[2] = {p.ports[12], TH_RST | TH_ACK};

		if (p.ports[13] == TH_RST && memcmp(p.ports + 8, &(uint32_t){0}, 4) != 0)
			replace(&p, p.ports + 12, reset, 2, false);
	} else if (p.v6) {
		memcpy(&src, p.src, sizeof(src));
		if (IN6_IS_ADDR_LINKLOCAL(&src) && !IN6_IS_ADDR_UNSPECIFIED(&r->guest6)) {
			replace(&p, p.src, &r->host6, 16, true);
			replace(&p, p.dst, &r->guest6, 16, true);
		}
	}
}

bool redirect_checksum(uint8_t *frame, size_t len, size_t start, size_t offset)
{
	uint64_t s = 0;
	size_t i;

	if (start >= len || offset > len - start || len - start - offset < 2)
		return false;
	/* The field holds the pseudo header's sum, which belongs in. */
	for (i = start; i + 1 < len; i += 2)
		s += get16(frame + i);
	if (i < len)
		s += (unsigned)frame[i] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	s = ~s & 0xffff;
	/* 0 would say "no checksum" in UDP; in TCP both are the same number. */
	put16(frame + start + offset, s ? (unsigned)s : 0xffff);
	return true;
}
