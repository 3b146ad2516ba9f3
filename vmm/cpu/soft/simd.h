/* SPDX-License-Identifier: MIT */
/*
 * SSE, MMX, x87 and their state: what the binder and the run loop expect. Opcodes in this module:
 * D8-DF, 9B (FWAIT); 0F 10-17, 28-2F, 50-7F, C2, C4-C6, D0-FE; 0F 77; 0F AE as FXSAVE, FXRSTOR,
 * LDMXCSR, STMXCSR, XSAVE, XRSTOR, XSAVEOPT; 0F C7 XSAVEC; 0F 01 D0/D1 (XGETBV, XSETBV); all of 0F
 * 38 and 0F 3A but CRC32, MOVBE and ADX.
 */
#ifndef WSLX_SOFT_SIMD_H
#define WSLX_SOFT_SIMD_H

#include "vmm/cpu/soft/cpu.h"

/*
 * Sets i->fn and what else the handler needs. The binder has filled in off, len, size, r, rm (byte
 * offsets of GPRs!), base, index, scale, disp, ea, flags and raw. false: no such instruction, the
 * binder makes it raise #UD.
 */
bool soft_simd_bind(struct insn *i, const struct dec *d);

/* Life: called by vcpu_new (after the state is zeroed) and vcpu_free. 0 or negative errno. */
int soft_simd_new(struct soft_vcpu *c);
void soft_simd_free(struct soft_vcpu *c);
/* FNINIT + MXCSR = 0x1f80 + all registers zero; XCR0 = 1. */
void soft_simd_reset(struct soft_vcpu *c);

/*
 * Brackets a stretch of guest execution on the vCPU's thread. Between them the module may keep
 * guest state in host registers that C code does not use (x87 control word, MXCSR are C's: restore
 * them in leave). leave() makes c->xsave complete. Called around run(), around every call to struct
 * cpu_io, and before sleeping.
 */
void soft_simd_enter(struct soft_vcpu *c);
void soft_simd_leave(struct soft_vcpu *c);

/*
 * The size of the memory operand of an instruction of the kind "xmm = op(xmm, xmm/memory)" (16: aligned), by opcode map and
 * mandatory prefix (0, 66, F3, F2); 0 when it is none.
 */
unsigned soft_simd_operand(unsigned map, unsigned pfx, unsigned op);

#endif
