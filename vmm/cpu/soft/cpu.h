/* SPDX-License-Identifier: MIT */
/*
 * The state of one software CPU, and how the parts of this folder work together.
 *
 * Theory of operation. One host thread runs one vCPU (exec.c): it finds the decoded block at the
 * current address (block.c; decode.c and bind.c make it), runs its handlers one after another, and
 * looks at c->events where control is transferred. A handler that cannot complete calls
 * soft_raise(), which jumps back to the run loop; nothing of the instruction's effect may be
 * visible then. So: read memory first, write memory last, commit registers after the last access
 * that may fault.
 *
 * Before anything that can raise, a handler stores c->cur = i: that is how the fault's RIP is
 * known. soft_ea() does it.
 *
 * Arithmetic flags live in c->fl in the form of the host's LAHF and SETO (see FL_*); the others in
 * c->eflags. The vCPU's thread owns everything here but the fields marked "any thread".
 */
#ifndef WSLX_SOFT_CPU_H
#define WSLX_SOFT_CPU_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/base/attr.h"
#include "lib/os/thread.h"
#include "vmm/core/cpu.h"
#include "vmm/cpu/soft/decode.h"
#include "vmm/cpu/soft/insn.h"

struct soft_lapic;
struct soft_clock;
struct soft_cpuid;
struct soft_blocks;
struct soft_jit;
struct soft_direct_state;
struct soft_direct_pool;

/* c->fl: AH of LAHF in the high byte, OF (SETO AL) in bit 0. */
enum {
	FL_OF = 0x0001,
	FL_CF = 0x0100,
	FL_PF = 0x0400,
	FL_AF = 0x1000,
	FL_ZF = 0x4000,
	FL_SF = 0x8000
};
#define FL_ALL (FL_OF | FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF)

/* RFLAGS bits. */
enum {
	RF_CF = 1 << 0,
	RF_1 = 1 << 1,
	RF_PF = 1 << 2,
	RF_AF = 1 << 4,
	RF_ZF = 1 << 6,
	RF_SF = 1 << 7,
	RF_TF = 1 << 8,
	RF_IF = 1 << 9,
	RF_DF = 1 << 10,
	RF_OF = 1 << 11,
	RF_IOPL = 3 << 12,
	RF_NT = 1 << 14,
	RF_RF = 1 << 16,
	RF_VM = 1 << 17,
	RF_AC = 1 << 18,
	RF_VIF = 1 << 19,
	RF_VIP = 1 << 20,
	RF_ID = 1 << 21,
};
#define RF_ARITH (RF_CF | RF_PF | RF_AF | RF_ZF | RF_SF | RF_OF)

#define CR0_PE	       BIT(0)
#define CR0_MP	       BIT(1)
#define CR0_EM	       BIT(2)
#define CR0_TS	       BIT(3)
#define CR0_ET	       BIT(4)
#define CR0_NE	       BIT(5)
#define CR0_WP	       BIT(16)
#define CR0_AM	       BIT(18)
#define CR0_NW	       BIT(29)
#define CR0_CD	       BIT(30)
#define CR0_PG	       BIT(31)
#define CR4_VME	       BIT(0)
#define CR4_PVI	       BIT(1)
#define CR4_TSD	       BIT(2)
#define CR4_DE	       BIT(3)
#define CR4_PSE	       BIT(4)
#define CR4_PAE	       BIT(5)
#define CR4_MCE	       BIT(6)
#define CR4_PGE	       BIT(7)
#define CR4_PCE	       BIT(8)
#define CR4_OSFXSR     BIT(9)
#define CR4_OSXMMEXCPT BIT(10)
#define CR4_UMIP       BIT(11)
#define CR4_FSGSBASE   BIT(16)
#define CR4_PCIDE      BIT(17)
#define CR4_OSXSAVE    BIT(18)
#define CR4_SMEP       BIT(20)
#define CR4_SMAP       BIT(21)
#define EFER_SCE       BIT(0)
#define EFER_LME       BIT(8)
#define EFER_LMA       BIT(10)
#define EFER_NX	       BIT(11)

