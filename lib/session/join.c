/* SPDX-License-Identifier: MIT */
#include "lib/session/join.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include "lib/base/io.h"
#include "lib/session/relay.h"

struct half {
	struct join *j;
	int from;
	int to; /* a second descriptor of the other one: the loop watches a descriptor once */
	struct relay *relay;
};

struct join {
	struct half half[2];
	join_done_fn done;
	void *ctx;
};

static void ended(void *ctx, struct relay *r, bool sink_broke)
{
	struct half *h = ctx;
	struct join *j = h->j;

	h->relay = relay_free(r);
	shutdown(h->to, SHUT_WR);
	/* Who sends into the void is to hear of it. */
	if (sink_broke)
		shutdown(h->from, SHUT_RD);
	if (!j->half[0].relay && !j->half[1].relay)
		j->done(j->ctx, j);
}

int join_new(struct join **ret, struct loop *l, int a, int b, join_done_fn done, void *ctx)
{
	struct join *j = calloc(1, sizeof(*j));
	const int fd[2] = {a, b};
	int r = 0;

	if (!j) {
		close(a);
		close(b);
		return -ENOMEM;
	}
	*j = (struct join){.done = done, .ctx = ctx};
	for (int i = 0; i < 2; i++) {
		j->half[i] = (struct half){.j = j, .from = fd[i]};
		j->half[i].to = fcntl(fd[!i], F_DUPFD_CLOEXEC, 0);
		if (j->half[i].to < 0)
			r = -errno;
	}
	for (int i = 0; i < 2 && r == 0; i++) {
		struct half *h = &j->half[i];

		r = io_set_nonblock(h->from, true);
		if (r == 0)
			r = relay_new(&h->relay, l, h->from, h->to, ended, h);
	}
	if (r < 0) {
		join_free(j);
		return r;
	}
	*ret = j;
	return 0;
}

struct join *join_free(struct join *j)
{
	if (!j)
		return NULL;
	for (int i = 0; i < 2; i++) {
		relay_free(j->half[i].relay);
		close(j->half[i].from);
		if (j->half[i].to >= 0)
			close(j->half[i].to);
	}
	free(j);
	return NULL;
}
