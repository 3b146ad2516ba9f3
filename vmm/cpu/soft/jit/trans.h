/* SPDX-License-Identifier: MIT */
/*
 * The translator's working state and what its files offer each other. A run is what is translated as one piece: the
 * instructions of one block from some index on, up to the first that has to be left to the interpreter. docs/softcpu.md
 * has the whole picture.
 */
#ifndef WSLX_SOFT_JIT_TRANS_H
#define WSLX_SOFT_JIT_TRANS_H

#include "vmm/cpu/soft/jit/cache.h"
#include "vmm/cpu/soft/jit/emit.h"
#include "vmm/cpu/soft/jit/jit.h"

/*
 * Host registers in translated code. Guest registers have the host's of the same name, but RSP is in r11, and R11, R13, R14
 * and R15 stay in struct soft_vcpu.
 */
enum { S1 = 13, S0 = 14, R_CPU = 15, R_GUEST_RSP = 11 };
/* R_CPU points into the struct, so that what is used most has an 8-bit displacement. */
enum { CPU_BIAS = 128 };
#define CPU_AT(off) AT(R_CPU, (int32_t)(off)-CPU_BIAS)
#define CPU(field)  CPU_AT(offsetof(struct soft_vcpu, field))

enum { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP, ALU_TEST };
enum { CC_B = 2, CC_AE = 3, CC_E = 4, CC_NE = 5, CC_BE = 6, CC_A = 7 };

/*
 * Where the guest's arithmetic flags are. One of the three at least holds: in the host's flags; saved, that is in c->fl or
 * described by c->lazy_op and c->lazy; or known as the result of an operation whose operands still exist (kind).
 */
enum flag_kind {
	FK_NONE,
	FK_CMP,	  /* a - b */
	FK_TEST,  /* a & b */
	FK_LOGIC, /* a is the result of AND, OR, XOR */
	FK_ADD,	  /* a is the sum of something and b */
	FK_SUB,	  /* a is the difference of something and b */
	FK_NEG,	  /* a is the result */
	FK_SHL,	  /* a << b; b is neither 0 nor in a register */
	FK_SHR,
	FK_SAR,
	FK_IMUL, /* a * b, signed */
	FK_COUNT,
};
struct flag_val {
	enum {
		FV_NONE,
		FV_SLOT,
		FV_LAZY,
		FV_IMM
	} where; /* a guest register; in c->lazy[] already */
	uint8_t slot;
	int32_t imm;
};
struct flags {
	bool host, saved;
	bool in_fl; /* saved: and certainly in c->fl */
	uint8_t kind, size;
	struct flag_val v[2]; /* a, b */
};

/* c->lazy_op for a kind and a size of 1, 2, 4, 8. */
static inline unsigned lazy_code(unsigned kind, unsigned size)
{
	return 1 + (kind - 1) * 4 + (size == 8 ? 3 : size >> 1);
}
enum { LAZY_CODES = 1 + (FK_COUNT - 1) * 4, LAZY_SLOT = 32 };

enum exit_kind {
	X_HANDLER, /* the interpreter executes i */
	X_INSN,	   /* goes on with i, whoever executes it now */
	X_LINK, /* direct jump i, its target not known to be translated; site: the jump to be patched */
	X_LINK_OUT, /* the same into another page; site: see edge_out() */
	X_EVENTS,   /* behind the jump i: events wait */
	X_LOOKUP,   /* S0: for another page than the last access; comes back */
	X_SSE,	    /* makes the XMM registers live, comes back; or X_HANDLER */
};

/* An access to memory. */
struct access {
	unsigned size;
	bool write, aligned;
};

struct trans_exit {
	enum exit_kind kind;
	uint8_t *at, *site, *back;
	const struct insn *i;
	struct flags fl;
	struct access access;
	struct maddr m;
};

enum { MAX_EXITS = 512, MAX_HEADS = 80, MAX_AGAIN = 8 };

struct trans {
	struct soft_vcpu *c;
	struct soft_jit *j;
	struct emit e;
	const struct block *k;
	const struct insn *first; /* of the run */
	unsigned idx;		  /* of the instruction being translated */
	const struct jit_op *op;  /* the same one's */
	struct flags fl;
	bool cpl3;
	bool locks;	 /* LOCK is needed: others see this memory */
	bool sse;	 /* the XMM registers are live */
	struct maddr at; /* the memory operand, on the host */
	struct near { /* S0 holds the TLB's addend for the page of base + disp, where such an access was done */
		bool valid;
		struct access access;
		uint8_t base;
		int32_t disp;
	} near;
	bool fail;
	uint8_t *body;		 /* of the block, when the run begins with it */
	struct trans_again {	 /* the block once more, for its jumps back to its own beginning */
		struct flags fl; /* what they come with; */
		bool sse;
		uint8_t *code; /* NULL: not yet */
		uint8_t *jump[MAX_AGAIN];
		unsigned njumps;
	} again;
	struct trans_exit exit[MAX_EXITS];
	unsigned nexits;
	struct trans_head { /* where runs are still to be made */
		const struct block *k;
		unsigned idx;
	} head[MAX_HEADS];
	unsigned nheads;
};

/* The memory operand, once t_operand() or its kin have seen to it. */
#define HERE (t->at)

/* A register operand of one byte that is not AH to BH. */
static inline bool t_low_byte(unsigned slot)
{
	return (slot & 7) == 0;
}

/* Register operands are whole registers or low bytes. */
static inline bool t_regs_ok(const struct insn *i)
{
	return t_low_byte(i->r) && (i->flags & INSN_MEM || t_low_byte(i->rm));
}

