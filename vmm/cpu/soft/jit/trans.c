/* SPDX-License-Identifier: MIT */
/* Runs: what is made of a block's instructions, how control leaves them, and when they are made (trans.h, link.h). */
#include "vmm/cpu/soft/jit/trans.h"
#include <stddef.h>
#include "vmm/cpu/soft/bind.h"
#include "vmm/cpu/soft/jit/check.h"
#include "vmm/cpu/soft/jit/link.h"
#include "vmm/cpu/soft/jump.h"

enum { HEADROOM = 128 << 10, MIN_INSNS = 2 };
/* Where loops begin matters: processors fetch decoded instructions by such lines. */
enum { LOOP_ALIGN = 64, RUN_ALIGN = 16, KEY_SIZE = 8 };

/* --- registers */

unsigned t_host(unsigned slot)
{
	static const uint8_t host[16] = {RAX, RCX, RDX, RBX, R_GUEST_RSP, RBP, RSI, RDI, 8, 9, 10,
		NO_REG, 12, NO_REG, NO_REG, NO_REG};

	return slot < SLOT_ZERO ? host[slot / 8] : NO_REG;
}

struct opnd t_opnd(unsigned slot)
{
	unsigned h = t_host(slot);

	if (h != NO_REG)
		return (struct opnd){.reg = (uint8_t)h};
	return (struct opnd){.mem = true, .m = CPU_AT(slot)};
}

unsigned t_get(struct trans *t, unsigned slot, unsigned scratch)
{
	unsigned h = t_host(slot);

	if (h != NO_REG)
		return h;
	if (scratch == S0)
		t_uses_s0(t);
	e_rm(&t->e, 8, 0x8b, scratch, CPU_AT(slot));
	return scratch;
}

unsigned t_put(struct trans *t, unsigned slot, unsigned scratch)
{
	unsigned h = t_host(slot);

	fl_writes(t, slot);
	return h != NO_REG ? h : scratch;
}

void t_changes(struct trans *t, unsigned slot)
{
	if (t->near.base == t_host(slot))
		t->near.valid = false;
}

void t_done(struct trans *t, unsigned slot, unsigned reg)
{
	t_changes(t, slot);
	if (t_host(slot) == NO_REG)
		e_rm(&t->e, 8, 0x89, reg, CPU_AT(slot));
}

/* --- ways out */

struct trans_exit *t_exit(struct trans *t, enum exit_kind kind, uint8_t *at, const struct insn *i)
{
	struct trans_exit *x = &t->exit[t->nexits];

	if (t->nexits == MAX_EXITS - 1)
		t->fail = true; /* the last one is overwritten */
	else
		t->nexits++;
	*x = (struct trans_exit){.kind = kind, .at = at, .i = i, .fl = t->fl};
	return x;
}

static void poll(struct trans *t, uint8_t **at, unsigned cc)
{
	fl_clobber(t);
	e_rm(&t->e, 4, 0x83, 7, CPU(events));
	e_u8(&t->e, 0);
	*at = e_jcc(&t->e, cc);
}

/* The block that a jump within the page leads to, if that is known. */
static const struct block *target_of(const struct trans *t, const struct insn *i)
{
	const struct block *k = i->link;

	return k && k->ops && (k->key ^ t->k->key) >> 12 == 0 ? k : NULL;
}

static const uint8_t *body_of(const struct trans *t, const struct block *k)
{
	if (t->j->check)
		return NULL;
	if (k == t->k && t->body)
		return t->body;
	return k->ops->body && k->ops->cpl3 == t->cpl3 ? k->ops->body : NULL;
}

enum { JUMP_JMP, JUMP_CALL, JUMP_RET };

static unsigned kind_of(const struct jit_op *op)
{
	if (op->op != 0xff)
		return JUMP_RET;
	return (op->reg & 7) == 2 ? JUMP_CALL : JUMP_JMP;
}

static const struct jit_op *op_of(const struct trans *t, const struct insn *i)
{
	return &t->k->ops->op[i - t->k->insns];
}

