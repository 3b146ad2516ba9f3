/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include "daemon/resolv.h"
#include "lib/base/io.h"

TEST(servers_and_domains_are_read_and_the_rest_is_passed_over)
{
	char text[] = "# nameserver 192.0.2.9\n"
		      "; search wrong.example\n"
		      "nameserver 192.0.2.1\r\n"
		      "  nameserver\t2001:db8::1  # and so on\n"
		      "nameserver fe80::1%7\n"
		      "nameserver 127.0.0.1#5300\n"
		      "nameserver host.example\n"
		      "nameserver 192.0.2.1#x\n"
		      "nameserver\n"
		      "domain old.example\n"
		      "search one.example  two.example . bad/domain\n"
		      "options edns0\n"
		      "sortlist 192.0.2.0";
	struct resolv r;

	resolv_parse(text, &r);
	REQUIRE(r.n_servers == 4);
	CHECK_STR(r.server[0], "192.0.2.1");
	CHECK_STR(r.server[1], "2001:db8::1");
	CHECK_STR(r.server[2], "fe80::1%7");
	CHECK_STR(r.server[3], "127.0.0.1#5300");
	REQUIRE(r.n_domains == 2);
	CHECK_STR(r.domain[0], "one.example");
	CHECK_STR(r.domain[1], "two.example");
}

TEST(more_than_there_is_room_for)
{
	static char text[16384];
	struct resolv r;
	size_t n = 0;

	for (int i = 0; i < 100; i++)
		n += (size_t)sprintf(text + n, "nameserver 192.0.2.%d\n", i);
	n += (size_t)sprintf(text + n, "search");
	for (int i = 0; i < 100; i++)
		n += (size_t)sprintf(text + n, " d%d.example", i);
	resolv_parse(text, &r);
	CHECK_EQ(r.n_servers, RESOLV_SERVERS);
	CHECK_EQ(r.n_domains, RESOLV_DOMAINS);
}

TEST(without_a_file_this_host_serves)
{
	struct resolv r;

	resolv_read("/nonexistent/resolv.conf", &r);
	CHECK_EQ(r.n_servers, 1);
	CHECK_STR(r.server[0], "127.0.0.1");
}

static void changed(void *ctx)
{
	loop_quit(ctx, 7);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

/* The file, what it is a link to, and the link itself. */
TEST(changes_are_seen_whoever_makes_them_how)
{
	char dir[] = "/tmp/wslx-resolv.XXXXXX", etc[64], run[64], other[64], temp[64];
	struct resolv_watch *w = NULL;
	struct loop *l = NULL;

	REQUIRE(mkdtemp(dir) != NULL);
	snprintf(etc, sizeof(etc), "%s/resolv.conf", dir);
	snprintf(run, sizeof(run), "%s/run", dir);
	CHECK_EQ(io_mkdir_p(run, 0700), 0);
	snprintf(run, sizeof(run), "%s/run/stub.conf", dir);
	snprintf(other, sizeof(other), "%s/run/other.conf", dir);
	snprintf(temp, sizeof(temp), "%s/run/temp", dir);
	put(run, "nameserver 192.0.2.1\n");
	put(other, "nameserver 192.0.2.2\n");
	CHECK_EQ(symlink("run/stub.conf", etc), 0);
	REQUIRE(loop_new(&l) == 0);
	REQUIRE(resolv_watch_new(&w, l, etc, changed, l) == 0);
	put(run, "nameserver 192.0.2.3\n");
	CHECK_EQ(loop_run(l), 7);
	put(temp, "nameserver 192.0.2.4\n");
	CHECK_EQ(rename(temp, run), 0);
	CHECK_EQ(loop_run(l), 7);
	CHECK_EQ(unlink(etc), 0);
	CHECK_EQ(symlink(other, etc), 0);
	CHECK_EQ(loop_run(l), 7);
	put(other, "nameserver 192.0.2.5\n");
	CHECK_EQ(loop_run(l), 7);
	resolv_watch_free(w);
	loop_free(l);
	unlink(etc);
	unlink(run);
	unlink(other);
	snprintf(run, sizeof(run), "%s/run", dir);
	rmdir(run);
	rmdir(dir);
}

TEST_MAIN()