/* Exception vectors. */
enum {
	EXC_DE = 0,
	EXC_DB = 1,
	EXC_NMI = 2,
	EXC_BP = 3,
	EXC_OF = 4,
	EXC_BR = 5,
	EXC_UD = 6,
	EXC_NM = 7,
	EXC_DF = 8,
	EXC_TS = 10,
	EXC_NP = 11,
	EXC_SS = 12,
	EXC_GP = 13,
	EXC_PF = 14,
	EXC_MF = 16,
	EXC_AC = 17,
	EXC_MC = 18,
	EXC_XM = 19,
};

/* c->events: what to look at between blocks. Set by soft_post() (any thread), cleared by the vCPU's
 * thread. */
enum {
	EV_KICK = 1 << 0, /* leave run() */
	EV_INTR = 1 << 1, /* the local APIC may have something deliverable: ask soft_lapic_pending()
			     when IF = 1 */
	EV_NMI = 1 << 2,
	EV_INIT = 1 << 3,
	EV_SIPI = 1 << 4,  /* c->sipi_vector */
	EV_CODE = 1 << 5,  /* code pages were written or newly marked elsewhere: block.c's request
			      list */
	EV_FLUSH = 1 << 6, /* flush the whole TLB (dirty tracking) */
	EV_LOCAL =
		1 << 7, /* the vCPU's own: TF, interrupt shadow or such changed; just look around */
};

/*
 * One TLB entry covers a 4 KiB page; r, w and tag are the linear page address, or that of a page that belongs in another
 * slot (TLB_NONE(slot)), and not in the next one either: whoever looks there for the page of an access's first or last byte
 * differs from it in a page bit.
 */
#define TLB_NONE(slot) ((uint64_t)((unsigned)(slot) ^ 0x100) << 12)
struct tlbe {
	uint64_t r, w;	 /* w only when writable, dirty and without translated code */
	uint64_t addend; /* hva of a byte = linear + addend */
	uint64_t hva;	 /* of the page */
};
struct tlbx { /* instruction fetch */
	uint64_t tag;
	uint64_t gpa; /* page */
	const uint8_t *hva;
	bool global;
};
enum { TLB_GLOBAL = 1 };
enum { TLB_SIZE = 4096, TLBX_SIZE = 2048, TLB_PARTS = 64 };

struct soft_tlb {
	struct tlbe d[TLB_SIZE];
	struct tlbx x[TLBX_SIZE];
	uint64_t gpa[TLB_SIZE]; /* of d[]: page, | TLB_GLOBAL */
	/* A bit for each of the TLB_PARTS: a flush takes as long as what was used. */
	uint64_t d_used, x_used;
};

struct soft_seg {
	uint32_t limit; /* expanded, in bytes */
	uint16_t sel;
	uint16_t attr; /* as in struct cpu_seg; P = 0: unusable */
};

enum { /* 64-bit slots addressable by struct insn's byte offsets; they come first in struct
	  soft_vcpu */
	SLOT_ZERO = 16 * 8, /* always 0 */
	SLOT_IP = 17 * 8,   /* c->ip_base */
	SLOT_SEGBASE = 18 * 8,
	SLOT_RSP = 4 * 8,
};

enum { JIT_TARGETS = 1 << 15 };

struct soft_vcpu {
	/* Slots: keep in this order. */
	uint64_t gpr[16];
	uint64_t zero;
	uint64_t ip_base; /* EIP/RIP of the first byte of the page that the current block lies in */
	uint64_t segbase[SEG_COUNT]; /* always 0 for ES, CS, SS, DS in 64-bit mode: see
					segbase_hidden */

