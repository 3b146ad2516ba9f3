/* SPDX-License-Identifier: MIT */
#include "vmm/chip/pci-host.h"

#include "lib/base/test.h"
#include "vmm/chip/fake-cpu.h"
#include "vmm/chip/platform.h"
#include "vmm/core/state.h"

enum { VECTORS = 3, TABLE = 0x2000, PBA = 0x3000 };

struct card {
	struct pci_dev pci;
	struct cpu_vm vm;
	uint64_t last_off, last_val;
	unsigned last_bar, resets, cap;
};

static uint64_t card_read(struct pci_dev *p, unsigned bar, uint64_t off, unsigned len)
{
	struct card *c = container_of(p, struct card, pci);

	c->last_bar = bar;
	c->last_off = off;
	return 0xc0ffee;
}

static void card_write(struct pci_dev *p, unsigned bar, uint64_t off, unsigned len, uint64_t val)
{
	struct card *c = container_of(p, struct card, pci);

	c->last_bar = bar;
	c->last_off = off;
	c->last_val = val;
}

static void card_reset(struct pci_dev *p)
{
	container_of(p, struct card, pci)->resets++;
}

static bool card_cfg_read(struct pci_dev *p, unsigned off, unsigned len, uint32_t *ret)
{
	if (off != container_of(p, struct card, pci)->cap + 4)
		return false;
	*ret = 0xfeedface;
	return true;
}

static const struct pci_dev_ops card_ops = {
	.bar_read = card_read,
	.bar_write = card_write,
	.reset = card_reset,
	.cfg_read = card_cfg_read,
};

struct rig {
	struct bus *bus;
	struct pci_host *host;
	struct card c;
};

static void setup(struct rig *r)
{
	static const struct pci_ids ids = {.vendor = 0x1af4,
		.device = 0x1042,
		.subvendor = 0x1af4,
		.subdevice = 7,
		.class_code = 0x010000,
		.revision = 1};
	static const uint8_t body[6] = {8, 0, 1, 2, 3, 4}, mask[6] = {0, 0, 0, 0, 0xff, 0};
	int cap;

	memset(r, 0, sizeof(*r));
	REQUIRE(bus_new(&r->bus) == 0);
	REQUIRE(pci_host_new(&r->host, r->bus) == 0);
	pci_dev_init(&r->c.pci, &card_ops, &ids, "card");
	pci_dev_bar(&r->c.pci, 0, PCI_BAR_MEM64, 0x4000);
	pci_dev_bar(&r->c.pci, 2, PCI_BAR_PORT, 32);
	pci_dev_bar(&r->c.pci, 3, PCI_BAR_MEM32, 0x1000);
	cap = pci_dev_cap(&r->c.pci, PCI_CAP_ID_VENDOR, body, sizeof(body), mask);
	REQUIRE(cap == PCI_FIRST_CAP);
	r->c.cap = (unsigned)cap;
	REQUIRE(pci_dev_msix(&r->c.pci, &fake_cpu, &r->c.vm, VECTORS, 0, TABLE, PBA) == 0);
	REQUIRE(pci_host_add(r->host, &r->c.pci, -1) == 0);
}

static void teardown(struct rig *r)
{
	r->c.pci.dev.ops->free(&r->c.pci.dev);
	CHECK_EQ(r->c.vm.sources, 0);
	pci_host_dev(r->host)->ops->free(pci_host_dev(r->host));
	bus_free(r->bus);
}

static void cfg_select(struct rig *r, unsigned slot, unsigned off)
{
	bus_write(r->bus, BUS_PORT, 0xcf8, 4, 0x80000000u | slot << 11 | (off & 0xfc));
}

static uint32_t cfg(struct rig *r, unsigned slot, unsigned off, unsigned len)
{
	cfg_select(r, slot, off);
	return (uint32_t)bus_read(r->bus, BUS_PORT, 0xcfc + off % 4, len);
}

static void cfg_set(struct rig *r, unsigned slot, unsigned off, unsigned len, uint32_t v)
{
	cfg_select(r, slot, off);
	bus_write(r->bus, BUS_PORT, 0xcfc + off % 4, len, v);
}

static uint64_t bar0(struct rig *r)
{
	return (uint64_t)cfg(r, 1, 0x14, 4) << 32 | (cfg(r, 1, 0x10, 4) & ~15u);
}

