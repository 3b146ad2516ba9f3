/* SPDX-License-Identifier: MIT */
/* The local APIC, MSRs, CPUID, clock and halting, on vCPUs that execute nothing. */
#include "vmm/cpu/soft/lapic.h"

#include "lib/base/le.h"
#include "lib/base/test.h"
#include "vmm/core/state.h"
#include "vmm/cpu/soft/clock.h"
#include "vmm/cpu/soft/lapic-rig.h"

static uint32_t rd(struct soft_vcpu *c, unsigned off)
{
	return (uint32_t)soft_lapic_mmio_read(c->lapic, 0xfee00000 + off, 4);
}

static void wr(struct soft_vcpu *c, unsigned off, uint32_t v)
{
	soft_lapic_mmio_write(c->lapic, 0xfee00000 + off, 4, v);
}

static uint64_t rdmsr(struct soft_vcpu *c, uint32_t msr)
{
	uint64_t v = 0;

	CHECK(soft_rdmsr(c, msr, &v));
	return v;
}

/* Takes the events, as the run loop does. */
static uint32_t take(struct soft_vcpu *c)
{
	return atomic_exchange(&c->events, 0);
}

TEST(registers)
{
	struct rig *r = setup(2);
	struct soft_vcpu *c = r->vm.vcpu[1];

	CHECK(soft_lapic_mmio(c->lapic, 0xfee00020));
	CHECK(!soft_lapic_mmio(c->lapic, 0xfee01000));
	CHECK_EQ(rd(c, 0x20), 1 << 24);
	CHECK_EQ(rd(c, 0x30), 0x50014);
	CHECK_EQ(rd(c, 0xf0), 0xff);
	CHECK_EQ(rd(c, 0x320), 0x10000);
	wr(c, 0x320, 0x30); /* disabled by software: stays masked */
	CHECK_EQ(rd(c, 0x320), 0x10030);
	wr(c, 0xf0, 0x1ff);
	wr(c, 0x320, 0xffffffff);
	CHECK_EQ(rd(c, 0x320), 0x700ff);
	wr(c, 0xe0, 0);
	CHECK_EQ(rd(c, 0xe0), 0x0fffffff);
	wr(c, 0xd0, 0xffffffff);
	CHECK_EQ(rd(c, 0xd0), 0xff000000);
	wr(c, 0x20, 0);
	CHECK_EQ(rd(c, 0x20), 1 << 24);
	CHECK_EQ(soft_lapic_mmio_read(c->lapic, 0xfee00031, 1), 0);
	CHECK_EQ(soft_lapic_mmio_read(c->lapic, 0xfee00032, 1) & 0xff, 5);
	CHECK_EQ(rd(c, 0x400), 0);
	CHECK_EQ(rd(c, 0x24), 0);
	teardown(r);
}

TEST(priorities)
{
	struct rig *r = setup(1);
	struct soft_vcpu *c = r->vm.vcpu[0];

	soft_lapic_msi(&r->vm, 0xfee00000, 0x41);
	CHECK_EQ(take(c), 0); /* disabled */
	wr(c, 0xf0, 0x1ff);
	soft_lapic_msi(&r->vm, 0xfee00000, 0x41);
	CHECK(take(c) & EV_INTR);
	soft_lapic_msi(&r->vm, 0xfee00000, 0x55);
	soft_lapic_msi(&r->vm, 0xfee00000, 0x5a);
	CHECK_EQ(rd(c, 0x220), 1 << 1 | 1 << 0x15 | 1 << 0x1a);
	CHECK_EQ(soft_lapic_pending(c->lapic), 0x5a);
	CHECK_EQ(soft_lapic_ack(c->lapic), 0x5a);
	CHECK_EQ(soft_lapic_pending(c->lapic), -1); /* the same class waits */
	CHECK_EQ(rd(c, 0xa0), 0x50);
	soft_lapic_msi(&r->vm, 0xfee00000, 0x61);
	CHECK_EQ(soft_lapic_ack(c->lapic), 0x61);
	take(c);
	wr(c, 0xb0, 0);
	CHECK_EQ(soft_lapic_pending(c->lapic), -1);
	CHECK_EQ(take(c), 0);
	wr(c, 0xb0, 0);
	CHECK(take(c) & EV_INTR); /* the EOI lets 0x55 through */
	CHECK_EQ(soft_lapic_ack(c->lapic), 0x55);
	wr(c, 0xb0, 0);
	soft_lapic_set_cr8(c->lapic, 4);
	CHECK_EQ(soft_lapic_pending(c->lapic), -1);
	CHECK_EQ(rd(c, 0x80), 0x40);
	take(c);
	soft_lapic_set_cr8(c->lapic, 3);
	CHECK(take(c) & EV_INTR);
	CHECK_EQ(soft_lapic_ack(c->lapic), 0x41);
	CHECK_EQ(soft_lapic_get_cr8(c->lapic), 3);
	wr(c, 0xb0, 0);
	CHECK_EQ(r->eois, 0);
	wr(c, 0xb0, 0); /* nothing in service */

	/* Level-triggered: the EOI goes out. */
	soft_lapic_msi(&r->vm, 0xfee00000, 0xc077);
	CHECK_EQ(soft_lapic_ack(c->lapic), 0x77);
	wr(c, 0xb0, 0);
	CHECK_EQ(r->eois, 1);
	CHECK_EQ(r->eoi_vector, 0x77);
	soft_lapic_msi(&r->vm, 0xfee00000, 0x77); /* edge now */
	CHECK_EQ(soft_lapic_ack(c->lapic), 0x77);
	wr(c, 0xb0, 0);
	CHECK_EQ(r->eois, 1);
	/* Illegal vectors are errors. */
	soft_lapic_msi(&r->vm, 0xfee00000, 0x0f);
	CHECK_EQ(soft_lapic_pending(c->lapic), -1);
	wr(c, 0x280, 0);
	CHECK_EQ(rd(c, 0x280), 0x40);
	wr(c, 0x280, 0);
	CHECK_EQ(rd(c, 0x280), 0);
	teardown(r);
}

