/* SPDX-License-Identifier: MIT */
/*
 * Native thunks for the guest's SSE, MMX and x87 instructions: each executes one instruction of the same encoding on
 * operands in memory, so that results are the host's, bit for bit. They are laid out as arrays indexed by the opcode
 * byte, prefix and immediate; vmm/cpu/soft/simd.c and x87.c say which slots mean anything. Never call another one:
 * an opcode that is no such instruction (or a byte that opens a longer one) is still assembled here.
 *
 * System V convention on every system (callers declare them sysv_abi): rdi = first operand, read and written;
 * rsi = second operand (16-byte aligned where the instruction wants it); other registers as said below.
 * Slots are 16 bytes, or 32 where said; every one but x87's leaves the x87 stack empty.
 */
	.text

/* One slot an opcode: xmm0 = [rdi]; OP xmm0, [rsi]; [rdi] = xmm0. */
	.macro	xmm_array name, bytes:vararg
	.globl	\name
	.balign	64
\name:
	.set	op, 0
	.rept	256
	.balign	16, 0xcc
	movups	(%rdi), %xmm0
	.byte	\bytes, op, 0x06
	movups	%xmm0, (%rdi)
	ret
	.set	op, op + 1
	.endr
	.endm

	xmm_array soft_thunk_0f, 0x0f
	xmm_array soft_thunk_66_0f, 0x66, 0x0f
	xmm_array soft_thunk_f3_0f, 0xf3, 0x0f
	xmm_array soft_thunk_f2_0f, 0xf2, 0x0f
	xmm_array soft_thunk_0f38, 0x0f, 0x38
	xmm_array soft_thunk_66_0f38, 0x66, 0x0f, 0x38

/* One slot an immediate, for each of a list of instructions in the order of simd.c's enum. */
	.macro	xmm_imm bytes:vararg
	.set	imm, 0
	.rept	256
	.balign	16, 0xcc
	movups	(%rdi), %xmm0
	.byte	\bytes, 0x06, imm
	movups	%xmm0, (%rdi)
	ret
	.set	imm, imm + 1
	.endr
	.endm

	.globl	soft_thunk_imm
	.balign	64
soft_thunk_imm:
	xmm_imm	0x66, 0x0f, 0x70	/* pshufd */
	xmm_imm	0xf3, 0x0f, 0x70	/* pshufhw */
	xmm_imm	0xf2, 0x0f, 0x70	/* pshuflw */
	xmm_imm	0x0f, 0xc2		/* cmpps */
	xmm_imm	0x66, 0x0f, 0xc2	/* cmppd */
	xmm_imm	0xf3, 0x0f, 0xc2	/* cmpss */
	xmm_imm	0xf2, 0x0f, 0xc2	/* cmpsd */
	xmm_imm	0x0f, 0xc6		/* shufps */
	xmm_imm	0x66, 0x0f, 0xc6	/* shufpd */
	xmm_imm	0x66, 0x0f, 0x3a, 0x08	/* roundps */
	xmm_imm	0x66, 0x0f, 0x3a, 0x09	/* roundpd */
	xmm_imm	0x66, 0x0f, 0x3a, 0x0a	/* roundss */
	xmm_imm	0x66, 0x0f, 0x3a, 0x0b	/* roundsd */
	xmm_imm	0x66, 0x0f, 0x3a, 0x0c	/* blendps */
	xmm_imm	0x66, 0x0f, 0x3a, 0x0d	/* blendpd */
	xmm_imm	0x66, 0x0f, 0x3a, 0x0e	/* pblendw */
	xmm_imm	0x66, 0x0f, 0x3a, 0x0f	/* palignr */
	xmm_imm	0x66, 0x0f, 0x3a, 0x40	/* dpps */
	xmm_imm	0x66, 0x0f, 0x3a, 0x41	/* dppd */
	xmm_imm	0x66, 0x0f, 0x3a, 0x42	/* mpsadbw */
	xmm_imm	0x66, 0x0f, 0x3a, 0x44	/* pclmulqdq */
	xmm_imm	0x66, 0x0f, 0x3a, 0xdf	/* aeskeygenassist */
	xmm_imm	0x0f, 0x3a, 0xcc	/* sha1rnds4 */

/* As xmm_array, with the implicit mask operand: xmm0 = [rdx]; xmm1 = [rdi]; OP xmm1, [rsi]. */
	.macro	xmm_implicit name, bytes:vararg
	.globl	\name
	.balign	16, 0xcc