	uint16_t fl; /* arithmetic flags */
	uint8_t cpl;
	uint8_t mode;	 /* enum soft_mode */
	uint32_t eflags; /* everything but RF_ARITH; bit 1 set */
	const struct insn *cur;
	struct soft_tlb *tlb;	 /* tlbs[cpl == 3] */
	_Atomic uint32_t events; /* any thread */
	bool shadow;		 /* STI, MOV SS: interrupts held off for one instruction */
	bool intr_wait;	 /* an interrupt came while IF = 0: post EV_INTR when it becomes 1 */
	bool exc_raised; /* c->exc is to be delivered */

	/* Translated code's own; 0 outside it. jit/trans.h. */
	uint8_t lazy_op;  /* what the flags are the result of; 0: c->fl */
	uint64_t lazy[2]; /* its operands */
	uint64_t jit_tmp; /* a value on its way within one instruction */
	bool sse_live;	  /* XMM registers are in the host's */
	const uint8_t *
		jit_insns; /* what translated code's short references to instructions are relative to */

	uint64_t rip; /* valid outside blocks only; use soft_rip() for the current instruction's */
	uint64_t cr0, cr2, cr3, cr4, efer, xcr0;
	uint64_t dr[8];
	struct soft_seg seg[SEG_COUNT];
	uint64_t segbase_hidden[SEG_COUNT]; /* the descriptor's base, whatever the mode */
	struct {
		uint64_t base;
		uint16_t limit;
	} gdtr, idtr;

	/* MSRs that instructions use; the rest is in the msr module. */
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t tsc_aux;
	_Atomic uint64_t
		tsc_offset; /* guest TSC = host TSC + this; another vCPU may set it: see soft_clock_look() */

	/* Fault being delivered (soft_raise() fills this in). */
	struct {
		uint8_t vec;
		bool has_err;
		bool soft; /* INT n, INT3, INTO: a trap, and the gate's DPL is checked */
		uint32_t err;
	} exc;
	bool exc_pending; /* as in struct cpu_state */
	bool split;	  /* holds vm->split_lock */
	bool in_delivery; /* an exception or interrupt is being delivered: faults now are nested
			     ones */
	uint8_t deliv_vec, deliv_cpl;
	bool deliv_ext;	 /* an interrupt or INT n: benign */
	uint8_t exc_len; /* exc.soft: length of the instruction */
	bool nmi_masked;
	enum cpu_run_state run_state;
	uint8_t sipi_vector; /* any thread, before EV_SIPI is posted */
	void *jmp[5];	     /* __builtin_setjmp of the run loop */

	unsigned index; /* = APIC id */
	struct soft_vm *vm;
	struct soft_blocks *blocks;
	struct soft_jit *jit;		  /* NULL: no translation */
	struct soft_direct_state *direct; /* NULL: no direct execution */
	struct soft_lapic *lapic;
	struct soft_msrs *msrs; /* owned by the msr module; NULL when it needs none */
	void *simd;		/* owned by the simd module; may stay NULL */

	struct os_event wake; /* a halted vCPU sleeps on it; soft_post() sets it. Any thread */
	_Atomic bool asleep;  /* any thread */

	uint8_t xsave[4096] ALIGNED(64); /* standard XSAVE image: the guest's FP state, except while
					    simd keeps it live */
	struct soft_tlb tlbs[2];	 /* supervisor, user */
	const struct block *jump_cache[1 << 14]; /* see block.h */
	struct jit_target {
		uint64_t key; /* as a block's */
		const void *code;
	} jit_targets[2][JIT_TARGETS]; /* by privilege, as tlbs[]: where translated code jumps to */
	uint32_t pauses;
	bool tlb_large;
	uint64_t tlb_large_mask, tlb_large_base; /* where 2M/1G pages were seen, see mmu.c */
};
static_assert(offsetof(struct soft_vcpu, ip_base) == SLOT_IP &&
		      offsetof(struct soft_vcpu, segbase) == SLOT_SEGBASE &&
		      offsetof(struct soft_vcpu, jit_tmp) <= 256,
	"slots are addressed by one byte, and so is what translated code uses");