static unsigned reached(struct rig *r)
{
	unsigned set = 0;

	for (unsigned i = 0; i < r->vm.nvcpus; i++) {
		if (soft_lapic_ack(r->vm.vcpu[i]->lapic) >= 0) {
			set |= 1u << i;
			wr(r->vm.vcpu[i], 0xb0, 0);
		}
		take(r->vm.vcpu[i]);
	}
	return set;
}

TEST(destinations_xapic)
{
	struct rig *r = setup(4);
	struct soft_vcpu *c = r->vm.vcpu[0];

	for (unsigned i = 0; i < 4; i++) {
		wr(r->vm.vcpu[i], 0xf0, 0x1ff);
		wr(r->vm.vcpu[i], 0xd0, 1u << (24 + i));
	}
	wr(c, 0x310, 2 << 24);
	wr(c, 0x300, 0x4040);
	CHECK_EQ(reached(r), 4);
	wr(c, 0x310, 0xa << 24);
	wr(c, 0x300, 0x4840); /* logical, flat */
	CHECK_EQ(reached(r), 0xa);
	wr(c, 0x310, 0xffu << 24);
	wr(c, 0x300, 0x4040);
	CHECK_EQ(reached(r), 0xf);
	wr(c, 0x300, 0x44040);
	CHECK_EQ(reached(r), 1);
	wr(c, 0x300, 0x84040);
	CHECK_EQ(reached(r), 0xf);
	wr(c, 0x300, 0xc4040);
	CHECK_EQ(reached(r), 0xe);
	soft_lapic_msi(&r->vm, 0xfee03000, 0x40);
	CHECK_EQ(reached(r), 8);
	soft_lapic_msi(&r->vm, 0xfee06004, 0x40);
	CHECK_EQ(reached(r), 6);
	soft_lapic_msi(&r->vm, 0xfee04000, 0x40); /* no such APIC */
	soft_lapic_msi(&r->vm, 0xfed00000, 0x40); /* not an APIC address */
	CHECK_EQ(reached(r), 0);
	/* Lowest priority: one, the least busy. */
	wr(r->vm.vcpu[1], 0x80, 0x20);
	soft_lapic_msi(&r->vm, 0xfee06004, 0x140);
	CHECK_EQ(reached(r), 4);
	soft_lapic_msi(&r->vm, 0xfee0600c, 0x40); /* redirection hint */
	CHECK_EQ(reached(r), 4);
	/* Cluster model. */
	for (unsigned i = 0; i < 4; i++) {
		wr(r->vm.vcpu[i], 0xe0, 0);
		wr(r->vm.vcpu[i], 0xd0, (i / 2) << 28 | 1u << (24 + i % 2));
	}
	wr(c, 0x310, 0x12u << 24);
	wr(c, 0x300, 0x4840);
	CHECK_EQ(reached(r), 8);
	wr(c, 0x310, 0x03u << 24);
	wr(c, 0x300, 0x4840);
	CHECK_EQ(reached(r), 3);
	wr(c, 0x300, 0x4805); /* illegal vector */
	wr(c, 0x280, 0);
	CHECK_EQ(rd(c, 0x280), 0x20);
	teardown(r);
}

