/* SPDX-License-Identifier: MIT */
/*
 * Saving and loading a VM (vm.h): "vm" (what it must look like, and the back end's clock), "vcpu"
 * for each vCPU, then a section named after each device. Architectural state only: it does not
 * matter which back end wrote it.
 */
#include "vmm/core/vm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/cleanup.h"
#include "vmm/core/state.h"
#include "vmm/core/vm-internal.h"

struct vcpu_state {
	struct cpu_state s;
	struct cpu_msr msrs[CPU_MAX_MSRS];
	unsigned n;
};

static void put_seg(struct state_w *w, const struct cpu_seg *s)
{
	state_put_u64(w, s->base);
	state_put_u32(w, s->limit);
	state_put_u16(w, s->selector);
	state_put_u16(w, s->attr);
}

static void get_seg(struct state_r *r, struct cpu_seg *s)
{
	s->base = state_get_u64(r);
	s->limit = state_get_u32(r);
	s->selector = state_get_u16(r);
	s->attr = state_get_u16(r);
}

static void put_vcpu(struct state_w *w, const struct vcpu_state *v)
{
	const struct cpu_state *s = &v->s;
	const uint64_t regs[] = {s->rip, s->rflags, s->cr0, s->cr2, s->cr3, s->cr4, s->cr8, s->efer,
		s->xcr0, s->gdtr.base, s->idtr.base};

	state_begin(w, "vcpu", 1);
	for (unsigned i = 0; i < ARRAY_LEN(s->gpr); i++)
		state_put_u64(w, s->gpr[i]);
	for (unsigned i = 0; i < ARRAY_LEN(regs); i++)
		state_put_u64(w, regs[i]);
	state_put_u16(w, s->gdtr.limit);
	state_put_u16(w, s->idtr.limit);
	for (unsigned i = 0; i < CPU_NSEGS; i++)
		put_seg(w, &s->seg[i]);
	put_seg(w, &s->ldtr);
	put_seg(w, &s->tr);
	for (unsigned i = 0; i < ARRAY_LEN(s->dr); i++)
		state_put_u64(w, s->dr[i]);
	state_put_bytes(w, s->xsave, sizeof(s->xsave));
	state_put_u8(w, s->run);
	state_put_u8(w, s->nmi_pending);
	state_put_u8(w, s->nmi_masked);
	state_put_u8(w, s->int_shadow);
	state_put_u8(w, s->exc_pending);
	state_put_u8(w, s->exc_vector);
	state_put_u8(w, s->exc_has_error);
	state_put_u32(w, s->exc_error);
	state_put_bytes(w, s->lapic, sizeof(s->lapic));
	state_put_u32(w, v->n);
	for (unsigned i = 0; i < v->n; i++) {
		state_put_u32(w, v->msrs[i].index);
		state_put_u64(w, v->msrs[i].value);
	}
	state_end(w);
}

static void get_vcpu(struct state_r *r, struct vcpu_state *v)
{
	struct cpu_state *s = &v->s;
	uint64_t *const regs[] = {&s->rip, &s->rflags, &s->cr0, &s->cr2, &s->cr3, &s->cr4, &s->cr8,
		&s->efer, &s->xcr0, &s->gdtr.base, &s->idtr.base};

	state_enter(r, "vcpu", 1);
	for (unsigned i = 0; i < ARRAY_LEN(s->gpr); i++)
		s->gpr[i] = state_get_u64(r);
	for (unsigned i = 0; i < ARRAY_LEN(regs); i++)
		*regs[i] = state_get_u64(r);
	s->gdtr.limit = state_get_u16(r);
	s->idtr.limit = state_get_u16(r);
	for (unsigned i = 0; i < CPU_NSEGS; i++)
		get_seg(r, &s->seg[i]);
	get_seg(r, &s->ldtr);
	get_seg(r, &s->tr);
	for (unsigned i = 0; i < ARRAY_LEN(s->dr); i++)
		s->dr[i] = state_get_u64(r);
	state_get_bytes(r, s->xsave, sizeof(s->xsave));
	s->run = state_get_u8(r);
	if (s->run > CPU_WAIT_SIPI)
		state_fail(r, "a vCPU's run state is none there is");
	s->nmi_pending = state_get_u8(r) != 0;
	s->nmi_masked = state_get_u8(r) != 0;
	s->int_shadow = state_get_u8(r) != 0;
	s->exc_pending = state_get_u8(r) != 0;
	s->exc_vector = state_get_u8(r);
	s->exc_has_error = state_get_u8(r) != 0;
	s->exc_error = state_get_u32(r);
	state_get_bytes(r, s->lapic, sizeof(s->lapic));
	v->n = state_get_u32(r);
	if (v->n > CPU_MAX_MSRS) {
		state_fail(r, "a vCPU has more model-specific registers than can be");
		v->n = 0;
	}
	for (unsigned i = 0; i < v->n; i++) {
		v->msrs[i].index = state_get_u32(r);
		v->msrs[i].value = state_get_u64(r);
	}
	state_leave(r);
}

