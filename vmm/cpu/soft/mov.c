/* SPDX-License-Identifier: MIT */
/*
 * Data movement: MOV and its extensions, LEA, XCHG, CMOVcc, SETcc, the stack in 64-bit mode, BSWAP,
 * CBW and CWD, MOVBE, MOVNTI, LAHF and SAHF. Segment registers are in seg-ops.c; the stack of the
 * other modes in legacy.c.
 */
#include "vmm/cpu/soft/handler.h"

#define FOR_SIZES(X)                                                                               \
	X(8)                                                                                       \
	X(16)                                                                                      \
	X(32)                                                                                      \
	X(64)
#define SIZES(name, form)                                                                          \
	{                                                                                          \
		name##8##form, name##16##form, name##32##form, name##64##form                      \
	}
#define SIZES3(name, form)                                                                         \
	{                                                                                          \
		NULL, name##16##form, name##32##form, name##64##form                               \
	}

#define DEF_MOV_K(K, bits)                                                                         \
	HANDLER(mov##bits##_rm##K)                                                                 \
	{                                                                                          \
		FAST_R(K, bits, p, mov##bits##_rm);                                                \
		SET(bits, c, i->r, *p);                                                            \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(mov##bits##_mr##K)                                                                 \
	{                                                                                          \
		FAST_W(K, bits, p, mov##bits##_mr);                                                \
		*p = GET(bits, c, i->r);                                                           \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(mov##bits##_mi##K)                                                                 \
	{                                                                                          \
		FAST_W(K, bits, p, mov##bits##_mi);                                                \
		*p = (uint##bits##_t)i->imm;                                                       \
		NEXT(c, i);                                                                        \
	}
#define DEF_MOV(bits)                                                                              \
	HANDLER(mov##bits##_rr) /* rm = r */                                                       \
	{                                                                                          \
		SET(bits, c, i->rm, GET(bits, c, i->r));                                           \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(mov##bits##_rm)                                                                    \
	{                                                                                          \
		uint##bits##_t v = MEM_READ(bits, c, soft_ea(c, i));                               \
		SET(bits, c, i->r, v);                                                             \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(mov##bits##_mr)                                                                    \
	{                                                                                          \
		uint64_t lin = soft_ea(c, i);                                                      \
		MEM_WRITE(bits, c, lin, GET(bits, c, i->r));                                       \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(mov##bits##_ri)                                                                    \
	{                                                                                          \
		SET(bits, c, i->rm, i->imm);                                                       \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(mov##bits##_mi)                                                                    \
	{                                                                                          \
		uint64_t lin = soft_ea(c, i);                                                      \
		MEM_WRITE(bits, c, lin, (uint##bits##_t)i->imm);                                   \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(xchg##bits##_rr)                                                                   \
	{                                                                                          \
		uint##bits##_t a = GET(bits, c, i->rm), b = GET(bits, c, i->r);                    \
		SET(bits, c, i->rm, b);                                                            \
		SET(bits, c, i->r, a);                                                             \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(xchg##bits##_m) /* locked by nature */                                             \
	{                                                                                          \
		uint64_t lin = soft_ea(c, i);                                                      \
		uint##bits##_t v = GET(bits, c, i->r), *p = mem_rmw(c, lin, bits / 8);             \
		if (likely(p != NULL)) {                                                           \
			__asm__ volatile("xchg" SFX(bits) " %0, %1"                                \
					 : "+q"(v), "+m"(*p)                                       \
					 :                                                         \
					 : "memory");                                              \
		} else {                                                                           \
			uint##bits##_t old;                                                        \
			SPLIT_LOCK(c);                                                             \
			old = MEM_READ(bits, c, lin);                                              \
			MEM_WRITE(bits, c, lin, v);                                                \
			SPLIT_UNLOCK(c);                                                           \
			v = old;                                                                   \
		}                                                                                  \
		SET(bits, c, i->r, v);                                                             \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	FOR_KINDS(DEF_MOV_K, bits)                                                                 \
	/* moffs: the address is in imm, the register is the accumulator */                        \
	HANDLER(mov##bits##_load_abs)                                                              \
	{                                                                                          \
		uint##bits##_t v;                                                                  \
		c->cur = i;                                                                        \
		v = MEM_READ(bits, c,                                                              \
			(uint64_t)i->imm + SLOT64(c, SLOT_SEGBASE + 8 * (i->ea & EA_SEG)));        \
		SET(bits, c, CPU_RAX * 8, v);                                                      \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(mov##bits##_store_abs)                                                             \
	{                                                                                          \
		c->cur = i;                                                                        \
		MEM_WRITE(bits, c,                                                                 \
			(uint64_t)i->imm + SLOT64(c, SLOT_SEGBASE + 8 * (i->ea & EA_SEG)),         \
			GET(bits, c, CPU_RAX * 8));                                                \
		NEXT(c, i);                                                                        \
	}
FOR_SIZES(DEF_MOV)
#define MEM_SIZES(name, form)                                                                      \
	{                                                                                          \
		MEM_FNS(name##8##form), MEM_FNS(name##16##form), MEM_FNS(name##32##form),          \
			MEM_FNS(name##64##form)                                                    \
	}
static const struct mem_fns mov_rm[4] = MEM_SIZES(mov, _rm), mov_mr[4] = MEM_SIZES(mov, _mr),
			    mov_mi[4] = MEM_SIZES(mov, _mi);
enum { F_RR, F_RI, F_XRR, F_XM, F_LOAD, F_STORE };
static const insn_fn mov_fns[][4] = {SIZES(mov, _rr), SIZES(mov, _ri), SIZES(xchg, _rr),
	SIZES(xchg, _m), SIZES(mov, _load_abs), SIZES(mov, _store_abs)};

#define DEF_EXT_K(K, name, dst, src, T)                                                            \
	HANDLER(name##src##_##dst##_m##K)                                                          \
	{                                                                                          \
		FAST_R(K, src, p, name##src##_##dst##_m);                                          \
		SET(dst, c, i->r, (T)*p);                                                          \
		NEXT(c, i);                                                                        \
	}
#define DEF_EXT(name, dst, src, T)                                                                 \
	HANDLER(name##src##_##dst##_r)                                                             \
	{                                                                                          \
		SET(dst, c, i->r, (T)GET(src, c, i->rm));                                          \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(name##src##_##dst##_m)                                                             \
	{                                                                                          \
		T v = (T)MEM_READ(src, c, soft_ea(c, i));                                          \
		SET(dst, c, i->r, v);                                                              \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	FOR_KINDS(DEF_EXT_K, name, dst, src, T)
#define DEF_EXTS(dst)                                                                              \
	DEF_EXT(zx, dst, 8, uint8_t)                                                               \
	DEF_EXT(zx, dst, 16, uint16_t)                                                             \
	DEF_EXT(sx, dst, 8, int8_t)                                                                \
	DEF_EXT(sx, dst, 16, int16_t)
DEF_EXTS(16)
DEF_EXTS(32)
DEF_EXTS(64)
DEF_EXT(sx, 64, 32, int32_t)
#define EXT_R(name, src)                                                                           \
	{                                                                                          \
		NULL, name##src##_16_r, name##src##_32_r, name##src##_64_r                         \
	}
#define EXT_M(name, src)                                                                           \
	{                                                                                          \
		{NULL}, MEM_FNS(name##src##_16_m), MEM_FNS(name##src##_32_m),                      \
			MEM_FNS(name##src##_64_m)                                                  \
	}
static const insn_fn ext_r[2][2][4] = {
	{EXT_R(zx, 8), EXT_R(zx, 16)}, {EXT_R(sx, 8), EXT_R(sx, 16)}};
static const struct mem_fns ext_m[2][2][4] = {
	{EXT_M(zx, 8), EXT_M(zx, 16)}, {EXT_M(sx, 8), EXT_M(sx, 16)}};
static const struct mem_fns movsxd_m = MEM_FNS(sx32_64_m);

HANDLER(lea64)
{
	SLOT64(c, i->r) =
		SLOT64(c, i->base) + (SLOT64(c, i->index) << i->scale) + (uint64_t)(int64_t)i->disp;
	NEXT(c, i);
}

HANDLER(lea_any)
{
	slot_set(c, i->r, i->size, soft_ea_offset(c, i));
	NEXT(c, i);
}

/* --- conditions
 * ---------------------------------------------------------------------------------------------- */

#define DEF_CC(n, cc, cond)                                                                        \
	HANDLER(set##cc##_r)                                                                       \
	{                                                                                          \
		unsigned f = c->fl;                                                                \
		SLOT8(c, i->rm) = (cond) ? 1 : 0;                                                  \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(set##cc##_m)                                                                       \
	{                                                                                          \
		unsigned f = c->fl;                                                                \
		uint64_t lin = soft_ea(c, i);                                                      \
		mem_write8(c, lin, (cond) ? 1 : 0);                                                \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(cmov##cc##_32)                                                                     \
	{                                                                                          \
		unsigned f = c->fl;                                                                \
		SLOT64(c, i->r) = (cond) ? SLOT32(c, i->rm) : SLOT32(c, i->r);                     \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(cmov##cc##_64)                                                                     \
	{                                                                                          \
		unsigned f = c->fl;                                                                \
		if (cond)                                                                          \
			SLOT64(c, i->r) = SLOT64(c, i->rm);                                        \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(cmov##cc##_any)                                                                    \
	{                                                                                          \
		unsigned f = c->fl;                                                                \
		uint64_t v = rm_get(c, i, i->size);                                                \
		slot_set(c, i->r, i->size, (cond) ? v : slot_get(c, i->r, i->size));               \
		NEXT(c, i);                                                                        \
	}
FOR_CC(DEF_CC)
#define CC_ROW(n, cc, cond)                                                                        \
	{set##cc##_r, set##cc##_m, cmov##cc##_32, cmov##cc##_64, cmov##cc##_any},
enum { CC_SET_R, CC_SET_M, CC_CMOV_32, CC_CMOV_64, CC_CMOV_ANY };
static const insn_fn cc_fns[16][5] = {FOR_CC(CC_ROW)};

/* --- the stack in 64-bit mode
 * -------------------------------------------------------------------------------- */

/* The full ones first; what is bound is the frameless one, see handler.h. */
HANDLER(push64_r_full)
{
	uint64_t v = SLOT64(c, i->rm), sp = c->gpr[CPU_RSP] - 8;

	c->cur = i;
	mem_write64(c, sp, v);
	c->gpr[CPU_RSP] = sp;
	NEXT(c, i);
}

HANDLER(push64_r)
{
	FAST_AT(w, 64, c->gpr[CPU_RSP] - 8, p, push64_r_full);
	*p = SLOT64(c, i->rm);
	c->gpr[CPU_RSP] -= 8;
	NEXT(c, i);
}

HANDLER(push64_i)
{
	uint64_t sp = c->gpr[CPU_RSP] - 8;

	c->cur = i;
	mem_write64(c, sp, (uint64_t)i->imm);
	c->gpr[CPU_RSP] = sp;
	NEXT(c, i);
}

HANDLER(push64_m)
{
	uint64_t v = mem_read64(c, soft_ea(c, i)), sp = c->gpr[CPU_RSP] - 8;

	mem_write64(c, sp, v);
	c->gpr[CPU_RSP] = sp;
	NEXT(c, i);
}

HANDLER(pop64_r_full)
{
	uint64_t sp = c->gpr[CPU_RSP], v;

	c->cur = i;
	v = mem_read64(c, sp);
	c->gpr[CPU_RSP] = sp + 8;
	SLOT64(c, i->rm) = v; /* POP RSP: the value wins */
	NEXT(c, i);
}

HANDLER(pop64_r)
{
	uint64_t v;
	FAST_AT(r, 64, c->gpr[CPU_RSP], p, pop64_r_full);

	v = *p;
	c->gpr[CPU_RSP] += 8;
	SLOT64(c, i->rm) = v;
	NEXT(c, i);
}

/* POP m: the address is computed with RSP already incremented. */
HANDLER(pop64_m)
{
	uint64_t sp = c->gpr[CPU_RSP], v, lin;

	c->cur = i;
	v = mem_read64(c, sp);
	lin = soft_ea(c, i) + (i->base == SLOT_RSP ? 8 : 0);
	mem_write64(c, lin, v);
	c->gpr[CPU_RSP] = sp + 8;
	NEXT(c, i);
}

/* 16-bit pushes and pops in 64-bit mode. */
HANDLER(push16_any)
{
	uint16_t v = i->aux ? (uint16_t)i->imm : (uint16_t)rm_get(c, i, 2);
	uint64_t sp = c->gpr[CPU_RSP] - 2;

	c->cur = i;
	mem_write16(c, sp, v);
	c->gpr[CPU_RSP] = sp;
	NEXT(c, i);
}

HANDLER(pop16_any)
{
	uint64_t sp = c->gpr[CPU_RSP];
	uint16_t v;

	c->cur = i;
	v = mem_read16(c, sp);
	if (i->flags & INSN_MEM) {
		uint64_t lin = soft_ea(c, i) + (i->base == SLOT_RSP ? 2 : 0);

		mem_write16(c, lin, v);
		c->gpr[CPU_RSP] = sp + 2;
	} else {
		c->gpr[CPU_RSP] = sp + 2;
		SLOT16(c, i->rm) = v;
	}
	NEXT(c, i);
}

HANDLER(leave16)
{
	uint64_t bp = c->gpr[CPU_RBP];
	uint16_t v;

	c->cur = i;
	v = mem_read16(c, bp);
	c->gpr[CPU_RSP] = bp + 2;
	SLOT16(c, CPU_RBP * 8) = v;
	NEXT(c, i);
}

HANDLER(leave64)
{
	uint64_t bp = c->gpr[CPU_RBP], v;

	c->cur = i;
	v = mem_read64(c, bp);
	c->gpr[CPU_RSP] = bp + 8;
	c->gpr[CPU_RBP] = v;
	NEXT(c, i);
}

/* --- odds and ends
 * ------------------------------------------------------------------------------------------- */

const struct insn *soft_h_nop(struct soft_vcpu *c, const struct insn *i)
{
	NEXT(c, i);
}

/*
 * A guest that spins waits for another vCPU, whose thread may need this very processor: let it run
 * now and then.
 */
HANDLER(pause)
{
	enum { SPINS = 64 };

	if (c->vm->nvcpus > 1 && ++c->pauses % SPINS == 0)
		os_thread_yield();
	NEXT(c, i);
}

HANDLER(bswap32)
{
	SLOT64(c, i->rm) = __builtin_bswap32(SLOT32(c, i->rm));
	NEXT(c, i);
}

HANDLER(bswap64)
{
	SLOT64(c, i->rm) = __builtin_bswap64(SLOT64(c, i->rm));
	NEXT(c, i);
}

/* Undefined by the manual; processors write zero. */
HANDLER(bswap16)
{
	SLOT16(c, i->rm) = 0;
	NEXT(c, i);
}

HANDLER(cbw) /* CBW, CWDE, CDQE */
{
	switch (i->size) {
	case 2: SET16(c, 0, (int8_t)SLOT8(c, 0)); break;
	case 4: SET32(c, 0, (int16_t)SLOT16(c, 0)); break;
	default: SET64(c, 0, (int64_t)(int32_t)SLOT32(c, 0));
	}
	NEXT(c, i);
}

HANDLER(cwd) /* CWD, CDQ, CQO */
{
	switch (i->size) {
	case 2: SET16(c, CPU_RDX * 8, (int16_t)SLOT16(c, 0) >> 15); break;
	case 4: SET32(c, CPU_RDX * 8, (int32_t)SLOT32(c, 0) >> 31); break;
	default: SET64(c, CPU_RDX * 8, (int64_t)SLOT64(c, 0) >> 63);
	}
	NEXT(c, i);
}

HANDLER(xlat)
{
	uint64_t off = c->gpr[CPU_RBX] + SLOT8(c, 0);

	c->cur = i;
	if (i->ea & EA_A32)
		off = (uint32_t)off;
	else if (i->ea & EA_A16)
		off = (uint16_t)off;
	off += c->segbase[i->ea & EA_SEG];
	SLOT8(c, 0) = mem_read8(c, i->ea & EA_LEGACY ? (uint32_t)off : off);
	NEXT(c, i);
}

HANDLER(lahf)
{
	SLOT8(c, 1) = (uint8_t)(c->fl >> 8) | 2;
	NEXT(c, i);
}

HANDLER(sahf)
{
	c->fl = (uint16_t)((SLOT8(c, 1) & 0xd5) << 8 | (c->fl & FL_OF));
	NEXT(c, i);
}

static uint64_t swap(uint64_t v, unsigned size)
{
	return __builtin_bswap64(v) >> (64 - 8 * size);
}

HANDLER(movbe_load)
{
	slot_set(c, i->r, i->size, swap(mem_read_n(c, soft_ea(c, i), i->size), i->size));
	NEXT(c, i);
}

HANDLER(movbe_store)
{
	mem_write_n(c, soft_ea(c, i), i->size, swap(slot_get(c, i->r, i->size), i->size));
	NEXT(c, i);
}

/* --- binding
 * -------------------------------------------------------------------------------------------------
 */

static bool bind_0f(struct insn *i, const struct dec *d)
{
	bool m = i->flags & INSN_MEM;
	unsigned z = size_index(i->size), sx, wide;

	switch (d->op) {
	case 0x0d: i->fn = soft_h_nop; return true;
	case 0x18 ... 0x1f: i->fn = soft_h_nop; return true;
	case 0x40 ... 0x4f:
		i->fn = cc_fns[d->op & 15][CC_CMOV_ANY];
		if (!m && i->size >= 4)
			i->fn = cc_fns[d->op & 15][i->size == 4 ? CC_CMOV_32 : CC_CMOV_64];
		return true;
	case 0x90 ... 0x9f:
		bind_bytes(i, d);
		i->fn = cc_fns[d->op & 15][m ? CC_SET_M : CC_SET_R];
		return true;
	case 0xb6:
	case 0xb7:
	case 0xbe:
	case 0xbf:
		sx = d->op >= 0xbe;
		wide = d->op & 1;
		if (!wide)
			i->rm = slot_gpr8(d->rm, d->rex);
		i->fn = m ? pick_mem(i, &ext_m[sx][wide][z]) : ext_r[sx][wide][z];
		return true;
	case 0xc3: /* MOVNTI */ i->fn = pick_mem(i, &mov_mr[z]); return m && i->size >= 4;
	case 0xc8 ... 0xcf:
		i->rm = slot_gpr((d->op & 7) | (d->rex & 1) << 3);
		i->fn = z == 3 ? bswap64 : z == 2 ? bswap32 : bswap16;
		return true;
	default: return false;
	}
}

static bool bind_stack(struct insn *i, const struct dec *d)
{
	bool m = i->flags & INSN_MEM, wide = i->size == 8;

	if (d->mode != MODE_64)
		return false;
	i->flags |= INSN_STACK;
	switch (d->op) {
	case 0x50 ... 0x57:
	case 0x58 ... 0x5f:
		i->rm = slot_gpr((d->op & 7) | (d->rex & 1) << 3);
		if (d->op < 0x58)
			i->fn = wide ? push64_r : push16_any;
		else
			i->fn = wide ? pop64_r : pop16_any;
		return true;
	case 0x68:
	case 0x6a:
		i->aux = 1;
		i->fn = wide ? push64_i : push16_any;
		return true;
	case 0x8f:
		if (d->reg & 7)
			return false;
		i->fn = !wide ? pop16_any : m ? pop64_m : pop64_r;
		return true;
	case 0xc9: i->fn = wide ? leave64 : leave16; return true;
	case 0xff: i->fn = !wide ? push16_any : m ? push64_m : push64_r; return true;
	default: return false;
	}
}

static bool bind_mov_rm(struct insn *i, const struct dec *d)
{
	bool m = i->flags & INSN_MEM;
	unsigned z;

	if (!(d->op & 1))
		bind_bytes(i, d);
	z = size_index(i->size);
	if (d->op & 2 && !m)
		swap_regs(i);
	i->fn = m ? pick_mem(i, d->op & 2 ? &mov_rm[z] : &mov_mr[z]) : mov_fns[F_RR][z];
	return true;
}

bool soft_bind_mov(struct insn *i, const struct dec *d)
{
	bool m = i->flags & INSN_MEM;
	unsigned op = d->op;

	if (d->map == MAP_0F38 && (op & 0xfe) == 0xf0 && d->pfx != 0xf2 && d->pfx != 0xf3 && m) {
		i->fn = op & 1 ? movbe_store : movbe_load;
		return !(i->flags & INSN_LOCK);
	}
	if (d->map > MAP_0F)
		return false;
	if (i->flags & INSN_LOCK && !(d->map == MAP_1 && (op & 0xfe) == 0x86 && m))
		return false;
	if (d->map == MAP_0F)
		return bind_0f(i, d);
	switch (op) {
	case 0x50 ... 0x5f:
	case 0x68:
	case 0x6a:
	case 0x8f:
	case 0xc9: return bind_stack(i, d);
	case 0xff: return (d->reg & 7) == 6 && bind_stack(i, d);
	case 0x63: /* MOVSXD */
		if (d->mode != MODE_64)
			return false;
		if (i->size == 8)
			i->fn = m ? pick_mem(i, &movsxd_m) : sx32_64_r;
		else if (m)
			i->fn = pick_mem(i, &mov_rm[size_index(i->size)]);
		else
			return bind_mov_rm(i, &(struct dec){.op = 0x8b, .mode = d->mode});
		return true;
	case 0x86:
	case 0x87:
		if (op == 0x86)
			bind_bytes(i, d);
		i->fn = mov_fns[m ? F_XM : F_XRR][size_index(i->size)];
		return true;
	case 0x88 ... 0x8b: return bind_mov_rm(i, d);
	case 0x8d:
		i->fn = i->size == 8 && !(i->ea & (EA_A32 | EA_A16 | EA_DISP_BIG)) ? lea64
										   : lea_any;
		return m;
	case 0x90 ... 0x97:
		i->r = slot_gpr(CPU_RAX);
		i->rm = slot_gpr((op & 7) | (d->rex & 1) << 3);
		if (op == 0x90 && d->rep == 0xf3)
			i->fn = pause;
		else
			i->fn = i->r == i->rm ? soft_h_nop : mov_fns[F_XRR][size_index(i->size)];
		return true;
	case 0x98: i->fn = cbw; return true;
	case 0x99: i->fn = cwd; return true;
	case 0x9e: i->fn = sahf; return true;
	case 0x9f: i->fn = lahf; return true;
	case 0xa0 ... 0xa3:
		if (d->mode != MODE_64)
			return false;
		i->imm = d->disp;
		if (!(i->ea & EA_ADDSEG))
			i->ea = SEG_DS;
		if (!(op & 1))
			i->size = 1;
		i->fn = mov_fns[op & 2 ? F_STORE : F_LOAD][size_index(i->size)];
		return true;
	case 0xb0 ... 0xb7:
		i->size = 1;
		i->rm = slot_gpr8((op & 7) | (d->rex & 1) << 3, d->rex);
		i->fn = mov8_ri;
		return true;
	case 0xb8 ... 0xbf:
		i->rm = slot_gpr((op & 7) | (d->rex & 1) << 3);
		i->fn = mov_fns[F_RI][size_index(i->size)];
		return true;
	case 0xc6: bind_bytes(i, d); __attribute__((fallthrough));
	case 0xc7:
		if (d->reg & 7)
			return false;
		i->fn = m ? pick_mem(i, &mov_mi[size_index(i->size)])
			  : mov_fns[F_RI][size_index(i->size)];
		return true;
	case 0xd7: i->fn = xlat; return true;
	default: return false;
	}
}
