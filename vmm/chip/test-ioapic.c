/* SPDX-License-Identifier: MIT */
#include "vmm/chip/ioapic.h"

#include "lib/base/test.h"
#include "vmm/chip/fake-cpu.h"
#include "vmm/chip/platform.h"
#include "vmm/core/state.h"

struct rig {
	struct bus *bus;
	struct cpu_vm vm;
	struct ioapic *a;
};

static void setup(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	REQUIRE(bus_new(&r->bus) == 0);
	REQUIRE(ioapic_new(&r->a, r->bus, &fake_cpu, &r->vm) == 0);
}

static void teardown(struct rig *r)
{
	struct dev *d = ioapic_dev(r->a);

	d->ops->free(d);
	bus_free(r->bus);
}

static uint32_t reg_read(struct rig *r, unsigned idx)
{
	bus_write(r->bus, BUS_MMIO, PLAT_IOAPIC_BASE, 4, idx);
	return (uint32_t)bus_read(r->bus, BUS_MMIO, PLAT_IOAPIC_BASE + 0x10, 4);
}

static void reg_write(struct rig *r, unsigned idx, uint32_t v)
{
	bus_write(r->bus, BUS_MMIO, PLAT_IOAPIC_BASE, 4, idx);
	bus_write(r->bus, BUS_MMIO, PLAT_IOAPIC_BASE + 0x10, 4, v);
}

static void rte(struct rig *r, unsigned pin, uint64_t v)
{
	reg_write(r, 0x10 + pin * 2 + 1, (uint32_t)(v >> 32));
	reg_write(r, 0x10 + pin * 2, (uint32_t)v);
}

TEST(identity)
{
	struct rig r;

	setup(&r);
	CHECK_EQ(reg_read(&r, 1), 0x170020);
	CHECK_EQ(reg_read(&r, 0), 0xff000000u);
	reg_write(&r, 0, 0x05ffffff);
	CHECK_EQ(reg_read(&r, 0), 0x05000000);
	CHECK_EQ(reg_read(&r, 0x10), 0x10000); /* masked after reset */
	CHECK_EQ(reg_read(&r, 0x10 + 48), 0);  /* behind the last pin */
	reg_write(&r, 0x10, 0xffffffff);
	CHECK_EQ(reg_read(&r, 0x10), 0x1afff); /* delivery status and remote IRR are read-only */
	teardown(&r);
}

TEST(edge)
{
	struct rig r;

	setup(&r);
	struct irq_line l = ioapic_line(r.a, 4), none = ioapic_line(r.a, 24);

	irq_set(&none, true);
	irq_set(&l, true); /* masked: lost */
	rte(&r, 4, 0x0300000000000034);
	CHECK_EQ(r.vm.count, 0);
	irq_set(&l, true); /* still high: no edge */
	CHECK_EQ(r.vm.count, 0);
	irq_set(&l, false);
	irq_set(&l, true);
	CHECK_EQ(r.vm.count, 1);
	CHECK_EQ(r.vm.addr, 0xfee03000);
	CHECK_EQ(r.vm.data, 0x4034);
	irq_set(&l, false);
	rte(&r, 4, 0x0300000000000934); /* logical, lowest priority */
	irq_set(&l, true);
	CHECK_EQ(r.vm.addr, 0xfee03004);
	CHECK_EQ(r.vm.data, 0x4134);
	teardown(&r);
}

TEST(level)
{
	struct rig r;

	setup(&r);
	struct irq_line l = ioapic_line(r.a, 10);

	irq_set(&l, true);
	rte(&r, 10, 0x8055); /* unmasking a high level pin sends */
	CHECK_EQ(r.vm.count, 1);
	CHECK_EQ(r.vm.data, 0xc055);
	CHECK_EQ(reg_read(&r, 0x10 + 20), 0xc055); /* remote IRR */
	irq_set(&l, false);
	irq_set(&l, true);
	CHECK_EQ(r.vm.count, 1); /* until the EOI */
	ioapic_eoi(r.a, 0x54);
	CHECK_EQ(r.vm.count, 1);
	ioapic_eoi(r.a, 0x55);
	CHECK_EQ(r.vm.count, 2); /* still high: again */
	irq_set(&l, false);
	bus_write(r.bus, BUS_MMIO, PLAT_IOAPIC_BASE + 0x40, 4, 0x55); /* the EOI register */
	CHECK_EQ(r.vm.count, 2);
	CHECK_EQ(reg_read(&r, 0x10 + 20), 0x8055);
	/* Switching to edge clears a stuck remote IRR. */
	irq_set(&l, true);
	rte(&r, 10, 0x10055);
	rte(&r, 10, 0x8055);
	CHECK_EQ(r.vm.count, 4);
	CHECK(r.vm.routes > 0);
	teardown(&r);
}

TEST(save_load)
{
	struct rig r, s;
	struct state_w *w = state_w_new();
	size_t len;

	setup(&r);
	setup(&s);
	struct irq_line l = ioapic_line(r.a, 10);

	rte(&r, 10, 0x8055);
	rte(&r, 3, 0x0700000000000033);
	irq_set(&l, true);
	ioapic_dev(r.a)->ops->save(ioapic_dev(r.a), w);
	const void *data = state_w_data(w, &len);
	struct state_r *rd = state_r_new(data, len);

	CHECK_EQ(ioapic_dev(s.a)->ops->load(ioapic_dev(s.a), rd), 0);
	CHECK_EQ(reg_read(&s, 0x10 + 20), 0xc055);
	CHECK_EQ(reg_read(&s, 0x11 + 6), 0x07000000);
	CHECK_EQ(s.vm.count, 0);
	ioapic_eoi(s.a, 0x55);
	CHECK_EQ(s.vm.count, 1); /* the line is still high */
	state_r_free(rd);
	rd = state_r_new(data, len / 2);
	CHECK(ioapic_dev(s.a)->ops->load(ioapic_dev(s.a), rd) < 0);
	state_r_free(rd);
	state_w_free(w);
	teardown(&r);
	teardown(&s);
}

TEST_MAIN()
