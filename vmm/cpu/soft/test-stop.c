/* SPDX-License-Identifier: MIT */
/* A vCPU can be stopped whatever it executes, and its state is whole then. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/le.h"
#include "lib/base/test.h"
#include "lib/os/thread.h"
#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/test-rig.h"

enum { PATIENCE_MS = 20000 };

static struct err err;
static struct cpu_state state;
static struct cpu_msr msrs[CPU_MAX_MSRS];
static unsigned nmsrs;

static void sleep_ms(uint64_t ms)
{
	struct os_event e;

	os_event_init(&e);
	os_event_wait(&e, os_now() + ms * 1000000);
	os_event_done(&e);
}

/* A vCPU that runs on a thread of its own. */
struct runner {
	struct cpu_vcpu *cpu;
	struct os_thread *thread;
	atomic_int exit; /* -1: not yet */
};

static void run(void *ctx)
{
	struct runner *t = ctx;

	t->exit = cpu_soft_ops.run(t->cpu, &err);
}

static void start(struct runner *t, struct rig *r, unsigned cpu, const struct cpu_state *s)
{
	*t = (struct runner){.cpu = r->cpu[cpu], .exit = -1};
	if (cpu_soft_ops.set_state(t->cpu, s, r->msrs, r->nmsrs) < 0 ||
		os_thread_start(&t->thread, "vcpu", run, t) < 0)
		abort();
}

/* What is not heard within the limit never is: the thread cannot be joined. */
static int stop(struct runner *t)
{
	cpu_soft_ops.kick(t->cpu);
	for (unsigned ms = 0; t->exit < 0 && ms < PATIENCE_MS; ms += 10)
		sleep_ms(10);
	if (t->exit < 0) {
		printf("not ok - the vCPU does not hear a kick\n");
		fflush(stdout);
		_Exit(1);
	}
	os_thread_join(t->thread);
	return t->exit;
}

CODE(wraps, ".code32\n mov $0x44332211, %eax\n mov %eax, 0xfffffffe\n 1: jmp 1b\n .code64\n")

TEST(a_write_that_wraps_at_4_gib_ends)
{
	struct rig *r = rig_new(1);
	struct runner t;

	RIG_LOAD(r, wraps);
	r->s.cr0 = 0x33;
	r->s.cr4 = 0;
	r->s.efer = 0;
	r->s.seg[CPU_CS].attr = 0xc09b;
	start(&t, r, 0, &r->s);
	for (unsigned ms = 0; *(volatile uint16_t *)rig_ptr(r, 0) != 0x4433 && ms < PATIENCE_MS;
		ms++)
		sleep_ms(1);
	CHECK_EQ(stop(&t), CPU_EXIT_KICK);
	rig_free(r);
}

enum { MMIO_VA = 0x100000, FLAG = 0x21000, FAULTS = 0x21008, MANY = 500000 };

CODE(lock_mmio, "1: lock incl 0x100000; jmp 1b")
CODE(remap, "mov $0xd0000063, %eax\n"
	    "1: movq $0, 0x4800\n mov $200, %ecx\n 2: dec %ecx\n jnz 2b\n"
	    "mov %rax, 0x4800\n mov $200, %ecx\n 3: dec %ecx\n jnz 3b\n jmp 1b")
CODE(count_faults, "incq 0x21008; add $8, %rsp; iretq")

/* Between a look at the page and the access, another vCPU takes it away. */
TEST(a_locked_access_that_faults_lets_go_of_the_lock)
{
	struct rig *r = rig_new(2);
	volatile uint64_t *faults = rig_ptr(r, FAULTS);
	struct runner a, b;

	*rig_pte(r, MMIO_VA) = 0xd0000063;
	memcpy(rig_ptr(r, RIG_CODE + 0x1000), count_faults,
		(size_t)(count_faults_end - count_faults));
	le64_put((uint8_t *)rig_ptr(r, RIG_IDT + 16 * 14),
		(RIG_CODE & 0xffff) | 0x1000 | RIG_CS << 16 | (uint64_t)(RIG_CODE >> 16) << 48 |
			0x8eull << 40);
	rig_load(r, RIG_CODE + 0x2000, remap, remap_end);
	state = r->s;
	state.gpr[CPU_RSP] = RIG_STACK + 0x10000;
	start(&b, r, 1, &state);
	RIG_LOAD(r, lock_mmio);
	start(&a, r, 0, &r->s);
	for (unsigned ms = 0; *faults < MANY && ms < PATIENCE_MS; ms++)
		sleep_ms(1);
	CHECK(*faults >= MANY);
	CHECK_EQ(stop(&a), CPU_EXIT_KICK);
	CHECK_EQ(stop(&b), CPU_EXIT_KICK);
	rig_free(r);
}

