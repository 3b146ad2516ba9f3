/* SPDX-License-Identifier: MIT */
/* The server of host programs on a unix socket, driven as a guest drives it: what it refuses, what it runs. */
#include "lib/base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "interop/programs.h"
#include "interop/server.h"
#include "lib/base/io.h"
#include "lib/wire/msg.h"

static const uint8_t secret[WSLX_SECRET_SIZE] = "the secret of one distribution!";
static char dir[] = "/tmp/wslx-interop.XXXXXX", sock_path[64];
static struct interop_server *server;

static void on_chld(void *ctx, int signo)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		interop_server_child_ended(server, pid, status);
}

static void gone(void *ctx)
{
	loop_quit(ctx, 42);
}

/* A server in a process of its own, which ends with 42 when the distribution's init is gone. */
static pid_t serve(void)
{
	struct interop_server_config cfg = {.secret = secret, .gone = gone};
	struct loop_src *chld;
	pid_t pid;

	if (!sock_path[0]) {
		if (!mkdtemp(dir))
			return -1;
		snprintf(sock_path, sizeof(sock_path), "%s/s", dir);
	}
	cfg.listen_fd = io_unix_listen(sock_path, 64);
	pid = fork();
	if (pid == 0) {
		alarm(TEST_TIMEOUT_S);
		signal(SIGPIPE, SIG_IGN);
		setenv("FROM_THE_HOST", "yes", 1);
		setenv("OVERRIDDEN", "host", 1);
		setenv("HOME", dir, 1);
		if (loop_new(&cfg.loop) < 0)
			_exit(1);
		cfg.ctx = cfg.loop;
		if (loop_signal(cfg.loop, SIGCHLD, on_chld, NULL, &chld) < 0 ||
			interop_server_new(&server, &cfg) < 0)
			_exit(1);
		int code = loop_run(cfg.loop);
		interop_server_free(server);
		_exit(code);
	}
	close(cfg.listen_fd);
	return pid;
}

static int end(pid_t pid)
{
	int status = 0;

	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return status;
}

__attribute__((destructor)) static void clean(void)
{
	if (sock_path[0]) {
		unlink(sock_path);
		rmdir(dir);
	}
}