TEST(x2apic)
{
	struct rig *r = setup(20);
	struct soft_vcpu *c = r->vm.vcpu[0];
	uint64_t v;

	CHECK(!soft_rdmsr(c, 0x802, &v)); /* not in x2APIC mode */
	CHECK(!soft_wrmsr(c, 0x1b, 0xfee00000 | 1 << 10));
	for (unsigned i = 0; i < 20; i++) {
		struct soft_vcpu *o = r->vm.vcpu[i];

		CHECK(soft_wrmsr(o, 0x1b, rdmsr(o, 0x1b) | 1 << 10));
		CHECK(soft_wrmsr(o, 0x80f, 0x1ff));
		CHECK_EQ(rdmsr(o, 0x802), i);
	}
	CHECK_EQ(rdmsr(c, 0x1b), 0xfee00d00);
	CHECK(!soft_lapic_mmio(c->lapic, 0xfee00020));
	CHECK(!soft_wrmsr(c, 0x1b, 0xfee00900)); /* back to xAPIC: only by way of disabled */
	CHECK_EQ(rdmsr(r->vm.vcpu[18], 0x80d), 0x10004);
	CHECK(soft_wrmsr(c, 0x830, 18ull << 32 | 0x4050));
	CHECK_EQ(soft_lapic_ack(r->vm.vcpu[18]->lapic), 0x50);
	CHECK_EQ(rdmsr(c, 0x830), 18ull << 32 | 0x4050);
	CHECK(soft_wrmsr(c, 0x830, 0x10009ull << 32 | 0x4851)); /* cluster 1: ids 16 and 19 */
	CHECK_EQ(soft_lapic_ack(r->vm.vcpu[16]->lapic), 0x51);
	CHECK_EQ(soft_lapic_ack(r->vm.vcpu[17]->lapic), -1);
	CHECK_EQ(soft_lapic_ack(r->vm.vcpu[19]->lapic), 0x51);
	CHECK(soft_wrmsr(c, 0x830, 0xffffffffull << 32 | 0x4060));
	for (unsigned i = 0; i < 20; i++)
		CHECK_EQ(soft_lapic_ack(r->vm.vcpu[i]->lapic), 0x60);
	CHECK(soft_wrmsr(c, 0x80b, 0));
	CHECK(soft_wrmsr(c, 0x83f, 0x70)); /* self IPI */
	CHECK_EQ(soft_lapic_ack(c->lapic), 0x70);
	CHECK_EQ(rdmsr(c, 0x813), 1u << 16);
	/* #GP: reserved and read-only registers, write-only ones, reserved bits. */
	CHECK(!soft_wrmsr(c, 0x802, 0));
	CHECK(!soft_wrmsr(c, 0x80d, 0));
	CHECK(!soft_wrmsr(c, 0x80b, 1));
	CHECK(!soft_wrmsr(c, 0x808, 0x100));
	CHECK(!soft_wrmsr(c, 0x808, 1ull << 32));
	CHECK(!soft_rdmsr(c, 0x80b, &v));
	CHECK(!soft_rdmsr(c, 0x80e, &v));
	CHECK(!soft_rdmsr(c, 0x831, &v));
	CHECK(!soft_rdmsr(c, 0x8ff, &v));
	CHECK(soft_wrmsr(c, 0x1b, 0xfee00100)); /* off */
	CHECK(!soft_rdmsr(c, 0x802, &v));
	CHECK(soft_wrmsr(c, 0x1b, 0xfee00900));
	CHECK_EQ(rd(c, 0xf0), 0xff);
	teardown(r);
}

