/* SPDX-License-Identifier: MIT */
/* Messages of DNS (RFC 1035 §4.1) that we write ourselves. */
#include <string.h>
#include <strings.h>
#include "netd/dns.h"

enum { HEADER = 12, TYPE_A = 1, TYPE_AAAA = 28, TYPE_ANY = 255, CLASS_IN = 1, TTL = 60 };
enum { FLAG_QR = 0x8000, OPCODE = 0x7800, FLAG_RD = 0x0100, FLAG_RA = 0x0080, SERVFAIL = 2 };

static unsigned get16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static uint8_t *put16(uint8_t *p, unsigned v)
{
	*p++ = (uint8_t)(v >> 8);
	*p++ = (uint8_t)v;
	return p;
}

/* The question's end, its name with dots in name; 0: there is not exactly one plain question. */
static size_t question(const uint8_t *q, size_t len, char name[256], unsigned *ret_type)
{
	size_t at = HEADER, n = 0;

	if (len < HEADER || get16(q + 2) & (FLAG_QR | OPCODE) || get16(q + 4) != 1)
		return 0;
	for (;;) {
		unsigned label;

		if (at >= len)
			return 0;
		label = q[at++];
		if (label == 0)
			break;
		if (label > 63 || at + label > len || n + label + 1 > 255 ||
			memchr(q + at, 0, label))
			return 0;
		memcpy(name + n, q + at, label);
		n += label;
		name[n++] = '.';
		at += label;
	}
	name[n ? n - 1 : 0] = '\0';
	if (at + 4 > len || get16(q + at + 2) != CLASS_IN)
		return 0;
	*ret_type = get16(q + at);
	return at + 4;
}

/* The header and the question itself, as an answer begins. */
static uint8_t *begin(const uint8_t *q, size_t qlen, unsigned flags, unsigned answers, uint8_t *buf)
{
	memcpy(buf, q, qlen);
	put16(buf + 2, FLAG_QR | (get16(q + 2) & FLAG_RD) | FLAG_RA | flags);
	put16(buf + 6, answers);
	put16(buf + 8, 0);
	put16(buf + 10, 0);
	return buf + qlen;
}

static uint8_t *record(uint8_t *p, unsigned type, const void *addr, size_t n)
{
	p = put16(p, 0xc000 | HEADER); /* the question's name */
	p = put16(p, type);
	p = put16(p, CLASS_IN);
	p = put16(p, 0);
	p = put16(p, TTL);
	p = put16(p, (unsigned)n);
	memcpy(p, addr, n);
	return p + n;
}

size_t dns_answer(const uint8_t *q, size_t len, const struct in_addr *host,
	const struct in6_addr *host6, uint8_t *buf)
{
	char name[256];
	unsigned type;
	size_t qlen = question(q, len, name, &type);
	bool a, aaaa;
	uint8_t *p;

	if (!qlen || strcasecmp(name, DNS_HOST_NAME) != 0)
		return 0;
	a = type == TYPE_A || type == TYPE_ANY;
	aaaa = host6 && (type == TYPE_AAAA || type == TYPE_ANY);
	p = begin(q, qlen, 0, (unsigned)a + aaaa, buf);
	if (a)
		p = record(p, TYPE_A, host, 4);
	if (aaaa)
		p = record(p, TYPE_AAAA, host6, 16);
	return (size_t)(p - buf);
}

size_t dns_failure(const uint8_t *q, size_t len, uint8_t *buf)
{
	char name[256];
	unsigned type;
	size_t qlen = question(q, len, name, &type);

	return qlen ? (size_t)(begin(q, qlen, SERVFAIL, 0, buf) - buf) : 0;
}
