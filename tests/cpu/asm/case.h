/* SPDX-License-Identifier: MIT */
/*
 * The little language of the assembly cases. A case file is
 *
 *	#include "tests/cpu/asm/case.h"
 *	CASE_BEGIN
 *	mov $1, %eax
 *	EQ %eax, $1
 *	CASE_END
 *
 * and is built as a static Linux program (CASE_NATIVE) and as a flat blob for a bare virtual machine (tests/cpu/run-flat.c):
 * loaded at 1 MiB, entered in 64-bit mode at CPL 0 with the first 16 MiB mapped one to one (2 MiB pages, writable,
 * executable, not user), interrupts off, SSE on, %rdi = number of this CPU, %rsi = CPUs, %rdx = 1 when the host is an
 * emulation, see REAL. A passing case writes 0 to the exit port (or
 * exits with 0); a failing one the source line of the failed check. EQ and the others keep every register but the flags.
 * System cases (rt.h) are flat only.
 */
#ifndef CASE_H
#define CASE_H

#define EXIT_PORT 0xf4

	.text
#ifndef CASE_NATIVE
	jmp	_start /* a blob is entered at its first byte */
#endif

	.macro	FINISH_WITH_EDI
#ifdef CASE_NATIVE
	/* An exit status has eight bits: say the line on stderr's exit code modulo 251, never 0. */
	testl	%edi, %edi
	jz	1f
	movl	%edi, %eax
	xorl	%edx, %edx
	movl	$251, %ecx
	divl	%ecx
	leal	1(%rdx), %edi
1:	movl	$60, %eax
	syscall
#else
	movl	%edi, %eax
	movl	$EXIT_PORT, %edx
	outl	%eax, %dx
1:	hlt
	jmp	1b
#endif
	.endm

	.macro	IS_TCG
#ifdef CASE_NATIVE
	movl	$0x80000002, %eax
	cpuid
	cmpl	$0x554d4551, %eax	/* "QEMU" */
	sete	on_tcg(%rip)
#else
	movb	%dl, on_tcg(%rip)
#endif
	.endm

#define CASE_BEGIN                                                                                 \
	.globl	_start;                                                                            \
_start:	cld;                                                                                       \
	IS_TCG;

#define CASE_END                                                                                   \
	xorl	%edi, %edi;                                                                        \
case_exit:                                                                                         \
	FINISH_WITH_EDI;

/* Fails here, whatever the registers hold. */
#define FAIL                                                                                       \
	movl	$__LINE__, %edi;                                                                   \
	jmp	case_exit

/* The operand equals a value that fits cmp's second operand. */
#define EQ(a, b)                                                                                   \
	cmp	b, a;                                                                              \
	je	990f;                                                                              \
	FAIL;                                                                                      \
990:

/* The same with a 32-bit word in memory. */
#define EQL(a, b)                                                                                  \
	cmpl	b, a;                                                                              \
	je	990f;                                                                              \
	FAIL;                                                                                      \
990:

/* A 64-bit register equals a 64-bit constant. */
#define EQ64(reg, val)                                                                             \
	lea	-128(%rsp), %rsp;                                                                  \
	push	%rax;                                                                              \
	movabs	$(val), %rax;                                                                      \
	cmp	%rax, reg;                                                                         \
	pop	%rax;                                                                              \
	lea	128(%rsp), %rsp;                                                                   \
	je	991f;                                                                              \
	FAIL;                                                                                      \
991:

/* The flags in mask (CF 1, PF 4, AF 0x10, ZF 0x40, SF 0x80, DF 0x400, OF 0x800) are want. Clobbers the flags. */
#define FLAGS(mask, want)                                                                          \
	pushfq;                                                                                    \
	andl	$(mask), (%rsp);                                                                   \
	cmpl	$(want), (%rsp);                                                                   \
	lea	8(%rsp), %rsp;                                                                     \
	je	992f;                                                                              \
	FAIL;                                                                                      \
992:

/* A check that QEMU's TCG, on which the lab's KVM runs, is known to fail where processors do not. Clobbers flags first. */
#define REAL(...)                                                                                  \
	cmpb	$0, on_tcg(%rip);                                                                  \
	jne	995f;                                                                              \
	__VA_ARGS__;                                                                               \
995:

	.data
on_tcg:	.byte	0
	.text

#define CF 0x1
#define PF 0x4
#define AF 0x10
#define ZF 0x40
#define SF 0x80
#define OF 0x800
#define ALL (CF | PF | AF | ZF | SF | OF)

#endif