TEST(start_up)
{
	struct rig *r = setup(3);
	struct soft_vcpu *c = r->vm.vcpu[0];

	wr(c, 0xf0, 0x1ff);
	wr(c, 0x310, 1 << 24);
	wr(c, 0x300, 0xc500);
	CHECK_EQ(take(r->vm.vcpu[1]), EV_INIT);
	wr(c, 0x300, 0x8500); /* de-assert: nothing */
	CHECK_EQ(take(r->vm.vcpu[1]), 0);
	wr(c, 0x300, 0x469a);
	CHECK_EQ(take(r->vm.vcpu[1]), EV_SIPI);
	wr(c, 0x300, 0xc500); /* all before the target looks */
	wr(c, 0x300, 0x469b);
	CHECK_EQ(take(r->vm.vcpu[1]), EV_INIT | EV_SIPI);
	wr(c, 0x300, 0x469b);
	wr(c, 0x300, 0xc500);
	CHECK_EQ(take(r->vm.vcpu[1]), EV_INIT);
	CHECK_EQ(r->vm.vcpu[1]->sipi_vector, 0x9b);
	wr(c, 0x300, 0xc4400); /* NMI to all others */
	CHECK_EQ(take(c), 0);
	CHECK_EQ(take(r->vm.vcpu[1]), EV_NMI);
	CHECK_EQ(take(r->vm.vcpu[2]), EV_NMI);
	/* INIT keeps the id and the base. */
	CHECK(soft_wrmsr(r->vm.vcpu[1], 0x1b, 0xfee00c00));
	soft_lapic_reset(r->vm.vcpu[1]->lapic, true);
	CHECK_EQ(rdmsr(r->vm.vcpu[1], 0x1b), 0xfee00c00);
	CHECK_EQ(rdmsr(r->vm.vcpu[1], 0x802), 1);
	soft_lapic_reset(r->vm.vcpu[1]->lapic, false);
	CHECK_EQ(rdmsr(r->vm.vcpu[1], 0x1b), 0xfee00800);
	teardown(r);
}

/* The guest executes (or spins) until the timer thread posts the event. */
static void until_event(struct soft_vcpu *c)
{
	while (!(atomic_load(&c->events) & EV_INTR))
		__builtin_ia32_pause();
	take(c);
}

TEST(tsc_deadline)
{
	struct rig *r = setup(1);
	struct soft_vcpu *c = r->vm.vcpu[0];
	uint64_t at;

	wr(c, 0xf0, 0x1ff);
	CHECK(soft_wrmsr(c, 0x6e0, 1));
	CHECK_EQ(rdmsr(c, 0x6e0), 0); /* not in that mode: ignored */
	wr(c, 0x320, 0x40040);
	at = soft_tsc(c) + os_tsc_hz() * 1000;
	CHECK(soft_wrmsr(c, 0x6e0, at));
	CHECK_EQ(rdmsr(c, 0x6e0), at);
	CHECK(soft_wrmsr(c, 0x6e0, 0)); /* disarmed */
	CHECK_EQ(rdmsr(c, 0x6e0), 0);
	for (unsigned i = 0; i < 20; i++) {
		int v = -1;

		at = soft_tsc(c) + os_tsc_hz() / 2000;
		CHECK(soft_wrmsr(c, 0x6e0, at));
		while (v < 0) {
			until_event(c);
			v = soft_lapic_ack(c->lapic) >= 0 ? 0x40 : soft_lapic_pending(c->lapic);
		}
		CHECK(soft_tsc(c) >= at); /* never early */
		CHECK_EQ(rdmsr(c, 0x6e0), 0);
		soft_lapic_ack(c->lapic);
		wr(c, 0xb0, 0);
	}
	CHECK(soft_wrmsr(c, 0x6e0, 1)); /* long past: at once */
	CHECK(take(c) & EV_INTR);
	CHECK_EQ(soft_lapic_pending(c->lapic), 0x40);
	soft_lapic_ack(c->lapic);
	wr(c, 0xb0, 0);
	CHECK(soft_wrmsr(c, 0x6e0, UINT64_MAX)); /* far away */
	CHECK_EQ(soft_lapic_pending(c->lapic), -1);
	CHECK(soft_wrmsr(c, 0x6e0, 0)); /* disarm */
	CHECK_EQ(rdmsr(c, 0x6e0), 0);
	/* Asleep: the vCPU wakes by itself. */
	take(c);
	at = soft_tsc(c) + os_tsc_hz() / 500;
	CHECK(soft_wrmsr(c, 0x6e0, at));
	soft_halt_wait(c, EV_INTR);
	CHECK(soft_tsc(c) >= at);
	CHECK_EQ(soft_lapic_pending(c->lapic), 0x40);
	teardown(r);
}

