/* SPDX-License-Identifier: MIT */
/*
 * What the probe runs as a guest: a taste of what a stock kernel does in its first milliseconds. Copied to
 * PROBE_CODE and entered in 64-bit mode; position-independent. Before each step it writes the step's number to
 * PROBE_PORT_STEP; it ends by writing 0 there, or writes to PROBE_PORT_BAD when a step's result is wrong.
 */
#include "vmm/cpu/kvm/probe.h"

	.text
	.balign 64
	.globl kvm_probe_guest, kvm_probe_guest_end, kvm_probe_loop, kvm_probe_on_pf, kvm_probe_on_timer

.macro step n
	mov	$\n, %al
	out	%al, $PROBE_PORT_STEP
.endm

.macro want cc
	j\cc	9000f
	jmp	bad
9000:
.endm

kvm_probe_guest:
	step	PROBE_LONG_MODE
	mov	%cr0, %rax
	bt	$31, %rax
	want	c
	mov	$0xc0000080, %ecx		/* EFER.LMA */
	rdmsr
	bt	$10, %eax
	want	c
	mov	%cr3, %rax			/* flush, and go on */
	mov	%rax, %cr3
	lea	PROBE_DATA, %rbx
	invlpg	(%rbx)

	step	PROBE_SSE
	mov	$3, %eax
	cvtsi2sd %eax, %xmm0
	movapd	%xmm0, %xmm1
	mulsd	%xmm1, %xmm1			/* 9 */
	addsd	%xmm0, %xmm1			/* 12 */
	sqrtsd	%xmm1, %xmm2
	mulsd	%xmm2, %xmm2
	cvtsd2si %xmm2, %eax
	cmp	$12, %eax
	want	e
	movdqa	%xmm1, PROBE_DATA
	pshufd	$0x4e, PROBE_DATA, %xmm3
	paddd	%xmm3, %xmm3
	movdqa	%xmm3, PROBE_DATA + 16

	step	PROBE_CX16
	movq	$1, PROBE_DATA
	movq	$2, PROBE_DATA + 8
	mov	$1, %eax
	mov	$2, %edx
	mov	$3, %ebx
	mov	$4, %ecx
	lock cmpxchg16b PROBE_DATA		/* equal: exchanges */
	want	e
	cmpq	$3, PROBE_DATA
	want	e
	cmpq	$4, PROBE_DATA + 8
	want	e
	lock cmpxchg16b PROBE_DATA		/* not equal: loads */
	want	ne
	cmp	$3, %rax
	want	e
	cmp	$4, %rdx
	want	e

	step	PROBE_CPUID
	mov	$1, %eax
	cpuid
	bt	$31, %ecx			/* under a hypervisor */
	want	c
	shr	$24, %ebx			/* APIC number 0 */
	want	z
	mov	$0x40000000, %eax
	cpuid
	cmp	$0x4b4d564b, %ebx		/* "KVMK" */
	want	e

	step	PROBE_MSR
	mov	$0xc0000102, %ecx		/* KERNEL_GS_BASE */
	mov	$0x1234, %edx
	mov	$0x5678000, %eax
	wrmsr
	swapgs
	mov	$0xc0000101, %ecx		/* GS_BASE */
	rdmsr
	cmp	$0x1234, %edx
	want	e
	cmp	$0x5678000, %eax
	want	e
	swapgs

	step	PROBE_FAULT
	lea	after_fault(%rip), %r15
	xor	%r14d, %r14d
	movb	$1, PROBE_NO_PAGE
	jmp	bad
after_fault:
	cmp	$14, %r14
	want	e

	step	PROBE_TIMER
	mov	$0x1b, %ecx			/* the APIC in x2APIC mode */
	rdmsr
	or	$0xc00, %eax
	wrmsr
	xor	%edx, %edx
	mov	$0x80f, %ecx			/* on, spurious vector 255 */
	mov	$0x1ff, %eax
	wrmsr
	mov	$0x83e, %ecx			/* divide by 1 */
	mov	$0xb, %eax
	wrmsr
	/*
	 * Periodic: an emulated SVM may forget that STI holds off interrupts for one instruction, and take one before
	 * HLT. A kernel with a tick lives with that, and so does this.
	 */
	mov	$0x832, %ecx
	mov	$(1 << 17 | PROBE_TIMER_VECTOR), %eax
	wrmsr
	xor	%r14d, %r14d
	mov	$0x838, %ecx			/* start: once in a millisecond */
	mov	$1000000, %eax
	wrmsr
1:	cli
	test	%r14, %r14
	jnz	2f
	sti
	hlt
	jmp	1b
2:
	xor	%edx, %edx
	mov	$0x838, %ecx			/* stop */
	xor	%eax, %eax
	wrmsr
	mov	$PROBE_ROUNDS, %r12d
3:	step	PROBE_LOOP
	mov	$PROBE_BUFFER, %edi
	mov	$PROBE_LOOPS, %esi
	call	kvm_probe_loop
	mov	%rax, %r13
	step	PROBE_LOOP_END
	dec	%r12d
	jnz	3b
	mov	%r13, PROBE_DATA

	step	PROBE_EXITS
	mov	$PROBE_NEXITS, %ecx
4:	out	%al, $PROBE_PORT_NONE
	dec	%ecx
	jnz	4b
	step	PROBE_EXITS_END

	step	0
5:	cli
	hlt
	jmp	5b

bad:
	out	%al, $PROBE_PORT_BAD
	jmp	5b

	/* #PF: error code on top; the address must be the one, then on at %r15. */
	.balign 16
kvm_probe_on_pf:
	mov	%cr2, %rax
	cmp	$PROBE_NO_PAGE, %rax
	jne	bad
	cmpq	$2, (%rsp)			/* a write, by the supervisor, to a page not present */
	jne	bad
	add	$8, %rsp
	mov	%r15, (%rsp)
	mov	$14, %r14d
	iretq

	.balign 16
kvm_probe_on_timer:
	inc	%r14
	xor	%eax, %eax
	xor	%edx, %edx
	mov	$0x80b, %ecx			/* EOI */
	wrmsr
	iretq

	/*
	 * uint64_t kvm_probe_loop(uint64_t buffer[512], uint64_t n): arithmetic and memory; the same code runs in our
	 * own process for comparison.
	 */
	.balign 64
kvm_probe_loop:
	endbr64
	xor	%eax, %eax
	xor	%ecx, %ecx
	/* from zeros, so that it can be run again */
1:	movq	$0, (%rdi, %rcx, 8)
	inc	%ecx
	cmp	$512, %ecx
	jne	1b
2:	mov	%esi, %ecx
	and	$511, %ecx
	add	(%rdi, %rcx, 8), %rax
	imul	$0x1e3779b1, %rax, %rax
	add	%rsi, %rax
	mov	%rax, (%rdi, %rcx, 8)
	rol	$13, %rax
	dec	%rsi
	jnz	2b
	ret
kvm_probe_guest_end:

	.section .note.GNU-stack, "", @progbits
