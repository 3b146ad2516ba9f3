/* SPDX-License-Identifier: MIT */
/* Flags of integer arithmetic and logic (SDM vol. 1 §3.4.3.1, vol. 2). */
#include "tests/cpu/asm/case.h"
CASE_BEGIN
	/* add: carry, auxiliary carry, zero */
	mov	$0xff, %al
	add	$1, %al
	FLAGS(ALL, CF | PF | AF | ZF)
	mov	$0x7f, %al
	add	$1, %al
	FLAGS(ALL, AF | SF | OF)
	EQ(%al, $0x80)
	mov	$0x7fffffff, %eax
	add	$1, %eax
	FLAGS(ALL, PF | AF | SF | OF)
	mov	$-1, %rax
	add	$1, %rax
	FLAGS(ALL, CF | PF | AF | ZF)

	/* adc, sbb with carry in */
	stc
	mov	$0xff, %al
	mov	$0xff, %bl
	adc	%bl, %al
	FLAGS(ALL, CF | PF | AF | SF)
	EQ(%al, $0xff)
	stc
	mov	$0, %eax
	sbb	%eax, %eax
	FLAGS(ALL, CF | PF | AF | SF)
	EQ(%eax, $-1)
	clc
	mov	$0x80, %al
	sbb	$1, %al
	FLAGS(ALL, AF | OF)

	/* inc and dec keep the carry */
	stc
	mov	$0xff, %al
	inc	%al
	FLAGS(ALL, CF | PF | AF | ZF)
	clc
	mov	$0x80, %al
	dec	%al
	FLAGS(ALL, AF | OF)
	stc
	mov	$1, %rax
	dec	%rax
	FLAGS(ALL, CF | PF | ZF)

	/* neg, not, cmp, sub */
	mov	$0x80, %al
	neg	%al
	FLAGS(ALL, CF | SF | OF)
	xor	%eax, %eax
	neg	%eax
	FLAGS(ALL, PF | ZF)
	stc
	mov	$0, %al
	not	%al
	FLAGS(CF, CF)
	EQ(%al, $0xff)
	mov	$1, %al
	cmp	$2, %al
	FLAGS(ALL, CF | PF | AF | SF)

	/* logic clears CF and OF; parity is of the low byte only */
	mov	$0x1ff, %eax
	stc
	and	$0x1ff, %eax
	FLAGS(CF | PF | ZF | SF | OF, PF)
	mov	$0x100, %eax
	test	%eax, %eax
	FLAGS(CF | PF | ZF | SF | OF, PF)
	mov	$0x80000001, %eax
	or	$0, %eax
	FLAGS(CF | PF | ZF | SF | OF, SF)

	/* 32-bit results clear the upper half, 8- and 16-bit ones keep it */
	mov	$-1, %rax
	xor	%eax, %eax
	EQ64(%rax, 0)
	mov	$-1, %rax
	mov	$0x12, %ah
	EQ64(%rax, 0xffffffffffff12ff)
	mov	$-1, %rax
	mov	$0x1234, %ax
	EQ64(%rax, 0xffffffffffff1234)
	mov	$-1, %rax
	mov	$5, %ecx
	cmp	$5, %ecx
	cmovne	%ecx, %eax	/* not taken: still clears the upper half */
	EQ64(%rax, 0xffffffff)

	/* lahf, sahf, pushf, popf */
	mov	$0xd5, %ah
	sahf
	FLAGS(CF | PF | AF | ZF | SF, CF | PF | AF | ZF | SF)
	xor	%eax, %eax
	add	$0, %eax
	lahf
	EQ(%ah, $0x46)
	pushq	$0x8d5
	popfq
	FLAGS(ALL, ALL)
	stc
	cmc
	FLAGS(CF, 0)

	/* setcc, jcc on every condition of one comparison: 3 < 5, unsigned and signed; -1 > 1 unsigned only */
	mov	$3, %eax
	cmp	$5, %eax
	setb	%bl
	setl	%bh
	setbe	%cl
	setg	%ch
	EQ(%bx, $0x0101)
	EQ(%cl, $1)
	EQ(%ch, $0)
	mov	$-1, %eax
	cmp	$1, %eax
	jb	fail1
	jge	fail1
	jno	1f
fail1:	FAIL
1:	xor	%ecx, %ecx
	jrcxz	1f
	FAIL
1:	mov	$3, %ecx
	xor	%eax, %eax
1:	inc	%eax
	loop	1b
	EQ(%eax, $3)
CASE_END