static void emit_exit(struct trans *t, struct trans_exit *x)
{
	struct emit *e = &t->e;
	uint8_t *miss;

	t_patch(t, x->at, e->p);
	t->fl = x->fl;
	switch (x->kind) {
	case X_LOOKUP:
		t_addend(t, x->i, x->access, x->m, &miss);
		t_patch(t, e_jmp(e), x->back);
		t_patch(t, miss, e->p);
		goto handler;
	case X_SSE:
		t_patch(t, e_call(e), t->j->load_sse);
		t_patch(t, e_jcc(e, CC_NE), x->back);
		__attribute__((fallthrough));
	case X_HANDLER:
	handler:
		/* All but the first instruction of a run still have their handler. */
		if (x->i == t->first) {
			fl_save(t);
			e_mov_imm(e, S0, (uintptr_t)x->i);
			e_mov_imm(e, S1, (uintptr_t)op_of(t, x->i)->fn);
			t_patch(t, e_jmp(e), t->j->leave);
			return;
		}
		__attribute__((fallthrough));
	case X_INSN:
		fl_save(t);
		e_mov_imm(e, S0, (uint64_t)((const uint8_t *)x->i - t->c->jit_insns));
		t_patch(t, e_jmp(e), t->j->leave_insn);
		return;
	case X_LINK:
	case X_LINK_OUT:
		fl_save(t);
		if (!x->site) {
			const struct block *k = target_of(t, x->i);
			const uint8_t *body = k ? body_of(t, k) : NULL;

			x->site = e_jmp(e);
			t_patch(t, x->site, body ? body : e->p);
			if (body)
				return;
		}
		e_mov_imm(e, S0, (uintptr_t)x->i);
		e_mov_imm(e, S1, (uint64_t)(x->site - t->j->rw));
		t_patch(t, e_jmp(e), x->kind == X_LINK ? t->j->leave_link : t->j->leave_link_out);
		return;
	case X_EVENTS:
		fl_save(t);
		e_mov_imm(e, S0, (uintptr_t)x->i);
		t_patch(t, e_jmp(e), t->j->leave_events);
		return;
	}
}

/* --- direct jumps */

/* The jump at site goes to the block k, as soon as there is code for it. */
static void link_site(struct trans *t, uint8_t *site, const struct insn *i, const struct block *k)
{
	const uint8_t *body = k ? body_of(t, k) : NULL;

	if (body)
		t_patch(t, site, body);
	else
		t_exit(t, X_LINK, site, i)->site = site;
}

/*
 * The block jumps back to its own beginning. There the flags would have to be saved, for those instructions that come before
 * the first that sets them. Instead all of it is translated once more, knowing what the flags are.
 */
static bool jump_again(struct trans *t)
{
	struct trans_again *a = &t->again;

	if (t->j->check || t->fl.kind == FK_NONE || (a->njumps && !fl_same(&t->fl, &a->fl)))
		return false;
	if (a->code) {
		if (a->sse && !t->sse)
			return false;
		t_patch(t, e_jmp(&t->e), a->code);
		return true;
	}
	if (a->njumps == MAX_AGAIN)
		return false;
	a->sse = (!a->njumps || a->sse) && t->sse;
	a->fl = t->fl;
	a->jump[a->njumps++] = e_jmp(&t->e);
	return true;
}

/* Jumps backwards look at events: every loop has one, or a jump out of the page, or an indirect one, or is left. */
static void jump_in(struct trans *t, const struct insn *i)
{
	const struct block *k = target_of(t, i);
	bool backward = i->disp <= i->off;
	uint8_t *at;

	if (backward && k == t->k && t->body) {
		poll(t, &at, CC_NE);
		t_exit(t, X_EVENTS, at, i);
		if (jump_again(t))
			return;
		fl_save(t);
		link_site(t, e_jmp(&t->e), i, k);
		return;
	}
	if (!k || !fl_dead_at_entry(k))
		fl_save(t);
	if (!backward) {
		link_site(t, e_jmp(&t->e), i, k);
		return;
	}
	poll(t, &at, CC_E);
	link_site(t, at, i, k);
	t_exit(t, X_EVENTS, e_jmp(&t->e), i);
}