TEST(count_timer)
{
	struct rig *r = setup(1);
	struct soft_vcpu *c = r->vm.vcpu[0];

	wr(c, 0xf0, 0x1ff);
	wr(c, 0x3e0, 0xb); /* divide by 1 */
	wr(c, 0x320, 0x31);
	wr(c, 0x380, 2000000); /* 2 ms */
	CHECK(rd(c, 0x390) > 0 && rd(c, 0x390) <= 2000000);
	soft_halt_wait(c, EV_INTR);
	CHECK_EQ(soft_lapic_pending(c->lapic), 0x31);
	CHECK_EQ(rd(c, 0x390), 0);
	soft_lapic_ack(c->lapic);
	wr(c, 0xb0, 0);
	take(c);
	/* Periodic, divided by 2: several times; missed periods are one interrupt. */
	wr(c, 0x3e0, 0);
	wr(c, 0x320, 0x20032);
	uint64_t t0 = os_now();

	wr(c, 0x380, 500000);
	for (unsigned i = 1; i <= 3; i++) {
		soft_halt_wait(c, EV_INTR);
		take(c);
		CHECK_EQ(soft_lapic_ack(c->lapic), 0x32);
		wr(c, 0xb0, 0);
		CHECK(os_now() - t0 >= i * 1000000ull);
	}
	wr(c, 0x380, 0); /* stops */
	take(c);
	CHECK_EQ(soft_lapic_pending(c->lapic), -1);
	/* Masked: it runs out silently. */
	wr(c, 0x320, 0x10031);
	wr(c, 0x380, 1);
	while (rd(c, 0x390))
		;
	CHECK_EQ(soft_lapic_pending(c->lapic), -1);
	teardown(r);
}

TEST(apic_page)
{
	struct rig *r = setup(2), *s = setup(2);
	struct soft_vcpu *c = r->vm.vcpu[0], *d = s->vm.vcpu[0];
	uint8_t page[1024];

	wr(c, 0xf0, 0x1ff);
	wr(c, 0x350, 0x700);
	wr(c, 0x3e0, 0xb);
	wr(c, 0x320, 0x31);
	wr(c, 0x380, 0xffffffff);
	soft_lapic_msi(&r->vm, 0xfee00000, 0x41);
	soft_lapic_msi(&r->vm, 0xfee00000, 0xc062);
	CHECK_EQ(soft_lapic_ack(c->lapic), 0x62);
	soft_lapic_msi(&r->vm, 0xfee00000, 0x63);
	soft_lapic_get_page(c->lapic, page);
	CHECK_EQ(le32_get(page + 0x220), 1 << 1);
	CHECK_EQ(le32_get(page + 0xa0), 0x60);
	CHECK(le32_get(page + 0x390) > 0x80000000u);
	soft_lapic_set_page(d->lapic, page);
	CHECK_EQ(rd(d, 0x350), 0x700);
	CHECK(rd(d, 0x390) > 0x80000000u);
	CHECK_EQ(soft_lapic_pending(d->lapic), -1);
	wr(d, 0xb0, 0);
	CHECK_EQ(s->eois, 1);
	CHECK(take(d) & EV_INTR);
	CHECK_EQ(soft_lapic_ack(d->lapic), 0x63);
	wr(d, 0xb0, 0);
	CHECK_EQ(soft_lapic_ack(d->lapic), 0x41);
	teardown(r);
	teardown(s);
}

static void wake_later(void *ctx)
{
	struct soft_vcpu *c = ctx;

	while (!atomic_load(&c->asleep))
		;
	soft_lapic_msi(c->vm, 0xfee00000, 0x41);
}

static void nmi_later(void *ctx)
{
	struct soft_vcpu *c = ctx;

	/* By then the timer has expired several times, which was not waited for. */
	while (!(atomic_load(&c->events) & EV_INTR) || !atomic_load(&c->asleep))
		;
	soft_post(c, EV_NMI);
}

TEST(halt)
{
	struct rig *r = setup(1);
	struct soft_vcpu *c = r->vm.vcpu[0];
	struct os_thread *t;

	wr(c, 0xf0, 0x1ff);
	for (unsigned i = 0; i < 50; i++) {
		REQUIRE(os_thread_start(&t, "waker", wake_later, c) == 0);
		soft_halt_wait(c, EV_INTR);
		CHECK(take(c) & EV_INTR);
		os_thread_join(t);
		CHECK_EQ(soft_lapic_ack(c->lapic), 0x41);
		wr(c, 0xb0, 0);
	}
	take(c);
	/* Events that are not asked for do not end the wait. */
	wr(c, 0x3e0, 0xb);
	wr(c, 0x320, 0x20032);
	wr(c, 0x380, 100000);
	REQUIRE(os_thread_start(&t, "waker", nmi_later, c) == 0);
	soft_halt_wait(c, EV_NMI);
	CHECK(take(c) & EV_NMI);
	os_thread_join(t);
	teardown(r);
}

