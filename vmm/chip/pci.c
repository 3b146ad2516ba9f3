/* SPDX-License-Identifier: MIT */
/* PCI functions: type 0 configuration header, BARs and capabilities (PCI Local Bus 3.0 §6.1, §6.2,
 * §6.7). */
#include "vmm/chip/pci.h"
#include <assert.h>
#include <errno.h>
#include <string.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/le.h"
#include "lib/base/log.h"
#include "vmm/chip/pci-host.h"
#include "vmm/chip/pci-msix.h"
#include "vmm/chip/platform.h"
#include "vmm/core/state.h"

enum { BAR_PORT = 1, BAR_MEM64 = 4, BAR_PREFETCH = 8, STATUS_CAPS = 0x10 };

static const struct dev_ops pci_function_ops;

void pci_dev_init(
	struct pci_dev *p, const struct pci_dev_ops *ops, const struct pci_ids *ids, const char *id)
{
	memset(p, 0, sizeof(*p));
	dev_init(&p->dev, &pci_function_ops, id);
	p->ops = ops;
	le16_put(p->cfg + PCI_VENDOR, ids->vendor);
	le16_put(p->cfg + PCI_VENDOR + 2, ids->device);
	le32_put(p->cfg + PCI_REVISION, ids->class_code << 8 | ids->revision);
	le16_put(p->cfg + PCI_SUBSYS, ids->subvendor);
	le16_put(p->cfg + PCI_SUBSYS + 2, ids->subdevice);
	le16_put(p->wmask + PCI_COMMAND, PCI_CMD_MASTER | PCI_CMD_INTX_OFF);
	p->wmask[PCI_INT_LINE] = 0xff;
	p->wmask[0x0c] = 0xff; /* cache line size: software's notebook */
	p->next_cap = PCI_FIRST_CAP;
	memcpy(p->cfg_reset, p->cfg, sizeof(p->cfg));
}

void pci_dev_done(struct pci_dev *p)
{
	pci_msix_free(take_ptr(p->msix));
	dev_done(&p->dev);
}

void pci_dev_bar(struct pci_dev *p, unsigned bar, enum pci_bar_kind kind, uint64_t size)
{
	unsigned off = PCI_BAR0 + bar * 4;
	uint64_t mask = ~(size - 1);

	assert(bar < PCI_BARS && kind != PCI_BAR_NONE && size >= 16 && !(size & (size - 1)));
	assert(kind != PCI_BAR_MEM64 || bar + 1 < PCI_BARS);
	assert(kind == PCI_BAR_MEM64 || size <= 0x80000000u);
	assert(kind == PCI_BAR_PORT || size >= 4096);

	p->bar[bar] = (struct pci_bar){.kind = kind, .size = size};
	le32_put(p->wmask + off, (uint32_t)mask);
	switch (kind) {
	case PCI_BAR_PORT:
		le32_put(p->cfg + off, BAR_PORT);
		p->wmask[PCI_COMMAND] |= PCI_CMD_IO;
		break;
	case PCI_BAR_MEM64:
		/* Large ones are memory, whose reads have no effects. */
		le32_put(p->cfg + off, BAR_MEM64 | (size > PCI_SMALL_BAR ? BAR_PREFETCH : 0));
		le32_put(p->wmask + off + 4, (uint32_t)(mask >> 32));
		p->wmask[PCI_COMMAND] |= PCI_CMD_MEM;
		break;
	default: p->wmask[PCI_COMMAND] |= PCI_CMD_MEM; break;
	}
	memcpy(p->cfg_reset, p->cfg, sizeof(p->cfg));
}

int pci_dev_cap(
	struct pci_dev *p, uint8_t cap_id, const void *body, unsigned len, const void *wmask)
{
	unsigned off = p->next_cap;

	if (len > PCI_CFG_SIZE || off + 2 + len > PCI_CFG_SIZE)
		return -ENOSPC;
	p->cfg[p->last_cap ? p->last_cap + 1 : PCI_CAP_PTR] = (uint8_t)off;
	p->cfg[PCI_STATUS] |= STATUS_CAPS;
	p->cfg[off] = cap_id;
	memcpy(p->cfg + off + 2, body, len);
	if (wmask)
		memcpy(p->wmask + off + 2, wmask, len);
	p->last_cap = off;
	p->next_cap = ALIGN_UP(off + 2 + len, 4u);
	memcpy(p->cfg_reset, p->cfg, sizeof(p->cfg));
	return (int)off;
}

