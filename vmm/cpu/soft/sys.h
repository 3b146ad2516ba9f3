/* SPDX-License-Identifier: MIT */
/* What system instructions share with the rest. */
#ifndef WSLX_SOFT_SYS_H
#define WSLX_SOFT_SYS_H

#include "vmm/cpu/soft/cpu.h"

/* Raises #GP unless the ports may be used at this CPL (IOPL, TSS bitmap). */
void soft_io_check(struct soft_vcpu *c, uint16_t port, unsigned size);
uint32_t soft_port_in(struct soft_vcpu *c, uint16_t port, unsigned size);
void soft_port_out(struct soft_vcpu *c, uint16_t port, unsigned size, uint32_t v);

/* MOV to CR0, CR3, CR4: false means #GP. */
bool soft_set_cr0(struct soft_vcpu *c, uint64_t v);
bool soft_set_cr3(struct soft_vcpu *c, uint64_t v);
bool soft_set_cr4(struct soft_vcpu *c, uint64_t v);

/* POPF, IRET: what the privilege level lets through. size: of the operand. */
void soft_flags_load(struct soft_vcpu *c, uint64_t v, unsigned size);

/* Parts of the system instructions' binder. */
bool soft_bind_far(struct insn *i, const struct dec *d);
bool soft_bind_desc(struct insn *i, const struct dec *d);

#endif