TEST(header)
{
	struct rig r;

	setup(&r);
	CHECK_EQ(cfg(&r, 0, 0, 4), 0x00081b36);
	CHECK_EQ(cfg(&r, 0, 8, 4) >> 8, 0x060000);
	CHECK_EQ(cfg(&r, 1, 0, 4), 0x10421af4);
	CHECK_EQ(cfg(&r, 1, 2, 2), 0x1042);
	CHECK_EQ(cfg(&r, 1, 3, 1), 0x10);
	CHECK_EQ(cfg(&r, 1, 8, 4), 0x01000001);
	CHECK_EQ(cfg(&r, 1, 0x2c, 4), 0x00071af4);
	CHECK_EQ(cfg(&r, 2, 0, 4), 0xffffffff); /* nobody */
	CHECK_EQ(bus_read(r.bus, BUS_PORT, 0xcf8, 4), 0x80001000);
	cfg_set(&r, 1, 0, 4, 0); /* read-only */
	CHECK_EQ(cfg(&r, 1, 0, 4), 0x10421af4);
	/* A function that is not there, another bus, the enable bit off. */
	bus_write(r.bus, BUS_PORT, 0xcf8, 4, 0x80000900);
	CHECK_EQ(bus_read(r.bus, BUS_PORT, 0xcfc, 4), 0xffffffff);
	bus_write(r.bus, BUS_PORT, 0xcf8, 4, 0x80010800);
	CHECK_EQ(bus_read(r.bus, BUS_PORT, 0xcfc, 4), 0xffffffff);
	bus_write(r.bus, BUS_PORT, 0xcf8, 4, 0x00000800);
	CHECK_EQ(bus_read(r.bus, BUS_PORT, 0xcfc, 4), 0xffffffff);
	teardown(&r);
}

TEST(ecam)
{
	struct rig r;
	uint64_t at = PLAT_PCI_ECAM_BASE + (1 << 15);

	setup(&r);
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, at, 4), 0x10421af4);
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, at, 8), 0x10421af4ull | 0x00100000ull << 32);
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, at + 1, 2), 0x421a); /* unaligned */
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, at + 0x100, 4), 0xffffffff);
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, at + 0x1000, 4), 0xffffffff);
	bus_write(r.bus, BUS_MMIO, at + 0x3c, 1, 11);
	CHECK_EQ(cfg(&r, 1, 0x3c, 1), 11);
	teardown(&r);
}

TEST(bars)
{
	struct rig r;
	uint64_t a, addr;
	uint32_t port, mem;

	setup(&r);
	a = bar0(&r);
	port = cfg(&r, 1, 0x18, 4);
	mem = cfg(&r, 1, 0x1c, 4);
	CHECK(a >= PLAT_PCI_MMIO32_START && a + 0x4000 <= PLAT_PCI_MMIO32_END);
	CHECK_EQ(cfg(&r, 1, 0x10, 4) & 15, 4);
	CHECK_EQ(port & 3, 1);
	CHECK_EQ(mem & 15, 0);
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, a, 4), 0xffffffff); /* not decoding yet */
	CHECK(!pci_bar_addr(&r.c.pci, 0, &addr));
	cfg_set(&r, 1, 4, 2, 0x7);
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, a + 0x10, 4), 0xc0ffee);
	CHECK_EQ(r.c.last_off, 0x10);
	CHECK(pci_bar_addr(&r.c.pci, 0, &addr) && addr == a);
	CHECK_EQ(bus_read(r.bus, BUS_PORT, (port & ~3u) + 5, 1), 0xee);
	CHECK_EQ(r.c.last_bar, 2);
	bus_write(r.bus, BUS_MMIO, mem + 8, 8, 0x1122334455667788);
	CHECK_EQ(r.c.last_bar, 3);
	CHECK_EQ(r.c.last_val, 0x1122334455667788);

	/* Sizing. */
	cfg_set(&r, 1, 0x10, 4, 0xffffffff);
	cfg_set(&r, 1, 0x14, 4, 0xffffffff);
	CHECK_EQ(cfg(&r, 1, 0x10, 4), 0xffffc004);
	CHECK_EQ(cfg(&r, 1, 0x14, 4), 0xffffffff);
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, a, 4), 0xffffffff);
	cfg_set(&r, 1, 0x18, 4, 0xffffffff);
	CHECK_EQ(cfg(&r, 1, 0x18, 4), 0xffffffe1);
	CHECK_EQ(cfg(&r, 1, 0x20, 4), 0);
	cfg_set(&r, 1, 0x20, 4, 0xffffffff);
	CHECK_EQ(cfg(&r, 1, 0x20, 4), 0);

	/* Moving while decoding, and to where no BAR may be. */
	cfg_set(&r, 1, 0x14, 4, 0);
	cfg_set(&r, 1, 0x10, 4, 0xd0000000);
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, 0xd0000000, 4), 0xc0ffee);
	cfg_set(&r, 1, 0x10, 4, 0xfec00000);
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, 0xd0000000, 4), 0xffffffff);
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, 0xfec00000, 4), 0xffffffff);
	cfg_set(&r, 1, 0x10, 4, 0x100000);
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, 0x100000, 4), 0xffffffff);
	cfg_set(&r, 1, 0x14, 4, PLAT_PCI_MMIO64_START >> 32);
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, PLAT_PCI_MMIO64_START + 0x100000, 4), 0xc0ffee);
	/* Onto another BAR: refused until it is free. */
	cfg_set(&r, 1, 0x14, 4, 0);
	cfg_set(&r, 1, 0x10, 4, mem & ~0x3fffu);
	cfg_set(&r, 1, 0x1c, 4, 0xd8000000);
	cfg_set(&r, 1, 4, 2, 0x7);
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, mem, 4), 0xc0ffee);
	CHECK_EQ(r.c.last_bar, 0);

	cfg_set(&r, 1, 4, 2, 0);
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, mem, 4), 0xffffffff);
	r.c.pci.dev.ops->reset(&r.c.pci.dev);
	CHECK_EQ(r.c.resets, 1);
	CHECK_EQ(bar0(&r), a);
	teardown(&r);
}

