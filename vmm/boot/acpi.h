/* SPDX-License-Identifier: MIT */
/*
 * The ACPI tables of our machine (ACPI 6.4): RSDP, XSDT, hardware-reduced FADT, MADT, MCFG and a small DSDT with the PCI
 * root bridge, the first serial port, the power button and \_S5. Addresses come from vmm/chip/platform.h.
 */
#ifndef WSLX_VMM_BOOT_ACPI_H
#define WSLX_VMM_BOOT_ACPI_H

#include <stddef.h>
#include <stdint.h>
#include "vmm/core/gmem.h"

struct acpi_config {
	unsigned vcpus;
	/* Multiprocessor wake-up mailbox (§5.2.12.19): how application processors start where there is no SIPI; 0: none. */
	gpa_t mp_mailbox;
};

/* Writes the tables into [gpa, gpa+size); the RSDP comes first. -ENOSPC when they do not fit. */
int acpi_build(struct gmem *gm, gpa_t gpa, size_t size, const struct acpi_config *cfg);

#endif
