/* SPDX-License-Identifier: MIT */
/* Code that changes itself: in the same block, in the same page, through another mapping, by a string instruction. */
#include "tests/cpu/asm/rt.h"
SYSTEM_BEGIN
	/* the very next instruction, a loop that patches itself each turn */
	movl	$1, %ecx
	xorl	%esi, %esi
1:	movb	%cl, 2f+1(%rip)
2:	movl	$0, %eax		/* imm32's low byte becomes %cl */
	addl	%eax, %esi
	incl	%ecx
	cmpl	$101, %ecx
	jne	1b
	EQ(%esi, $5050)

	/* a function in a page of its own, rewritten between calls */
	movl	$SCRATCH, %edi
	xorl	%esi, %esi
	movl	$100, %ecx
1:	movb	$0xb8, (%rdi)		/* mov $ecx, %eax; ret */
	movl	%ecx, 1(%rdi)
	movb	$0xc3, 5(%rdi)
	call	*%rdi
	addl	%eax, %esi
	loop	1b
	EQ(%esi, $5050)

	/* a branch target appears: jmp +0 becomes jmp +1 */
	movl	$20, %ecx
	xorl	%esi, %esi
1:	xorb	$2, 2f+1(%rip)		/* skips the two-byte inc, or not */
2:	jmp	3f
3:	incl	%esi
	loop	1b
	EQ(%esi, $10)

	/* through another mapping of the page */
	call	rt_paging
	movq	$SCRATCH + 7, PTE(SCRATCH + 0x5000)
	movq	%cr3, %rax
	movq	%rax, %cr3
	movl	$SCRATCH, %edi
	movl	$SCRATCH + 0x5000, %ebx
	xorl	%esi, %esi
	movl	$100, %ecx
1:	movl	%ecx, 1(%rbx)
	call	*%rdi
	addl	%eax, %esi
	loop	1b
	EQ(%esi, $5050)

	/* by rep movs, the code across two pages */
	movl	$50, %edx
	xorl	%ebx, %ebx
1:	movb	%dl, 9f+1(%rip)
	lea	9f(%rip), %rsi
	movl	$SCRATCH + 0xffd, %edi
	movl	$6, %ecx
	rep movsb
	movl	$SCRATCH + 0xffd, %edi
	call	*%rdi
	addl	%eax, %ebx
	decl	%edx
	jnz	1b
	EQ(%ebx, $1275)

	/* data beside code in one page does not disturb, nor does it go unseen */
	movl	$1000, %ecx
	xorl	%esi, %esi
1:	addl	$1, counter(%rip)
	addl	counter(%rip), %esi
	loop	1b
	EQ(%esi, $500500)
	jmp	out
	.balign	8
counter:
	.long	0
9:	movl	$0, %eax
	ret
out:
CASE_END
