/* SPDX-License-Identifier: MIT */
/*
 * The PCI host bridge: bus 0 with up to 32 single-function devices, the bridge itself at 00:00.0.
 * Configuration space by ports CF8/CFC (configuration mechanism 1) and by ECAM; both reach the same
 * registers.
 */
#ifndef WSLX_VMM_CHIP_PCI_HOST_H
#define WSLX_VMM_CHIP_PCI_HOST_H

#include "vmm/chip/pci.h"

enum { PCI_SLOTS = 32 };

/* Claims the ranges of platform.h on bus. The bus is borrowed and must outlive the bridge. */
int pci_host_new(struct pci_host **ret, struct bus *bus);
/* For vm_add_dev(), which takes it over: add it before the devices behind it. */
struct dev *pci_host_dev(struct pci_host *h);
struct bus *pci_host_bus(struct pci_host *h);

/* May BARs lie in the range PLAT_PCI_LOW64_...? Before devices are added: whether RAM ends below it. */
void pci_host_set_low64(struct pci_host *h, bool on);
bool pci_host_low64(const struct pci_host *h);

/*
 * Plugs p into slot (-1: the lowest free one) and gives its BARs addresses in the windows of
 * platform.h, disabled until the guest sets the command register. Before the VM runs. -ENOSPC,
 * -EBUSY.
 */
int pci_host_add(struct pci_host *h, struct pci_dev *p, int slot);

#endif
