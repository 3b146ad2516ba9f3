/* SPDX-License-Identifier: MIT */
/* The client's side of a session, with a distribution that answers what it likes. */
#include "lib/base/test.h"

#include <stdarg.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/session/client.h"

enum { LOST = 77 };

static int failed(const char *fmt, ...)
{
	return CLIENT_FAILED;
}

static void warned(const char *fmt, ...)
{
}

static void request(void *ctx, struct wire_w *w)
{
	wire_str(w, WSLX_A_ARG, "true");
}

static int lost(void *ctx)
{
	return LOST;
}

static const struct client client = {
	.intent = "test", .fail = failed, .warning = warned, .request = request, .lost = lost};

struct peer {
	int fd[4];
	pid_t pid;
};

/* A client in a process of its own, up to where STARTED is to come. */
static void begin(struct peer *p)
{
	const struct client_streams st = {.n = 3, .stream = {0, 1, 2}};
	uint8_t buf[4096];
	struct wire_msg m;
	struct wire_w w;
	int theirs[4];

	for (int i = 0; i < 4; i++) {
		int pair[2];

		REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
		p->fd[i] = pair[0];
		theirs[i] = pair[1];
	}
	p->pid = fork();
	if (p->pid == 0) {
		for (int i = 0; i < 4; i++)
			close(p->fd[i]);
		alarm(30);
		_exit(client_run(&client, &st, theirs));
	}
	for (int i = 0; i < 4; i++)
		close(theirs[i]);
	REQUIRE(wire_recv(p->fd[0], buf, sizeof(buf), &m) == 0);
	CHECK_EQ(m.type, WSLX_EXEC);
	wire_begin(&w, buf, sizeof(buf), WSLX_EXEC, WSLX_MSG_REPLY, m.id, 0);
	wire_u64(&w, WSLX_A_COOKIE, 1);
	REQUIRE(wire_send(&w, p->fd[0]) == 0);
	for (int i = 1; i < 4; i++)
		REQUIRE(wire_recv(p->fd[i], buf, sizeof(buf), &m) == 0);
}

static void say(struct peer *p, enum wslx_type type)
{
	uint8_t buf[64];
	struct wire_w w;

	wire_begin(&w, buf, sizeof(buf), type, 0, 0, 0);
	wire_u32(&w, WSLX_A_STATUS, 3);
	/* A client that has seen enough is gone. */
	(void)!wire_send(&w, p->fd[0]);
}

/* Its exit status, or 1000 and a signal's number. */
static int end(struct peer *p)
{
	int status = -1;

	for (int i = 0; i < 4; i++)
		close(p->fd[i]);
	waitpid(p->pid, &status, 0);
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

TEST(the_programs_status_is_the_clients)
{
	struct peer p;

	begin(&p);
	say(&p, WSLX_STARTED);
	say(&p, WSLX_EXIT);
	CHECK_EQ(end(&p), 3);
}

TEST(a_distribution_that_starts_its_program_again_and_again_is_left)
{
	struct peer p;

	begin(&p);
	for (int i = 0; i < 8; i++)
		say(&p, WSLX_STARTED);
	CHECK_EQ(end(&p), CLIENT_FAILED);
}

TEST(a_connection_that_breaks_off_is_said_to_be_lost)
{
	struct peer p;

	begin(&p);
	CHECK_EQ(end(&p), LOST);
}

TEST_MAIN()
