/* SPDX-License-Identifier: MIT */
/* SSE: moves, arithmetic, rounding modes, flags, conversions, shuffles. Results are exact by IEEE 754. */
#include "tests/cpu/asm/case.h"
#define LOAD(x, lo)	mov $lo, %rax; movq %rax, x
#define IS(x, lo)	movq x, %rax; EQ64(%rax, lo)
CASE_BEGIN
	sub	$256, %rsp
	and	$-64, %rsp
	/* moves clear or keep the rest */
	mov	$-1, %eax
	movd	%eax, %xmm0
	pcmpeqd	%xmm1, %xmm1
	movss	%xmm0, %xmm1
	movhlps	%xmm1, %xmm2
	IS(%xmm2, -1)
	movups	%xmm1, (%rsp)
	movss	(%rsp), %xmm1
	movhlps	%xmm1, %xmm2
	IS(%xmm2, 0)
	IS(%xmm1, 0xffffffff)
	LOAD(%xmm3, 0x1122334455667788)
	movlhps	%xmm3, %xmm3
	movaps	%xmm3, 16(%rsp)
	movntps	%xmm3, 32(%rsp)
	sfence
	movhpd	40(%rsp), %xmm5
	movlpd	32(%rsp), %xmm5
	pcmpeqb	%xmm3, %xmm5
	pmovmskb %xmm5, %eax
	EQ(%eax, $0xffff)

	/* double arithmetic and the inexact flag */
	movl	$0x1f80, (%rsp)
	ldmxcsr	(%rsp)
	LOAD(%xmm0, 0x3ff0000000000000)
	LOAD(%xmm1, 0x4008000000000000)
	divsd	%xmm1, %xmm0
	IS(%xmm0, 0x3fd5555555555555)
	stmxcsr	(%rsp)
	mov	(%rsp), %eax
	EQ(%eax, $0x1fa0)
	/* round up */
	movl	$0x5f80, (%rsp)
	ldmxcsr	(%rsp)
	LOAD(%xmm0, 0x3ff0000000000000)
	divsd	%xmm1, %xmm0
	IS(%xmm0, 0x3fd5555555555556)
	cvtsd2si %xmm0, %eax
	EQ(%eax, $1)
	cvttsd2si %xmm0, %eax
	EQ(%eax, $0)
	movl	$0x1f80, (%rsp)
	ldmxcsr	(%rsp)
	/* division by zero, invalid, denormal, overflow */
	xorps	%xmm1, %xmm1
	LOAD(%xmm0, 0xbff0000000000000)
	divsd	%xmm1, %xmm0
	IS(%xmm0, 0xfff0000000000000)
	stmxcsr	(%rsp)
	mov	(%rsp), %eax
	EQ(%eax, $0x1f84)
	divsd	%xmm1, %xmm1
	IS(%xmm1, 0xfff8000000000000)
	stmxcsr	(%rsp)
	mov	(%rsp), %eax
	EQ(%eax, $0x1f85)
	LOAD(%xmm0, 1)
	addsd	%xmm0, %xmm0
	IS(%xmm0, 2)
	LOAD(%xmm0, 0x7fefffffffffffff)
	addsd	%xmm0, %xmm0
	stmxcsr	(%rsp)
	mov	(%rsp), %eax
	REAL(EQ(%eax, $0x1faf))
	/* denormals are zero, flush to zero */
	movl	$0x9fc0, (%rsp)
	ldmxcsr	(%rsp)
	LOAD(%xmm0, 1)
	addsd	%xmm0, %xmm0
	IS(%xmm0, 0)
	movl	$0x1f80, (%rsp)
	ldmxcsr	(%rsp)

	/* compares to flags */
	LOAD(%xmm0, 0x3ff0000000000000)
	LOAD(%xmm1, 0x7ff8000000000000)
	ucomisd	%xmm1, %xmm0
	FLAGS(ALL, ZF | PF | CF)
	ucomisd	%xmm0, %xmm0
	FLAGS(ALL, ZF)
	xorpd	%xmm1, %xmm1
	comisd	%xmm0, %xmm1
	FLAGS(ALL, CF)
	cmpltsd	%xmm0, %xmm1
	IS(%xmm1, -1)

	/* conversions */
	mov	$-5, %rax
	cvtsi2sd %rax, %xmm0
	IS(%xmm0, 0xc014000000000000)
	cvtsd2ss %xmm0, %xmm1
	movd	%xmm1, %eax
	EQ(%eax, $0xc0a00000)
	cvtss2sd %xmm1, %xmm2
	IS(%xmm2, 0xc014000000000000)
	mov	$0x7fffffffffffffff, %rax
	cvtsi2sd %rax, %xmm0
	IS(%xmm0, 0x43e0000000000000)
	cvttsd2si %xmm0, %rax
	EQ64(%rax, 0x8000000000000000)
	LOAD(%xmm0, 0x0000000300000002)
	cvtdq2pd %xmm0, %xmm0
	sqrtpd	%xmm0, %xmm0
	IS(%xmm0, 0x3ff6a09e667f3bcd)
	movhlps	%xmm0, %xmm0
	IS(%xmm0, 0x3ffbb67ae8584caa)

	/* integer SIMD */
	LOAD(%xmm0, 0x7fff800000017fff)
	LOAD(%xmm1, 0x0001ffff00010001)
	paddsw	%xmm1, %xmm0
	IS(%xmm0, 0x7fff800000027fff)
	LOAD(%xmm0, 0x0123456789abcdef)
	pshufd	$0x11, %xmm0, %xmm1
	IS(%xmm1, 0x89abcdef01234567)
	pshuflw	$0x1b, %xmm0, %xmm1
	IS(%xmm1, 0xcdef89ab45670123)
	punpcklbw %xmm0, %xmm0
	IS(%xmm0, 0x8989ababcdcdefef)
	LOAD(%xmm0, 0x00000002ffffffff)
	pmuludq	%xmm0, %xmm0
	IS(%xmm0, 0xfffffffe00000001)
	psllq	$4, %xmm0
	IS(%xmm0, 0xffffffe000000010)
	mov	$0xabcd, %eax
	pinsrw	$2, %eax, %xmm0
	pextrw	$2, %xmm0, %ecx
	EQ(%ecx, $0xabcd)
	pxor	%xmm0, %xmm0
	pcmpeqb	%xmm1, %xmm1
	psadbw	%xmm1, %xmm0
	IS(%xmm0, 8*255)

	/* fxsave, fxrstor keep everything */
	LOAD(%xmm15, 0x5555aaaa5555aaaa)
	sub	$1024, %rsp
	fxsave64 (%rsp)
	pxor	%xmm15, %xmm15
	fxrstor64 (%rsp)
	IS(%xmm15, 0x5555aaaa5555aaaa)
	mov	24(%rsp), %eax
	and	$0xffc0, %eax
	EQ(%eax, $0x1f80)
CASE_END
