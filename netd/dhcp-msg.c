/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include "lib/base/attr.h"
#include "netd/dhcp.h"

/* Offsets: Ethernet, then an IPv4 header without options in what we send; BOOTP (RFC 951) behind UDP. */
enum { ETH = 14, IP = 20, UDP = 8 };
enum {
	OP = 0,
	XID = 4,
	SECS = 8,
	CIADDR = 12,
	YIADDR = 16,
	CHADDR = 28,
	COOKIE = 236,
	OPTIONS = 240
};
enum { SERVER_PORT = 67, CLIENT_PORT = 68, BOOTREQUEST = 1, BOOTREPLY = 2 };
static const uint8_t cookie[] = {99, 130, 83, 99};

/* RFC 2132 */
enum option {
	PAD = 0,
	MASK = 1,
	ROUTER = 3,
	DNS = 6,
	DOMAIN = 15,
	WANTED = 50,
	LEASE_TIME = 51,
	TYPE = 53,
	SERVER = 54,
	PARAMETERS = 55,
	END = 255,
};

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v & 0xffff);
}

static unsigned get16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static uint8_t *option(uint8_t *p, enum option what, const void *data, size_t len)
{
	*p++ = (uint8_t)what;
	*p++ = (uint8_t)len;
	memcpy(p, data, len);
	return p + len;
}

static void put_ip_checksum(uint8_t *ip)
{
	uint32_t sum = 0;

	for (int i = 0; i < IP; i += 2)
		sum += get16(ip + i);
	sum = (sum & 0xffff) + (sum >> 16);
	put16(ip + 10, ~(sum + (sum >> 16)) & 0xffff);
}

size_t dhcp_build(const struct dhcp_request *q, uint8_t frame[DHCP_FRAME_MAX])
{
	static const uint8_t parameters[] = {MASK, ROUTER, DNS, DOMAIN, LEASE_TIME};
	const uint8_t type = (uint8_t)q->type;
	uint8_t *ip = frame + ETH, *udp = ip + IP, *b = udp + UDP, *p = b + OPTIONS;
	size_t len;

	memset(frame, 0, DHCP_FRAME_MAX);
	b[OP] = BOOTREQUEST;
	b[1] = 1; /* Ethernet */
	b[2] = 6;
	put32(b + XID, q->xid);
	put16(b + SECS, q->seconds);
	memcpy(b + CIADDR, &q->client, 4);
	memcpy(b + CHADDR, q->mac, 6);
	memcpy(b + COOKIE, cookie, sizeof(cookie));
	p = option(p, TYPE, &type, 1);
	if (q->wanted.s_addr)
		p = option(p, WANTED, &q->wanted, 4);
	if (q->server.s_addr)
		p = option(p, SERVER, &q->server, 4);
	p = option(p, PARAMETERS, parameters, sizeof(parameters));
	*p++ = END;

	/* Some relays drop what is shorter than a BOOTP message was. */
	len = MAX((size_t)(p - b), (size_t)300);
	memset(frame, 0xff, 6);
	memcpy(frame + 6, q->mac, 6);
	put16(frame + 12, 0x0800);
	ip[0] = 0x45;
	put16(ip + 2, (unsigned)(IP + UDP + len));
	ip[8] = 64;
	ip[9] = IPPROTO_UDP;
	memcpy(ip + 12, &q->client, 4);
	memset(ip + 16, 0xff, 4);
	put_ip_checksum(ip);
	put16(udp, CLIENT_PORT);
	put16(udp + 2, SERVER_PORT);
	put16(udp + 4, (unsigned)(UDP + len)); /* and no checksum, which IPv4 allows */
	return ETH + IP + UDP + len;
}

/* The BOOTP message in it; NULL: it is no answer of a DHCP server's. */
static const uint8_t *message(const uint8_t *frame, size_t len, size_t *ret_len)
{
	const uint8_t *ip = frame + ETH, *udp;
	size_t header, total;

	if (len < ETH + IP + UDP || get16(frame + 12) != 0x0800 || ip[0] >> 4 != 4)
		return NULL;
	header = (ip[0] & 15u) * 4;
	total = get16(ip + 2);
	if (header < IP || total > len - ETH || total < header + UDP || ip[9] != IPPROTO_UDP ||
		(get16(ip + 6) & 0x3fff) /* a fragment */)
		return NULL;
	udp = ip + header;
	if (get16(udp) != SERVER_PORT || get16(udp + 2) != CLIENT_PORT ||
		get16(udp + 4) > total - header || get16(udp + 4) < UDP + OPTIONS)
		return NULL;
	*ret_len = get16(udp + 4) - UDP;
	return udp + UDP;
}

/* What is no name of a domain has no place in the guest's resolv.conf. */
static void take_domain(struct lease *l, const uint8_t *p, unsigned n)
{
	while (n && p[n - 1] == 0)
		n--;
	if (n == 0 || n >= sizeof(l->domain))
		return;
	for (unsigned i = 0; i < n; i++)
		if (!isalnum(p[i]) && p[i] != '-' && p[i] != '.' && p[i] != '_')
			return;
	memcpy(l->domain, p, n);
	l->domain[n] = '\0';
}

static void take_option(struct lease *l, int *type, unsigned what, const uint8_t *p, unsigned n)
{
	switch (what) {
	case TYPE:
		if (n == 1)
			*type = *p;
		break;
	case MASK: {
		uint32_t mask = n == 4 ? get32(p) : 0;

		/* ones, then zeros */
		if (mask && !(~mask & (~mask + 1)))
			l->prefix = (unsigned)__builtin_popcount(mask);
		break;
	}
	case ROUTER:
		if (n >= 4)
			memcpy(&l->router, p, 4);
		break;
	case DNS:
		for (; n >= 4 && l->n_dns < DHCP_SERVERS; n -= 4, p += 4)
			memcpy(&l->dns[l->n_dns++], p, 4);
		break;
	case DOMAIN: take_domain(l, p, n); break;
	case LEASE_TIME:
		if (n == 4)
			l->seconds = get32(p);
		break;
	case SERVER:
		if (n == 4)
			memcpy(&l->server, p, 4);
		break;
	default: break;
	}
}

/* One that a host may have. */
static bool usable(struct in_addr a)
{
	uint32_t first = ntohl(a.s_addr) >> 24;

	return first != 0 && first != 127 && first < 224;
}

int dhcp_parse(
	const uint8_t *frame, size_t len, uint32_t xid, const uint8_t mac[6], struct lease *ret)
{
	size_t n = 0, at = OPTIONS;
	const uint8_t *b = message(frame, len, &n);
	int type = 0;

	*ret = (struct lease){0};
	if (!b || b[OP] != BOOTREPLY || get32(b + XID) != xid || memcmp(b + CHADDR, mac, 6) != 0 ||
		memcmp(b + COOKIE, cookie, sizeof(cookie)) != 0)
		return 0;
	while (at < n && b[at] != END) {
		unsigned what = b[at++], size;

		if (what == PAD)
			continue;
		if (at == n || at + 1 + (size = b[at]) > n)
			return 0;
		take_option(ret, &type, what, b + at + 1, size);
		at += 1 + size;
	}
	memcpy(&ret->addr, b + YIADDR, 4);
	if (type == DHCP_NAK)
		return type;
	if ((type != DHCP_OFFER && type != DHCP_ACK) || !usable(ret->addr) || !ret->prefix ||
		!ret->seconds || !ret->server.s_addr)
		return 0;
	if (ret->router.s_addr && !usable(ret->router))
		ret->router.s_addr = 0;
	return type;
}
