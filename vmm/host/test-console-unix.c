/* SPDX-License-Identifier: MIT */
/* The console's unix socket: who sees what, and that nobody can hold the guest. */
#include "lib/base/test.h"
#include <errno.h>
#include <sys/socket.h>
#include "lib/base/io.h"
#include "lib/os/thread.h"
#include "vmm/host/console-unix.h"
#include "vmm/virtio/fake-driver.h"

static char dir[64], path[80];
static struct loop *loop;
static struct os_thread *thread;
static struct fake f;

static void loop_thread(void *ctx)
{
	loop_run(loop);
}

static void start(void)
{
	struct console *c;

	strcpy(dir, "/tmp/test-console.XXXXXX");
	if (!mkdtemp(dir) || loop_new(&loop) < 0)
		abort();
	snprintf(path, sizeof(path), "%s/c", dir);
	fake_init(&f);
	if (console_new(&c, f.gm, "console0") < 0 || console_unix_attach(c, loop, path, NULL) < 0)
		abort();
	fake_attach(&f, console_dev(c), loop);
	if (!fake_start(&f, FAKE_ALL) || os_thread_start(&thread, "loop", loop_thread, NULL) < 0)
		abort();
}

static void stop(void)
{
	loop_quit(loop, 0);
	os_thread_join(thread);
	fake_done(&f);
	loop_free(loop);
	CHECK(access(path, F_OK) < 0);
	CHECK_EQ(rmdir(dir), 0);
}

static void say(const void *p, uint32_t len)
{
	gpa_t a = FAKE_HEAP;

	memcpy(fake_ptr(&f, a, len), p, len);
	fake_add(&f, 1, &(struct fake_buf){a, len, false}, 1, false);
	fake_kick(&f, 1);
	CHECK(fake_used(&f, 1, NULL, NULL)); /* at once, whatever the client does */
}

static int attach(void)
{
	int fd = io_unix_connect(path);

	if (fd < 0 || io_set_nonblock(fd, false) < 0)
		abort();
	return fd;
}

static void expect(int fd, const char *text)
{
	char buf[64] = {0};

	CHECK_EQ(io_read_full(fd, buf, strlen(text)), 0);
	CHECK_STR(buf, text);
}

TEST(output_is_kept_for_who_comes_later_and_input_arrives)
{
	gpa_t a = FAKE_HEAP + 0x10000;
	uint32_t len = 0;
	int fd, fd2;
	char c;

	start();
	say("boot\n", 5);
	fd = attach();
	expect(fd, "boot\n");
	say("login: ", 7);
	expect(fd, "login: ");
	CHECK_EQ(io_write_full(fd, "root\n", 5), 0); /* waits for a buffer */
	fake_add(&f, 0, &(struct fake_buf){a, 100, true}, 1, false);
	while (!fake_used(&f, 0, NULL, &len)) {
		fake_kick(&f, 0);
		usleep(1000);
	}
	CHECK_EQ(len, 5);
	CHECK(!memcmp(fake_ptr(&f, a, 5), "root\n", 5));
	/* The latest client has it. */
	fd2 = attach();
	expect(fd2, "boot\nlogin: ");
	CHECK_EQ(read(fd, &c, 1), 0);
	say("more", 4);
	expect(fd2, "more");
	/* Input that arrives while the guest has a buffer out. */
	fake_add(&f, 0, &(struct fake_buf){a, 100, true}, 1, false);
	fake_kick(&f, 0);
	CHECK_EQ(io_write_full(fd2, "x", 1), 0);
	while (!fake_used(&f, 0, NULL, &len))
		usleep(1000);
	CHECK_EQ(len, 1);
	close(fd);
	close(fd2);
	stop();
}

TEST(a_client_that_does_not_read_loses_the_oldest_bytes)
{
	static char line[4096], last[64];
	int fd;

	start();
	fd = attach();
	say("begin\n", 6);
	expect(fd, "begin\n");
	for (unsigned i = 0; i < 1000; i++) { /* 4 MB, far more than a socket holds */
		memset(line, 'a' + i % 26, sizeof(line));
		snprintf(line, 16, "<%u>", i);
		say(line, sizeof(line));
	}
	say("the end\n", 8);
	/* It reads on: gaps, but the end is there. */
	shutdown(fd, SHUT_WR);
	for (size_t n = 0;;) {
		ssize_t k = read(fd, line, sizeof(line));

		if (k <= 0)
			break;
		for (ssize_t i = 0; i < k; i++) {
			if (n == sizeof(last) - 1)
				memmove(last, last + 1, --n);
			last[n++] = line[i];
		}
		if (n >= 8 && !memcmp(last + n - 8, "the end\n", 8))
			break;
	}
	CHECK(strstr(last, "the end\n") != NULL);
	close(fd);
	stop();
}

TEST(clients_come_and_go)
{
	start();
	for (unsigned i = 0; i < 500; i++) {
		int fd = attach();

		say(".", 1);
		if (i % 2) {
			char c;

			CHECK_EQ(read(fd, &c, 1), 1);
		}
		close(fd);
	}
	stop();
}

TEST_MAIN()
