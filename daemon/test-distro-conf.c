/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <unistd.h>
#include "daemon/distro-conf.h"
#include "lib/base/io.h"

static char path[64], warned[400];

static void warn(void *ctx, unsigned line, const char *text)
{
	size_t n = strlen(warned);

	snprintf(warned + n, sizeof(warned) - n, "%u: %s\n", line, text);
}

static struct distro_conf load(const char *name, const char *text)
{
	struct distro_conf c;

	warned[0] = '\0';
	snprintf(path, sizeof(path), "/tmp/test-distro-conf.%d", getpid());
	if (io_replace_file(path, text, strlen(text), 0600) < 0)
		abort();
	distro_conf_load(path, name, &c, warn, NULL);
	unlink(path);
	return c;
}

TEST(a_distribution_without_a_section_has_the_defaults)
{
	struct distro_conf c = load("deb", "[distribution.other]\nisolation=vm\nmemory=1GB\n");

	CHECK_EQ(c.isolation, ISOLATION_SHARED);
	CHECK_EQ(c.keep_alive, KEEP_IDLE);
	CHECK(!c.autostart);
	CHECK_EQ(c.memory, 0);
	CHECK(c.swap == NO_SWAP_LIMIT);
	CHECK(c.tasks > 0);
	CHECK_EQ(c.interop, -1);
	CHECK_STR(warned, "");
}

TEST(programs_of_the_host_may_be_allowed_or_not_whatever_holds_for_all)
{
	CHECK_EQ(load("deb", "[distribution.deb]\ninterop=true\n").interop, 1);
	CHECK_EQ(load("deb", "[distribution.deb]\ninterop=false\n").interop, 0);
	CHECK_EQ(load("deb", "[distribution.deb]\ninterop=true\ninterop=maybe\n").interop, 1);
	CHECK(strstr(warned, "3: bad value for distribution.deb.interop: 'maybe'"));
}

TEST(its_section_is_its_own_whatever_the_case_of_its_name)
{
	struct distro_conf c = load("Deb-1.2",
		"[distribution.deb-1.2]\nisolation=vm\nkeepAlive=services\nautostart=true\n"
		"memory=2GB\nswap=1GB\nprocessors=1.5\ntasks=99\nioReadBytes=10MB\n"
		"ioWriteOps=50\nmountOptions=discard,commit=30\n");

	CHECK_EQ(c.isolation, ISOLATION_VM);
	CHECK_EQ(c.keep_alive, KEEP_SERVICES);
	CHECK(c.autostart);
	CHECK_EQ(c.memory, 2ull << 30);
	CHECK_EQ(c.swap, 1ull << 30);
	CHECK_EQ(c.cpus_percent, 150);
	CHECK_EQ(c.tasks, 99);
	CHECK_EQ(c.read_bytes, 10ull << 20);
	CHECK_EQ(c.write_ops, 50);
	CHECK_STR(c.mount_options, "discard,commit=30");
	CHECK_STR(warned, "");
}

TEST(a_limit_on_memory_is_one_on_swap_too_unless_said_otherwise)
{
	CHECK_EQ(load("deb", "[distribution.deb]\nmemory=1GB\n").swap, 1ull << 30);
	CHECK_EQ(load("deb", "[distribution.deb]\nmemory=1GB\nswap=0\n").swap, 0);
}

TEST(what_is_wrong_is_told_with_its_line_and_changes_nothing)
{
	struct distro_conf c = load("deb",
		"[distribution.deb]\nisolation=maybe\nprocessors=1.234\nprocessors=0\nprocessors=x\n"
		"tasks=0\ncolour=red\nmemory=much\n");

	CHECK_EQ(c.isolation, ISOLATION_SHARED);
	CHECK_EQ(c.cpus_percent, 0);
	CHECK_STR(warned, "2: bad value for distribution.deb.isolation: 'maybe'\n"
			  "3: bad value for distribution.deb.processors: '1.234'\n"
			  "4: bad value for distribution.deb.processors: '0'\n"
			  "5: bad value for distribution.deb.processors: 'x'\n"
			  "6: bad value for distribution.deb.tasks: '0'\n"
			  "7: unknown key 'distribution.deb.colour'\n"
			  "8: bad value for distribution.deb.memory: 'much'\n");
}

TEST_MAIN()