enum { ROUNDS = 3000 };

/* Answers each interrupt by one to the next vCPU, and arms a timer meanwhile that must not disturb. */
static void player(void *ctx)
{
	struct soft_vcpu *c = ctx;
	unsigned next = (c->index + 1) % c->vm->nvcpus, seen = 0;

	while (seen < ROUNDS) {
		int v;

		soft_halt_wait(c, EV_INTR);
		take(c);
		while ((v = soft_lapic_pending(c->lapic)) >= 0 && soft_lapic_ack(c->lapic) == v) {
			soft_wrmsr(c, 0x80b, 0);
			if (v != 0x41)
				continue;
			seen++;
			soft_wrmsr(c, 0x6e0, soft_tsc(c) + os_tsc_hz() / 20000 * (seen % 3));
			soft_wrmsr(c, 0x830, (uint64_t)next << 32 | 0x4041);
		}
	}
}

/* A lost wake-up would hang this test. */
TEST(ping_pong)
{
	struct rig *r = setup(3);
	struct os_thread *t[3];

	for (unsigned i = 0; i < 3; i++) {
		struct soft_vcpu *c = r->vm.vcpu[i];

		CHECK(soft_wrmsr(c, 0x1b, rdmsr(c, 0x1b) | 1 << 10));
		CHECK(soft_wrmsr(c, 0x80f, 0x1ff));
		CHECK(soft_wrmsr(c, 0x832, 0x40042));
	}
	for (unsigned i = 0; i < 3; i++)
		REQUIRE(os_thread_start(&t[i], "player", player, r->vm.vcpu[i]) == 0);
	soft_lapic_msi(&r->vm, 0xfee00000, 0x41);
	for (unsigned i = 0; i < 3; i++)
		os_thread_join(t[i]);
	teardown(r);
}

TEST(kvmclock)
{
	struct rig *r = setup(2);
	struct soft_vcpu *c = r->vm.vcpu[0], *d = r->vm.vcpu[1];
	uint8_t a[32], b[32], wall[12];
	uint64_t v;

	CHECK(soft_wrmsr(c, 0x4b564d01, 0x1001));
	CHECK(soft_wrmsr(d, 0x12, 0x1041));
	CHECK_EQ(rdmsr(c, 0x4b564d01), 0x1001);
	REQUIRE(gmem_read(r->vm.gm, 0x1000, a, 32) == 0 && gmem_read(r->vm.gm, 0x1040, b, 32) == 0);
	CHECK(le32_get(a) && !(le32_get(a) & 1));
	CHECK_EQ(a[29], 1);
	CHECK(memcmp(a + 8, b + 8, 24) == 0); /* one clock */
	/* As a guest computes it. */
	unsigned __int128 t = soft_tsc(c) - le64_get(a + 8);

	t = (int8_t)a[28] < 0 ? t >> -(int8_t)a[28] : t << a[28];
	v = le64_get(a + 16) + (uint64_t)(t * le32_get(a + 24) >> 32);
	CHECK(v <= soft_clock_ns(r->vm.clock));
	CHECK(soft_clock_ns(r->vm.clock) - v < 1000000000);

	CHECK(soft_wrmsr(c, 0x4b564d00, 0x2000));
	REQUIRE(gmem_read(r->vm.gm, 0x2000, wall, 12) == 0);
	v = le32_get(wall + 4) * 1000000000ull + le32_get(wall + 8) + soft_clock_ns(r->vm.clock);
	CHECK(os_realtime() - v < 10000000000ull);
	CHECK(soft_wrmsr(c, 0x4b564d01, ~0xfull | 1)); /* outside RAM: no harm */
	CHECK(soft_wrmsr(c, 0x4b564d00, ~0xfull));
	teardown(r);
}

