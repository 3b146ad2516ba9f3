/* SPDX-License-Identifier: MIT */
/* The software CPU as a back end: cpu_ops on top of the vCPU. */
#include "vmm/core/cpu.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/os/mem.h"
#include "vmm/cpu/soft/block.h"
#include "vmm/cpu/soft/direct/direct.h"
#include "vmm/cpu/soft/exc.h"
#include "vmm/cpu/soft/exec.h"
#include "vmm/cpu/soft/jit/jit.h"
#include "vmm/cpu/soft/lapic.h"
#include "vmm/cpu/soft/mem.h"
#include "vmm/cpu/soft/mmu.h"
#include "vmm/cpu/soft/msr.h"
#include "vmm/cpu/soft/simd-int.h"
#include "vmm/cpu/soft/sys.h"

/* Large pages: its tables are looked at by nearly every instruction. */
#define VCPU_SIZE ALIGN_UP(sizeof(struct soft_vcpu), 2u << 20)

/* The opaque types of cpu.h are ours under other names. */
static struct soft_vm *to_vm(struct cpu_vm *vm)
{
	return (struct soft_vm *)vm;
}
static struct soft_vcpu *to_vcpu(struct cpu_vcpu *v)
{
	return (struct soft_vcpu *)v;
}

struct cpu_msi {
	struct soft_vm *vm;
	struct os_mutex lock; /* of what follows */
	bool enable;
	uint64_t addr;
	uint32_t data;
};

static int soft_probe(struct err *e)
{
	if (!__builtin_cpu_supports("sse2"))
		return err_set(e, -ENOTSUP, "the host's CPU has no SSE2");
	return 0;
}

static void free_vm(struct cpu_vm *cvm)
{
	struct soft_vm *vm = to_vm(cvm);

	if (!vm)
		return;
	gmem_set_code_hook(vm->gm, NULL, NULL);
	soft_direct_pool_free(vm->direct_pool);
	soft_clock_free(vm->clock);
	os_mutex_done(&vm->lock);
	os_mutex_done(&vm->split_lock);
	free(vm);
}

static int new_vm(struct cpu_vm **ret, const struct cpu_vm_config *cfg, struct err *e)
{
	const struct gmem_region *regions;
	size_t n = gmem_regions(cfg->gm, &regions);
	struct soft_vm *vm;
	int r;

	if (cfg->vcpus < 1 || cfg->vcpus > CPU_MAX_VCPUS)
		return err_set(
			e, -EINVAL, "%u vCPUs: 1 to %d are possible", cfg->vcpus, CPU_MAX_VCPUS);
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return err_sys(e, -ENOMEM, "software CPU");
	vm->gm = cfg->gm;
	vm->io = cfg->io;
	vm->nvcpus = cfg->vcpus;
	for (size_t k = 0; k < n; k++) {
		if (regions[k].gpa == 0) {
			vm->lo_hva = regions[k].hva;
			vm->lo_size = regions[k].size;
		} else if (regions[k].gpa == GMEM_HOLE_END) {
			vm->hi_hva = regions[k].hva;
			vm->hi_size = regions[k].size;
		}
	}
	os_mutex_init(&vm->lock);
	os_mutex_init(&vm->split_lock);
	r = soft_clock_new(&vm->clock, vm);
	if (r < 0) {
		free_vm((struct cpu_vm *)vm);
		return err_sys(e, r, "software CPU's clock");
	}
	gmem_set_code_hook(vm->gm, soft_code_hook, vm);
	soft_direct_pool_new(&vm->direct_pool, gmem_object(vm->gm), vm->nvcpus);
	*ret = (struct cpu_vm *)vm;
	return 0;
}

