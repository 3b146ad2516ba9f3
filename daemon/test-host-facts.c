/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include "daemon/host-facts.h"

TEST(a_zone_is_what_follows_zoneinfo)
{
	CHECK_STR(host_facts_zone("/usr/share/zoneinfo/Europe/Paris"), "Europe/Paris");
	CHECK_STR(host_facts_zone("../usr/share/zoneinfo/UTC"), "UTC");
	CHECK(!host_facts_zone("/usr/share/zoneinfo/"));
	CHECK(!host_facts_zone("/etc/localtime"));
}

static char out[512];

static void put(void *ctx, const char *line)
{
	strcat(out, line);
	strcat(out, "|");
}

TEST(known_hosts_without_this_one)
{
	char text[] =
		"127.0.0.1 localhost\n# a comment\n  10.0.0.7\tbuild build.example # ours \r\n"
		"::1 ip6-localhost\nff02::1 ip6-allnodes\n\n192.168.1.2 nas\nfe80::1 router\n127.0.1.1 me\n";

	out[0] = '\0';
	host_facts_hosts(text, put, NULL);
	CHECK_STR(out, "10.0.0.7\tbuild build.example|192.168.1.2 nas|");
}

TEST_MAIN()
