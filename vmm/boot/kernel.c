/* SPDX-License-Identifier: MIT */
/* Kernel files: bzImage headers (Linux Documentation/arch/x86/boot.rst) and ELF64 program headers (kernel.h). */
#include "vmm/boot/kernel.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/checked.h"
#include "lib/base/le.h"
#include "vmm/boot/decompress.h"

/* No kernel is larger unpacked; a file that says so is not one. */
static const size_t unpacked_max = 512u << 20;

/* Fields of the setup header, by their offset in the file (and in the zero page). */
enum {
	H_SETUP_SECTS = 0x1f1,
	H_BOOT_FLAG = 0x1fe,
	H_JUMP_OFFSET = 0x201,
	H_MAGIC = 0x202,
	H_VERSION = 0x206,
	H_KERNEL_VERSION = 0x20e,
	H_LOADFLAGS = 0x211,
	H_XLOADFLAGS = 0x236,
	H_CMDLINE_SIZE = 0x238,
	H_PAYLOAD_OFFSET = 0x248,
	H_PAYLOAD_LENGTH = 0x24c,
	H_END = 0x268,
};
enum { LOADED_HIGH = 1, XLF_KERNEL_64 = 1, SECTOR = 512 };

/* ELF64 header and program header fields. */
enum {
	E_TYPE = 16,
	E_MACHINE = 18,
	E_ENTRY = 24,
	E_PHOFF = 32,
	E_PHENTSIZE = 54,
	E_PHNUM = 56,
	E_SIZE = 64,
	P_TYPE = 0,
	P_OFFSET = 8,
	P_PADDR = 24,
	P_FILESZ = 32,
	P_MEMSZ = 40,
	P_SIZE = 56,
	PH_MAX = 64,
	ELFCLASS64 = 2,
	ELFDATA2LSB = 1,
	ET_EXEC = 2,
	EM_X86_64 = 62,
	PT_LOAD = 1,
};

static int not_kernel(struct err *e, const char *name, const char *why)
{
	return err_set(e, -ENOEXEC, "%s is not a Linux kernel wslx can boot: %s", name, why);
}

struct segment {
	uint64_t off, filesz, paddr, memsz;
};

/* Reads program header i; false: not one to load. */
static bool segment(const struct kernel *k, unsigned i, struct segment *s)
{
	const uint8_t *ph = k->elf + le64_get(k->elf + E_PHOFF) + (size_t)i * P_SIZE;

	if (le32_get(ph + P_TYPE) != PT_LOAD || le64_get(ph + P_MEMSZ) == 0)
		return false;
	*s = (struct segment){.off = le64_get(ph + P_OFFSET),
		.filesz = le64_get(ph + P_FILESZ),
		.paddr = le64_get(ph + P_PADDR),
		.memsz = le64_get(ph + P_MEMSZ)};
	return true;
}

static int parse_elf(struct kernel *k, const char *name, struct err *e)
{
	const uint8_t *p = k->elf;
	bool entry_ok = false;
	struct segment s;
	unsigned n;

	if (k->elf_len < E_SIZE || memcmp(p, "\177ELF", 4) != 0)
		return not_kernel(e, name, "what it holds is not an ELF image");
	if (p[4] != ELFCLASS64 || p[5] != ELFDATA2LSB || le16_get(p + E_MACHINE) != EM_X86_64)
		return not_kernel(e, name, "it is for another kind of processor");
	if (le16_get(p + E_TYPE) != ET_EXEC)
		return not_kernel(e, name, "it is an ELF file, but no kernel image");
	n = le16_get(p + E_PHNUM);
	if (n == 0 || n > PH_MAX || le16_get(p + E_PHENTSIZE) != P_SIZE ||
		!range_ok(le64_get(p + E_PHOFF), (uint64_t)n * P_SIZE, k->elf_len))
		return not_kernel(e, name, "its program headers are damaged or cut short");
	k->entry = le64_get(p + E_ENTRY);
	k->start = UINT64_MAX;
	for (unsigned i = 0; i < n; i++) {
		uint64_t end;

		if (!segment(k, i, &s))
			continue;
		if (s.filesz > s.memsz || !range_ok(s.off, s.filesz, k->elf_len))
			return not_kernel(
				e, name, "a part of it is missing: the file is cut short");
		if (add_overflows(s.paddr, s.memsz, &end) || end > GMEM_HOLE_START)
			return not_kernel(e, name, "it wants to lie where there is no memory");
		/* Everything below 1 MiB is ours: tables, boot parameters, page tables. */
		if (s.paddr < 1 << 20)
			return not_kernel(e, name, "it wants to lie below 1 MiB");
		entry_ok |= k->entry - s.paddr < s.filesz;
		k->start = MIN(k->start, s.paddr);
		k->end = MAX(k->end, end);
	}
	if (!entry_ok)
		return not_kernel(e, name, "its entry point lies outside of it");
	return 0;
}

