/* SPDX-License-Identifier: MIT */
#include "vmm/cpu/soft/test-rig.h"
#include <stdlib.h>
#include <string.h>
#include "lib/base/attr.h"

static uint32_t port_in(void *ctx, uint16_t port, unsigned len)
{
	struct rig *r = ctx;

	r->port = port;
	return r->port_val;
}

static void port_out(void *ctx, uint16_t port, unsigned len, uint32_t val)
{
	struct rig *r = ctx;

	r->port = port;
	r->port_val = val;
}

static uint64_t mmio_read(void *ctx, gpa_t gpa, unsigned len)
{
	struct rig *r = ctx;

	r->mmio_addr = gpa;
	return r->mmio_val;
}

static void mmio_write(void *ctx, gpa_t gpa, unsigned len, uint64_t val)
{
	struct rig *r = ctx;

	r->mmio_addr = gpa;
	r->mmio_val = val;
}

static void eoi(void *ctx, uint8_t vector)
{
}

void *rig_ptr(struct rig *r, uint64_t gpa)
{
	return gmem_ptr(r->gm, gpa, 8);
}

uint64_t *rig_pte(struct rig *r, uint64_t va)
{
	return rig_ptr(r, RIG_PT + (va >> 12) * 8);
}

static void put64(struct rig *r, uint64_t gpa, uint64_t v)
{
	memcpy(rig_ptr(r, gpa), &v, 8);
}

static void make_tables(struct rig *r)
{
	const uint64_t flags = RIG_P | RIG_W | RIG_U;

	put64(r, RIG_PML4, 0x2000 | flags);
	put64(r, 0x2000, 0x3000 | flags);
	put64(r, 0x2000 + 3 * 8, 0xc0000000 | 0x80 | flags); /* a 1 GiB page: the device hole */
	put64(r, 0x3000, RIG_PT | flags);
	for (uint64_t n = 1; n < RIG_RAM >> 21; n++)
		put64(r, 0x3000 + n * 8, n << 21 | 0x80 | flags);
	for (uint64_t n = 0; n < 512; n++)
		put64(r, RIG_PT + n * 8, n << 12 | flags);

	put64(r, RIG_GDT + RIG_CS, 0x00af9b000000ffff);
	put64(r, RIG_GDT + RIG_DS, 0x00cf93000000ffff);
	put64(r, RIG_GDT + 0x18, 0x00cff3000000ffff);
	put64(r, RIG_GDT + 0x20, 0x00affb000000ffff);
	put64(r, RIG_GDT + RIG_CS32, 0x00cf9b000000ffff);
	put64(r, RIG_GDT + RIG_TR, 0x00008b0000000067 | (uint64_t)RIG_TSS << 16);
	put64(r, RIG_GDT + RIG_TR + 8, 0);
	put64(r, RIG_TSS + 4, RIG_RSP0);
	put64(r, RIG_TSS + 0x24, RIG_IST1);
	for (uint64_t n = 0; n < 256; n++) {
		uint64_t at = RIG_HANDLERS + 16 * n;

		/* Vector 8 has a stack of its own; 3 and 0x80 may be called from CPL 3. */
		put64(r, RIG_IDT + 16 * n,
			(at & 0xffff) | RIG_CS << 16 | (n == 8 ? 1ull << 32 : 0) |
				(n == 3 || n == 0x80 ? 0xeeull : 0x8eull) << 40);
		put64(r, RIG_IDT + 16 * n + 8, 0);
		put64(r, at, 0xf4);
	}
}

static void set_seg(struct cpu_seg *s, uint16_t sel, uint16_t attr)
{
	*s = (struct cpu_seg){.selector = sel, .limit = 0xffffffff, .attr = attr};
}

static void make_state(struct rig *r)
{
	struct cpu_state *s = &r->s;

	set_seg(&s->seg[CPU_CS], RIG_CS, 0xa09b);
	set_seg(&s->seg[CPU_SS], RIG_DS, 0xc093);
	set_seg(&s->seg[CPU_DS], RIG_DS, 0xc093);
	set_seg(&s->seg[CPU_ES], RIG_DS, 0xc093);
	set_seg(&s->seg[CPU_FS], 0, 0);
	set_seg(&s->seg[CPU_GS], 0, 0);
	s->tr = (struct cpu_seg){.selector = RIG_TR, .base = RIG_TSS, .limit = 0x67, .attr = 0x8b};
	s->gdtr.base = RIG_GDT;
	s->gdtr.limit = 0x3f;
	s->idtr.base = RIG_IDT;
	s->idtr.limit = 0xfff;
	s->cr0 = 0x80010033;
	s->cr3 = RIG_PML4;
	s->cr4 = 0x6a0; /* PAE, PGE, OSFXSR, OSXMMEXCPT */
	s->efer = 0xd01;
	s->rflags = 2;
	s->run = CPU_RUNNABLE;
	memset(s->gpr, 0, sizeof(s->gpr));
	s->gpr[CPU_RSP] = RIG_STACK;
	s->exc_pending = s->int_shadow = false;
}

struct rig *rig_new(unsigned vcpus)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct err e;

	if (!r || gmem_new(&r->gm, RIG_RAM) < 0)
		abort();
	r->io = (struct cpu_io){port_in, port_out, mmio_read, mmio_write, eoi, r};
	if (cpu_soft_ops.vm_new(&r->vm, &(struct cpu_vm_config){r->gm, vcpus, &r->io}, &e) < 0)
		abort();
	for (unsigned n = 0; n < vcpus; n++)
		if (cpu_soft_ops.vcpu_new(&r->cpu[n], r->vm, n, &e) < 0)
			abort();
	make_tables(r);
	if (cpu_soft_ops.get_state(r->cpu[0], &r->s, r->msrs, &r->nmsrs) < 0)
		abort();
	make_state(r);
	return r;
}

void rig_free(struct rig *r)
{
	for (unsigned n = 0; n < 2; n++)
		if (r->cpu[n])
			cpu_soft_ops.vcpu_free(r->cpu[n]);
	cpu_soft_ops.vm_free(r->vm);
	gmem_free(r->gm);
	free(r);
}

void rig_load(struct rig *r, uint64_t where, const uint8_t *code, const uint8_t *end)
{
	if (gmem_write(r->gm, where, code, (size_t)(end - code)) < 0)
		abort();
	make_state(r);
	r->s.rip = where;
}

enum cpu_exit rig_run(struct rig *r)
{
	enum cpu_exit x;
	struct err e;

	if (cpu_soft_ops.set_state(r->cpu[0], &r->s, r->msrs, r->nmsrs) < 0)
		abort();
	x = cpu_soft_ops.run(r->cpu[0], &e);
	if (cpu_soft_ops.get_state(r->cpu[0], &r->s, r->msrs, &r->nmsrs) < 0)
		abort();
	return x;
}

int rig_vector(const struct rig *r)
{
	uint64_t at = r->s.rip - 1 - RIG_HANDLERS;

	return at < 256 * 16 && at % 16 == 0 ? (int)(at / 16) : -1;
}

uint64_t rig_stack(const struct rig *r, unsigned n)
{
	uint64_t v = 0;

	if (gmem_read(r->gm, r->s.gpr[CPU_RSP] + 8 * n, &v, 8) < 0)
		return ~0ull;
	return v;
}
