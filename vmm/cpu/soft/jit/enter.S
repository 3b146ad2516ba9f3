/* SPDX-License-Identifier: MIT */
/* The way into translated code, see jit.h: it uses every register but rsp. */
	.text
	.globl	soft_jit_enter
	.balign	16
soft_jit_enter:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rdi
1:	call	*(%rsi)
	mov	(%rsp), %rdi
	mov	%rax, %rsi
	test	%rax, %rax
	jnz	1b
	pop	%rdi
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret
#if defined(__ELF__)
	.section .note.GNU-stack, "", %progbits
#endif
