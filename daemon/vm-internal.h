/* SPDX-License-Identifier: MIT */
/* What daemon/vm.c and daemon/connect.c share. */
#ifndef WSLX_DAEMON_VM_INTERNAL_H
#define WSLX_DAEMON_VM_INTERNAL_H

#include "daemon/vm.h"

struct loop *vm_loop(struct vm *vm);
/* A connection to wslx-vmm's vsock socket. */
int vm_dial(struct vm *vm);

#endif
