/* SPDX-License-Identifier: MIT */
/* See direct.h. */
#include "vmm/cpu/soft/direct/direct.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/log.h"
#include "vmm/cpu/soft/block.h"
#include "vmm/cpu/soft/clock.h"
#include "vmm/cpu/soft/direct/space.h"
#include "vmm/cpu/soft/exc.h"
#include "vmm/cpu/soft/mmu.h"
#include "vmm/cpu/soft/simd-int.h"

enum {
	STUBS = 8,	     /* a vCPU has */
	MAX_STUBS = 64,	     /* a VM has, if it has not more vCPUs */
	ADDRESS_SPACES = 64, /* that are remembered */
	PENDING = 32,	     /* pages to be looked at before the next entry */
	AVERAGE = 8,	     /* runs */
	FOREIGN_BLOCKS = 1000,
};

/*
 * When it pays. A trap out of a stub and back costs 5 to 10 us, depending on the host, which the translator does not need; it takes two to three
 * times as long for code that it knows, and twenty for code that it sees first. Pages cost as much again when a stub sees them first, some
 * milliseconds for a small program: one that is gone before that is better off without. How often a program traps changes with what it does,
 * and coming back costs all pages again: it is left later than it is entered. Times are converted to ticks of the TSC.
 */
enum {
	ENTER_TOTAL_NS = 2000000, /* user time of an address space before it is considered */
	ENTER_TRIPS =
		8, /* its runs have to be as long as so many traps: new pages will make more */
	JUDGE_RUNS = 256, /* in a stub: then it is judged */
	LEAVE_PARTS = 4,  /* of a trap: its runs were shorter */
	MAX_BACKOFF = 7,
	KEEP_NS =
		50000000, /* a stub that was used so recently is not taken from its address space */
	LOCK_SAMPLES = 2, /* interrupts in a row that found a locked instruction */
	TRIP_NS = 5000,	  /* at first */
	MAX_TRIP_NS = 40000, /* longer runs say nothing about it */
};

#define NO_CR3 1ull

/* What is known of an address space. */
struct habit {
	uint64_t cr3;
	uint64_t total;	  /* ticks of user time, translated */
	uint64_t average; /* of a run */
	bool direct;
	uint8_t locked;	 /* so many interrupts in a row found a locked instruction */
	unsigned runs;	 /* in a stub, since it was judged */
	uint64_t native; /* ticks in it */
	uint8_t backoff; /* the total must be twice as long for each */
};

struct hosted {
	struct stub *stub;
	bool broken;
	struct space *space;
	uint64_t cr3;
	uint64_t flushes; /* of which it knows */
	uint64_t used;	  /* TSC */
};

struct soft_direct {
	struct soft_direct_state s; /* first: cpu.h */
	struct hosted hosted[STUBS];
	struct habit habit[ADDRESS_SPACES];
	struct habit *now;
	uint64_t since;	  /* TSC, when user code was entered */
	uint64_t flushes; /* of the whole TLB */
	uint64_t pending[PENDING];
	unsigned n_pending;
	struct hosted *_Atomic current; /* while running. Any thread */
	uint64_t fault,
		fault_cr3; /* the address the guest's kernel was left to deal with; 0: none */
	unsigned fault_acc;
	uint64_t enter_total;  /* ticks */
	uint64_t trip;	       /* what entering and leaving a stub takes, without the program */
	uint64_t foreign;      /* the page that is executed by others; 1: none */
	unsigned foreign_left; /* blocks of it, until it is left to others wholly */
};

struct soft_direct_pool {
	unsigned n;
	unsigned each; /* for a vCPU */
	struct stub *stub[];
};

static enum direct_mode mode;

void soft_direct_configure(enum direct_mode m)
{
	mode = m;
}

static bool has_lzcnt(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(0x80000001, &a, &b, &c, &d) && c & bit_LZCNT;
}

