/* SPDX-License-Identifier: MIT */
/*
 * Run-time of the system cases: a GDT with user segments and a TSS, an IDT that records exceptions, and checks for them.
 *
 *	FAULTS(vector, error, insn...)	insn must raise the vector with this error code; execution goes on behind it.
 *
 * Handlers restore every register. After a fault, last_vec, last_err, last_rip, last_cs, last_flags, last_rsp, last_ss
 * tell about it, and %cr2.
 */
#ifndef RT_H
#define RT_H

#include "tests/cpu/asm/case.h"

#define SEL_CODE  0x08
#define SEL_DATA  0x10
#define SEL_UDATA 0x1b
#define SEL_UCODE 0x23
#define SEL_TSS	  0x28
#define NO_VEC	  0xff

/* Memory: the blob is at 1 MiB; cases build page tables and stacks here. */
#define PT_BASE	   0x400000
#define STACK_TOP  0x3f0000
#define IST1_TOP   0x3d0000
#define RSP0_TOP   0x3c0000
#define USER_STACK 0x3b0000
#define SCRATCH	   0x500000

#define SYSTEM_BEGIN                                                                               \
	CASE_BEGIN;                                                                                \
	movl	%edi, cpu_number(%rip);                                                            \
	movl	$STACK_TOP, %esp;                                                                  \
	call	rt_init;

#define FAULTS(vec, err, insn...)                                                                  \
	lea	880f(%rip), %rax;                                                                  \
	movq	%rax, resume(%rip);                                                                \
	movl	$NO_VEC, last_vec(%rip);                                                           \
881:	insn;                                                                                      \
880:	cmpl	$vec, last_vec(%rip);                                                              \
	je	882f;                                                                              \
	FAIL;                                                                                      \
882:	cmpl	$err, last_err(%rip);                                                              \
	je	883f;                                                                              \
	FAIL;                                                                                      \
883:	lea	881b(%rip), %rax;                                                                  \
	cmp	%rax, last_rip(%rip);                                                              \
	je	884f;                                                                              \
	FAIL;                                                                                      \
884:

/* Runs at CPL 3 from label on, on the user stack; leaves it by int $0x80, to the instruction behind. All segments flat. */
#define USER_MODE(label)                                                                           \
	pushq	$SEL_UDATA;                                                                        \
	pushq	$USER_STACK;                                                                       \
	pushq	$0x202;                                                                            \
	pushq	$SEL_UCODE;                                                                        \
	lea	label(%rip), %rax;                                                                 \
	pushq	%rax;                                                                              \
	lea	885f(%rip), %rax;                                                                  \
	movq	%rax, kernel_resume(%rip);                                                         \
	movq	%rsp, kernel_rsp(%rip);                                                            \
	addq	$40, kernel_rsp(%rip);                                                             \
	iretq;                                                                                     \
885:

	.balign	16
rt_stubs:
	.set	vecnum, 0
	.rept	256
	.balign	16
	.if	vecnum != 8 && (vecnum < 10 || vecnum > 14) && vecnum != 17
	pushq	$0
	.endif
	pushq	$vecnum
	jmp	rt_fault
	.set	vecnum, vecnum + 1
	.endr

/* Stack: vector, error, rip, cs, rflags, rsp, ss */
rt_fault:
	pushq	%rax
	incl	fault_count(%rip)
	movq	8(%rsp), %rax
	movl	%eax, last_vec(%rip)
	movq	16(%rsp), %rax
	movl	%eax, last_err(%rip)
	movq	24(%rsp), %rax
	movq	%rax, last_rip(%rip)
	movq	32(%rsp), %rax
	movq	%rax, last_cs(%rip)
	movq	40(%rsp), %rax
	movq	%rax, last_flags(%rip)
	movq	48(%rsp), %rax
	movq	%rax, last_rsp(%rip)
	movq	56(%rsp), %rax
	movq	%rax, last_ss(%rip)
	movq	%rsp, handler_rsp(%rip)
	cmpl	$0x80, last_vec(%rip)
	je	rt_leave_user
	movq	resume(%rip), %rax
	testq	%rax, %rax
	jz	rt_unexpected
	movq	%rax, 24(%rsp)
	movq	$0, resume(%rip)
	andl	$~0x10100, 40(%rsp)
	popq	%rax
	addq	$16, %rsp
	iretq
rt_leave_user:
	popq	%rax
	movq	kernel_rsp(%rip), %rsp
	jmp	*kernel_resume(%rip)
