/* SPDX-License-Identifier: MIT */
/* The translator where running single instructions does not lead: loops, links, its memory. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/base/test.h"
#include "lib/os/thread.h"
#include "vmm/cpu/soft/jit/cache.h"
#include "vmm/cpu/soft/jit/jit.h"
#include "vmm/cpu/soft/test-rig.h"

static struct rig *jit_rig(void)
{
	struct rig *r;

	soft_jit_configure(JIT_ON, 2);
	r = rig_new(1);
	soft_jit_configure(JIT_OFF, 0);
	return r;
}

static struct soft_vcpu *cpu(struct rig *r)
{
	return (struct soft_vcpu *)r->cpu[0];
}

static void kick_later(void *ctx)
{
	struct rig *r = ctx;
	struct os_event e;

	os_event_init(&e);
	os_event_wait(&e, os_now() + 50000000);
	os_event_done(&e);
	cpu_soft_ops.kick(r->cpu[0]);
}

static void run_until_kicked(struct rig *r)
{
	struct os_thread *t;

	CHECK_EQ(os_thread_start(&t, "kicker", kick_later, r), 0);
	CHECK_EQ(rig_run(r), CPU_EXIT_KICK);
	os_thread_join(t);
}

/*
 * Two vCPUs waited for each other's interrupts for ever: a loop went from translated code to PAUSE's handler and back into
 * translated code, past every place that looks for events.
 */
CODE(spin, "1: pause; mov 0x20000, %eax; test $1, %al; jne 1b; hlt")
TEST(jit_loop_through_a_handler_sees_events)
{
	struct rig *r = jit_rig();

	RIG_LOAD(r, spin);
	*(uint32_t *)rig_ptr(r, 0x20000) = 1;
	run_until_kicked(r);
	*(uint32_t *)rig_ptr(r, 0x20000) = 0;
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(r->s.rip, RIG_CODE + (uint64_t)(spin_end - spin));
	rig_free(r);
}

/* Every way of going round: a jump back, a call and a return, another page, an address in a register. */
CODE(back, "1: inc %eax; jmp 1b")
CODE(back_if, "1: add $1, %eax; cmp $0, %ebx; je 1b")
CODE(calls, "1: call 2f; jmp 1b; 2: ret")
CODE(far_and_back, "jmp . + 0x1000")
CODE(far_back, "jmp . - 0x1000")
CODE(by_register, "lea 1f(%rip), %rax; 1: jmp *%rax")
TEST(jit_every_loop_sees_events)
{
	static const struct {
		const uint8_t *code, *end;
	} loops[] = {{back, back_end}, {back_if, back_if_end}, {calls, calls_end},
		{far_and_back, far_and_back_end}, {by_register, by_register_end}};

	for (unsigned n = 0; n < ARRAY_LEN(loops); n++) {
		struct rig *r = jit_rig();

		memcpy(rig_ptr(r, RIG_CODE + 0x1000), far_back, (size_t)(far_back_end - far_back));
		rig_load(r, RIG_CODE, loops[n].code, loops[n].end);
		run_until_kicked(r);
		rig_free(r);
	}
}

/* The function at RDI is called, 100 times, and its results are added up. */
CODE(caller, "xor %esi, %esi; mov $100, %ecx; 1: call . + 0x1000 - 7; add %eax, %esi; loop 1b; hlt")
CODE(seven, "mov $7, %eax; ret")
CODE(nine, "mov $9, %eax; ret")
TEST(jit_link_to_a_page_that_was_rewritten_is_not_followed)
{
	struct rig *r = jit_rig();

	memcpy(rig_ptr(r, RIG_CODE + 0x1000), seven, (size_t)(seven_end - seven));
	RIG_LOAD(r, caller);
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(r->s.gpr[CPU_RSI], 700);
	/* As a device does it. */
	CHECK_EQ(gmem_write(r->gm, RIG_CODE + 0x1000, nine, (size_t)(nine_end - nine)), 0);
	RIG_LOAD(r, caller);
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(r->s.gpr[CPU_RSI], 900);
	rig_free(r);
}

/* The address to call and the return address lie beside each other: the first's register was still in use for the second. */
CODE(through_stack,
	"lea 3f(%rip), %rax; mov $50, %ecx; xor %esi, %esi; 2: push %rax; call *(%rsp); pop %rax; "
	"dec %ecx; jnz 2b; hlt; 3: inc %esi; ret")
TEST(jit_call_through_the_stack)
{
	struct rig *r = jit_rig();

	RIG_LOAD(r, through_stack);
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(r->s.gpr[CPU_RSI], 50);
	CHECK_EQ(r->s.gpr[CPU_RSP], RIG_STACK);
	rig_free(r);
}

/*
 * The network stood still: a driver says how far it has looked, executes a locked operation, and looks at how far the device is. The
 * device does the same the other way round, and one of the two has to see the other. (Where both share one processor, they always do.)
 */