TEST(capabilities)
{
	struct rig r;
	unsigned vendor, msix;

	setup(&r);
	CHECK_EQ(cfg(&r, 1, 6, 2) & 0x10, 0x10);
	vendor = cfg(&r, 1, 0x34, 1);
	CHECK_EQ(cfg(&r, 1, vendor, 1), PCI_CAP_ID_VENDOR);
	msix = cfg(&r, 1, vendor + 1, 1);
	CHECK_EQ(cfg(&r, 1, msix, 1), PCI_CAP_ID_MSIX);
	CHECK_EQ(cfg(&r, 1, msix + 1, 1), 0);
	CHECK_EQ(cfg(&r, 1, msix + 2, 2), VECTORS - 1);
	CHECK_EQ(cfg(&r, 1, msix + 4, 4), TABLE);
	CHECK_EQ(cfg(&r, 1, msix + 8, 4), PBA);
	CHECK_EQ(cfg(&r, 1, vendor + 4, 4), 0xfeedface); /* the device answers itself */
	CHECK_EQ(cfg(&r, 1, vendor, 4) >> 16, 0x0008);
	cfg_set(&r, 1, vendor, 4, 0xffffffff);
	CHECK_EQ(cfg(&r, 1, vendor, 4) >> 16, 0x0008); /* read-only but where the mask says */
	teardown(&r);
}

TEST(msix)
{
	struct rig r;
	uint64_t t, msix;

	setup(&r);
	msix = cfg(&r, 1, cfg(&r, 1, 0x34, 1) + 1, 1);
	t = bar0(&r) + TABLE;
	cfg_set(&r, 1, 4, 2, 6);
	pci_msix_raise(&r.c.pci, 0); /* off: lost */
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, t + 12, 4), 1);
	bus_write(r.bus, BUS_MMIO, t, 8, 0xfee01000);
	bus_write(r.bus, BUS_MMIO, t + 8, 4, 0x41);
	CHECK(!pci_msix_enabled(&r.c.pci));
	cfg_set(&r, 1, (unsigned)msix + 2, 2, 0xc000); /* on, all masked */
	CHECK(pci_msix_enabled(&r.c.pci));
	bus_write(r.bus, BUS_MMIO, t + 12, 4, 0);
	pci_msix_raise(&r.c.pci, 0);
	pci_msix_raise(&r.c.pci, 1);
	pci_msix_raise(&r.c.pci, VECTORS); /* no such vector */
	CHECK_EQ(r.c.vm.count, 0);
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, bar0(&r) + PBA, 8), 3);
	bus_write(r.bus, BUS_MMIO, bar0(&r) + PBA, 8, 0); /* read-only */
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, bar0(&r) + PBA, 8), 3);
	cfg_set(&r, 1, (unsigned)msix + 2, 2, 0x8000); /* pending vector 0 goes out */
	CHECK_EQ(r.c.vm.count, 1);
	CHECK_EQ(r.c.vm.addr, 0xfee01000);
	CHECK_EQ(r.c.vm.data, 0x41);
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, bar0(&r) + PBA, 8), 2);
	pci_msix_raise(&r.c.pci, 0);
	CHECK_EQ(r.c.vm.count, 2);
	/* A new message takes effect at once. */
	bus_write(r.bus, BUS_MMIO, t + 8, 4, 0x42);
	pci_msix_raise(&r.c.pci, 0);
	CHECK_EQ(r.c.vm.data, 0x42);
	bus_write(r.bus, BUS_MMIO, t + 12, 4, 1);
	pci_msix_raise(&r.c.pci, 0);
	CHECK_EQ(r.c.vm.count, 3);
	bus_write(r.bus, BUS_MMIO, t + 8, 8, 0x44); /* data and control in one write: unmasked */
	CHECK_EQ(r.c.vm.count, 4);
	CHECK_EQ(r.c.vm.data, 0x44);
	/* Odd accesses: bytes read, but only whole registers are written. */
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, t + 1, 2), 0xe010);
	bus_write(r.bus, BUS_MMIO, t + 8, 2, 0xffff);
	bus_write(r.bus, BUS_MMIO, t + 6, 4, 0xffffffff);
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, t + 8, 4), 0x44);
	/* The rest of the BAR is the device's. */
	CHECK_EQ(bus_read(r.bus, BUS_MMIO, t + VECTORS * 16, 4), 0xc0ffee);
	r.c.pci.dev.ops->reset(&r.c.pci.dev);
	CHECK(!pci_msix_enabled(&r.c.pci));
	CHECK_EQ(cfg(&r, 1, (unsigned)msix + 2, 2), VECTORS - 1);
	teardown(&r);
}

