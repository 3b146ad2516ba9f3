/* SPDX-License-Identifier: MIT */
/* The 64-bit Linux boot protocol (linux.h). */
#include "vmm/boot/linux.h"

#include <errno.h>
#include <string.h>
#include "lib/base/le.h"
#include "vmm/chip/platform.h"

enum {
	GDT_GPA = 0x1000,
	ZERO_PAGE_GPA = 0x2000,
	PML4_GPA = 0x3000,
	PDPT_GPA = 0x4000,
	PD_GPA = 0x5000, /* four pages */
	CMDLINE_GPA = 0x10000,
	CMDLINE_MAX = 0x10000,
	LOW_RAM_END = 0x9f000,
	HIGH_RAM_START = 0x100000,
};

/* Fields of the zero page (struct boot_params). */
enum {
	Z_ACPI_RSDP = 0x070,
	Z_E820_ENTRIES = 0x1e8,
	Z_SETUP = 0x1f1,
	Z_BOOT_FLAG = 0x1fe,
	Z_MAGIC = 0x202,
	Z_VERSION = 0x206,
	Z_TYPE_OF_LOADER = 0x210,
	Z_LOADFLAGS = 0x211,
	Z_RAMDISK_IMAGE = 0x218,
	Z_RAMDISK_SIZE = 0x21c,
	Z_CMD_LINE_PTR = 0x228,
	Z_E820_TABLE = 0x2d0,
};
enum { LOADED_HIGH = 1, E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3 };

enum { SEL_CS = 0x10, SEL_DS = 0x18 }; /* __BOOT_CS, __BOOT_DS */
enum {
	ATTR_CODE64 = 0xa09b, /* G, L, P, S, execute/read, accessed */
	ATTR_DATA = 0xc093,   /* G, DB, P, S, read/write, accessed */
};

/* Highest address the initramfs may reach; kernels take any below 4 GiB, older ones want 2 GiB. */
static const uint64_t initrd_limit = 0x80000000;

static void put_e820(uint8_t *zp, uint64_t start, uint64_t end, uint32_t type)
{
	uint8_t *p = zp + Z_E820_TABLE + zp[Z_E820_ENTRIES] * 20;

	le64_put(p, start);
	le64_put(p + 8, end - start);
	le32_put(p + 16, type);
	zp[Z_E820_ENTRIES]++;
}

static void memory_map(const struct gmem *gm, uint8_t *zp)
{
	const struct gmem_region *r;
	size_t n = gmem_regions(gm, &r);

	put_e820(zp, 0, LOW_RAM_END, E820_RAM);
	put_e820(zp, LOW_RAM_END, BOOT_ACPI_GPA, E820_RESERVED);
	put_e820(zp, BOOT_ACPI_GPA, BOOT_ACPI_GPA + BOOT_ACPI_SIZE, E820_ACPI);
	put_e820(zp, BOOT_ACPI_GPA + BOOT_ACPI_SIZE, HIGH_RAM_START, E820_RESERVED);
	put_e820(zp, HIGH_RAM_START, r[0].size, E820_RAM);
	/* Linux uses memory-mapped configuration space only where the map says it is reserved. */
	put_e820(zp, PLAT_PCI_ECAM_BASE, PLAT_PCI_ECAM_BASE + PLAT_PCI_ECAM_SIZE, E820_RESERVED);
	for (size_t i = 1; i < n; i++)
		put_e820(zp, r[i].gpa, r[i].gpa + r[i].size, E820_RAM);
}

static uint64_t descriptor(uint32_t attr)
{
	/* Base 0, limit 0xfffff (pages), access byte and flags from the access-rights layout. */
	return 0x000f00000000ffffull | (uint64_t)(attr & 0xff) << 40 | (uint64_t)(attr >> 12) << 52;
}

static int page_tables(struct gmem *gm)
{
	enum { P = 1, RW = 2, PS = 0x80, PDS = 4 };
	uint8_t page[GMEM_PAGE_SIZE] = {0};

	le64_put(page, PDPT_GPA | P | RW);
	if (gmem_write(gm, PML4_GPA, page, sizeof(page)) < 0)
		return -EFAULT;
	for (unsigned i = 0; i < PDS; i++)
		le64_put(page + 8 * i, (PD_GPA + i * GMEM_PAGE_SIZE) | P | RW);
	if (gmem_write(gm, PDPT_GPA, page, sizeof(page)) < 0)
		return -EFAULT;
	for (unsigned i = 0; i < PDS; i++) {
		for (unsigned j = 0; j < 512; j++)
			le64_put(page + 8 * j,
				((uint64_t)i << 30 | (uint64_t)j << 21) | P | RW | PS);
		if (gmem_write(gm, PD_GPA + i * GMEM_PAGE_SIZE, page, sizeof(page)) < 0)
			return -EFAULT;
	}
	return 0;
}