static void free_vcpu(struct cpu_vcpu *v)
{
	struct soft_vcpu *c = to_vcpu(v);

	if (!c)
		return;
	os_mutex_lock(&c->vm->lock);
	c->vm->vcpu[c->index] = NULL;
	os_mutex_unlock(&c->vm->lock);
	soft_simd_free(c);
	soft_msr_free(c);
	soft_lapic_free(c->lapic);
	soft_direct_free(c);
	soft_blocks_free(c);
	soft_jit_free(c);
	os_event_done(&c->wake);
	os_mem_unmap(c, VCPU_SIZE);
}

static int new_vcpu(struct cpu_vcpu **ret, struct cpu_vm *cvm, unsigned index, struct err *e)
{
	struct soft_vm *vm = to_vm(cvm);
	struct soft_vcpu *c;
	void *p;
	int r;

	if (index >= vm->nvcpus || vm->vcpu[index])
		return err_set(e, -EINVAL, "vCPU %u", index);
	r = os_mem_map(VCPU_SIZE, OS_PROT_R | OS_PROT_W, &p);
	if (r < 0)
		return err_sys(e, r, "vCPU %u", index);
	os_mem_large(p, VCPU_SIZE);
	c = p;
	c->index = index;
	c->vm = vm;
	os_event_init(&c->wake);
	r = soft_jit_new(c);
	if (r == 0)
		r = soft_blocks_new(c);
	if (r == 0)
		r = soft_direct_new(c);
	if (r == 0)
		r = soft_lapic_new(&c->lapic, c);
	if (r == 0)
		r = soft_msr_new(c);
	if (r == 0)
		r = soft_simd_new(c);
	if (r < 0) {
		free_vcpu((struct cpu_vcpu *)c);
		return err_sys(e, r, "vCPU %u", index);
	}
	soft_reset(c, false);
	c->run_state = index ? CPU_WAIT_SIPI : CPU_RUNNABLE;
	os_mutex_lock(&vm->lock);
	vm->vcpu[index] = c;
	os_mutex_unlock(&vm->lock);
	*ret = (struct cpu_vcpu *)c;
	return 0;
}

void soft_reset(struct soft_vcpu *c, bool init)
{
	static const struct soft_desc data = {
		.limit = 0xffff, .attr = DESC_P | DESC_S | DESC_RW | DESC_A};
	static const struct soft_desc ldt = {.limit = 0xffff, .attr = DESC_P | 2},
				      tss = {.limit = 0xffff, .attr = DESC_P | 11};

	memset(c->gpr, 0, sizeof(c->gpr));
	c->gpr[CPU_RDX] = 0x600;
	c->fl = 0;
	c->eflags = RF_1;
	c->cpl = 0;
	/* INIT keeps the caching bits and what MSRs hold, EFER apart. */
	c->cr0 = CR0_ET | (init ? c->cr0 & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW);
	c->cr2 = c->cr3 = c->cr4 = c->efer = 0;
	memset(c->dr, 0, sizeof(c->dr));
	c->dr[6] = 0xffff0ff0;
	c->dr[7] = 0x400;
	for (unsigned s = SEG_ES; s <= SEG_GS; s++)
		soft_set_seg(c, s, 0, &data);
	soft_set_seg(c, SEG_LDTR, 0, &ldt);
	soft_set_seg(c, SEG_TR, 0, &tss);
	soft_set_cs(c, 0xf000,
		&(struct soft_desc){
			.base = 0xffff0000, .limit = 0xffff, .attr = data.attr | DESC_CODE},
		0);
	c->gdtr.base = c->idtr.base = 0;
	c->gdtr.limit = c->idtr.limit = 0xffff;
	c->rip = 0xfff0;
	c->shadow = c->intr_wait = c->nmi_masked = c->exc_raised = c->in_delivery = false;
	soft_tlb_init(c);
	soft_lapic_reset(c->lapic, init);
	soft_msr_reset(c, init);
	if (!init)
		soft_simd_reset(c);
}

static enum cpu_exit run(struct cpu_vcpu *v, struct err *e)
{
	return soft_run(to_vcpu(v), e);
}

static void kick(struct cpu_vcpu *v)
{
	soft_post(to_vcpu(v), EV_KICK);
}

