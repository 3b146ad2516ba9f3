/* SPDX-License-Identifier: MIT */
/*
 * x87. The guest's registers are loaded into the host's when it starts to use them and stay there (x87_live): each
 * instruction is then the same instruction on the host, with its memory operand elsewhere. Whatever looks at the image
 * syncs or spills it first. FIP is kept in the image by hand, since the host would record the thunk's address; FDP and FOP
 * are recorded on unmasked exceptions only, as current processors do.
 *
 * A guest that unmasks an x87 exception is never live: each instruction loads and stores the whole state ("bounce"). The
 * host can run it with the guest's own control word, because an x87 exception is reported by the next waiting
 * instruction, and FXSAVE and FNINIT, which follow, do not wait. We report it to the guest at its next one.
 */
#include "vmm/cpu/soft/simd-int.h"

#define ALL_XMM                                                                                    \
	"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",   \
		"xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

typedef void __attribute__((sysv_abi)) (*x87_thunk)(void *);

static void host_load(struct soft_simd *s, const struct fx_image *f)
{
	memcpy(&s->host, f, 24);
	memcpy(s->host.st, f->st, sizeof(f->st));
	__asm__ volatile("stmxcsr %0" : "=m"(s->host.mxcsr));
	__asm__ volatile("fxrstor64 %0" : : "m"(s->host) : ALL_XMM, "memory");
}

static void host_save(struct soft_simd *s)
{
	__asm__ volatile("fxsave64 %0" : "=m"(s->host) : : "memory");
}

static void host_clear(void)
{
	__asm__ volatile("fninit");
}

void x87_init_image(struct fx_image *f)
{
	memset(f, 0, 24);
	memset(f->st, 0, sizeof(f->st));
	f->fcw = FCW_INIT;
}

void x87_sync(struct soft_vcpu *c)
{
	struct soft_simd *s = SIMD(c);

	if (!s->x87_live)
		return;
	host_save(s);
	memcpy(IMAGE(c), &s->host, 6); /* not FOP, FIP, FDP */
	memcpy(IMAGE(c)->st, s->host.st, sizeof(s->host.st));
}

void x87_spill(struct soft_vcpu *c)
{
	struct soft_simd *s = SIMD(c);

	if (!s->x87_live)
		return;
	x87_sync(c);
	host_clear();
	s->x87_live = false;
}

void x87_wait(struct soft_vcpu *c)
{
	if (!SIMD(c)->x87_live && IMAGE(c)->fsw & FX_ES)
		soft_raise(c, EXC_MF, 0);
}

/* Before a waiting instruction: true when the registers are in the host now, false when it must bounce. */
static NOINLINE bool x87_enter_slow(struct soft_vcpu *c)
{
	x87_wait(c);
	if ((IMAGE(c)->fcw & FCW_MASKS) != FCW_MASKS)
		return false;
	host_load(SIMD(c), IMAGE(c));
	SIMD(c)->x87_live = true;
	return true;
}

static ALWAYS_INLINE bool x87_enter(struct soft_vcpu *c, const struct insn *i)
{
	x87_check(c, i);
	c->cur = i;
	return likely(SIMD(c)->x87_live) || x87_enter_slow(c);
}

/* Runs a thunk on the image; ret: flags, when with_flags. What FIP, FDP and FOP become is the caller's. */
static uint16_t bounce(struct soft_vcpu *c, x87_thunk t, void *mem, bool with_flags, bool pointers)
{
	struct soft_simd *s = SIMD(c);
	uint16_t fl = c->fl;

	host_load(s, IMAGE(c));
	if (with_flags)
		fl = soft_thunk_with_flags((const void *)(uintptr_t)t, fl);
	else
		t(mem);
	host_save(s);
	host_clear();
	memcpy(IMAGE(c), &s->host, pointers ? 24 : 6);
	memcpy(IMAGE(c)->st, s->host.st, sizeof(s->host.st));
	return fl;
}

/* After an arithmetic instruction bounced; fdp: its memory operand's offset, if any. */
static void set_pointers(struct soft_vcpu *c, const struct insn *i, bool mem)
{
	struct fx_image *f = IMAGE(c);

	f->fip = soft_rip(c);
	if (f->fsw & FX_ES) {
		f->fop = (uint16_t)((i->raw.op & 7) << 8 | i->raw.modrm);
		if (mem)
			f->fdp = soft_ea_offset(c, i);
	}
}

