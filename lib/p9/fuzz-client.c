/* SPDX-License-Identifier: MIT */
/* A server says anything: every request of the client's is answered once, by what was sent or by the end. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/p9/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned answered;

static void done(void *ctx, const struct p9_msg *r, int error)
{
	struct p9_dirent d;
	int n;

	answered++;
	if ((r == NULL) != (error != 0))
		abort();
	for (size_t at = 0; r && r->data && at < r->count; at += (size_t)n) {
		n = p9_dirent_decode(
			(const uint8_t *)r->data + at, r->count - at, r->type > P9_TLOOKUP, &d);
		if (n <= 0)
			break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t types[] = {P9_TWALK, P9_TGETATTR, P9_TREAD, P9_TREADDIR,
		P9_TREADDIRPLUS, P9_TREADLINK, P9_TGETXATTR, P9_TSTATFS};
	struct p9_client *c;
	struct loop *l;
	int pair[2];

	answered = 0;
	if (size > 65536 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ||
		loop_new(&l) < 0)
		return 0;
	if (p9_client_new(&c, l, pair[0], NULL, NULL) < 0)
		abort();
	for (size_t i = 0; i < sizeof(types); i++) {
		struct p9_msg m = {.type = types[i], .count = 4096};

		p9_client_call(c, &m, done, NULL);
	}
	if (send(pair[1], data, size, MSG_NOSIGNAL) == (ssize_t)size)
		shutdown(pair[1], SHUT_WR);
	else
		close(pair[1]), pair[1] = -1;
	p9_client_drain(c);
	if (answered != sizeof(types))
		abort();
	p9_client_free(c);
	loop_free(l);
	if (pair[1] >= 0)
		close(pair[1]);
	return 0;
}
