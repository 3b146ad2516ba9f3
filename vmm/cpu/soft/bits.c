/* SPDX-License-Identifier: MIT */
/*
 * Bit tests and counts, CRC32, ADCX/ADOX, and the read-modify-write instructions XADD, CMPXCHG,
 * CMPXCHG8B, CMPXCHG16B. The binder's alternatives are tried in order, so a handler may serve
 * several opcodes.
 */
#include "vmm/cpu/soft/handler.h"
#include "vmm/cpu/soft/mmu.h"

#define SIZES(name, form)                                                                          \
	{                                                                                          \
		name##8##form, name##16##form, name##32##form, name##64##form                      \
	}
#define SIZES3(name, form)                                                                         \
	{                                                                                          \
		NULL, name##16##form, name##32##form, name##64##form                               \
	}
#define FOR_SIZES3(X, ...)                                                                         \
	X(16, __VA_ARGS__)                                                                         \
	X(32, __VA_ARGS__)                                                                         \
	X(64, __VA_ARGS__)

/* BT and friends. With a register bit offset, a memory operand reaches to any place around its
 * address. */
enum { BT, BTS, BTR, BTC };

static uint64_t bt_apply(unsigned op, uint64_t v, uint64_t mask)
{
	return op == BTS ? v | mask : op == BTR ? v & ~mask : op == BTC ? v ^ mask : v;
}

static uint64_t ea_plus(struct soft_vcpu *c, const struct insn *i, int64_t plus)
{
	uint64_t off;

	if (!(i->ea & EA_SLOW))
		return soft_ea(c, i) + (uint64_t)plus;
	c->cur = i;
	off = soft_ea_offset(c, i) + (uint64_t)plus;
	if (i->ea & EA_A32)
		off = (uint32_t)off;
	else if (i->ea & EA_A16)
		off = (uint16_t)off;
	if (i->ea & EA_LEGACY)
		return soft_seg_lin(c, i->ea & EA_SEG, off);
	return i->ea & EA_ADDSEG ? off + c->segbase[i->ea & EA_SEG] : off;
}