static int dial(const void *key, size_t len, unsigned flags)
{
	int fd = io_unix_connect(sock_path);
	uint8_t b[300];
	struct wire_w w;

	wire_begin(&w, b, sizeof(b), WSLX_INTEROP, 0, 0, 0);
	wire_bytes(&w, WSLX_A_SECRET, key, len);
	wire_u32(&w, WSLX_A_FLAGS, flags);
	if (fd >= 0 && wire_send(&w, fd) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static int mine(unsigned flags)
{
	return dial(secret, sizeof(secret), flags);
}

struct prog {
	int ctl, stream;
	uint8_t b[4096];
};

/* Sends EXEC of a script with its output on a stream. 0, or what it was refused with; text: what came with the answer. */
static int begin(struct prog *p, const char *script, const char *user, const char *cwd, char *text,
	size_t cap)
{
	struct wire_msg m;
	struct wire_w w;

	p->ctl = mine(0);
	p->stream = -1;
	text[0] = '\0';
	wire_begin(&w, p->b, sizeof(p->b), WSLX_EXEC, 0, 1, 0);
	wire_str(&w, WSLX_A_ARG, "sh");
	wire_str(&w, WSLX_A_ARG, "-c");
	wire_str(&w, WSLX_A_ARG, script);
	wire_str(&w, WSLX_A_ENV, "OVERRIDDEN=guest");
	if (user)
		wire_str(&w, WSLX_A_USER, user);
	if (cwd)
		wire_str(&w, WSLX_A_CWD, cwd);
	wire_u32(&w, WSLX_A_FD1, WSLX_FD_PIPE);
	if (wire_send(&w, p->ctl) < 0 || wire_recv(p->ctl, p->b, sizeof(p->b), &m) < 0)
		return -1000;
	wire_get_str(&m, WSLX_A_TEXT, text, cap);
	if (m.error)
		return -(int)m.error;
	uint64_t cookie = wire_get_u64(&m, WSLX_A_COOKIE, 0);
	p->stream = mine(0);
	wire_begin(&w, p->b, sizeof(p->b), WSLX_ATTACH, 0, 0, 0);
	wire_u64(&w, WSLX_A_COOKIE, cookie);
	wire_u32(&w, WSLX_A_STREAM, 1);
	return wire_send(&w, p->stream) < 0 ? -1001 : 0;
}

static void drop(struct prog *p)
{
	close(p->ctl);
	if (p->stream >= 0)
		close(p->stream);
}

/* Runs it to its end: its output and exit status. */
static int run(const char *script, const char *user, const char *cwd, char *out, size_t cap)
{
	struct prog p;
	struct wire_msg m;
	size_t n = 0;
	ssize_t k;
	int r = begin(&p, script, user, cwd, out, cap);

	while (r == 0 && n + 1 < cap && (k = read(p.stream, out + n, cap - n - 1)) > 0)
		n += (size_t)k;
	if (r == 0) {
		out[n] = '\0';
		r = -1002;
		while (r == -1002 && wire_recv(p.ctl, p.b, sizeof(p.b), &m) == 0)
			if (m.type == WSLX_EXIT)
				r = (int)wire_get_u32(&m, WSLX_A_STATUS, 9999);
	}
	drop(&p);
	return r;
}

/* The server closes it without a word. */
static bool closed(int fd)
{
	char c;
	ssize_t n = read(fd, &c, 1);

	close(fd);
	return n == 0 || (n < 0 && errno == ECONNRESET);
}

TEST(a_program_runs_as_we_with_our_environment_below_its_own)
{
	char out[256], want[128];
	pid_t pid = serve();
	int stay = mine(WSLX_INTEROP_STAY);

	REQUIRE(stay >= 0);
	snprintf(want, sizeof(want), "%u yes guest %s", getuid(), dir);
	CHECK_EQ(run("printf '%s %s %s %s' $(id -u) $FROM_THE_HOST $OVERRIDDEN $HOME; exit 3", NULL,
			 "/", out, sizeof(out)),
		3);
	CHECK_STR(out, want);
	CHECK_EQ(run("test -z \"$WSL_DISTRO_NAME\"", NULL, "/", out, sizeof(out)), 0);
	close(stay);
	end(pid);
}

TEST(no_directory_is_home_and_no_user_can_be_named)
{
	char out[256];
	pid_t pid = serve();
	int stay = mine(WSLX_INTEROP_STAY);

	CHECK_EQ(run("pwd", NULL, "/no/such/dir", out, sizeof(out)), 0);
	out[strcspn(out, "\n")] = '\0';
	CHECK_STR(out, dir);
	CHECK_EQ(run("pwd", NULL, NULL, out, sizeof(out)), 0);
	out[strcspn(out, "\n")] = '\0';
	CHECK_STR(out, dir);
	CHECK_EQ(run("id", "root", NULL, out, sizeof(out)), -EPERM);
	close(stay);
	end(pid);
}

TEST(without_the_secret_a_connection_is_closed)
{
	uint8_t almost[WSLX_SECRET_SIZE], longer[WSLX_SECRET_SIZE + 1] = {0}, b[64];
	char out[64];
	pid_t pid = serve();
	int stay = mine(WSLX_INTEROP_STAY), fd;
	struct wire_w w;

	memcpy(almost, secret, sizeof(almost));
	almost[sizeof(almost) - 1] ^= 1;
	CHECK(closed(dial(almost, sizeof(almost), 0)));
	CHECK(closed(dial(almost, sizeof(almost), WSLX_INTEROP_STAY)));
	CHECK(closed(dial(secret, 0, 0)));
	CHECK(closed(dial(secret, sizeof(secret) - 1, 0)));
	memcpy(longer, secret, sizeof(secret));
	CHECK(closed(dial(longer, sizeof(longer), 0)));
	/* A session's message first, or what is no message at all. */
	fd = io_unix_connect(sock_path);
	wire_begin(&w, b, sizeof(b), WSLX_EXEC, 0, 1, 0);
	CHECK(wire_send(&w, fd) >= 0);
	CHECK(closed(fd));
	fd = io_unix_connect(sock_path);
	CHECK_EQ(io_write_full(fd, "GET / HTTP/1.1\r\n\r\n", 18), 0);
	CHECK(closed(fd));
	CHECK_EQ(run("exit 5", NULL, "/", out, sizeof(out)), 5);
	close(stay);
	end(pid);
}

TEST(nothing_runs_before_init_has_come_or_after_it_has_gone)
{
	char out[64], path[80], script[200];
	struct prog p;
	pid_t pid = serve();
	int status = 0, stay;

	CHECK(closed(mine(0)));
	stay = mine(WSLX_INTEROP_STAY);
	CHECK_EQ(run("exit 0", NULL, "/", out, sizeof(out)), 0);
	CHECK(closed(mine(WSLX_INTEROP_STAY))); /* there is one init */
	CHECK_EQ(run("exit 4", NULL, "/", out, sizeof(out)), 4);
	/* What still runs when it goes is hung up. */
	snprintf(path, sizeof(path), "%s/hup", dir);
	snprintf(script, sizeof(script),
		"trap 'echo x > %s; exit' HUP; echo up; while :; do sleep 0.02; done", path);
	REQUIRE(begin(&p, script, NULL, "/", out, sizeof(out)) == 0);
	CHECK_EQ(read(p.stream, out, 3), 3);
	close(stay);
	waitpid(pid, &status, 0);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
	for (int i = 0; i < 500 && access(path, F_OK) < 0; i++)
		usleep(10000);
	CHECK_EQ(access(path, F_OK), 0);
	unlink(path);
	drop(&p);
}

TEST(a_flood_of_strangers_does_not_keep_the_distribution_out)
{
	int fd[300], stay;
	char out[64];
	pid_t pid = serve();

	stay = mine(WSLX_INTEROP_STAY);
	for (int i = 0; i < 300; i++) {
		fd[i] = io_unix_connect(sock_path);
		CHECK(fd[i] >= 0);
		if (i % 2)
			CHECK_EQ(io_write_full(fd[i], "\x20\0\0\0\x50", 5), 0);
		if (i % 50 == 0)
			CHECK_EQ(run("exit 6", NULL, "/", out, sizeof(out)), 6);
	}
	CHECK_EQ(run("exit 7", NULL, "/", out, sizeof(out)), 7);
	CHECK(closed(fd[0]));
	for (int i = 1; i < 300; i++)
		close(fd[i]);
	close(stay);
	end(pid);
}

TEST(it_says_which_programs_there_are)
{
	uint8_t *b = malloc(WSLX_MSG_MAX);
	struct wire_attr a;
	struct wire_msg m;
	struct wire_w w;
	bool sh = false;
	pid_t pid = serve();
	int stay = mine(WSLX_INTEROP_STAY);

	wire_begin(&w, b, 64, WSLX_PROGRAMS, 0, 7, 0);
	CHECK(wire_send(&w, stay) >= 0);
	REQUIRE(wire_recv(stay, b, WSLX_MSG_MAX, &m) == 0);
	CHECK_EQ(m.type, WSLX_PROGRAMS);
	CHECK_EQ(m.id, 7);
	for (size_t pos = 0; wire_next(&m, &pos, &a);)
		sh |= a.tag == WSLX_A_NAME && a.len == 2 && !memcmp(a.data, "sh", 2);
	CHECK(sh);
	free(b);
	close(stay);
	end(pid);
}

TEST(programs_are_named_once_and_only_programs)
{
	char path[200], file[100];
	static const char *const names[] = {"a/one", "a/two", "b/two", "b/three", "b/text"};
	struct programs p;

	static char base[] = "/tmp/wslx-programs.XXXXXX";
	REQUIRE(mkdtemp(base));
	snprintf(file, sizeof(file), "%s/a", base);
	mkdir(file, 0755);
	snprintf(file, sizeof(file), "%s/b", base);
	mkdir(file, 0755);
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(file, sizeof(file), "%s/%s", base, names[i]);
		close(open(file, O_CREAT | O_WRONLY, i == 4 ? 0644 : 0755));
	}
	snprintf(path, sizeof(path), "%s/a:relative::%s/none:%s/b", base, base, base);
	REQUIRE(programs_list(path, &p) == 0);
	CHECK_EQ(p.n, 3);
	if (p.n == 3) {
		CHECK_STR(p.name[0], "one");
		CHECK_STR(p.name[1], "three");
		CHECK_STR(p.name[2], "two");
	}
	programs_done(&p);
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(file, sizeof(file), "%s/%s", base, names[i]);
		unlink(file);
	}
	snprintf(file, sizeof(file), "%s/a", base);
	rmdir(file);
	snprintf(file, sizeof(file), "%s/b", base);
	rmdir(file);
	rmdir(base);
}

TEST_MAIN()
