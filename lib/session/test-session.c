/* SPDX-License-Identifier: MIT */
/* The session server on a unix socket, driven as the host's client drives it. Runs as whoever runs the tests. */
#include "lib/base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "lib/base/io.h"
#include "lib/session/session.h"
#include "lib/wire/msg.h"

static char sock_path[64];
static struct session_server *server;
static pid_t server_pid;

static void on_chld(void *ctx, int signo)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		session_child_ended(server, pid, status);
}

/* The server runs in a process of its own, as in the guest: it reaps its children. */
static bool serve(void)
{
	static char dir[] = "/tmp/wslx-session.XXXXXX";
	struct session_config sc = {.distro_name = "testdistro", .default_uid = getuid()};
	struct loop_src *chld;

	if (server_pid)
		return true;
	if (!mkdtemp(dir))
		return false;
	snprintf(sock_path, sizeof(sock_path), "%s/s", dir);
	sc.listen_fd = io_unix_listen(sock_path, 64);
	if (sc.listen_fd < 0)
		return false;
	server_pid = fork();
	if (server_pid == 0) {
		if (loop_new(&sc.loop) < 0 ||
			loop_signal(sc.loop, SIGCHLD, on_chld, NULL, &chld) < 0 ||
			session_server_new(&server, &sc) < 0)
			_exit(1);
		signal(SIGPIPE, SIG_IGN);
		alarm(120);
		loop_run(sc.loop);
		_exit(1);
	}
	close(sc.listen_fd);
	return server_pid > 0;
}

__attribute__((destructor)) static void end_server(void)
{
	if (server_pid > 0) {
		kill(server_pid, SIGKILL);
		waitpid(server_pid, NULL, 0);
		unlink(sock_path);
		*strrchr(sock_path, '/') = '\0';
		rmdir(sock_path);
	}
}

struct client {
	int ctl, stream[WSLX_STREAMS];
	uint8_t buf[4096];
	struct wire_msg m;
	uint32_t error;
	char text[256];
};

static int put_attach(uint64_t cookie, unsigned n)
{
	uint8_t b[64];
	struct wire_w w;
	int fd = io_unix_connect(sock_path);

	wire_begin(&w, b, sizeof(b), WSLX_ATTACH, 0, 0, 0);
	wire_u64(&w, WSLX_A_COOKIE, cookie);
	wire_u32(&w, WSLX_A_STREAM, n);
	return fd < 0 || wire_send(&w, fd) < 0 ? -1 : fd;
}

/* args: NULL-terminated. kinds: "ppt" etc. False when EXEC was refused: error and text are set. */
static bool ask(struct client *c, const char *kinds, unsigned flags, const char *user,
	const char *cwd, const char *const *args)
{
	static const enum wslx_tag tag[3] = {WSLX_A_FD0, WSLX_A_FD1, WSLX_A_FD2};
	struct wire_w w;

	memset(c, 0, sizeof(*c));
	for (int i = 0; i < WSLX_STREAMS; i++)
		c->stream[i] = -1;
	c->ctl = io_unix_connect(sock_path);
	wire_begin(&w, c->buf, sizeof(c->buf), WSLX_EXEC, 0, 1, 0);
	for (; *args; args++)
		wire_str(&w, WSLX_A_ARG, *args);
	wire_str(&w, WSLX_A_ENV, "FOO=b a r");
	wire_str(&w, WSLX_A_ENV, "TERM=dumb");
	if (user)
		wire_str(&w, WSLX_A_USER, user);
	if (cwd)
		wire_str(&w, WSLX_A_CWD, cwd);
	wire_u32(&w, WSLX_A_FLAGS, flags);
	wire_u32(&w, WSLX_A_ROWS, 33);
	wire_u32(&w, WSLX_A_COLS, 77);
	for (int i = 0; i < 3; i++)
		wire_u32(&w, tag[i],
			kinds[i] == 'p'	  ? WSLX_FD_PIPE
			: kinds[i] == 't' ? WSLX_FD_TTY
					  : WSLX_FD_NULL);
	if (wire_send(&w, c->ctl) < 0 || wire_recv(c->ctl, c->buf, sizeof(c->buf), &c->m) < 0)
		return false;
	c->error = c->m.error;
	wire_get_str(&c->m, WSLX_A_TEXT, c->text, sizeof(c->text));
	return !c->error;
}

