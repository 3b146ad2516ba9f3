/* SPDX-License-Identifier: MIT */
/* The I/O APIC (82093AA, version 0x20 with the EOI register): 24 pins turned into messages for the
 * local APICs. */
#ifndef WSLX_VMM_CHIP_IOAPIC_H
#define WSLX_VMM_CHIP_IOAPIC_H

#include "vmm/core/bus.h"
#include "vmm/core/cpu.h"
#include "vmm/core/irq.h"

struct ioapic;

/* Claims PLAT_IOAPIC_BASE on bus. */
int ioapic_new(struct ioapic **ret, struct bus *bus, const struct cpu_ops *cpu, struct cpu_vm *vm);
struct dev *ioapic_dev(struct ioapic *a); /* for vm_add_dev(), which takes it over */

/* The wire to a pin; pins past the last give a line that goes nowhere. */
struct irq_line ioapic_line(struct ioapic *a, unsigned pin);

/* For vm_set_eoi(vm, ioapic_eoi, a). */
void ioapic_eoi(void *ctx, uint8_t vector);

#endif