\name:
	movups	(%rdx), %xmm0
	movups	(%rdi), %xmm1
	.byte	\bytes, 0x0e
	movups	%xmm1, (%rdi)
	ret
	.endm

	xmm_implicit soft_thunk_pblendvb, 0x66, 0x0f, 0x38, 0x10
	xmm_implicit soft_thunk_blendvps, 0x66, 0x0f, 0x38, 0x14
	xmm_implicit soft_thunk_blendvpd, 0x66, 0x0f, 0x38, 0x15
	xmm_implicit soft_thunk_sha256rnds2, 0x0f, 0x38, 0xcb

/*
 * PCMPxSTRx: rdi, rsi = operands; edx, ecx = the guest's eax, edx; r8 = where xmm0 goes (the mask forms).
 * Returns the index (ecx) in bits 0-31, RFLAGS in 32-63. 32-byte slots.
 */
	.macro	xmm_string opcode
	.set	imm, 0
	.rept	256
	.balign	32, 0xcc
	movups	(%rdi), %xmm1
	movl	%edx, %eax
	movl	%ecx, %edx
	.byte	0x66, 0x0f, 0x3a, \opcode, 0x0e, imm
	movups	%xmm0, (%r8)
	pushfq
	popq	%rax
	jmp	1f
	.set	imm, imm + 1
	.endr
1:	movl	%ecx, %ecx
	shlq	$32, %rax
	orq	%rcx, %rax
	ret
	.balign	64, 0xcc
	.endm

	.globl	soft_thunk_pcmpestrm, soft_thunk_pcmpestri, soft_thunk_pcmpistrm, soft_thunk_pcmpistri
	.balign	64
soft_thunk_pcmpestrm:
	xmm_string 0x60
soft_thunk_pcmpestri:
	xmm_string 0x61
soft_thunk_pcmpistrm:
	xmm_string 0x62
soft_thunk_pcmpistri:
	xmm_string 0x63

/* MMX: mm0 = [rdi]; OP mm0, [rsi]; [rdi] = mm0. */
	.macro	mmx_array name, bytes:vararg
	.globl	\name
	.balign	64
\name:
	.set	op, 0
	.rept	256
	.balign	16, 0xcc
	movq	(%rdi), %mm0
	.byte	\bytes, op, 0x06
	movq	%mm0, (%rdi)
	emms
	ret
	.set	op, op + 1
	.endr
	.endm

	mmx_array soft_thunk_mmx_0f, 0x0f
	mmx_array soft_thunk_mmx_0f38, 0x0f, 0x38

	.macro	mmx_imm name, bytes:vararg
	.globl	\name
	.balign	64
\name:
	.set	imm, 0
	.rept	256
	.balign	16, 0xcc
	movq	(%rdi), %mm0
	.byte	\bytes, 0x06, imm
	movq	%mm0, (%rdi)
	emms
	ret
	.set	imm, imm + 1
	.endr
	.endm

	mmx_imm	soft_thunk_pshufw, 0x0f, 0x70
	mmx_imm	soft_thunk_palignr_mmx, 0x0f, 0x3a, 0x0f

/*
 * x87: run on whatever the host's x87 registers hold. Slot (opcode - 0xd8) * 64 + (modrm & 0x3f) is the register form;
 * slot (opcode - 0xd8) * 8 + reg the form with its memory operand at [rdi]. 4- and 8-byte slots.
 */
	.globl	soft_thunk_x87_reg
	.balign	64
soft_thunk_x87_reg:
	.set	op, 0xd8
	.rept	8
	.set	rm, 0xc0
	.rept	64
	.byte	op, rm, 0xc3, 0xcc
	.set	rm, rm + 1
	.endr
	.set	op, op + 1
	.endr

	.globl	soft_thunk_x87_mem
	.balign	64
soft_thunk_x87_mem:
	.set	op, 0xd8
	.rept	8
	.set	rm, 0x07
	.rept	8
	.byte	op, rm, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc
	.set	rm, rm + 8
	.endr
	.set	op, op + 1
	.endr


/* uint16_t soft_thunk_with_flags(slot, fl): fl is SETO's and LAHF's result, see cpu.h. */
	.globl	soft_thunk_with_flags
	.balign	16, 0xcc
soft_thunk_with_flags:
	movl	%esi, %eax
	addb	$127, %al
	sahf
	call	*%rdi
	lahf
	seto	%al
	ret

#ifdef __ELF__
	.section .note.GNU-stack, "", @progbits
#endif
