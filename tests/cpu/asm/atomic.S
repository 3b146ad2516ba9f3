/* SPDX-License-Identifier: MIT */
/* Locked and exchanging instructions on one CPU. Contention is in smp.S. */
#include "tests/cpu/asm/case.h"
CASE_BEGIN
	sub	$128, %rsp
	and	$-64, %rsp
	movq	$5, (%rsp)
	mov	$3, %eax
	lock xadd %eax, (%rsp)
	EQ(%eax, $5)
	mov	(%rsp), %eax
	EQ(%eax, $8)
	mov	$8, %eax
	mov	$77, %ecx
	lock cmpxchg %ecx, (%rsp)
	FLAGS(ZF, ZF)
	mov	$1, %eax
	lock cmpxchg %ecx, (%rsp)
	FLAGS(ZF | CF, CF)	/* 1 - 77 */
	EQ(%eax, $77)
	mov	$9, %ecx
	xchg	%ecx, (%rsp)
	EQ(%ecx, $77)
	lock decq (%rsp)
	lock orl $0x100, (%rsp)
	lock btsl $31, (%rsp)
	FLAGS(CF, 0)
	lock negb (%rsp)
	mov	(%rsp), %rax
	EQ64(%rax, 0x800001f8)

	/* cmpxchg8b, cmpxchg16b */
	movq	$1, (%rsp)
	movq	$2, 8(%rsp)
	mov	$1, %eax
	mov	$2, %edx
	mov	$3, %ebx
	mov	$4, %ecx
	lock cmpxchg16b (%rsp)
	FLAGS(ZF, ZF)
	mov	8(%rsp), %rax
	EQ64(%rax, 4)
	mov	$-1, %rdx
	lock cmpxchg16b (%rsp)
	FLAGS(ZF, 0)
	EQ64(%rax, 3)
	EQ64(%rdx, 4)
	mov	$3, %eax
	xor	%edx, %edx
	cmpxchg8b (%rsp)
	FLAGS(ZF, ZF)
	mov	(%rsp), %rax
	EQ64(%rax, 0x0000000400000003)

	/* across a cache line and with the destination in a register */
	lea	60(%rsp), %rdi
	movq	$0x100, (%rdi)
	lock addq $-1, (%rdi)
	mov	(%rdi), %rax
	EQ64(%rax, 0xff)
	mov	$7, %ecx
	mov	$8, %edx
	xchg	%rcx, %rdx
	EQ64(%rcx, 8)
	xadd	%ecx, %edx
	EQ64(%rdx, 15)
	EQ64(%rcx, 7)
CASE_END