struct soft_vm {
	struct gmem *gm;
	const struct cpu_io *io;
	unsigned nvcpus;
	struct soft_vcpu
		*vcpu[CPU_MAX_VCPUS];	      /* set under lock by vcpu_new, before the vCPUs run */
	struct soft_direct_pool *direct_pool; /* for vCPUs to come */
	struct soft_clock *clock;	      /* kvmclock and the TSC: the msr module's */
	/* RAM, as gmem has it (at most two regions): below the 32-bit hole and above 4 GiB. */
	uint8_t *lo_hva, *hi_hva;
	uint64_t lo_size, hi_size;
	const struct gmem_region *windows;
	size_t nwindows;
	/* Threads between clearing a page's mark of code and having told the vCPUs: meanwhile no mark means nothing. */
	_Atomic unsigned code_posting;
	struct os_mutex lock;
	struct os_mutex split_lock; /* locked accesses that cross a page or miss RAM */
};

/* --- raising
 * -------------------------------------------------------------------------------------------------
 */

/* Abandons the current instruction (c->cur) with this exception. The error code is used where the
 * vector has one. */
NORETURN void soft_raise(struct soft_vcpu *c, unsigned vec, uint32_t err);
#define raise_ud(c) soft_raise(c, EXC_UD, 0)
#define raise_gp(c) soft_raise(c, EXC_GP, 0)
#define raise_nm(c) soft_raise(c, EXC_NM, 0)

/* RIP of the instruction c->cur, and of the one behind it. */
static inline uint64_t soft_rip(const struct soft_vcpu *c)
{
	uint64_t ip = c->ip_base + c->cur->off;

	return c->mode == MODE_64 ? ip : (uint32_t)ip;
}

/* --- flags
 * ---------------------------------------------------------------------------------------------------
 */
uint64_t soft_rflags_get(const struct soft_vcpu *c);
/* Sets all of RFLAGS (bits that do not exist are dropped); posts EV_LOCAL when TF or IF need a
 * look. */
void soft_rflags_set(struct soft_vcpu *c, uint64_t v);

static inline unsigned fl_to_rflags(uint16_t fl)
{
	return (fl >> 8 & 0xd5) | (fl & 1) << 11;
}
static inline uint16_t fl_from_rflags(uint64_t rf)
{
	return (uint16_t)((rf & 0xd5) << 8 | (rf >> 11 & 1));
}

/* --- events
 * --------------------------------------------------------------------------------------------------
 */

/* Sets bits in c->events and wakes the vCPU when it sleeps. Any thread. */
void soft_post(struct soft_vcpu *c, uint32_t bits);

/* --- registers
 * -----------------------------------------------------------------------------------------------
 */
#define SLOT8(c, o)  (*(uint8_t *)((char *)(c) + (o)))
#define SLOT16(c, o) (*(uint16_t *)((char *)(c) + (o)))
#define SLOT32(c, o) (*(uint32_t *)((char *)(c) + (o)))
#define SLOT64(c, o) (*(uint64_t *)((char *)(c) + (o)))

/* --- modes (exc.c / seg.c / sys.c)
 * --------------------------------------------------------------------------- */

/* WRMSR EFER: false means #GP. Flushes what depends on it. */
bool soft_set_efer(struct soft_vcpu *c, uint64_t v);
/* FS.base, GS.base: WRMSR and WRxSBASE; canonical already checked. */
void soft_set_segbase(struct soft_vcpu *c, unsigned seg, uint64_t base);
/* INIT (SDM vol. 3 table 9-1) or power-up. */
void soft_reset(struct soft_vcpu *c, bool init);

static inline bool soft_canonical(uint64_t a)
{
	return (uint64_t)((int64_t)(a << 16) >> 16) == a;
}

static inline uint64_t soft_host_tsc(void)
{
	return __builtin_ia32_rdtsc();
}
static inline uint64_t soft_tsc(const struct soft_vcpu *c)
{
	return soft_host_tsc() + c->tsc_offset;
}

#endif
