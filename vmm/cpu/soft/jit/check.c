/* SPDX-License-Identifier: MIT */
/*
 * See check.h. Nothing is linked then: each run is left at its first jump. It is executed first as translated, every store
 * logged; then memory and registers are put back, and a copy of its instructions is interpreted up to the same place. The
 * interpreter's results are those that stay. Devices and other vCPUs may write to memory meanwhile, so a difference counts
 * only if it is there again and again.
 */
#include "vmm/cpu/soft/jit/check.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/cpu/soft/exec.h"
#include "vmm/cpu/soft/jit/link.h"
#include "vmm/cpu/soft/jit/trans.h"

enum { ENTRIES = 1 << 20, MAX_STORES = 256, ATTEMPTS = 3, XMM_AT = 160, XMM_SIZE = 256 };

struct state {
	uint64_t gpr[16], ip_base;
	uint32_t eflags;
	uint16_t fl;
	uint8_t xmm[XMM_SIZE];
};

struct jit_check {
	struct entry {
		const struct insn *i;
		const struct block *k;
		const uint8_t *code;
	} entry[ENTRIES];
	unsigned nentries;
	struct jit_store store[MAX_STORES];

	/* How translated code left: before i, to be executed by fn (NULL: by whoever does), or behind i (a jump). */
	const struct insn *i;
	insn_fn fn;
	bool behind;
};

int jit_check_new(struct soft_jit *j)
{
	j->check = calloc(1, sizeof(*j->check));
	return j->check ? 0 : -ENOMEM;
}

void jit_check_free(struct soft_jit *j)
{
	free(j->check);
}

void jit_check_flush(struct soft_jit *j)
{
	memset(j->check->entry, 0, sizeof(j->check->entry));
	j->check->nentries = 0;
}

static struct entry *find(struct jit_check *ck, const struct insn *i)
{
	unsigned n = (unsigned)((uintptr_t)i >> 5) * 2654435761u >> 12;

	while (ck->entry[n].i && ck->entry[n].i != i)
		n = (n + 1) % ENTRIES;
	return &ck->entry[n];
}

void jit_check_add(struct soft_jit *j, const struct block *k, unsigned idx, const uint8_t *code)
{
	struct jit_check *ck = j->check;
	const struct insn *i = &k->insns[idx];

	if (ck->nentries > ENTRIES / 2)
		return;
	*find(ck, i) = (struct entry){i, k, code};
	ck->nentries++;
	((struct insn *)(uintptr_t)i)->fn = jit_checked;
}

const struct insn *jit_check_leave(struct soft_vcpu *c, const struct insn *i, uint64_t fn)
{
	struct jit_check *ck = c->jit->check;

	ck->i = i;
	ck->fn = (insn_fn)(uintptr_t)fn;
	ck->behind = false;
	return NULL;
}

const struct insn *jit_check_leave_insn(struct soft_vcpu *c, const struct insn *i, uint64_t unused)
{
	(void)unused;
	return jit_check_leave(c, i, 0);
}

const struct insn *jit_check_direct(struct soft_vcpu *c, const struct insn *i, uint64_t unused)
{
	(void)unused;
	c->jit->check->i = i;
	c->jit->check->behind = true;
	c->rip = c->ip_base + (uint64_t)(int64_t)i->disp;
	return NULL;
}

const struct insn *jit_check_indirect(struct soft_vcpu *c, uint64_t target, uint64_t insn_and_kind)
{
	c->jit->check->i = jit_insn(c, insn_and_kind);
	c->jit->check->behind = true;
	c->rip = target;
	return NULL;
}

static void get(const struct soft_vcpu *c, struct state *s)
{
	memset(s, 0, sizeof(*s));
	memcpy(s->gpr, c->gpr, sizeof(s->gpr));
	s->ip_base = c->ip_base;
	s->eflags = c->eflags;
	s->fl = c->fl;
	memcpy(s->xmm, c->xsave + XMM_AT, XMM_SIZE);
}

static void put(struct soft_vcpu *c, const struct state *s)
{
	memcpy(c->gpr, s->gpr, sizeof(s->gpr));
	c->ip_base = s->ip_base;
	c->eflags = s->eflags;
	c->fl = s->fl;
	memcpy(c->xsave + XMM_AT, s->xmm, XMM_SIZE);
}

static const struct insn *stop(struct soft_vcpu *c, const struct insn *i)
{
	(void)c;
	(void)i;
	return NULL;
}