int pci_dev_msix(struct pci_dev *p, const struct cpu_ops *cpu, struct cpu_vm *vm, unsigned n,
	unsigned bar, uint32_t table_off, uint32_t pba_off)
{
	uint8_t body[10], wmask[10] = {0, 0xc0};
	int r;

	assert(!p->msix && bar < PCI_BARS);
	assert(table_off + (uint64_t)PCI_MSIX_TABLE_SIZE(n) <= p->bar[bar].size);
	assert(pba_off + (uint64_t)PCI_MSIX_PBA_SIZE(n) <= p->bar[bar].size);
	r = pci_msix_new(&p->msix, cpu, vm, n, bar, table_off, pba_off);
	if (r < 0)
		return r;
	le16_put(body, (uint16_t)(n - 1));
	le32_put(body + 2, table_off | bar);
	le32_put(body + 6, pba_off | bar);
	r = pci_dev_cap(p, PCI_CAP_ID_MSIX, body, sizeof(body), wmask);
	if (r < 0) {
		pci_msix_free(take_ptr(p->msix));
		return r;
	}
	p->msix_cap = (unsigned)r;
	return 0;
}

static enum bus_kind bar_bus(const struct pci_bar *b)
{
	return b->kind == PCI_BAR_PORT ? BUS_PORT : BUS_MMIO;
}

/* The address in the BAR's registers; false while the BAR does not decode or points where no BAR
 * may be. */
static bool bar_wanted(const struct pci_dev *p, unsigned bar, uint64_t *ret)
{
	const struct pci_bar *b = &p->bar[bar];
	const uint8_t *reg = p->cfg + PCI_BAR0 + bar * 4;
	unsigned enable = b->kind == PCI_BAR_PORT ? PCI_CMD_IO : PCI_CMD_MEM;
	uint64_t addr, last;

	if (b->kind == PCI_BAR_NONE || !(p->cfg[PCI_COMMAND] & enable))
		return false;
	addr = le32_get(reg) & ~(b->kind == PCI_BAR_PORT ? 3u : 15u);
	if (b->kind == PCI_BAR_MEM64)
		addr |= (uint64_t)le32_get(reg + 4) << 32;
	last = addr + (b->size - 1);
	*ret = addr;
	if (last < addr)
		return false;
	if (b->kind == PCI_BAR_PORT)
		return addr >= PLAT_PCI_PORT_START && last < PLAT_PCI_PORT_END;
	return (addr >= PLAT_PCI_MMIO32_START && last < PLAT_PCI_MMIO32_END) ||
	       (pci_host_low64(p->host) && addr >= PLAT_PCI_LOW64_START &&
		       last < PLAT_PCI_LOW64_END) ||
	       (addr >= PLAT_PCI_MMIO64_START && last < PLAT_PCI_MMIO64_END);
}

/*
 * Puts the BARs on the bus where the registers say. Configuration writes are one at a time (the
 * host bridge's lock), so the mapping is ours alone; dev.lock is not held, since a handler of this
 * device may be waiting for it and bus_remove() waits for that handler.
 */
static void remap(struct pci_dev *p)
{
	if (!p->host)
		return;
	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct pci_bar *b = &p->bar[i];
		uint64_t addr = 0;
		bool want = bar_wanted(p, i, &addr);
		int r;

		if (b->is_mapped && (!want || addr != b->mapped)) {
			bus_remove(pci_host_bus(p->host), bar_bus(b), b->mapped);
			b->is_mapped = false;
		}
		if (!want || b->is_mapped)
			continue;
		r = bus_add(pci_host_bus(p->host), bar_bus(b), addr, b->size, &p->dev, i);
		if (r < 0) {
			log_debug("pci", "%s: BAR %u cannot be at %#llx: %s", p->dev.id, i,
				(unsigned long long)addr, strerror(-r));
			continue;
		}
		b->mapped = addr;
		b->is_mapped = true;
	}
}

bool pci_bar_addr(const struct pci_dev *p, unsigned bar, uint64_t *ret)
{
	if (bar >= PCI_BARS || !p->bar[bar].is_mapped)
		return false;
	*ret = p->bar[bar].mapped;
	return true;
}

uint32_t pci_cfg_read(struct pci_dev *p, unsigned off, unsigned len)
{
	uint32_t val = 0;

	assert((len == 1 || len == 2 || len == 4) && off + len <= PCI_CFG_SIZE);
	OS_GUARD(&p->dev.lock);
	if (p->ops->cfg_read && p->ops->cfg_read(p, off, len, &val))
		return val;
	for (unsigned i = 0; i < len; i++)
		val |= (uint32_t)p->cfg[off + i] << i * 8;
	return val;
}

static bool touches(unsigned off, unsigned len, unsigned start, unsigned size)
{
	return off < start + size && off + len > start;
}

