/* SPDX-License-Identifier: MIT */
/*
 * String instructions. With REP, runs that stay within one page of each operand execute as one
 * native string instruction; registers are committed after each run, so a fault or an interrupt in
 * between restarts correctly.
 */
#include "vmm/cpu/soft/handler.h"
#include "vmm/cpu/soft/sys.h"

static ALWAYS_INLINE uint64_t idx_get(struct soft_vcpu *c, const struct insn *i, unsigned reg)
{
	if (likely(!(i->ea & (EA_A32 | EA_A16))))
		return c->gpr[reg];
	return i->ea & EA_A32 ? SLOT32(c, reg * 8) : SLOT16(c, reg * 8);
}

static ALWAYS_INLINE void idx_set(
	struct soft_vcpu *c, const struct insn *i, unsigned reg, uint64_t v)
{
	if (likely(!(i->ea & (EA_A32 | EA_A16))))
		c->gpr[reg] = v;
	else if (i->ea & EA_A32)
		c->gpr[reg] = (uint32_t)v;
	else
		SLOT16(c, reg * 8) = (uint16_t)v;
}

static uint64_t src_lin(struct soft_vcpu *c, const struct insn *i, uint64_t off)
{
	off += c->segbase[i->ea & EA_SEG];
	return i->ea & EA_LEGACY ? (uint32_t)off : off;
}

static uint64_t dst_lin(struct soft_vcpu *c, const struct insn *i, uint64_t off)
{
	off += c->segbase[SEG_ES];
	return i->ea & EA_LEGACY ? (uint32_t)off : off;
}

/* Host address of a byte that can be read (written) with a plain access, or NULL for device memory.
 * May raise. */
static const uint8_t *host_r(struct soft_vcpu *c, uint64_t lin)
{
	const uint8_t *p = mem_fast_r(c, lin, 1);

	if (p)
		return p;
	mem_probe_read(c, lin, 1);
	return mem_fast_r(c, lin, 1);
}

static uint8_t *host_w(struct soft_vcpu *c, uint64_t lin)
{
	uint8_t *p = mem_fast_w(c, lin, 1);

	if (p)
		return p;
	mem_probe_write(c, lin, 1);
	return mem_fast_w(c, lin, 1);
}

/* How many elements from lin on (in the direction) lie wholly in its page. */
static uint64_t room(uint64_t lin, unsigned size, bool down)
{
	uint64_t off = lin & 0xfff;

	if (!down)
		return (4096 - off) / size;
	return off + size > 4096 ? 0 : off / size + 1;
}

/* Runs are bounded so that interrupts are not held up, and by what 32- and 16-bit index registers
 * can count. */
static uint64_t bound(const struct insn *i, uint64_t n, uint64_t idx, unsigned size, bool down)
{
	uint64_t wrap = i->ea & EA_A16 ? 0x10000 : 0x100000000;

	if (likely(!(i->ea & (EA_A32 | EA_A16))))
		return n;
	return MIN(n, down ? idx / size + 1 : (wrap - idx) / size);
}

/* More to do: again, unless an event asks for a look. */
#define AGAIN(c, i)                                                                                \
	do {                                                                                       \
		if (atomic_load_explicit(&(c)->events, memory_order_relaxed)) {                    \
			(c)->rip = soft_rip(c);                                                    \
			return NULL;                                                               \
		}                                                                                  \
	} while (0)

enum { SMALL_COPY = 256 }; /* bytes: below, the library's is faster than REP MOVS */

/* d, s: the first elements that are copied; downwards, the highest. */
static void native_movs(uint8_t *d, const uint8_t *s, uint64_t n, unsigned size, bool down)
{
	uint64_t bytes = n * size, back = down ? bytes - size : 0;

	/* Elements that are overwritten before they are read make the result another one than memmove()'s. */
	bool plain =
		down ? d >= s || (uint64_t)(s - d) >= bytes : d <= s || (uint64_t)(d - s) >= bytes;

	if (plain && (down || bytes <= SMALL_COPY)) {
		memmove(d - back, s - back, bytes);
		return;
	}
#define RUN(dir, ins)                                                                              \
	__asm__ volatile(dir "rep " ins "; cld" : "+D"(d), "+S"(s), "+c"(n) : : "memory", "cc")
	if (!down) {
		switch (size) {
		case 1: RUN("", "movsb"); break;
		case 2: RUN("", "movsw"); break;
		case 4: RUN("", "movsl"); break;
		default: RUN("", "movsq");
		}
	} else {
		switch (size) {
		case 1: RUN("std; ", "movsb"); break;
		case 2: RUN("std; ", "movsw"); break;
		case 4: RUN("std; ", "movsl"); break;
		default: RUN("std; ", "movsq");
		}
	}
#undef RUN
}

