/* SPDX-License-Identifier: MIT */
/*
 * What the SSE, MMX and x87 files share. See simd.c for how it works.
 */
#ifndef WSLX_SOFT_SIMD_INT_H
#define WSLX_SOFT_SIMD_INT_H

#include "vmm/cpu/soft/exec.h"
#include "vmm/cpu/soft/mem.h"
#include "vmm/cpu/soft/simd.h"

/* The start of the XSAVE image: SDM vol. 1 §10.5.1. st[] is in stack order, st[0] = ST(0). */
struct fx_image {
	uint16_t fcw, fsw;
	uint8_t ftw, rsvd; /* abridged: one bit a physical register, 1 = in use */
	uint16_t fop;
	uint64_t fip, fdp;
	uint32_t mxcsr, mxcsr_mask;
	uint8_t st[8][16];
	uint8_t xmm[16][16];
	uint8_t pad[96];
};
static_assert(sizeof(struct fx_image) == 512, "the processor's layout");

struct soft_simd {
	uint8_t scratch[1152] ALIGNED(64); /* a memory operand on its way */
	uint8_t tmp[2][64] ALIGNED(64);	   /* a destination that may not be kept */
	struct fx_image host;		   /* to load and store the host's x87 registers */
	bool active;			   /* between enter and leave */
	bool x87_live;	     /* the guest's x87 registers are in the host's, not in the image */
	bool mx_slow;	     /* the guest unmasked an SSE exception */
	uint32_t host_mxcsr; /* of the C code, while active */
};

enum { MXCSR_FLAGS = 0x3f, MXCSR_MASKS = 0x1f80, MXCSR_INIT = 0x1f80 };
enum {
	FX_IE = 1,
	FX_DE = 2,
	FX_ZE = 4,
	FX_OE = 8,
	FX_UE = 16,
	FX_PE = 32,
	FX_SF = 64,
	FX_ES = 0x80
};
/* Bytes of the image that hold x87 state. */
enum { FX_X87 = 160 };
enum { FCW_INIT = 0x37f, FCW_MASKS = 0x3f };

/* First operand read and written, second only read; some return a value. */
typedef uint64_t __attribute__((sysv_abi)) (*thunk_fn)(void *, const void *);
#define THUNK static __attribute__((sysv_abi)) uint64_t

#define SIMD(c)	      ((struct soft_simd *)(c)->simd)
#define IMAGE(c)      ((struct fx_image *)(c)->xsave)
#define XMM(c, o)     ((void *)((c)->xsave + 160 + (o))) /* o: register number * 16 */
#define XMM64(c, o)   ((uint64_t *)XMM(c, o))
#define XMM32(c, o)   ((uint32_t *)XMM(c, o))
#define HANDLER(name) const struct insn *name(struct soft_vcpu *c, const struct insn *i)

typedef uint64_t v16 __attribute__((vector_size(16)));
typedef uint64_t v16u __attribute__((vector_size(16), aligned(1)));

/* #UD or #NM instead of the instruction, where CR0 and CR4 say so. */
NORETURN COLD void simd_trap_sse(struct soft_vcpu *c, const struct insn *i);
NORETURN COLD void simd_trap_x87(struct soft_vcpu *c, const struct insn *i);

static ALWAYS_INLINE void sse_check(struct soft_vcpu *c, const struct insn *i)
{
	if (unlikely((c->cr0 & (CR0_EM | CR0_TS)) | (~c->cr4 & CR4_OSFXSR)))
		simd_trap_sse(c, i);
}

static ALWAYS_INLINE void x87_check(struct soft_vcpu *c, const struct insn *i)
{
	if (unlikely(c->cr0 & (CR0_EM | CR0_TS)))
		simd_trap_x87(c, i);
}

/* #GP for a state image that is not aligned; a non-canonical address comes first. */
NORETURN COLD void simd_misaligned(struct soft_vcpu *c, uint64_t lin);

