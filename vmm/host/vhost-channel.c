/* SPDX-License-Identifier: MIT */
/* See vhost-channel.h. */
#include "vmm/host/vhost-channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"

struct vhost_channel {
	struct vhost *vh;
	int fd;
	struct loop_src *src;
	struct vu_in in;
};

int vhost_channel_do(struct vhost *vh, const struct vu_in *in)
{
	const struct vu_msg *m = &in->msg;
	const struct vu_shmem *s = &m->p.shmem;

	switch (m->h.request) {
	case VU_BACKEND_CONFIG_CHANGE: return 0; /* all of it is ours */
	case VU_BACKEND_SHMEM_MAP:
	case VU_BACKEND_SHMEM_UNMAP: break;
	default: return -EOPNOTSUPP;
	}
	if (m->h.size < sizeof(*s) || s->id != 0 || s->flags & ~(uint64_t)VU_SHMEM_WRITABLE)
		return -EINVAL;
	if (m->h.request == VU_BACKEND_SHMEM_UNMAP)
		return vhost_unmap(vh, s->shm_offset, s->len);
	if (in->nfds != 1)
		return -EBADF;
	return vhost_map(
		vh, s->shm_offset, s->len, in->fds[0], s->fd_offset, s->flags & VU_SHMEM_WRITABLE);
}

static void hang_up(struct vhost_channel *c)
{
	c->src = loop_src_free(c->src);
	vu_in_done(&c->in);
	if (c->fd >= 0)
		close(take_fd(c->fd));
}

static int one_message(struct vhost_channel *c)
{
	const struct vu_header *h = &c->in.msg.h;
	int r = vu_receive(c->fd, &c->in);
	uint64_t answer;

	if (r <= 0)
		return r;
	if (h->flags & VU_REPLY)
		return -EPROTO;
	r = vhost_channel_do(c->vh, &c->in);
	if (r < 0)
		log_debug(
			vhost_name(c->vh), "the server's request %u: %s", h->request, strerror(-r));
	answer = (uint64_t)-r;
	r = h->flags & VU_NEED_REPLY
		    ? vu_send(c->fd, h->request, VU_REPLY, &answer, sizeof(answer), NULL, 0)
		    : 0;
	vu_in_done(&c->in);
	return r < 0 ? r : 1;
}

void vhost_channel_serve(struct vhost_channel *c)
{
	enum { BATCH = 16 }; /* others have their turn */
	int r = 1;

	if (!c || c->fd < 0)
		return;
	for (unsigned i = 0; i < BATCH && r > 0; i++)
		r = one_message(c);
	if (r < 0)
		hang_up(c);
}

static void on_channel(void *ctx, int fd, uint32_t revents)
{
	vhost_channel_serve(ctx);
}

int vhost_channel_fd(const struct vhost_channel *c)
{
	return c ? c->fd : -1;
}

int vhost_channel_new(struct vhost_channel **ret, struct vhost *vh, struct loop *loop, int *theirs)
{
	struct vhost_channel *c = calloc(1, sizeof(*c));
	int pair[2], r;

	if (!c)
		return -ENOMEM;
	c->vh = vh;
	c->fd = -1;
	r = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ? -errno : 0;
	if (r == 0) {
		c->fd = pair[0];
		r = io_set_nonblock(c->fd, true);
		if (r == 0)
			r = loop_io(loop, c->fd, EPOLLIN, on_channel, c, &c->src);
		if (r < 0)
			close(pair[1]);
	}
	if (r < 0) {
		vhost_channel_free(c);
		return r;
	}
	*theirs = pair[1];
	*ret = c;
	return 0;
}

void vhost_channel_free(struct vhost_channel *c)
{
	if (!c)
		return;
	hang_up(c);
	free(c);
}
