/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <errno.h>
#include "lib/base/le.h"
#include "lib/wire/msg.h"

TEST(a_message_comes_back_as_it_was_built)
{
	uint8_t buf[256];
	char s[16];
	struct wire_w w;
	struct wire_msg m;
	struct wire_attr a;

	wire_begin(&w, buf, sizeof(buf), WSLX_EXEC, WSLX_MSG_REPLY, 77, 5);
	wire_str(&w, WSLX_A_ARG, "ls");
	wire_str(&w, WSLX_A_ARG, "");
	wire_u32(&w, WSLX_A_ROWS, 24);
	wire_u64(&w, WSLX_A_COOKIE, 1ull << 40);
	int n = wire_end(&w);
	REQUIRE(n > 0);
	CHECK_EQ(wire_size(buf), n);
	REQUIRE(wire_parse(buf, (size_t)n, &m) == 0);
	CHECK_EQ(m.type, WSLX_EXEC);
	CHECK_EQ(m.flags, WSLX_MSG_REPLY);
	CHECK_EQ(m.id, 77);
	CHECK_EQ(m.error, 5);
	size_t pos = 0;
	CHECK(wire_next(&m, &pos, &a) && a.len == 2 && !memcmp(a.data, "ls", 2));
	CHECK(wire_next(&m, &pos, &a) && a.len == 0 && a.tag == WSLX_A_ARG);
	CHECK_EQ(wire_get_u32(&m, WSLX_A_ROWS, 0), 24);
	CHECK_EQ(wire_get_u64(&m, WSLX_A_COOKIE, 0), 1ll << 40);
	CHECK_EQ(wire_get_u64(&m, WSLX_A_ROWS, 9), 9); /* wrong width: the default */
	CHECK_EQ(wire_get_u32(&m, WSLX_A_COLS, 80), 80);
	CHECK_EQ(wire_get_str(&m, WSLX_A_ARG, s, sizeof(s)), 2);
	CHECK_STR(s, "ls");
	CHECK_EQ(wire_get_str(&m, WSLX_A_ARG, s, 2), -EMSGSIZE);
	CHECK_EQ(wire_get_str(&m, WSLX_A_USER, s, sizeof(s)), -ENOENT);
}

TEST(overflow_is_reported_when_sending)
{
	uint8_t buf[40];
	struct wire_w w;

	wire_begin(&w, buf, sizeof(buf), WSLX_HELLO, 0, 1, 0);
	wire_str(&w, WSLX_A_TEXT, "0123456789abcdef0123456789abcdef");
	CHECK_EQ(wire_send(&w, 1), -EMSGSIZE);
}

TEST(malformed_messages_are_refused)
{
	uint8_t buf[64];
	struct wire_w w;
	struct wire_msg m;

	wire_begin(&w, buf, sizeof(buf), WSLX_HELLO, 0, 1, 0);
	wire_u32(&w, WSLX_A_VERSION, 1);
	int n = wire_end(&w);
	CHECK_EQ(wire_parse(buf, (size_t)n - 4, &m), -EBADMSG);
	CHECK_EQ(wire_parse(buf, 3, &m), -EBADMSG);
	le32_put(buf + 16, 5); /* the attribute now reaches past the end */
	CHECK_EQ(wire_parse(buf, (size_t)n, &m), -EBADMSG);
	le32_put(buf + 16, UINT32_MAX);
	CHECK_EQ(wire_parse(buf, (size_t)n, &m), -EBADMSG);
	le32_put(buf, WSLX_MSG_MAX + 4);
	CHECK_EQ(wire_size(buf), -EBADMSG);
	le32_put(buf, 15);
	CHECK_EQ(wire_size(buf), -EBADMSG);
}

TEST(a_string_with_a_nul_is_refused)
{
	uint8_t buf[64];
	char s[16] = "x";
	struct wire_w w;
	struct wire_msg m;

	wire_begin(&w, buf, sizeof(buf), WSLX_EXEC, 0, 1, 0);
	wire_bytes(&w, WSLX_A_USER, "ro\0ot", 5);
	int n = wire_end(&w);
	REQUIRE(wire_parse(buf, (size_t)n, &m) == 0);
	CHECK_EQ(wire_get_str(&m, WSLX_A_USER, s, sizeof(s)), -EBADMSG);
	CHECK_STR(s, "");
}

TEST_MAIN()
