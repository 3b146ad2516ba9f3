/* SPDX-License-Identifier: MIT */
/*
 * The PCI host bridge: configuration mechanism 1 (PCI Local Bus 3.0 §3.2.2.3.2), ECAM (PCI Express
 * base §7.2.2), and the addresses BARs have after a reset. Its lock makes configuration writes one
 * at a time.
 */
#include "vmm/chip/pci-host.h"
#include <errno.h>
#include <stdlib.h>
#include "lib/base/attr.h"
#include "lib/base/le.h"
#include "vmm/chip/platform.h"
#include "vmm/core/state.h"

enum { REGION_PORTS, REGION_ECAM };
enum { CF8_ENABLE = 1u << 31 };

struct pci_host {
	struct dev dev;
	struct bus *bus; /* borrowed */
	struct pci_dev bridge;
	struct pci_dev *slot[PCI_SLOTS]; /* borrowed */
	uint32_t cf8;
	uint64_t next_mem32, next_low64, next_mem64, next_port;
	bool low64;
};

/* One access inside one dword of configuration space; devfn and off as in the CF8 register. */
static uint32_t access_cfg(
	struct pci_host *h, unsigned devfn, unsigned off, unsigned len, bool write, uint32_t val)
{
	struct pci_dev *p = devfn % 8 == 0 && devfn / 8 < PCI_SLOTS ? h->slot[devfn / 8] : NULL;

	if (!p || off + len > PCI_CFG_SIZE)
		return UINT32_MAX;
	if (!write)
		return pci_cfg_read(p, off, len);
	pci_cfg_write(p, off, len, val);
	return 0;
}

/* Cuts an access into pieces that are 1, 2 or 4 bytes long, aligned, and inside one dword each. */
static uint64_t access_range(
	struct pci_host *h, unsigned devfn, unsigned off, unsigned len, bool write, uint64_t val)
{
	uint64_t ret = 0;

	for (unsigned done = 0; done < len;) {
		unsigned piece = 4;

		while ((off + done) % piece || piece > len - done)
			piece /= 2;
		uint64_t mask = (1ull << piece * 8) - 1;
		uint32_t got = access_cfg(
			h, devfn, off + done, piece, write, (uint32_t)(val >> done * 8 & mask));

		ret |= (got & mask) << done * 8;
		done += piece;
	}
	return ret;
}

static uint64_t host_read(struct dev *d, unsigned region, uint64_t off, unsigned len)
{
	struct pci_host *h = container_of(d, struct pci_host, dev);

	if (region == REGION_ECAM)
		return access_range(h, off >> 12, off & 0xfff, len, false, 0);
	if (off == 0 && len == 4)
		return h->cf8;
	if (off < 4 || !(h->cf8 & CF8_ENABLE) || h->cf8 >> 16 & 0xff)
		return UINT64_MAX;
	return access_range(
		h, h->cf8 >> 8 & 0xff, (h->cf8 & 0xfc) + (unsigned)(off & 3), len, false, 0);
}

static void host_write(struct dev *d, unsigned region, uint64_t off, unsigned len, uint64_t val)
{
	struct pci_host *h = container_of(d, struct pci_host, dev);

	if (region == REGION_ECAM) {
		access_range(h, off >> 12, off & 0xfff, len, true, val);
		return;
	}
	if (off == 0 && len == 4) {
		h->cf8 = (uint32_t)val & 0x80fffffc;
		return;
	}
	if (off < 4 || !(h->cf8 & CF8_ENABLE) || h->cf8 >> 16 & 0xff)
		return;
	access_range(h, h->cf8 >> 8 & 0xff, (h->cf8 & 0xfc) + (unsigned)(off & 3), len, true, val);
}

static void host_reset(struct dev *d)
{
	struct pci_host *h = container_of(d, struct pci_host, dev);

	h->cf8 = 0;
	h->bridge.dev.ops->reset(&h->bridge.dev);
}

static void host_save(struct dev *d, struct state_w *w)
{
	struct pci_host *h = container_of(d, struct pci_host, dev);

	state_begin(w, "pci-host", 1);
	state_put_u32(w, h->cf8);
	h->bridge.dev.ops->save(&h->bridge.dev, w);
	state_end(w);
}

