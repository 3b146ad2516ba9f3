/* SPDX-License-Identifier: MIT */
/*
 * Where everything of the machine lies: shared by the chips, the ACPI tables and boot code.
 * Addresses below 4 GiB are in the hole that guest memory leaves (GMEM_HOLE_*).
 *
 * There is no PIC, PIT, HPET, i8042 and no CMOS clock: the ACPI tables say so (FADT IAPC_BOOT_ARCH,
 * HW_REDUCED_ACPI), time of day comes from the paravirtual wall clock, and nothing calibrates
 * against a timer chip.
 */
#ifndef WSLX_VMM_CHIP_PLATFORM_H
#define WSLX_VMM_CHIP_PLATFORM_H

/* Interrupt controllers */
#define PLAT_IOAPIC_BASE 0xfec00000ull
#define PLAT_IOAPIC_SIZE 0x1000ull
#define PLAT_IOAPIC_PINS 24  /* GSI base 0 */
#define PLAT_IOAPIC_ID	 255 /* an 8-bit number no vCPU has */
#define PLAT_LAPIC_BASE	 0xfee00000ull

/* Serial ports (16550A), ISA interrupts = IOAPIC pins, edge, active high */
#define PLAT_COM1_PORT 0x3f8
#define PLAT_COM1_IRQ  4
#define PLAT_COM2_PORT 0x2f8
#define PLAT_COM2_IRQ  3

/*
 * Hardware-reduced ACPI power registers, each a byte in port space (ACPI 6.4 §4.8.3.7, §4.8.3.6):
 * FADT SLEEP_CONTROL_REG, SLEEP_STATUS_REG, RESET_REG. \_S5's SLP_TYP is PLAT_SLP_TYP_S5.
 */
#define PLAT_POWER_PORT	    0x600
#define PLAT_POWER_SIZE	    4
#define PLAT_SLEEP_CTL_PORT 0x600
#define PLAT_SLEEP_STS_PORT 0x601
#define PLAT_RESET_PORT	    0x602
#define PLAT_RESET_VALUE    0x01
#define PLAT_SLP_TYP_S5	    5
#define PLAT_POWER_BUTTON_IRQ                                                                      \
	9 /* edge pulse; a Generic Event Device (ACPI0013) turns it into Notify(PWRB, 0x80) */

/* PCI: segment 0, bus 0 only; configuration through ports CF8/CFC and, for the same bus, through
 * ECAM (MCFG table) */
#define PLAT_PCI_CF8_PORT     0xcf8
#define PLAT_PCI_ECAM_BASE    0xe0000000ull
#define PLAT_PCI_ECAM_SIZE    0x100000ull /* one bus */
#define PLAT_PCI_MMIO32_START 0xc0000000ull
#define PLAT_PCI_MMIO32_END   0xe0000000ull /* exclusive */
#define PLAT_PCI_PORT_START   0xc000
#define PLAT_PCI_PORT_END     0x10000 /* exclusive */
/* For large BARs, where processors of 39 address bits reach too, if the RAM ends below. */
#define PLAT_PCI_LOW64_START 0x4000000000ull
#define PLAT_PCI_LOW64_END   0x8000000000ull /* exclusive */
/* 64-bit window for large BARs, above any guest memory (RAM is at most 1 TiB + the hole). */
#define PLAT_PCI_MMIO64_START 0x20000000000ull
#define PLAT_PCI_MMIO64_END   0x30000000000ull /* exclusive */

#endif
