/* SPDX-License-Identifier: MIT */
/* See message.h. */
#include "lib/vhost/message.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "lib/base/io.h"

int vu_send(int fd, uint32_t request, uint32_t flags, const void *payload, uint32_t len,
	const int *fds, unsigned nfds)
{
	struct vu_header h = {.request = request, .flags = VU_VERSION | flags, .size = len};
	uint8_t buf[sizeof(h) + VU_PAYLOAD_MAX];
	ssize_t n;

	if (len > VU_PAYLOAD_MAX)
		return -EMSGSIZE;
	memcpy(buf, &h, sizeof(h));
	if (len)
		memcpy(buf + sizeof(h), payload, len);
	n = io_send_fds(fd, buf, sizeof(h) + len, fds, nfds);
	if (n < 0)
		return (int)n;
	/* So little always fits, unless the other side stopped reading long ago. */
	return (size_t)n == sizeof(h) + len ? 0 : -EAGAIN;
}

static int receive_to(int fd, struct vu_in *in, size_t want)
{
	uint8_t *at = in->got < sizeof(in->msg.h) ? (uint8_t *)&in->msg.h + in->got
						  : in->msg.p.raw + (in->got - sizeof(in->msg.h));
	unsigned n = VU_MAX_FDS - in->nfds;
	ssize_t got;

	if (in->got == want)
		return 1;
	got = io_recv_fds(fd, at, want - in->got, in->fds + in->nfds, &n);
	in->nfds += n;
	if (got == -EAGAIN)
		return 0;
	if (got <= 0)
		return got < 0 ? (int)got : in->got ? -EPIPE : -ENODATA;
	in->got += (size_t)got;
	return in->got == want;
}

int vu_receive(int fd, struct vu_in *in)
{
	const struct vu_header *h = &in->msg.h;
	int r;

	if (in->got < sizeof(*h)) {
		r = receive_to(fd, in, sizeof(*h));
		if (r <= 0)
			return r;
		/* Nothing of the last message is to be seen in a shorter one. */
		memset(&in->msg.p, 0, sizeof(in->msg.p));
	}
	if ((h->flags & VU_VERSION_MASK) != VU_VERSION)
		return -EPROTO;
	if (h->size > VU_PAYLOAD_MAX)
		return -EMSGSIZE;
	return receive_to(fd, in, sizeof(*h) + h->size);
}

void vu_in_done(struct vu_in *in)
{
	for (unsigned i = 0; i < in->nfds; i++)
		if (in->fds[i] >= 0)
			close(in->fds[i]);
	in->nfds = 0;
	in->got = 0;
}

int vu_take_fd(struct vu_in *in)
{
	int fd = in->nfds ? in->fds[0] : -1;

	if (in->nfds)
		in->fds[0] = -1;
	return fd;
}
