/* SPDX-License-Identifier: MIT */
/*
 * A Linux kernel file: a bzImage (Linux x86 boot protocol 2.08 or later, whose payload is unpacked here rather than by
 * the guest) or an ELF vmlinux. Everything in the file is checked before it is used.
 */
#ifndef WSLX_VMM_BOOT_KERNEL_H
#define WSLX_VMM_BOOT_KERNEL_H

#include <stddef.h>
#include <stdint.h>
#include "lib/base/err.h"
#include "vmm/core/gmem.h"

enum { KERNEL_SETUP_HEADER = 0x1f1, KERNEL_SETUP_MAX = 0x7f };

struct kernel {
	const uint8_t *elf; /* the ELF image: in the file, or in unpacked */
	size_t elf_len;
	void *unpacked;	  /* owned */
	char version[80]; /* "6.1.0-56-amd64 (...)"; "" when the file does not say */
	/* The bzImage's setup header, to be copied to KERNEL_SETUP_HEADER of the zero page; length 0 for an ELF file. */
	uint8_t setup[KERNEL_SETUP_MAX];
	unsigned setup_len;
	unsigned max_cmdline; /* longest command line it takes, without the NUL */
	gpa_t start, end,
		entry; /* where it lies in guest memory and where it is entered, in 64-bit mode */
};

/*
 * file[0..len) must outlive k. name is for messages: "NAME is not a Linux kernel: why". On success kernel_done() is due.
 */
int kernel_parse(struct kernel *k, const void *file, size_t len, const char *name, struct err *e);
void kernel_done(struct kernel *k);

/* Copies the segments into guest memory, which must be fresh (all zero). */
int kernel_load(const struct kernel *k, struct gmem *gm, const char *name, struct err *e);

#endif
