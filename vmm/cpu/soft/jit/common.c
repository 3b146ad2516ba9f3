/* SPDX-License-Identifier: MIT */
/* The routines at the start of a code cache, see cache.h: the ways in and out of translated code. */
#include <stddef.h>
#include "vmm/cpu/soft/jit/trans.h"
#include "vmm/cpu/soft/jit/check.h"
#include "vmm/cpu/soft/jit/link.h"
#include "vmm/cpu/soft/simd-int.h"

enum { N_GUEST = 16, XMM_OFF = 160 };

static void gprs(struct emit *e, unsigned op)
{
	for (unsigned n = 0; n < N_GUEST; n++)
		if (t_host(n * 8) != NO_REG)
			e_rm(e, 8, op, t_host(n * 8), CPU_AT(n * 8));
}

static void xmms(struct emit *e, unsigned op)
{
	for (unsigned n = 0; n < 16; n++)
		e_rm(e, 4, op, n, CPU_AT(offsetof(struct soft_vcpu, xsave) + XMM_OFF + 16 * n));
}

static void call_to(struct emit *e, const uint8_t *routine)
{
	e_patch(e_call(e), routine);
}

/* Sets lazy_op's flags: 32 bytes for each code, then to c->fl. */
static void write_flags(struct soft_jit *j, struct emit *e)
{
	static const uint8_t ops[FK_COUNT][2] = {[FK_CMP] = {0x3a},
		[FK_TEST] = {0x84},
		[FK_ADD] = {0x2a, 0x02},
		[FK_SUB] = {0x02, 0x2a}};
	static const uint8_t sizes[] = {1, 2, 4, 8};
	uint8_t *table, *done[LAZY_CODES], *at;

	j->flags = e->p;
	e_rr(e, 8, 0x8b, S0, RAX);
	e_rm(e, 4, 0x0fb6, RAX, CPU(lazy_op));
	e_rr(e, 4, 0xc1, 4, RAX); /* shl: LAZY_SLOT */
	e_u8(e, 5);
	at = e_rip(e, 8, 0x8d, S1);
	e_rr(e, 8, 0x03, S1, RAX);
	e_rm(e, 8, 0x8b, RAX, CPU(lazy[0]));
	e_jmp_reg(e, S1);
	table = e->p;
	e_patch(at, table);
	for (unsigned code = 0; code < LAZY_CODES; code++) {
		unsigned kind = code ? (code - 1) / 4 + 1 : 0, size = sizes[(code + 3) % 4];
		unsigned w = size > 1;

		e->p = table + code * LAZY_SLOT;
		if (kind == FK_NONE) {
			e_rr(e, 8, 0x8b, RAX, S0);
			e_u8(e, 0xc3);
			continue;
		}
		if (kind == FK_LOGIC) {
			e_rr(e, size, 0x84 | w, RAX, RAX);
		} else if (kind == FK_NEG) {
			e_rr(e, size, 0xf6 | w, 3, RAX);
			e_rr(e, size, 0xf6 | w, 3, RAX);
		} else if (kind == FK_IMUL) {
			e_old_flags(e);
			if (size >= 4)
				e_rm(e, size, 0x0faf, RAX, CPU(lazy[1]));
		} else if (kind >= FK_SHL) {
			e_rr(e, 8, 0x8b, S1, RCX);
			e_rm(e, 4, 0x8b, RCX, CPU(lazy[1]));
			e_rr(e, size, 0xd2 | w, kind == FK_SAR ? 7 : kind - FK_SHL + 4, RAX);
			e_rr(e, 8, 0x8b, RCX, S1);
		} else {
			for (unsigned n = 0; n < 2 && ops[kind][n]; n++)
				e_rm(e, size, ops[kind][n] | w, RAX, CPU(lazy[1]));
		}
		done[code] = e_jmp(e);
	}
	e->p = table + LAZY_CODES * LAZY_SLOT;
	for (unsigned code = 1; code < LAZY_CODES; code++)
		e_patch(done[code], e->p);
	e_u8(e, 0x9f);
	e_rr(e, 1, 0x0f90, 0, RAX);
	e_rm(e, 2, 0x89, RAX, CPU(fl));
	e_rm(e, 1, 0xc6, 0, CPU(lazy_op));
	e_u8(e, 0);
	e_rr(e, 8, 0x8b, RAX, S0);
	e_u8(e, 0xc3);
}

