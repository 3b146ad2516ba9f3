/* SPDX-License-Identifier: MIT */
/* Calls between the server and both clients over a socket pair, the server on a thread of its own.
 */
#include "lib/base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "lib/ctl/client.h"
#include "lib/ctl/server.h"

struct fixture {
	struct loop *loop;
	struct ctl_server *srv;
	pthread_t thread;
	char dir[32], path[64];
	struct ctl_call *parked;
	int closed;
};

static void m_echo(void *ctx, struct ctl_call *call, struct json_object *params)
{
	ctl_reply(call, json_object_get(params), NULL);
}

static void m_fail(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct err e = {0};

	err_sys(&e, -ENOSPC, "grow disk %s", js_str(params, "name", "?"));
	ctl_fail(call, &e);
}

/* Writes the name into the passed descriptor and sends the reading end of a new pipe back. */
static void m_fds(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct ctl_fds f = {.n = 0};
	int fd = ctl_call_take_fd(call, 0), p[2];

	if (ctl_call_take_fd(call, 1) != -EBADF || write(fd, "in", 2) != 2 || pipe(p) < 0 ||
		write(p[1], "out", 3) != 3)
		abort();
	close(fd);
	close(p[1]);
	f.fd[f.n++] = p[0];
	ctl_event(call, js_set_str(js_object(), "stage", "half"));
	ctl_reply(call, NULL, &f);
}

static void parked_closed(void *ctx)
{
	struct fixture *f = ctx;
	struct err e = {0};

	f->closed++;
	err_set(&e, -EIO, "nobody hears this");
	ctl_fail(f->parked, &e);
	f->parked = NULL;
}

static void m_park(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct fixture *f = ctx;

	f->parked = call;
	ctl_call_on_close(call, parked_closed, f);
	ctl_event(call, js_set_str(js_object(), "stage", "parked"));
}

static void m_unpark(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct fixture *f = ctx;
	struct json_object *o = js_object();

	js_set_u64(o, "closed", (uint64_t)f->closed);
	js_set_bool(o, "parked", f->parked);
	if (f->parked)
		ctl_reply(f->parked, NULL, NULL);
	f->parked = NULL;
	ctl_reply(call, o, NULL);
}

static const struct js_field name_field[] = {{"name", JS_STR, .required = true}};
static const struct ctl_method methods[] = {
	{"echo", m_echo, name_field, 1},
	{"fail", m_fail, name_field, 1},
	{"fds", m_fds, .nfds = 1},
	{"park", m_park},
	{"unpark", m_unpark},
};

static void *serve(void *ctx)
{
	struct fixture *f = ctx;

	loop_run(f->loop);
	return NULL;
}

static void start(struct fixture *f)
{
	int fd;

	*f = (struct fixture){.dir = "/tmp/test-ctl.XXXXXX"};
	if (!mkdtemp(f->dir))
		abort();
	snprintf(f->path, sizeof(f->path), "%s/s", f->dir);
	fd = io_unix_listen(f->path, 16);
	if (fd < 0 || loop_new(&f->loop) < 0 ||
		ctl_server_new(f->loop, fd, methods, ARRAY_LEN(methods), f, &f->srv) < 0 ||
		pthread_create(&f->thread, NULL, serve, f))
		abort();
}

static void stop(struct fixture *f)
{
	loop_quit(f->loop, 0);
	pthread_join(f->thread, NULL);
	ctl_server_free(f->srv);
	loop_free(f->loop);
	unlink(f->path);
	rmdir(f->dir);
}

static int call_name(struct ctl_client *c, const char *method, const char *name,
	struct json_object **ret, struct err *e)
{
	struct ctl_req req = {
		.method = method, .params = name ? js_set_str(js_object(), "name", name) : NULL};

	return ctl_call(c, &req, ret, e);
}

TEST(calls_return_results_and_errors)
{
	cleanup(ctl_client_freep) struct ctl_client *c = NULL;
	cleanup_js struct json_object *o = NULL, *big = NULL;
	struct fixture f;
	struct err e = {0};

	start(&f);
	CHECK_EQ(ctl_connect(f.path, &c, &e), 0);
	CHECK_EQ(call_name(c, "echo", "x y", &o, &e), 0);
	CHECK_STR(js_str(o, "name", ""), "x y");
	CHECK_EQ(call_name(c, "fail", "d0", NULL, &e), -ENOSPC);
	CHECK_STR(e.text, "grow disk d0: No space left on device");
	CHECK_EQ(call_name(c, "nothing", NULL, NULL, &e), -ENOSYS);
	CHECK_EQ(call_name(c, "echo", NULL, NULL, &e), -EINVAL);
	CHECK_STR(e.text, "echo: argument 'name' is missing");
	/* A long one, in several pieces each way. */
	char *s = calloc(1, 200001);
	memset(s, 'a', 200000);
	CHECK_EQ(call_name(c, "echo", s, &big, &e), 0);
	CHECK_STR(js_str(big, "name", ""), s);
	free(s);
	stop(&f);
}

static void count_event(void *ctx, struct json_object *event)
{
	*(int *)ctx += strcmp(js_str(event, "stage", ""), "half") == 0;
}

