/* SPDX-License-Identifier: MIT */
/*
 * SSE to SSE4.2, AES, PCLMULQDQ and SHA: binding, MXCSR, and the handlers of everything that is "xmm = op(xmm,
 * xmm/memory)".
 *
 * Theory of operation. Guest and host share the instruction set, so an instruction is executed by a thunk: a few bytes of
 * code with the same opcode, fixed registers and pointers to its operands (simd-thunks.S). The guest's XMM registers live
 * in c->xsave. Its MXCSR is the host's while guest code runs (enter to leave), with all exceptions masked: rounding,
 * denormal handling and sticky flags cost nothing. When the guest unmasks an exception (mx_slow), every instruction that
 * uses MXCSR is first run on copies, and its flags decide whether the guest sees a result or #XM (SDM vol. 1 §11.5).
 * x87 and MMX: see x87.c, mmx.c.
 */
#include "vmm/cpu/soft/simd-int.h"
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include "vmm/cpu/soft/mmu.h"

static inline uint32_t host_stmxcsr(void)
{
	uint32_t v;

	__asm__ volatile("stmxcsr %0" : "=m"(v));
	return v;
}

static inline void host_ldmxcsr(uint32_t v)
{
	__asm__ volatile("ldmxcsr %0" : : "m"(v));
}

unsigned simd_host_features(void)
{
	static unsigned cached;
	unsigned a, b, c, d, f = 0;

	if (cached)
		return cached & 0x7fffffff;
	if (__get_cpuid(1, &a, &b, &c, &d)) {
		f |= c & bit_SSSE3 ? FEAT_SSSE3 : 0;
		f |= c & bit_SSE4_1 ? FEAT_SSE41 : 0;
		f |= c & bit_SSE4_2 ? FEAT_SSE42 : 0;
		f |= c & bit_AES ? FEAT_AES : 0;
		f |= c & bit_PCLMUL ? FEAT_PCLMUL : 0;
	}
	if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
		f |= b & bit_SHA ? FEAT_SHA : 0;
	cached = f | 0x80000000;
	return f;
}

/* --- MXCSR --- */

uint32_t simd_mxcsr_mask(void)
{
	return 0xffff; /* every x86-64-v2 CPU has DAZ */
}

uint32_t simd_mxcsr_get(struct soft_vcpu *c)
{
	struct soft_simd *s = SIMD(c);

	if (s->active && !s->mx_slow)
		IMAGE(c)->mxcsr |= host_stmxcsr() & MXCSR_FLAGS;
	return IMAGE(c)->mxcsr;
}

void simd_mxcsr_set(struct soft_vcpu *c, uint32_t v)
{
	struct soft_simd *s = SIMD(c);

	IMAGE(c)->mxcsr = v;
	s->mx_slow = (v & MXCSR_MASKS) != MXCSR_MASKS;
	if (s->active)
		host_ldmxcsr(v | MXCSR_MASKS);
}

NOINLINE uint64_t simd_fp_slow(
	struct soft_vcpu *c, thunk_fn t, void *d, unsigned dsize, const void *s)
{
	struct soft_simd *m = SIMD(c);
	uint32_t csr = IMAGE(c)->mxcsr, unmasked = ~csr >> 7 & MXCSR_FLAGS, f, pre;
	uint64_t r;

	if (!d) /* what goes to a general register is the return value */
		d = m->tmp[0];
	memcpy(m->tmp[0], d, dsize);
	host_ldmxcsr((csr & ~MXCSR_FLAGS) | MXCSR_MASKS);
	r = t(m->tmp[0], s);
	f = host_stmxcsr() & MXCSR_FLAGS;
	if (unmasked & FX_UE && !(f & FX_UE)) {
		/* Unmasked underflow wants only a tiny result, masked an inexact one too; flushing to zero shows it. */
		memcpy(m->tmp[1], d, dsize);
		host_ldmxcsr((csr & ~MXCSR_FLAGS) | MXCSR_MASKS | 0x8000);
		t(m->tmp[1], s);
		f |= host_stmxcsr() & FX_UE;
	}
	host_ldmxcsr(csr | MXCSR_MASKS);
	pre = f & (FX_IE | FX_DE | FX_ZE);
	if (f & unmasked) {
		IMAGE(c)->mxcsr |= pre & unmasked ? pre : f;
		soft_raise(c, c->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD, 0);
	}
	memcpy(d, m->tmp[0], dsize);
	IMAGE(c)->mxcsr |= f;
	return r;
}

