/* SPDX-License-Identifier: MIT */
/* MSI-X (PCI Local Bus 3.0 §6.8.2): table, pending bits and masking. Shared by pci.c and pci-msix.c
 * only. */
#ifndef WSLX_VMM_CHIP_PCI_MSIX_H
#define WSLX_VMM_CHIP_PCI_MSIX_H

#include "vmm/chip/pci.h"

int pci_msix_new(struct pci_msix **ret, const struct cpu_ops *cpu, struct cpu_vm *vm, unsigned n,
	unsigned bar, uint32_t table_off, uint32_t pba_off);
void pci_msix_free(struct pci_msix *m);

/* Does [off, off + len) of the BAR touch the table or the PBA? */
bool pci_msix_owns(const struct pci_msix *m, unsigned bar, uint64_t off, unsigned len);
uint64_t pci_msix_read(struct pci_msix *m, uint64_t off, unsigned len);
void pci_msix_write(struct pci_msix *m, uint64_t off, unsigned len, uint64_t val);

/* The message control word's enable and function mask bits. */
void pci_msix_control(struct pci_msix *m, uint16_t ctl);

void pci_msix_reset(struct pci_msix *m);
void pci_msix_save(struct pci_msix *m, struct state_w *w);
int pci_msix_load(struct pci_msix *m, struct state_r *r);

#endif