/* Interprets from instruction idx of k on, to where translated code left. */
static void interpret(struct soft_vcpu *c, const struct block *k, unsigned idx)
{
	struct jit_check *ck = c->jit->check;
	unsigned last = (unsigned)(ck->i - k->insns);
	struct insn copy[BLOCK_MAX_INSNS + 2];
	const struct insn *i = copy;

	for (unsigned n = idx; n <= last; n++) {
		copy[n - idx] = k->insns[n];
		copy[n - idx].fn = k->ops->op[n].fn;
	}
	if (!ck->behind)
		last--;
	for (unsigned n = 0; n < 2; n++)
		copy[last + 1 - idx + n].fn = stop;
	if (last + 1 == idx)
		return;
	/* So that a jump does not go on elsewhere. */
	atomic_fetch_or_explicit(&c->events, EV_LOCAL, memory_order_relaxed);
	while (i)
		i = i->fn(c, i);
}

static const char *differs(const struct soft_jit *j, const struct state *a, const struct state *b)
{
	if (memcmp(a->gpr, b->gpr, sizeof(a->gpr)))
		return "registers";
	if (((a->fl ^ b->fl) & FL_ALL) || a->eflags != b->eflags)
		return "flags";
	if (memcmp(a->xmm, b->xmm, XMM_SIZE))
		return "XMM registers";
	for (const struct jit_store *s = j->check->store; s < j->stores; s++) {
		bool over = false; /* by a later one */

		for (const struct jit_store *l = s + 1; l < j->stores; l++)
			over |= l->at < s->at + s->size && s->at < l->at + l->size;
		if (!over && memcmp(s->at, s->after, s->size))
			return "memory";
	}
	return NULL;
}

static NORETURN void diverged(const struct soft_vcpu *c, const struct block *k, unsigned idx,
	const struct state *t, const struct state *n, const char *what)
{
	const uint8_t *hva = NULL;

	fprintf(stderr,
		"translator and interpreter differ in %s: gpa %#" PRIx64
		" instruction %u, to %td%s\n",
		what, k->key, idx, c->jit->check->i - k->insns,
		c->jit->check->behind ? " (jump)" : "");
	fprintf(stderr, "flags %04x %04x\n", t->fl, n->fl);
	for (unsigned r = 0; r < 16; r++)
		fprintf(stderr, "r%-2u %016" PRIx64 " %016" PRIx64 "%s\n", r, t->gpr[r], n->gpr[r],
			t->gpr[r] == n->gpr[r] ? "" : " *");
	for (unsigned m = 0; m < k->ops->n && !hva; m++) {
		const struct jit_op *op = &k->ops->op[m];

		fprintf(stderr, "  %u: off %x len %u map %u op %02x modrm %02x rex %02x pfx %02x\n",
			m, k->insns[m].off, k->insns[m].len, op->map, op->op, op->modrm, op->rex,
			op->pfx);
	}
	abort();
}

const struct insn *jit_checked(struct soft_vcpu *c, const struct insn *i)
{
	struct soft_jit *j = c->jit;
	struct jit_check *ck = j->check;
	const struct entry *e = find(ck, i);
	unsigned idx = (unsigned)(i - e->k->insns);
	struct state before, translated, interpreted;
	const char *what = NULL;

	if (e->k->ops->cpl3 != (c->cpl == 3))
		return e->k->ops->op[idx].fn(c, i);
	for (unsigned n = 0; n < ATTEMPTS; n++) {
		struct insn at = *i;

		get(c, &before);
		j->stores = ck->store;
		at.fn = (insn_fn)(uintptr_t)e->code;
		soft_jit_enter(c, &at);
		get(c, &translated);
		for (struct jit_store *s = ck->store; s < j->stores; s++)
			memcpy(s->after, s->at, s->size);
		for (struct jit_store *s = j->stores; s-- > ck->store;)
			memcpy(s->at, s->before, s->size);
		put(c, &before);
		interpret(c, e->k, idx);
		get(c, &interpreted);
		what = differs(j, &translated, &interpreted);
		if (!what)
			break;
		if (n + 1 < ATTEMPTS) {
			for (struct jit_store *s = j->stores; s-- > ck->store;)
				memcpy(s->at, s->before, s->size);
			put(c, &before);
		}
	}
	if (what)
		diverged(c, e->k, idx, &translated, &interpreted, what);
	if (ck->behind)
		return NULL;
	return ck->fn ? ck->fn(c, ck->i) : ck->i->fn(c, ck->i);
}
