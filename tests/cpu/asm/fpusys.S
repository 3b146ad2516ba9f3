/* SPDX-License-Identifier: MIT */
/* The FPU and the system: #NM, #UD, #MF, #XM, CR0 and CR4 bits, XSAVE. */
#include "tests/cpu/asm/rt.h"
SYSTEM_BEGIN
	fninit
	movq	%cr0, %rbx
	orl	$0x22, %ebx		/* NE, MP */
	movq	%rbx, %cr0
	/* TS: #NM for everything but MOV to memory of control state's kin */
	movq	%rbx, %rax
	orl	$8, %eax
	movq	%rax, %cr0
	FAULTS(7, 0, fld1)
	FAULTS(7, 0, fwait)
	FAULTS(7, 0, addps %xmm0, %xmm1)
	FAULTS(7, 0, movq %mm0, %mm1)
	FAULTS(7, 0, fxsave64 SCRATCH)
	FAULTS(7, 0, ldmxcsr SCRATCH)
	movnti	%eax, SCRATCH
	sfence
	clts
	fld1
	fstp	%st(0)
	/* EM: #UD for SSE and MMX, #NM for x87 */
	movq	%rbx, %rax
	orl	$4, %eax
	andl	$~2, %eax
	movq	%rax, %cr0
	FAULTS(6, 0, addps %xmm0, %xmm1)
	FAULTS(6, 0, movq %mm0, %mm1)
	FAULTS(7, 0, fld1)
	movq	%rbx, %cr0
	/* CR4.OSFXSR */
	movq	%cr4, %rcx
	movq	%rcx, %rax
	andl	$~0x200, %eax
	movq	%rax, %cr4
	FAULTS(6, 0, addps %xmm0, %xmm1)
	movq	%mm0, %mm1
	emms
	movq	%rcx, %cr4

	/* #MF: at the next waiting instruction, not at the one that did it */
	movw	$0x37b, SCRATCH
	fldcw	SCRATCH
	fld1
	fldz
	fdivrp	%st, %st(1)
	movl	$5, %ecx
	fnstsw	SCRATCH
	REAL(FAULTS(16, 0, fld1))
	FAULTS(16, 0, fwait)
	REAL(FAULTS(16, 0, movq %mm0, %mm1))
	fnclex
	fld1
	fninit

	/* #XM: the destination and memory keep their values, MXCSR says why */
	movl	$0x1f80 & ~0x200, SCRATCH	/* ZM */
	ldmxcsr	SCRATCH
	movl	$2, %eax
	cvtsi2sd %eax, %xmm0
	xorps	%xmm1, %xmm1
	movq	%cr4, %rcx
	orl	$0x400, %ecx
	movq	%rcx, %cr4
	cmpb	$0, on_tcg(%rip)
	jne	8f
	FAULTS(19, 0, divsd %xmm1, %xmm0)
	cvtsd2si %xmm0, %eax
	EQ(%eax, $2)
	stmxcsr	SCRATCH
	EQL(SCRATCH, $(0x1d80 + 4))
	andl	$~0x400, %ecx
	movq	%rcx, %cr4
	FAULTS(6, 0, divsd %xmm1, %xmm0)
	orl	$0x400, %ecx
	movq	%rcx, %cr4
	movl	$0x1f80, SCRATCH
	ldmxcsr	SCRATCH
	movl	$0x10000, SCRATCH
	FAULTS(13, 0, ldmxcsr SCRATCH)
8:	movl	$0x1f80, SCRATCH
	ldmxcsr	SCRATCH
	movl	$0x1f80, SCRATCH + 24
	FAULTS(13, 0, fxsave64 SCRATCH + 8)

	/* XSAVE, when there is one */
	movl	$1, %eax
	xorl	%ecx, %ecx
	cpuid
	btl	$26, %ecx
	jnc	9f
	movq	%cr4, %rcx
	andl	$~0x40000, %ecx
	movq	%rcx, %cr4
	FAULTS(6, 0, xsave64 SCRATCH)
	xorl	%ecx, %ecx
	FAULTS(6, 0, xgetbv)
	movq	%cr4, %rcx
	orl	$0x40000, %ecx
	movq	%rcx, %cr4
	xorl	%ecx, %ecx
	movl	$3, %eax
	xorl	%edx, %edx
	xsetbv
	xgetbv
	EQ(%eax, $3)
	/* x87 may not be left out; FAULTS uses %eax, so %rdx takes the bad bits */
	movl	$1, %edx
	FAULTS(13, 0, xsetbv)
	xorl	%edx, %edx
	movl	$3, %eax
	movl	$SCRATCH, %edi
	movl	$0x55, %ebx
	movd	%ebx, %xmm9
	xsave64	(%rdi)
	pxor	%xmm9, %xmm9
	movl	$3, %eax
	xrstor64 (%rdi)
	movd	%xmm9, %ebx
	EQ(%ebx, $0x55)
	movq	$1, 512(%rdi)		/* SSE's initial values */
	movl	$3, %eax
	xrstor64 (%rdi)
	movd	%xmm9, %ebx
	EQ(%ebx, $0)
	movq	$4, 512(%rdi)		/* a component outside XCR0 */
	FAULTS(13, 0, xrstor64 (%rdi))
	FAULTS(13, 0, xsave64 8(%rdi))
9:
CASE_END
