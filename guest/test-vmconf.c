/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include "guest/vmconf.h"

TEST(nothing_said_means_defaults)
{
	struct vmconf c;

	vmconf_parse("quiet console=ttyS0 root=/dev/sda\n", &c);
	CHECK(c.isolate && c.crash);
	CHECK_EQ(c.reclaim, VM_RECLAIM_GRADUAL);
	CHECK_EQ(c.modules_lun, VMCONF_NO_LUN);
	CHECK_STR(c.load, "");
}

TEST(what_the_service_says_is_read)
{
	struct vmconf c;

	vmconf_parse("wslx.isolate=0 quiet wslx.reclaim=drop  wslx.crash=0 wslx.modules=3 "
		     "wslx.load=tun,-br_netfilter\n",
		&c);
	CHECK(!c.isolate && !c.crash);
	CHECK_EQ(c.reclaim, VM_RECLAIM_DROP);
	CHECK_EQ(c.modules_lun, 3);
	CHECK_STR(c.load, "tun,-br_netfilter");
	vmconf_parse("wslx.reclaim=drop wslx.reclaim=off", &c);
	CHECK_EQ(c.reclaim, VM_RECLAIM_OFF);
}

TEST(nonsense_changes_nothing)
{
	char text[3000] =
		"wslx.isolate=yes wslx.reclaim= wslx.reclaim=x wslx.modules=-1 wslx.modules=1x "
		"wslx.modules= wslx.modules=999 wslx.other=1 wslx. wslx.crash awslx.crash=0 "
		"wslx.load=";
	struct vmconf c;

	memset(text + strlen(text), 'a', 2000);
	vmconf_parse(text, &c);
	CHECK(c.isolate && c.crash);
	CHECK_EQ(c.reclaim, VM_RECLAIM_GRADUAL);
	CHECK_EQ(c.modules_lun, VMCONF_NO_LUN);
	CHECK_STR(c.load, "");
}

TEST_MAIN()
