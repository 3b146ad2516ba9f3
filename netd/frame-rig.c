/* SPDX-License-Identifier: MIT */
#include "netd/frame-rig.h"

#include <arpa/inet.h>
#include <string.h>

enum { ETH = 14 };

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static unsigned get16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static uint32_t add(uint32_t s, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		s += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}

static bool v6(const uint8_t *f)
{
	return get16(f + 12) == 0x86dd;
}

static size_t header(const uint8_t *f)
{
	return ETH + (v6(f) ? 40 : 20);
}

static unsigned protocol(const uint8_t *f)
{
	return v6(f) ? f[ETH + 6] : f[ETH + 9];
}

static uint32_t pseudo(const uint8_t *f, size_t len)
{
	uint32_t s = v6(f) ? add(0, f + ETH + 8, 32) : add(0, f + ETH + 12, 8);
	uint8_t rest[4] = {0, (uint8_t)protocol(f)};

	put16(rest + 2, (unsigned)(len - header(f)));
	return add(s, rest, 4);
}

static uint8_t *sum_at(uint8_t *f)
{
	return f + header(f) + (protocol(f) == IPPROTO_UDP ? 6 : 16);
}

static void finish(uint8_t *f, size_t len)
{
	put16(sum_at(f), 0);
	put16(sum_at(f), ~add(pseudo(f, len), f + header(f), len - header(f)) & 0xffff);
}

size_t rig_frame(uint8_t *f, const char *src, unsigned sport, const char *dst, unsigned dport,
	unsigned proto, const void *data, size_t len)
{
	bool six = strchr(src, ':') != NULL;
	size_t l4 = proto == IPPROTO_UDP ? 8 : 20, head = ETH + (six ? 40 : 20);
	uint8_t *ip = f + ETH, *t = f + head;

	memset(f, 0, head + l4);
	memcpy(f, "\x52\x55\x0a\x00\x02\x01\x52\x57\x53\x4c\x58\x01", 12);
	put16(f + 12, six ? 0x86dd : 0x0800);
	if (six) {
		ip[0] = 0x60;
		put16(ip + 4, (unsigned)(l4 + len));
		ip[6] = (uint8_t)proto;
		ip[7] = 64;
		inet_pton(AF_INET6, src, ip + 8);
		inet_pton(AF_INET6, dst, ip + 24);
	} else {
		ip[0] = 0x45;
		put16(ip + 2, (unsigned)(20 + l4 + len));
		ip[8] = 64;
		ip[9] = (uint8_t)proto;
		inet_pton(AF_INET, src, ip + 12);
		inet_pton(AF_INET, dst, ip + 16);
		put16(ip + 10, ~add(0, ip, 20) & 0xffff);
	}
	put16(t, sport);
	put16(t + 2, dport);
	if (proto == IPPROTO_UDP) {
		put16(t + 4, (unsigned)(8 + len));
	} else {
		t[12] = 5 << 4;
		t[13] = len ? RIG_PSH | RIG_ACK : RIG_SYN;
		put16(t + 14, 0xffff);
	}
	if (len)
		memcpy(t + l4, data, len);
	finish(f, head + l4 + len);
	return head + l4 + len;
}

bool rig_sums_ok(const uint8_t *f, size_t len)
{
	if (!v6(f) && add(0, f + ETH, 20) != 0xffff)
		return false;
	return add(pseudo(f, len), f + header(f), len - header(f)) == 0xffff;
}

void rig_partial_sum(uint8_t *f, size_t len)
{
	put16(sum_at(f), pseudo(f, len));
}

void rig_tcp(uint8_t *f, size_t len, uint32_t seq, uint32_t ack, unsigned flags)
{
	uint8_t *t = f + header(f);

	put16(t + 4, seq >> 16);
	put16(t + 6, seq & 0xffff);
	put16(t + 8, ack >> 16);
	put16(t + 10, ack & 0xffff);
	t[13] = (uint8_t)flags;
	finish(f, len);
}