static void jump_out(struct trans *t, const struct insn *i)
{
	int32_t x = t_fetch_tlb(t->cpl3);
	struct emit *e = &t->e;
	struct trans_exit *first;
	uint8_t *at, *site;

	fl_save(t);
	poll(t, &at, CC_NE);
	t_exit(t, X_EVENTS, at, i);
	e_rm(e, 8, 0x8b, S0, CPU(ip_base));
	e_rm(e, 8, 0x8d, S0, AT(S0, i->disp & ~0xfff));
	t_tlb_index(t->j, e, S1, S0, TLBX_SIZE - 1);
	e_rm(e, 8, 0x3b, S0, (struct maddr){R_CPU, S1, 0, x + (int32_t)offsetof(struct tlbx, tag)});
	first = t_exit(t, X_LINK_OUT, e_jcc(e, CC_NE), i);
	e_rm(e, 8, 0x8b, S1, (struct maddr){R_CPU, S1, 0, x + (int32_t)offsetof(struct tlbx, gpa)});
	e_rr(e, 8, 0x81, 1, S1); /* or */
	e_u32(e, i->disp & 0xfff);
	/* From here on as soft_jit_link_out() knows it. */
	site = e_rip(e, 8, 0x3b, S1);
	t_patch(t, site, t->j->never);
	first->site = site;
	t_exit(t, X_LINK_OUT, e_jcc(e, CC_NE), i)->site = site;
	e_rm(e, 8, 0x89, S0, CPU(ip_base));
	at = e_jmp(e);
	t_patch(t, at, at + 4);
}
_Static_assert(sizeof(struct tlbx) == 32, "see jump_out()");
enum { SITE_TO_JMP = 4 + 6 + 4 + 1 };

static bool stays(const struct insn *i)
{
	return i->disp >= 0 && i->disp < 4096;
}

static void jump(struct trans *t, const struct insn *i)
{
	if (stays(i))
		jump_in(t, i);
	else
		jump_out(t, i);
}

static void jump_if(struct trans *t, const struct insn *i)
{
	unsigned cc = t->op->op & 15;
	const struct block *k = stays(i) ? target_of(t, i) : NULL;
	struct flags before;
	uint8_t *at;

	fl_load(t, S1);
	before = t->fl;
	if (stays(i) && i->disp > i->off) {
		at = e_jcc(&t->e, cc);
		if (k && fl_dead_at_entry(k))
			link_site(t, at, i, k);
		else
			t_exit(t, X_LINK, at, i);
		return;
	}
	at = e_jcc(&t->e, cc ^ 1);
	jump(t, i);
	t_patch(t, at, t->e.p);
	t->fl = before;
}

/* --- indirect jumps */

/* Before anything of a jump to an address that is not known. */
static void jump_begins(struct trans *t, const struct insn *i)
{
	uint8_t *at;

	fl_save(t);
	poll(t, &at, CC_NE);
	t_exit(t, X_HANDLER, at, i);
}

/*
 * To S0. How is the same for all, so it is code that all share: processors predict indirect jumps by the way that led
 * there. It finds in c->jit_tmp which instruction that was, if it has to leave.
 */
static void jump_to(struct trans *t, const struct insn *i)
{
	e_rm(&t->e, 8, 0xc7, 0, CPU(jit_tmp));
	e_u32(&t->e, (uint32_t)((const uint8_t *)i - t->c->jit_insns) | kind_of(op_of(t, i)));
	t_patch(t, e_jmp(&t->e), t->j->jump[t->cpl3]);
}

/* The return address to t->at. */
static void store_return(struct trans *t, const struct insn *i)
{
	e_rm(&t->e, 8, 0x8b, S1, CPU(ip_base));
	e_rm(&t->e, 8, 0x8d, S1, AT(S1, i->off + i->len));
	e_rm(&t->e, 8, 0x89, S1, t->at);
}

static void call(struct trans *t, const struct insn *i)
{
	t_stack(t, i, -8, 8, true);
	store_return(t, i);
	t_move_rsp(t, -8);
	jump(t, i);
}

static void ret(struct trans *t, const struct insn *i)
{
	jump_begins(t, i);
	t_stack(t, i, 0, 8, false);
	e_rm(&t->e, 8, 0x8b, S0, t->at);
	t_move_rsp(t, 8 + (uint16_t)i->imm);
	jump_to(t, i);
}

