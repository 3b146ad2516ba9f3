/* SPDX-License-Identifier: MIT */
/* String instructions: directions, counts, conditions, address sizes. */
#include "tests/cpu/asm/case.h"
CASE_BEGIN
	sub	$256, %rsp
	mov	%rsp, %rbp
	/* rep stos, movs */
	mov	%rbp, %rdi
	mov	$64, %ecx
	mov	$0x5a, %al
	rep stosb
	EQ64(%rcx, 0)
	lea	64(%rbp), %rax
	EQ(%rdi, %rax)
	mov	%rbp, %rsi
	mov	$7, %ecx
	rep movsq
	movl	64+52(%rbp), %eax
	EQ(%eax, $0x5a5a5a5a)
	/* overlapping copy, forward by one: repeats the first byte */
	movb	$0x11, (%rbp)
	mov	%rbp, %rsi
	lea	1(%rbp), %rdi
	mov	$20, %ecx
	rep movsb
	movzbl	20(%rbp), %eax
	EQ(%eax, $0x11)
	movzbl	21(%rbp), %eax
	EQ(%eax, $0x5a)
	/* backwards */
	std
	lea	28(%rbp), %rsi
	lea	32(%rbp), %rdi
	mov	$3, %ecx
	rep movsl
	cld
	lea	16(%rbp), %rax
	EQ(%rsi, %rax)
	/* a count of 0 does nothing, not even to flags */
	xor	%ecx, %ecx
	pushq	$0x8d5
	popfq
	repe cmpsb
	FLAGS(ALL, ALL)
	EQ(%rsi, %rax)

	/* scas, cmps stop where they should */
	lea	text(%rip), %rdi
	mov	$-1, %rcx
	xor	%eax, %eax
	repne scasb
	FLAGS(ZF, ZF)
	not	%rcx
	EQ64(%rcx, 12)
	lea	text(%rip), %rsi
	lea	text2(%rip), %rdi
	mov	$11, %ecx
	repe cmpsb
	FLAGS(ZF | CF, CF)
	EQ64(%rcx, 4)
	/* lods; an address size of 32 bits uses ECX and clears the upper halves */
	lea	text(%rip), %rsi
	lodsw
	EQ(%ax, $0x6568)
	lodsb
	EQ(%al, $'l')
	mov	$0xffffffff00000000, %rcx
	mov	$-1, %rsi
	addr32 rep lodsb
	EQ64(%rsi, -1)
	/* xlat, and stos's accumulator sizes */
	lea	text(%rip), %rbx
	mov	$4, %al
	xlat
	EQ(%al, $'o')
	mov	%rbp, %rdi
	mov	$0x1122334455667788, %rax
	stosl
	stosw
	mov	(%rbp), %rax
	shl	$16, %rax
	EQ64(%rax, 0x7788556677880000)
CASE_END
	.section .rodata
text:	.asciz	"hello world"
text2:	.asciz	"hello xorld"