#define REG_SLOT(i) ((x87_thunk)(uintptr_t)(soft_thunk_x87_reg + (i)->raw.user * 4))
#define MEM_SLOT(i) ((x87_thunk)(uintptr_t)(soft_thunk_x87_mem + (i)->raw.user * 8))

static HANDLER(x87_reg)
{
	if (likely(x87_enter(c, i))) {
		REG_SLOT(i)(NULL);
		IMAGE(c)->fip = soft_rip(c);
	} else {
		bounce(c, REG_SLOT(i), NULL, false, false);
		set_pointers(c, i, false);
	}
	NEXT(c, i);
}

static HANDLER(x87_reg_flags) /* FCMOVcc, F(U)COMI(P) */
{
	if (likely(x87_enter(c, i))) {
		c->fl = soft_thunk_with_flags((const void *)(uintptr_t)REG_SLOT(i), c->fl);
		IMAGE(c)->fip = soft_rip(c);
	} else {
		c->fl = bounce(c, REG_SLOT(i), NULL, true, false);
		set_pointers(c, i, false);
	}
	NEXT(c, i);
}

/* i->size = bytes of the memory operand */
static HANDLER(x87_load)
{
	bool live = x87_enter(c, i);
	void *src = (void *)(uintptr_t)simd_src(c, i, i->size, false);

	if (likely(live)) {
		MEM_SLOT(i)(src);
		IMAGE(c)->fip = soft_rip(c);
	} else {
		bounce(c, MEM_SLOT(i), src, false, false);
		set_pointers(c, i, true);
	}
	NEXT(c, i);
}

static NOINLINE void store_slow(struct soft_vcpu *c, const struct insn *i, uint64_t lin, bool live)
{
	void *tmp = SIMD(c)->scratch;

	if (live) {
		mem_probe_write(c, lin, i->size);
		MEM_SLOT(i)(tmp);
		IMAGE(c)->fip = soft_rip(c);
	} else {
		struct fx_image *f = IMAGE(c), *old = (struct fx_image *)(SIMD(c)->scratch + 64),
				*new = old + 1;
		uint16_t before = f->fsw, now, unmasked = ~f->fcw & FCW_MASKS;

		memcpy(old, f, FX_X87);
		f->fsw &=
			(uint16_t)~FCW_MASKS; /* to see which exceptions are new; none is pending */
		bounce(c, MEM_SLOT(i), tmp, false, false);
		now = f->fsw;
		f->fsw |= before & (FCW_MASKS | FX_SF);
		set_pointers(c, i, true);
		/* An unmasked exception but inexactness stores nothing, and does not look at memory. */
		if (now & unmasked & (FX_IE | FX_DE | FX_ZE | FX_OE | FX_UE))
			return;
		memcpy(new, f, FX_X87);
		memcpy(f, old, FX_X87);
		mem_probe_write(c, lin, i->size);
		memcpy(f, new, FX_X87);
	}
	mem_write_bytes(c, lin, tmp, i->size);
}

static HANDLER(x87_store)
{
	bool live = x87_enter(c, i);
	uint64_t lin = soft_ea(c, i);
	void *p = mem_fast_w(c, lin, i->size);

	if (likely(live && p)) {
		MEM_SLOT(i)(p);
		IMAGE(c)->fip = soft_rip(c);
	} else {
		store_slow(c, i, lin, live);
	}
	NEXT(c, i);
}

/* --- control --- */

static HANDLER(fwait)
{
	if (unlikely((c->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS)))
		simd_trap_x87(c, i);
	c->cur = i;
	x87_wait(c);
	NEXT(c, i);
}

static HANDLER(fnop87) /* FNENI, FNDISI, FNSETPM: nothing since the 80387 */
{
	x87_check(c, i);
	NEXT(c, i);
}