static void call_or_jump_to(struct trans *t, const struct insn *i, bool is_call)
{
	bool m = i->flags & INSN_MEM;

	jump_begins(t, i);
	if (m) {
		t_operand(t, i, 8, false);
		t_uses_s0(t);
		e_rm(&t->e, 8, 0x8b, S0, t->at);
		if (is_call)
			e_rm(&t->e, 8, 0x89, S0, CPU(jit_tmp));
	}
	if (is_call) {
		t_stack(t, i, -8, 8, true);
		store_return(t, i);
	}
	if (!m)
		e_x(&t->e, 8, 0x8b, S0, t_opnd(i->rm));
	else if (is_call)
		e_rm(&t->e, 8, 0x8b, S0, CPU(jit_tmp));
	if (is_call)
		t_move_rsp(t, -8);
	jump_to(t, i);
}

/* --- runs */

static void push_head(struct trans *t, unsigned idx)
{
	const struct jit_op *op = &t->k->ops->op[idx];

	if (t->nheads < MAX_HEADS && op->known && t->k->insns[idx].fn == op->fn)
		t->head[t->nheads++] = (struct trans_head){t->k, idx};
}

static bool is_jcc(const struct jit_op *op)
{
	return op->map == MAP_1 ? (op->op & 0xf0) == 0x70
				: op->map == MAP_0F && (op->op & 0xf0) == 0x80;
}

enum transfer { T_NONE, T_GOES_ON, T_ENDS };

static enum transfer transfer(struct trans *t, const struct insn *i)
{
	const struct jit_op *op = t->op;
	unsigned o = op->op, ext = op->reg & 7;

	if (op->fn == soft_h_goto_in || op->fn == soft_h_goto_out) {
		jump(t, i);
		return T_ENDS;
	}
	if (!op->known)
		return T_NONE;
	if (is_jcc(op)) {
		jump_if(t, i);
		return T_GOES_ON;
	}
	if (op->map != MAP_1)
		return T_NONE;
	if (o == 0xe9 || o == 0xeb)
		jump(t, i);
	else if (o == 0xe8)
		call(t, i);
	else if ((o == 0xc3 || o == 0xc2) && i->size == 8)
		ret(t, i);
	else if (o == 0xff && (ext == 2 || ext == 4) && i->size == 8 &&
		 !(i->flags & INSN_MEM && i->ea & EA_SLOW & ~EA_ADDSEG))
		call_or_jump_to(t, i, ext == 2);
	else
		return T_NONE;
	return T_ENDS;
}

/* Emits from instruction idx on. Returns how many instructions. */
static unsigned emit_insns(struct trans *t, unsigned idx)
{
	unsigned done = 0;

	for (;;) {
		const struct insn *i = &t->k->insns[idx];
		unsigned nexits = t->nexits, n = 0;
		uint8_t *p = t->e.p;
		struct flags fl = t->fl;
		bool sse = t->sse;

		t->idx = idx;
		t->op = &t->k->ops->op[idx];
		t->fail = false;
		switch (transfer(t, i)) {
		case T_ENDS:
			if (t->fail)
				break;
			return done + 1;
		case T_GOES_ON: n = 1; break;
		case T_NONE: n = t->op->known ? t_insn(t, i) : 0; break;
		}
		if (n && !t->fail) {
			done += n;
			idx += n;
			continue;
		}
		t->e.p = p;
		t->nexits = nexits;
		t->fl = fl;
		t->sse = sse;
		t->near.valid = false;
		t_exit(t, X_INSN, e_jmp(&t->e), i);
		if (t->op->known)
			push_head(t, idx + 1);
		return done;
	}
}

/* From the interpreter: as a handler. */
static uint8_t *emit_entry(struct trans *t, unsigned idx, const uint8_t *start)
{
	struct emit *e = &t->e;
	uint8_t *entry = e->p, *wrong, *at;

	e_rm(e, 1, 0x80, 7, AT(RDI, offsetof(struct soft_vcpu, cpl)));
	e_u8(e, 3);
	wrong = e_jcc(e, t->cpl3 ? CC_NE : CC_E);
	at = e_rip(e, 8, 0x8d, S0);
	t_patch(t, at, start);
	t_patch(t, e_jmp(e), t->j->enter);
	t_patch(t, wrong, e->p);
	e_mov_imm(e, RAX, (uintptr_t)t->k->ops->op[idx].fn);
	e_jmp_reg(e, RAX);
	return entry;
}

