/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <errno.h>
#include "daemon/settings.h"
#include "lib/base/io.h"

static char path[64];

static void write_conf(const char *text)
{
	snprintf(path, sizeof(path), "/tmp/test-settings.%d", getpid());
	if (io_replace_file(path, text, strlen(text), 0600) < 0)
		abort();
}

static size_t warnings(const struct settings *s)
{
	return json_object_array_length(s->warnings);
}

TEST(no_file_means_defaults)
{
	struct settings s;
	struct err e = {0};

	REQUIRE(settings_load("/nowhere/wslx.conf", &s, &e) == 0);
	CHECK_EQ(s.vm_idle_ms, 60000);
	CHECK_EQ(s.instance_idle_ms, 15000);
	CHECK_EQ(s.engine, ENGINE_AUTO);
	CHECK_EQ(warnings(&s), 0);
	settings_done(&s);
}

TEST(a_wslconfig_works_and_its_problems_are_told_with_their_line)
{
	struct settings s;
	struct err e = {0};

	write_conf("[wsl2]\nmemory=2GB\nprocessors=1\nvmIdleTimeout=-1\nswap=0\n"
		   "kernelCommandLine = a=b c\nvmIdleTimeout=soon\n[wslx]\nengine=soft\n"
		   "[general]\ninstanceIdleTimeout=1000\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK_EQ(s.memory, 2ull << 30);
	CHECK_EQ(s.processors, 1);
	CHECK_EQ(s.vm_idle_ms, -1);
	CHECK_EQ(s.instance_idle_ms, 1000);
	CHECK_EQ(s.engine, ENGINE_SOFT);
	CHECK_STR(s.command_line, "a=b c");
	REQUIRE(warnings(&s) == 2);
	CHECK(strstr(js_text(s.warnings), ":5: wsl2.swap is not supported yet") != NULL);
	CHECK(strstr(js_text(s.warnings), ":7: bad value for wsl2.vmIdleTimeout") != NULL);
	settings_done(&s);
	unlink(path);
}

TEST(what_this_host_cannot_give_is_refused)
{
	struct settings s;
	struct vm_plan p;
	struct err e = {0};

	write_conf("[wsl2]\nmemory=900TB\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK_EQ(settings_plan(&s, "/nowhere", &p, &e), -ENOMEM);
	CHECK(strstr(e.text, "this host has") != NULL);
	settings_done(&s);

	write_conf("[wsl2]\nmemory=1MB\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK_EQ(settings_plan(&s, "/nowhere", &p, &e), -EINVAL);
	settings_done(&s);

	write_conf("[wsl2]\nprocessors=4000\nkernel=/nowhere/vmlinuz\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK_EQ(settings_plan(&s, "/nowhere", &p, &e), -ENOENT);
	CHECK(strstr(e.text, "/nowhere/vmlinuz") != NULL);
	CHECK_EQ(p.processors, 64);
	CHECK_EQ(warnings(&s), 1);
	settings_done(&s);
	unlink(path);
}

TEST_MAIN()