TEST(descriptors_and_events_arrive)
{
	cleanup(ctl_client_freep) struct ctl_client *c = NULL;
	struct fixture f;
	struct err e = {0};
	struct ctl_fds got = {.n = 0};
	char buf[8] = "";
	int p[2], events = 0;

	start(&f);
	CHECK_EQ(ctl_connect(f.path, &c, &e), 0);
	REQUIRE(pipe(p) == 0);
	struct ctl_req req = {.method = "fds",
		.fds = &p[1],
		.nfds = 1,
		.on_event = count_event,
		.ctx = &events,
		.ret_fds = &got};
	CHECK_EQ(ctl_call(c, &req, NULL, &e), 0);
	CHECK_EQ(events, 1);
	REQUIRE(got.n == 1);
	CHECK_EQ(read(got.fd[0], buf, sizeof(buf)), 3);
	CHECK_STR(buf, "out");
	CHECK_EQ(fcntl(got.fd[0], F_GETFD), FD_CLOEXEC);
	close(p[1]);
	CHECK_EQ(read(p[0], buf, sizeof(buf)), 2);
	CHECK_EQ(read(p[0], buf, sizeof(buf)), 0); /* the server closed its copy */
	ctl_fds_close(&got);
	close(p[0]);
	CHECK_EQ(call_name(c, "fds", NULL, NULL, &e), -EINVAL);
	stop(&f);
}

static void quit_on_event(void *ctx, struct json_object *event)
{
	shutdown(*(int *)ctx, SHUT_RDWR);
}

TEST(a_call_learns_that_its_caller_died)
{
	cleanup(ctl_client_freep) struct ctl_client *c = NULL, *c2 = NULL;
	struct fixture f;
	struct err e = {0};

	start(&f);
	int fd = io_unix_connect(f.path);
	REQUIRE(fd >= 0 && ctl_client_new(fd, &c) == 0);
	struct ctl_req req = {.method = "park", .on_event = quit_on_event, .ctx = &fd};
	CHECK_EQ(ctl_call(c, &req, NULL, &e), -EPIPE);
	CHECK_EQ(ctl_connect(f.path, &c2, &e), 0);
	for (int i = 0;; i++) { /* the server sees the end soon, but not at once */
		cleanup_js struct json_object *o = NULL;

		REQUIRE(call_name(c2, "unpark", NULL, &o, &e) == 0 && i < 1000);
		if (js_u64(o, "closed", 0) == 1) {
			CHECK(!js_bool(o, "parked", true));
			break;
		}
		usleep(1000);
	}
	stop(&f);
}

TEST(garbage_ends_the_connection_and_nothing_else)
{
	static const char *const bad[] = {"}\n", "[]\n", "{}\n", "{\"method\":\"echo\"}\n",
		"{\"id\":1,\"method\":\"echo\",\"fds\":1}\n"};
	cleanup(ctl_client_freep) struct ctl_client *c = NULL;
	struct fixture f;
	struct err e = {0};
	char buf[64];

	start(&f);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		cleanup_close int fd = io_unix_connect(f.path);

		REQUIRE(fd >= 0);
		CHECK_EQ(write(fd, bad[i], strlen(bad[i])), strlen(bad[i]));
		CHECK_EQ(read(fd, buf, sizeof(buf)), 0);
	}
	/* A line without end, too. */
	cleanup_close int fd = io_unix_connect(f.path);
	static char junk[CTL_MAX_LINE];
	memset(junk, ' ', sizeof(junk));
	CHECK_EQ(io_write_full(fd, junk, sizeof(junk)), 0);
	CHECK_EQ(send(fd, junk, 2, MSG_NOSIGNAL), 2);
	CHECK(read(fd, buf, sizeof(buf)) <= 0);
	CHECK_EQ(ctl_connect(f.path, &c, &e), 0);
	CHECK_EQ(call_name(c, "echo", "alive", NULL, &e), 0);
	stop(&f);
}

struct async_test {
	struct loop *loop;
	struct ctl_async *a;
	unsigned done, failed;
	int last_error;
	char last[64];
};

static void async_done(void *ctx, struct json_object *result, const struct err *e)
{
	struct async_test *t = ctx;

	t->done++;
	t->failed += !result;
	t->last_error = e ? e->code : 0;
	snprintf(t->last, sizeof(t->last), "%s", js_str(result, "name", ""));
	if (t->done == 202)
		loop_quit(t->loop, 0);
}

TEST(many_asynchronous_calls_at_once)
{
	struct async_test t = {0};
	struct fixture f;

	start(&f);
	REQUIRE(loop_new(&t.loop) == 0);
	REQUIRE(ctl_async_new(t.loop, io_unix_connect(f.path), &t.a) == 0);
	ctl_async_call(t.a, "fail", js_set_str(js_object(), "name", "x"), NULL, async_done, &t);
	for (int i = 0; i <= 200; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n%d", i);
		ctl_async_call(
			t.a, "echo", js_set_str(js_object(), "name", name), NULL, async_done, &t);
	}
	CHECK_EQ(loop_run(t.loop), 0);
	CHECK_EQ(t.done, 202);
	CHECK_EQ(t.failed, 1);
	CHECK_STR(t.last, "n200");
	ctl_async_call(t.a, "park", NULL, NULL, async_done, &t);
	t.a = ctl_async_free(t.a); /* ends what is under way */
	CHECK_EQ(t.done, 203);
	CHECK_EQ(t.last_error, -EPIPE);
	loop_free(t.loop);
	stop(&f);
}

TEST_MAIN()
