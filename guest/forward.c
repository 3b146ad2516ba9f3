/* SPDX-License-Identifier: MIT */
/* Connections from the host to listeners of the guest. */
#include <errno.h>
#include <linux/vm_sockets.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "guest/ports.h"
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/acceptor.h"
#include "lib/session/conn.h"
#include "lib/session/datagram.h"
#include "lib/session/join.h"

enum { MAX_FORWARDS = 16384 };

struct forward {
	struct loop *loop;
	struct conn *conn;
	uint32_t id;
	int sock;
	struct loop_src *src;
	struct join *join;
	/* UDP: what the host sends over its stream, and the socket answers */
	bool udp;
	struct datagrams *stream;
};

static struct server {
	struct loop *loop;
	unsigned n;
} server;

static void end(struct forward *f)
{
	loop_src_free(f->src);
	conn_free(f->conn);
	join_free(f->join);
	datagrams_free(f->stream);
	if (f->sock >= 0)
		close(f->sock);
	free(f);
	server.n--;
}

static void joined_end(void *ctx, struct join *j)
{
	end(ctx);
}

static void reply(struct forward *f, int code)
{
	uint8_t buf[128];
	struct wire_w w;

	wire_begin(&w, buf, sizeof(buf), WSLX_FORWARD, WSLX_MSG_REPLY, f->id, (uint32_t)-code);
	if (code)
		wire_str(&w, WSLX_A_TEXT, strerror(-code));
	conn_send(f->conn, &w);
}

static void refuse(struct forward *f, int code)
{
	reply(f, code);
	end(f);
}

static void from_host(void *ctx, const uint8_t *data, size_t len)
{
	struct forward *f = ctx;

	(void)!send(f->sock, data, len, MSG_NOSIGNAL);
}

static void host_ended(void *ctx)
{
	end(ctx);
}

static const struct datagrams_ops datagram_ops = {from_host, host_ended};

static void from_guest(void *ctx, int fd, uint32_t revents)
{
	static uint8_t buf[DATAGRAM_MAX];
	struct forward *f = ctx;
	ssize_t n = recv(fd, buf, sizeof(buf), 0);

	if (n >= 0)
		datagrams_send(f->stream, buf, (size_t)n);
	else if (errno != EAGAIN && errno != EINTR)
		end(f); /* nobody listens there any more */
}

static void begin_datagrams(struct forward *f, int host)
{
	if (io_set_nonblock(host, true) < 0 ||
		datagrams_new(&f->stream, f->loop, host, &datagram_ops, f) < 0) {
		f->stream = NULL;
		end(f);
	} else if (loop_io(f->loop, f->sock, EPOLLIN, from_guest, f, &f->src) < 0) {
		end(f);
	}
}

static void connected(struct forward *f)
{
	int host, sock;

	reply(f, 0);
	host = conn_detach(f->conn);
	f->conn = NULL;
	if (f->udp) {
		begin_datagrams(f, host);
		return;
	}
	sock = take_fd(f->sock);
	if (join_new(&f->join, f->loop, host, sock, joined_end, f) < 0) {
		f->join = NULL;
		end(f);
	}
}

static void on_connected(void *ctx, int fd, uint32_t revents)
{
	struct forward *f = ctx;
	socklen_t len = sizeof(int);
	int error = 0;

	f->src = loop_src_free(f->src);
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error)
		refuse(f, -error);
	else
		connected(f);
}

/* Over the loopback interface it is there by the second try; only for a listener that is behind it has to be waited. */
static int begin_connect(int sock, const struct sockaddr_storage *ss, socklen_t len)
{
	for (int i = 0; i < 2; i++)
		if (connect(sock, (const struct sockaddr *)ss, len) == 0 || errno == EISCONN)
			return 0;
		else if (errno != EINPROGRESS && errno != EALREADY)
			break;
	return -errno;
}

/* Where a listener that takes connections from everywhere is reached. */
static socklen_t address(const struct listener *li, struct sockaddr_storage *ss)
{
	struct sockaddr_in *in4 = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;

	*ss = (struct sockaddr_storage){.ss_family = (sa_family_t)li->family};
	if (li->family == AF_INET) {
		in4->sin_port = htons(li->port);
		in4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return sizeof(*in4);
	}
	in6->sin6_port = htons(li->port);
	in6->sin6_addr = in6addr_loopback;
	return sizeof(*in6);
}

static void on_msg(void *ctx, struct conn *c, const struct wire_msg *m)
{
	struct forward *f = ctx;
	struct sockaddr_storage ss;
	struct listener li;
	char text[LISTENER_TEXT];
	socklen_t len;
	int r;

	f->id = m->id;
	if (f->sock >= 0 || m->type != WSLX_FORWARD ||
		wire_get_str(m, WSLX_A_LISTENER, text, sizeof(text)) <= 0 ||
		!listener_parse(text, &li)) {
		refuse(f, -EINVAL);
		return;
	}
	len = address(&li, &ss);
	f->udp = li.udp;
	ports_enter(li.distro);
	f->sock = socket(
		li.family, (li.udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	r = f->sock < 0 ? -errno : begin_connect(f->sock, &ss, len);
	ports_enter("");
	if (r == -EINPROGRESS || r == -EALREADY)
		r = loop_io(f->loop, f->sock, EPOLLOUT, on_connected, f, &f->src);
	else if (r == 0)
		connected(f);
	if (r < 0)
		refuse(f, r);
}

static void on_end(void *ctx, struct conn *c, int code)
{
	end(ctx);
}

static const struct conn_ops ops = {on_msg, on_end};

static void on_connection(void *ctx, int conn)
{
	struct sockaddr_vm peer = {0};
	socklen_t len = sizeof(peer);
	struct forward *f;

	(void)!getpeername(conn, (struct sockaddr *)&peer, &len);
	f = peer.svm_cid == WSLX_CID_HOST && server.n < MAX_FORWARDS ? calloc(1, sizeof(*f)) : NULL;
	if (!f) {
		close(conn);
		return;
	}
	server.n++;
	*f = (struct forward){.loop = server.loop, .sock = -1};
	if (conn_new(&f->conn, f->loop, conn, &ops, f) < 0) {
		f->conn = NULL;
		end(f);
	}
}

int forward_serve(struct loop *l, int fd)
{
	static struct acceptor *acceptor;
	int r = io_set_nonblock(fd, true);

	server.loop = l;
	return r < 0 ? r : acceptor_new(&acceptor, l, fd, 0, on_connection, NULL);
}
