/* SPDX-License-Identifier: MIT */
#include "vmm/chip/serial.h"

#include "lib/base/attr.h"
#include "lib/base/test.h"
#include "vmm/chip/platform.h"
#include "vmm/chip/power.h"
#include "vmm/core/state.h"

struct rig {
	struct bus *bus;
	struct serial *s;
	char out[64];
	unsigned n, edges;
	bool level;
};

static void on_byte(void *ctx, uint8_t byte)
{
	struct rig *r = ctx;

	if (r->n < sizeof(r->out) - 1)
		r->out[r->n++] = (char)byte;
}

static void on_irq(void *ctx, unsigned pin, bool level)
{
	struct rig *r = ctx;

	r->edges += level && !r->level;
	r->level = level;
}

static void setup(struct rig *r)
{
	struct irq_line irq = {.set = on_irq, .ctx = r, .pin = 4};

	memset(r, 0, sizeof(*r));
	REQUIRE(bus_new(&r->bus) == 0);
	REQUIRE(serial_new(&r->s, r->bus, "serial0", PLAT_COM1_PORT, &irq, on_byte, r) == 0);
}

static void teardown(struct rig *r)
{
	serial_dev(r->s)->ops->free(serial_dev(r->s));
	bus_free(r->bus);
}

static uint8_t in(struct rig *r, unsigned reg)
{
	return (uint8_t)bus_read(r->bus, BUS_PORT, PLAT_COM1_PORT + reg, 1);
}

static void out(struct rig *r, unsigned reg, uint8_t v)
{
	bus_write(r->bus, BUS_PORT, PLAT_COM1_PORT + reg, 1, v);
}

TEST(transmit)
{
	struct rig r;

	setup(&r);
	CHECK_EQ(in(&r, 5), 0x60);
	out(&r, 0, 'h');
	out(&r, 0, 'i');
	CHECK_STR(r.out, "hi");
	CHECK_EQ(r.edges, 0);
	out(&r, 1, 2); /* enabling the interrupt raises one */
	CHECK_EQ(r.edges, 1);
	CHECK_EQ(in(&r, 2), 2);
	CHECK(!r.level); /* reading IIR ends it */
	CHECK_EQ(in(&r, 2), 1);
	out(&r, 0, '!');
	CHECK_EQ(r.edges, 2);
	out(&r, 0, '!'); /* an edge for each byte */
	CHECK_EQ(r.edges, 3);
	teardown(&r);
}

TEST(receive)
{
	struct rig r;
	char big[5000] = {0};

	setup(&r);
	out(&r, 2, 0x41); /* FIFO on, trigger 4 */
	CHECK_EQ(in(&r, 2), 0xc1);
	CHECK_EQ(serial_input(r.s, "abc", 3), 3);
	CHECK(!r.level);
	out(&r, 1, 1);
	CHECK(r.level);
	CHECK_EQ(in(&r, 2), 0xcc); /* below the trigger: timeout */
	CHECK_EQ(serial_input(r.s, "d", 1), 1);
	CHECK_EQ(in(&r, 2), 0xc4);
	CHECK_EQ(in(&r, 5), 0x61);
	CHECK_EQ(in(&r, 0), 'a');
	CHECK_EQ(in(&r, 0), 'b');
	CHECK_EQ(in(&r, 0), 'c');
	CHECK_EQ(in(&r, 0), 'd');
	CHECK(!r.level);
	CHECK_EQ(in(&r, 5), 0x60);
	CHECK_EQ(in(&r, 0), 0);
	CHECK_EQ(serial_input(r.s, big, sizeof(big)), 4096);
	CHECK_EQ(serial_input(r.s, big, 1), 0);
	teardown(&r);
}

/* What a driver does to find out what it has. */
TEST(detection)
{
	struct rig r;

	setup(&r);
	out(&r, 7, 0xa5);
	CHECK_EQ(in(&r, 7), 0xa5);
	out(&r, 4, 0x1a); /* loop-back with OUT2 and RTS */
	CHECK_EQ(in(&r, 6) & 0xf0, 0x90);
	out(&r, 0, 'x');
	CHECK_EQ(in(&r, 0), 'x');
	CHECK_EQ(r.n, 0);
	out(&r, 4, 0);
	out(&r, 3, 0x83);
	out(&r, 0, 0x0c);
	out(&r, 1, 0x01);
	CHECK_EQ(in(&r, 0), 0x0c);
	CHECK_EQ(in(&r, 1), 0x01);
	out(&r, 3, 0x03);
	CHECK_EQ(in(&r, 1), 0);
	out(&r, 1, 0xff);
	CHECK_EQ(in(&r, 1), 0x0f);
	teardown(&r);
}

TEST(save_load)
{
	struct rig r, s;
	struct state_w *w = state_w_new();
	size_t len;

	setup(&r);
	setup(&s);
	out(&r, 1, 1);
	out(&r, 3, 3);
	serial_input(r.s, "queued", 6);
	in(&r, 0);
	serial_dev(r.s)->ops->save(serial_dev(r.s), w);
	const void *data = state_w_data(w, &len);
	struct state_r *rd = state_r_new(data, len);

	CHECK_EQ(serial_dev(s.s)->ops->load(serial_dev(s.s), rd), 0);
	CHECK_EQ(in(&s, 3), 3);
	CHECK_EQ(in(&s, 0), 'u');
	CHECK_EQ(in(&s, 0), 'e');
	state_r_free(rd);
	state_w_free(w);
	teardown(&r);
	teardown(&s);
}

struct power_rig {
	int last;
	unsigned edges;
	bool level;
};

static void on_power(void *ctx, enum power_event ev)
{
	((struct power_rig *)ctx)->last = (int)ev;
}

static void on_button(void *ctx, unsigned pin, bool level)
{
	struct power_rig *r = ctx;

	r->edges += level && !r->level;
	r->level = level;
}

TEST(power)
{
	struct power_rig r = {.last = -1};
	struct irq_line l = {.set = on_button, .ctx = &r};
	struct power *p;
	struct bus *bus;

	REQUIRE(bus_new(&bus) == 0);
	REQUIRE(power_new(&p, bus, &l, on_power, &r) == 0);
	CHECK_EQ(bus_read(bus, BUS_PORT, PLAT_SLEEP_STS_PORT, 1), 0);
	bus_write(bus, BUS_PORT, PLAT_SLEEP_CTL_PORT, 1, PLAT_SLP_TYP_S5 << 2); /* no SLP_EN */
	bus_write(bus, BUS_PORT, PLAT_SLEEP_CTL_PORT, 1, 0x20 | 3 << 2);	/* S3 */
	bus_write(bus, BUS_PORT, PLAT_RESET_PORT, 1, 0);
	CHECK_EQ(r.last, -1);
	bus_write(bus, BUS_PORT, PLAT_SLEEP_CTL_PORT, 1, 0x20 | PLAT_SLP_TYP_S5 << 2);
	CHECK_EQ(r.last, POWER_OFF);
	bus_write(bus, BUS_PORT, PLAT_RESET_PORT, 1, PLAT_RESET_VALUE);
	CHECK_EQ(r.last, POWER_RESET);
	power_button(p);
	CHECK_EQ(r.edges, 1);
	CHECK(!r.level);
	power_dev(p)->ops->free(power_dev(p));
	bus_free(bus);
}

TEST_MAIN()
