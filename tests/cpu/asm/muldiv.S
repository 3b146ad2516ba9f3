/* SPDX-License-Identifier: MIT */
/* Multiplication and division in all sizes. Faults are in except.S. */
#include "tests/cpu/asm/case.h"
CASE_BEGIN
	mov	$0xff, %al
	mov	$0xff, %bl
	mul	%bl
	FLAGS(CF | OF, CF | OF)
	EQ(%ax, $0xfe01)
	mov	$2, %al
	mul	%al
	FLAGS(CF | OF, 0)
	mov	$-1, %eax
	mov	$-1, %ebx
	mul	%ebx
	EQ(%eax, $1)
	EQ(%edx, $0xfffffffe)
	mov	$-1, %rax
	mul	%rax
	EQ64(%rax, 1)
	EQ64(%rdx, 0xfffffffffffffffe)
	mov	$-1, %rax
	imul	%rax
	FLAGS(CF | OF, 0)
	EQ64(%rax, 1)
	EQ64(%rdx, 0)
	mov	$-128, %al
	imul	%al
	FLAGS(CF | OF, CF | OF)
	EQ(%ax, $0x4000)
	mov	$0x10000, %eax
	imul	$0x10000, %eax, %ecx
	FLAGS(CF | OF, CF | OF)
	EQ(%ecx, $0)
	mov	$-3, %rcx
	imul	$7, %rcx, %rcx
	FLAGS(CF | OF, 0)
	EQ64(%rcx, -21)
	mov	$300, %ax
	imul	$300, %ax
	FLAGS(CF | OF, CF | OF)
	EQ(%ax, $(90000 & 0xffff))

	mov	$1000, %ax
	mov	$7, %bl
	div	%bl
	EQ(%al, $142)
	EQ(%ah, $6)
	mov	$-800, %ax
	mov	$7, %bl
	idiv	%bl
	EQ(%al, $(-114 & 0xff))
	EQ(%ah, $(-2 & 0xff))
	mov	$0, %edx
	mov	$1000000007, %eax
	mov	$1000, %ecx
	div	%ecx
	EQ(%eax, $1000000)
	EQ(%edx, $7)
	mov	$1, %edx
	xor	%eax, %eax
	mov	$0x10, %rcx
	div	%rcx
	EQ64(%rax, 0x1000000000000000)
	mov	$-7, %rax
	cqto
	mov	$2, %ecx
	idiv	%rcx
	EQ64(%rax, -3)
	EQ64(%rdx, -1)
	mov	$0x80000000, %eax
	cltd
	EQ(%edx, $-1)
	cltq
	EQ64(%rax, 0xffffffff80000000)
	mov	$0x80, %al
	cbtw
	EQ(%ax, $0xff80)
CASE_END