static inline void t_lock(struct trans *t)
{
	if (t->locks)
		e_u8(&t->e, 0xf0);
}

static inline void t_patch(struct trans *t, uint8_t *at, const uint8_t *target)
{
	if (!t->e.full)
		e_patch(at, target);
}

/* --- trans.c */

/* The jump whose displacement is at at leaves for the interpreter's handler of i (or does what kind says). */
struct trans_exit *t_exit(struct trans *t, enum exit_kind kind, uint8_t *at, const struct insn *i);

/* The host register of a guest register, or NO_REG. slot: as in struct insn. */
unsigned t_host(unsigned slot);
/* The same as an operand: a register or its place in memory. */
struct opnd t_opnd(unsigned slot);
/* A host register that holds the guest register: its own, or scratch. */
unsigned t_get(struct trans *t, unsigned slot, unsigned scratch);
/* The guest register is about to change: its host register, or scratch, which t_done() stores. */
unsigned t_put(struct trans *t, unsigned slot, unsigned scratch);
void t_done(struct trans *t, unsigned slot, unsigned reg);
/* The guest register changes, S0 does: t->near may not be true any more. */
void t_changes(struct trans *t, unsigned slot);
static inline void t_uses_s0(struct trans *t)
{
	t->near.valid = false;
}

/* --- flags.c */

/* The host's flags are about to be destroyed. */
void fl_clobber(struct trans *t);
/* The guest's flags are about to be overwritten, and nothing can leave before that. */
void fl_discard(struct trans *t);
/* The guest register is about to change. */
void fl_writes(struct trans *t, unsigned slot);
/* They are the host's flags now; the operands of kind as given. */
void fl_set(struct trans *t, unsigned kind, unsigned size, struct flag_val a, struct flag_val b);
#define fl_set_host(t) fl_set(t, FK_NONE, 0, (struct flag_val){0}, (struct flag_val){0})
/* Makes the host's flags the guest's, with one scratch register; fl_prepare() must have been called before anything that
 * needs S0 and S1. */
void fl_prepare(struct trans *t);
void fl_load(struct trans *t, unsigned scratch);
/* Saves them where another run, or the way to the interpreter, finds them. Keeps the host's. */
void fl_save(struct trans *t);
bool fl_same(const struct flags *a, const struct flags *b);
/* Flags that a run starts with. */
struct flags fl_unknown(void);
/* True if the flags behind the instruction are overwritten before anything can look at them. */
bool fl_dead_after(const struct trans *t);
/* The same for those that block k is entered with. */
bool fl_dead_at_entry(const struct block *k);
/* Before a multiplication: what AMD's processors keep of the flags is what the interpreter has there (alu.c). */
void e_old_flags(struct emit *e);

static inline struct flag_val fv_slot(unsigned slot)
{
	return (struct flag_val){.where = FV_SLOT, .slot = (uint8_t)slot};
}
static inline struct flag_val fv_imm(int64_t v)
{
	return (struct flag_val){.where = FV_IMM, .imm = (int32_t)v};
}
#define FV_IN_LAZY ((struct flag_val){.where = FV_LAZY})

/* --- insn.c: emits instructions that do not transfer control, from t->idx on: how many; 0 (or t->fail): it cannot. */
unsigned t_insn(struct trans *t, const struct insn *i);
/* 1: it overwrites all arithmetic flags, 0: it neither looks at them nor can leave; else -1. */
int t_flags_effect(const struct insn *i, const struct jit_op *op);

/* Byte operations with AH to BH and one of the first four registers or an immediate. op: as in the opcodes 80-83, or: */
enum { T_LEGACY_MOV = 17 };
bool t_high_bytes(struct trans *t, const struct insn *i, unsigned op, bool imm);

/* --- move.c: moves, exchanges, the stack, single flags */

/* Of the opcodes with one byte, and of 0F's. */
bool t_move(struct trans *t, const struct insn *i);
bool t_move_0f(struct trans *t, const struct insn *i);
/* PUSHes or POPs of registers, from here on: how many. */
unsigned t_stack_regs(struct trans *t, const struct insn *i);

/* --- mem.c */

/* The EA without the segment's base; changes S0 and S1 only, no flags. */
struct maddr t_offset(struct trans *t, const struct insn *i);
/* Where c->tlbs[privilege].x is. */
int32_t t_fetch_tlb(bool cpl3);
/* to: the 32-bit register from's bits 12 and up, masked, times the size of a TLB entry. */
void t_tlb_index(
	const struct soft_jit *j, struct emit *e, unsigned to, unsigned from, uint32_t mask);
/* S0: the TLB's addend for base + disp. A miss is X_HANDLER; or its jump is stored in miss. */
void t_addend(
	struct trans *t, const struct insn *i, struct access a, struct maddr m, uint8_t **miss);
/* Makes t->at the host's address of i's memory operand, using S0 and perhaps the guest's base register. Destroys S1 and
 * the host's flags. */
void t_operand(struct trans *t, const struct insn *i, unsigned size, bool write);
/* The same, of 16 bytes, for an instruction that raises #GP unless it is aligned. */
void t_operand_aligned(struct trans *t, const struct insn *i, bool write);
/* The same for [base + disp], base being a guest register's host register. The flags have been seen to. */
void t_base(struct trans *t, const struct insn *i, struct access a, struct maddr m);
/* The same for [RSP + off]. */
void t_stack(struct trans *t, const struct insn *i, int32_t off, unsigned size, bool write);
void t_move_rsp(struct trans *t, int32_t by);

/* --- sse.c */
bool t_sse(struct trans *t, const struct insn *i);

#endif
