/* SPDX-License-Identifier: MIT */
/* What a VM gets beside its distributions: swap, the right time, and a place for its core dumps. */
#ifndef WSLX_DAEMON_UPKEEP_H
#define WSLX_DAEMON_UPKEEP_H

#include <stdint.h>
#include "daemon/vm.h"

#define UPKEEP_SWAP_DISK    ".swap"    /* vm_lun_id() of the swap disk */
#define UPKEEP_MODULES_DISK ".modules" /* and of the disk with kernel modules */

struct upkeep;

/* vm is borrowed and outlives it. swap: bytes; 0: none, or it has its disk already. vsock: the VM's vsock socket,
 * data_dir: the user's data folder. What fails is logged. */
struct upkeep *upkeep_new(struct loop *l, struct vm *vm, const struct settings *set, uint64_t swap,
	const char *vsock, const char *data_dir);
/* Init is there, for the first time or again. */
void upkeep_up(struct upkeep *u);
/* NULL is fine; returns NULL. */
struct upkeep *upkeep_free(struct upkeep *u);

#endif
