/* SPDX-License-Identifier: MIT */
/* Arithmetic with the host's flags, and its handlers. Internal to the semantics files. */
#ifndef WSLX_SOFT_ALU_H
#define WSLX_SOFT_ALU_H

#include "vmm/cpu/soft/handler.h"

#define CF_IN	 "btw $8, %[fl]; "
#define NO_CF_IN ""

/* dst OP= src in host registers; f gets the flags. */
#define OP2(bits, op, cfin, dst, src, f)                                                           \
	__asm__(cfin op SFX(bits) " %[s], %[d]" ASM_SAVE_FL                                        \
		: [d] "+q"(dst), "=a"(f)                                                           \
		: [s] "q"(src), [fl] "m"(c->fl)                                                    \
		: "cc")
/* The same on memory, with or without LOCK. */
#define OP2M(bits, lock, op, cfin, p, src, f)                                                      \
	__asm__ volatile(cfin lock op SFX(bits) " %[s], %[d]" ASM_SAVE_FL                          \
			 : [d] "+m"(*(p)), "=a"(f)                                                 \
			 : [s] "q"(src), [fl] "m"(c->fl)                                           \
			 : "cc", "memory")

/* Handlers by operation (ADD OR ADC SBB AND SUB XOR CMP TEST) and size. */
enum { ALU_CMP = 7, ALU_TEST = 8 };
extern const insn_fn soft_alu_rr[9][4], soft_alu_ri[9][4];
extern const struct mem_fns soft_alu_rm[9][4], soft_alu_mr[9][4], soft_alu_mi[9][4];

#endif
