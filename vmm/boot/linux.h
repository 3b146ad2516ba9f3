/* SPDX-License-Identifier: MIT */
/*
 * Direct boot of Linux by the 64-bit boot protocol (Linux Documentation/arch/x86/boot.rst): puts kernel, initramfs,
 * command line, boot parameters, ACPI tables and first page tables into guest memory and says how vCPU 0 starts.
 *
 * Low memory: 0x1000 GDT, 0x2000 boot parameters (zero page), 0x3000-0x8fff page tables (identity, 4 GiB), 0x10000
 * command line, BOOT_ACPI_GPA ACPI tables. The kernel lies where it is linked to, the initramfs as high as it may.
 */
#ifndef WSLX_VMM_BOOT_LINUX_H
#define WSLX_VMM_BOOT_LINUX_H

#include <stddef.h>
#include <stdint.h>
#include "lib/base/err.h"
#include "vmm/boot/acpi.h"
#include "vmm/boot/kernel.h"
#include "vmm/core/cpu.h"

#define BOOT_ACPI_GPA  0xe0000ull
#define BOOT_ACPI_SIZE 0x10000ull

struct boot_linux {
	const struct kernel *kernel;
	const char *kernel_name; /* for messages */
	const void *initrd;	 /* NULL: none */
	size_t initrd_len;
	const char *cmdline;
	struct acpi_config acpi;
};

/* s: the state of vCPU 0 after its reset; becomes that of the kernel's entry. gm: fresh. */
int boot_linux(struct gmem *gm, const struct boot_linux *b, struct cpu_state *s, struct err *e);

#endif