static int host_load(struct dev *d, struct state_r *r)
{
	struct pci_host *h = container_of(d, struct pci_host, dev);

	state_enter(r, "pci-host", 1);
	h->cf8 = state_get_u32(r) & 0x80fffffc;
	h->bridge.dev.ops->load(&h->bridge.dev, r);
	state_leave(r);
	return state_check(r, NULL);
}

static void host_free(struct dev *d)
{
	struct pci_host *h = container_of(d, struct pci_host, dev);

	pci_dev_done(&h->bridge);
	dev_done(&h->dev);
	free(h);
}

static const struct dev_ops host_ops = {
	.name = "pci-host",
	.read = host_read,
	.write = host_write,
	.reset = host_reset,
	.save = host_save,
	.load = host_load,
	.free = host_free,
};

static const struct pci_dev_ops bridge_ops = {0};

int pci_host_new(struct pci_host **ret, struct bus *bus)
{
	/* A host bridge that drivers know to need nothing; subsystem: none. */
	static const struct pci_ids ids = {
		.vendor = 0x1b36, .device = 0x0008, .class_code = 0x060000};
	struct pci_host *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return -ENOMEM;
	dev_init(&h->dev, &host_ops, "pci-host");
	h->bus = bus;
	h->next_mem32 = PLAT_PCI_MMIO32_START;
	h->next_low64 = PLAT_PCI_LOW64_START;
	h->next_mem64 = PLAT_PCI_MMIO64_START;
	h->next_port = PLAT_PCI_PORT_START;
	pci_dev_init(&h->bridge, &bridge_ops, &ids, "pci-bridge");
	r = pci_host_add(h, &h->bridge, 0);
	if (r == 0)
		r = bus_add(bus, BUS_PORT, PLAT_PCI_CF8_PORT, 8, &h->dev, REGION_PORTS);
	if (r == 0)
		r = bus_add(bus, BUS_MMIO, PLAT_PCI_ECAM_BASE, PLAT_PCI_ECAM_SIZE, &h->dev,
			REGION_ECAM);
	if (r < 0) {
		host_free(&h->dev);
		return r;
	}
	*ret = h;
	return 0;
}

struct dev *pci_host_dev(struct pci_host *h)
{
	return &h->dev;
}

struct bus *pci_host_bus(struct pci_host *h)
{
	return h->bus;
}

void pci_host_set_low64(struct pci_host *h, bool on)
{
	h->low64 = on;
}

bool pci_host_low64(const struct pci_host *h)
{
	return h->low64;
}

/* Takes size bytes, naturally aligned, of a window. */
static int take(uint64_t *next, uint64_t end, uint64_t size, uint64_t *ret)
{
	uint64_t at = ALIGN_UP(*next, size);

	if (at < *next || at > end || size > end - at)
		return -ENOSPC;
	*ret = at;
	*next = at + size;
	return 0;
}

static int place(struct pci_host *h, struct pci_bar *b)
{
	switch (b->kind) {
	case PCI_BAR_NONE: return 0;
	case PCI_BAR_PORT: return take(&h->next_port, PLAT_PCI_PORT_END, b->size, &b->reset_addr);
	case PCI_BAR_MEM64:
		/* Small ones go low, where every host's physical address width reaches. */
		if (b->size <= PCI_SMALL_BAR &&
			take(&h->next_mem32, PLAT_PCI_MMIO32_END, b->size, &b->reset_addr) == 0)
			return 0;
		if (h->low64 &&
			take(&h->next_low64, PLAT_PCI_LOW64_END, b->size, &b->reset_addr) == 0)
			return 0;
		return take(&h->next_mem64, PLAT_PCI_MMIO64_END, b->size, &b->reset_addr);
	case PCI_BAR_MEM32:
		return take(&h->next_mem32, PLAT_PCI_MMIO32_END, b->size, &b->reset_addr);
	}
	return -EINVAL;
}

int pci_host_add(struct pci_host *h, struct pci_dev *p, int slot)
{
	int r;

	if (slot < 0)
		for (slot = 0; slot < PCI_SLOTS && h->slot[slot]; slot++)
			;
	if (slot >= PCI_SLOTS)
		return -ENOSPC;
	if (h->slot[slot])
		return -EBUSY;
	for (unsigned i = 0; i < PCI_BARS; i++) {
		r = place(h, &p->bar[i]);
		if (r < 0)
			return r;
	}
	p->host = h;
	p->slot = (unsigned)slot;
	h->slot[slot] = p;
	pci_cfg_reset(p);
	return 0;
}
