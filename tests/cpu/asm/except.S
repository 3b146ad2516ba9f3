/* SPDX-License-Identifier: MIT */
/* Exceptions: vectors, error codes, return addresses, IST, privilege changes, double faults (SDM vol. 3 ch. 6). */
#include "tests/cpu/asm/rt.h"
SYSTEM_BEGIN
	/* faults */
	xorl	%ecx, %ecx
	FAULTS(0, 0, divl %ecx)
	movl	$2, %ecx
	movl	$2, %edx
	FAULTS(0, 0, divl %ecx)
	FAULTS(6, 0, ud2)
	FAULTS(6, 0, .byte 0xc5, 0xf8, 0x77)		/* vzeroupper */
	FAULTS(6, 0, .byte 0xf0, 0x90)			/* lock nop */
	FAULTS(6, 0, .byte 0xf0, 0x01, 0xc0)		/* lock add %eax, %eax */
	movabs	$0x8000000000000000, %rbx
	FAULTS(13, 0, movl (%rbx), %ecx)
	REAL(FAULTS(13, 0, jmp *%rbx))
	movq	%rsp, %rsi
	movq	%rbx, %rbp
	REAL(FAULTS(12, 0, movl (%rbp), %ecx))
	movl	$SCRATCH + 8, %ebx
	REAL(FAULTS(13, 0, movaps (%rbx), %xmm0))
	REAL(FAULTS(13, 0, movaps %xmm0, (%rbx)))
	REAL(FAULTS(13, 0, addps (%rbx), %xmm0))
	movl	$0x39, %ecx
	FAULTS(13, 0x38, movl %ecx, %ds)		/* beyond the GDT's limit */
	movl	$SEL_TSS, %ecx
	FAULTS(13, SEL_TSS, movl %ecx, %es)
	FAULTS(13, SEL_TSS, ltr %cx)			/* busy */
	movb	$0x09, rt_gdt+SEL_TSS+5(%rip)
	FAULTS(11, SEL_TSS, ltr %cx)
	movb	$0x8b, rt_gdt+SEL_TSS+5(%rip)
	movl	$0xdead, %ecx
	FAULTS(13, 0, rdmsr)
	FAULTS(13, 0, wrmsr)
	movq	%cr4, %rcx
	btsq	$40, %rcx
	REAL(FAULTS(13, 0, movq %rcx, %cr4))
	movl	$1, %ecx
	FAULTS(13, 0, movq %rcx, %cr0)			/* paging cannot be turned off here */

	/* traps: the address behind; INT n needs a gate that exists */
	movl	$NO_VEC, last_vec(%rip)
	lea	1f(%rip), %rax
	movq	%rax, resume(%rip)
	int3
1:	EQL(last_vec(%rip), $3)
	lea	1b(%rip), %rax
	EQ(last_rip(%rip), %rax)
	movb	$0x0e, rt_idt+0x40*16+5(%rip)
	REAL(FAULTS(11, 0x40 * 8 + 2, int $0x40))
	movb	$0x8c, rt_idt+0x40*16+5(%rip)
	REAL(FAULTS(13, 0x40 * 8 + 2, int $0x40))

	/* the frame: aligned stack, RF set for a fault, selector, flags */
	movl	$STACK_TOP - 24, %esp
	FAULTS(6, 0, ud2)
	movq	handler_rsp(%rip), %rax
	EQ(%rax, $(STACK_TOP - 32 - 64))
	movq	last_rsp(%rip), %rax
	EQ(%rax, $(STACK_TOP - 24))
	movq	last_flags(%rip), %rax
	andl	$0x10300, %eax
	EQ(%eax, $0x10000)
	movq	last_cs(%rip), %rax
	EQ(%eax, $SEL_CODE)

	/* single step: #DB behind the instruction, TF in the frame, DR6.BS */
	xorl	%eax, %eax
	movq	%rax, %dr6
	lea	2f(%rip), %rcx
	movq	%rcx, resume(%rip)
	pushfq
	orl	$0x100, (%rsp)
	popfq
	nop