TEST(save_load)
{
	struct rig *r = setup(2), *s = setup(2);
	struct state_w *w = state_w_new();
	struct cpu_msr msrs[2][CPU_MAX_MSRS];
	uint64_t ns, tsc, efer;
	unsigned n[2];
	size_t len;

	for (unsigned i = 0; i < 2; i++) {
		struct soft_vcpu *c = r->vm.vcpu[i];

		CHECK(soft_wrmsr(c, 0x10, 1ull << 60));
		CHECK(soft_wrmsr(c, 0xc0000082, 0xffffffff81000000));
		CHECK(soft_wrmsr(c, 0x1b, rdmsr(c, 0x1b) | 1 << 10));
		CHECK(soft_wrmsr(c, 0x4b564d01, 0x1001 + i * 64));
	}
	tsc = soft_tsc(r->vm.vcpu[0]);
	for (unsigned i = 0; i < 2; i++)
		soft_msr_save(r->vm.vcpu[i], msrs[i], &n[i]);
	ns = soft_clock_ns(r->vm.clock);
	soft_clock_save(r->vm.clock, w);
	const void *data = state_w_data(w, &len);
	struct state_r *rdr = state_r_new(data, len);

	CHECK(n[0] > 30 && n[0] <= CPU_MAX_MSRS);
	for (unsigned i = 0; i < 2; i++)
		CHECK_EQ(soft_msr_load(s->vm.vcpu[i], msrs[i], n[i]), 0);
	CHECK_EQ(soft_clock_load(s->vm.clock, rdr), 0);
	CHECK_EQ(s->vm.vcpu[0]->tsc_offset, s->vm.vcpu[1]->tsc_offset);
	CHECK(soft_tsc(s->vm.vcpu[0]) >= tsc);
	CHECK(soft_tsc(s->vm.vcpu[0]) - tsc < os_tsc_hz() * 10);
	CHECK(soft_clock_ns(s->vm.clock) >= ns);
	CHECK_EQ(rdmsr(s->vm.vcpu[1], 0x802), 1);
	CHECK_EQ(rdmsr(s->vm.vcpu[1], 0xc0000082), 0xffffffff81000000);
	/* The published page agrees with the clock. */
	uint8_t a[32];

	REQUIRE(gmem_read(s->vm.gm, 0x1000, a, 32) == 0);
	CHECK_EQ(a[29], 1);
	CHECK(le64_get(a + 16) >= ns);
	CHECK(le64_get(a + 8) >= tsc);
	state_r_free(rdr);
	rdr = state_r_new(data, len - 1);
	CHECK(soft_clock_load(s->vm.clock, rdr) < 0);
	state_r_free(rdr);
	state_w_free(w);
	CHECK_EQ(soft_rdmsr(s->vm.vcpu[0], 0xc0000080, &efer), true);
	teardown(r);
	teardown(s);
}

TEST(msrs)
{
	struct rig *r = setup(1);
	struct soft_vcpu *c = r->vm.vcpu[0];
	uint64_t v;

	CHECK(!soft_rdmsr(c, 0x12345678, &v));
	CHECK(!soft_wrmsr(c, 0x12345678, 0));
	CHECK_EQ(rdmsr(c, 0x277), 0x0007040600070406);
	CHECK(!soft_wrmsr(c, 0x277, 2));
	CHECK(soft_wrmsr(c, 0x277, 0x0407050600070106));
	CHECK_EQ(rdmsr(c, 0xfe) & 0xff, 8);
	CHECK(!soft_wrmsr(c, 0xfe, 0));
	CHECK(!soft_wrmsr(c, 0x250, 7)); /* no such memory type */
	CHECK(!soft_wrmsr(c, 0x201, 1ull << 46));
	CHECK(!soft_wrmsr(c, 0xc0000082, 1ull << 47));
	CHECK(!soft_wrmsr(c, 0xc0000100, 1ull << 63));
	CHECK(soft_wrmsr(c, 0xc0000101, 0xffff888000000000));
	CHECK_EQ(c->segbase[SEG_GS], 0xffff888000000000);
	CHECK(!soft_wrmsr(c, 0xc0000103, 1ull << 32));
	/* TSC_ADJUST moves the TSC, and writing the TSC shows in it. */
	uint64_t t = soft_tsc(c);

	CHECK(soft_wrmsr(c, 0x3b, 1ull << 50));
	CHECK(soft_tsc(c) - t >= 1ull << 50);
	CHECK(soft_wrmsr(c, 0x3b, 0));
	CHECK_EQ(c->tsc_offset, 0);
	CHECK(soft_wrmsr(c, 0x10, 0));
	CHECK_EQ(rdmsr(c, 0x3b), c->tsc_offset);
	teardown(r);
}

static uint64_t an_hour_more(void)
{
	return soft_host_tsc() + 3600 * os_tsc_hz();
}