/* The same, and its streams are attached. */
static bool run(struct client *c, const char *kinds, unsigned flags, const char *user,
	const char *cwd, const char *const *args)
{
	uint64_t cookie;

	if (!ask(c, kinds, flags, user, cwd, args))
		return false;
	cookie = wire_get_u64(&c->m, WSLX_A_COOKIE, 0);
	for (int i = 0; i < 3; i++)
		if (kinds[i] == 'p')
			c->stream[i] = put_attach(cookie, (unsigned)i);
	if (strchr(kinds, 't'))
		c->stream[WSLX_STREAM_TTY] = put_attach(cookie, WSLX_STREAM_TTY);
	return true;
}

/* Reads a stream to its end; returns the length, text NUL-terminated. */
static size_t slurp(int fd, char *buf, size_t cap)
{
	size_t n = 0;
	ssize_t k;

	while (n + 1 < cap && (k = read(fd, buf + n, cap - n - 1)) > 0)
		n += (size_t)k;
	buf[n] = '\0';
	return n;
}

/* Waits for the end: exit status, 1000 + signal, or -errno of FAILED. */
static int wait_exit(struct client *c)
{
	int r = -1000;

	while (wire_recv(c->ctl, c->buf, sizeof(c->buf), &c->m) == 0) {
		if (c->m.type == WSLX_EXIT) {
			uint32_t sig = wire_get_u32(&c->m, WSLX_A_SIGNAL, 0);

			r = sig ? 1000 + (int)sig : (int)wire_get_u32(&c->m, WSLX_A_STATUS, 9999);
			break;
		}
		if (c->m.type == WSLX_FAILED) {
			wire_get_str(&c->m, WSLX_A_TEXT, c->text, sizeof(c->text));
			r = -(int)wire_get_u32(&c->m, WSLX_A_ERRNO, 0);
			break;
		}
	}
	for (int i = 0; i < WSLX_STREAMS; i++)
		if (c->stream[i] >= 0)
			close(c->stream[i]);
	close(c->ctl);
	return r;
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

TEST(streams_stay_apart_and_the_status_comes_last)
{
	struct client c;
	char out[64], err[64];

	REQUIRE(serve());
	REQUIRE(run(&c, "ppp", 0, NULL, "/", ARGS("sh", "-c", "cat; echo err >&2; exit 7")));
	CHECK_EQ(io_write_full(c.stream[0], "hello", 5), 0);
	shutdown(c.stream[0], SHUT_WR);
	slurp(c.stream[1], out, sizeof(out));
	slurp(c.stream[2], err, sizeof(err));
	CHECK_STR(out, "hello");
	CHECK_STR(err, "err\n");
	CHECK_EQ(wait_exit(&c), 7);
}

TEST(a_signal_is_told_from_a_status)
{
	struct client c;

	REQUIRE(serve());
	REQUIRE(run(&c, "nnn", 0, NULL, "/", ARGS("sh", "-c", "kill -9 $$")));
	CHECK_EQ(wait_exit(&c), 1009);
}

TEST(a_program_that_is_not_there_fails_with_its_errno)
{
	struct client c;

	REQUIRE(serve());
	REQUIRE(run(&c, "nnn", 0, NULL, "/", ARGS("/no/such/program")));
	CHECK_EQ(wait_exit(&c), -ENOENT);
	REQUIRE(run(&c, "nnn", 0, NULL, "/", ARGS("/etc/passwd")));
	CHECK_EQ(wait_exit(&c), -EACCES);
}

TEST(an_unknown_user_or_directory_is_refused_by_name)
{
	struct client c;

	REQUIRE(serve());
	CHECK(!run(&c, "nnn", 0, "nobody-of-that-name", "/", ARGS("true")));
	CHECK_EQ(c.error, ENOENT);
	CHECK(strstr(c.text, "nobody-of-that-name"));
	close(c.ctl);
	CHECK(!run(&c, "nnn", WSLX_EXEC_CWD_MUST, NULL, "/no/such/dir", ARGS("true")));
	CHECK_EQ(c.error, ENOENT);
	CHECK(strstr(c.text, "/no/such/dir"));
	close(c.ctl);
	/* Without the flag it is a warning. */
	CHECK(run(&c, "nnn", 0, NULL, "/no/such/dir", ARGS("true")));
	CHECK(strstr(c.text, "/no/such/dir"));
	CHECK_EQ(wait_exit(&c), 0);
}

TEST(through_the_shell_words_stay_words_and_a_script_stays_a_script)
{
	struct client c;
	char out[256];

	REQUIRE(serve());
	REQUIRE(run(&c, "npn", WSLX_EXEC_SHELL, NULL, "/",
		ARGS("printf", "<%s>", "a b", "it's", "$HOME", "")));
	slurp(c.stream[1], out, sizeof(out));
	CHECK_STR(out, "<a b><it's><$HOME><>");
	CHECK_EQ(wait_exit(&c), 0);
	REQUIRE(run(&c, "npn", WSLX_EXEC_SHELL, NULL, "/", ARGS("echo $FOO | tr a-z A-Z; exit 3")));
	slurp(c.stream[1], out, sizeof(out));
	CHECK_STR(out, "B A R\n");
	CHECK_EQ(wait_exit(&c), 3);
}

TEST(a_descendant_that_keeps_the_output_open_is_not_waited_for)
{
	struct client c;
	char out[64];

	REQUIRE(serve());
	REQUIRE(run(&c, "npp", 0, NULL, "/", ARGS("sh", "-c", "sleep 30 & echo done")));
	CHECK_EQ(slurp(c.stream[1], out, sizeof(out)), 5);
	CHECK_EQ(wait_exit(&c), 0);
}

TEST(the_terminal_has_size_echo_and_interrupt)
{
	struct client c;
	char out[512];
	uint8_t b[64];
	struct wire_w w;
	size_t n = 0;

	REQUIRE(serve());
	REQUIRE(run(&c, "ttt", 0, NULL, "/",
		ARGS("sh", "-c",
			"stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.05; done")));
	while (n < sizeof(out) - 1 && !strstr((out[n] = '\0', out), "ready")) {
		ssize_t k = read(c.stream[3], out + n, sizeof(out) - 1 - n);
		REQUIRE(k > 0);
		n += (size_t)k;
	}
	CHECK(strstr(out, "33 77"));
	wire_begin(&w, b, sizeof(b), WSLX_RESIZE, 0, 0, 0);
	wire_u32(&w, WSLX_A_ROWS, 40);
	wire_u32(&w, WSLX_A_COLS, 100);
	CHECK_EQ(wire_send(&w, c.ctl) < 0, 0);
	slurp(c.stream[3], out, sizeof(out));
	CHECK(strstr(out, "40 100"));
	CHECK_EQ(wait_exit(&c), 5);

	REQUIRE(run(&c, "ttt", 0, NULL, "/", ARGS("sh", "-c", "echo go; exec sleep 60")));
	n = (size_t)read(c.stream[3], out, 2);
	CHECK_EQ(io_write_full(c.stream[3], "\003", 1), 0);
	CHECK_EQ(wait_exit(&c), 1002);
}

TEST(signals_reach_the_program_and_a_vanished_client_hangs_it_up)
{
	struct client c;
	char out[64], path[80];
	uint8_t b[64];
	struct wire_w w;

	REQUIRE(serve());
	REQUIRE(run(&c, "npn", 0, NULL, "/",
		ARGS("sh", "-c", "trap 'exit 4' USR1; echo x; while :; do sleep 0.05; done")));
	CHECK_EQ(read(c.stream[1], out, 2), 2);
	wire_begin(&w, b, sizeof(b), WSLX_SIGNAL_SEND, 0, 0, 0);
	wire_u32(&w, WSLX_A_SIGNAL, SIGUSR1);
	CHECK_EQ(wire_send(&w, c.ctl) < 0, 0);
	CHECK_EQ(wait_exit(&c), 4);

	snprintf(path, sizeof(path), "%s.hup", sock_path);
	char script[160];
	snprintf(script, sizeof(script),
		"trap 'echo hup > %s; exit' HUP; echo x; while :; do sleep 0.05; done", path);
	REQUIRE(run(&c, "npn", 0, NULL, "/", ARGS("sh", "-c", script)));
	CHECK_EQ(read(c.stream[1], out, 2), 2);
	close(c.ctl);
	close(c.stream[1]);
	for (int i = 0; i < 500 && access(path, F_OK) < 0; i++)
		usleep(10000);
	CHECK_EQ(access(path, F_OK), 0);
	unlink(path);
}

static void *feed(void *ctx)
{
	static uint8_t block[65536];
	int fd = *(int *)ctx;

	for (unsigned i = 0; i < sizeof(block); i++)
		block[i] = (uint8_t)(i * 2654435761u >> 13);
	for (int i = 0; i < 16 * 16; i++) {
		block[0] = (uint8_t)i;
		if (io_write_full(fd, block, sizeof(block)) < 0)
			return ctx; /* tells that it failed */
	}
	shutdown(fd, SHUT_WR);
	return NULL;
}

/* Sessions whose streams nobody attaches: they count, and cost no process. */
TEST(the_session_beyond_the_limit_is_refused_and_one_that_ends_makes_room)
{
	enum { LIMIT = 1024 };
	static const char *const args[] = {"true", NULL};
	static struct client c;
	static int fd[LIMIT];
	struct rlimit rl;
	int n = 0;

	REQUIRE(serve());
	REQUIRE(getrlimit(RLIMIT_NOFILE, &rl) == 0);
	rl.rlim_cur = rl.rlim_max;
	REQUIRE(setrlimit(RLIMIT_NOFILE, &rl) == 0);
	REQUIRE(prlimit(server_pid, RLIMIT_NOFILE, &rl, NULL) == 0);
	while (n < LIMIT && ask(&c, "nnp", 0, NULL, NULL, args))
		fd[n++] = c.ctl;
	REQUIRE(n == LIMIT);
	CHECK(!ask(&c, "nnp", 0, NULL, NULL, args));
	CHECK_EQ(c.error, EAGAIN);
	CHECK_STR(c.text, "too many sessions in this distribution");
	close(c.ctl);
	while (n > 0)
		close(fd[--n]);
	/* The server hears of their ends when it comes to them. */
	for (int i = 0; i < 500; i++) {
		if (run(&c, "nnn", 0, NULL, NULL, args))
			break;
		close(c.ctl);
		usleep(20000);
	}
	REQUIRE(c.error == 0);
	CHECK_EQ(wait_exit(&c), 0);
}

TEST(sixteen_mebibytes_through_cat_come_back_as_they_were)
{
	static uint8_t got[65536], want[65536];
	struct client c;
	pthread_t t;
	void *failure;
	bool same = true;

	REQUIRE(serve());
	REQUIRE(run(&c, "ppn", 0, NULL, "/", ARGS("cat")));
	REQUIRE(pthread_create(&t, NULL, feed, &c.stream[0]) == 0);
	for (unsigned i = 0; i < sizeof(want); i++)
		want[i] = (uint8_t)(i * 2654435761u >> 13);
	for (int i = 0; i < 16 * 16 && same; i++) {
		want[0] = (uint8_t)i;
		same = io_read_full(c.stream[1], got, sizeof(got)) == 0 &&
		       !memcmp(got, want, sizeof(got));
	}
	CHECK(same);
	CHECK_EQ(read(c.stream[1], got, 1), 0);
	pthread_join(t, &failure);
	CHECK(!failure);
	CHECK_EQ(wait_exit(&c), 0);
}

TEST_MAIN()
