/* SPDX-License-Identifier: MIT */
/*
 * Direct execution: a guest's user code runs natively, in a stub (stub.h), where that pays: in address spaces that compute for longer
 * than entering and leaving a stub takes. Everything else stays with the translator and the interpreter, which also execute
 * whatever makes a stub stop: so a stub needs no semantics of its own. docs/softcpu.md.
 */
#ifndef WSLX_SOFT_DIRECT_H
#define WSLX_SOFT_DIRECT_H

#include "vmm/cpu/soft/cpu.h"

struct os_memobj;
struct soft_direct;	 /* a vCPU's */
struct soft_direct_pool; /* a VM's stubs, those that no vCPU has yet */

/* For VMs made from now on; off at first. Always: whether it pays or not, for tests. */
enum direct_mode { DIRECT_MODE_OFF, DIRECT_MODE_ON, DIRECT_MODE_ALWAYS };
void soft_direct_configure(enum direct_mode mode);
/* Makes stubs for a VM of n vCPUs: before there are threads and a sandbox. Leaves *ret NULL when it is off, or the host lacks something (it
 * is logged then). */
void soft_direct_pool_new(struct soft_direct_pool **ret, const struct os_memobj *ram, unsigned n);
void soft_direct_pool_free(struct soft_direct_pool *p);

/* Leaves c->direct NULL without a pool. */
int soft_direct_new(struct soft_vcpu *c);
void soft_direct_free(struct soft_vcpu *c);

/* The vCPU went from user code to the kernel, or back: c->direct->user says otherwise than c->cpl. */
void soft_direct_turn(struct soft_vcpu *c);

/* Between blocks, in user code, with nothing to attend to. */
enum direct_exit {
	DIRECT_ON,    /* go on by other means, to the next way into the kernel */
	DIRECT_BLOCK, /* for the next block */
	DIRECT_STEP,  /* for the next instruction */
	DIRECT_AGAIN, /* look around */
};
enum direct_exit soft_direct_run(struct soft_vcpu *c);

/* The TLB forgets a page, or everything, or gives up writing to a page of RAM. */
void soft_direct_flush_page(struct soft_vcpu *c, uint64_t lin);
void soft_direct_flush(struct soft_vcpu *c);
/* What is writable must become so anew (dirty tracking), or all else changed. */
void soft_direct_reset(struct soft_vcpu *c);
void soft_direct_protect(struct soft_vcpu *c, uint64_t gpa);
/* What soft_code_copied() was told of is not what it was. */
void soft_direct_code_gone(struct soft_vcpu *c, uint64_t gpa);

/* c->events has something new. Any thread. */
void soft_direct_interrupt(struct soft_vcpu *c);

/* The part that others look at. */
struct soft_direct_state {
	bool user;	      /* the vCPU was in user code when it was looked at last */
	bool wanted;	      /* the address space is executed directly */
	_Atomic bool running; /* any thread */
};

#endif
