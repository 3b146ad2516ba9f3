/* SPDX-License-Identifier: MIT */
/* The software CPU as a whole: control flow, paging, exceptions, interrupts, changing code, state. */
#include "vmm/cpu/soft/test-rig.h"

#include "lib/base/test.h"
#include "lib/os/thread.h"
#include "vmm/cpu/soft/cpu.h"

#define RUN_TO_VECTOR(r, vec)                                                                      \
	do {                                                                                       \
		CHECK_EQ(rig_run(r), CPU_EXIT_HALT);                                               \
		CHECK_EQ(rig_vector(r), vec);                                                      \
	} while (0)

CODE(sum, "xor %eax, %eax; mov $100000, %ecx; 1: add %rcx, %rax; dec %ecx; jnz 1b; hlt")
TEST(soft_loop)
{
	struct rig *r = rig_new(1);

	RIG_LOAD(r, sum);
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(r->s.gpr[CPU_RAX], 5000050000);
	CHECK_EQ(r->s.rip, RIG_CODE + (uint64_t)(sum_end - sum));
	rig_free(r);
}

CODE(calls,
	"mov $10, %edi; call 2f; hlt\n"
	"2: cmp $2, %edi; jb 3f; push %rdi; dec %edi; call 2b; pop %rdi; push %rax; sub $2, %edi; call 2b; pop %rdx;"
	"add %rdx, %rax; ret\n 3: mov %edi, %eax; ret")
TEST(soft_calls)
{
	struct rig *r = rig_new(1);

	RIG_LOAD(r, calls);
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(r->s.gpr[CPU_RAX], 55);
	CHECK_EQ(r->s.gpr[CPU_RSP], RIG_STACK);
	rig_free(r);
}

CODE(adx,
	"xor %eax, %eax; stc; mov $-1, %rax; mov $5, %ebx; adcx %rbx, %rax; setc %cl; adox %eax, %ebx; seto %dl; hlt")
TEST(soft_adx)
{
	struct rig *r = rig_new(1);

	RIG_LOAD(r, adx);
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(r->s.gpr[CPU_RAX], 5);
	CHECK_EQ(r->s.gpr[CPU_RCX], 1);
	CHECK_EQ(r->s.gpr[CPU_RBX], 10);
	CHECK_EQ(r->s.gpr[CPU_RDX], 0);
	rig_free(r);
}

/* --- exceptions ---------------------------------------------------------------------------------------------- */

CODE(ud, "mov $7, %eax; ud2")
CODE(de, "mov $1, %edx; xor %ecx, %ecx; div %ecx")
CODE(gp, "mov $0x8000000000000000, %rax; mov (%rax), %rbx")
CODE(ss, "mov $0x8000000000000000, %rbp; mov 8(%rbp), %rbx")
CODE(bp, "int3; nop")
CODE(np, "mov $0x100000, %eax; mov $5, %ecx; add %ecx, 8(%rax)")
TEST(soft_exceptions)
{
	struct rig *r = rig_new(1);

	RIG_LOAD(r, ud);
	RUN_TO_VECTOR(r, 6);
	CHECK_EQ(rig_stack(r, 0), RIG_CODE + 5);
	CHECK_EQ(rig_stack(r, 1), RIG_CS);
	CHECK_EQ(rig_stack(r, 3), RIG_STACK);
	CHECK_EQ(rig_stack(r, 4), RIG_DS);
	RIG_LOAD(r, de);
	RUN_TO_VECTOR(r, 0);
	CHECK_EQ(rig_stack(r, 0), RIG_CODE + 7);
	CHECK_EQ(r->s.gpr[CPU_RDX], 1);
	RIG_LOAD(r, gp);
	RUN_TO_VECTOR(r, 13);
	CHECK_EQ(rig_stack(r, 0), 0);
	CHECK_EQ(rig_stack(r, 1), RIG_CODE + 10);
	RIG_LOAD(r, ss);
	RUN_TO_VECTOR(r, 12);
	RIG_LOAD(r, bp);
	RUN_TO_VECTOR(r, 3);
	CHECK_EQ(rig_stack(r, 0), RIG_CODE + 1);
	RIG_LOAD(r, np);
	*rig_pte(r, 0x100000) = 0;
	RUN_TO_VECTOR(r, 14);
	CHECK_EQ(rig_stack(r, 0), 2); /* write, not present, supervisor */
	CHECK_EQ(rig_stack(r, 1), RIG_CODE + 10);
	CHECK_EQ(r->s.cr2, 0x100008);
	rig_free(r);
}

