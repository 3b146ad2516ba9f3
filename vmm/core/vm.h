/* SPDX-License-Identifier: MIT */
/*
 * One virtual machine: guest memory, buses, devices, vCPUs and their life. Built by the program
 * (vmm/main.c), which decides the devices; this module knows only interfaces.
 *
 * States: BUILDING -> (vm_start) RUNNING <-> PAUSED -> STOPPED. Functions are for the loop's thread
 * unless they say "any thread".
 */
#ifndef WSLX_VMM_CORE_VM_H
#define WSLX_VMM_CORE_VM_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/base/err.h"
#include "lib/base/loop.h"
#include "vmm/core/bus.h"
#include "vmm/core/cpu.h"
#include "vmm/core/irq.h"

struct vm;

enum vm_state { VM_BUILDING, VM_RUNNING, VM_PAUSED, VM_STOPPED };

/* Why a VM stopped. */
enum vm_end {
	VM_END_POWEROFF, /* the guest powered off (ACPI S5) */
	VM_END_RESET,	 /* the guest asked for a reset; wslx does not reboot a VM in place */
	VM_END_CRASH,	 /* triple fault, or the back end gave up: see the log */
	VM_END_KILLED,	 /* vm_stop() */
};

struct vm_config {
	const struct cpu_ops *cpu;
	uint64_t ram_size; /* bytes, multiple of 2 MiB */
	unsigned vcpus;
	struct loop *loop; /* borrowed */
	/* Called once on the loop's thread when the VM has stopped and all vCPU threads are idle.
	 */
	void (*on_end)(void *ctx, enum vm_end why);
	void *ctx;
};

int vm_new(struct vm **ret, const struct vm_config *cfg, struct err *e);
void vm_free(
	struct vm *vm); /* stops it first; frees its devices in reverse order of vm_add_dev() */

struct gmem *vm_gmem(struct vm *vm);
struct bus *vm_bus(struct vm *vm);
struct loop *vm_loop(struct vm *vm);
const struct cpu_ops *vm_cpu_ops(struct vm *vm);
struct cpu_vm *vm_cpu(struct vm *vm);
unsigned vm_vcpus(struct vm *vm);
enum vm_state vm_state(struct vm *vm); /* any thread */

/* Takes the device over: it takes part in reset, save and load, in the order added. */
void vm_add_dev(struct vm *vm, struct dev *d);

/* The interrupt controller that irq lines and EOIs go to (vmm/chip/ioapic). */
void vm_set_eoi(struct vm *vm, void (*eoi)(void *ctx, uint8_t vector), void *ctx);

/* Sets vCPU 0's state for the boot entry; before vm_start(). */
int vm_set_boot_state(struct vm *vm, const struct cpu_state *s);

int vm_start(struct vm *vm, struct err *e);
int vm_pause(struct vm *vm); /* returns when every vCPU is out of run() */
int vm_resume(struct vm *vm);
void vm_stop(
	struct vm *vm, enum vm_end why); /* any thread, device handlers included; asynchronous */

/* The VM must be paused. Format: sections "vm", "vcpu" (each), then one a device. Memory is saved
 * apart. */
int vm_save(struct vm *vm, struct state_w *w, struct err *e);
int vm_load(struct vm *vm, struct state_r *r, struct err *e);

#endif
