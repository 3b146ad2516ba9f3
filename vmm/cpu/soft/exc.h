/* SPDX-License-Identifier: MIT */
/* Exceptions, interrupts and segments: SDM vol. 3 ch. 3, 5, 6. */
#ifndef WSLX_SOFT_EXC_H
#define WSLX_SOFT_EXC_H

#include "vmm/cpu/soft/cpu.h"

bool soft_exc_has_error(unsigned vec);

/* Abandons the current instruction, INT n, INT3 or INTO, which is complete: the return address is
 * behind it. */
NORETURN void soft_raise_int(struct soft_vcpu *c, unsigned vec);

/* Delivers c->exc at c->rip; nested faults make #DF; false: triple fault. */
bool soft_deliver_exc(struct soft_vcpu *c);
/* An external interrupt or NMI at c->rip. */
void soft_deliver_ext(struct soft_vcpu *c, unsigned vec);
/* A trap-class #DB at c->rip (DR6 is set). */
void soft_deliver_db(struct soft_vcpu *c);

/* CS, CPL, EFER.LMA or CR0.PE changed: recomputes c->mode, c->tlb and the segment bases in use. */
void soft_mode_changed(struct soft_vcpu *c);

/* A descriptor taken apart. */
struct soft_desc {
	uint64_t base;
	uint32_t limit; /* expanded */
	uint16_t attr;	/* as in struct cpu_seg */
	uint64_t raw;
	uint64_t lin; /* where it is */
};
enum {
	DESC_TYPE = 0x0f,
	DESC_S = 0x10,
	DESC_DPL = 0x60,
	DESC_P = 0x80,
	DESC_L = 0x2000,
	DESC_DB = 0x4000,
	DESC_CODE = 0x08,
	DESC_CONF = 0x04,
	DESC_RW = 0x02,
	DESC_A = 0x01,
};
#define desc_dpl(attr) ((attr) >> 5 & 3)

/* Reads the descriptor of sel; raises vec (sel) when it is outside its table. */
void soft_desc_read(struct soft_vcpu *c, struct soft_desc *d, uint16_t sel, unsigned vec);
/* The same without raising: false when there is none. */
bool soft_desc_peek(struct soft_vcpu *c, struct soft_desc *d, uint16_t sel);
/* The upper half of a system descriptor in IA-32e mode. */
void soft_desc_read_high(struct soft_vcpu *c, struct soft_desc *d, uint16_t sel, unsigned vec);
void soft_desc_set_accessed(struct soft_vcpu *c, struct soft_desc *d);

/* MOV Sreg, POP Sreg, LxS. Not for CS. */
void soft_load_seg(struct soft_vcpu *c, unsigned seg, uint16_t sel);
/* Fills the cache of a segment register. */
void soft_set_seg(struct soft_vcpu *c, unsigned seg, uint16_t sel, const struct soft_desc *d);
/* CS of a far transfer that was checked. */
void soft_set_cs(struct soft_vcpu *c, uint16_t sel, const struct soft_desc *d, unsigned cpl);
/* Nulls DS, ES, FS, GS that the outer level must not keep. */
void soft_return_outer(struct soft_vcpu *c);

static inline bool soft_long_mode(const struct soft_vcpu *c)
{
	return c->efer & EFER_LMA;
}

#endif
