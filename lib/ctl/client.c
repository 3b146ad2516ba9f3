/* SPDX-License-Identifier: MIT */
#include "lib/ctl/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/utf8.h"

struct ctl_client {
	int fd;
	uint64_t last_id;
	struct ctl_in in;
};

int ctl_client_new(int fd, struct ctl_client **ret)
{
	struct ctl_client *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	c->fd = fd;
	*ret = c;
	return 0;
}

int ctl_connect(const char *path, struct ctl_client **ret, struct err *e)
{
	cleanup_close int fd = io_unix_connect(path);
	int r;

	if (fd < 0)
		return err_sys(e, fd, "connect to %s", path);
	r = ctl_check_peer(fd, e);
	if (r < 0)
		return err_wrap(e, r, "%s", path);
	return ctl_client_new(take_fd(fd), ret);
}

void ctl_client_free(struct ctl_client *c)
{
	if (!c)
		return;
	close(c->fd);
	ctl_in_done(&c->in);
	free(c);
}

static int call_send(struct ctl_client *c, const struct ctl_req *req)
{
	cleanup_js struct json_object *o = js_object();
	const char *text;
	size_t len, done;
	ssize_t n;

	js_set_u64(o, "id", ++c->last_id);
	js_set_str(o, "method", req->method);
	js_set(o, "params", req->params ? req->params : js_object());
	if (req->nfds)
		js_set_u64(o, "fds", req->nfds);
	text = js_text(o);
	len = strlen(text);
	if (len > CTL_MAX_LINE)
		return -EMSGSIZE;
	if (!utf8_is_valid(text))
		return -EILSEQ;
	n = io_send_fds(c->fd, text, len, req->fds, req->nfds);
	if (n < 0)
		return (int)n;
	for (done = (size_t)n; done < len; done += (size_t)n) {
		n = io_send_fds(c->fd, text + done, len - done, NULL, 0);
		if (n < 0)
			return (int)n;
	}
	n = io_send_fds(c->fd, "\n", 1, NULL, 0);
	return n < 0 ? (int)n : 0;
}

/* The next message of call c->last_id. */
static int call_recv(struct ctl_client *c, struct json_object **ret, struct ctl_fds *fds)
{
	for (;;) {
		int r = ctl_in_next(&c->in, ret, fds);
		ssize_t n;

		if (r < 0)
			return r;
		if (r > 0) {
			if (js_u64(*ret, "id", 0) == c->last_id)
				return 0;
			js_free(*ret);
			ctl_fds_close(fds);
			continue;
		}
		n = ctl_in_read(&c->in, c->fd);
		if (n <= 0)
			return n < 0 ? (int)n : -EPIPE;
	}
}

int ctl_call(
	struct ctl_client *c, const struct ctl_req *req, struct json_object **ret, struct err *e)
{
	int r = call_send(c, req);

	if (r == -EILSEQ)
		return err_set(e, r, "an argument is no UTF-8");
	if (r < 0)
		return err_sys(e, r, "call %s", req->method);
	for (;;) {
		cleanup_ctl_fds struct ctl_fds fds = {.n = 0};
		cleanup_js struct json_object *o = NULL;
		struct json_object *event;

		r = call_recv(c, &o, &fds);
		if (r == -EPIPE || r == -ECONNRESET)
			return err_set(e, -EPIPE, "the service went away during '%s'", req->method);
		if (r < 0)
			return err_sys(e, r, "answer to %s", req->method);
		event = js_get(o, "event");
		if (event) {
			if (req->on_event)
				req->on_event(req->ctx, event);
			continue;
		}
		r = ctl_reply_error(o, e);
		if (r < 0)
			return r;
		if (ret) {
			struct json_object *result = js_get(o, "result");

			*ret = result ? json_object_get(result) : js_object();
		}
		if (req->ret_fds) {
			*req->ret_fds = fds;
			fds.n = 0;
		}
		return 0;
	}
}
