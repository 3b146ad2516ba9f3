/* SPDX-License-Identifier: MIT */
/*
 * System instructions: ports, control and debug registers, MSRs, CPUID, time, HLT, TLB and cache
 * control, FS/GS base. Hardware breakpoints are not implemented: DR7 holds what is written, and
 * nothing triggers.
 */
#include "vmm/cpu/soft/sys.h"
#include "vmm/cpu/soft/exc.h"
#include "vmm/cpu/soft/handler.h"
#include "vmm/cpu/soft/lapic.h"
#include "vmm/cpu/soft/msr.h"
#include "vmm/cpu/soft/simd.h"

static void need_cpl0(struct soft_vcpu *c, const struct insn *i)
{
	c->cur = i;
	if (unlikely(c->cpl != 0))
		raise_gp(c);
}

/* --- ports
 * ---------------------------------------------------------------------------------------------------
 */

void soft_io_check(struct soft_vcpu *c, uint16_t port, unsigned size)
{
	uint64_t tss = c->segbase_hidden[SEG_TR];
	uint32_t limit = c->seg[SEG_TR].limit, map;

	if (likely(!(c->cr0 & CR0_PE) || c->cpl <= (c->eflags >> 12 & 3)))
		return;
	if (limit < 0x67)
		raise_gp(c);
	map = (uint32_t)mem_sys_read(c, tss + 0x66, 2) + port / 8;
	/* Two bytes are always read. */
	if (map + 1 > limit || (mem_sys_read(c, tss + map, 2) >> (port & 7) & ((1u << size) - 1)))
		raise_gp(c);
}

uint32_t soft_port_in(struct soft_vcpu *c, uint16_t port, unsigned size)
{
	const struct cpu_io *io = c->vm->io;
	uint32_t v;

	soft_simd_leave(c);
	v = io->port_in(io->ctx, port, size);
	soft_simd_enter(c);
	return v;
}

void soft_port_out(struct soft_vcpu *c, uint16_t port, unsigned size, uint32_t v)
{
	const struct cpu_io *io = c->vm->io;

	soft_simd_leave(c);
	io->port_out(io->ctx, port, size, size == 4 ? v : v & ((1u << 8 * size) - 1));
	soft_simd_enter(c);
}

/* aux 1: the port is DX. */
HANDLER(in_op)
{
	uint16_t port = i->aux ? SLOT16(c, CPU_RDX * 8) : (uint8_t)i->imm;

	c->cur = i;
	soft_io_check(c, port, i->size);
	slot_set(c, CPU_RAX * 8, i->size, soft_port_in(c, port, i->size));
	NEXT_PLAIN(c, i);
}

HANDLER(out_op)
{
	uint16_t port = i->aux ? SLOT16(c, CPU_RDX * 8) : (uint8_t)i->imm;

	c->cur = i;
	soft_io_check(c, port, i->size);
	soft_port_out(c, port, i->size, SLOT32(c, CPU_RAX * 8));
	NEXT_PLAIN(c, i);
}

/* --- control registers
 * ---------------------------------------------------------------------------------------- */

bool soft_set_cr0(struct soft_vcpu *c, uint64_t v)
{
	uint64_t old = c->cr0;

	if (v >> 32 || (v & CR0_PG && !(v & CR0_PE)) || (v & CR0_NW && !(v & CR0_CD)))
		return false;
	v = (v & (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD |
			 CR0_PG)) |
	    CR0_ET;
	if (v & CR0_PG && !(old & CR0_PG)) {
		/* Only IA-32e paging exists here. */
		if (!(c->efer & EFER_LME) || !(c->cr4 & CR4_PAE) || c->seg[SEG_CS].attr & DESC_L)
			return false;
		c->efer |= EFER_LMA;
	} else if (!(v & CR0_PG) && old & CR0_PG) {
		if (c->mode == MODE_64)
			return false;
		c->efer &= ~EFER_LMA;
	}
	c->cr0 = v;
	if ((v ^ old) & (CR0_PG | CR0_WP | CR0_PE))
		tlb_flush_all(c);
	soft_mode_changed(c);
	return true;
}

bool soft_set_cr3(struct soft_vcpu *c, uint64_t v)
{
	if (v >> 46)
		return false;
	c->cr3 = v;
	tlb_flush_nonglobal(c);
	return true;
}

