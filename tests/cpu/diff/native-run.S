/* SPDX-License-Identifier: MIT */
/*
 * Enters one case natively: loads the whole register state, jumps to the instruction, and comes back through
 * diff_native_exit, which the code after the instruction jumps to, or through diff_native_abort, to which the signal
 * handlers return after they have saved the state themselves.
 *
 * void diff_native_enter(const struct diff_case *c, struct diff_result *r);
 * Offsets are asserted in native.c.
 */
	.text
	.globl	diff_native_enter, diff_native_exit, diff_native_abort
	.balign	64
diff_native_enter:
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, host_rsp(%rip)
	movq	%rsi, result(%rip)
	fxrstor64 (%rdi)
	movq	640(%rdi), %rcx
	pushq	%rcx
	movq	648(%rdi), %rcx
	movq	%rcx, target(%rip)
	movq	520(%rdi), %rcx
	movq	528(%rdi), %rdx
	movq	536(%rdi), %rbx
	movq	552(%rdi), %rbp
	movq	560(%rdi), %rsi
	movq	576(%rdi), %r8
	movq	584(%rdi), %r9
	movq	592(%rdi), %r10
	movq	600(%rdi), %r11
	movq	608(%rdi), %r12
	movq	616(%rdi), %r13
	movq	624(%rdi), %r14
	movq	632(%rdi), %r15
	movq	512(%rdi), %rax
	popfq
	movq	544(%rdi), %rsp
	movq	568(%rdi), %rdi
	jmp	*target(%rip)

	.balign	64
diff_native_exit:
	movq	%rax, scratch(%rip)
	movq	result(%rip), %rax
	movq	%rsp, 544(%rax)
	movq	host_rsp(%rip), %rsp
	pushfq
	popq	640(%rax)
	pushq	$2
	popfq
	movq	%rcx, 520(%rax)
	movq	%rdx, 528(%rax)
	movq	%rbx, 536(%rax)
	movq	%rbp, 552(%rax)
	movq	%rsi, 560(%rax)
	movq	%rdi, 568(%rax)
	movq	%r8, 576(%rax)
	movq	%r9, 584(%rax)
	movq	%r10, 592(%rax)
	movq	%r11, 600(%rax)
	movq	%r12, 608(%rax)
	movq	%r13, 616(%rax)
	movq	%r14, 624(%rax)
	movq	%r15, 632(%rax)
	movq	scratch(%rip), %rcx
	movq	%rcx, 512(%rax)
	fxsave64 (%rax)
diff_native_abort:
	movq	host_rsp(%rip), %rsp
	fninit
	ldmxcsr	mxcsr_default(%rip)
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	ret

	.section .rodata
mxcsr_default:
	.long	0x1f80

	.bss
	.balign	8
host_rsp:
	.skip	8
result:
	.skip	8
target:
	.skip	8
scratch:
	.skip	8

	.section .note.GNU-stack, "", @progbits