void soft_direct_pool_new(struct soft_direct_pool **ret, const struct os_memobj *ram, unsigned n)
{
	struct soft_direct_pool *p;
	const char *why = "";
	unsigned each;
	int r = 0;

	*ret = NULL;
	if (mode == DIRECT_MODE_OFF)
		return;
	/* Announced to guests in any case; other processors take it for BSR. */
	if (!has_lzcnt()) {
		log_info(NULL, "no direct execution of user code: the host has no LZCNT");
		return;
	}
	each = MAX(1u, MIN((unsigned)STUBS, MAX_STUBS / n));
	n *= each;
	p = calloc(1, sizeof(*p) + n * sizeof(p->stub[0]));
	if (!p)
		return;
	p->each = each;
	while (r == 0 && p->n < n) {
		r = stub_new(&p->stub[p->n], ram, &why);
		p->n += r == 0;
	}
	for (unsigned k = 0; r == 0 && k < n; k++)
		r = stub_ready(p->stub[k], &why);
	if (r < 0) {
		log_info(NULL, "no direct execution of user code: the host does not give %s: %s",
			why, strerror(-r));
		soft_direct_pool_free(p);
		return;
	}
	*ret = p;
}

void soft_direct_pool_free(struct soft_direct_pool *p)
{
	if (!p)
		return;
	for (unsigned k = 0; k < p->n; k++)
		stub_free(p->stub[k]);
	free(p);
}

static uint64_t ticks(uint64_t ns)
{
	return ns * (os_tsc_hz() / 1000) / 1000000;
}

int soft_direct_new(struct soft_vcpu *c)
{
	struct soft_direct_pool *p = c->vm->direct_pool;
	struct soft_direct *d;
	int r = 0;

	if (!p || !p->n)
		return 0;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	c->direct = &d->s;
	d->enter_total = ticks(ENTER_TOTAL_NS);
	d->trip = ticks(TRIP_NS);
	d->foreign = 1;
	for (unsigned k = 0; r == 0 && k < p->each && p->n; k++) {
		struct hosted *h = &d->hosted[k];

		r = space_new(
			&h->space, p->stub[p->n - 1], (c->vm->lo_size + c->vm->hi_size) >> 12);
		if (r == 0)
			h->stub = p->stub[--p->n];
	}
	if (r < 0)
		soft_direct_free(c);
	return r;
}

static struct soft_direct *direct_of(const struct soft_vcpu *c)
{
	return (struct soft_direct *)c->direct;
}

void soft_direct_free(struct soft_vcpu *c)
{
	struct soft_direct *d = direct_of(c);

	if (!d)
		return;
	for (unsigned k = 0; k < STUBS; k++) {
		space_free(d->hosted[k].space);
		stub_free(d->hosted[k].stub);
	}
	free(d);
	c->direct = NULL;
}

/* --- when ------------------------------------------------------------------------------------------------------- */

static struct habit *habit_of(struct soft_direct *d, uint64_t cr3)
{
	struct habit *h = &d->habit[(cr3 >> 12 ^ cr3 >> 18) % ADDRESS_SPACES];

	if (h->cr3 != cr3)
		*h = (struct habit){.cr3 = cr3};
	return h;
}

static void ran_translated(struct soft_direct *d, struct habit *h, uint64_t ran)
{
	h->total += ran;
	h->average = h->average - h->average / AVERAGE + ran / AVERAGE;
	/* User time between two ways into the kernel. */
	if (h->total >= d->enter_total << h->backoff && h->average >= ENTER_TRIPS * d->trip) {
		h->direct = true;
		h->runs = 0;
		h->native = 0;
	}
}

/*
 * Of the ticks between letting a program go and its being parked, those that were the program's. How long the rest takes depends on the host,
 * and on what else it does: it is the average of the short ones.
 */
static uint64_t without_trip(struct soft_direct *d, uint64_t all)
{
	if (all < d->trip + d->trip / 2)
		d->trip = d->trip - d->trip / AVERAGE + all / AVERAGE;
	else if (all < ticks(MAX_TRIP_NS))
		d->trip += d->trip / 256;
	return all > d->trip ? all - d->trip : 0;
}