static HANDLER(fninit)
{
	x87_check(c, i);
	if (SIMD(c)->x87_live) {
		/* Register contents survive. */
		host_clear();
		memset(IMAGE(c), 0, 24);
	} else {
		struct fx_image *f = IMAGE(c);

		bounce(c, REG_SLOT(i), NULL, false, false);
		memset(f, 0, 24);
	}
	IMAGE(c)->fcw = FCW_INIT;
	NEXT(c, i);
}

static HANDLER(fnclex)
{
	x87_check(c, i);
	if (SIMD(c)->x87_live)
		REG_SLOT(i)(NULL);
	else
		IMAGE(c)->fsw &= 0x7f00;
	NEXT(c, i);
}

static HANDLER(fldcw)
{
	uint16_t *v = (uint16_t *)SIMD(c)->tmp[0];
	const void *src;

	x87_enter(c, i);
	src = simd_src(c, i, 2, false);
	memcpy(v, src, 2); /* once: the guest may change it */
	if (SIMD(c)->x87_live && (*v & FCW_MASKS) == FCW_MASKS) {
		MEM_SLOT(i)(v);
		NEXT(c, i);
	}
	x87_spill(c);
	bounce(c, MEM_SLOT(i), v, false, false);
	NEXT(c, i);
}

static uint16_t get_fcw(struct soft_vcpu *c)
{
	uint16_t v = IMAGE(c)->fcw;

	if (SIMD(c)->x87_live)
		__asm__ volatile("fnstcw %0" : "=m"(v));
	return v;
}

static uint16_t get_fsw(struct soft_vcpu *c)
{
	uint16_t v = IMAGE(c)->fsw;

	if (SIMD(c)->x87_live)
		__asm__ volatile("fnstsw %0" : "=m"(v));
	return v;
}

static HANDLER(fnstcw)
{
	x87_check(c, i);
	mem_write16(c, soft_ea(c, i), get_fcw(c));
	NEXT(c, i);
}

static HANDLER(fnstsw)
{
	x87_check(c, i);
	mem_write16(c, soft_ea(c, i), get_fsw(c));
	NEXT(c, i);
}

static HANDLER(fnstsw_ax)
{
	x87_check(c, i);
	SLOT16(c, 0) = get_fsw(c);
	NEXT(c, i);
}

/* --- FLDENV, FNSTENV, FRSTOR, FNSAVE: natively, in the format of the operand size --- */

#define DEFINE_ENV16(name, ins)                                                                    \
	static __attribute__((sysv_abi)) void name(void *p)                                        \
	{                                                                                          \
		__asm__ volatile(".byte 0x66\n\t" ins " (%0)" : : "r"(p) : "memory");              \
	}
DEFINE_ENV16(t_fldenv16, "fldenv")
DEFINE_ENV16(t_fnstenv16, "fnstenv")
DEFINE_ENV16(t_frstor16, "frstor")
DEFINE_ENV16(t_fnsave16, "fnsave")

/* i->aux: the 16-bit format; i->size: bytes */
static x87_thunk env_thunk(const struct insn *i)
{
	if (!i->aux)
		return MEM_SLOT(i);
	if (i->raw.op == 0xd9)
		return (i->raw.modrm & 0x38) == 0x20 ? t_fldenv16 : t_fnstenv16;
	return (i->raw.modrm & 0x38) == 0x20 ? t_frstor16 : t_fnsave16;
}

static HANDLER(env_load)
{
	void *src;

	x87_check(c, i);
	c->cur = i;
	x87_wait(c);
	src = (void *)(uintptr_t)simd_src(c, i, i->size, false);
	memmove(SIMD(c)->scratch, src, i->size);
	x87_spill(c);
	bounce(c, env_thunk(i), SIMD(c)->scratch, false, true);
	NEXT(c, i);
}

static HANDLER(env_store) /* does not wait */
{
	uint64_t lin;

	x87_check(c, i);
	lin = soft_ea(c, i);
	mem_probe_write(c, lin, i->size);
	x87_spill(c);
	bounce(c, env_thunk(i), SIMD(c)->scratch, false, true);
	mem_write_bytes(c, lin, SIMD(c)->scratch, i->size);
	NEXT(c, i);
}

/* --- binding --- */

