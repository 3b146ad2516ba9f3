/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <errno.h>
#include "daemon/vmopts.h"

static char line[4600];

static const char *cmdline(struct settings *s)
{
	static struct err e;

	return vmopts_cmdline(s, line, sizeof(line), &e) == 0 ? line : e.text;
}

static bool has(const char *word)
{
	char padded[5000], want[200];

	snprintf(padded, sizeof(padded), " %s ", line);
	snprintf(want, sizeof(want), " %s ", word);
	return strstr(padded, want) != NULL;
}

TEST(settings_become_words)
{
	struct settings s = {.isolate_cgroup = true, .max_crashes = 10};
	char cl[] = "a=b c", mods[] = "/m.img", load[] = "foo bar,baz; x=y";

	CHECK_STR(cmdline(&s),
		"quiet console=ttyS0 wslx.isolate=1 wslx.reclaim=gradual wslx.crash=1");
	s.reclaim = RECLAIM_DROP;
	s.max_crashes = -1;
	s.isolate_cgroup = false;
	s.command_line = cl;
	cmdline(&s);
	CHECK(has("wslx.reclaim=drop") && has("wslx.crash=0") && has("wslx.isolate=0") &&
		has("a=b c"));
	s.debug_console = true;
	cmdline(&s);
	CHECK(!has("quiet"));
	s.early_boot_logging = true;
	cmdline(&s);
	CHECK(has("earlyprintk=ttyS0"));
	s.modules = mods;
	s.load_modules = load;
	cmdline(&s);
	CHECK(has("wslx.modules=0") && has("wslx.load=foo,bar,baz,x,y"));
	s.load_default_modules = true;
	cmdline(&s);
	CHECK(has("wslx.load=-tun,-ip_tables,-br_netfilter,foo,bar,baz,x,y"));
}

TEST(a_command_line_the_kernel_would_cut_off_is_refused)
{
	char cl[2000];
	struct settings s = {.command_line = cl};

	memset(cl, 'x', sizeof(cl) - 1);
	cl[sizeof(cl) - 1] = '\0';
	CHECK(strstr(cmdline(&s), "shorten 'kernelCommandLine'") != NULL);
}

TEST_MAIN()
