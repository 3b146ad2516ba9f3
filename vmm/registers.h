/* SPDX-License-Identifier: MIT */
/* The registers of a paused VM's vCPUs as JSON, for people and scripts. */
#ifndef WSLX_VMM_REGISTERS_H
#define WSLX_VMM_REGISTERS_H

#include "lib/json/json.h"
#include "vmm/core/vm.h"

/*
 * *ret: an array with an object for each vCPU from first on, count of them: {vcpu, state, registers: {name: "0x..."},
 * segments: {name: {selector, base, limit, attributes}}, tables: {gdt: {base, limit}, idt}}, and with
 * msrs, msrs: {"0x...": "0x..."}.
 */
int registers_json(
	struct vm *vm, unsigned first, unsigned count, bool msrs, struct json_object **ret);

#endif