static void write_sse(struct soft_jit *j, struct emit *e, uint8_t **store)
{
	uint8_t *fail[3];

	j->load_sse = e->p;
	e_rm(e, 4, 0xf7, 0, CPU(cr0));
	e_u32(e, CR0_EM | CR0_TS);
	fail[0] = e_jcc(e, CC_NE);
	e_rm(e, 4, 0xf7, 0, CPU(cr4));
	e_u32(e, CR4_OSFXSR);
	fail[1] = e_jcc(e, CC_E);
	e_rm(e, 8, 0x8b, S0, CPU(simd));
	e_rm(e, 1, 0x80, 7, AT(S0, (int32_t)offsetof(struct soft_simd, mx_slow)));
	e_u8(e, 0);
	fail[2] = e_jcc(e, CC_NE);
	xmms(e, 0x0f28);
	e_rm(e, 1, 0xc6, 0, CPU(sse_live));
	e_u8(e, 1);
	e_rr(e, 8, 0x85, S0, S0); /* no address is 0 */
	e_u8(e, 0xc3);
	for (unsigned n = 0; n < 3; n++)
		e_patch(fail[n], e->p);
	e_rr(e, 4, 0x31, S0, S0);
	e_u8(e, 0xc3);

	*store = e->p;
	xmms(e, 0x0f29);
	e_rm(e, 1, 0xc6, 0, CPU(sse_live));
	e_u8(e, 0);
	e_u8(e, 0xc3);
}

/* RSI: insn; R12: third argument; RBX: where to go. The guest's registers are stored already. */
static void write_finish(struct soft_jit *j, struct emit *e, const uint8_t *store_sse)
{
	uint8_t *at;

	e_rm(e, 1, 0x80, 7, CPU(lazy_op));
	e_u8(e, 0);
	at = e_jcc(e, CC_E);
	call_to(e, j->flags);
	e_patch(at, e->p);
	e_rm(e, 1, 0x80, 7, CPU(sse_live));
	e_u8(e, 0);
	at = e_jcc(e, CC_E);
	call_to(e, store_sse);
	e_patch(at, e->p);
	e_rm(e, 8, 0x8d, RDI, AT(R_CPU, -CPU_BIAS));
	e_rr(e, 8, 0x8b, RDX, 12);
	e_jmp_reg(e, RBX);
}

/* A way out to a C function of the three arguments vCPU, S0, S1. */
static uint8_t *write_leave(struct emit *e, const uint8_t *finish, uintptr_t fn)
{
	uint8_t *start = e->p;

	gprs(e, 0x89);
	e_rr(e, 8, 0x8b, RSI, S0);
	e_rr(e, 8, 0x8b, 12, S1);
	e_mov_imm(e, RBX, fn);
	e_patch(e_jmp(e), finish);
	return start;
}

int32_t t_fetch_tlb(bool cpl3)
{
	return (int32_t)(offsetof(struct soft_vcpu, tlbs) + (cpl3 ? sizeof(struct soft_tlb) : 0) +
			 offsetof(struct soft_tlb, x)) -
	       CPU_BIAS;
}

/* From translated code to S0: by the fetch TLB to a physical address, by that to code. */
static uint8_t *write_jump(struct soft_jit *j, struct emit *e, bool cpl3)
{
	int32_t x = t_fetch_tlb(cpl3);
	int32_t targets = (int32_t)offsetof(struct soft_vcpu, jit_targets[cpl3]) - CPU_BIAS;
	struct maddr tag = {R_CPU, S1, 0, x + (int32_t)offsetof(struct tlbx, tag)};
	uint8_t *start = e->p, *no_page, *no_code;

	t_tlb_index(j, e, S1, S0, TLBX_SIZE - 1);
	e_rm(e, 8, 0x33, S0, tag);
	e_rr(e, 8, 0x81, 7, S0);
	e_u32(e, 0xfff);
	no_page = j->check ? e_jmp(e) : e_jcc(e, CC_A);
	e_rm(e, 8, 0x0b, S0, (struct maddr){R_CPU, S1, 0, x + (int32_t)offsetof(struct tlbx, gpa)});
	e_rm(e, 8, 0x8b, S1, tag);
	e_rm(e, 8, 0x89, S1, CPU(ip_base));
	e_rr(e, 8, 0x8b, S1, S0);
	e_rr(e, 8, 0xc1, 5, S1);
	e_u8(e, 12);
	e_rr(e, 4, 0x33, S1, S0);
	e_rr(e, 4, 0x81, 4, S1);
	e_u32(e, JIT_TARGETS - 1);
	e_rr(e, 4, 0xc1, 4, S1);
	e_u8(e, 4);
	e_rm(e, 8, 0x3b, S0,
		(struct maddr){R_CPU, S1, 0, targets + (int32_t)offsetof(struct jit_target, key)});
	no_code = e_jcc(e, CC_NE);
	e_jmp_mem(e,
		(struct maddr){R_CPU, S1, 0, targets + (int32_t)offsetof(struct jit_target, code)});
	e_patch(no_page, e->p);
	e_rm(e, 8, 0x33, S0, tag);
	e_rm(e, 8, 0x8b, S1, CPU(jit_tmp));
	e_patch(e_jmp(e), j->leave_jump);
	e_patch(no_code, e->p);
	e_rr(e, 8, 0x81, 4, S0);
	e_u32(e, 0xfff);
	e_rm(e, 8, 0x03, S0, CPU(ip_base));
	e_rm(e, 8, 0x8b, S1, CPU(jit_tmp));
	e_patch(e_jmp(e), j->leave_jump);
	return start;
}
_Static_assert(sizeof(struct jit_target) == 16, "see write_jump()");

