/* SPDX-License-Identifier: MIT */
/* The run loop: blocks, events between them, delivery of what instructions raised. */
#include "vmm/cpu/soft/exec.h"
#include "vmm/cpu/soft/block.h"
#include "vmm/cpu/soft/direct/direct.h"
#include "vmm/cpu/soft/exc.h"
#include "vmm/cpu/soft/jit/jit.h"
#include "vmm/cpu/soft/lapic.h"
#include "vmm/cpu/soft/mem.h"
#include "vmm/cpu/soft/simd.h"
#include "vmm/cpu/soft/trace.h"

#if SOFT_TRACE
int soft_trace_on;
#endif

enum { RUN_ON = -1 }; /* no enum cpu_exit */

void soft_raise(struct soft_vcpu *c, unsigned vec, uint32_t err)
{
	/* Page tables may have changed since mem_rmw(). */
	if (c->split) {
		c->split = false;
		os_mutex_unlock(&c->vm->split_lock);
	}
	if (!c->in_delivery)
		c->rip = soft_rip(c);
	c->exc.vec = (uint8_t)vec;
	c->exc.err = err;
	c->exc.has_err = soft_exc_has_error(vec);
	c->exc.soft = false;
	c->exc_raised = true;
	__builtin_longjmp(c->jmp, 1);
}

void soft_raise_int(struct soft_vcpu *c, unsigned vec)
{
	c->rip = soft_rip(c);
	c->exc.vec = (uint8_t)vec;
	c->exc.err = 0;
	c->exc.has_err = false;
	c->exc.soft = true;
	c->exc_len = c->cur->len;
	c->exc_raised = true;
	__builtin_longjmp(c->jmp, 1);
}

void soft_post(struct soft_vcpu *c, uint32_t bits)
{
	atomic_fetch_or(&c->events, bits);
	if (atomic_load(&c->asleep))
		os_event_set(&c->wake);
	if (c->direct)
		soft_direct_interrupt(c);
}

static void clear(struct soft_vcpu *c, uint32_t bits)
{
	atomic_fetch_and(&c->events, ~bits);
}

static void start_ap(struct soft_vcpu *c)
{
	uint8_t v = c->sipi_vector;

	if (c->run_state != CPU_WAIT_SIPI)
		return;
	c->seg[SEG_CS].sel = (uint16_t)(v << 8);
	c->segbase_hidden[SEG_CS] = (uint64_t)v << 12;
	soft_mode_changed(c);
	c->rip = 0;
	c->run_state = CPU_RUNNABLE;
}

/* Sleeps in HLT or before SIPI. */
static int wait_halted(struct soft_vcpu *c)
{
	uint32_t mask = EV_KICK | EV_INIT;

	if (c->run_state == CPU_WAIT_SIPI) {
		mask |= EV_SIPI;
	} else {
		if (!c->nmi_masked)
			mask |= EV_NMI;
		if (c->eflags & RF_IF)
			mask |= EV_INTR;
		else if (c->vm->nvcpus == 1)
			return CPU_EXIT_HALT;
	}
	if (!(atomic_load(&c->events) & mask)) {
		soft_simd_leave(c);
		soft_halt_wait(c, mask);
		soft_simd_enter(c);
	}
	return RUN_ON;
}

/* An interrupt, if one can be taken now. */
static void take_interrupt(struct soft_vcpu *c)
{
	int vec;

	clear(c, EV_INTR);
	if (!(c->eflags & RF_IF)) {
		c->intr_wait = true;
		return;
	}
	vec = soft_lapic_pending(c->lapic);
	if (vec < 0)
		return;
	vec = soft_lapic_ack(c->lapic);
	if (vec < 0)
		return;
	/* There may be more. */
	atomic_fetch_or(&c->events, EV_INTR);
	c->run_state = CPU_RUNNABLE;
	soft_trace(c, "interrupt %#x", vec);
	soft_deliver_ext(c, (unsigned)vec);
}

void soft_settle(struct soft_vcpu *c)
{
	uint32_t ev = atomic_fetch_and(&c->events, ~(uint32_t)(EV_INIT | EV_SIPI));

	if (ev & EV_INIT) {
		soft_reset(c, true);
		c->run_state = CPU_WAIT_SIPI;
	}
	if (ev & EV_SIPI)
		start_ap(c);
}