static void align(struct emit *e, unsigned rest, unsigned to)
{
	while (((uintptr_t)e->p + rest) % to && !e->full)
		e_u8(e, 0xcc);
}

static void emit_again(struct trans *t)
{
	struct trans_again *a = &t->again;

	if (!a->njumps)
		return;
	align(&t->e, 0, LOOP_ALIGN);
	a->code = t->e.p;
	for (unsigned n = 0; n < a->njumps; n++)
		t_patch(t, a->jump[n], a->code);
	t->fl = a->fl;
	t->sse = a->sse;
	t->near.valid = false;
	emit_insns(t, 0);
}

static void translate(struct trans *t, const struct block *k, unsigned idx)
{
	struct soft_jit *j = t->j;
	struct jit_ops *ops = k->ops;
	uint8_t *start, *entry;
	struct emit hot;
	unsigned n;

	t->e = (struct emit){j->rw + j->used, j->rw + j->cold, false};
	align(&t->e, KEY_SIZE, RUN_ALIGN);
	start = t->e.p;
	t->k = k;
	t->first = &k->insns[idx];
	t->fl = fl_unknown();
	t->sse = false;
	t->nexits = 0;
	t->body = NULL;
	t->again.njumps = 0;
	t->again.code = NULL;
	t->near.valid = false;
	if (idx == 0) {
		e_u64(&t->e, k->key);
		start = t->body = t->e.p;
	}
	n = emit_insns(t, idx);
	emit_again(t);
	if (idx && n < MIN_INSNS)
		return;
	hot = t->e;
	t->e = (struct emit){j->rw + j->cold_used, j->rw + j->size, hot.full};
	for (unsigned x = 0; x < t->nexits; x++)
		emit_exit(t, &t->exit[x]);
	entry = emit_entry(t, idx, start);
	if (t->e.full)
		return;
	if (idx == 0) {
		ops->key = (uint64_t *)(void *)(start - KEY_SIZE);
		ops->body = start;
		ops->cpl3 = t->cpl3;
	}
	if (n >= MIN_INSNS && j->check)
		jit_check_add(j, k, idx, entry + j->to_rx);
	else if (n >= MIN_INSNS)
		((struct insn *)(uintptr_t)&k->insns[idx])->fn =
			(insn_fn)(uintptr_t)(entry + j->to_rx);
	j->used = (size_t)(hot.p - j->rw);
	j->cold_used = (size_t)(t->e.p - j->rw);
}

static bool is_full(const struct soft_jit *j)
{
	return j->cold - j->used <= HEADROOM || j->size - j->cold_used <= HEADROOM;
}

static void make(struct soft_vcpu *c, const struct block *k)
{
	struct soft_jit *j = c->jit;
	struct trans *t = j->trans;

	t->c = c;
	t->j = j;
	t->cpl3 = c->cpl == 3;
	/*
	 * What programs of one vCPU have in memory nobody else sees, and LOCK costs some five times an addition. The kernel's rings
	 * devices see, which other threads and processes serve: it orders its accesses to them by locked operations.
	 */
	t->locks = c->vm->nvcpus > 1 || !t->cpl3;
	t->head[0] = (struct trans_head){k, 0};
	t->nheads = 1;
	for (unsigned n = 0; n < t->nheads && !is_full(j); n++) {
		const struct block *b = t->head[n].k;
		unsigned idx = t->head[n].idx;

		if (!idx || b->insns[idx].fn == b->ops->op[idx].fn)
			translate(t, b, idx);
	}
}

const struct insn *soft_jit_count(struct soft_vcpu *c, const struct insn *i)
{
	struct block *k = (struct block *)((uintptr_t)i - offsetof(struct block, insns));
	insn_fn fn = k->ops->op[0].fn;

	if (k->ops->hot-- == 0) {
		if (is_full(c->jit)) {
			/* All blocks go with the code; this one is looked for again. */
			c->rip = c->ip_base + i->off;
			soft_blocks_drop_all(c);
			return NULL;
		}
		k->insns[0].fn = fn;
		make(c, k);
		return i; /* not from here: translated code must not be called */
	}
	return fn(c, i);
}