/* --- life --- */

int soft_simd_new(struct soft_vcpu *c)
{
	struct soft_simd *s = aligned_alloc(64, ALIGN_UP(sizeof(*s), 64));

	if (!s)
		return -ENOMEM;
	memset(s, 0, sizeof(*s));
	c->simd = s;
	soft_simd_reset(c);
	return 0;
}

void soft_simd_free(struct soft_vcpu *c)
{
	free(c->simd);
	c->simd = NULL;
}

void soft_simd_reset(struct soft_vcpu *c)
{
	struct soft_simd *s = SIMD(c);

	x87_spill(c);
	memset(c->xsave, 0, sizeof(c->xsave));
	x87_init_image(IMAGE(c));
	IMAGE(c)->mxcsr_mask = simd_mxcsr_mask();
	c->xsave[512] = 3; /* XSTATE_BV: the image holds both components */
	simd_mxcsr_set(c, MXCSR_INIT);
	s->mx_slow = false;
	c->xcr0 = 1;
}

void soft_simd_enter(struct soft_vcpu *c)
{
	struct soft_simd *s = SIMD(c);
	uint32_t v = IMAGE(c)->mxcsr;

	if (s->active)
		return;
	s->active = true;
	s->host_mxcsr = host_stmxcsr();
	s->mx_slow = (v & MXCSR_MASKS) != MXCSR_MASKS; /* set_state may have written the image */
	host_ldmxcsr((v & 0xffff) | MXCSR_MASKS);
}

void soft_simd_leave(struct soft_vcpu *c)
{
	struct soft_simd *s = SIMD(c);

	if (!s->active)
		return;
	simd_mxcsr_get(c);
	x87_spill(c);
	IMAGE(c)->mxcsr_mask = simd_mxcsr_mask();
	c->xsave[512] |= 3;
	s->active = false;
	host_ldmxcsr(s->host_mxcsr);
}

NORETURN void simd_trap_sse(struct soft_vcpu *c, const struct insn *i)
{
	c->cur = i;
	if (c->cr0 & CR0_EM || !(c->cr4 & CR4_OSFXSR))
		raise_ud(c);
	raise_nm(c);
}

NORETURN void simd_trap_x87(struct soft_vcpu *c, const struct insn *i)
{
	c->cur = i;
	raise_nm(c);
}

NORETURN void simd_misaligned(struct soft_vcpu *c, uint64_t lin)
{
	if (c->mode == MODE_64 && !soft_canonical(lin))
		soft_raise_noncanonical(c, lin);
	raise_gp(c);
}

/* --- xmm = op(xmm, xmm/memory) --- */

#define T(i) ((thunk_fn)(uintptr_t)(i)->imm)

static HANDLER(h_xx)
{
	sse_check(c, i);
	T(i)(XMM(c, i->r), XMM(c, i->rm));
	NEXT(c, i);
}

static HANDLER(h_fp)
{
	sse_check(c, i);
	simd_fp(c, i, T(i), XMM(c, i->r), 16, XMM(c, i->rm));
	NEXT(c, i);
}