/* The memory operand, where a thunk can read it. */
static ALWAYS_INLINE const void *simd_src(
	struct soft_vcpu *c, const struct insn *i, unsigned size, bool aligned)
{
	uint64_t lin = soft_ea(c, i);
	const void *p;

	if (aligned && unlikely(lin & 15))
		raise_gp(c); /* even when it is not canonical */
	p = mem_fast_r(c, lin, size);
	if (likely(p != NULL))
		return p;
	mem_read_bytes(c, lin, SIMD(c)->scratch, size);
	return SIMD(c)->scratch;
}

/* Runs a thunk that uses MXCSR; raises #XM as the guest asked. d: a destination of dsize bytes. */
uint64_t simd_fp_slow(struct soft_vcpu *c, thunk_fn t, void *d, unsigned dsize, const void *s);
static ALWAYS_INLINE uint64_t simd_fp(struct soft_vcpu *c, const struct insn *i, thunk_fn t,
	void *d, unsigned dsize, const void *s)
{
	if (likely(!SIMD(c)->mx_slow))
		return t(d, s);
	c->cur = i;
	return simd_fp_slow(c, t, d, dsize, s);
}

/* The guest's MXCSR; set: the value is valid already. */
uint32_t simd_mxcsr_get(struct soft_vcpu *c);
void simd_mxcsr_set(struct soft_vcpu *c, uint32_t v);
/* MXCSR bits that exist. */
uint32_t simd_mxcsr_mask(void);

/* x87.c: makes the image's x87 part current (and empties the host's registers: spill). */
void x87_sync(struct soft_vcpu *c);
void x87_spill(struct soft_vcpu *c);
/* #MF when an unmasked x87 exception is pending. */
void x87_wait(struct soft_vcpu *c);
void x87_init_image(struct fx_image *f);

/* simd.c's handlers for "xmm = fp_op(xmm, xmm/memory)", by the memory operand's size. */
const struct insn *simd_fp_r(struct soft_vcpu *c, const struct insn *i);
insn_fn simd_fp_m(unsigned size);
/* simd-hot.c: a better handler than the thunk's, if there is one. The thunk is set already. */
bool simd_bind_hot(struct insn *i, const struct dec *d);

/* Binders of the other files; false: #UD. */
bool x87_bind(struct insn *i, const struct dec *d);
bool xsave_bind(struct insn *i, const struct dec *d);
bool mmx_bind(struct insn *i, const struct dec *d);
bool sse_gpr_bind(struct insn *i, const struct dec *d);
bool sse_mov_bind(struct insn *i, const struct dec *d);

/* Makes DS:rDI the memory operand. */
void simd_implicit_rdi(struct insn *i, const struct dec *d);

/* simd-thunks.S */
extern const char soft_thunk_0f[], soft_thunk_66_0f[], soft_thunk_f3_0f[], soft_thunk_f2_0f[];
extern const char soft_thunk_0f38[], soft_thunk_66_0f38[], soft_thunk_imm[];
extern const char soft_thunk_pblendvb[], soft_thunk_blendvps[], soft_thunk_blendvpd[],
	soft_thunk_sha256rnds2[];
extern const char soft_thunk_pcmpestrm[], soft_thunk_pcmpestri[], soft_thunk_pcmpistrm[],
	soft_thunk_pcmpistri[];
extern const char soft_thunk_mmx_0f[], soft_thunk_mmx_0f38[], soft_thunk_pshufw[],
	soft_thunk_palignr_mmx[];
extern const char soft_thunk_x87_reg[], soft_thunk_x87_mem[];
/* Calls slot with the arithmetic flags fl, returns the flags after it. */
uint16_t __attribute__((sysv_abi)) soft_thunk_with_flags(const void *slot, uint16_t fl);

/* What the host can do, hence what the guest may be offered. */
enum {
	FEAT_SSSE3 = 1,
	FEAT_SSE41 = 2,
	FEAT_SSE42 = 4,
	FEAT_AES = 8,
	FEAT_PCLMUL = 16,
	FEAT_SHA = 32,
};
unsigned simd_host_features(void);

#endif
