/* SPDX-License-Identifier: MIT */
#include "vmm/sink.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "lib/base/test.h"

enum { MAX = 64 << 10 };

static void say(struct sink *s, const char *text)
{
	while (*text)
		sink_byte(s, (uint8_t)*text++);
}

/* As a file opened for appending. */
static int appended(void)
{
	int fd = memfd_create("console", MFD_CLOEXEC);

	if (fd < 0 || fcntl(fd, F_SETFL, O_APPEND) < 0)
		abort();
	return fd;
}

static off_t size(int fd)
{
	return lseek(fd, 0, SEEK_END);
}

TEST(a_line_and_what_is_left_are_written)
{
	int fd = appended();
	char buf[32] = "";
	struct sink *s;
	struct loop *l;

	REQUIRE(loop_new(&l) == 0 && sink_new(&s, l, fd, MAX) == 0);
	say(s, "one\ntwo");
	CHECK_EQ(size(fd), 4);
	sink_free(s);
	CHECK_EQ(pread(fd, buf, sizeof(buf) - 1, 0), 7);
	CHECK_STR(buf, "one\ntwo");
	loop_free(l);
	close(fd);
}

TEST(a_guest_that_writes_for_ever_does_not_fill_the_disk)
{
	static char buf[MAX + 1];
	int fd = appended();
	struct sink *s;
	struct loop *l;
	off_t most = 0;

	/* It counts what was there before. */
	REQUIRE(ftruncate(fd, MAX - 10) == 0);
	REQUIRE(loop_new(&l) == 0 && sink_new(&s, l, fd, MAX) == 0);
	for (unsigned i = 0; i < 10000; i++) {
		say(s, "so much to say about so little\n");
		most = size(fd) > most ? size(fd) : most;
	}
	say(s, "the last words\n");
	sink_free(s);
	CHECK(most <= MAX);
	REQUIRE(pread(fd, buf, MAX, 0) > 0);
	CHECK(strncmp(buf, "[the output before this", 23) == 0);
	CHECK(strstr(buf, "little\nthe last words\n"));
	loop_free(l);
	close(fd);
}

TEST(what_goes_through_a_pipe_is_all_there)
{
	struct sink *s;
	struct loop *l;
	int ends[2];
	char buf[16];

	REQUIRE(pipe(ends) == 0);
	REQUIRE(loop_new(&l) == 0 && sink_new(&s, l, ends[1], 8) == 0);
	for (unsigned i = 0; i < 100; i++) {
		say(s, "12345\n");
		CHECK_EQ(read(ends[0], buf, sizeof(buf)), 6);
	}
	sink_free(s);
	loop_free(l);
	close(ends[0]);
	close(ends[1]);
}

TEST_MAIN()