CODE(bad_stack, "mov $0x100800, %rsp; ud2")
TEST(soft_double_and_triple_fault)
{
	struct rig *r = rig_new(1);

	*rig_pte(r, 0x100000) = 0;
	RIG_LOAD(r, bad_stack);
	/* #UD's frame cannot be pushed: #PF; the #PF's neither: #DF, on its own stack. */
	RUN_TO_VECTOR(r, 8);
	CHECK_EQ(rig_stack(r, 0), 0);
	CHECK_EQ(rig_stack(r, 1), RIG_CODE + 7);
	CHECK_EQ(rig_stack(r, 4), 0x100800);
	CHECK_EQ(r->s.cr2, 0x100800 - 48);
	RIG_LOAD(r, bad_stack);
	r->s.idtr.limit = 0;
	CHECK_EQ(rig_run(r), CPU_EXIT_TRIPLE_FAULT);
	rig_free(r);
}

/* REP MOVS stops exactly at the page that is not there, and goes on when it is. */
CODE(copy, "mov $0x20f00, %esi; mov $0x21f01, %edi; mov $0x1000, %ecx; rep movsb; hlt")
TEST(soft_string_restarts)
{
	struct rig *r = rig_new(1);
	uint8_t *src = rig_ptr(r, 0x20f00);

	for (unsigned n = 0; n < 0x1000; n++)
		src[n] = (uint8_t)(n * 7);
	*rig_pte(r, 0x22000) = 0;
	RIG_LOAD(r, copy);
	RUN_TO_VECTOR(r, 14);
	CHECK_EQ(r->s.cr2, 0x22000);
	CHECK_EQ(rig_stack(r, 1), RIG_CODE + 15);
	CHECK_EQ(r->s.gpr[CPU_RCX], 0x1000 - 0xff);
	CHECK_EQ(r->s.gpr[CPU_RSI], 0x20f00 + 0xff);
	CHECK_EQ(r->s.gpr[CPU_RDI], 0x22000);
	*rig_pte(r, 0x22000) = 0x22000 | RIG_P | RIG_W;
	r->s.rip = rig_stack(r, 1);
	r->s.gpr[CPU_RSP] = RIG_STACK;
	r->s.run = CPU_RUNNABLE;
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(r->s.gpr[CPU_RCX], 0);
	CHECK_EQ(*(uint8_t *)rig_ptr(r, 0x22f00), (uint8_t)(0xfff * 7));
	rig_free(r);
}

/* A write that crosses into a page that refuses it leaves the first page alone. */
CODE(cross_write, "mov $0x1122334455667788, %rax; mov %rax, 0x20ffc; hlt")
TEST(soft_crossing_write_is_atomic)
{
	struct rig *r = rig_new(1);

	*rig_pte(r, 0x21000) = 0x21000 | RIG_P;
	RIG_LOAD(r, cross_write);
	RUN_TO_VECTOR(r, 14);
	CHECK_EQ(rig_stack(r, 0), 3);
	CHECK_EQ(r->s.cr2, 0x21000);
	CHECK_EQ(*(uint32_t *)rig_ptr(r, 0x20ffc), 0);
	*rig_pte(r, 0x21000) = 0x30000 | RIG_P | RIG_W;
	RIG_LOAD(r, cross_write);
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(*(uint32_t *)rig_ptr(r, 0x20ffc), 0x55667788);
	CHECK_EQ(*(uint32_t *)rig_ptr(r, 0x30000), 0x11223344);
	rig_free(r);
}

/* --- paging -------------------------------------------------------------------------------------------------- */

CODE(touch, "mov 0x20000, %eax; mov %eax, 0x21000; mov 0x22000, %eax; mov %eax, 0x22000; hlt")
TEST(soft_accessed_and_dirty)
{
	struct rig *r = rig_new(1);

	RIG_LOAD(r, touch);
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(*rig_pte(r, 0x20000) & (RIG_A | RIG_D), RIG_A);
	CHECK_EQ(*rig_pte(r, 0x21000) & (RIG_A | RIG_D), RIG_A | RIG_D);
	CHECK_EQ(*rig_pte(r, 0x22000) & (RIG_A | RIG_D), RIG_A | RIG_D);
	CHECK_EQ(*rig_pte(r, 0x23000) & (RIG_A | RIG_D), 0);
	rig_free(r);
}

CODE(remap,
	"mov 0x20000, %eax; movq $0x31003, 0x4100; mov 0x20000, %ebx; invlpg 0x20000; mov 0x20000, %ecx; hlt")
