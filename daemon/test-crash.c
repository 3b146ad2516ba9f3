/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include "daemon/crash.h"
#include "lib/base/io.h"

static char folder[64];

static void make_folder(void)
{
	strcpy(folder, "/tmp/test-crash-XXXXXX");
	if (!mkdtemp(folder))
		abort();
}

static unsigned count_files(void)
{
	DIR *d = opendir(folder);
	unsigned n = 0;

	for (struct dirent *de; d && (de = readdir(d));)
		n += de->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

static void remove_folder(void)
{
	DIR *d = opendir(folder);

	for (struct dirent *de; d && (de = readdir(d));)
		unlinkat(dirfd(d), de->d_name, 0);
	if (d)
		closedir(d);
	rmdir(folder);
}

static void touch(const char *name, time_t age)
{
	char path[400];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	if (fd < 0 || futimens(fd, (struct timespec[2]){{.tv_sec = time(NULL) - age},
					   {.tv_sec = time(NULL) - age}}) < 0)
		abort();
	close(fd);
}

static bool there(const char *name)
{
	char path[400];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return access(path, F_OK) == 0;
}

static int message(uint8_t *buf, size_t cap, const char *program, size_t len, uint32_t signo)
{
	struct wire_w w;

	wire_begin(&w, buf, cap, WSLX_CRASH, 0, 0, 0);
	wire_u32(&w, WSLX_A_PID, 42);
	wire_u64(&w, WSLX_A_TIME_NS, 1700000000ull * 1000000000);
	wire_u32(&w, WSLX_A_SIGNAL, signo);
	wire_bytes(&w, WSLX_A_NAME, program, len);
	return wire_end(&w);
}

static const char *name_of(const char *program, size_t len)
{
	static char name[200];
	uint8_t buf[4096];
	struct crash_info i;
	struct wire_msg m;
	int n = message(buf, sizeof(buf), program, len, 11);

	if (n < 0 || wire_parse(buf, (size_t)n, &m) < 0 || crash_parse(&m, &i) < 0)
		return "refused";
	crash_file_name(&i, name, sizeof(name));
	return name;
}

TEST(names_say_what_crashed)
{
	CHECK_STR(name_of("bash", 4), "wslx-crash-1700000000-42-bash-11.dmp");
	CHECK_STR(name_of("", 0), "wslx-crash-1700000000-42-unknown-11.dmp");
	CHECK_STR(name_of("g++-12", 6), "wslx-crash-1700000000-42-g++_12-11.dmp");
}

TEST(names_hold_nothing_that_means_something_to_a_file_system)
{
	char longname[300], *p;

	CHECK_STR(name_of("../../etc/x", 11), "wslx-crash-1700000000-42-.._.._etc_x-11.dmp");
	CHECK_STR(name_of("a\0b\n\x1b", 5), "wslx-crash-1700000000-42-a_b__-11.dmp");
	memset(longname, 'a', sizeof(longname));
	p = strstr(name_of(longname, sizeof(longname)), "-aaa");
	REQUIRE(p != NULL);
	CHECK_EQ(strspn(p + 1, "a"), 64);
}

TEST(what_is_no_crash_is_refused)
{
	uint8_t buf[256];
	struct crash_info i;
	struct wire_msg m;
	struct wire_w w;
	int n = message(buf, sizeof(buf), "x", 1, 65);

	REQUIRE(wire_parse(buf, (size_t)n, &m) == 0);
	CHECK_EQ(crash_parse(&m, &i), -EBADMSG);
	wire_begin(&w, buf, sizeof(buf), WSLX_HELLO, 0, 0, 0);
	n = wire_end(&w);
	REQUIRE(wire_parse(buf, (size_t)n, &m) == 0);
	CHECK_EQ(crash_parse(&m, &i), -EBADMSG);
}

TEST(the_newest_are_kept)
{
	make_folder();
	touch("wslx-crash-1-1-a-6.dmp", 300);
	touch("wslx-crash-2-1-a-6.dmp", 200);
	touch("wslx-crash-3-1-a-6.dmp", 100);
	touch("wslx-crash-4-1-a-6.dmp.part", 7200);
	touch("wslx-crash-5-1-a-6.dmp.part", 10);
	touch("letter", 9999);
	CHECK_EQ(crash_rotate(folder, 2), 2);
	CHECK(!there("wslx-crash-1-1-a-6.dmp") && !there("wslx-crash-4-1-a-6.dmp.part"));
	CHECK(there("wslx-crash-2-1-a-6.dmp") && there("wslx-crash-3-1-a-6.dmp"));
	CHECK(there("wslx-crash-5-1-a-6.dmp.part") && there("letter"));
	CHECK_EQ(crash_rotate(folder, 0), 2);
	CHECK_EQ(count_files(), 2);
	remove_folder();
	CHECK_EQ(crash_rotate(folder, 2), -ENOENT);
}

/* Runs the loop until fn says so; the test's time limit ends it otherwise. */
struct until {
	struct loop *l;
	struct loop_src *timer;
	bool (*fn)(void);
};

static void look(void *ctx)
{
	struct until *u = ctx;

	if (u->fn())
		loop_quit(u->l, 0);
	else
		loop_timer_arm(u->timer, loop_now() + 1000000);
}

static void run_until(struct loop *l, bool (*fn)(void))
{
	struct until u = {.l = l, .fn = fn};

	if (loop_timer(l, look, &u, &u.timer) < 0)
		abort();
	loop_timer_arm(u.timer, 1);
	loop_run(l);
	loop_src_free(u.timer);
}

static int probe;

static bool hung_up(void)
{
	char c;

	return recv(probe, &c, 1, MSG_DONTWAIT) == 0;
}

static bool dumped(void)
{
	return there("wslx-crash-1700000000-42-prog-11.dmp");
}

TEST(a_dump_arrives_whole)
{
	static const char body[] = "the dump";
	char path[100], *text;
	struct crash_config cfg = {.keep = 3};
	struct crash_sink *s;
	struct loop *l;
	uint8_t buf[256];
	size_t len;
	int n, fd;

	make_folder();
	snprintf(cfg.folder, sizeof(cfg.folder), "%s", folder);
	snprintf(path, sizeof(path), "%s/.sock", folder);
	REQUIRE(loop_new(&l) == 0);
	REQUIRE(crash_sink_new(l, path, &cfg, &s) == 0);
	fd = io_unix_connect(path);
	n = message(buf, sizeof(buf), "prog", 4, 11);
	CHECK_EQ(io_write_full(fd, buf, (size_t)n), 0);
	CHECK_EQ(io_write_full(fd, body, sizeof(body)), 0);
	close(fd);
	run_until(l, dumped);
	snprintf(path, sizeof(path), "%s/wslx-crash-1700000000-42-prog-11.dmp", folder);
	REQUIRE(io_read_file(path, 1000, &text, &len) == 0);
	CHECK_EQ(len, sizeof(body));
	CHECK_STR(text, body);
	free(text);

	/* Nonsense ends the connection and leaves no file. */
	snprintf(path, sizeof(path), "%s/.sock", folder);
	probe = io_unix_connect(path);
	CHECK_EQ(io_write_full(probe, "\xff\xff\xff\xff", 4), 0);
	run_until(l, hung_up);
	close(probe);
	CHECK_EQ(count_files(), 1);
	/* And one that is under way at the end is dropped. */
	fd = io_unix_connect(path);
	CHECK_EQ(io_write_full(fd, buf, (size_t)n), 0);
	crash_sink_free(s);
	close(fd);
	CHECK_EQ(count_files(), 1);
	loop_free(l);
	remove_folder();
}

TEST_MAIN()