/* The stub was left after so many ticks in it, without what entering takes. */
static void ran_directly(struct soft_direct *d, struct habit *h, uint64_t ran, unsigned runs)
{
	h->native += ran;
	h->runs += runs;
	if (h->runs < JUDGE_RUNS || mode == DIRECT_MODE_ALWAYS)
		return;
	if (LEAVE_PARTS * h->native < h->runs * d->trip) {
		h->direct = false;
		h->total = h->average = 0;
		h->backoff = (uint8_t)MIN(h->backoff + 1, MAX_BACKOFF);
	} else if (h->backoff) {
		h->backoff--;
	}
	h->runs = 0;
	h->native = 0;
}

void soft_direct_turn(struct soft_vcpu *c)
{
	struct soft_direct *d = direct_of(c);

	if (!d->s.user) {
		d->s.user = true;
		d->now = habit_of(d, c->cr3 & PTE_ADDR);
		d->now->direct |= mode == DIRECT_MODE_ALWAYS;
		d->since = soft_host_tsc();
	} else {
		d->s.user = false;
		if (!d->now->direct)
			ran_translated(d, d->now, soft_host_tsc() - d->since);
	}
	d->s.wanted = d->s.user && d->now->direct;
}

/* --- which stub, and what is in it ------------------------------------------------------------------------------ */

void soft_direct_flush_page(struct soft_vcpu *c, uint64_t lin)
{
	struct soft_direct *d = direct_of(c);

	if (!d || lin >> 47)
		return;
	if (d->n_pending < PENDING)
		d->pending[d->n_pending++] = lin;
	else
		soft_direct_flush(c);
}

void soft_direct_flush(struct soft_vcpu *c)
{
	struct soft_direct *d = direct_of(c);

	if (!d)
		return;
	d->flushes++;
	d->n_pending = 0;
}

void soft_direct_protect(struct soft_vcpu *c, uint64_t gpa)
{
	struct soft_direct *d = direct_of(c);

	for (unsigned k = 0; d && k < STUBS; k++)
		if (d->hosted[k].stub)
			space_protect(d->hosted[k].space, c, gpa);
}

void soft_direct_code_gone(struct soft_vcpu *c, uint64_t gpa)
{
	struct soft_direct *d = direct_of(c);

	for (unsigned k = 0; d && k < STUBS; k++)
		if (d->hosted[k].stub)
			space_code_gone(d->hosted[k].space, gpa);
}

void soft_direct_reset(struct soft_vcpu *c)
{
	struct soft_direct *d = direct_of(c);

	for (unsigned k = 0; d && k < STUBS; k++) {
		d->hosted[k].cr3 = NO_CR3;
		d->hosted[k].used = 0;
	}
}

static enum direct_exit general_protection(struct soft_vcpu *c)
{
	c->exc.vec = EXC_GP;
	c->exc.err = 0;
	c->exc.has_err = true;
	c->exc.soft = false;
	c->exc_raised = true;
	return DIRECT_AGAIN;
}

/* The stub of the address space, as the guest's page tables want it. NULL: it cannot have one now, or this is the first time it is seen. */
static struct hosted *get_hosted(struct soft_direct *d, struct soft_vcpu *c)
{
	uint64_t cr3 = c->cr3 & PTE_ADDR, now = soft_host_tsc();
	struct hosted *h = NULL;

	for (unsigned k = 0; k < STUBS; k++) {
		struct hosted *o = &d->hosted[k];

		if (!o->stub || o->broken)
			continue;
		if (o->cr3 == cr3) {
			h = o;
			break;
		}
		if (!h || o->used < h->used)
			h = o;
	}
	if (!h)
		return NULL;
	if ((h->cr3 != cr3 || h->flushes != d->flushes) && space_collides(c)) {
		d->now->backoff = MAX_BACKOFF;
		return NULL;
	}
	if (h->cr3 != cr3 && h->used && now - h->used < ticks(KEEP_NS))
		return NULL;
	h->used = now;
	if (h->cr3 != cr3) {
		space_clear(h->space);
		h->cr3 = cr3;
		h->flushes = d->flushes;
		return h;
	}
	if (h->flushes != d->flushes) {
		h->flushes = d->flushes;
		if (!space_flush(h->space, c)) {
			/* The process that had it is gone. */
			space_clear(h->space);
			h->cr3 = NO_CR3;
			h->used = 0;
			*d->now = (struct habit){.cr3 = cr3};
			return NULL;
		}
	} else {
		for (unsigned k = 0; k < d->n_pending; k++)
			space_flush_page(h->space, c, d->pending[k]);
	}
	d->n_pending = 0;
	return h;
}