/* Memory operands of less than 16 bytes need no alignment. */
#define DEFINE_M(size)                                                                             \
	static HANDLER(h_xx_m##size)                                                               \
	{                                                                                          \
		sse_check(c, i);                                                                   \
		T(i)(XMM(c, i->r), simd_src(c, i, size, size == 16));                              \
		NEXT(c, i);                                                                        \
	}
#define DEFINE_FM(size)                                                                            \
	static HANDLER(h_fp_m##size)                                                               \
	{                                                                                          \
		sse_check(c, i);                                                                   \
		simd_fp(c, i, T(i), XMM(c, i->r), 16, simd_src(c, i, size, size == 16));           \
		NEXT(c, i);                                                                        \
	}
DEFINE_M(2)
DEFINE_M(4)
DEFINE_M(8)
DEFINE_M(16)
DEFINE_FM(4)
DEFINE_FM(8)
DEFINE_FM(16)

/* The implicit mask in XMM0. */
typedef uint64_t __attribute__((sysv_abi)) (*thunk3_fn)(void *, const void *, const void *);

static HANDLER(h_implicit)
{
	sse_check(c, i);
	((thunk3_fn)(uintptr_t)i->imm)(XMM(c, i->r), XMM(c, i->rm), XMM(c, 0));
	NEXT(c, i);
}

static HANDLER(h_implicit_m16)
{
	sse_check(c, i);
	((thunk3_fn)(uintptr_t)i->imm)(XMM(c, i->r), simd_src(c, i, 16, true), XMM(c, 0));
	NEXT(c, i);
}

/* PCMPxSTRx: i->imm = thunk; i->aux bit 0: index to ECX (else mask to XMM0), bit 1: REX.W lengths. */
typedef uint64_t __attribute__((sysv_abi)) (*thunk_str_fn)(
	const void *, const void *, uint32_t, uint32_t, void *);

static uint32_t str_len(uint64_t v, bool wide)
{
	int64_t n = (int64_t)v;

	if (!wide)
		return (uint32_t)v;
	return (uint32_t)(n > 16 ? 16 : n < -16 ? -16 : n);
}

static const struct insn *do_pcmpstr(struct soft_vcpu *c, const struct insn *i, const void *src)
{
	bool index = i->aux & 1, wide = i->aux & 2;
	uint64_t r = ((thunk_str_fn)(uintptr_t)i->imm)(XMM(c, i->r), src, str_len(c->gpr[0], wide),
		str_len(c->gpr[2], wide), index ? SIMD(c)->tmp[0] : XMM(c, 0));

	if (index)
		c->gpr[1] = (uint32_t)r;
	c->fl = fl_from_rflags(r >> 32);
	return i;
}

static HANDLER(h_pcmpstr)
{
	sse_check(c, i);
	do_pcmpstr(c, i, XMM(c, i->rm));
	NEXT(c, i);
}

static HANDLER(h_pcmpstr_m) /* needs no alignment */
{
	sse_check(c, i);
	do_pcmpstr(c, i, simd_src(c, i, 16, false));
	/* A scratch operand is read unaligned by these. */
	NEXT(c, i);
}

/* Shifts by an immediate (0F 71-73): the count is the other operand of the register form. */
static HANDLER(h_shift_imm)
{
	uint64_t *n = (uint64_t *)SIMD(c)->scratch;

	sse_check(c, i);
	n[0] = i->aux;
	n[1] = 0;
	T(i)(XMM(c, i->rm), n);
	NEXT(c, i);
}

/* PSLLDQ, PSRLDQ: a window on the register between zeroes. */
static HANDLER(h_bytes_left)
{
	uint8_t *b = SIMD(c)->scratch;
	unsigned n = MIN(i->aux, 16);

	sse_check(c, i);
	memset(b, 0, 16);
	memcpy(b + 16, XMM(c, i->rm), 16);
	memcpy(XMM(c, i->rm), b + 16 - n, 16);
	NEXT(c, i);
}

static HANDLER(h_bytes_right)
{
	uint8_t *b = SIMD(c)->scratch;
	unsigned n = MIN(i->aux, 16);

	sse_check(c, i);
	memcpy(b, XMM(c, i->rm), 16);
	memset(b + 16, 0, 16);
	memcpy(XMM(c, i->rm), b + n, 16);
	NEXT(c, i);
}

/* --- binding --- */

enum kind { NO, XX, FP, XI, FI, IMPL, STR };
struct form {
	uint8_t kind;
	uint8_t size; /* of a memory operand */
	uint8_t arg;  /* XI, FI: index in soft_thunk_imm */
	uint8_t feat;
};

enum { P_NONE, P_66, P_F3, P_F2 };
#define X16                                                                                        \
	{                                                                                          \
		XX, 16                                                                             \
	}
#define F16                                                                                        \
	{                                                                                          \
		FP, 16                                                                             \
	}
#define F8                                                                                         \
	{                                                                                          \
		FP, 8                                                                              \
	}
#define F4                                                                                         \
	{                                                                                          \
		FP, 4                                                                              \
	}
#define I16(n)                                                                                     \
	{                                                                                          \
		XI, 16, n                                                                          \
	}
#define FI_(s, n)                                                                                  \
	{                                                                                          \
		FI, s, n                                                                           \
	}
#define X_(s, f)                                                                                   \
	{                                                                                          \
		XX, s, 0, f                                                                        \
	}

static const struct form map_0f[4][256] = {
	[P_NONE] =
		{
			[0x14 ... 0x15] = X16,
			[0x51] = F16,
			[0x52 ... 0x57] = X16,
			[0x58 ... 0x59] = F16,
			[0x5a] = F8,
			[0x5b ... 0x5f] = F16,
			[0xc2] = FI_(16, 3),
			[0xc6] = I16(7),
		},
	[P_66] =
		{
			[0x14 ... 0x15] = X16,
			[0x51] = F16,
			[0x54 ... 0x57] = X16,
			[0x58 ... 0x5f] = F16,
			[0x60 ... 0x6d] = X16,
			[0x70] = I16(0),
			[0x74 ... 0x76] = X16,
			[0x7c ... 0x7d] = F16,
			[0xc2] = FI_(16, 4),
			[0xc6] = I16(8),
			[0xd0] = F16,
			[0xd1 ... 0xd5] = X16,
			[0xd8 ... 0xe5] = X16,
			[0xe6] = F16,
			[0xe8 ... 0xef] = X16,
			[0xf1 ... 0xf6] = X16,
			[0xf8 ... 0xfe] = X16,
		},
	[P_F3] =
		{
			[0x12] = X16,
			[0x16] = X16,
			[0x51] = F4,
			[0x52 ... 0x53] = {XX, 4},
			[0x58 ... 0x5a] = F4,
			[0x5b] = F16,
			[0x5c ... 0x5f] = F4,
			[0x70] = I16(1),
			[0xc2] = FI_(4, 5),
			[0xe6] = F8,
		},
	[P_F2] =
		{
			[0x12] = {XX, 8},
			[0x51] = F8,
			[0x58 ... 0x5a] = F8,
			[0x5c ... 0x5f] = F8,
			[0x70] = I16(2),
			[0x7c ... 0x7d] = F16,
			[0xc2] = FI_(8, 6),
			[0xd0] = F16,
			[0xe6] = F16,
		},
};

static const struct form map_0f38[256] = {
	/* with 66; SHA, without, is below */
	[0x00 ... 0x0b] = X_(16, FEAT_SSSE3),
	[0x10] = {IMPL, 16, 0, FEAT_SSE41},
	[0x14] = {IMPL, 16, 1, FEAT_SSE41},
	[0x15] = {IMPL, 16, 2, FEAT_SSE41},
	[0x17] = {NO}, /* PTEST: simd-gpr.c */
	[0x1c ... 0x1e] = X_(16, FEAT_SSSE3),
	[0x20] = X_(8, FEAT_SSE41),
	[0x21] = X_(4, FEAT_SSE41),
	[0x22] = X_(2, FEAT_SSE41),
	[0x23] = X_(8, FEAT_SSE41),
	[0x24] = X_(4, FEAT_SSE41),
	[0x25] = X_(8, FEAT_SSE41),
	[0x28 ... 0x29] = X_(16, FEAT_SSE41),
	[0x2b] = X_(16, FEAT_SSE41),
	[0x30] = X_(8, FEAT_SSE41),
	[0x31] = X_(4, FEAT_SSE41),
	[0x32] = X_(2, FEAT_SSE41),
	[0x33] = X_(8, FEAT_SSE41),
	[0x34] = X_(4, FEAT_SSE41),
	[0x35] = X_(8, FEAT_SSE41),
	[0x37] = X_(16, FEAT_SSE42),
	[0x38 ... 0x41] = X_(16, FEAT_SSE41),
	[0xdb ... 0xdf] = X_(16, FEAT_AES),
};

static const struct form map_0f38_sha[256] = {
	[0xc8 ... 0xca] = X_(16, FEAT_SHA),
	[0xcb] = {IMPL, 16, 3, FEAT_SHA},
	[0xcc ... 0xcd] = X_(16, FEAT_SHA),
};

static const struct form map_0f3a[256] = {
	/* with 66 */
	[0x08] = {FI, 16, 9, FEAT_SSE41},
	[0x09] = {FI, 16, 10, FEAT_SSE41},
	[0x0a] = {FI, 4, 11, FEAT_SSE41},
	[0x0b] = {FI, 8, 12, FEAT_SSE41},
	[0x0c] = {XI, 16, 13, FEAT_SSE41},
	[0x0d] = {XI, 16, 14, FEAT_SSE41},
	[0x0e] = {XI, 16, 15, FEAT_SSE41},
	[0x0f] = {XI, 16, 16, FEAT_SSSE3},
	[0x40] = {FI, 16, 17, FEAT_SSE41},
	[0x41] = {FI, 16, 18, FEAT_SSE41},
	[0x42] = {XI, 16, 19, FEAT_SSE41},
	[0x44] = {XI, 16, 20, FEAT_PCLMUL},
	[0x60 ... 0x63] = {STR, 16, 0, FEAT_SSE42},
	[0xdf] = {XI, 16, 21, FEAT_AES},
};

static const struct form sha1rnds4 = {XI, 16, 22, FEAT_SHA};

static unsigned prefix(unsigned pfx)
{
	return pfx == 0x66 ? P_66 : pfx == 0xf3 ? P_F3 : pfx == 0xf2 ? P_F2 : P_NONE;
}

static const struct form *find(unsigned map, unsigned pfx, unsigned op)
{
	unsigned p = prefix(pfx);

	switch (map) {
	case MAP_0F: return &map_0f[p][op];
	case MAP_0F38: return p == P_66 ? &map_0f38[op] : p == P_NONE ? &map_0f38_sha[op] : NULL;
	case MAP_0F3A:
		return p == P_66 ? &map_0f3a[op] : p == P_NONE && op == 0xcc ? &sha1rnds4 : NULL;
	default: return NULL;
	}
}

unsigned soft_simd_operand(unsigned map, unsigned pfx, unsigned op)
{
	const struct form *f = find(map, pfx, op);

	return f && f->kind != NO && f->kind != STR ? f->size : 0;
}

static const void *array_thunk(const struct dec *d)
{
	static const char *const base[4] = {
		soft_thunk_0f, soft_thunk_66_0f, soft_thunk_f3_0f, soft_thunk_f2_0f};
	unsigned p = prefix(d->pfx);

	if (d->map == MAP_0F38)
		return (p == P_66 ? soft_thunk_66_0f38 : soft_thunk_0f38) + 16 * d->op;
	return base[p] + 16 * d->op;
}

static void set_thunk(struct insn *i, const void *t)
{
	i->imm = (int64_t)(uintptr_t)t;
}

static insn_fn mem_handler(bool fp, unsigned size)
{
	if (fp)
		return size == 4 ? h_fp_m4 : size == 8 ? h_fp_m8 : h_fp_m16;
	return size == 2 ? h_xx_m2 : size == 4 ? h_xx_m4 : size == 8 ? h_xx_m8 : h_xx_m16;
}

const struct insn *simd_fp_r(struct soft_vcpu *c, const struct insn *i)
{
	return h_fp(c, i);
}

insn_fn simd_fp_m(unsigned size)
{
	return mem_handler(true, size);
}

static bool bind_form(struct insn *i, const struct dec *d, const struct form *f)
{
	static const char *const implicit[] = {soft_thunk_pblendvb, soft_thunk_blendvps,
		soft_thunk_blendvpd, soft_thunk_sha256rnds2};
	static const char *const str[] = {soft_thunk_pcmpestrm, soft_thunk_pcmpestri,
		soft_thunk_pcmpistrm, soft_thunk_pcmpistri};
	bool fp = f->kind == FP || f->kind == FI;

	if (f->feat & ~simd_host_features())
		return false;
	switch (f->kind) {
	case XX:
	case FP:
		set_thunk(i, array_thunk(d));
		i->fn = d->mem ? mem_handler(fp, f->size) : fp ? h_fp : h_xx;
		simd_bind_hot(i, d);
		return true;
	case XI:
	case FI:
		set_thunk(i, soft_thunk_imm + (f->arg * 256u + (uint8_t)d->imm) * 16);
		i->fn = d->mem ? mem_handler(fp, f->size) : fp ? h_fp : h_xx;
		return true;
	case IMPL:
		set_thunk(i, implicit[f->arg]);
		i->fn = d->mem ? h_implicit_m16 : h_implicit;
		return true;
	case STR:
		set_thunk(i, str[d->op & 3] + 32 * (uint8_t)d->imm);
		i->aux = (uint8_t)((d->op & 1) | (d->rex & 8 ? 2 : 0));
		i->fn = d->mem ? h_pcmpstr_m : h_pcmpstr;
		return true;
	default: return false;
	}
}

/* 66 0F 71-73 /2 /3 /4 /6 /7 ib, register operand only. */
static bool bind_shift(struct insn *i, const struct dec *d)
{
	/* The same shift with a variable count: row 71, 72, 73; column /2, /4, /6. */
	static const uint8_t variable[3][3] = {
		{0xd1, 0xe1, 0xf1}, {0xd2, 0xe2, 0xf2}, {0xd3, 0, 0xf3}};
	unsigned reg = d->reg & 7;

	if (d->mem)
		return false;
	i->aux = (uint8_t)d->imm;
	if (d->op == 0x73 && (reg == 3 || reg == 7)) {
		i->fn = reg == 3 ? h_bytes_right : h_bytes_left;
		return true;
	}
	if (reg & 1 || reg < 2 || !variable[d->op - 0x71][reg / 2 - 1])
		return false;
	set_thunk(i, soft_thunk_66_0f + 16 * variable[d->op - 0x71][reg / 2 - 1]);
	i->fn = h_shift_imm;
	return true;
}

bool soft_simd_bind(struct insn *i, const struct dec *d)
{
	const struct form *f;

	if (d->map == MAP_1)
		return x87_bind(i, d);
	if (d->lock)
		return false;
	if (d->map == MAP_0F && (d->op == 0xae || d->op == 0xc7 || d->op == 0x01))
		return xsave_bind(i, d);
	if (sse_mov_bind(i, d) || sse_gpr_bind(i, d))
		return true;
	f = find(d->map, d->pfx, d->op);
	if (f && f->kind != NO) {
		i->r = (uint8_t)(d->reg * 16);
		i->rm = (uint8_t)(d->rm * 16);
		return bind_form(i, d, f);
	}
	if (d->map == MAP_0F && d->pfx == 0x66 && d->op >= 0x71 && d->op <= 0x73) {
		i->rm = (uint8_t)(d->rm * 16);
		return bind_shift(i, d);
	}
	return mmx_bind(i, d);
}
