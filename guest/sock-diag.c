/* SPDX-License-Identifier: MIT */
/* Who listens, by sock_diag(7). */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "guest/ports.h"
#include "lib/base/cleanup.h"

/* <netinet/tcp.h> has them, and clashes: of a socket that listens, and of a UDP socket without a peer. */
enum { STATE_CLOSE = 7, STATE_LISTEN = 10 };

/* Is it one that connections to localhost reach? */
static bool at_localhost(const struct listener *li)
{
	static const uint8_t any[16], lo4[4] = {127, 0, 0, 1};

	if (li->family == AF_INET)
		return !memcmp(li->addr, any, 4) || !memcmp(li->addr, lo4, 4);
	return !memcmp(li->addr, any, 16) || !memcmp(li->addr, &in6addr_loopback, 16);
}

static bool v6_only(struct nlmsghdr *h)
{
	const struct inet_diag_msg *m = NLMSG_DATA(h);
	const uint8_t *p = (const uint8_t *)(m + 1), *end = (const uint8_t *)h + h->nlmsg_len;

	while (p + sizeof(struct nlattr) <= end) {
		struct nlattr a;

		memcpy(&a, p, sizeof(a));
		if (a.nla_len < sizeof(a) || p + a.nla_len > end)
			break;
		if (a.nla_type == INET_DIAG_SKV6ONLY && a.nla_len > sizeof(a))
			return p[sizeof(a)] != 0;
		p += NLA_ALIGN(a.nla_len);
	}
	return false;
}

struct dump {
	const char *distro;
	struct listener *list;
	unsigned n, cap;
};

static void add(struct dump *d, const struct listener *li)
{
	if (!at_localhost(li) || !li->port)
		return;
	for (unsigned i = 0; i < d->n; i++)
		if (!memcmp(&d->list[i], li, sizeof(*li)))
			return; /* SO_REUSEPORT */
	if (d->n < d->cap)
		d->list[d->n++] = *li;
}

static void take(struct dump *d, struct nlmsghdr *h, bool udp)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	const struct inet_diag_msg *m = NLMSG_DATA(h);
	struct listener li;

	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
		return;
	/* A peer, or a device: not for everybody. */
	if (m->id.idiag_dport || m->id.idiag_if)
		return;
	memset(&li, 0, sizeof(li));
	snprintf(li.distro, sizeof(li.distro), "%s", d->distro);
	li.udp = udp;
	li.family = m->idiag_family;
	li.port = ntohs(m->id.idiag_sport);
	/* A port that the kernel chose for a client looks like a listener's. */
	if (udp && !udp_was_bound(li.port))
		return;
	memcpy(li.addr, m->id.idiag_src, li.family == AF_INET ? 4 : 16);
	/* An IPv4 address of a socket for both, as Java has them. */
	if (li.family == AF_INET6 && !memcmp(li.addr, mapped, sizeof(mapped))) {
		li.family = AF_INET;
		memmove(li.addr, li.addr + sizeof(mapped), 4);
		memset(li.addr + 4, 0, sizeof(li.addr) - 4);
	}
	add(d, &li);
	/* "::" takes IPv4 too, unless told otherwise. */
	if (li.family == AF_INET6 && !memcmp(li.addr, &in6addr_any, 16) && !v6_only(h)) {
		li.family = AF_INET;
		add(d, &li);
	}
}

static int dump_one(int fd, int family, bool udp, struct dump *d)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 r;
	} q = {.h = {.nlmsg_len = sizeof(q),
		       .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		       .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
		.r = {.sdiag_family = (uint8_t)family,
			.sdiag_protocol = udp ? IPPROTO_UDP : IPPROTO_TCP,
			.idiag_states = 1u << (udp ? STATE_CLOSE : STATE_LISTEN)}};
	static union {
		struct nlmsghdr h;
		uint8_t bytes[32768];
	} buf;

	if (send(fd, &q, sizeof(q), 0) < 0)
		return -errno;
	for (;;) {
		ssize_t n = recv(fd, &buf, sizeof(buf), 0);

		if (n <= 0)
			return n < 0 ? -errno : -EPIPE;
		for (struct nlmsghdr *h = &buf.h; NLMSG_OK(h, (size_t)n); h = NLMSG_NEXT(h, n)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type == NLMSG_ERROR)
				return ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
			if (h->nlmsg_type == SOCK_DIAG_BY_FAMILY)
				take(d, h, udp);
		}
	}
}

static int order(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct listener));
}

int listeners_dump(const char *distro, struct listener *ret, unsigned cap)
{
	cleanup_close int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	static const int families[] = {AF_INET, AF_INET6};
	struct dump d = {.distro = distro, .list = ret, .cap = cap};

	if (fd < 0)
		return -errno;
	for (int udp = 0; udp < 2; udp++)
		for (size_t i = 0; i < ARRAY_LEN(families); i++) {
			int r = dump_one(fd, families[i], udp, &d);

			/* a kernel without one of them */
			if (r < 0 && r != -ENOENT)
				return r;
		}
	qsort(ret, d.n, sizeof(*ret), order);
	return (int)d.n;
}

void listener_text(const struct listener *li, char *buf, size_t cap)
{
	char addr[INET6_ADDRSTRLEN];

	inet_ntop(li->family, li->addr, addr, sizeof(addr));
	snprintf(buf, cap, "%s %s %u%s%s", li->udp ? "udp" : "tcp", addr, li->port,
		li->distro[0] ? " " : "", li->distro);
}

bool listener_parse(const char *text, struct listener *ret)
{
	char proto[4], addr[INET6_ADDRSTRLEN];
	unsigned port;
	int n = 0, more = 0;

	memset(ret, 0, sizeof(*ret));
	if (sscanf(text, "%3s %45s %u%n", proto, addr, &port, &n) != 3 || port == 0 || port > 65535)
		return false;
	if (text[n] &&
		(sscanf(text + n, " %39[0-9a-f-]%n", ret->distro, &more) != 1 || text[n + more]))
		return false;
	ret->udp = !strcmp(proto, "udp");
	if (!ret->udp && strcmp(proto, "tcp") != 0)
		return false;
	ret->port = (uint16_t)port;
	ret->family = strchr(addr, ':') ? AF_INET6 : AF_INET;
	return inet_pton(ret->family, addr, ret->addr) == 1;
}
