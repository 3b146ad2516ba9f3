/* SPDX-License-Identifier: MIT */
/* What vm.c, vm-state.c and vm-ioevent.c share. */
#ifndef WSLX_VMM_CORE_VM_INTERNAL_H
#define WSLX_VMM_CORE_VM_INTERNAL_H

#include <stdatomic.h>
#include "lib/os/thread.h"
#include "vmm/core/vm.h"

struct os_notifier;

enum vcpu_req { VCPU_RUN, VCPU_CALL, VCPU_QUIT };

struct vcpu {
	struct vm *vm;
	unsigned index;
	struct os_thread *thread;
	struct cpu_vcpu *cpu; /* created, used and freed by the thread; kick() from any */
	struct os_event wake; /* there is a request */
	struct os_event idle; /* the request is done; also makes what it wrote visible */
	atomic_bool stop;     /* leave run() and become idle */

	/* The request: the loop's thread writes it while the vCPU is idle, the thread reads it
	 * after wake. */
	enum vcpu_req req;
	int (*fn)(struct vcpu *v, void *arg);
	void *arg;
	int result;
	struct err err; /* of the vCPU's creation */
};

struct vm {
	struct vm_config cfg;
	const struct cpu_ops *ops;
	struct gmem *gm;
	struct bus *bus;
	struct cpu_vm *cpu;
	struct cpu_io io;
	struct vcpu *vcpus;
	unsigned nvcpus, started;
	struct dev **devs;
	unsigned ndevs;
	void (*eoi)(void *ctx, uint8_t vector);
	void *eoi_ctx;

	_Atomic enum vm_state state; /* written by the loop's thread */
	atomic_int ending;	     /* 0, or the first enum vm_end given to vm_stop(), plus one */
	atomic_uint halted;	     /* vCPUs that will never run again */
	struct os_notifier *end_note;
	struct os_mutex end_lock;
	char end_text[256]; /* under end_lock until the VM is stopped */
};

/* Runs fn on the vCPU's thread and returns its result; the vCPU must be idle. */
int vcpu_call(struct vcpu *v, int (*fn)(struct vcpu *v, void *arg), void *arg);

#endif