static int place_initrd(struct gmem *gm, const struct boot_linux *b, uint8_t *zp, struct err *e)
{
	const struct gmem_region *r;
	uint64_t top, at;
	int ret;

	if (!b->initrd || b->initrd_len == 0)
		return 0;
	gmem_regions(gm, &r);
	top = MIN(r[0].size, initrd_limit);
	if (b->initrd_len > top ||
		(at = ALIGN_DOWN(top - b->initrd_len, GMEM_PAGE_SIZE)) < b->kernel->end)
		return err_set(e, -ENOMEM,
			"the initramfs (%zu MiB) and the kernel do not fit into the machine's %llu MiB",
			(b->initrd_len >> 20) + 1, (unsigned long long)gmem_ram_size(gm) >> 20);
	ret = gmem_fill(gm, at, b->initrd, b->initrd_len);
	if (ret < 0)
		return err_sys(e, ret, "load the initramfs");
	le32_put(zp + Z_RAMDISK_IMAGE, at);
	le32_put(zp + Z_RAMDISK_SIZE, b->initrd_len);
	return 0;
}

/*
 * Linux believes that a hardware-reduced machine has EFI, reboots through it unless told otherwise, and when there is
 * none jumps to the BIOS's entry point in real mode. There it finds this: mov dx, port; mov al, value; out dx, al; hlt.
 */
static int reset_vector(struct gmem *gm)
{
	enum { BIOS_ENTRY = 0xffff0 };
	static const uint8_t code[] = {0xba, PLAT_RESET_PORT & 0xff, PLAT_RESET_PORT >> 8, 0xb0,
		PLAT_RESET_VALUE, 0xee, 0xf4, 0xeb, 0xfd};

	return gmem_write(gm, BIOS_ENTRY, code, sizeof(code));
}

static void entry_state(struct cpu_state *s, uint64_t entry)
{
	enum { CR0_PE = 1, CR0_ET = 0x10, CR4_PAE = 0x20, EFER_LME = 0x100, EFER_LMA = 0x400 };

	memset(s->gpr, 0, sizeof(s->gpr));
	s->gpr[CPU_RSI] = ZERO_PAGE_GPA;
	s->rip = entry;
	s->rflags = 2;
	for (unsigned i = 0; i < CPU_NSEGS; i++)
		s->seg[i] = (struct cpu_seg){
			.limit = 0xffffffff, .selector = SEL_DS, .attr = ATTR_DATA};
	s->seg[CPU_CS] =
		(struct cpu_seg){.limit = 0xffffffff, .selector = SEL_CS, .attr = ATTR_CODE64};
	s->gdtr.base = GDT_GPA;
	s->gdtr.limit = 4 * 8 - 1;
	s->idtr.base = 0;
	s->idtr.limit = 0; /* nothing to take an exception before the kernel is ready for it */
	s->cr0 = 1u << 31 | CR0_ET | CR0_PE;
	s->cr3 = PML4_GPA;
	s->cr4 = CR4_PAE;
	s->efer = EFER_LME | EFER_LMA;
	s->run = CPU_RUNNABLE;
}

int boot_linux(struct gmem *gm, const struct boot_linux *b, struct cpu_state *s, struct err *e)
{
	uint8_t zp[GMEM_PAGE_SIZE] = {0}, gdt[4 * 8] = {0};
	size_t cmdline_len = strlen(b->cmdline);
	int r;

	if (cmdline_len > MIN(b->kernel->max_cmdline, (unsigned)CMDLINE_MAX - 1))
		return err_set(e, -E2BIG,
			"the kernel's command line has %zu characters, this kernel takes %u",
			cmdline_len, MIN(b->kernel->max_cmdline, (unsigned)CMDLINE_MAX - 1));
	r = kernel_load(b->kernel, gm, b->kernel_name, e);
	if (r < 0)
		return r;
	memcpy(zp + Z_SETUP, b->kernel->setup, b->kernel->setup_len);
	le16_put(zp + Z_BOOT_FLAG, 0xaa55);
	memcpy(zp + Z_MAGIC, "HdrS", 4);
	if (b->kernel->setup_len == 0)
		le16_put(zp + Z_VERSION, 0x20c);
	zp[Z_TYPE_OF_LOADER] = 0xff; /* none of the registered ones */
	zp[Z_LOADFLAGS] |= LOADED_HIGH;
	le32_put(zp + Z_CMD_LINE_PTR, CMDLINE_GPA);
	memory_map(gm, zp);
	r = place_initrd(gm, b, zp, e);
	if (r < 0)
		return r;
	r = acpi_build(gm, BOOT_ACPI_GPA, BOOT_ACPI_SIZE, &b->acpi);
	if (r < 0)
		return err_sys(e, r, "build the ACPI tables");
	le64_put(zp + Z_ACPI_RSDP, BOOT_ACPI_GPA);
	r = reset_vector(gm);
	if (r < 0)
		return err_sys(e, r, "write the reset vector");
	le64_put(gdt + SEL_CS, descriptor(ATTR_CODE64));
	le64_put(gdt + SEL_DS, descriptor(ATTR_DATA));
	if (gmem_write(gm, GDT_GPA, gdt, sizeof(gdt)) < 0 ||
		gmem_write(gm, ZERO_PAGE_GPA, zp, sizeof(zp)) < 0 ||
		gmem_write(gm, CMDLINE_GPA, b->cmdline, cmdline_len + 1) < 0 || page_tables(gm) < 0)
		return err_sys(e, -EFAULT, "write the boot parameters");
	entry_state(s, b->kernel->entry);
	return 0;
}
