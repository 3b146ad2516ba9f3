/* SPDX-License-Identifier: MIT */
/* 4-level paging: rights, error codes, accessed and dirty bits, large pages, TLB invalidation (SDM vol. 3 ch. 4). */
#include "tests/cpu/asm/rt.h"
#define EFER 0xc0000080
#define PGF(err, addr, insn...)                                                                     \
	FAULTS(14, err, insn);                                                                     \
	movq	%cr2, %rax;                                                                        \
	EQ(%rax, $(addr))
/* A fetch that faults: the saved RIP is the target. */
#define PGX(err, addr)                                                                             \
	lea	880f(%rip), %rax;                                                                  \
	movq	%rax, resume(%rip);                                                                \
	movl	$NO_VEC, last_vec(%rip);                                                           \
	jmp	*%rbx;                                                                             \
880:	EQL(last_vec(%rip), $14);                                                                  \
	EQL(last_err(%rip), $err);                                                                 \
	movq	last_rip(%rip), %rax;                                                              \
	EQ(%rax, $(addr));                                                                         \
	movq	%cr2, %rax;                                                                        \
	EQ(%rax, $(addr))
#define P 0x600000
SYSTEM_BEGIN
	call	rt_paging
	movl	$EFER, %ecx
	rdmsr
	orl	$0x800, %eax		/* NXE */
	wrmsr
	movq	%cr0, %rax
	orl	$0x10000, %eax		/* WP */
	movq	%rax, %cr0

	/* accessed and dirty */
	movl	$P, %ebx
	movl	PTE(P), %eax
	EQ(%eax, $(P + 7))
	movl	(%rbx), %eax
	movl	PTE(P), %eax
	EQ(%eax, $(P + 0x27))
	movl	$1, (%rbx)
	movl	PTE(P), %eax
	EQ(%eax, $(P + 0x67))
	/* a locked compare that fails writes too, as far as the page goes */
	movl	$0x12345678, %eax
	movl	$P + 0x1000, %ecx
	lock cmpxchgl %ecx, (%rcx)
	movl	PTE(P + 0x1000), %eax
	EQ(%eax, $(P + 0x1067))

	/* not present */
	movq	$0, PTE(P)
	invlpg	(%rbx)
	PGF(0, P, movl (%rbx), %ecx)
	PGF(2, P, movl %ecx, (%rbx))
	REAL(PGF(2, P, addl %ecx, (%rbx)))
	PGX(0x10, P)
	/* a crossing access names the first byte that fails, and writes nothing before it */
	movl	$0x55555555, P - 4
	PGF(2, P, movq %rbx, -4(%rbx))
	movl	P - 4, %eax
	EQ(%eax, $0x55555555)
	PGF(0, P, movups -8(%rbx), %xmm0)
	/* a string instruction stops in the middle */
	movl	$P - 8, %edi
	movl	$4, %ecx
	PGF(2, P, rep stosl)
	EQ(%ecx, $2)
	EQ(%edi, $P)

	/* read-only, with and without WP */
	movq	$P + 1, PTE(P)
	invlpg	(%rbx)
	movl	(%rbx), %eax
	PGF(3, P, movl %ecx, (%rbx))
	PGF(3, P, xchgl %ecx, (%rbx))
	movq	%cr0, %rax
	andl	$~0x10000, %eax
	movq	%rax, %cr0
	movl	$7, (%rbx)
	movq	%cr0, %rax
	orl	$0x10000, %eax
	movq	%rax, %cr0
	PGF(3, P, movl %ecx, (%rbx))
	/* read-only by an upper level */
	movq	$P + 7, PTE(P)
	andl	$~2, PT_BASE + 0x2000 + (P >> 21) * 8
	movq	%cr3, %rax
	movq	%rax, %cr3
	PGF(3, P, movl %ecx, (%rbx))
	orl	$2, PT_BASE + 0x2000 + (P >> 21) * 8
	movq	%cr3, %rax
	movq	%rax, %cr3
	movl	%ecx, (%rbx)

	/* no execution, and reserved bits */
	movb	$0xc3, (%rbx)
	call	*%rbx
	btsq	$63, PTE(P)
	invlpg	(%rbx)
	movl	(%rbx), %eax
	PGX(0x11, P)
	btrq	$63, PTE(P)
	btsq	$51, PTE(P)
	invlpg	(%rbx)
	REAL(PGF(9, P, movl (%rbx), %ecx))
	REAL(PGF(11, P, movl %ecx, (%rbx)))
	btrq	$51, PTE(P)
	invlpg	(%rbx)

	/* a stale TLB entry may live until INVLPG, never after it */
	movl	$0x11111111, P + 0x2000
	movl	$0x22222222, P + 0x3000
	movl	P + 0x2000, %eax
	movq	$P + 0x3067, PTE(P + 0x2000)
	invlpg	P + 0x2000
	movl	P + 0x2000, %eax
	EQ(%eax, $0x22222222)
	movq	$P + 0x2067, PTE(P + 0x2000)
	movq	%cr3, %rax
	movq	%rax, %cr3
	movl	P + 0x2000, %eax
	EQ(%eax, $0x11111111)
	/* global pages go with CR4.PGE */
	movq	%cr4, %rax
	orl	$0x80, %eax
	movq	%rax, %cr4
	movq	$P + 0x2167, PTE(P + 0x2000)
	invlpg	P + 0x2000
	movl	P + 0x2000, %eax
	movq	$P + 0x3167, PTE(P + 0x2000)
	movq	%cr4, %rax
	andl	$~0x80, %eax
	movq	%rax, %cr4
	movl	P + 0x2000, %eax
	EQ(%eax, $0x22222222)

	/* the same page at two addresses */
	movq	$P + 0x2067, PTE(P + 0x2000)
	movq	$P + 0x2067, PTE(P + 0x4000)
	movq	%cr3, %rax
	movq	%rax, %cr3
	movl	$0x33333333, P + 0x4000
	movl	P + 0x2000, %eax
	EQ(%eax, $0x33333333)

	/* a 2 MiB page: dirty in the directory; INVLPG anywhere in it */
	movq	$0x800000 + 0x87, PT_BASE + 0x2000 + 4 * 8
	movq	%cr3, %rax
	movq	%rax, %cr3
	movl	$9, 0x812345
	movl	PT_BASE + 0x2000 + 4 * 8, %eax
	EQ(%eax, $(0x800000 + 0xe7))
	movq	$0xa00000 + 0x87, PT_BASE + 0x2000 + 4 * 8
	invlpg	0x900000
	movl	$0x44444444, 0xa12345
	movl	0x812345, %eax
	EQ(%eax, $0x44444444)
	movq	$0x802000 + 0x87, PT_BASE + 0x2000 + 4 * 8	/* a misaligned one is reserved bits */
	invlpg	0x800000
	REAL(FAULTS(14, 9, movl 0x812345, %ecx))

	/* user rights */
	movq	$P + 0x5003, PTE(P + 0x5000)
	movq	$P + 0x6005, PTE(P + 0x6000)
	movq	$0, PTE(P + 0x7000)
	movq	%cr3, %rax
	movq	%rax, %cr3
	movl	P + 0x5000, %eax
	USER_MODE(user1)
	EQL(last_vec(%rip), $0x80)
	movl	user_failed(%rip), %eax
	EQ(%eax, $0)

	/* a non-canonical CR3 and a bad upper level */
	movq	$0, PT_BASE + 8 * 3
	movabs	$0x18000000000, %rbx
	FAULTS(14, 0, movl (%rbx), %ecx)
	movq	%cr2, %rax
	EQ(%rax, %rbx)
CASE_END

#define UPF(err, addr, insn...)                                                                    \
	lea	880f(%rip), %rax;                                                                  \
	movq	%rax, resume(%rip);                                                                \
	movl	$NO_VEC, last_vec(%rip);                                                           \
881:	insn;                                                                                      \
880:	cmpl	$14, last_vec(%rip);                                                               \
	jne	882f;                                                                              \
	cmpl	$err, last_err(%rip);                                                              \
	je	883f;                                                                              \
882:	movl	$__LINE__, user_failed(%rip);                                                      \
883:
user1:
	UPF(5, P + 0x5000, movl P + 0x5000, %ecx)
	UPF(7, P + 0x5000, movl %ecx, P + 0x5000)
	UPF(7, P + 0x6000, movl %ecx, P + 0x6000)
	UPF(4, P + 0x7000, movl P + 0x7000, %ecx)
	UPF(6, P + 0x7000, movl %ecx, P + 0x7000)
	movl	$P + 0x5000, %ebx
	UPF(0x15, P + 0x5000, jmp *%rbx)
	movl	P + 0x6000, %ecx
	int	$0x80

	.data
user_failed:
	.long	0