TEST(soft_invlpg)
{
	struct rig *r = rig_new(1);

	*(uint32_t *)rig_ptr(r, 0x20000) = 1;
	*(uint32_t *)rig_ptr(r, 0x31000) = 2;
	RIG_LOAD(r, remap);
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(r->s.gpr[CPU_RAX], 1);
	CHECK_EQ(r->s.gpr[CPU_RCX], 2);
	rig_free(r);
}

/* Into ring 3 by IRETQ; there, protections hold; back by exceptions with the TSS's stack. */
CODE(to_user, "pushq $0x1b; pushq $0x3f000; pushq $2; pushq $0x23; push %rdi; iretq")
CODE(user_read, "mov 0x20000, %eax")
CODE(user_write, "movl $1, 0x20000")
CODE(user_cli, "cli")
CODE(user_int, "int $0x80")
CODE(user_jump, "mov $0x20000, %eax; jmp *%rax")
static void to_user_mode(struct rig *r, const uint8_t *code, const uint8_t *end)
{
	rig_load(r, 0x11000, code, end);
	RIG_LOAD(r, to_user);
	r->s.gpr[CPU_RDI] = 0x11000;
}
TEST(soft_user_mode)
{
	struct rig *r = rig_new(1);

	*rig_pte(r, 0x20000) &= ~(uint64_t)RIG_U;
	to_user_mode(r, user_read, user_read_end);
	RUN_TO_VECTOR(r, 14);
	CHECK_EQ(rig_stack(r, 0), 5);
	CHECK_EQ(rig_stack(r, 1), 0x11000);
	CHECK_EQ(rig_stack(r, 2), RIG_USER_CS);
	CHECK_EQ(rig_stack(r, 5), RIG_USER_DS);
	CHECK_EQ(r->s.gpr[CPU_RSP], RIG_RSP0 - 48);
	*rig_pte(r, 0x20000) = 0x20000 | RIG_P | RIG_U;
	to_user_mode(r, user_write, user_write_end);
	RUN_TO_VECTOR(r, 14);
	CHECK_EQ(rig_stack(r, 0), 7);
	*rig_pte(r, 0x20000) |= 1ull << 63;
	to_user_mode(r, user_jump, user_jump_end);
	RUN_TO_VECTOR(r, 14);
	CHECK_EQ(rig_stack(r, 0), 0x15);
	CHECK_EQ(rig_stack(r, 1), 0x20000);
	to_user_mode(r, user_cli, user_cli_end);
	RUN_TO_VECTOR(r, 13);
	to_user_mode(r, user_int, user_int_end);
	RUN_TO_VECTOR(r, 0x80);
	CHECK_EQ(rig_stack(r, 0), 0x11002);
	rig_free(r);
}

/* CR0.WP decides whether the supervisor minds read-only pages. */
CODE(wp,
	"mov %cr0, %rax; btr $16, %rax; mov %rax, %cr0; movl $1, 0x20000; bts $16, %rax; mov %rax, %cr0; movl $2, 0x20000")
TEST(soft_write_protect)
{
	struct rig *r = rig_new(1);

	*rig_pte(r, 0x20000) = 0x20000 | RIG_P;
	RIG_LOAD(r, wp);
	RUN_TO_VECTOR(r, 14);
	CHECK_EQ(rig_stack(r, 0), 3);
	CHECK_EQ(*(uint32_t *)rig_ptr(r, 0x20000), 1);
	rig_free(r);
}

/* --- code that changes ----------------------------------------------------------------------------------------- */

CODE(self_modifying,
	"xor %ecx, %ecx; 1: mov $1, %eax; add %eax, %ecx; cmp $5, %ecx; ja 2f; incl 1b+1(%rip); jmp 1b; 2: hlt")
CODE(own_block, "movb $2, 1f+1(%rip); 1: mov $1, %eax; hlt")
TEST(soft_self_modifying)
{
	struct rig *r = rig_new(1);

	RIG_LOAD(r, self_modifying);
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(r->s.gpr[CPU_RCX], 6); /* 1 + 2 + 3 */
	RIG_LOAD(r, own_block);
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(r->s.gpr[CPU_RAX], 2);
	rig_free(r);
}