/* Register forms that exist: one bit for each modrm c0-ff. */
static const uint64_t reg_valid[8] = {
	~0ull,		       /* d8 */
	0,		       /* d9: see reg_exists() */
	0x00000200ffffffffull, /* da: fcmov, fucompp */
	0x00ffff1fffffffffull, /* db: fcmov, control, fucomi, fcomi */
	~0ull,		       /* dc */
	0x0000ffffffffffffull, /* dd */
	0xffffffff02ffffffull, /* de: fcompp alone in d8-df */
	0x00ffff01ffffffffull, /* df */
};

static bool reg_exists(const struct dec *d)
{
	unsigned k = d->modrm & 0x3f;

	if (d->op == 0xd9) {
		if (k < 0x10 || (k >= 0x18 && k < 0x20))
			return true; /* fld, fxch, fstp */
		if (k < 0x18)
			return k == 0x10; /* fnop */
		return k != 0x22 && k != 0x23 && k != 0x26 && k != 0x27 && k != 0x2f;
	}
	return reg_valid[d->op - 0xd8] >> k & 1;
}

static bool bind_reg(struct insn *i, const struct dec *d)
{
	if (!reg_exists(d))
		return false;
	i->raw.user = (uint16_t)((d->op - 0xd8) * 64 + (d->modrm & 0x3f));
	i->fn = x87_reg;
	if (d->op == 0xda && d->modrm < 0xe0)
		i->fn = x87_reg_flags;
	if (d->op == 0xdb) {
		if (d->modrm == 0xe3)
			i->fn = fninit;
		else if (d->modrm == 0xe2)
			i->fn = fnclex;
		else if (d->modrm >= 0xe0 && d->modrm <= 0xe4)
			i->fn = fnop87;
		else if (d->modrm < 0xe0 || d->modrm >= 0xe8)
			i->fn = x87_reg_flags;
	}
	if (d->op == 0xdf && d->modrm == 0xe0)
		i->fn = fnstsw_ax;
	if (d->op == 0xdf && d->modrm >= 0xe8)
		i->fn = x87_reg_flags;
	return true;
}

/* Sizes of memory operands: > 0 loads, < 0 stores, 0: no such instruction or control. */
static const int8_t mem_size[8][8] = {
	{4, 4, 4, 4, 4, 4, 4, 4},	 /* d8 */
	{4, 0, -4, -4, 0, 0, 0, 0},	 /* d9 */
	{4, 4, 4, 4, 4, 4, 4, 4},	 /* da */
	{4, -4, -4, -4, 0, 10, 0, -10},	 /* db */
	{8, 8, 8, 8, 8, 8, 8, 8},	 /* dc */
	{8, -8, -8, -8, 0, 0, 0, 0},	 /* dd */
	{2, 2, 2, 2, 2, 2, 2, 2},	 /* de */
	{2, -2, -2, -2, 10, 8, -10, -8}, /* df */
};

static bool bind_mem(struct insn *i, const struct dec *d)
{
	unsigned reg = d->reg & 7;
	int size = mem_size[d->op - 0xd8][reg];
	bool small = d->opsize == 2;

	i->raw.user = (uint16_t)((d->op - 0xd8) * 8 + reg);
	if (size) {
		i->size = (uint8_t)(size < 0 ? -size : size);
		i->fn = size < 0 ? x87_store : x87_load;
		return true;
	}
	i->aux = small;
	if (d->op == 0xd9 && reg >= 4) {
		static const insn_fn fn[4] = {env_load, fldcw, env_store, fnstcw};

		i->size = small ? 14 : 28;
		i->fn = fn[reg - 4];
		return true;
	}
	if (d->op == 0xdd && reg >= 4 && reg != 5) {
		i->size = small ? 94 : 108;
		i->fn = reg == 4 ? env_load : reg == 6 ? env_store : fnstsw;
		return true;
	}
	return false;
}

bool x87_bind(struct insn *i, const struct dec *d)
{
	if (d->lock)
		return false;
	if (d->op == 0x9b) {
		i->fn = fwait;
		return true;
	}
	if (d->op < 0xd8 || d->op > 0xdf)
		return false;
	i->raw.op = d->op;
	i->raw.modrm = d->modrm;
	return d->mem ? bind_mem(i, d) : bind_reg(i, d);
}
