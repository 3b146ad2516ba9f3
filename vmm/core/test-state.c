/* SPDX-License-Identifier: MIT */
#include "vmm/core/state.h"

#include <errno.h>
#include "lib/base/test.h"

static struct state_w *sample(void)
{
	struct state_w *w = state_w_new();

	state_begin(w, "outer", 2);
	state_put_u8(w, 0x11);
	state_begin(w, "inner", 1);
	state_put_u64(w, 0x1122334455667788);
	state_put_bytes(w, "abc", 3);
	state_end(w);
	state_put_u16(w, 0xbeef);
	state_end(w);
	state_put_u32(w, 7);
	return w;
}

TEST(round_trip)
{
	struct state_w *w = sample();
	size_t len;
	const void *p = state_w_data(w, &len);
	struct state_r *r = state_r_new(p, len);
	char s[3];

	CHECK_EQ(state_enter(r, "outer", 3), 2);
	CHECK_EQ(state_get_u8(r), 0x11);
	CHECK_EQ(state_enter(r, "inner", 1), 1);
	CHECK_EQ(state_get_u64(r), 0x1122334455667788);
	state_get_bytes(r, s, 3);
	CHECK(memcmp(s, "abc", 3) == 0);
	state_leave(r);
	CHECK_EQ(state_get_u16(r), 0xbeef);
	state_leave(r);
	CHECK_EQ(state_get_u32(r), 7);
	CHECK_EQ(state_check(r, NULL), 0);
	state_r_free(r);
	state_w_free(w);
}

TEST(leave_skips_the_unread)
{
	struct state_w *w = sample();
	size_t len;
	const void *p = state_w_data(w, &len);
	struct state_r *r = state_r_new(p, len);

	CHECK_EQ(state_enter(r, "outer", 2), 2);
	state_leave(r);
	CHECK_EQ(state_get_u32(r), 7);
	CHECK_EQ(state_check(r, NULL), 0);
	state_r_free(r);
	state_w_free(w);
}

TEST(a_reader_stays_inside_its_section)
{
	struct state_w *w = sample();
	size_t len;
	const void *p = state_w_data(w, &len);
	struct state_r *r = state_r_new(p, len);
	const char *why = NULL;

	state_enter(r, "outer", 2);
	state_get_u8(r);
	state_enter(r, "inner", 1);
	state_get_u64(r);
	CHECK_EQ(state_get_u64(r), 0); /* three bytes are left */
	CHECK_EQ(state_check(r, &why), -EBADMSG);
	CHECK(why != NULL);
	CHECK_EQ(state_get_u8(r), 0);
	state_r_free(r);
	state_w_free(w);
}

TEST(wrong_name_and_version)
{
	struct state_w *w = sample();
	size_t len;
	const void *p = state_w_data(w, &len);
	struct state_r *r = state_r_new(p, len);

	CHECK_EQ(state_enter(r, "other", 2), 0);
	CHECK_EQ(state_check(r, NULL), -EBADMSG);
	state_r_free(r);
	r = state_r_new(p, len);
	CHECK_EQ(state_enter(r, "outer", 1), 0);
	CHECK_EQ(state_check(r, NULL), -EBADMSG);
	state_r_free(r);
	state_w_free(w);
}

/* Every prefix of a saved state is refused somewhere, and none makes the reader leave its buffer
 * (ASan's part). */
TEST(every_truncation_fails)
{
	struct state_w *w = sample();
	size_t len;
	const void *p = state_w_data(w, &len);

	for (size_t n = 0; n < len; n++) {
		uint8_t *copy = malloc(n + !n);
		struct state_r *r;

		memcpy(copy, p, n);
		r = state_r_new(copy, n);
		state_enter(r, "outer", 2);
		state_get_u8(r);
		state_enter(r, "inner", 1);
		state_get_u64(r);
		state_leave(r);
		state_leave(r);
		state_get_u32(r);
		CHECK_EQ(state_check(r, NULL), -EBADMSG);
		state_r_free(r);
		free(copy);
	}
	state_w_free(w);
}

TEST_MAIN()
