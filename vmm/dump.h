/* SPDX-License-Identifier: MIT */
/*
 * A paused VM as an ELF core file (System V ABI, chapters 4 and 5; AMD64 supplement): guest memory as one PT_LOAD a region,
 * with guest-physical addresses, and for each vCPU an NT_PRSTATUS as of a Linux thread, so that debuggers show registers,
 * and a "QEMU" note with control registers and descriptor tables, by which crash(8) finds the kernel.
 */
#ifndef WSLX_VMM_DUMP_H
#define WSLX_VMM_DUMP_H

#include "lib/base/err.h"
#include "vmm/core/vm.h"

/* fd: an empty regular file open for writing. Memory the guest never touched becomes holes. */
int dump_write(struct vm *vm, int fd, struct err *e);

#endif