/* A device, and another mapping of the page, write to code that ran before. */
CODE(one, "mov $1, %eax; hlt")
CODE(two, "mov $2, %eax; hlt")
CODE(alias, "call *%rdi; movb $3, 0x30001; call *%rdi; hlt")
CODE(ret_one, "mov $1, %eax; ret")
TEST(soft_code_written_elsewhere)
{
	struct rig *r = rig_new(1);
	struct cpu_state s;

	RIG_LOAD(r, one);
	s = r->s;
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(r->s.gpr[CPU_RAX], 1);
	CHECK_EQ(gmem_write(r->gm, RIG_CODE, two, (size_t)(two_end - two)), 0);
	r->s = s;
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(r->s.gpr[CPU_RAX], 2);
	/* 0x30000 and 0x31000 are the same page. */
	*rig_pte(r, 0x30000) = 0x31000 | RIG_P | RIG_W;
	rig_load(r, 0x31000, ret_one, ret_one_end);
	RIG_LOAD(r, alias);
	r->s.gpr[CPU_RDI] = 0x31000;
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(r->s.gpr[CPU_RAX], 3);
	rig_free(r);
}

/* An instruction across two pages that are not neighbours in memory, executed, changed in its second half, and again. */
CODE(crossing,
	"xor %ebx, %ebx; mov $2, %ecx; 1: call *%rdi; add %rax, %rbx; movb $0x10, 0x33003; dec %ecx; jnz 1b; hlt")
CODE(crossing_body, "movabs $0x0102030405060708, %rax; ret")
TEST(soft_crossing_instruction)
{
	struct rig *r = rig_new(1);
	size_t n = (size_t)(crossing_body_end - crossing_body);
	uint8_t *first = rig_ptr(r, 0x31ff8), *second = rig_ptr(r, 0x33000);

	memcpy(first + 4, crossing_body, 4);
	memcpy(second, crossing_body + 4, n - 4);
	*rig_pte(r, 0x32000) = 0x33000 | RIG_P | RIG_W;
	RIG_LOAD(r, crossing);
	r->s.gpr[CPU_RDI] = 0x31ffc;
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(r->s.gpr[CPU_RBX], 0x0102030405060708 + 0x0102100405060708);
	rig_free(r);
}

/* What begins there is now a whole instruction, now one that crosses. */
CODE(uncrossing,
	"xor %ebx, %ebx; call *%rdi; add %rax, %rbx; movl $0xc358076a, (%rdi); call *%rdi; add %rax, %rbx; call *%rdi; add %rax, %rbx;"
	"mov %esi, (%rdi); call *%rdi; add %rax, %rbx; hlt")
TEST(soft_crossing_instruction_comes_and_goes)
{
	struct rig *r = rig_new(1);
	size_t n = (size_t)(crossing_body_end - crossing_body);
	uint8_t *at = rig_ptr(r, 0x31ffc);
	uint32_t first;

	memcpy(at, crossing_body, n);
	memcpy(&first, crossing_body, 4);
	RIG_LOAD(r, uncrossing);
	r->s.gpr[CPU_RDI] = 0x31ffc;
	r->s.gpr[CPU_RSI] = first;
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(r->s.gpr[CPU_RBX], 2 * 0x0102030405060708 + 2 * 7); /* push $7; pop %rax; ret */
	rig_free(r);
}

/*
 * As many pages as a TLB has entries, each called and read, then mapped to another page of memory: what is global may stay until everything
 * is flushed.
 */
enum { TABLES = 0x60000, OLD = 0x100000, NEW = 0x101000, GLOBAL = 0x100 };
CODE(flushes,
	"mov %cr4, %rax; or $0x80, %eax; mov %rax, %cr4; call 1f;"
	"mov $0x60000, %edi; lea (%r10, %r10), %ecx; 2: addq $0x1000, (%rdi); add $8, %edi; dec %ecx; jnz 2b;"
	"mov %cr3, %rax; mov %rax, %cr3; call 1f; mov %rbx, %r8; mov %rdx, %r9;"
	"mov %cr4, %rax; xor $0x80, %eax; mov %rax, %cr4; call 1f; hlt;"
	"1: xor %ebx, %ebx; xor %edx, %edx; mov $0x200000, %edi; mov %r10d, %ecx;"
	"3: call *%rdi; add %eax, %ebx; add 1(%rdi), %ebx; add $0x1000, %edi;"
	"call *%rdi; add %eax, %edx; add 1(%rdi), %edx; add $0x1000, %edi; dec %ecx; jnz 3b; ret")