/* What the host's had been before is made up: an hour more than it is. */
TEST(time_goes_on_when_the_hosts_tsc_begins_anew)
{
	struct rig *r = setup(2);
	struct soft_vcpu *c = r->vm.vcpu[0];
	const uint64_t hz = os_tsc_hz(), hour = 3600 * hz;

	wr(c, 0xf0, 0x1ff);
	wr(c, 0x320, 2 << 17 | 0xec);
	const uint64_t clock = soft_clock_ns(r->vm.clock), tsc = soft_tsc(c);
	soft_clock_look(r->vm.clock, an_hour_more);
	CHECK_EQ(c->tsc_offset, 0);
	/* the guest sets its timer by what it reads now, an hour before what it had been; it has passed in truth */
	CHECK(soft_wrmsr(c, 0x6e0, soft_tsc(c) + 1000 * hz));
	for (unsigned i = 0; i < 2; i++) {
		CHECK(soft_tsc(r->vm.vcpu[i]) - tsc >= hour);
		CHECK(soft_tsc(r->vm.vcpu[i]) - tsc < hour + 60 * hz);
	}
	CHECK(soft_clock_ns(r->vm.clock) - clock >= 3599ull * 1000000000);
	CHECK(c->events & EV_INTR);
	/* once */
	CHECK(soft_wrmsr(c, 0x6e0, soft_tsc(c) + 1000 * hz));
	CHECK(soft_tsc(c) - tsc < hour + 60 * hz);
	teardown(r);
}

static _Atomic bool has_read;

/* The host's scheduler takes the processor from it. */
static uint64_t read_and_stand_still(void)
{
	uint64_t tsc = soft_host_tsc();

	atomic_store(&has_read, true);
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	return tsc;
}

static void look_slowly(void *clock)
{
	soft_clock_look(clock, read_and_stand_still);
}

/* The guest's clock went back by as much as a minute, and its timers stood still for so long. */
TEST(a_vcpu_whose_thread_stands_still_does_not_move_time)
{
	struct rig *r = setup(2);
	struct os_thread *t;

	atomic_store(&has_read, false);
	CHECK_EQ(os_thread_start(&t, "slow", look_slowly, r->vm.clock), 0);
	while (!atomic_load(&has_read))
		;
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	soft_clock_look(r->vm.clock, soft_host_tsc);
	os_thread_join(t);
	for (unsigned i = 0; i < 2; i++)
		CHECK_EQ(r->vm.vcpu[i]->tsc_offset, 0);
	teardown(r);
}

TEST(cpuid)
{
	struct rig *r = setup(3);
	struct soft_vcpu *c = r->vm.vcpu[2];
	uint32_t out[4];

	soft_cpuid(c, 0, 0, out);
	CHECK(out[CPUID_EAX] >= 0xd);
	soft_cpuid(c, 1, 0, out);
	CHECK_EQ(out[CPUID_EBX] >> 24, 2);
	CHECK_EQ(out[CPUID_EBX] >> 16 & 0xff, 4);
	CHECK_EQ(out[CPUID_ECX] >> 26 & 7, 0); /* neither XSAVE nor AVX */
	CHECK(out[CPUID_ECX] & 1u << 31);
	CHECK(out[CPUID_EDX] & 1 << 9);
	CHECK(soft_wrmsr(c, 0x1b, 0xfee00000));
	soft_cpuid(c, 1, 0, out);
	CHECK(!(out[CPUID_EDX] & 1 << 9)); /* follows the APIC's enable bit */
	soft_cpuid(c, 0xd, 0, out);
	CHECK_EQ(out[CPUID_EAX], 0);
	soft_cpuid(c, 0xb, 1, out);
	CHECK_EQ(out[CPUID_EAX], 2);
	CHECK_EQ(out[CPUID_EBX], 3);
	CHECK_EQ(out[CPUID_EDX], 2);
	soft_cpuid(c, 0x40000000, 0, out);
	CHECK(memcmp(out + 1, "KVMKVMKVM\0\0\0", 12) == 0);
	soft_cpuid(c, 0x40000001, 0, out);
	CHECK_EQ(out[CPUID_EAX], 0x0100000b);
	soft_cpuid(c, 0x80000002, 0, out);
	CHECK(memcmp(out, "wslx", 4) == 0);
	soft_cpuid(c, 0x12345678, 0, out);
	CHECK_EQ(out[0] | out[1] | out[2] | out[3], 0);
	teardown(r);
}

TEST_MAIN()
