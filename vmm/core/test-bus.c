/* SPDX-License-Identifier: MIT */
#include "vmm/core/bus.h"

#include <errno.h>
#include <stdatomic.h>
#include "lib/base/test.h"

struct fake {
	struct dev dev;
	unsigned region;
	uint64_t off, val;
	atomic_uint calls;
	atomic_bool gone; /* set after bus_remove(): a call from then on is a bug */
	atomic_uint late;
};

static uint64_t fake_read(struct dev *d, unsigned region, uint64_t off, unsigned len)
{
	struct fake *f = container_of(d, struct fake, dev);

	f->region = region;
	f->off = off;
	atomic_fetch_add(&f->calls, 1);
	if (atomic_load(&f->gone))
		atomic_fetch_add(&f->late, 1);
	return 0x1122334455667788;
}

static void fake_write(struct dev *d, unsigned region, uint64_t off, unsigned len, uint64_t val)
{
	struct fake *f = container_of(d, struct fake, dev);

	f->region = region;
	f->off = off;
	f->val = val;
}

static const struct dev_ops fake_ops = {.name = "fake", .read = fake_read, .write = fake_write};
static const struct dev_ops mute_ops = {.name = "mute"};

TEST(dispatch)
{
	struct bus *b;
	struct fake f = {0}, g = {0};

	REQUIRE(bus_new(&b) == 0);
	dev_init(&f.dev, &fake_ops, "f");
	dev_init(&g.dev, &mute_ops, "g");
	CHECK_EQ(bus_add(b, BUS_MMIO, 0x1000, 0x10, &f.dev, 3), 0);
	CHECK_EQ(bus_add(b, BUS_MMIO, 0x1010, 0x10, &g.dev, 0), 0);
	CHECK_EQ(bus_add(b, BUS_MMIO, 0xff0, 0x10, &f.dev, 4), 0);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0x1004, 4), 0x55667788);
	CHECK_EQ(f.region, 3);
	CHECK_EQ(f.off, 4);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0xfff, 1), 0x88);
	CHECK_EQ(f.region, 4);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0x1008, 8), 0x1122334455667788);
	bus_write(b, BUS_MMIO, 0x100c, 2, 0xabcdef01);
	CHECK_EQ(f.val, 0xef01);
	/* Nobody, half outside, no handler, the other bus. */
	CHECK_EQ(bus_read(b, BUS_MMIO, 0x100c, 8), -1);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0x1020, 2), 0xffff);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0x1010, 1), 0xff);
	CHECK_EQ(bus_read(b, BUS_PORT, 0x1000, 4), 0xffffffff);
	CHECK_EQ(bus_read(b, BUS_MMIO, UINT64_MAX, 8), -1);
	CHECK_EQ(f.calls, 3);
	dev_done(&f.dev);
	dev_done(&g.dev);
	bus_free(b);
}

TEST(overlap)
{
	struct bus *b;
	struct fake f = {0};

	REQUIRE(bus_new(&b) == 0);
	dev_init(&f.dev, &fake_ops, "f");
	CHECK_EQ(bus_add(b, BUS_PORT, 0x100, 8, &f.dev, 0), 0);
	CHECK_EQ(bus_add(b, BUS_PORT, 0x107, 1, &f.dev, 0), -EBUSY);
	CHECK_EQ(bus_add(b, BUS_PORT, 0xff, 2, &f.dev, 0), -EBUSY);
	CHECK_EQ(bus_add(b, BUS_PORT, 0x80, 0x100, &f.dev, 0), -EBUSY);
	CHECK_EQ(bus_add(b, BUS_PORT, 0x108, 0, &f.dev, 0), -EINVAL);
	CHECK_EQ(bus_add(b, BUS_MMIO, UINT64_MAX, 2, &f.dev, 0), -EINVAL);
	CHECK_EQ(bus_add(b, BUS_MMIO, UINT64_MAX, 1, &f.dev, 0), 0);
	CHECK_EQ(bus_add(b, BUS_PORT, 0x108, 1, &f.dev, 0), 0);
	bus_remove(b, BUS_PORT, 0x104); /* no range starts there */
	CHECK_EQ(bus_read(b, BUS_PORT, 0x104, 1), 0x88);
	bus_remove(b, BUS_PORT, 0x100);
	CHECK_EQ(bus_read(b, BUS_PORT, 0x104, 1), 0xff);
	CHECK_EQ(bus_read(b, BUS_PORT, 0x108, 1), 0x88);
	dev_done(&f.dev);
	bus_free(b);
}

struct race {
	struct bus *b;
	atomic_bool stop;
	atomic_uint reads;
};

static void reader(void *ctx)
{
	struct race *r = ctx;

	while (!atomic_load(&r->stop)) {
		bus_read(r->b, BUS_MMIO, 0x5000, 4);
		bus_read(r->b, BUS_MMIO, 0x2000, 4);
		atomic_fetch_add(&r->reads, 1);
	}
}

/* A range moves while another thread reads: no handler runs in it after bus_remove() returned. */
TEST(remove_waits)
{
	struct race r = {0};
	struct fake f = {0}, still = {0};
	struct os_thread *t;

	REQUIRE(bus_new(&r.b) == 0);
	dev_init(&f.dev, &fake_ops, "f");
	dev_init(&still.dev, &fake_ops, "still");
	CHECK_EQ(bus_add(r.b, BUS_MMIO, 0x2000, 0x1000, &still.dev, 0), 0);
	REQUIRE(os_thread_start(&t, "reader", reader, &r) == 0);
	for (unsigned i = 0; i < 20000 || f.calls == 0; i++) {
		atomic_store(&f.gone, false);
		CHECK_EQ(bus_add(r.b, BUS_MMIO, 0x5000, 0x1000, &f.dev, 0), 0);
		CHECK_EQ(bus_add(r.b, BUS_MMIO, 0x1000, 0x1000, &f.dev, 1), 0);
		bus_remove(r.b, BUS_MMIO, 0x1000);
		bus_remove(r.b, BUS_MMIO, 0x5000);
		atomic_store(&f.gone, true);
	}
	atomic_store(&r.stop, true);
	os_thread_join(t);
	CHECK_EQ(f.late, 0);
	CHECK(still.calls > 0);
	dev_done(&f.dev);
	dev_done(&still.dev);
	bus_free(r.b);
}

TEST_MAIN()
