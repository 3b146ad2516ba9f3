/* SPDX-License-Identifier: MIT */
/*
 * Configuration, BAR and MSI-X accesses as a hostile guest might make them, from a stream of 8-byte commands:
 * {kind, length, offset16, value32}.
 */
#include <stdlib.h>
#include "lib/base/le.h"
#include "vmm/chip/fake-cpu.h"
#include "vmm/chip/pci-host.h"
#include "vmm/chip/platform.h"
#include "vmm/core/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t card_read(struct pci_dev *p, unsigned bar, uint64_t off, unsigned len)
{
	if (off + len > p->bar[bar].size)
		abort(); /* the bus never hands on more than the BAR */
	return off;
}

static void card_write(struct pci_dev *p, unsigned bar, uint64_t off, unsigned len, uint64_t val)
{
	if (off + len > p->bar[bar].size)
		abort();
}

static const struct pci_dev_ops card_ops = {.bar_read = card_read, .bar_write = card_write};

static void command(struct bus *bus, struct pci_dev *p, const uint8_t *c)
{
	static const uint64_t bases[] = {PLAT_PCI_ECAM_BASE, PLAT_PCI_ECAM_BASE + (1 << 15),
		PLAT_PCI_MMIO32_START, PLAT_PCI_MMIO32_END - 0x8000, PLAT_PCI_MMIO64_START,
		0xfec00000, 0, UINT64_MAX - 0x7fff};
	unsigned len = 1u << c[1] % 4, off = le16_get(c + 2);
	uint32_t val = le32_get(c + 4);
	uint64_t at = bases[c[0] & 7] + off;

	switch (c[0] >> 3 & 7) {
	case 0: bus_write(bus, BUS_MMIO, at, len, val); break;
	case 1: bus_read(bus, BUS_MMIO, at, len); break;
	case 2: bus_write(bus, BUS_PORT, 0xcf8 + off % 8, MIN(len, 4u), val); break;
	case 3: bus_read(bus, BUS_PORT, 0xcf8 + off % 8, MIN(len, 4u)); break;
	case 4: pci_msix_raise(p, off); break;
	case 5: /* BARs and the command register, which random offsets seldom hit */
		bus_write(bus, BUS_MMIO, PLAT_PCI_ECAM_BASE + (1 << 15) + (off & 0x1c) + 4, 4, val);
		break;
	case 6: p->dev.ops->reset(&p->dev); break;
	default: bus_read(bus, BUS_PORT, off, MIN(len, 4u)); break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct pci_ids ids = {.vendor = 0x1af4, .device = 0x1042};
	struct state_r *r = state_r_new(data, size);
	struct cpu_vm vm = {0};
	struct pci_dev p;
	struct pci_host *h;
	struct bus *bus;

	if (bus_new(&bus) < 0 || pci_host_new(&h, bus) < 0)
		abort();
	pci_dev_init(&p, &card_ops, &ids, "card");
	pci_dev_bar(&p, 0, PCI_BAR_MEM64, 0x4000);
	pci_dev_bar(&p, 2, PCI_BAR_PORT, 32);
	pci_dev_bar(&p, 4, PCI_BAR_MEM32, 0x1000);
	if (pci_dev_msix(&p, &fake_cpu, &vm, 67, 0, 0x2000, 0x3000) < 0 ||
		pci_host_add(h, &p, 1) < 0)
		abort();
	for (size_t i = 0; i + 8 <= size; i += 8)
		command(bus, &p, data + i);
	p.dev.ops->load(&p.dev, r);
	state_r_free(r);
	pci_dev_done(&p);
	pci_host_dev(h)->ops->free(pci_host_dev(h));
	bus_free(bus);
	if (vm.sources)
		abort();
	return 0;
}
