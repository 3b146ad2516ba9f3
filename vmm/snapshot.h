/* SPDX-License-Identifier: MIT */
/*
 * A saved machine in one file: a header page, the state of the VM (vm_save()), and its memory, sparse. The format does
 * not depend on the engine that wrote it.
 */
#ifndef WSLX_VMM_SNAPSHOT_H
#define WSLX_VMM_SNAPSHOT_H

#include <stdint.h>
#include "lib/base/err.h"
#include "vmm/core/vm.h"

struct snapshot_info {
	uint64_t ram_size, state_len;
	unsigned vcpus;
};

/* Writes the paused VM to fd, an empty regular file open for writing; ends with an fsync. */
int snapshot_save(struct vm *vm, int fd, struct err *e);
/* Is it an empty regular file? What is zero is not written, so what a file held before would be mixed in. */
int snapshot_check_empty(int fd, struct err *e);
/* Only memory, in the order of the memory object, to fd from offset at on, where the file reads as zeroes. */
int snapshot_write_memory(struct vm *vm, int fd, uint64_t at);
/* What machine the file holds: to build one like it before snapshot_load(). */
int snapshot_info(int fd, struct snapshot_info *ret, struct err *e);
/* Fills memory, vCPUs and devices of a VM that has its vCPUs but has not started. */
int snapshot_load(struct vm *vm, int fd, struct err *e);

#endif