bool soft_set_cr4(struct soft_vcpu *c, uint64_t v)
{
	if (v & ~soft_cr4_valid(c) || (soft_long_mode(c) && !(v & CR4_PAE)))
		return false;
	if ((v ^ c->cr4) & (CR4_PGE | CR4_PAE | CR4_PSE))
		tlb_flush_all(c);
	c->cr4 = v;
	return true;
}

bool soft_set_efer(struct soft_vcpu *c, uint64_t v)
{
	if (v & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NX))
		return false;
	if ((v ^ c->efer) & EFER_LME && c->cr0 & CR0_PG)
		return false;
	v = (v & ~EFER_LMA) | (c->efer & EFER_LMA);
	if ((v ^ c->efer) & EFER_NX)
		tlb_flush_all(c);
	c->efer = v;
	return true;
}

HANDLER(mov_from_cr)
{
	uint64_t v;

	need_cpl0(c, i);
	switch (i->aux) {
	case 0: v = c->cr0; break;
	case 2: v = c->cr2; break;
	case 3: v = c->cr3; break;
	case 4: v = c->cr4; break;
	default: v = soft_lapic_get_cr8(c->lapic);
	}
	if (c->mode == MODE_64)
		SLOT64(c, i->rm) = v;
	else
		SET32(c, i->rm, v);
	NEXT_PLAIN(c, i);
}

HANDLER(mov_to_cr)
{
	uint64_t v = c->mode == MODE_64 ? SLOT64(c, i->rm) : SLOT32(c, i->rm);
	bool ok = true;

	need_cpl0(c, i);
	switch (i->aux) {
	case 0: ok = soft_set_cr0(c, v); break;
	case 2: c->cr2 = v; break;
	case 3: ok = soft_set_cr3(c, v); break;
	case 4: ok = soft_set_cr4(c, v); break;
	default:
		ok = v < 16;
		if (ok)
			soft_lapic_set_cr8(c->lapic, (uint8_t)v);
	}
	if (!ok)
		raise_gp(c);
	LEAVE(c, i);
}

static unsigned dr_number(struct soft_vcpu *c, const struct insn *i)
{
	need_cpl0(c, i);
	if (i->aux != 4 && i->aux != 5)
		return i->aux;
	if (c->cr4 & CR4_DE)
		raise_ud(c);
	return i->aux + 2;
}

HANDLER(mov_from_dr)
{
	unsigned n = dr_number(c, i);

	slot_set(c, i->rm, c->mode == MODE_64 ? 8 : 4, c->dr[n]);
	NEXT_PLAIN(c, i);
}

HANDLER(mov_to_dr)
{
	unsigned n = dr_number(c, i);
	uint64_t v = c->mode == MODE_64 ? SLOT64(c, i->rm) : SLOT32(c, i->rm);

	if (n >= 6 && v >> 32)
		raise_gp(c);
	if (n == 6)
		v = (v & 0xe00f) | 0xffff0ff0;
	else if (n == 7)
		v = (v & ~0xd000ull) | 0x400;
	c->dr[n] = v;
	NEXT_PLAIN(c, i);
}

HANDLER(clts)
{
	need_cpl0(c, i);
	c->cr0 &= ~CR0_TS;
	NEXT_PLAIN(c, i);
}

HANDLER(smsw)
{
	unsigned n = i->flags & INSN_MEM ? 2 : i->size;

	rm_set(c, i, n, c->cr0);
	NEXT_PLAIN(c, i);
}

HANDLER(lmsw)
{
	uint64_t v = rm_get(c, i, 2);

	need_cpl0(c, i);
	/* Sets, but does not clear, PE. */
	if (!soft_set_cr0(c, (c->cr0 & ~0xeull) | (v & 0xf)))
		raise_gp(c);
	LEAVE(c, i);
}

/* --- descriptor tables
 * ----------------------------------------------------------------------------------------- */

HANDLER(store_dt) /* aux: 0 SGDT, 1 SIDT */
{
	uint64_t lin = soft_ea(c, i);
	uint8_t b[10];

	memcpy(b, i->aux ? &c->idtr.limit : &c->gdtr.limit, 2);
	memcpy(b + 2, i->aux ? &c->idtr.base : &c->gdtr.base, 8);
	mem_write_bytes(c, lin, b, c->mode == MODE_64 ? 10 : 6);
	NEXT_PLAIN(c, i);
}