/* Linux's selectors, the host's as well as the guest's. */
enum { USER_CS32 = 0x23, USER_SS = 0x2b, USER_CS = 0x33 };

/* --- a run ------------------------------------------------------------------------------------------------------ */

enum {
	NATIVE = RF_ARITH | RF_DF | RF_AC
}; /* of RFLAGS: what user code changes by itself, TF apart */

static const unsigned seg_of[STUB_SELECTORS] = {SEG_DS, SEG_ES, SEG_FS, SEG_GS};

static bool is_null(uint16_t sel)
{
	return !(sel & ~3);
}

static void load_regs(struct soft_vcpu *c, struct stub *s, struct stub_regs *r)
{
	memcpy(r->gpr, c->gpr, sizeof(r->gpr));
	r->rip = c->rip;
	r->rflags = (soft_rflags_get(c) & NATIVE) | RF_IF | RF_1;
	r->fs_base = c->segbase[SEG_FS];
	r->gs_base = c->segbase[SEG_GS];
	for (unsigned n = 0; n < STUB_SELECTORS; n++)
		r->sel[n] = c->seg[seg_of[n]].sel;
	memcpy(stub_fx(s), c->xsave, STUB_FX_LEN);
}

/* What programs load is what Linux has for all of them; anything else, which only this program says that it did, is as if it had not. */
static void store_selector(struct soft_vcpu *c, unsigned seg, uint16_t sel)
{
	struct soft_desc d;

	if (sel == c->seg[seg].sel)
		return;
	if (is_null(sel)) {
		c->seg[seg] = (struct soft_seg){.sel = sel};
		soft_set_segbase(c, seg, 0);
	} else if (sel == USER_SS && soft_desc_peek(c, &d, sel) && d.attr & DESC_P &&
		   d.attr & DESC_S && desc_dpl(d.attr) == 3) {
		soft_set_seg(c, seg, sel, &d);
	}
}

static void store_regs(struct soft_vcpu *c, struct stub *s, const struct stub_regs *r)
{
	struct fx_image *f = IMAGE(c);

	memcpy(c->gpr, r->gpr, sizeof(r->gpr));
	c->rip = r->rip;
	soft_rflags_set(c, (soft_rflags_get(c) & ~(uint64_t)NATIVE) | (r->rflags & NATIVE));
	for (unsigned n = 0; n < STUB_SELECTORS; n++)
		store_selector(c, seg_of[n], r->sel[n]);
	if (r->fs_base != c->segbase[SEG_FS] && soft_canonical(r->fs_base))
		soft_set_segbase(c, SEG_FS, r->fs_base);
	if (r->gs_base != c->segbase[SEG_GS] && soft_canonical(r->gs_base))
		soft_set_segbase(c, SEG_GS, r->gs_base);
	memcpy(c->xsave, stub_fx(s), STUB_FX_LEN);
	/* The program could have written to the image. */
	f->mxcsr &= simd_mxcsr_mask();
	f->rsvd = 0;
	f->fop &= 0x7ff;
	for (int k = 0; k < 8; k++)
		memset(f->st[k] + 10, 0, 6);
}

/* A state in which native execution is the same. Selectors of a thread's own (TLS) the stub's has not. */
static bool eligible(const struct soft_vcpu *c)
{
	for (unsigned n = 0; n < STUB_SELECTORS; n++)
		if (!is_null(c->seg[seg_of[n]].sel) && c->seg[seg_of[n]].sel != USER_SS)
			return false;
	return c->mode == MODE_64 && c->seg[SEG_CS].sel == USER_CS &&
	       c->seg[SEG_SS].sel == USER_SS && c->eflags & RF_IF &&
	       !(c->eflags & (RF_TF | RF_NT | RF_IOPL)) && !(c->cr0 & (CR0_TS | CR0_EM)) &&
	       c->cr4 & CR4_OSFXSR && c->cr4 & CR4_OSXMMEXCPT && !(c->cr4 & CR4_OSXSAVE) &&
	       !(c->cr0 & CR0_AM && c->eflags & RF_AC);
}

