/* SPDX-License-Identifier: MIT */
/* SYSCALL, SYSRET, SWAPGS and the MSRs behind them. */
#include "tests/cpu/asm/rt.h"
	.macro	WRMSR64 msr
	movq	%rax, %rdx
	shrq	$32, %rdx
	movl	$\msr, %ecx
	wrmsr
	.endm
SYSTEM_BEGIN
	call	rt_paging
	/* STAR: kernel CS 8 (SS 0x10); SYSRET: SS 0x18|3, 64-bit CS 0x20|3 */
	movabs	$0x0010000800000000, %rax
	WRMSR64 0xc0000081
	lea	entry(%rip), %rax
	WRMSR64 0xc0000082
	movl	$0x4700, %eax
	WRMSR64 0xc0000084
	movl	$0xc0000080, %ecx
	rdmsr
	andl	$~1, %eax
	wrmsr
	FAULTS(6, 0, syscall)
	FAULTS(6, 0, sysretq)
	movl	$0xc0000080, %ecx
	rdmsr
	orl	$1, %eax
	wrmsr

	/* GS bases */
	movabs	$0x0000123456789000, %rax
	WRMSR64 0xc0000101
	movl	$SCRATCH, %eax
	WRMSR64 0xc0000102
	movq	$0x77, SCRATCH + 8
	swapgs
	movq	%gs:8, %rax
	EQ(%rax, $0x77)
	movl	$0xc0000102, %ecx
	rdmsr
	EQ(%eax, $0x56789000)
	EQ(%edx, $0x1234)
	swapgs
	swapgs
	movabs	$0x8000000000000000, %rax
	movq	%rax, %rdx
	shrq	$32, %rdx
	movl	$0xc0000101, %ecx
	REAL(FAULTS(13, 0, wrmsr))

	/* out to CPL 3 and back, three times */
	xorl	%ebx, %ebx
	lea	user(%rip), %rcx
	movl	$0x40202 + 0xd5, %r11d
	movq	%rsp, saved_rsp(%rip)
	movl	$USER_STACK, %esp
	sysretq
entry:	cmpl	$USER_STACK, %esp	/* RSP is the caller's */
	je	1f
	movq	saved_rsp(%rip), %rsp
	FAIL
1:	movq	saved_rsp(%rip), %rsp
	movq	%rcx, %rsi
	lea	after(%rip), %rax
	EQ(%rcx, %rax)
	/* FMASK clears TF, IF, DF, NT; R11 has all of them as they were */
	pushfq
	popq	%rax
	andl	$0x4700, %eax
	EQ(%eax, $0)
	movl	%r11d, %eax
	andl	$0x406d5, %eax
	EQ(%eax, $(0x40200 + 0x4d5))
	mov	%cs, %eax
	EQ(%eax, $8)
	mov	%ss, %eax
	EQ(%eax, $0x10)
	incl	%ebx
	cmpl	$3, %ebx
	je	done
	movq	%rsi, %rcx
	movl	$USER_STACK, %esp
	lea	user(%rip), %rcx
	sysretq
user:	pushfq
	popq	%rax
	andl	$0xd5, %eax
	cmpl	$0xd5, %eax	/* SYSRET took R11 */
	jne	bad
	mov	%cs, %eax
	cmpl	$0x23, %eax
	jne	bad
	mov	%ss, %eax
	cmpl	$0x1b, %eax
	jne	bad
	std
	pushq	$0x40200 + 0x4d5
	popfq
	syscall
after:	nop
bad:	cld
	ud2
done:	cld
	/* SYSRET to a non-canonical address: #GP in the kernel */
	movabs	$0x800000000000, %rcx
	movl	$2, %r11d
	cmpb	$0, on_tcg(%rip)
	jne	1f
	FAULTS(13, 0, sysretq)
	movq	last_cs(%rip), %rax
	testl	$3, %eax
	jz	1f
	FAIL
1:
CASE_END
	.data
saved_rsp:
	.quad	0
