/* SPDX-License-Identifier: MIT */
/*
 * Test-only: a virtual machine in long mode with flat paging that runs snippets. Every exception and interrupt handler
 * is a HLT with interrupts off, so that run() returns CPU_EXIT_HALT with RIP telling the vector and RSP the frame.
 */
#ifndef WSLX_SOFT_TEST_RIG_H
#define WSLX_SOFT_TEST_RIG_H

#include "vmm/core/cpu.h"
#include "vmm/core/gmem.h"

enum {
	RIG_PML4 = 0x1000,
	RIG_PT = 0x4000, /* 4 KiB pages of the first 2 MiB */
	RIG_GDT = 0x5000,
	RIG_TSS = 0x5100,
	RIG_IDT = 0x6000,
	RIG_HANDLERS = 0x8000, /* 16 bytes each */
	RIG_IST1 = 0xa000,     /* top of stacks */
	RIG_RSP0 = 0xb000,
	RIG_CODE = 0x10000,
	RIG_DATA = 0x20000,
	RIG_STACK = 0x40000,
	RIG_RAM = 8 << 20,

	RIG_CS = 0x08,
	RIG_DS = 0x10,
	RIG_USER_DS = 0x1b,
	RIG_USER_CS = 0x23,
	RIG_CS32 = 0x28,
	RIG_TR = 0x30,
};
enum { RIG_P = 1, RIG_W = 2, RIG_U = 4, RIG_A = 0x20, RIG_D = 0x40 };

struct rig {
	struct gmem *gm;
	struct cpu_io io;
	struct cpu_vm *vm;
	struct cpu_vcpu *cpu[2];
	struct cpu_state s; /* as of the last rig_run() */
	struct cpu_msr msrs[CPU_MAX_MSRS];
	unsigned nmsrs;
	uint64_t mmio_addr, mmio_val;
	uint16_t port;
	uint32_t port_val;
};

struct rig *rig_new(unsigned vcpus);
void rig_free(struct rig *r);

/* Copies code to where and makes the state: CPL 0, interrupts off, RSP = RIG_STACK. */
void rig_load(struct rig *r, uint64_t where, const uint8_t *code, const uint8_t *end);
/* Runs from r->s until run() returns; r->s is the state then. */
enum cpu_exit rig_run(struct rig *r);
/* The vector whose handler halted; -1: somewhere else. */
int rig_vector(const struct rig *r);
/* Slot n of the stack at RSP: 0 is the error code or RIP. */
uint64_t rig_stack(const struct rig *r, unsigned n);
uint64_t *rig_pte(struct rig *r, uint64_t va); /* below 2 MiB */
void *rig_ptr(struct rig *r, uint64_t gpa);

/* Machine code, assembled with the test: CODE(name, "instructions"); name and name_end. */
#define CODE(name, text)                                                                           \
	__asm__(".pushsection .rodata\n" #name ":\n" text "\n" #name "_end:\n.popsection\n");      \
	extern const uint8_t name[], name##_end[];
#define RIG_LOAD(r, name) rig_load(r, RIG_CODE, name, name##_end)

#endif