CODE(ret_two, "mov $2, %eax; ret")
TEST(soft_flush_reaches_every_entry)
{
	static const unsigned sizes[] = {TLB_SIZE, TLBX_SIZE};

	for (unsigned k = 0; k < ARRAY_LEN(sizes); k++) {
		struct rig *r = rig_new(1);
		uint64_t *pde = rig_ptr(r, 0x3000), *pte = rig_ptr(r, TABLES);
		const unsigned pairs = sizes[k] / 2;

		rig_load(r, OLD, ret_one, ret_one_end);
		rig_load(r, NEW, ret_two, ret_two_end);
		for (unsigned n = 0; n < 2 * pairs; n++)
			pte[n] = OLD | RIG_P | RIG_W | (n % 2 ? GLOBAL : 0);
		for (unsigned n = 0; n < 2 * pairs / 512; n++)
			pde[1 + n] = (TABLES + n * 4096u) | RIG_P | RIG_W;
		RIG_LOAD(r, flushes);
		r->s.gpr[10] = pairs;
		CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
		CHECK_EQ(r->s.gpr[8], 4 * pairs);
		CHECK(r->s.gpr[9] < 4 * pairs);
		CHECK_EQ(r->s.gpr[CPU_RBX], 4 * pairs);
		CHECK_EQ(r->s.gpr[CPU_RDX], 4 * pairs);
		rig_free(r);
	}
}

/* --- interrupts and traps --------------------------------------------------------------------------------------- */

CODE(step, "pushfq; orl $0x100, (%rsp); popfq; nop; mov $1, %eax; hlt")
TEST(soft_single_step)
{
	struct rig *r = rig_new(1);

	RIG_LOAD(r, step);
	RUN_TO_VECTOR(r, 1);
	CHECK_EQ(rig_stack(r, 0), RIG_CODE + 10); /* behind the NOP */
	CHECK_EQ(rig_stack(r, 2) & 0x100, 0x100);
	CHECK_EQ(r->s.dr[6] & 0x4000, 0x4000);
	CHECK_EQ(r->s.rflags & 0x100, 0);
	rig_free(r);
}

CODE(spin, "mov $0xfee00000, %eax; movl $0x1ff, 0xf0(%rax); sti; movb $1, 0x20000; 1: jmp 1b")
CODE(wait_irq,
	"mov $0xfee00000, %eax; movl $0x1ff, 0xf0(%rax); movb $1, 0x20000; sti; 1: hlt; jmp 1b")
static void poke(void *ctx)
{
	struct rig *r = ctx;
	struct os_event e;

	os_event_init(&e);
	while (!*(volatile uint8_t *)rig_ptr(r, 0x20000))
		os_event_wait(&e, os_now() + 1000000);
	cpu_soft_ops.signal_msi(r->vm, 0xfee00000, 0x41);
	os_event_done(&e);
}
static void interrupted(const uint8_t *code, const uint8_t *end)
{
	struct rig *r = rig_new(1);
	struct os_thread *t;

	rig_load(r, RIG_CODE, code, end);
	REQUIRE(os_thread_start(&t, "poke", poke, r) == 0);
	RUN_TO_VECTOR(r, 0x41);
	CHECK_EQ(rig_stack(r, 2) & 0x200, 0x200);
	CHECK_EQ(rig_stack(r, 3), RIG_STACK);
	os_thread_join(t);
	rig_free(r);
}
TEST(soft_interrupt_breaks_loop)
{
	interrupted(spin, spin_end);
}
TEST(soft_interrupt_wakes_hlt)
{
	interrupted(wait_irq, wait_irq_end);
}

/* --- devices, state, SMP ----------------------------------------------------------------------------------------- */

CODE(io, "mov $0x1234, %edx; mov $0xabcd, %eax; out %ax, %dx; in %dx, %eax; mov %eax, 0x20000;"
	 "mov $0xd0000010, %ebx; mov %eax, (%rbx); mov 4(%rbx), %ecx; lock incl (%rbx); hlt")
TEST(soft_device_access)
{
	struct rig *r = rig_new(1);

	RIG_LOAD(r, io);
	CHECK_EQ(rig_run(r), CPU_EXIT_HALT);
	CHECK_EQ(r->port, 0x1234);
	CHECK_EQ(r->port_val, 0xabcd);
	CHECK_EQ(*(uint32_t *)rig_ptr(r, 0x20000), 0xabcd);
	CHECK_EQ(r->mmio_addr, 0xd0000010);
	CHECK_EQ(r->s.gpr[CPU_RCX], 0xabcd);
	CHECK_EQ(r->mmio_val, 0xabce);
	rig_free(r);
}