rt_unexpected:
	/* 1000000 + vector * 10000 + line is not known: the low half of the address must do. */
	movl	last_rip(%rip), %edi
	andl	$0xffff, %edi
	imull	$256, last_vec(%rip), %eax
	shll	$8, %eax
	orl	%eax, %edi
	orl	$0x1000000, %edi
	jmp	case_exit

/* GDT, TSS, IDT, data segments. Clobbers rax, rcx, rdx, rsi, rdi. */
rt_init:
	lea	rt_tss(%rip), %rax
	movw	%ax, rt_gdt+SEL_TSS+2(%rip)
	shrq	$16, %rax
	movb	%al, rt_gdt+SEL_TSS+4(%rip)
	movb	%ah, rt_gdt+SEL_TSS+7(%rip)
	movb	$0x89, rt_gdt+SEL_TSS+5(%rip)
	lea	rt_gdt(%rip), %rax
	movq	%rax, rt_gdtr+2(%rip)
	lgdt	rt_gdtr(%rip)
	pushq	$SEL_CODE
	lea	1f(%rip), %rax
	pushq	%rax
	lretq
1:	movl	$SEL_DATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	%eax, %fs
	movl	%eax, %gs
	movl	$SEL_TSS, %eax
	ltr	%ax
	lea	rt_idt(%rip), %rdi
	lea	rt_stubs(%rip), %rdx
	xorl	%ecx, %ecx
1:	movq	%rdx, %rax
	movw	%ax, (%rdi)
	movw	$SEL_CODE, 2(%rdi)
	movw	$0x8e00, 4(%rdi)
	shrq	$16, %rax
	movw	%ax, 6(%rdi)
	movq	$0, 8(%rdi)
	addq	$16, %rdx
	addq	$16, %rdi
	incl	%ecx
	cmpl	$256, %ecx
	jne	1b
	movb	$0xee, rt_idt+0x80*16+5(%rip)	/* int $0x80 and int3 from CPL 3 */
	movb	$0xee, rt_idt+3*16+5(%rip)
	lea	rt_idt(%rip), %rax
	movq	%rax, rt_idtr+2(%rip)
	lidt	rt_idtr(%rip)
	ret

/*
 * Page tables for the first 16 MiB at PT_BASE, 4 KiB pages, all writable and open to CPL 3; loads CR3. PTE of page n is at
 * PT_BASE + 0x3000 + 8 * n. Clobbers rax, rcx, rdi.
 */
#define PTE(addr) (PT_BASE + 0x3000 + ((addr) >> 12) * 8)
rt_paging:
	movl	$PT_BASE, %edi
	xorl	%eax, %eax
	movl	$0x3000 / 8, %ecx
	rep stosq
	movq	$PT_BASE + 0x1007, PT_BASE
	movq	$PT_BASE + 0x2007, PT_BASE + 0x1000
	movl	$PT_BASE + 0x3007, %eax
	movl	$PT_BASE + 0x2000, %edi
	movl	$8, %ecx
1:	movq	%rax, (%rdi)
	addq	$0x1000, %rax
	addq	$8, %rdi
	loop	1b
	movl	$7, %eax
	movl	$PT_BASE + 0x3000, %edi
	movl	$4096, %ecx
1:	movq	%rax, (%rdi)
	addq	$0x1000, %rax
	addq	$8, %rdi
	loop	1b
	movl	$PT_BASE, %eax
	movq	%rax, %cr3
	ret

	.data
	.balign	16
rt_gdt:	.quad	0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff
	.quad	0x0000890000000067, 0
rt_gdtr:
	.word	7 * 8 - 1
	.quad	0
rt_idtr:
	.word	4095
	.quad	0
	.balign	16
rt_tss:	.long	0
	.quad	RSP0_TOP, 0, 0
	.quad	0
	.quad	IST1_TOP, 0, 0, 0, 0, 0, 0
	.quad	0
	.word	0, 104
	.balign	8
last_rip:	.quad	0
last_cs:	.quad	0
last_flags:	.quad	0
last_rsp:	.quad	0
last_ss:	.quad	0
handler_rsp:	.quad	0
resume:		.quad	0
kernel_resume:	.quad	0
kernel_rsp:	.quad	0
last_vec:	.long	0
last_err:	.long	0
fault_count:	.long	0
cpu_number:	.long	0
	.balign	4096
rt_idt:	.skip	4096
	.text
#endif
