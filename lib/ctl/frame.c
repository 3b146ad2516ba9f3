/* SPDX-License-Identifier: MIT */
#include "lib/ctl/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "lib/base/utf8.h"

struct ctl_chunk {
	struct ctl_chunk *next;
	struct ctl_fds fds; /* still to be sent, with the first byte */
	size_t len, off;
	char data[];
};

void ctl_fds_close(struct ctl_fds *f)
{
	while (f->n)
		close(f->fd[--f->n]);
}

void ctl_in_done(struct ctl_in *in)
{
	while (in->nfds)
		close(in->fds[--in->nfds]);
	free(in->buf);
	*in = (struct ctl_in){0};
}

static int reserve(struct ctl_in *in, size_t more)
{
	size_t cap = in->cap ? in->cap : 4096;
	char *p;

	/* One byte beyond the longest line lets us see that it is too long. */
	if (more > CTL_MAX_LINE + 1 - in->len)
		return -EMSGSIZE;
	while (cap - in->len < more)
		cap *= 2;
	if (cap == in->cap)
		return 0;
	p = realloc(in->buf, cap);
	if (!p)
		return -ENOMEM;
	in->buf = p;
	in->cap = cap;
	return 0;
}

static int take_fds_in(struct ctl_in *in, const int *fds, unsigned nfds)
{
	int r = 0;

	for (unsigned i = 0; i < nfds; i++) {
		if (in->nfds < CTL_MAX_WAITING_FDS) {
			in->fds[in->nfds++] = fds[i];
		} else {
			close(fds[i]);
			r = -EMSGSIZE;
		}
	}
	return r;
}

int ctl_in_feed(struct ctl_in *in, const void *data, size_t len, const int *fds, unsigned nfds)
{
	int r = take_fds_in(in, fds, nfds);

	if (r == 0)
		r = reserve(in, len);
	if (r < 0)
		return r;
	memcpy(in->buf + in->len, data, len);
	in->len += len;
	return 0;
}

ssize_t ctl_in_read(struct ctl_in *in, int sock)
{
	int fds[IO_MAX_FDS], r;
	unsigned nfds = IO_MAX_FDS;
	size_t want = MIN((size_t)65536, CTL_MAX_LINE + 1 - in->len);
	ssize_t n;

	if (want == 0)
		return -EMSGSIZE;
	r = reserve(in, MIN(want, (size_t)4096));
	if (r < 0)
		return r;
	n = io_recv_fds(sock, in->buf + in->len, MIN(want, in->cap - in->len), fds, &nfds);
	if (n < 0)
		return n;
	in->len += (size_t)n;
	r = take_fds_in(in, fds, nfds);
	return r < 0 ? r : n;
}

int ctl_in_next(struct ctl_in *in, struct json_object **ret, struct ctl_fds *ret_fds)
{
	cleanup_js struct json_object *o = NULL;
	uint64_t nfds;
	size_t line;
	char *nl;
	int r;

	ret_fds->n = 0;
	if (in->scanned == in->len)
		return 0;
	nl = memchr(in->buf + in->scanned, '\n', in->len - in->scanned);
	if (!nl) {
		in->scanned = in->len;
		return in->len > CTL_MAX_LINE ? -EBADMSG : 0;
	}
	line = (size_t)(nl - in->buf);
	r = js_parse(in->buf, line, &o);
	if (r < 0)
		return r;
	if (!json_object_is_type(o, json_type_object))
		return -EBADMSG;
	nfds = js_u64(o, "fds", 0);
	if (nfds > in->nfds || nfds > CTL_MAX_FDS)
		return -EBADMSG;
	in->len -= line + 1;
	memmove(in->buf, nl + 1, in->len);
	in->scanned = 0;
	ret_fds->n = (unsigned)nfds;
	memcpy(ret_fds->fd, in->fds, nfds * sizeof(int));
	in->nfds -= (unsigned)nfds;
	memmove(in->fds, in->fds + nfds, in->nfds * sizeof(int));
	*ret = take_ptr(o);
	return 1;
}

void ctl_out_done(struct ctl_out *out)
{
	while (out->head) {
		struct ctl_chunk *c = out->head;

		out->head = c->next;
		ctl_fds_close(&c->fds);
		free(c);
	}
	*out = (struct ctl_out){0};
}

int ctl_out_push(struct ctl_out *out, struct json_object *obj, struct ctl_fds *f)
{
	cleanup_js struct json_object *o = obj;
	cleanup_ctl_fds struct ctl_fds fds = {.n = 0};
	struct ctl_chunk *c;
	const char *text;
	size_t len;

	if (f) {
		fds = *f;
		f->n = 0;
	}
	if (fds.n)
		js_set_u64(o, "fds", fds.n);
	text = js_text(o);
	len = strlen(text);
	if (len > CTL_MAX_LINE)
		return -EMSGSIZE;
	if (out->bytes + len > CTL_MAX_OUT)
		return -ENOBUFS;
	c = malloc(sizeof(*c) + len + 1);
	if (!c)
		return -ENOMEM;
	*c = (struct ctl_chunk){.fds = fds, .len = len + 1};
	fds.n = 0;
	memcpy(c->data, text, len + 1);
	if (out->mends)
		utf8_mend(c->data);
	c->data[len] = '\n';
	if (!out->head)
		out->tail = &out->head;
	*out->tail = c;
	out->tail = &c->next;
	out->bytes += c->len;
	return 0;
}

int ctl_out_flush(struct ctl_out *out, int sock)
{
	while (out->head) {
		struct ctl_chunk *c = out->head;
		ssize_t n =
			io_send_fds(sock, c->data + c->off, c->len - c->off, c->fds.fd, c->fds.n);

		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return (int)n;
		if (n > 0)
			ctl_fds_close(&c->fds);
		c->off += (size_t)n;
		out->bytes -= (size_t)n;
		if (c->off == c->len) {
			out->head = c->next;
			free(c);
		}
	}
	return 1;
}

int ctl_check_peer(int sock, struct err *e)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return err_sys(e, -errno, "who is at the other end of the socket");
	if (cred.uid != geteuid())
		return err_set(e, -EPERM, "the other end of the socket runs as user %u, not %u",
			cred.uid, geteuid());
	return 0;
}

int ctl_reply_error(struct json_object *reply, struct err *e)
{
	struct json_object *error = js_get(reply, "error");
	uint64_t code;

	if (!error)
		return 0;
	code = js_u64(error, "code", EIO);
	if (code == 0 || code > 4095)
		code = EIO;
	return err_set(e, -(int)code, "%s", js_str(error, "text", strerror((int)code)));
}