void pci_cfg_write(struct pci_dev *p, unsigned off, unsigned len, uint32_t val)
{
	assert((len == 1 || len == 2 || len == 4) && off + len <= PCI_CFG_SIZE);
	os_mutex_lock(&p->dev.lock);
	for (unsigned i = 0; i < len; i++) {
		uint8_t mask = p->wmask[off + i];

		p->cfg[off + i] = (uint8_t)((p->cfg[off + i] & ~mask) | ((val >> i * 8) & mask));
	}
	if (p->msix && touches(off, len, p->msix_cap + 2, 2))
		pci_msix_control(p->msix, le16_get(p->cfg + p->msix_cap + 2));
	if (p->ops->cfg_write)
		p->ops->cfg_write(p, off, len, val);
	os_mutex_unlock(&p->dev.lock);
	if (touches(off, len, PCI_COMMAND, 2) || touches(off, len, PCI_BAR0, PCI_BARS * 4))
		remap(p);
}

static struct pci_dev *to_pci(struct dev *d)
{
	return container_of(d, struct pci_dev, dev);
}

static uint64_t function_read(struct dev *d, unsigned region, uint64_t off, unsigned len)
{
	struct pci_dev *p = to_pci(d);

	if (pci_msix_owns(p->msix, region, off, len))
		return pci_msix_read(p->msix, off, len);
	return p->ops->bar_read ? p->ops->bar_read(p, region, off, len) : UINT64_MAX;
}

static void function_write(struct dev *d, unsigned region, uint64_t off, unsigned len, uint64_t val)
{
	struct pci_dev *p = to_pci(d);

	if (pci_msix_owns(p->msix, region, off, len))
		pci_msix_write(p->msix, off, len, val);
	else if (p->ops->bar_write)
		p->ops->bar_write(p, region, off, len, val);
}

/* Configuration space as the firmware of a real machine would leave it: addresses assigned,
 * decoding off. */
void pci_cfg_reset(struct pci_dev *p)
{
	memcpy(p->cfg, p->cfg_reset, sizeof(p->cfg));
	for (unsigned i = 0; i < PCI_BARS; i++) {
		uint8_t *reg = p->cfg + PCI_BAR0 + i * 4;
		const struct pci_bar *b = &p->bar[i];

		if (b->kind == PCI_BAR_NONE)
			continue;
		le32_put(reg, le32_get(reg) | (uint32_t)b->reset_addr);
		if (b->kind == PCI_BAR_MEM64)
			le32_put(reg + 4, (uint32_t)(b->reset_addr >> 32));
	}
	remap(p);
	if (p->msix)
		pci_msix_reset(p->msix);
}

static void function_reset(struct dev *d)
{
	struct pci_dev *p = to_pci(d);

	pci_cfg_reset(p);
	if (p->ops->reset)
		p->ops->reset(p);
}

static void function_save(struct dev *d, struct state_w *w)
{
	struct pci_dev *p = to_pci(d);

	state_begin(w, "pci", 1);
	state_put_bytes(w, p->cfg, sizeof(p->cfg));
	if (p->msix)
		pci_msix_save(p->msix, w);
	state_end(w);
	if (p->ops->save)
		p->ops->save(p, w);
}

static int function_load(struct dev *d, struct state_r *r)
{
	struct pci_dev *p = to_pci(d);
	uint8_t cfg[PCI_CFG_SIZE];
	int rc;

	state_enter(r, "pci", 1);
	state_get_bytes(r, cfg, sizeof(cfg));
	if (memcmp(cfg, p->cfg, 4) != 0)
		state_fail(r, "another PCI device");
	rc = state_check(r, NULL);
	if (rc == 0 && p->msix)
		rc = pci_msix_load(p->msix, r);
	state_leave(r);
	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < PCI_CFG_SIZE; i++)
		p->cfg[i] = (uint8_t)((p->cfg[i] & ~p->wmask[i]) | (cfg[i] & p->wmask[i]));
	remap(p);
	/* Before the device's own state: sending what is pending is the last thing a load does to
	 * MSI-X. */
	if (p->msix)
		pci_msix_control(p->msix, le16_get(p->cfg + p->msix_cap + 2));
	return p->ops->load ? p->ops->load(p, r) : 0;
}

static void function_free(struct dev *d)
{
	struct pci_dev *p = to_pci(d);

	if (p->ops->free)
		p->ops->free(p);
	else
		pci_dev_done(p);
}

static const struct dev_ops pci_function_ops = {
	.name = "pci",
	.read = function_read,
	.write = function_write,
	.reset = function_reset,
	.save = function_save,
	.load = function_load,
	.free = function_free,
};