static void seg_out(const struct soft_vcpu *c, unsigned n, struct cpu_seg *s)
{
	*s = (struct cpu_seg){.base = c->segbase_hidden[n],
		.limit = c->seg[n].limit,
		.selector = c->seg[n].sel,
		.attr = c->seg[n].attr};
}

static void seg_in(struct soft_vcpu *c, unsigned n, const struct cpu_seg *s)
{
	c->seg[n] = (struct soft_seg){.limit = s->limit, .sel = s->selector, .attr = s->attr};
	c->segbase_hidden[n] = s->base;
}

static int get_state(struct cpu_vcpu *v, struct cpu_state *s, struct cpu_msr *msrs, unsigned *n)
{
	struct soft_vcpu *c = to_vcpu(v);

	soft_settle(c);
	*s = (struct cpu_state){.rip = c->rip,
		.rflags = soft_rflags_get(c),
		.cr0 = c->cr0,
		.cr2 = c->cr2,
		.cr3 = c->cr3,
		.cr4 = c->cr4,
		.cr8 = soft_lapic_get_cr8(c->lapic),
		.efer = c->efer,
		.xcr0 = c->xcr0,
		.run = c->run_state,
		.nmi_pending = atomic_load(&c->events) & EV_NMI,
		.nmi_masked = c->nmi_masked,
		.int_shadow = c->shadow,
		.exc_pending = c->exc_raised,
		.exc_vector = c->exc.vec,
		.exc_has_error = c->exc.has_err,
		.exc_error = c->exc.err};
	memcpy(s->gpr, c->gpr, sizeof(s->gpr));
	memcpy(s->dr, c->dr, sizeof(s->dr));
	for (unsigned k = 0; k < CPU_NSEGS; k++)
		seg_out(c, k, &s->seg[k]);
	seg_out(c, SEG_LDTR, &s->ldtr);
	seg_out(c, SEG_TR, &s->tr);
	s->gdtr.base = c->gdtr.base;
	s->gdtr.limit = c->gdtr.limit;
	s->idtr.base = c->idtr.base;
	s->idtr.limit = c->idtr.limit;
	memcpy(s->xsave, c->xsave, sizeof(s->xsave));
	/* The timer's deadline before the requests: one that passes in between is in both, not in neither. */
	soft_msr_save(c, msrs, n);
	soft_lapic_get_page(c->lapic, s->lapic);
	return 0;
}

static int set_state(
	struct cpu_vcpu *v, const struct cpu_state *s, const struct cpu_msr *msrs, unsigned n)
{
	struct soft_vcpu *c = to_vcpu(v);

	memcpy(c->gpr, s->gpr, sizeof(c->gpr));
	memcpy(c->dr, s->dr, sizeof(c->dr));
	c->rip = s->rip;
	c->cr0 = s->cr0 | CR0_ET;
	c->cr2 = s->cr2;
	c->cr3 = s->cr3;
	c->cr4 = s->cr4;
	c->efer = s->efer;
	c->xcr0 = s->xcr0;
	for (unsigned k = 0; k < CPU_NSEGS; k++)
		seg_in(c, k, &s->seg[k]);
	seg_in(c, SEG_LDTR, &s->ldtr);
	seg_in(c, SEG_TR, &s->tr);
	c->gdtr.base = s->gdtr.base;
	c->gdtr.limit = s->gdtr.limit;
	c->idtr.base = s->idtr.base;
	c->idtr.limit = s->idtr.limit;
	c->cpl = c->cr0 & CR0_PE ? desc_dpl(c->seg[SEG_SS].attr) : 0;
	memcpy(c->xsave, s->xsave, sizeof(c->xsave));
	IMAGE(c)->mxcsr &= simd_mxcsr_mask();
	c->run_state = s->run;
	c->nmi_masked = s->nmi_masked;
	c->shadow = s->int_shadow;
	c->in_delivery = false;
	c->intr_wait = true; /* ask the local APIC when IF is set */
	c->exc_raised = s->exc_pending;
	c->exc.vec = s->exc_vector;
	c->exc.has_err = s->exc_has_error;
	c->exc.err = s->exc_error;
	c->exc.soft = false;
	soft_mode_changed(c);
	soft_rflags_set(c, s->rflags);
	soft_tlb_init(c);
	soft_direct_reset(c);
	soft_blocks_drop_all(c);
	soft_lapic_set_page(c->lapic, s->lapic);
	soft_lapic_set_cr8(c->lapic, (uint8_t)s->cr8);
	if (s->nmi_pending)
		soft_post(c, EV_NMI);
	soft_post(c, EV_INTR);
	return soft_msr_load(c, msrs, n);
}

