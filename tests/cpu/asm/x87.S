/* SPDX-License-Identifier: MIT */
/* x87: the stack, arithmetic in 80 bits, rounding and precision control, compares, environment. */
#include "tests/cpu/asm/case.h"
CASE_BEGIN
	sub	$512, %rsp
	and	$-64, %rsp
	fninit
	fnstcw	(%rsp)
	movzwl	(%rsp), %eax
	EQ(%eax, $0x37f)
	fnstsw	%ax
	EQ(%ax, $0)
	/* 1/3 in 80 bits */
	fld1
	movl	$3, (%rsp)
	fildl	(%rsp)
	fdivrp	%st, %st(1)
	fld	%st(0)
	fstpt	(%rsp)
	mov	(%rsp), %rax
	EQ64(%rax, 0xaaaaaaaaaaaaaaab)
	movzwl	8(%rsp), %eax
	EQ(%eax, $0x3ffd)
	fstp	%st(0)
	fld1
	movl	$3, (%rsp)
	fidivl	(%rsp)
	fstpt	(%rsp)
	mov	(%rsp), %rax
	EQ64(%rax, 0xaaaaaaaaaaaaaaab)
	movzwl	8(%rsp), %eax
	EQ(%eax, $0x3ffd)
	fnstsw	%ax
	and	$0x3820, %eax
	EQ(%eax, $0x20)
	/* double precision, towards zero */
	movw	$0xe7f, (%rsp)
	fldcw	(%rsp)
	fld1
	movl	$3, 4(%rsp)
	fidivl	4(%rsp)
	fstpt	16(%rsp)
	mov	16(%rsp), %rax
	EQ64(%rax, 0xaaaaaaaaaaaaa800)
	fldpi
	fistpl	(%rsp)
	mov	(%rsp), %eax
	EQ(%eax, $3)
	fninit
	/* compares */
	fldz
	fld1
	fucomi	%st(1), %st
	FLAGS(ALL, 0)
	fxch
	fcomip	%st(1), %st
	FLAGS(ALL, CF)
	fld1
	fucompp
	fnstsw	%ax
	and	$0x4500, %eax
	EQ(%eax, $0x4000)
	/* conditional move, sign, absolute value, scale */
	fld1
	fldz
	xor	%eax, %eax
	fcmove	%st(1), %st
	fchs
	fabs
	faddp
	fistpll	(%rsp)
	mov	(%rsp), %rax
	EQ64(%rax, 2)
	movl	$10, (%rsp)
	fildl	(%rsp)
	fld1
	fscale
	fistpll	(%rsp)
	mov	(%rsp), %rax
	EQ64(%rax, 1024)
	fstp	%st(0)
	/* stack overflow and underflow, masked: the default NaN, and C1 says which */
	fninit
	fadds	(%rsp)
	fnstsw	%ax
	and	$0x241, %eax
	REAL(EQ(%eax, $0x41))
	fstpt	(%rsp)
	mov	(%rsp), %rax
	EQ64(%rax, 0xc000000000000000)
	fninit
	fld1
	fld1
	fld1
	fld1
	fld1
	fld1
	fld1
	fld1
	fld1
	fnstsw	%ax
	and	$0x241, %eax
	REAL(EQ(%eax, $0x241))
	/* an unmasked exception is seen in the status word; clearing it in time avoids #MF */
	fninit
	movw	$0x37b, (%rsp)
	fldcw	(%rsp)
	fld1
	fldz
	fdivrp	%st, %st(1)
	fnstsw	%ax
	mov	%eax, %ecx
	fnclex
	and	$0x8084, %ecx
	EQ(%ecx, $0x8084)
	fwait
	/* environment: tags, and registers survive fnsave and frstor */
	fninit
	fldl2e
	fldz
	fnstenv	(%rsp)
	movzwl	8(%rsp), %eax
	EQ(%eax, $0x1fff)
	fldenv	(%rsp)
	fnsave	(%rsp)
	fnstsw	%ax
	EQ(%ax, $0)
	frstor	(%rsp)
	fstp	%st(0)
	fstpt	(%rsp)
	mov	(%rsp), %rax
	EQ64(%rax, 0xb8aa3b295c17f0bc)
	/* transcendental, BCD */
	fldz
	fcos
	fld1
	fpatan
	fstpt	(%rsp)
	mov	(%rsp), %rax
	EQ64(%rax, 0xc90fdaa22168c235)
	movl	$-1234567, (%rsp)
	fildl	(%rsp)
	fbstp	(%rsp)
	mov	(%rsp), %rax
	EQ64(%rax, 0x1234567)
	movzwl	8(%rsp), %eax
	EQ(%eax, $0x8000)
	/* MMX aliases the stack */
	mov	$0x0102030405060708, %rax
	movq	%rax, %mm3
	paddb	%mm3, %mm3
	fnstenv	(%rsp)
	movzwl	8(%rsp), %eax
	and	$0xc0, %eax
	movq	%mm3, %rcx
	EQ64(%rcx, 0x020406080a0c0e10)
	emms
	fnstenv	(%rsp)
	movzwl	8(%rsp), %eax
	EQ(%eax, $0xffff)
CASE_END
