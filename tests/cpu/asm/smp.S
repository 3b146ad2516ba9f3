/* SPDX-License-Identifier: MIT */
/* Several CPUs: atomic counters, a spin lock, message passing, store buffering with fences. %rdi = CPU number, %rsi = CPUs. */
#include "tests/cpu/asm/rt.h"
#define ROUNDS 20000
#define LINE(n) (SCRATCH + (n) * 64)
#define BARRIER(n)                                                                                 \
	lock incl LINE(n);                                                                         \
990:	pause;                                                                                     \
	cmpl	%r13d, LINE(n);                                                                    \
	jne	990b;
	CASE_BEGIN
	movl	%edi, %r12d
	movl	%esi, %r13d
	movl	%edi, %eax
	shll	$12, %eax
	movl	$STACK_TOP, %esp
	subl	%eax, %esp
	BARRIER(0)
	/* counters of all sizes */
	movl	$ROUNDS, %ecx
1:	lock incq LINE(1)
	lock addw $1, LINE(2)
	movl	$1, %eax
	lock xaddl %eax, LINE(3)
2:	movl	LINE(4), %eax
	lea	1(%rax), %edx
	lock cmpxchgl %edx, LINE(4)
	jne	2b
3:	movl	$1, %eax		/* spin lock around plain increments */
	xchgl	%eax, LINE(5)
	testl	%eax, %eax
	jz	4f
	pause
	jmp	3b
4:	incl	LINE(6)
	incl	LINE(6) + 4
	movl	$0, LINE(5)
	decl	%ecx
	jnz	1b
	/* a 16-byte counter: both halves move together */
	movl	$ROUNDS / 4, %esi
	movq	LINE(7), %rax
	movq	LINE(7) + 8, %rdx
1:	lea	1(%rax), %rbx
	lea	1(%rdx), %rcx
	lock cmpxchg16b LINE(7)
	jne	1b
	decl	%esi
	jnz	1b
	BARRIER(8)
	imull	$ROUNDS, %r13d, %eax
	EQ(LINE(1), %rax)
	EQ(LINE(3), %eax)
	EQ(LINE(4), %eax)
	EQ(LINE(6), %eax)
	EQ(LINE(6) + 4, %eax)
	EQ(LINE(2), %ax)
	shrl	$2, %eax
	EQ(LINE(7), %rax)
	EQ(LINE(7) + 8, %rax)

	/* store buffering: x = 1; fence; read y / y = 1; fence; read x: not both 0. CPUs 0 and 1 only. */
	cmpl	$2, %r12d
	jae	idle
	cmpl	$2, %r13d
	jb	idle
	movl	%r12d, %r14d
	shll	$6, %r14d		/* my line, the other's line */
	movl	%r14d, %r15d
	xorl	$64, %r15d
	movl	$1, %ecx
1:	movl	%ecx, LINE(12)(%r14)	/* ready for the round; the other is, too */
2:	cmpl	%ecx, LINE(12)(%r15)
	jb	2b
	movl	%ecx, LINE(14)(%r14)
	mfence
	movl	LINE(14)(%r15), %eax
	movl	%eax, LINE(16)(%r14)
	movl	%ecx, LINE(18)(%r14)	/* my result is there; the other's, too */
3:	cmpl	%ecx, LINE(18)(%r15)
	jb	3b
	cmpl	%ecx, LINE(16)(%r14)
	je	4f
	cmpl	%ecx, LINE(16)(%r15)
	je	4f
	FAIL
4:	incl	%ecx
	cmpl	$2000, %ecx
	jne	1b
idle:	BARRIER(9)
	testl	%r12d, %r12d
	jz	1f
2:	hlt				/* CPU 0 reports */
	jmp	2b
1:
CASE_END