static int vcpu_get(struct vcpu *v, void *arg)
{
	struct vcpu_state *s = arg;

	return v->vm->ops->get_state(v->cpu, &s->s, s->msrs, &s->n);
}

static int vcpu_set(struct vcpu *v, void *arg)
{
	struct vcpu_state *s = arg;

	return v->vm->ops->set_state(v->cpu, &s->s, s->msrs, s->n);
}

int vm_save(struct vm *vm, struct state_w *w, struct err *e)
{
	cleanup_free struct vcpu_state *s = calloc(1, sizeof(*s));

	if (!s)
		return err_sys(e, -ENOMEM, "save the virtual machine");
	if (vm_state(vm) != VM_PAUSED)
		return err_set(e, -EINVAL, "only a paused virtual machine can be saved");
	state_begin(w, "vm", 1);
	state_put_u64(w, gmem_ram_size(vm->gm));
	state_put_u32(w, vm->nvcpus);
	state_put_u32(w, vm->ndevs);
	if (vm->ops->vm_save)
		vm->ops->vm_save(vm->cpu, w);
	state_end(w);
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		int r = vcpu_call(&vm->vcpus[i], vcpu_get, s);

		if (r < 0)
			return err_sys(e, r, "read the state of vCPU %u", i);
		put_vcpu(w, s);
	}
	for (unsigned i = 0; i < vm->ndevs; i++) {
		struct dev *d = vm->devs[i];

		state_begin(w, d->id, 1);
		if (d->ops->save)
			d->ops->save(d, w);
		state_end(w);
	}
	return 0;
}

int vm_vcpu_state(
	struct vm *vm, unsigned vcpu, struct cpu_state *s, struct cpu_msr *msrs, unsigned *n)
{
	cleanup_free struct vcpu_state *all = calloc(1, sizeof(*all));
	int r;

	if (!all)
		return -ENOMEM;
	if (vm_state(vm) != VM_PAUSED || vcpu >= vm->nvcpus)
		return -EINVAL;
	r = vcpu_call(&vm->vcpus[vcpu], vcpu_get, all);
	if (r < 0)
		return r;
	*s = all->s;
	memcpy(msrs, all->msrs, all->n * sizeof(*msrs));
	*n = all->n;
	return 0;
}

static int refused(struct state_r *r, struct err *e, const char *what)
{
	const char *why;
	int code = state_check(r, &why);

	if (code < 0)
		err_set(e, code, "load %s: %s", what, why);
	return code;
}

int vm_load(struct vm *vm, struct state_r *r, struct err *e)
{
	cleanup_free struct vcpu_state *s = calloc(1, sizeof(*s));
	int code;

	if (!s)
		return err_sys(e, -ENOMEM, "load the virtual machine");
	if (vm_state(vm) != VM_BUILDING || vm->started != vm->nvcpus)
		return err_set(
			e, -EINVAL, "only a virtual machine that has not started can be loaded");
	state_enter(r, "vm", 1);
	uint64_t ram = state_get_u64(r);
	unsigned vcpus = state_get_u32(r), devs = state_get_u32(r);

	if (refused(r, e, "the virtual machine") < 0)
		return -EBADMSG;
	if (ram != gmem_ram_size(vm->gm) || vcpus != vm->nvcpus || devs != vm->ndevs)
		return err_set(e, -EINVAL,
			"the saved machine has %llu MiB, %u vCPUs and %u devices, this one %llu MiB, %u and %u",
			(unsigned long long)ram >> 20, vcpus, devs,
			(unsigned long long)gmem_ram_size(vm->gm) >> 20, vm->nvcpus, vm->ndevs);
	if (vm->ops->vm_load && (code = vm->ops->vm_load(vm->cpu, r)) < 0 &&
		refused(r, e, "the engine's state") == 0)
		return err_sys(e, code, "load the engine's state");
	state_leave(r);
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		get_vcpu(r, s);
		if (refused(r, e, "a vCPU") < 0)
			return -EBADMSG;
		code = vcpu_call(&vm->vcpus[i], vcpu_set, s);
		if (code < 0)
			return err_sys(e, code, "set the state of vCPU %u", i);
	}
	for (unsigned i = 0; i < vm->ndevs; i++) {
		struct dev *d = vm->devs[i];

		code = 0;
		state_enter(r, d->id, 1);
		if (d->ops->load)
			code = d->ops->load(d, r);
		if (refused(r, e, d->id) < 0)
			return -EBADMSG;
		if (code < 0)
			return err_sys(e, code, "load %s", d->id);
		state_leave(r);
	}
	return 0;
}
