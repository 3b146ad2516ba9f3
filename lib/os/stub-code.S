/* SPDX-License-Identifier: MIT */
/*
 * All code of ours in a stub: copied to its place, wherever that is. Two threads: one executes the guest's program, and is here whenever the
 * processor gave it a signal; the other one changes mappings. Both wait in STUB_PARK, which the filter hands to the
 * monitor: so it knows from the kernel, not from memory the guest could write to, that they do.
 */
#include "lib/os/stub-layout.h"
#define SYS_rt_sigreturn 15
#define SYS_exit_group	 231
#define ORDER(field)	 os_stub_code + STUB_ORDERS + field(%rip)

	.section .rodata
	.globl	os_stub_code, os_stub_code_end
	.globl	os_stub_handler, os_stub_start, os_stub_mapper
	.balign	64
os_stub_code:

/*
 * The signal handler: what it was, FS.base and GS.base and the selectors of DS, ES, FS and GS go with the parking call; everything else is in
 * the frame.
 */
os_stub_handler:
	rdfsbase %rsi
	rdgsbase %rdx
	mov	%gs, %r10d
	shl	$16, %r10
	mov	%fs, %eax
	or	%rax, %r10
	shl	$16, %r10
	mov	%es, %eax
	or	%rax, %r10
	shl	$16, %r10
	mov	%ds, %eax
	or	%rax, %r10
	mov	$STUB_PARK, %eax
	syscall
	test	%rax, %rax
	js	gone
	/* A program that jumps into the middle of this finds nothing that it could not do itself. */
	mov	ORDER(ORDERS_DS), %ds
	mov	ORDER(ORDERS_ES), %es
	mov	ORDER(ORDERS_FS_SEL), %fs
	mov	ORDER(ORDERS_GS_SEL), %gs
	mov	ORDER(ORDERS_FS), %rax
	wrfsbase %rax
	mov	ORDER(ORDERS_GS), %rax
	wrgsbase %rax
	mov	ORDER(ORDERS_FRAME), %rsp
	mov	$SYS_rt_sigreturn, %eax
	syscall
	hlt

/* The first thread begins with a signal. */
os_stub_start:
	int3

/* The second one: executes the orders, parks with the first failure or 0. */
os_stub_mapper:
	xor	%edi, %edi
park:
	mov	$STUB_PARK, %eax
	syscall
	test	%rax, %rax
	js	gone
	lea	ORDER(ORDERS_OPS), %rbx
	mov	ORDER(ORDERS_COUNT), %ebp
next:
	test	%ebp, %ebp
	jz	os_stub_mapper
	mov	(%rbx), %rax
	mov	8(%rbx), %rdi
	mov	16(%rbx), %rsi
	mov	24(%rbx), %rdx
	mov	32(%rbx), %r10
	mov	40(%rbx), %r8
	mov	48(%rbx), %r9
	syscall
	mov	%rax, %rdi
	cmp	$-4096, %rax
	ja	park
	add	$ORDERS_OP_LEN, %rbx
	dec	%ebp
	jmp	next

/* The monitor is gone. */
gone:
	mov	$SYS_exit_group, %eax
	xor	%edi, %edi
	syscall
	hlt
os_stub_code_end:
#if defined(__ELF__)
	.section .note.GNU-stack, "", %progbits
#endif
