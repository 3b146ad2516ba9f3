/* SPDX-License-Identifier: MIT */
/* The console, entropy and balloon devices under a driver. */
#include "lib/base/test.h"
#include "lib/base/io.h"
#include "lib/base/le.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/console.h"
#include "vmm/virtio/fake-driver.h"
#include "vmm/virtio/rng.h"

/* --- console --- */

static char out[65536];
static size_t out_len;
static const char *in;
static size_t in_len;
static unsigned frees;

static void t_write(void *ctx, const struct iovec *iov, unsigned n)
{
	out_len += iov_to_buf(iov, n, 0, out + out_len, sizeof(out) - out_len);
}

static size_t t_read(void *ctx, const struct iovec *iov, unsigned n)
{
	size_t k = iov_from_buf(iov, n, 0, in, in_len);

	in += k;
	in_len -= k;
	return k;
}

static void t_free(void *ctx)
{
	frees++;
}

static const struct console_back_ops t_ops = {t_write, t_read, t_free};

static struct console *console_start(struct fake *f)
{
	struct console *c;

	out_len = in_len = 0;
	frees = 0;
	fake_init(f);
	if (console_new(&c, f->gm, "console0") < 0)
		abort();
	console_set_back(c, &t_ops, NULL);
	fake_attach(f, console_dev(c), NULL);
	if (!fake_start(f, FAKE_ALL))
		abort();
	return c;
}

static void say(struct fake *f, const char *text)
{
	gpa_t a = fake_alloc(f, strlen(text));

	memcpy(fake_ptr(f, a, strlen(text)), text, strlen(text));
	fake_add(f, 1, &(struct fake_buf){a, (uint32_t)strlen(text), false}, 1, false);
	fake_kick(f, 1);
	CHECK(fake_used(f, 1, NULL, NULL));
}

TEST(console_output_and_input)
{
	struct fake f;
	struct console *c = console_start(&f);
	gpa_t a = fake_alloc(&f, 8);
	uint32_t len = 0;

	say(&f, "login: ");
	say(&f, "\n");
	CHECK_EQ(out_len, 8);
	CHECK(!memcmp(out, "login: \n", 8));
	fake_add(&f, 0, &(struct fake_buf){a, 8, true}, 1, false);
	fake_kick(&f, 0);
	CHECK(!fake_used(&f, 0, NULL, NULL));
	in = "root\nmore";
	in_len = 9;
	console_readable(c);
	CHECK(fake_used(&f, 0, NULL, &len));
	CHECK_EQ(len, 8);
	CHECK(!memcmp(fake_ptr(&f, a, 8), "root\nmor", 8));
	CHECK_EQ(in_len, 1); /* waits for a buffer */
	fake_add(&f, 0, &(struct fake_buf){a, 8, true}, 1, false);
	fake_kick(&f, 0);
	CHECK(fake_used(&f, 0, NULL, &len));
	CHECK_EQ(len, 1);
	fake_done(&f);
	CHECK_EQ(frees, 1);
}

TEST(console_takes_a_long_queue_in_rounds)
{
	struct fake f;
	gpa_t a;

	console_start(&f);
	a = fake_alloc(&f, 1000);
	for (int i = 0; i < 64; i++)
		fake_add(&f, 1, &(struct fake_buf){a, 1000, false}, 1, false);
	fake_kick(&f, 1);
	fake_settle(&f);
	CHECK_EQ(out_len, 64000);
	fake_done(&f);
}

TEST(console_size_and_emergency_write)
{
	struct fake f;
	struct console *c = console_start(&f);
	struct virtio_dev *v = console_dev(c);
	uint8_t cfg[12];

	console_resize(c, 132, 50);
	console_resize(c, 132, 50);
	CHECK_EQ(f.config_irqs, 1);
	v->ops->config_read(v, 0, cfg, 12);
	CHECK_EQ(le16_get(cfg), 132);
	CHECK_EQ(le16_get(cfg + 2), 50);
	v->ops->config_write(v, 8, "!\0\0", 4);
	CHECK_EQ(out_len, 1);
	CHECK_EQ(out[0], '!');
	fake_done(&f);
}

TEST(console_survives_reset_and_migration)
{
	struct fake f;
	struct console *c = console_start(&f), *c2;
	uint8_t cfg[4];

	say(&f, "a");
	if (!fake_start(&f, FAKE_ALL))
		abort();
	say(&f, "b");
	console_resize(c, 100, 40);
	REQUIRE(console_new(&c2, f.gm, "console0") == 0);
	console_set_back(c2, &t_ops, NULL);
	CHECK_EQ(fake_migrate(&f, console_dev(c2)), 0);
	say(&f, "c");
	CHECK(!memcmp(out, "abc", 3));
	console_dev(c2)->ops->config_read(console_dev(c2), 0, cfg, 4);
	CHECK_EQ(le16_get(cfg), 100);
	fake_done(&f);
}

/* --- entropy --- */

