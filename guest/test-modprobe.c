/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <errno.h>
#include "guest/modprobe.h"

static const char dep[] =
	"kernel/net/tun.ko:\n"
	"kernel/net/br_netfilter.ko.xz: kernel/net/bridge.ko.xz kernel/net/stp.ko.xz "
	"kernel/net/llc.ko.xz\n"
	"kernel/net/bridge.ko.xz: kernel/net/stp.ko.xz kernel/net/llc.ko.xz\n"
	"kernel/crypto/crc32c-intel.ko.zst:\n"
	"kernel/bad.ko: ../../etc/passwd\n"
	"/abs.ko:\n"
	"kernel/last.ko: kernel/net/tun.ko";
static char seen[512];
static int refuse;

static int note(void *ctx, const char *path, size_t len)
{
	if (refuse)
		return refuse;
	snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%.*s;", (int)len, path);
	return 0;
}

static int plan(const char *name)
{
	seen[0] = '\0';
	return modprobe_plan(dep, sizeof(dep) - 1, name, note, NULL);
}

TEST(what_a_module_needs_comes_before_it)
{
	CHECK_EQ(plan("tun"), 0);
	CHECK_STR(seen, "kernel/net/tun.ko;");
	CHECK_EQ(plan("br-netfilter"), 0);
	CHECK_STR(seen, "kernel/net/llc.ko.xz;kernel/net/stp.ko.xz;kernel/net/bridge.ko.xz;"
			"kernel/net/br_netfilter.ko.xz;");
	CHECK_EQ(plan("crc32c_intel"), 0);
	CHECK_STR(seen, "kernel/crypto/crc32c-intel.ko.zst;");
	CHECK_EQ(plan("last"), 0);
	CHECK_STR(seen, "kernel/net/tun.ko;kernel/last.ko;");
}

TEST(names_are_whole_names)
{
	CHECK_EQ(plan("tu"), -ENOENT);
	CHECK_EQ(plan("tunx"), -ENOENT);
	CHECK_EQ(plan(""), -ENOENT);
	CHECK_EQ(plan("kernel"), -ENOENT);
	CHECK_STR(seen, "");
}

TEST(a_path_out_of_the_folder_is_refused)
{
	CHECK_EQ(plan("bad"), -EBADMSG);
	CHECK_EQ(plan("abs"), -EBADMSG);
	CHECK_STR(seen, "");
}

TEST(the_first_failure_ends_it)
{
	refuse = -EPERM;
	CHECK_EQ(plan("br_netfilter"), -EPERM);
	refuse = 0;
}

TEST_MAIN()
