/* SPDX-License-Identifier: MIT */
/*
 * One virtual machine: guest memory, buses, devices, vCPUs and their life. Built by the program
 * (vmm/main.c), which decides the devices; this module knows only interfaces.
 *
 * States: BUILDING -> (vm_start) RUNNING <-> PAUSED -> STOPPED. Functions are for the loop's thread
 * unless they say "any thread".
 *
 * Order of building: vm_new(), devices, [sandbox], vm_create_vcpus(), then vm_set_boot_state() or
 * vm_load(), vm_start().
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

struct os_notifier;
struct vm;

enum vm_state { VM_BUILDING, VM_RUNNING, VM_PAUSED, VM_STOPPED };

/* Why a VM stopped. */
enum vm_end {
	VM_END_POWEROFF, /* the guest powered off (ACPI S5) */
	VM_END_RESET,	 /* the guest asked for a reset; wslx does not reboot a VM in place */
	VM_END_HALT,	 /* every vCPU halted for good ("System halted") */
	VM_END_CRASH,	 /* triple fault, or the back end gave up: vm_end_text() */
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

/* Takes the device over: it takes part in reset, save and load, in the order added. Before
 * vm_start(). */
void vm_add_dev(struct vm *vm, struct dev *d);

/* The interrupt controller that irq lines and EOIs go to (vmm/chip/ioapic). */
void vm_set_eoi(struct vm *vm, void (*eoi)(void *ctx, uint8_t vector), void *ctx);

/* Starts the vCPUs' threads, which inherit the caller's sandbox; each creates its vCPU and waits.
 */
int vm_create_vcpus(struct vm *vm, struct err *e);

/* State of vCPU 0 after its reset, to start from, and what it boots with; between vm_create_vcpus()
 * and vm_start(). */
int vm_get_boot_state(struct vm *vm, struct cpu_state *s);
int vm_set_boot_state(struct vm *vm, const struct cpu_state *s);

int vm_start(struct vm *vm, struct err *e);
int vm_pause(struct vm *vm); /* returns when every vCPU is out of run(); -EINVAL when not running */
int vm_resume(struct vm *vm);
void vm_stop(
	struct vm *vm, enum vm_end why); /* any thread, device handlers included; asynchronous */
/* What there is to say about the end (a back end's error, which vCPU had a triple fault); "" for
 * nothing. */
const char *vm_end_text(struct vm *vm);

/*
 * The VM must be paused (vm_save) or not started (vm_load). Format: sections "vm", "vcpu" (each),
 * then one a device. Memory is saved apart.
 */
int vm_save(struct vm *vm, struct state_w *w, struct err *e);
int vm_load(struct vm *vm, struct state_r *r, struct err *e);

/* State of one vCPU of a paused VM; msrs: CPU_MAX_MSRS of them, *n are filled. -EINVAL when it is not paused. */
int vm_vcpu_state(
	struct vm *vm, unsigned vcpu, struct cpu_state *s, struct cpu_msr *msrs, unsigned *n);

/*
 * A doorbell: where the back end can tell (KVM's ioeventfd), guest writes to one address call
 * fn(ctx) on the loop's thread without an exit. Elsewhere vm_ioevent_place() returns -EOPNOTSUPP
 * and the writes reach the device's write handler through the bus; a device with a handler needs
 * nothing more. new and free: loop's thread; the VM outlives it.
 */
struct vm_ioevent;
int vm_ioevent_new(struct vm_ioevent **ret, struct vm *vm, loop_fn fn, void *ctx);
/* The same, but n is signalled, which is borrowed and may be another process's to wait for. */
int vm_ioevent_to(struct vm_ioevent **ret, struct vm *vm, struct os_notifier *n);
void vm_ioevent_free(struct vm_ioevent *ev);
/* Any thread, but for one ioevent only one at a time. Moves it when it is placed already.
 * datamatch: UINT64_MAX = any. */
int vm_ioevent_place(
	struct vm_ioevent *ev, enum bus_kind kind, uint64_t addr, unsigned len, uint64_t datamatch);
void vm_ioevent_unplace(struct vm_ioevent *ev);

#endif