static void native_stos(uint8_t *d, uint64_t v, uint64_t n, unsigned size, bool down)
{
#define RUN(dir, ins)                                                                              \
	__asm__ volatile(dir "rep " ins "; cld" : "+D"(d), "+c"(n) : "a"(v) : "memory", "cc")
	if (!down) {
		switch (size) {
		case 1: RUN("", "stosb"); break;
		case 2: RUN("", "stosw"); break;
		case 4: RUN("", "stosl"); break;
		default: RUN("", "stosq");
		}
	} else {
		switch (size) {
		case 1: RUN("std; ", "stosb"); break;
		case 2: RUN("std; ", "stosw"); break;
		case 4: RUN("std; ", "stosl"); break;
		default: RUN("std; ", "stosq");
		}
	}
#undef RUN
}

HANDLER(movs_rep)
{
	unsigned size = i->size;

	c->cur = i;
	for (;;) {
		bool down = c->eflags & RF_DF;
		uint64_t n = idx_get(c, i, CPU_RCX), si, di, s, d, k;
		const uint8_t *ps;
		uint8_t *pd;

		if (!n)
			break;
		si = idx_get(c, i, CPU_RSI);
		di = idx_get(c, i, CPU_RDI);
		s = src_lin(c, i, si);
		d = dst_lin(c, i, di);
		k = MIN(n, MIN(room(s, size, down), room(d, size, down)));
		k = bound(i, bound(i, k, si, size, down), di, size, down);
		ps = k ? host_r(c, s) : NULL;
		pd = ps ? host_w(c, d) : NULL;
		if (pd && (ps = host_r(c, s))) {
			native_movs(pd, ps, k, size, down);
		} else {
			k = 1;
			mem_write_n(c, d, size, mem_read_n(c, s, size));
		}
		idx_set(c, i, CPU_RSI, down ? si - k * size : si + k * size);
		idx_set(c, i, CPU_RDI, down ? di - k * size : di + k * size);
		idx_set(c, i, CPU_RCX, n - k);
		if (n != k)
			AGAIN(c, i);
	}
	NEXT_PLAIN(c, i);
}

HANDLER(movs_one)
{
	uint64_t si = idx_get(c, i, CPU_RSI), di = idx_get(c, i, CPU_RDI);
	int64_t step = c->eflags & RF_DF ? -(int64_t)i->size : i->size;

	c->cur = i;
	mem_write_n(c, dst_lin(c, i, di), i->size, mem_read_n(c, src_lin(c, i, si), i->size));
	idx_set(c, i, CPU_RSI, si + (uint64_t)step);
	idx_set(c, i, CPU_RDI, di + (uint64_t)step);
	NEXT_PLAIN(c, i);
}

HANDLER(stos_rep)
{
	unsigned size = i->size;

	c->cur = i;
	for (;;) {
		bool down = c->eflags & RF_DF;
		uint64_t n = idx_get(c, i, CPU_RCX), di, d, k;
		uint8_t *pd;

		if (!n)
			break;
		di = idx_get(c, i, CPU_RDI);
		d = dst_lin(c, i, di);
		k = bound(i, MIN(n, room(d, size, down)), di, size, down);
		pd = k ? host_w(c, d) : NULL;
		if (pd) {
			native_stos(pd, c->gpr[CPU_RAX], k, size, down);
		} else {
			k = 1;
			mem_write_n(c, d, size, c->gpr[CPU_RAX]);
		}
		idx_set(c, i, CPU_RDI, down ? di - k * size : di + k * size);
		idx_set(c, i, CPU_RCX, n - k);
		if (n != k)
			AGAIN(c, i);
	}
	NEXT_PLAIN(c, i);
}

HANDLER(stos_one)
{
	uint64_t di = idx_get(c, i, CPU_RDI);

	c->cur = i;
	mem_write_n(c, dst_lin(c, i, di), i->size, c->gpr[CPU_RAX]);
	idx_set(c, i, CPU_RDI, c->eflags & RF_DF ? di - i->size : di + i->size);
	NEXT_PLAIN(c, i);
}

HANDLER(lods)
{
	bool rep = i->flags & (INSN_REP | INSN_REPNE);

	c->cur = i;
	for (;;) {
		uint64_t n = rep ? idx_get(c, i, CPU_RCX) : 1, si;

		if (!n)
			break;
		si = idx_get(c, i, CPU_RSI);
		slot_set(c, CPU_RAX * 8, i->size, mem_read_n(c, src_lin(c, i, si), i->size));
		idx_set(c, i, CPU_RSI, c->eflags & RF_DF ? si - i->size : si + i->size);
		if (!rep)
			break;
		idx_set(c, i, CPU_RCX, n - 1);
		if (n != 1)
			AGAIN(c, i);
	}
	NEXT_PLAIN(c, i);
}