CODE(step_hlt, "pushfq; orl $0x100, (%rsp); popfq; hlt; nop")

TEST(a_step_over_hlt_ends_the_halt)
{
	struct rig *r = rig_new(1);

	RIG_LOAD(r, step_hlt);
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(rig_vector(r), 1);
	rig_free(r);
}

CODE(start_other, "mov $0xfee00000, %eax\n movl $0x1ff, 0xf0(%rax)\n"
		  "movl $0x01000000, 0x310(%rax)\n movl $0x4500, 0x300(%rax)\n"
		  "movl $0x4612, 0x300(%rax)\n movb $1, 0x21000\n 1: jmp 1b")

/* The other vCPU has stopped already when it is started: the request is not state of its own in any file. */
TEST(a_cpu_that_is_started_while_the_machine_is_saved_starts)
{
	struct rig *r = rig_new(2);
	struct runner t;

	RIG_LOAD(r, start_other);
	start(&t, r, 0, &r->s);
	for (unsigned ms = 0; !*(volatile uint8_t *)rig_ptr(r, FLAG) && ms < PATIENCE_MS; ms++)
		sleep_ms(1);
	CHECK_EQ(stop(&t), CPU_EXIT_KICK);
	CHECK_EQ(cpu_soft_ops.get_state(r->cpu[1], &state, msrs, &nmsrs), 0);
	CHECK_EQ(state.run, CPU_RUNNABLE);
	CHECK_EQ(state.seg[CPU_CS].selector, 0x1200);
	rig_free(r);
}

enum { DEADLINE_MSR = 0x6e0, VECTOR = 0xec };

/* Is the timer's interrupt in the state, requested or to come? */
static bool has_timer(void)
{
	if (le32_get(state.lapic + 0x200 + VECTOR / 32 * 16) >> VECTOR % 32 & 1)
		return true;
	for (unsigned i = 0; i < nmsrs; i++)
		if (msrs[i].index == DEADLINE_MSR && msrs[i].value)
			return true;
	return false;
}

TEST(a_timer_that_expires_while_the_machine_is_saved_is_not_lost)
{
	struct rig *r = rig_new(1);
	unsigned lost = 0;

	le32_put(r->s.lapic + 0xf0, 0x1ff);
	le32_put(r->s.lapic + 0x320, 2 << 17 | VECTOR);
	CHECK_EQ(cpu_soft_ops.set_state(r->cpu[0], &r->s, r->msrs, r->nmsrs), 0);
	for (unsigned i = 0; i < 20000; i++) {
		struct cpu_msr deadline = {DEADLINE_MSR, 0};

		CHECK_EQ(cpu_soft_ops.set_state(r->cpu[0], &r->s, NULL, 0), 0);
		deadline.value = soft_tsc((struct soft_vcpu *)r->cpu[0]) + 1000 + i * 3 % 60000;
		CHECK_EQ(cpu_soft_ops.set_state(r->cpu[0], &r->s, &deadline, 1), 0);
		CHECK_EQ(cpu_soft_ops.get_state(r->cpu[0], &state, msrs, &nmsrs), 0);
		lost += !has_timer();
	}
	CHECK_EQ(lost, 0);
	rig_free(r);
}

CODE(add, "addps %xmm0, %xmm0; hlt")

TEST(an_mxcsr_with_reserved_bits_is_not_loaded_as_it_is)
{
	struct rig *r = rig_new(1);

	RIG_LOAD(r, add);
	le32_put(r->s.xsave + 24, 0xffff0000);
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	rig_free(r);
}

TEST_MAIN()