TEST(save_load)
{
	struct rig r, s;
	struct state_w *w = state_w_new();
	struct state_r *rd;
	const void *data;
	uint64_t t;
	unsigned msix;
	size_t len;

	setup(&r);
	setup(&s);
	msix = cfg(&r, 1, cfg(&r, 1, 0x34, 1) + 1, 1);
	cfg_set(&r, 1, 0x10, 4, 0xd4000000);
	cfg_set(&r, 1, 4, 2, 6);
	t = 0xd4000000 + TABLE;
	bus_write(r.bus, BUS_MMIO, t + 16, 8, 0xfee02000);
	bus_write(r.bus, BUS_MMIO, t + 24, 4, 0x51);
	cfg_set(&r, 1, msix + 2, 2, 0x8000);
	pci_msix_raise(&r.c.pci, 1); /* masked: pending */
	pci_host_dev(r.host)->ops->save(pci_host_dev(r.host), w);
	r.c.pci.dev.ops->save(&r.c.pci.dev, w);
	data = state_w_data(w, &len);

	rd = state_r_new(data, len);
	CHECK_EQ(pci_host_dev(s.host)->ops->load(pci_host_dev(s.host), rd), 0);
	CHECK_EQ(s.c.pci.dev.ops->load(&s.c.pci.dev, rd), 0);
	state_r_free(rd);
	CHECK_EQ(bus_read(s.bus, BUS_PORT, 0xcf8, 4), 0x80000800u | (msix & 0xfc));
	CHECK_EQ(bus_read(s.bus, BUS_MMIO, 0xd4000000, 4), 0xc0ffee);
	CHECK(pci_msix_enabled(&s.c.pci));
	CHECK_EQ(s.c.vm.count, 0);
	bus_write(s.bus, BUS_MMIO, t + 28, 4, 0);
	CHECK_EQ(s.c.vm.count, 1);
	CHECK_EQ(s.c.vm.data, 0x51);

	/* Cut anywhere: an error, never a crash. */
	for (size_t n = 0; n < len; n += 7) {
		rd = state_r_new(data, n);
		pci_host_dev(s.host)->ops->load(pci_host_dev(s.host), rd);
		CHECK(s.c.pci.dev.ops->load(&s.c.pci.dev, rd) < 0);
		state_r_free(rd);
	}
	state_w_free(w);
	teardown(&r);
	teardown(&s);
}

TEST(slots)
{
	static const struct pci_ids ids = {.vendor = 1, .device = 2};
	static const struct pci_dev_ops none = {0};
	struct pci_dev p[PCI_SLOTS];
	struct rig r;
	int n = 0;

	setup(&r);
	for (unsigned i = 0; i < PCI_SLOTS; i++) {
		char id[16];

		snprintf(id, sizeof(id), "p%u", i);
		pci_dev_init(&p[i], &none, &ids, id);
	}
	CHECK(pci_host_add(r.host, &p[0], 1) < 0); /* taken */
	for (unsigned i = 0; i < PCI_SLOTS; i++)
		n += pci_host_add(r.host, &p[i], -1) == 0;
	CHECK_EQ(n, PCI_SLOTS - 2);
	for (unsigned i = 0; i < PCI_SLOTS; i++)
		pci_dev_done(&p[i]);
	teardown(&r);
}

TEST_MAIN()
