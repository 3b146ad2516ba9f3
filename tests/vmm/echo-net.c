/* SPDX-License-Identifier: MIT */
/*
 * A network with one other machine on it, 10.1.2.3, that answers ARP and ping: the smallest server over lib/vhost, for any
 * vhost-user front end.
 *
 *	echo-net SOCKET        listens there, serves one connection, ends with it
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/io.h"
#include "lib/base/le.h"
#include "lib/base/log.h"
#include "lib/vhost/backend.h"

enum { RX, TX, QUEUES };
enum {
	HEAD = 12,
	FRAME_MAX = 1514
}; /* struct virtio_net_hdr of virtio 1; without offloads no frame is longer */
#define NET_F_MRG_RXBUF BIT(15)

/* Offsets in a frame. */
enum { DST = 0, SRC = 6, TYPE = 12, NET = 14 };
enum { TYPE_IP4 = 0x0800, TYPE_ARP = 0x0806 };
enum {
	ARP_LEN = 28,
	ARP_OP = NET + 6,
	ARP_SHA = NET + 8,
	ARP_SPA = NET + 14,
	ARP_THA = NET + 18,
	ARP_TPA = NET + 24
};
enum {
	IP_PROTO = NET + 9,
	IP_SRC = NET + 12,
	IP_DST = NET + 16,
	ICMP = NET + 20,
	ICMP_SUM = ICMP + 2
};
enum { ICMP_PROTO = 1, ECHO_REQUEST = 8 };

static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 3}, our_ip[4] = {10, 1, 2, 3};

struct net {
	struct loop *loop;
	struct vhost_backend *b;
	struct vring_chain tx, rx;
};

static bool arp_answer(uint8_t *f, size_t len)
{
	if (len < NET + ARP_LEN || be16_get(f + ARP_OP) != 1 || memcmp(f + ARP_TPA, our_ip, 4) != 0)
		return false;
	be16_put(f + ARP_OP, 2);
	memcpy(f + ARP_THA, f + ARP_SHA, 10);
	memcpy(f + ARP_SHA, our_mac, 6);
	memcpy(f + ARP_SPA, our_ip, 4);
	return true;
}

/* Addresses change places, which no sum notices; one for "reply" is 8 less than one for "request". */
static bool ping_answer(uint8_t *f, size_t len)
{
	uint32_t sum;

	if (len < ICMP + 8 || f[NET] != 0x45 || f[IP_PROTO] != ICMP_PROTO ||
		f[ICMP] != ECHO_REQUEST || memcmp(f + IP_DST, our_ip, 4) != 0)
		return false;
	memcpy(f + IP_DST, f + IP_SRC, 4);
	memcpy(f + IP_SRC, our_ip, 4);
	f[ICMP] = 0;
	sum = be16_get(f + ICMP_SUM) + (uint32_t)(ECHO_REQUEST << 8);
	be16_put(f + ICMP_SUM, (uint16_t)(sum + (sum >> 16)));
	return true;
}

/* A frame for the guest; without a buffer for it, it is lost, as on a wire. */
static void deliver(struct net *n, const uint8_t *frame, size_t len)
{
	uint8_t head[HEAD] = {[10] = 1}; /* num_buffers */
	size_t done;

	if (vhost_pop(n->b, RX, &n->rx) <= 0)
		return;
	done = vring_write(&n->rx, 0, head, HEAD);
	done += vring_write(&n->rx, HEAD, frame, len);
	vhost_push(n->b, RX, &n->rx, (uint32_t)done);
	vhost_flush(n->b, RX);
}

static void kick(void *ctx, unsigned q)
{
	struct net *n = ctx;
	uint8_t f[FRAME_MAX];

	while (q == TX && vhost_pop(n->b, TX, &n->tx) > 0) {
		size_t len = vring_read(&n->tx, HEAD, f, sizeof(f));
		uint16_t type = len > NET ? be16_get(f + TYPE) : 0;

		vhost_push(n->b, TX, &n->tx, 0);
		if ((type == TYPE_ARP && arp_answer(f, len)) ||
			(type == TYPE_IP4 && ping_answer(f, len))) {
			memcpy(f + DST, f + SRC, 6);
			memcpy(f + SRC, our_mac, 6);
			deliver(n, f, len);
		}
	}
	vhost_flush(n->b, q);
}

static void closed(void *ctx, int error)
{
	struct net *n = ctx;

	if (error)
		log_err(NULL, "the front end: %s", strerror(-error));
	loop_quit(n->loop, error ? 1 : 0);
}

static const struct vhost_dev_ops ops = {
	.features = NET_F_MRG_RXBUF, .n_queues = QUEUES, .kick = kick, .closed = closed};

int main(int argc, char **argv)
{
	struct net n = {0};
	struct err e;
	int listener, fd, r;

	log_init("echo-net", LOG_LVL_DEBUG);
	listener = argc == 2 ? io_unix_listen(argv[1], 1) : -EINVAL;
	fd = listener < 0 ? -1 : accept(listener, NULL, NULL);
	if (fd < 0 || loop_new(&n.loop) < 0) {
		log_err(NULL, "no connection at the socket");
		return 1;
	}
	if (vhost_backend_new(&n.b, n.loop, fd, &ops, &n, &e) < 0) {
		log_err(NULL, "%s", e.text);
		return 1;
	}
	r = loop_run(n.loop);
	vhost_backend_free(n.b);
	loop_free(n.loop);
	return r;
}