HANDLER(load_dt)
{
	uint64_t lin, base = 0;
	uint16_t limit;
	uint8_t b[10];

	need_cpl0(c, i);
	lin = soft_ea(c, i);
	mem_read_bytes(c, lin, b, c->mode == MODE_64 ? 10 : 6);
	memcpy(&limit, b, 2);
	memcpy(&base, b + 2, c->mode == MODE_64 ? 8 : i->size == 2 ? 3 : 4);
	if (!soft_canonical(base))
		raise_gp(c);
	if (i->aux) {
		c->idtr.base = base;
		c->idtr.limit = limit;
	} else {
		c->gdtr.base = base;
		c->gdtr.limit = limit;
	}
	NEXT_PLAIN(c, i);
}

HANDLER(invlpg)
{
	need_cpl0(c, i);
	/* No #GP for a non-canonical address: nothing is flushed. */
	tlb_flush_page(c, soft_ea(c, i));
	LEAVE(c, i);
}

HANDLER(cache_control) /* INVD, WBINVD */
{
	need_cpl0(c, i);
	NEXT_PLAIN(c, i);
}

HANDLER(clflush)
{
	mem_probe_read(c, soft_ea(c, i), 1);
	NEXT_PLAIN(c, i);
}

HANDLER(fence)
{
	atomic_thread_fence(memory_order_seq_cst);
	NEXT(c, i);
}

/* --- MSRs, CPUID, time, randomness
 * ------------------------------------------------------------------------------ */

HANDLER(rdmsr)
{
	uint64_t v;

	need_cpl0(c, i);
	if (!soft_rdmsr(c, SLOT32(c, CPU_RCX * 8), &v))
		raise_gp(c);
	SET32(c, CPU_RAX * 8, v);
	SET32(c, CPU_RDX * 8, v >> 32);
	NEXT_PLAIN(c, i);
}

HANDLER(wrmsr)
{
	need_cpl0(c, i);
	if (!soft_wrmsr(c, SLOT32(c, CPU_RCX * 8),
		    SLOT32(c, CPU_RAX * 8) | (uint64_t)SLOT32(c, CPU_RDX * 8) << 32))
		raise_gp(c);
	LEAVE(c, i);
}

HANDLER(cpuid)
{
	uint32_t out[4];

	soft_cpuid(c, SLOT32(c, CPU_RAX * 8), SLOT32(c, CPU_RCX * 8), out);
	SET32(c, CPU_RAX * 8, out[CPUID_EAX]);
	SET32(c, CPU_RBX * 8, out[CPUID_EBX]);
	SET32(c, CPU_RCX * 8, out[CPUID_ECX]);
	SET32(c, CPU_RDX * 8, out[CPUID_EDX]);
	NEXT_PLAIN(c, i);
}

static void tsc_allowed(struct soft_vcpu *c, const struct insn *i)
{
	c->cur = i;
	if (c->cr4 & CR4_TSD && c->cpl)
		raise_gp(c);
}

HANDLER(rdtsc)
{
	uint64_t v;

	tsc_allowed(c, i);
	v = soft_tsc(c);
	SET32(c, CPU_RAX * 8, v);
	SET32(c, CPU_RDX * 8, v >> 32);
	if (i->aux)
		SET32(c, CPU_RCX * 8, c->tsc_aux);
	NEXT(c, i);
}

HANDLER(rdpid)
{
	SLOT64(c, i->rm) = (uint32_t)c->tsc_aux;
	NEXT(c, i);
}

HANDLER(rdpmc)
{
	c->cur = i;
	raise_gp(c);
}

HANDLER(rdrand)
{
	uint64_t v;

	os_random(&v, sizeof(v));
	slot_set(c, i->rm, i->size, v);
	c->fl = FL_CF;
	NEXT_PLAIN(c, i);
}

/* --- the rest
 * -------------------------------------------------------------------------------------------------
 */

HANDLER(hlt)
{
	need_cpl0(c, i);
	c->run_state = CPU_HALTED;
	LEAVE(c, i);
}

HANDLER(swapgs)
{
	uint64_t t = c->segbase[SEG_GS];

	need_cpl0(c, i);
	soft_set_segbase(c, SEG_GS, c->kernel_gs_base);
	c->kernel_gs_base = t;
	NEXT(c, i);
}

/* VMCALL, VMMCALL: no hypercall exists. */
HANDLER(hypercall)
{
	need_cpl0(c, i);
	c->gpr[CPU_RAX] = (uint64_t)-1000; /* KVM_ENOSYS */
	NEXT_PLAIN(c, i);
}