/* Everything that is not the next block. Returns RUN_ON or why to leave. */
static int attend(struct soft_vcpu *c)
{
	uint32_t ev = atomic_load(&c->events);

	if (ev & EV_CODE) {
		clear(c, EV_CODE);
		soft_code_requests(c);
	}
	if (ev & EV_FLUSH) {
		clear(c, EV_FLUSH);
		tlb_flush_all(c);
		soft_direct_reset(c);
	}
	clear(c, EV_LOCAL);
	if (ev & (EV_INIT | EV_SIPI))
		soft_settle(c);
	if (ev & EV_KICK) {
		clear(c, EV_KICK);
		return CPU_EXIT_KICK;
	}
	if (c->shadow) {
		c->shadow = false; /* the next block comes first */
		return RUN_ON;
	}
	if (c->run_state != CPU_WAIT_SIPI) {
		if (ev & EV_NMI && !c->nmi_masked) {
			clear(c, EV_NMI);
			c->run_state = CPU_RUNNABLE;
			c->nmi_masked = true;
			soft_deliver_ext(c, EXC_NMI);
		} else if (ev & EV_INTR) {
			take_interrupt(c);
		}
	}
	if (c->run_state != CPU_RUNNABLE)
		return wait_halted(c);
	return RUN_ON;
}

static inline void run_from(struct soft_vcpu *c, const struct insn *i)
{
	if (c->jit) {
		soft_jit_enter(c, i);
		return;
	}
	while (i)
		i = i->fn(c, i);
}

static void step_insn(struct soft_vcpu *c)
{
	const struct insn *i = soft_block_step(c);

	/* Any transfer of control comes back here then; so does the pseudo-instruction behind this
	 * one. */
	atomic_fetch_or_explicit(&c->events, EV_LOCAL, memory_order_relaxed);
	run_from(c, i);
}

static void step_block(struct soft_vcpu *c)
{
	const struct insn *i = soft_block_get(c);

	atomic_fetch_or_explicit(&c->events, EV_LOCAL, memory_order_relaxed);
	run_from(c, i);
}

/* One instruction with RFLAGS.TF set: #DB behind it. */
static void run_traced(struct soft_vcpu *c)
{
	unsigned cpl = c->cpl;

	step_insn(c);
	if (c->eflags & RF_TF || c->cpl >= cpl) {
		c->dr[6] |= BIT(14);
		if (c->run_state == CPU_HALTED)
			c->run_state = CPU_RUNNABLE;
		soft_deliver_db(c);
	}
}

/* Direct execution's part of what is next. True: it did something, look around; false: the next block. */
static bool run_directly(struct soft_vcpu *c)
{
	if (c->direct->user != (c->cpl == 3))
		soft_direct_turn(c);
	if (!c->direct->wanted)
		return false;
	switch (soft_direct_run(c)) {
	case DIRECT_ON: return false;
	case DIRECT_BLOCK: step_block(c); break;
	case DIRECT_STEP: step_insn(c); break;
	case DIRECT_AGAIN: break;
	}
	return true;
}

/* No locals: it comes back here by longjmp. */
static NOINLINE enum cpu_exit loop(struct soft_vcpu *c)
{
	if (__builtin_setjmp(c->jmp) == 0)
		soft_trace(c, "run");
	for (;;) {
		const struct insn *i;

		if (unlikely(c->exc_raised)) {
			c->exc_raised = false;
			soft_trace(c, "exception %u err %#x cr2 %#lx", c->exc.vec, c->exc.err,
				(unsigned long)c->cr2);
			if (!soft_deliver_exc(c))
				return CPU_EXIT_TRIPLE_FAULT;
		}
		if (unlikely(atomic_load_explicit(&c->events, memory_order_relaxed) || c->shadow ||
			     c->run_state != CPU_RUNNABLE)) {
			int r = attend(c);

			if (r != RUN_ON)
				return (enum cpu_exit)r;
			if (c->run_state != CPU_RUNNABLE)
				continue;
		}
		if (unlikely(c->eflags & RF_TF)) {
			run_traced(c);
			continue;
		}
		if (c->direct && run_directly(c))
			continue;
		i = soft_block_get(c);
		soft_trace_block(c);
		run_from(c, i);
	}
}

enum cpu_exit soft_run(struct soft_vcpu *c, struct err *e)
{
	enum cpu_exit r;

#if SOFT_TRACE
	if (getenv("SOFT_TRACE"))
		soft_trace_on = atoi(getenv("SOFT_TRACE"));
#endif
	soft_simd_enter(c);
	r = loop(c);
	soft_simd_leave(c);
	return r;
}

bool soft_step(struct soft_vcpu *c)
{
	c->exc_raised = false;
	soft_simd_enter(c);
	if (__builtin_setjmp(c->jmp) == 0) {
		step_insn(c);
		clear(c, EV_LOCAL);
	}
	soft_simd_leave(c);
	return !c->exc_raised;
}

bool soft_run_block(struct soft_vcpu *c, bool alone)
{
	c->exc_raised = false;
	soft_simd_enter(c);
	soft_code_requests(c);
	atomic_store(&c->events, alone ? EV_LOCAL : 0); /* with it, jumps come back here */
	if (__builtin_setjmp(c->jmp) == 0)
		run_from(c, soft_block_get(c));
	clear(c, EV_LOCAL);
	soft_simd_leave(c);
	return !c->exc_raised;
}
