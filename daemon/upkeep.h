/* SPDX-License-Identifier: MIT */
/* What a VM gets beside its distributions: swap, the right time, a place for its core dumps, files of the host. */
#ifndef WSLX_DAEMON_UPKEEP_H
#define WSLX_DAEMON_UPKEEP_H

#include <stdint.h>
#include "daemon/vm.h"

#define UPKEEP_SWAP_DISK    ".swap"    /* vm_lun_id() of the swap disk */
#define UPKEEP_MODULES_DISK ".modules" /* and of the disk with kernel modules */

struct upkeep;

/* vm, env are borrowed and outlive it. swap: bytes; 0: none, or it has its disk already. dir: the VM's folder. What fails is
 * logged. */
struct upkeep *upkeep_new(struct vm *vm, const struct vm_env *env, uint64_t swap, const char *dir);
/* Init is there, for the first time or again. */
void upkeep_up(struct upkeep *u);
/* The guest can mount the host's files. */
bool upkeep_has_files(const struct upkeep *u);
/* NULL is fine; returns NULL. */
struct upkeep *upkeep_free(struct upkeep *u);

#endif