/* aux: 0 RDFSBASE, 1 RDGSBASE, 2 WRFSBASE, 3 WRGSBASE */
HANDLER(fsgsbase)
{
	unsigned seg = i->aux & 1 ? SEG_GS : SEG_FS;
	uint64_t v;

	c->cur = i;
	if (!(c->cr4 & CR4_FSGSBASE))
		raise_ud(c);
	if (i->aux < 2) {
		slot_set(c, i->rm, i->size, c->segbase[seg]);
	} else {
		v = slot_get(c, i->rm, i->size);
		if (!soft_canonical(v))
			raise_gp(c);
		soft_set_segbase(c, seg, v);
	}
	NEXT_PLAIN(c, i);
}

/* --- binding
 * -------------------------------------------------------------------------------------------------
 */

static bool bind_01(struct insn *i, const struct dec *d)
{
	unsigned op = d->reg & 7;

	if (!(i->flags & INSN_MEM)) {
		switch (d->modrm) {
		case 0xc1:
		case 0xd9: i->fn = hypercall; return true;
		case 0xf8: i->fn = swapgs; return d->mode == MODE_64;
		case 0xf9:
			i->aux = 1;
			i->fn = rdtsc;
			return true;
		default: break;
		}
		if (op != 4 && op != 6)
			return false;
	}
	switch (op) {
	case 0:
	case 1:
		i->aux = (uint8_t)op;
		i->fn = store_dt;
		return true;
	case 2:
	case 3:
		i->aux = op & 1;
		i->fn = load_dt;
		return true;
	case 4: i->fn = smsw; return true;
	case 6:
		i->fn = lmsw;
		i->flags |= INSN_END;
		return true;
	case 7:
		i->fn = invlpg;
		i->flags |= INSN_END;
		return true;
	default: return false;
	}
}

static bool bind_ae(struct insn *i, const struct dec *d)
{
	unsigned op = d->reg & 7;

	if (i->flags & INSN_MEM) {
		i->fn = clflush; /* CLFLUSH, CLFLUSHOPT, CLWB: the others are the simd module's */
		return d->pfx == 0 || d->pfx == 0x66;
	}
	if (d->pfx == 0xf3) {
		if (op > 3 || d->mode != MODE_64)
			return false;
		i->aux = (uint8_t)op;
		i->fn = fsgsbase;
		return true;
	}
	i->fn = fence;
	return op >= 5 && !d->pfx;
}

static bool bind_cr(struct insn *i, const struct dec *d)
{
	unsigned n = d->reg;

	i->aux = (uint8_t)n;
	if (d->op & 1) {
		i->fn = d->op == 0x21 ? mov_from_dr : mov_to_dr;
		return n < 8;
	}
	i->fn = d->op == 0x20 ? mov_from_cr : mov_to_cr;
	if (d->op == 0x22)
		i->flags |= INSN_END;
	return n == 0 || (n >= 2 && n <= 4) || n == 8;
}

static bool bind_0f(struct insn *i, const struct dec *d)
{
	switch (d->op) {
	case 0x01: return bind_01(i, d);
	case 0x06: i->fn = clts; return true;
	case 0x08:
	case 0x09: i->fn = cache_control; return true;
	case 0x20 ... 0x23: return bind_cr(i, d);
	case 0x30:
		i->fn = wrmsr;
		i->flags |= INSN_END;
		return true;
	case 0x31: i->fn = rdtsc; return true;
	case 0x32: i->fn = rdmsr; return true;
	case 0x33: i->fn = rdpmc; return true;
	case 0xa2: i->fn = cpuid; return true;
	case 0xae: return bind_ae(i, d);
	case 0xc7:
		if (i->flags & INSN_MEM || (d->reg & 7) < 6)
			return false;
		i->fn = d->pfx == 0xf3 ? ((d->reg & 7) == 7 ? rdpid : NULL) : rdrand;
		return i->fn;
	default: return false;
	}
}

bool soft_bind_sys(struct insn *i, const struct dec *d)
{
	if (i->flags & INSN_LOCK)
		return false;
	if (soft_bind_far(i, d) || soft_bind_desc(i, d))
		return true;
	if (d->map == MAP_0F)
		return bind_0f(i, d);
	if (d->map != MAP_1)
		return false;
	switch (d->op) {
	case 0xe4 ... 0xe7:
	case 0xec ... 0xef:
		i->size = !(d->op & 1) ? 1 : i->size == 2 ? 2 : 4;
		i->aux = d->op >= 0xec;
		i->fn = d->op & 2 ? out_op : in_op;
		return true;
	case 0xf4:
		i->fn = hlt;
		i->flags |= INSN_END;
		return true;
	default: return false;
	}
}
