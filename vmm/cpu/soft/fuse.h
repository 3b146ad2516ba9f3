/* SPDX-License-Identifier: MIT */
/* Pairs of instructions that one handler executes: CMP or TEST with a conditional jump inside the page. */
#ifndef WSLX_SOFT_FUSE_H
#define WSLX_SOFT_FUSE_H

#include "vmm/cpu/soft/insn.h"

enum { FUSE_RR, FUSE_RI, FUSE_RM, FUSE_MR, FUSE_MI, FUSE_FORMS };

/* Notes in i->aux what i is (op: ALU_CMP or ALU_TEST), for soft_fuse(). */
static inline void soft_fuse_mark(struct insn *i, unsigned op, unsigned form)
{
	i->aux = (uint8_t)(1 + ((op - 7) * FUSE_FORMS + form));
}

/* Gives i the handler for i[0] and i[1] when there is one. i[1] stays as it is. */
void soft_fuse(struct insn *i);

#endif