static void signal_msi(struct cpu_vm *vm, uint64_t addr, uint32_t data)
{
	soft_lapic_msi(to_vm(vm), addr, data);
}

static int msi_new(struct cpu_msi **ret, struct cpu_vm *vm)
{
	struct cpu_msi *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->vm = to_vm(vm);
	os_mutex_init(&m->lock);
	*ret = m;
	return 0;
}

static void msi_free(struct cpu_msi *m)
{
	if (!m)
		return;
	os_mutex_done(&m->lock);
	free(m);
}

static int msi_set(struct cpu_msi *m, bool enable, uint64_t addr, uint32_t data)
{
	OS_GUARD(&m->lock);
	m->enable = enable;
	m->addr = addr;
	m->data = data;
	return 0;
}

static void msi_raise(struct cpu_msi *m)
{
	uint64_t addr;
	uint32_t data;
	bool enable;

	os_mutex_lock(&m->lock);
	enable = m->enable;
	addr = m->addr;
	data = m->data;
	os_mutex_unlock(&m->lock);
	if (enable)
		soft_lapic_msi(m->vm, addr, data);
}

static struct os_notifier *msi_notifier(struct cpu_msi *m)
{
	return NULL;
}

static int ioevent(struct cpu_vm *vm, gpa_t gpa, unsigned len, bool is_port, uint64_t datamatch,
	struct os_notifier *n, bool add)
{
	return -EOPNOTSUPP;
}

static void vm_save(struct cpu_vm *vm, struct state_w *w)
{
	soft_clock_save(to_vm(vm)->clock, w);
}

static int vm_load(struct cpu_vm *vm, struct state_r *r)
{
	return soft_clock_load(to_vm(vm)->clock, r);
}

static int window(struct cpu_vm *cvm)
{
	struct soft_vm *vm = to_vm(cvm);

	vm->nwindows = gmem_windows(vm->gm, &vm->windows);
	return 0;
}

/* Pages are marked dirty when the right to write to them enters a TLB: so take it away. */
static int dirty_sync(struct cpu_vm *cvm)
{
	struct soft_vm *vm = to_vm(cvm);

	OS_GUARD(&vm->lock);
	for (unsigned n = 0; n < vm->nvcpus; n++)
		if (vm->vcpu[n]) {
			tlb_flush_all(vm->vcpu[n]);
			soft_direct_reset(vm->vcpu[n]);
		}
	return 0;
}

const struct cpu_ops cpu_soft_ops = {
	.name = "soft",
	.probe = soft_probe,
	.vm_new = new_vm,
	.vm_free = free_vm,
	.vcpu_new = new_vcpu,
	.vcpu_free = free_vcpu,
	.run = run,
	.kick = kick,
	.get_state = get_state,
	.set_state = set_state,
	.signal_msi = signal_msi,
	.msi_new = msi_new,
	.msi_free = msi_free,
	.msi_set = msi_set,
	.msi_raise = msi_raise,
	.msi_notifier = msi_notifier,
	.ioevent = ioevent,
	.vm_save = vm_save,
	.vm_load = vm_load,
	.window = window,
	.dirty_sync = dirty_sync,
};