static void parse_version(struct kernel *k, const uint8_t *file, size_t len)
{
	size_t off = le16_get(file + H_KERNEL_VERSION);
	unsigned n = 0;

	if (off == 0)
		return;
	for (off += SECTOR; off < len && n < sizeof(k->version) - 1; off++, n++) {
		if (file[off] < ' ' || file[off] > '~')
			break;
		k->version[n] = (char)file[off];
	}
	k->version[n] = 0;
}

static int parse_bzimage(
	struct kernel *k, const uint8_t *file, size_t len, const char *name, struct err *e)
{
	size_t setup = (size_t)(file[H_SETUP_SECTS] ? file[H_SETUP_SECTS] : 4) + 1, start, hint;
	uint64_t off = le32_get(file + H_PAYLOAD_OFFSET), n = le32_get(file + H_PAYLOAD_LENGTH);
	const uint8_t *payload;
	struct err why = {0};
	int r;

	if (le16_get(file + H_VERSION) < 0x20c)
		return not_kernel(e, name, "it is too old (boot protocol before 2.12)");
	if (!(file[H_LOADFLAGS] & LOADED_HIGH))
		return not_kernel(e, name, "it is a zImage, not a bzImage");
	if (!(le16_get(file + H_XLOADFLAGS) & XLF_KERNEL_64))
		return not_kernel(e, name, "it is a 32-bit kernel");
	start = setup * SECTOR;
	if (!range_ok(start, off, len) || !range_ok(start + off, n, len) || n < 8)
		return not_kernel(e, name, "the file is cut short");
	parse_version(k, file, len);
	k->setup_len = MIN(H_MAGIC + (unsigned)file[H_JUMP_OFFSET] - KERNEL_SETUP_HEADER,
		(unsigned)KERNEL_SETUP_MAX);
	memcpy(k->setup, file + KERNEL_SETUP_HEADER, k->setup_len);
	k->max_cmdline = le32_get(file + H_CMDLINE_SIZE);

	payload = file + start + off;
	if (memcmp(payload, "\177ELF", 4) == 0) { /* CONFIG_KERNEL_UNCOMPRESSED */
		k->elf = payload;
		k->elf_len = n;
		return parse_elf(k, name, e);
	}
	/* Every format ends with the unpacked size, either its own or one that the kernel's build appends. */
	hint = le32_get(payload + n - 4);
	r = decompress(payload, n, hint < unpacked_max ? hint : 0, unpacked_max, &k->unpacked,
		&k->elf_len, &why);
	if (r < 0)
		return not_kernel(e, name, why.text);
	k->elf = k->unpacked;
	return parse_elf(k, name, e);
}

int kernel_parse(struct kernel *k, const void *file, size_t len, const char *name, struct err *e)
{
	const uint8_t *p = file;
	int r;

	*k = (struct kernel){.max_cmdline = 2047};
	if (len >= 4 && memcmp(p, "\177ELF", 4) == 0) {
		k->elf = p;
		k->elf_len = len;
		r = parse_elf(k, name, e);
	} else if (len >= H_END && le16_get(p + H_BOOT_FLAG) == 0xaa55 &&
		   memcmp(p + H_MAGIC, "HdrS", 4) == 0) {
		r = parse_bzimage(k, p, len, name, e);
	} else if (len == 0) {
		r = not_kernel(e, name, "the file is empty");
	} else {
		r = not_kernel(
			e, name, "it is neither a bzImage (vmlinuz) nor an ELF file (vmlinux)");
	}
	if (r < 0)
		kernel_done(k);
	return r;
}

void kernel_done(struct kernel *k)
{
	free(k->unpacked);
	k->unpacked = NULL;
	k->elf = NULL;
	k->elf_len = 0;
}

int kernel_load(const struct kernel *k, struct gmem *gm, const char *name, struct err *e)
{
	unsigned n = le16_get(k->elf + E_PHNUM);
	struct segment s;
	int ret;

	for (unsigned i = 0; i < n; i++) {
		if (!segment(k, i, &s))
			continue;
		if (!gmem_ptr(gm, s.paddr, s.memsz))
			return err_set(e, -ENOMEM,
				"%s needs %llu MiB of memory, the machine has %llu", name,
				(unsigned long long)(k->end >> 20) + 1,
				(unsigned long long)gmem_ram_size(gm) >> 20);
		ret = gmem_fill(gm, s.paddr, k->elf + s.off, s.filesz);
		if (ret < 0)
			return err_sys(e, ret, "load %s", name);
	}
	return 0;
}