enum { ORDER_X = RIG_DATA, ORDER_Y = RIG_DATA + 64, ORDER_SEEN = 0x100000, ORDER_ROUNDS = 200000 };
CODE(order,
	"mov $1, %ecx; 1: mov %ecx, 0x20000; lock; addl $0, -4(%rsp); mov 0x20040, %eax; mov %eax, 0x100000(, %rcx, 4); "
	"2: cmp %ecx, 0x20040; jb 2b; inc %ecx; cmp $200000, %ecx; jb 1b; hlt")

struct order_device {
	struct rig *r;
	uint32_t rounds, seen[ORDER_ROUNDS];
};

static void order_device(void *ctx)
{
	struct order_device *d = ctx;
	uint32_t *x = rig_ptr(d->r, ORDER_X), *y = rig_ptr(d->r, ORDER_Y);
	uint64_t end = os_now() + 2000000000, i = 1;

	for (; i < ORDER_ROUNDS && os_now() < end; i++) {
		__atomic_store_n(y, (uint32_t)i, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		d->seen[i] = __atomic_load_n(x, __ATOMIC_RELAXED);
		while (__atomic_load_n(x, __ATOMIC_RELAXED) < i && os_now() < end)
			;
	}
	d->rounds = (uint32_t)i;
	__atomic_store_n(y, ORDER_ROUNDS, __ATOMIC_RELEASE);
}

TEST(jit_kernel_of_one_vcpu_and_a_device_do_not_miss_each_other)
{
	static struct order_device d;
	struct os_thread *t;
	const uint32_t *seen;
	unsigned missed = 0;

	d.r = jit_rig();
	seen = rig_ptr(d.r, ORDER_SEEN);
	RIG_LOAD(d.r, order);
	CHECK_EQ(os_thread_start(&t, "device", order_device, &d), 0);
	CHECK_EQ(rig_run(d.r), CPU_EXIT_HALT);
	os_thread_join(t);
	/* what the last round saw can be of after it ended */
	for (uint32_t i = 1; i + 1 < d.rounds; i++)
		missed += seen[i] < i && d.seen[i] < i;
	CHECK_EQ(missed, 0);
	rig_free(d.r);
}

/* Many functions, all called, over and over: more code than there is room for. */
enum { FUNCTIONS = 30000, FUNCTION_SIZE = 32, FUNCTIONS_AT = 0x100000, ROUNDS = 5 };
CODE(one, "add $1, %eax; add %rax, 0x20000; ret")
CODE(all,
	"1: mov $0x100000, %edi; 2: call *%rdi; add $32, %edi; cmp $(0x100000 + 30000 * 32), %edi; jb 2b; dec %ecx; jnz 1b; hlt")
TEST(jit_cache_that_is_full_is_emptied)
{
	struct rig *r;
	struct soft_jit *j;

	soft_jit_limit(1 << 20);
	r = jit_rig();
	soft_jit_limit(0);
	j = cpu(r)->jit;
	CHECK(j != NULL && j->size == 1 << 20);
	for (unsigned n = 0; n < FUNCTIONS; n++)
		memcpy(rig_ptr(r, FUNCTIONS_AT + n * FUNCTION_SIZE), one, (size_t)(one_end - one));
	RIG_LOAD(r, all);
	r->s.gpr[CPU_RCX] = ROUNDS;
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(r->s.gpr[CPU_RAX], ROUNDS * FUNCTIONS);
	CHECK_EQ(*(uint64_t *)rig_ptr(r, 0x20000),
		(uint64_t)ROUNDS * FUNCTIONS * (ROUNDS * FUNCTIONS + 1) / 2);
	CHECK(j->used <= j->cold && j->cold_used <= j->size);
	CHECK(j->flushes > ROUNDS);
	rig_free(r);
}

/* From now on, no memory of this process becomes executable. */
static int forbid_executable_memory(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {ARRAY_LEN(f), f};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p) ? -errno : 0;
}

static int run_interpreted(void)
{
	struct rig *r;

	if (forbid_executable_memory())
		return 1;
	r = jit_rig();
	if (cpu(r)->jit)
		return 2;
	memcpy(rig_ptr(r, RIG_CODE + 0x1000), seven, (size_t)(seven_end - seven));
	RIG_LOAD(r, caller);
	if (rig_run(r) != CPU_EXIT_HALT || r->s.gpr[CPU_RSI] != 700)
		return 3;
	return 0;
}

TEST(jit_without_executable_memory_interprets)
{
	pid_t p = fork();
	int status = -1;

	if (p == 0)
		_exit(run_interpreted());
	CHECK(p > 0 && waitpid(p, &status, 0) == p);
	CHECK_EQ(status, 0);
}

TEST_MAIN()