static uint16_t compare(uint64_t a, uint64_t b, unsigned size)
{
	uint16_t f;

	switch (size) {
	case 1: __asm__("cmpb %b2, %b1" ASM_SAVE_FL : "=&a"(f) : "q"(a), "q"(b) : "cc"); break;
	case 2: __asm__("cmpw %w2, %w1" ASM_SAVE_FL : "=&a"(f) : "q"(a), "q"(b) : "cc"); break;
	case 4: __asm__("cmpl %k2, %k1" ASM_SAVE_FL : "=&a"(f) : "q"(a), "q"(b) : "cc"); break;
	default: __asm__("cmpq %2, %1" ASM_SAVE_FL : "=&a"(f) : "q"(a), "q"(b) : "cc");
	}
	return f;
}

/* CMPS (aux 0) and SCAS (aux 1), plain or repeated. */
HANDLER(compare_string)
{
	bool rep = i->flags & (INSN_REP | INSN_REPNE), want_z = i->flags & INSN_REP;
	unsigned size = i->size, budget = 4096;

	c->cur = i;
	for (;;) {
		uint64_t n = rep ? idx_get(c, i, CPU_RCX) : 1, si = 0, di, a, b;
		int64_t step = c->eflags & RF_DF ? -(int64_t)size : size;

		if (!n)
			break;
		di = idx_get(c, i, CPU_RDI);
		if (i->aux) {
			a = c->gpr[CPU_RAX];
		} else {
			si = idx_get(c, i, CPU_RSI);
			a = mem_read_n(c, src_lin(c, i, si), size);
		}
		b = mem_read_n(c, dst_lin(c, i, di), size);
		c->fl = compare(a, b, size);
		if (!i->aux)
			idx_set(c, i, CPU_RSI, si + (uint64_t)step);
		idx_set(c, i, CPU_RDI, di + (uint64_t)step);
		if (!rep)
			break;
		idx_set(c, i, CPU_RCX, n - 1);
		if (!!(c->fl & FL_ZF) != want_z)
			break;
		if (n != 1 && !--budget) {
			budget = 4096;
			AGAIN(c, i);
		}
	}
	NEXT_PLAIN(c, i);
}

HANDLER(ins)
{
	bool rep = i->flags & (INSN_REP | INSN_REPNE);
	uint16_t port = SLOT16(c, CPU_RDX * 8);

	c->cur = i;
	soft_io_check(c, port, i->size);
	for (;;) {
		uint64_t n = rep ? idx_get(c, i, CPU_RCX) : 1, di;

		if (!n)
			break;
		di = idx_get(c, i, CPU_RDI);
		mem_probe_write(c, dst_lin(c, i, di), i->size);
		mem_write_n(c, dst_lin(c, i, di), i->size, soft_port_in(c, port, i->size));
		idx_set(c, i, CPU_RDI, c->eflags & RF_DF ? di - i->size : di + i->size);
		if (!rep)
			break;
		idx_set(c, i, CPU_RCX, n - 1);
		if (n != 1)
			AGAIN(c, i);
	}
	NEXT_PLAIN(c, i);
}

HANDLER(outs)
{
	bool rep = i->flags & (INSN_REP | INSN_REPNE);
	uint16_t port = SLOT16(c, CPU_RDX * 8);

	c->cur = i;
	soft_io_check(c, port, i->size);
	for (;;) {
		uint64_t n = rep ? idx_get(c, i, CPU_RCX) : 1, si;

		if (!n)
			break;
		si = idx_get(c, i, CPU_RSI);
		soft_port_out(
			c, port, i->size, (uint32_t)mem_read_n(c, src_lin(c, i, si), i->size));
		idx_set(c, i, CPU_RSI, c->eflags & RF_DF ? si - i->size : si + i->size);
		if (!rep)
			break;
		idx_set(c, i, CPU_RCX, n - 1);
		if (n != 1)
			AGAIN(c, i);
	}
	NEXT_PLAIN(c, i);
}

bool soft_bind_string(struct insn *i, const struct dec *d)
{
	bool rep = d->rep;

	if (d->map != MAP_1 || i->flags & INSN_LOCK)
		return false;
	switch (d->op) {
	case 0x6c ... 0x6f:
	case 0xa4 ... 0xa7:
	case 0xaa ... 0xaf: break;
	default: return false;
	}
	if (!(d->op & 1))
		i->size = 1;
	switch (d->op & 0xfe) {
	case 0x6c:
	case 0x6e:
		if (i->size == 8)
			i->size = 4;
		i->fn = d->op < 0x6e ? ins : outs;
		break;
	case 0xa4: i->fn = rep ? movs_rep : movs_one; break;
	case 0xa6: i->fn = compare_string; break;
	case 0xaa: i->fn = rep ? stos_rep : stos_one; break;
	case 0xac: i->fn = lods; break;
	default: i->aux = 1; i->fn = compare_string;
	}
	return true;
}