static struct jit_target *target_slot(struct soft_vcpu *c, bool cpl3, uint64_t key)
{
	return &c->jit_targets[cpl3][(key ^ key >> 12) & (JIT_TARGETS - 1)];
}

void soft_jit_drop(struct soft_vcpu *c, const struct block *k)
{
	struct jit_target *s = target_slot(c, k->ops->cpl3, k->key);

	if (!k->ops->key)
		return;
	*k->ops->key = BLOCK_DROPPED;
	if (s->key == k->key)
		s->key = BLOCK_DROPPED;
}

void soft_jit_flush(struct soft_vcpu *c)
{
	if (!c->jit)
		return;
	c->jit->flushes++;
	c->jit->used = c->jit->start;
	c->jit->cold_used = c->jit->cold;
	if (c->jit->check)
		jit_check_flush(c->jit);
	for (unsigned n = 0; n < 2 * JIT_TARGETS; n++)
		c->jit_targets[n / JIT_TARGETS][n % JIT_TARGETS].key = BLOCK_DROPPED;
}

/* --- from translated code */

static const uint8_t *body_for(const struct soft_vcpu *c, const struct block *k)
{
	return k->ops && k->ops->body && k->ops->cpl3 == (c->cpl == 3) ? k->ops->body : NULL;
}

const struct insn *soft_jit_events(struct soft_vcpu *c, const struct insn *i, uint64_t unused)
{
	(void)unused;
	c->rip = c->ip_base + (uint64_t)(int64_t)i->disp;
	return NULL;
}

const struct insn *soft_jit_link(struct soft_vcpu *c, const struct insn *i, uint64_t site)
{
	const struct block *k = i->link;
	const uint8_t *body;

	if (soft_events(c) || !k)
		return soft_jump_slow(c, i);
	body = body_for(c, k);
	if (body)
		e_patch(c->jit->rw + site, body);
	return k->insns;
}

const struct insn *soft_jit_link_out(struct soft_vcpu *c, const struct insn *i, uint64_t site)
{
	uint64_t to = c->ip_base + (uint64_t)(int64_t)i->disp;
	const struct tlbx *x = &c->tlb->x[to >> 12 & (TLBX_SIZE - 1)];
	const struct block *k = i->link;
	const uint8_t *body;

	if (soft_events(c) || !k || x->tag != (to & PAGE_MASK_) ||
		k->key != (x->gpa | (to & 0xfff)))
		return soft_jump_slow(c, i);
	c->ip_base = to & PAGE_MASK_;
	body = body_for(c, k);
	if (body) {
		e_patch(c->jit->rw + site, (const uint8_t *)k->ops->key);
		e_patch(c->jit->rw + site + SITE_TO_JMP, body);
	}
	return k->insns;
}

/* The target is not canonical: as before the instruction. (A return address stays where it was pushed.) */
static NORETURN void bad_target(struct soft_vcpu *c, const struct insn *i, unsigned kind)
{
	if (kind == JUMP_CALL)
		c->gpr[CPU_RSP] += 8;
	else if (kind == JUMP_RET)
		c->gpr[CPU_RSP] -= 8 + (uint16_t)i->imm;
	c->cur = i;
	soft_raise(c, EXC_GP, 0);
}

const struct insn *soft_jit_jump(struct soft_vcpu *c, uint64_t target, uint64_t insn_and_kind)
{
	const struct insn *i = jit_insn(c, insn_and_kind);
	const struct insn *next;
	const struct tlbx *x;
	const struct block *k;
	uint64_t key;

	if (!soft_canonical(target))
		bad_target(c, i, insn_and_kind & 31);
	c->rip = target;
	next = soft_block_get(c);
	x = &c->tlb->x[target >> 12 & (TLBX_SIZE - 1)];
	key = x->gpa | (target & 0xfff);
	k = *soft_jump_cache(c, key);
	if (k->key == key && k->insns == next && body_for(c, k))
		*target_slot(c, c->cpl == 3, key) =
			(struct jit_target){key, body_for(c, k) + c->jit->to_rx};
	return next;
}