TEST(rng_fills_what_it_says)
{
	struct fake f;
	struct virtio_dev *v, *v2;
	uint32_t len = 0;
	unsigned zero = 0;
	gpa_t a;

	fake_init(&f);
	REQUIRE(virtio_rng_new(&v, f.gm, "rng0") == 0);
	fake_attach(&f, v, NULL);
	REQUIRE(fake_start(&f, FAKE_ALL));
	a = fake_alloc(&f, 20000);
	fake_add(&f, 0, (struct fake_buf[]){{a, 100, true}, {a + 200, 50, true}}, 2, false);
	fake_kick(&f, 0);
	CHECK(fake_used(&f, 0, NULL, &len));
	CHECK_EQ(len, 150);
	for (unsigned i = 0; i < 150; i++)
		zero += !*(uint8_t *)fake_ptr(&f, a + i + (i >= 100 ? 100 : 0), 1);
	CHECK(zero < 30);
	for (unsigned i = 100; i < 200; i++)
		CHECK_EQ(*(uint8_t *)fake_ptr(&f, a + i, 1), 0);
	/* A bounded part of a large buffer. */
	memset(fake_ptr(&f, a, 20000), 0, 20000);
	fake_add(&f, 0, &(struct fake_buf){a, 20000, true}, 1, false);
	fake_kick(&f, 0);
	CHECK(fake_used(&f, 0, NULL, &len));
	CHECK_EQ(len, RNG_MAX_BYTES);
	for (unsigned i = RNG_MAX_BYTES; i < 20000; i++)
		if (*(uint8_t *)fake_ptr(&f, a + i, 1)) {
			CHECK(!"bytes beyond the bound");
			break;
		}
	/* Nothing to write to. */
	fake_add(&f, 0, &(struct fake_buf){a, 100, false}, 1, false);
	fake_kick(&f, 0);
	CHECK(fake_used(&f, 0, NULL, &len));
	CHECK_EQ(len, 0);
	REQUIRE(virtio_rng_new(&v2, f.gm, "rng0") == 0);
	CHECK_EQ(fake_migrate(&f, v2), 0);
	fake_add(&f, 0, &(struct fake_buf){a, 100, true}, 1, false);
	fake_kick(&f, 0);
	CHECK(fake_used(&f, 0, NULL, &len));
	CHECK_EQ(len, 100);
	fake_done(&f);
}

/* --- balloon --- */

static struct balloon *balloon_start(struct fake *f)
{
	struct balloon *b;

	fake_init(f);
	if (balloon_new(&b, f->gm, "balloon0") < 0)
		abort();
	fake_attach(f, balloon_dev(b), NULL);
	if (!fake_start(f, FAKE_ALL))
		abort();
	return b;
}

static void pfns(struct fake *f, unsigned q, const uint32_t *list, unsigned n)
{
	gpa_t a = fake_alloc(f, n * 4);

	for (unsigned i = 0; i < n; i++)
		le32_put(fake_ptr(f, a + i * 4, 4), list[i]);
	fake_add(f, q, &(struct fake_buf){a, n * 4, false}, 1, false);
	fake_kick(f, q);
	CHECK(fake_used(f, q, NULL, NULL));
}

static bool is_zero(struct fake *f, uint32_t pfn)
{
	const uint8_t *p = fake_ptr(f, (gpa_t)pfn << 12, 4096);

	for (unsigned i = 0; i < 4096; i++)
		if (p[i])
			return false;
	return true;
}

TEST(inflated_pages_are_given_back)
{
	struct fake f;
	struct balloon *b = balloon_start(&f);
	static const uint32_t list[] = {
		600, 601, 602, 700, 699, 698, 650, 0xffffffff, 1024, 1023, 0xc0000};

	memset(fake_ptr(&f, 0x200000, 0x200000), 0xaa, 0x200000);
	pfns(&f, 0, list, ARRAY_LEN(list));
	for (uint32_t pfn = 512; pfn < 1024; pfn++) {
		bool gone = (pfn >= 600 && pfn <= 602) || (pfn >= 698 && pfn <= 700) ||
			    pfn == 650 || pfn == 1023;

		if (is_zero(&f, pfn) != gone)
			CHECK_EQ(pfn, 0);
	}
	pfns(&f, 1, list, 3);
	CHECK(virtio_live(balloon_dev(b)));
	fake_done(&f);
}

TEST(balloon_target_reaches_the_guest)
{
	struct fake f;
	struct balloon *b = balloon_start(&f), *b2;
	struct virtio_dev *v = balloon_dev(b);
	uint8_t cfg[8];

	balloon_set_target(b, 1234);
	CHECK_EQ(f.config_irqs, 1);
	v->ops->config_read(v, 0, cfg, 4);
	CHECK_EQ(le32_get(cfg), 1234);
	le32_put(cfg, 1000);
	v->ops->config_write(v, 4, cfg, 4);
	CHECK_EQ(balloon_actual(b), 1000);
	REQUIRE(balloon_new(&b2, f.gm, "balloon0") == 0);
	CHECK_EQ(fake_migrate(&f, balloon_dev(b2)), 0);
	CHECK_EQ(balloon_actual(b2), 1000);
	balloon_dev(b2)->ops->config_read(balloon_dev(b2), 0, cfg, 8);
	CHECK_EQ(le32_get(cfg), 1234);
	fake_done(&f);
}

TEST(reported_pages_are_given_back)
{
	for (unsigned q = 2; q < 5; q++) {
		struct fake f;
		struct balloon *b = balloon_start(&f);

		memset(fake_ptr(&f, 0x200000, 0x200000), 0xaa, 0x200000);
		fake_add(&f, q,
			(struct fake_buf[]){{0x280000, 0x80000, true}, {0x380000, 0x2000, true},
				{0x3a0800, 0x1000, true}},
			3, true);
		fake_kick(&f, q);
		CHECK(fake_used(&f, q, NULL, NULL));
		for (uint32_t pfn = 512; pfn < 1024; pfn++)
			if (is_zero(&f, pfn) !=
				((pfn >= 0x280 && pfn < 0x300) || pfn == 0x380 || pfn == 0x381))
				CHECK_EQ(pfn, 0);
		CHECK(balloon_reported(b) >= 0x82000);
		fake_done(&f);
	}
}

TEST_MAIN()