/* Takes over a far jump to 32-bit code. false: to something else, which no guest's program should be able to do. */
static bool same_segments(struct soft_vcpu *c, const struct stub_regs *r)
{
	struct soft_desc d;

	if (r->cs == USER_CS && r->ss == USER_SS)
		return true;
	if (r->cs != USER_CS32 || r->ss != USER_SS || !soft_desc_peek(c, &d, USER_CS32) ||
		desc_dpl(d.attr) != 3 || !(d.attr & DESC_P))
		return false;
	soft_set_cs(c, USER_CS32, &d, 3);
	return true;
}

/* Linux's page of old that programs call, the host's as well as the guest's. */
#define VSYSCALLS 0xffffffffff600000ull

/* Anything but a missing page: the instruction at c->rip, once it is right, is the interpreter's. */
static enum direct_exit trapped(
	struct soft_vcpu *c, const struct stub_regs *r, const struct stub_exit *x)
{
	switch (x->kind) {
	case STUB_INTERRUPTED: return DIRECT_AGAIN;
	case STUB_SYSCALL:
		if (x->call - VSYSCALLS < 4096) {
			c->rip = x->call;
			c->gpr[CPU_RSP] -= 8;
			return DIRECT_STEP;
		}
		/* SYSCALL and INT 80h have two bytes. */
		c->rip -= 2;
		return DIRECT_ON;
	case STUB_DEBUG:
		if (x->vector == EXC_BP)
			c->rip -= space_byte(c, c->rip - 1) == 0xcc ? 1 : 2;
		if (x->vector != EXC_DB || !(r->rflags & RF_TF))
			break;
		c->eflags |= RF_TF;
		c->dr[6] |= BIT(14);
		soft_deliver_db(c);
		return DIRECT_AGAIN;
	case STUB_EXCEPTION: break;
	}
	return DIRECT_STEP;
}

/* Interrupts are taken behind an instruction that takes long: that one, or the one to come, has a LOCK prefix. */
static bool at_lock(struct soft_vcpu *c)
{
	enum { LOCK = 0xf0 };
	uint8_t before[DEC_MAX_LEN];
	struct dec d;

	if (space_byte(c, c->rip) == LOCK)
		return true;
	for (unsigned n = 1; n < DEC_MAX_LEN; n++) {
		before[DEC_MAX_LEN - n] = space_byte(c, c->rip - n);
		if (before[DEC_MAX_LEN - n] == LOCK &&
			soft_decode(&d, before + DEC_MAX_LEN - n, n, MODE_64) == (int)n)
			return true;
	}
	return false;
}

/*
 * With one vCPU the translator leaves out LOCK in programs (jit/trans.c), which costs some five times an addition: what mostly does that
 * is the translator's.
 */
static void look_for_locks(struct soft_vcpu *c, struct soft_direct *d)
{
	struct habit *h = d->now;

	if (c->vm->nvcpus > 1 || mode == DIRECT_MODE_ALWAYS)
		return;
	h->locked = at_lock(c) ? h->locked + 1 : 0;
	if (h->locked < LOCK_SAMPLES)
		return;
	h->locked = 0;
	h->direct = false;
	h->total = h->average = 0;
	h->backoff = MAX_BACKOFF;
}

/* CPUID, RDTSC or RDTSCP, which mostly come again. */
static bool asks_host(struct soft_vcpu *c)
{
	uint8_t op = space_byte(c, c->rip) == 0x0f ? space_byte(c, c->rip + 1) : 0;

	return op == 0xa2 || op == 0x31 || op == 0x01;
}

static void leave_to_others(struct soft_direct *d, uint64_t page)
{
	d->foreign = page & ~0xfffull;
	d->foreign_left = FOREIGN_BLOCKS;
}

static unsigned access_of(uint64_t err)
{
	return (err & 2 ? ACC_W : 0) | (err & 16 ? ACC_X : 0);
}

/*
 * x->ticks is 0 when nothing ran: there was an event, or the stub did not get as far, and the registers are as they were. false: the
 * stub broke with the program in it, and its registers are lost.
 */
static bool run_stub(struct soft_vcpu *c, struct soft_direct *d, struct hosted *h,
	struct stub_regs *r, struct stub_exit *x)
{
	int e;