TEST(soft_state_round_trip)
{
	struct rig *r = rig_new(1);
	static struct cpu_state a, b;

	RIG_LOAD(r, sum);
	for (unsigned n = 0; n < 16; n++)
		r->s.gpr[n] = 0x1111111111111111ull * n;
	r->s.rflags = 0x246ad7 & ~0x100u;
	r->s.dr[3] = 0x1234;
	r->s.cr2 = 0xdeadbeef;
	r->s.seg[CPU_GS].base = 0xffff888000000000;
	for (unsigned n = 0; n < 512 + 64; n++)
		r->s.xsave[n] = n >= 160 && n < 416 ? (uint8_t)n : r->s.xsave[n];
	a = r->s;
	CHECK_EQ(cpu_soft_ops.set_state(r->cpu[0], &a, r->msrs, r->nmsrs), 0);
	CHECK_EQ(cpu_soft_ops.get_state(r->cpu[0], &b, r->msrs, &r->nmsrs), 0);
	CHECK(memcmp(a.gpr, b.gpr, sizeof(a.gpr)) == 0);
	CHECK(memcmp(a.seg, b.seg, sizeof(a.seg)) == 0);
	CHECK(memcmp(a.dr, b.dr, sizeof(a.dr)) == 0);
	CHECK(memcmp(a.xsave, b.xsave, sizeof(a.xsave)) == 0);
	CHECK(memcmp(a.lapic, b.lapic, sizeof(a.lapic)) == 0);
	CHECK_EQ(a.rflags, b.rflags);
	CHECK_EQ(a.rip, b.rip);
	CHECK_EQ(a.cr2, b.cr2);
	CHECK_EQ(a.efer, b.efer);
	rig_free(r);
}

/* Locked and split-locked counters of two vCPUs add up. */
CODE(count, "mov $100000, %ecx; 1: lock incl 0x20000; lock addq $3, 0x20ffd; dec %ecx; jnz 1b; hlt")
static struct cpu_state second_starts; /* not r->s: the first runs already */
static void run_second(void *ctx)
{
	struct rig *r = ctx;
	static struct cpu_state s;
	static struct cpu_msr m[CPU_MAX_MSRS];
	unsigned n;
	struct err e;

	cpu_soft_ops.get_state(r->cpu[1], &s, m, &n);
	s = second_starts;
	s.gpr[CPU_RSP] -= 0x1000;
	cpu_soft_ops.set_state(r->cpu[1], &s, m, n);
	cpu_soft_ops.kick(r->cpu[1]);
	while (cpu_soft_ops.run(r->cpu[1], &e) == CPU_EXIT_KICK) {
		cpu_soft_ops.get_state(r->cpu[1], &s, m, &n);
		if (s.run == CPU_HALTED)
			break;
	}
}
static void kicker(void *ctx)
{
	struct rig *r = ctx;
	struct os_event e;

	os_event_init(&e);
	while (!*(volatile uint8_t *)rig_ptr(r, 0x2f000)) {
		os_event_wait(&e, os_now() + 1000000);
		cpu_soft_ops.kick(r->cpu[0]);
		cpu_soft_ops.kick(r->cpu[1]);
	}
	os_event_done(&e);
}
TEST(soft_smp_atomics)
{
	struct rig *r = rig_new(2);
	struct os_thread *t, *k;

	RIG_LOAD(r, count);
	second_starts = r->s;
	CHECK_EQ(os_thread_start(&t, "second", run_second, r), 0);
	CHECK_EQ(os_thread_start(&k, "kicker", kicker, r), 0);
	do
		CHECK_EQ(rig_run(r), CPU_EXIT_KICK);
	while (r->s.run != CPU_HALTED);
	os_thread_join(t);
	*(uint8_t *)rig_ptr(r, 0x2f000) = 1;
	os_thread_join(k);
	CHECK_EQ(*(uint32_t *)rig_ptr(r, 0x20000), 200000);
	rig_free(r);
}

/* An access that crosses into the page that an empty entry is marked with was taken for a hit. */
TEST(empty_tlb_entries_match_no_access)
{
	static const unsigned sizes[] = {TLB_SIZE, TLBX_SIZE};

	for (unsigned k = 0; k < ARRAY_LEN(sizes); k++) {
		for (unsigned n = 0; n < sizes[k]; n++) {
			unsigned marked = TLB_NONE(n) >> 12 & (sizes[k] - 1);

			CHECK(marked != n && marked != ((n + 1) & (sizes[k] - 1)));
		}
	}
}

TEST_MAIN()
