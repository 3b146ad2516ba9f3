/* SPDX-License-Identifier: MIT */
/* Shifts and rotates: counts are masked, a count of 0 leaves the flags, OF is defined for a count of 1. */
#include "tests/cpu/asm/case.h"
CASE_BEGIN
	mov	$0x80000001, %eax
	shl	$1, %eax
	FLAGS(CF | PF | ZF | SF | OF, CF | OF)
	EQ(%eax, $2)
	mov	$0x80000001, %eax
	sar	$1, %eax
	FLAGS(CF | PF | ZF | SF | OF, CF | PF | SF)
	EQ(%eax, $0xc0000000)
	mov	$0x80000001, %eax
	shr	$1, %eax
	FLAGS(CF | PF | ZF | SF | OF, CF | PF | OF)
	EQ(%eax, $0x40000000)

	/* masked to 0: nothing changes but the upper half of a 32-bit operand's register */
	mov	$-1, %rax
	mov	$32, %cl
	pushq	$0x8d5
	popfq
	shl	%cl, %eax
	FLAGS(ALL, ALL)
	EQ64(%rax, 0xffffffff)
	mov	$64, %cl
	mov	$-1, %rax
	pushq	$2
	popfq
	shr	%cl, %rax
	FLAGS(ALL, 0)
	EQ64(%rax, -1)

	/* bytes shift by up to 31 */
	mov	$0xff, %al
	mov	$9, %cl
	shl	%cl, %al
	FLAGS(ZF, ZF)
	EQ(%al, $0)
	mov	$0x80, %al
	mov	$31, %cl
	sar	%cl, %al
	FLAGS(CF | SF, CF | SF)
	EQ(%al, $0xff)

	/* rotates touch CF and OF only */
	pushq	$0xd4
	popfq
	mov	$0x81, %al
	rol	$1, %al
	FLAGS(ALL, ALL)
	EQ(%al, $3)
	mov	$3, %al
	ror	$1, %al
	FLAGS(CF | OF, CF | OF)
	EQ(%al, $0x81)
	stc
	mov	$0x80, %al
	rcl	$1, %al
	FLAGS(CF | OF, CF | OF)
	EQ(%al, $1)
	clc
	mov	$1, %al
	rcr	$1, %al
	FLAGS(CF | OF, CF)
	EQ(%al, $0)
	stc
	mov	$0x1234, %ax
	mov	$17, %cl	/* modulo 17: a whole turn */
	rcl	%cl, %ax
	FLAGS(CF, CF)
	EQ(%ax, $0x1234)
	stc
	mov	$0, %rax
	mov	$33, %cl
	rcr	%cl, %rax
	EQ64(%rax, 0x80000000)

	/* double shifts */
	mov	$0x12345678, %eax
	mov	$0x9abcdef0, %edx
	shld	$8, %edx, %eax
	FLAGS(CF, 0)
	EQ(%eax, $0x3456789a)
	mov	$0x12345678, %eax
	shrd	$12, %edx, %eax
	FLAGS(CF, 0)
	EQ(%eax, $0xef012345)
	mov	$1, %rax
	mov	$-1, %rdx
	mov	$63, %cl
	shrd	%cl, %rdx, %rax
	EQ64(%rax, 0xfffffffffffffffe)

	/* bit tests: register offsets are masked, memory offsets are not */
	mov	$5, %eax
	mov	$34, %ecx
	bt	%ecx, %eax
	FLAGS(CF, CF)
	bts	$1, %eax
	FLAGS(CF, 0)
	EQ(%eax, $7)
	btr	$0, %eax
	FLAGS(CF, CF)
	btc	$31, %eax
	EQ(%eax, $0x80000006)
	lea	-64(%rsp), %rsp
	movq	$0, (%rsp)
	movq	$0, 8(%rsp)
	mov	$100, %ecx
	bts	%ecx, (%rsp)
	mov 12(%rsp), %eax; EQ(%eax, $0x10)
	mov	$-1, %rcx
	movq	$0, 16(%rsp)
	bts	%rcx, 24(%rsp)
	mov	16(%rsp), %rax
	EQ64(%rax, 0x8000000000000000)
	lea	64(%rsp), %rsp

	/* scans */
	mov	$0x50, %eax
	bsf	%eax, %ecx
	EQ(%ecx, $4)
	bsr	%eax, %ecx
	EQ(%ecx, $6)
	xor	%eax, %eax
	bsf	%eax, %ecx
	FLAGS(ZF, ZF)
	bswap	%rax
	mov	$0x0102030405060708, %rax
	bswap	%rax
	EQ64(%rax, 0x0807060504030201)
	mov	$0xff00ff, %eax
	popcnt	%eax, %eax
	FLAGS(ALL, 0)
	EQ(%eax, $16)
CASE_END