	d->current = h;
	x->ticks = 0;
	/* Tens of thousands of mappings take as many microseconds: interrupts do not wait for all of them. */
	do
		e = stub_apply_part(h->stub);
	while (e > 0 && !atomic_load(&c->events));
	if (e >= 0) {
		atomic_store(&d->s.running, true);
		/* Pairs with soft_post(), which sets the event first. */
		if (!atomic_load(&c->events))
			e = stub_run(h->stub, r, x);
		atomic_store(&d->s.running, false);
	}
	if (e < 0) {
		log_warn(NULL, "vCPU %u: a process for user code ended: %s", c->index,
			strerror(-stub_error(h->stub)));
		h->broken = true;
	}
	if (x->ticks)
		return e >= 0;
	x->kind = STUB_INTERRUPTED;
	r->cs = USER_CS;
	r->ss = USER_SS;
	return true;
}

enum direct_exit soft_direct_run(struct soft_vcpu *c)
{
	struct soft_direct *d = direct_of(c);
	enum direct_exit ret = DIRECT_AGAIN;
	struct stub_exit x = {0};
	unsigned runs = 0;
	struct stub_regs r;
	struct hosted *h;
	uint64_t native = 0, fault = d->fault;

	d->fault = 0;
	if (!eligible(c))
		return DIRECT_ON;
	if ((c->rip & ~0xfffull) == d->foreign)
		return d->foreign_left && d->foreign_left-- ? DIRECT_BLOCK : DIRECT_ON;
	d->foreign = 1;
	h = get_hosted(d, c);
	if (!h) {
		d->s.wanted = d->now->direct = false;
		d->now->total = 0;
		return DIRECT_ON;
	}
	/* What the guest's kernel has just made present. */
	if (fault && d->fault_cr3 == c->cr3)
		space_fault(h->space, c, fault, d->fault_acc);
	soft_simd_leave(c);
	load_regs(c, h->stub, &r);
	for (;;) {
		enum space_result got;

		if (!run_stub(c, d, h, &r, &x)) {
			/*
			 * A program that spoiled its signal stack, or a host without memory. What it did since it was last seen can be
			 * neither undone nor gone on with: an exception that it cannot expect.
			 */
			soft_simd_enter(c);
			return general_protection(c);
		}
		if (x.ticks) {
			native += without_trip(d, x.ticks);
			runs++;
		}
		/* A stub goes on in 64-bit code only. */
		if (x.kind != STUB_EXCEPTION || x.vector != EXC_PF || r.cs != USER_CS)
			break;
		d->fault = x.cr2;
		d->fault_cr3 = c->cr3;
		d->fault_acc = access_of(x.err);
		got = space_fault(h->space, c, x.cr2, d->fault_acc);
		if (got == SPACE_MAPPED)
			continue;
		ret = DIRECT_STEP;
		if (got == SPACE_FOREIGN && d->fault_acc & ACC_X) {
			leave_to_others(d, x.cr2);
			ret = DIRECT_BLOCK;
		}
		break;
	}
	store_regs(c, h->stub, &r);
	soft_simd_enter(c);
	if (!same_segments(c, &r))
		return general_protection(c);
	if (ret == DIRECT_AGAIN)
		ret = trapped(c, &r, &x);
	if (ret == DIRECT_STEP && x.kind == STUB_EXCEPTION && asks_host(c)) {
		leave_to_others(d, c->rip);
		ret = DIRECT_BLOCK;
	}
	/* It began to single-step itself, with this instruction. */
	if (x.ticks && x.kind != STUB_DEBUG && r.rflags & RF_TF) {
		c->eflags |= RF_TF;
		ret = DIRECT_AGAIN;
	}
	ran_directly(d, d->now, native, runs);
	if (x.kind == STUB_INTERRUPTED && x.ticks)
		look_for_locks(c, d);
	d->s.wanted = d->now->direct;
	return ret;
}

void soft_direct_interrupt(struct soft_vcpu *c)
{
	struct soft_direct *d = direct_of(c);

	if (atomic_load(&d->s.running))
		stub_interrupt(d->current->stub);
}
