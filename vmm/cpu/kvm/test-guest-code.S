/* SPDX-License-Identifier: MIT */
/*
 * Guests for test-kvm-guest.c: 64-bit code entered with memory mapped one to one, copied to GUEST_CODE as a whole.
 * Ports: 0x10 says a number, 0x11 ends.
 */
	.text
	.balign 64
	.globl guest_code, guest_code_end
	.globl guest_spin, guest_access, guest_triple, guest_irqs, guest_on_vector, guest_doorbell, guest_dirty
	.globl guest_loop, guest_start_other, guest_other, guest_other_end

.macro say reg
	mov	\reg, %eax
	out	%eax, $0x10
.endm

guest_code:
guest_spin:
	incq	0x30000
	jmp	guest_spin

	/* Ports of each width, a string, and memory where no RAM is. */
guest_access:
	mov	$0x11, %al
	out	%al, $0x20
	mov	$0x2222, %ax
	out	%ax, $0x22
	mov	$0x44444444, %eax
	out	%eax, $0x24
	xor	%eax, %eax
	in	$0x20, %al
	say	%eax
	in	$0x24, %eax
	say	%eax
	movl	$0x64636261, 0x30000
	mov	$0x30000, %esi
	mov	$0x26, %edx
	mov	$4, %ecx
	rep outsb
	mov	$0xd0000000, %ebx
	movb	$0x88, (%rbx)
	movw	$0x8888, 8(%rbx)
	movl	$0x12345678, 16(%rbx)
	mov	$0x1122334455667788, %rax
	mov	%rax, 24(%rbx)
	mov	24(%rbx), %r8
	say	%r8d
	mov	%r8, %rax
	shr	$32, %rax
	say	%eax
	movzbl	(%rbx), %eax
	say	%eax
	mov	%rax, 0xd0000ffc - 0xd0000000(%rbx)	/* crosses an 8-byte boundary */
	out	%al, $0x11
	jmp	guest_spin

guest_triple:
	ud2

	/* Interrupts of any vector: the handlers below say their vector; a word at 0x30000 not 0 ends. */
guest_irqs:
	mov	$0x1b, %ecx
	rdmsr
	or	$0xc00, %eax
	wrmsr
	mov	$0x80f, %ecx
	xor	%edx, %edx
	mov	$0x1ff, %eax
	wrmsr
	mov	$0x99, %eax
	out	%eax, $0x10
1:	sti
	hlt
	jmp	1b
guest_on_vector:			/* 256 entries of 16 bytes */
	.set	v, 0
	.rept	256
	.balign	16
	push	%rax
	mov	$v, %eax
	jmp	handle
	.set	v, v + 1
	.endr
handle:
	push	%rcx
	push	%rdx
	out	%eax, $0x10
	mov	$0x80b, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
	pop	%rdx
	pop	%rcx
	pop	%rax
	iretq

guest_doorbell:
	mov	$0xd0001000, %ebx
	movl	$5, (%rbx)
	movl	$6, (%rbx)
	mov	$7, %eax
	out	%eax, $0x28
	out	%al, $0x11
	jmp	guest_spin

guest_dirty:
	movb	$1, 0x180000
	out	%al, $0x11
	movb	$1, 0x181000
	out	%al, $0x11
	jmp	guest_spin

	/* A sum in integer, SSE and memory that takes a while: rsi rounds. */
guest_loop:
	xor	%eax, %eax
	pxor	%xmm1, %xmm1
	movq	%rsi, %xmm2
1:	mov	%esi, %ecx
	and	$511, %ecx
	add	0x31000(, %rcx, 8), %rax
	imul	$0x1e3779b1, %rax, %rax
	add	%rsi, %rax
	mov	%rax, 0x31000(, %rcx, 8)
	movq	%rax, %xmm0
	paddq	%xmm0, %xmm1
	pxor	%xmm2, %xmm1
	dec	%rsi
	jnz	1b
	movq	%xmm1, %rcx
	mov	%rax, 0x30000
	mov	%rcx, 0x30008
	out	%al, $0x11
	jmp	guest_spin

	/* INIT and start-up IPIs to processor 1, which starts at 0x7000. */
guest_start_other:
	mov	$0x1b, %ecx
	rdmsr
	or	$0xc00, %eax
	wrmsr
	mov	$0x830, %ecx
	mov	$1, %edx
	mov	$0x4500, %eax
	wrmsr
	mov	$0x4607, %eax
	wrmsr
1:	cmpl	$0x600d, 0x30000
	jne	1b
	out	%al, $0x11
	jmp	guest_spin
guest_code_end:

	.code16
guest_other:
	mov	$0x3000, %ax
	mov	%ax, %ds
	movl	$0x600d, 0
	cli
1:	hlt
	jmp	1b
guest_other_end:

	.section .note.GNU-stack, "", @progbits