1:	nop
2:	EQL(last_vec(%rip), $1)
	lea	1b(%rip), %rax
	EQ(last_rip(%rip), %rax)
	movq	%dr6, %rax
	andl	$0x4000, %eax
	EQ(%eax, $0x4000)

	/* IST: a fresh stack whatever RSP is */
	movb	$1, rt_idt+6*16+4(%rip)
	FAULTS(6, 0, ud2)
	movq	handler_rsp(%rip), %rax
	EQ(%rax, $(IST1_TOP - 64))
	movb	$0, rt_idt+6*16+4(%rip)

	/* a fault while a fault is delivered: #DF, on its own stack */
	movb	$1, rt_idt+8*16+4(%rip)
	movl	%esp, %esi
	movabs	$0x7ffffff00000, %rsp
	FAULTS(8, 0, ud2)
	movl	%esi, %esp
	movb	$0, rt_idt+8*16+4(%rip)

	/* CPL 3 */
	call	rt_paging
	USER_MODE(user1)
	EQL(last_vec(%rip), $0x80)
	movq	last_ss(%rip), %rax
	EQ(%eax, $SEL_UDATA)
	movq	handler_rsp(%rip), %rax
	EQ(%rax, $(RSP0_TOP - 64))
	cmpl	$0, user_failed(%rip)
	je	1f
	FAIL
1:	mov	%cs, %eax
	EQ(%eax, $SEL_CODE)
	/* IRETQ refuses a bad frame */
	pushq	$SEL_DATA
	pushq	$STACK_TOP
	pushq	$0x2
	pushq	$SEL_DATA
	pushq	$0
	FAULTS(13, SEL_DATA, iretq)
CASE_END

/* A check at CPL 3 stores its line. */
#define UFAULTS(vec, err, insn...)                                                                 \
	lea	880f(%rip), %rax;                                                                  \
	movq	%rax, resume(%rip);                                                                \
	movl	$NO_VEC, last_vec(%rip);                                                           \
881:	insn;                                                                                      \
880:	cmpl	$vec, last_vec(%rip);                                                              \
	jne	882f;                                                                              \
	cmpl	$err, last_err(%rip);                                                              \
	jne	882f;                                                                              \
	lea	881b(%rip), %rax;                                                                  \
	cmp	%rax, last_rip(%rip);                                                              \
	je	883f;                                                                              \
882:	movl	$__LINE__, user_failed(%rip);                                                      \
883:
user1:
	UFAULTS(13, 0, hlt)
	UFAULTS(13, 0, cli)
	UFAULTS(13, 0, inb $0x80)
	UFAULTS(13, 0, movq %cr0, %rbx)
	UFAULTS(13, 0, movq %rbx, %cr3)
	UFAULTS(13, 0, lgdt rt_gdtr(%rip))
	UFAULTS(13, 0, invlpg (%rbx))
	movl	$0xc0000080, %ecx
	UFAULTS(13, 0, rdmsr)
	REAL(UFAULTS(13, 0x40 * 8 + 2, int $0x40))
	REAL(UFAULTS(13, 14 * 8 + 2, int $14))
	movl	$SEL_DATA, %ebx
	UFAULTS(13, SEL_DATA, movl %ebx, %ds)
	pushfq
	andl	$~0x3200, (%rsp)
	popfq			/* IF and IOPL stay as they are */
	pushfq
	popq	%rbx
	andl	$0x3200, %ebx
	cmpl	$0x200, %ebx
	je	1f
	movl	$__LINE__, user_failed(%rip)
1:	movl	%cs, %ebx
	cmpl	$SEL_UCODE, %ebx
	je	1f
	movl	$__LINE__, user_failed(%rip)
1:	int	$0x80

	.data
user_failed:
	.long	0