/* JIT_CHECK's ways out, and its log: size bytes at S0. */
static void write_check(struct soft_jit *j, struct emit *e, const uint8_t *finish)
{
	static const uint8_t pushes[] = {0x50, 0x51, 0x56, 0x57}, pops[] = {0x5f, 0x5e, 0x59, 0x58};

	j->leave = write_leave(e, finish, (uintptr_t)jit_check_leave);
	j->leave_insn = e->p;
	e_rm(e, 8, 0x03, S0, CPU(jit_insns));
	write_leave(e, finish, (uintptr_t)jit_check_leave_insn);
	j->leave_link = write_leave(e, finish, (uintptr_t)jit_check_direct);
	j->leave_link_out = j->leave_events = j->leave_link;
	j->leave_jump = write_leave(e, finish, (uintptr_t)jit_check_indirect);
	j->log_store = e->p;
	e_bytes(e, pushes, sizeof(pushes));
	e_rm(e, 8, 0x8b, RAX, CPU(jit));
	e_rm(e, 8, 0x8b, RDI, AT(RAX, offsetof(struct soft_jit, stores)));
	e_rm(e, 8, 0x81, 0, AT(RAX, offsetof(struct soft_jit, stores)));
	e_u32(e, sizeof(struct jit_store));
	e_rm(e, 8, 0x89, S0, AT(RDI, offsetof(struct jit_store, at)));
	e_rm(e, 8, 0x89, S1, AT(RDI, offsetof(struct jit_store, size)));
	e_rm(e, 8, 0x8d, RDI, AT(RDI, offsetof(struct jit_store, before)));
	e_rr(e, 8, 0x8b, RSI, S0);
	e_rr(e, 4, 0x8b, RCX, S1);
	e_u8(e, 0xf3);
	e_u8(e, 0xa4);
	e_bytes(e, pops, sizeof(pops));
	e_u8(e, 0xc3);
}

void soft_jit_common(struct soft_jit *j)
{
	struct emit em = {j->rw, j->rw + j->size, false}, *e = &em;
	uint8_t *finish, *store_sse;

	j->never = e->p;
	e_u64(e, 1);
	write_flags(j, e);
	write_sse(j, e, &store_sse);
	finish = e->p;
	write_finish(j, e, store_sse);

	if (j->check) {
		write_check(j, e, finish);
		goto enter;
	}
	j->leave_insn = e->p;
	e_rm(e, 8, 0x03, S0, CPU(jit_insns));
	e_rm(e, 8, 0x8b, S1, AT(S0, 0));
	j->leave = e->p;
	gprs(e, 0x89);
	e_rr(e, 8, 0x8b, RSI, S0);
	e_rr(e, 8, 0x8b, RBX, S1);
	e_patch(e_jmp(e), finish);
	j->leave_link = write_leave(e, finish, (uintptr_t)soft_jit_link);
	j->leave_link_out = write_leave(e, finish, (uintptr_t)soft_jit_link_out);
	j->leave_events = write_leave(e, finish, (uintptr_t)soft_jit_events);
	j->leave_jump = write_leave(e, finish, (uintptr_t)soft_jit_jump);

enter:
	for (unsigned n = 0; n < 2; n++)
		j->jump[n] = write_jump(j, e, n);
	j->enter = e->p;
	e_rm(e, 8, 0x8d, R_CPU, AT(RDI, CPU_BIAS));
	gprs(e, 0x8b);
	e_jmp_reg(e, S0);
	j->start = j->used = ((size_t)(e->p - j->rw) + 63) & ~(size_t)63;
	j->cold = j->cold_used = j->size / 2;
}