/* aux: operation; | 4: the offset is imm */
#define DEF_BT(bits)                                                                               \
	HANDLER(bt##bits##_r)                                                                      \
	{                                                                                          \
		unsigned n = (unsigned)(i->aux & 4 ? (uint64_t)i->imm : GET(bits, c, i->r)) &      \
			     (bits - 1);                                                           \
		uint##bits##_t v = GET(bits, c, i->rm);                                            \
		c->fl = (uint16_t)((c->fl & ~FL_CF) | (v >> n & 1) << 8);                          \
		if (i->aux & 3)                                                                    \
			SET(bits, c, i->rm, bt_apply(i->aux & 3, v, 1ull << n));                   \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(bt##bits##_m)                                                                      \
	{                                                                                          \
		uint64_t lin;                                                                      \
		int64_t at =                                                                       \
			i->aux & 4 ? (i->imm & (bits - 1)) : (int##bits##_t)GET(bits, c, i->r);    \
		unsigned n = (unsigned)at & (bits - 1);                                            \
		uint##bits##_t *p, v, mask = (uint##bits##_t)(1ull << n);                          \
		int64_t plus = (at >> 3) & ~(int64_t)(bits / 8 - 1);                               \
		lin = ea_plus(c, i, plus);                                                         \
		if (!(i->aux & 3)) {                                                               \
			v = MEM_READ(bits, c, lin);                                                \
		} else if ((p = mem_rmw(c, lin, bits / 8))) {                                      \
			unsigned op = i->aux & 3;                                                  \
			if (!(i->flags & INSN_LOCK)) {                                             \
				v = *p;                                                            \
				*p = (uint##bits##_t)bt_apply(op, v, mask);                        \
			} else if (op == BTS) {                                                    \
				v = __atomic_fetch_or(p, mask, __ATOMIC_SEQ_CST);                  \
			} else if (op == BTR) {                                                    \
				v = __atomic_fetch_and(                                            \
					p, (uint##bits##_t) ~mask, __ATOMIC_SEQ_CST);              \
			} else {                                                                   \
				v = __atomic_fetch_xor(p, mask, __ATOMIC_SEQ_CST);                 \
			}                                                                          \
		} else {                                                                           \
			SPLIT_LOCK(c);                                                             \
			v = MEM_READ(bits, c, lin);                                                \
			MEM_WRITE(bits, c, lin, (uint##bits##_t)bt_apply(i->aux & 3, v, mask));    \
			SPLIT_UNLOCK(c);                                                           \
		}                                                                                  \
		c->fl = (uint16_t)((c->fl & ~FL_CF) | (v >> n & 1) << 8);                          \
		NEXT(c, i);                                                                        \
	}
DEF_BT(16)
DEF_BT(32)
DEF_BT(64)
static const insn_fn bt_fns[2][4] = {SIZES3(bt, _r), SIZES3(bt, _m)};

/* BSF, BSR, POPCNT, TZCNT, LZCNT: on a register with the host's flags (BSF and BSR leave the
 * destination alone for 0). */
#define DEF_COUNT(bits, name, ins)                                                                 \
	HANDLER(name##bits)                                                                        \
	{                                                                                          \
		uint##bits##_t s = (uint##bits##_t)rm_get(c, i, bits / 8), d = GET(bits, c, i->r); \
		uint16_t f = c->fl;                                                                \
		__asm__(ASM_LOAD_FL ins SFX(bits) " %2, %0" ASM_SAVE_FL                            \
			: "+r"(d), "+a"(f)                                                         \
			: "r"(s)                                                                   \
			: "cc");                                                                   \
		c->fl = f;                                                                         \
		SET(bits, c, i->r, d);                                                             \
		NEXT(c, i);                                                                        \
	}
FOR_SIZES3(DEF_COUNT, popcnt, "popcnt")
FOR_SIZES3(DEF_COUNT, tzcnt, "tzcnt")
FOR_SIZES3(DEF_COUNT, lzcnt, "lzcnt")

/* BSF/BSR with a zero source: the destination, all 64 bits of it, is unchanged. */
#define DEF_BS(bits, name, ins)                                                                    \
	HANDLER(name##bits)                                                                        \
	{                                                                                          \
		uint##bits##_t s = (uint##bits##_t)rm_get(c, i, bits / 8), d = 0;                  \
		uint16_t f = c->fl;                                                                \
		__asm__(ASM_LOAD_FL ins SFX(bits) " %2, %0" ASM_SAVE_FL                            \
			: "+r"(d), "+a"(f)                                                         \
			: "r"(s)                                                                   \
			: "cc");                                                                   \
		c->fl = f;                                                                         \
		if (s)                                                                             \
			SET(bits, c, i->r, d);                                                     \
		NEXT(c, i);                                                                        \
	}
FOR_SIZES3(DEF_BS, bsf, "bsf")
FOR_SIZES3(DEF_BS, bsr, "bsr")
static const insn_fn count_fns[][4] = {
	SIZES3(bsf, ), SIZES3(bsr, ), SIZES3(tzcnt, ), SIZES3(lzcnt, ), SIZES3(popcnt, )};

/* CRC32 (Castagnoli), bit-reflected. i->imm: bytes of the source. */
HANDLER(crc32)
{
	unsigned n = (unsigned)i->imm;
	uint64_t s = rm_get(c, i, n);
	uint32_t crc = SLOT32(c, i->r);

	for (unsigned k = 0; k < n; k++) {
		crc ^= (uint8_t)(s >> (8 * k));
		for (unsigned b = 0; b < 8; b++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	SLOT64(c, i->r) = crc;
	NEXT(c, i);
}

/* ADCX and ADOX: add with carry, through one flag and touching no other. aux: the flag is OF. */
HANDLER(adcx_adox)
{
	uint16_t flag = i->aux ? FL_OF : FL_CF;
	uint64_t s = rm_get(c, i, i->size), d = slot_get(c, i->r, i->size), cin = !!(c->fl & flag),
		 sum;
	bool carry;

	if (i->size == 8) {
		carry = __builtin_add_overflow(s, d, &sum);
		carry |= __builtin_add_overflow(sum, cin, &sum);
	} else {
		sum = s + d + cin;
		carry = sum >> 32;
	}
	slot_set(c, i->r, i->size, sum);
	c->fl = (uint16_t)((c->fl & ~flag) | (carry ? flag : 0));
	NEXT_PLAIN(c, i);
}

/* --- exchange and add, compare and exchange
 * ------------------------------------------------------------------- */

#define DEF_XADD(bits)                                                                             \
	HANDLER(xadd##bits)                                                                        \
	{                                                                                          \
		bool m = i->flags & INSN_MEM;                                                      \
		uint64_t lin = m ? soft_ea(c, i) : 0;                                              \
		uint##bits##_t *p = m ? mem_rmw(c, lin, bits / 8) : NULL, s = GET(bits, c, i->r),  \
			       d;                                                                  \
		uint16_t f;                                                                        \
		if (p && i->flags & INSN_LOCK) {                                                   \
			__asm__ volatile("lock; xadd" SFX(bits) " %0, %1" ASM_SAVE_FL              \
					 : "+q"(s), "+m"(*p), "=a"(f)                              \
					 :                                                         \
					 : "cc", "memory");                                        \
			SET(bits, c, i->r, s);                                                     \
		} else {                                                                           \
			if (m && !p)                                                               \
				SPLIT_LOCK(c);                                                     \
			d = !m ? GET(bits, c, i->rm) : p ? *p : MEM_READ(bits, c, lin);            \
			__asm__("xadd" SFX(bits) " %0, %1" ASM_SAVE_FL                             \
				: "+q"(s), "+q"(d), "=a"(f)                                        \
				:                                                                  \
				: "cc");                                                           \
			if (p) {                                                                   \
				*p = d;                                                            \
			} else if (m) {                                                            \
				MEM_WRITE(bits, c, lin, d);                                        \
				SPLIT_UNLOCK(c);                                                   \
			}                                                                          \
			SET(bits, c, i->r, s);                                                     \
			if (!m)                                                                    \
				SET(bits, c, i->rm, d);                                            \
		}                                                                                  \
		c->fl = f;                                                                         \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(cmpxchg##bits)                                                                     \
	{                                                                                          \
		bool m = i->flags & INSN_MEM;                                                      \
		uint64_t lin = m ? soft_ea(c, i) : 0;                                              \
		uint##bits##_t *p = m ? mem_rmw(c, lin, bits / 8) : NULL;                          \
		uint##bits##_t s = GET(bits, c, i->r), acc = GET(bits, c, CPU_RAX * 8), d, t;      \
		uint16_t f;                                                                        \
		if (p && i->flags & INSN_LOCK) {                                                   \
			d = acc;                                                                   \
			__atomic_compare_exchange_n(                                               \
				p, &d, s, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);              \
		} else {                                                                           \
			if (m && !p)                                                               \
				SPLIT_LOCK(c);                                                     \
			d = !m ? GET(bits, c, i->rm) : p ? *p : MEM_READ(bits, c, lin);            \
			/* The destination is written in any case. */                              \
			if (p) {                                                                   \
				*p = d == acc ? s : d;                                             \
			} else if (m) {                                                            \
				MEM_WRITE(bits, c, lin, d == acc ? s : d);                         \
				SPLIT_UNLOCK(c);                                                   \
			}                                                                          \
		}                                                                                  \
		t = acc;                                                                           \
		__asm__("cmp" SFX(bits) " %1, %0" ASM_SAVE_FL                                      \
			: "+q"(t), "+q"(d), "=a"(f)                                                \
			:                                                                          \
			: "cc");                                                                   \
		c->fl = f;                                                                         \
		if (d != acc) {                                                                    \
			/* A 32-bit register that is not the accumulator keeps its upper half. */  \
			SET(bits, c, CPU_RAX * 8, d);                                              \
		} else if (!m) {                                                                   \
			SET(bits, c, i->rm, s);                                                    \
		}                                                                                  \
		NEXT(c, i);                                                                        \
	}
DEF_XADD(8)
DEF_XADD(16)
DEF_XADD(32)
DEF_XADD(64)
static const insn_fn xadd_fns[4] = SIZES(xadd, ), cmpxchg_fns[4] = SIZES(cmpxchg, );

HANDLER(cmpxchg8b)
{
	uint64_t lin = soft_ea(c, i), *p = mem_rmw(c, lin, 8), old, exp, want;

	exp = SLOT32(c, CPU_RAX * 8) | (uint64_t)SLOT32(c, CPU_RDX * 8) << 32;
	want = SLOT32(c, CPU_RBX * 8) | (uint64_t)SLOT32(c, CPU_RCX * 8) << 32;
	old = exp;
	if (p && i->flags & INSN_LOCK) {
		__atomic_compare_exchange_n(
			p, &old, want, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	} else if (p) {
		/* Unlocked, it may cross a cache line: a locked one on the host would stop the machine for that. */
		old = *p;
		*p = old == exp ? want : old;
	} else {
		SPLIT_LOCK(c);
		old = mem_read64(c, lin);
		mem_write64(c, lin, old == exp ? want : old);
		SPLIT_UNLOCK(c);
	}
	if (old == exp) {
		c->fl |= FL_ZF;
	} else {
		c->fl &= (uint16_t)~FL_ZF;
		SET32(c, CPU_RAX * 8, old);
		SET32(c, CPU_RDX * 8, old >> 32);
	}
	NEXT_PLAIN(c, i);
}

HANDLER(cmpxchg16b)
{
	uint64_t lin = soft_ea(c, i), *p, lo = c->gpr[CPU_RAX], hi = c->gpr[CPU_RDX];
	bool same;

	if (lin & 15)
		raise_gp(c);
	p = mem_rmw(c, lin, 16);
	if (p) {
		__asm__ volatile("lock; cmpxchg16b %1; sete %0"
				 : "=q"(same), "+m"(*(unsigned __int128 *)p), "+a"(lo), "+d"(hi)
				 : "b"(c->gpr[CPU_RBX]), "c"(c->gpr[CPU_RCX])
				 : "cc", "memory");
	} else {
		uint64_t v[2];

		SPLIT_LOCK(c);
		mem_read_bytes(c, lin, v, 16);
		same = v[0] == lo && v[1] == hi;
		lo = v[0];
		hi = v[1];
		if (same) {
			v[0] = c->gpr[CPU_RBX];
			v[1] = c->gpr[CPU_RCX];
		}
		mem_write_bytes(c, lin, v, 16);
		SPLIT_UNLOCK(c);
	}
	if (same) {
		c->fl |= FL_ZF;
	} else {
		c->fl &= (uint16_t)~FL_ZF;
		c->gpr[CPU_RAX] = lo;
		c->gpr[CPU_RDX] = hi;
	}
	NEXT_PLAIN(c, i);
}

/* --- binding
 * -------------------------------------------------------------------------------------------------
 */

static bool bind_bt(struct insn *i, const struct dec *d)
{
	bool m = i->flags & INSN_MEM;
	unsigned op = d->op == 0xba ? d->reg & 7 : d->op >> 3 & 7;

	/* BA: /4 BT ... /7 BTC. A3, AB, B3, BB: bits 5-3 are 4 to 7. */
	if (op < 4 || (i->flags & INSN_LOCK && (!m || op == 4)))
		return false;
	i->aux = (uint8_t)(op - 4) | (d->op == 0xba ? 4 : 0);
	i->fn = bt_fns[m][size_index(i->size)];
	return true;
}

static bool bind_count(struct insn *i, const struct dec *d)
{
	unsigned z = size_index(i->size);

	switch (d->op) {
	case 0xb8: i->fn = d->pfx == 0xf3 ? count_fns[4][z] : NULL; break;
	case 0xbc: i->fn = count_fns[d->pfx == 0xf3 ? 2 : 0][z]; break;
	default: i->fn = count_fns[d->pfx == 0xf3 ? 3 : 1][z];
	}
	return !(i->flags & INSN_LOCK);
}

bool soft_bind_bits(struct insn *i, const struct dec *d)
{
	bool m = i->flags & INSN_MEM;

	if (d->map == MAP_0F38) {
		if (d->op == 0xf6 && (d->pfx == 0x66 || d->pfx == 0xf3)) {
			i->size = d->rex & 8 ? 8 : 4; /* 66 is no operand size here */
			i->aux = d->pfx == 0xf3;
			i->fn = adcx_adox;
			return !(i->flags & INSN_LOCK);
		}
		if ((d->op & 0xfe) != 0xf0 || d->pfx != 0xf2)
			return false;
		i->imm = d->op & 1 ? i->size : 1;
		if (!(d->op & 1))
			i->rm = slot_gpr8(d->rm, d->rex);
		i->fn = crc32;
		return !(i->flags & INSN_LOCK);
	}
	if (d->map != MAP_0F)
		return false;
	switch (d->op) {
	case 0xa3:
	case 0xab:
	case 0xb3:
	case 0xbb:
	case 0xba: return bind_bt(i, d);
	case 0xb8:
	case 0xbc:
	case 0xbd: return bind_count(i, d);
	case 0xb0:
	case 0xb1:
	case 0xc0:
	case 0xc1:
		if (!(d->op & 1))
			bind_bytes(i, d);
		i->fn = (d->op < 0xc0 ? cmpxchg_fns : xadd_fns)[size_index(i->size)];
		return m || !(i->flags & INSN_LOCK);
	case 0xc7:
		if (!m || (d->reg & 7) != 1)
			return false;
		i->fn = i->size == 8 ? cmpxchg16b : cmpxchg8b;
		return true;
	default: return false;
	}
}
