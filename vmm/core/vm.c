/* SPDX-License-Identifier: MIT */
/*
 * The virtual machine (vm.h): owner of memory, buses, devices and vCPU threads.
 *
 * Theory of operation: each vCPU thread waits for a request (RUN, CALL, QUIT), does it, says it is
 * idle and waits again. Only the loop's thread makes requests, and only to idle vCPUs. To get a
 * running vCPU back, the loop's thread sets its stop flag and kicks it: a kick is remembered by the
 * back end, so the flag is seen whether it arrives before or after run() is entered. vm_stop() may
 * come from anywhere: it says so in vm->ending, kicks everybody, and wakes the loop, which then
 * waits for the vCPUs and reports the end.
 */
#include "vmm/core/vm.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/log.h"
#include "lib/os/notifier.h"
#include "lib/os/thread.h"
#include "vmm/core/vm-internal.h"

static uint32_t on_port_in(void *ctx, uint16_t port, unsigned len)
{
	struct vm *vm = ctx;

	return bus_read(vm->bus, BUS_PORT, port, len);
}

static void on_port_out(void *ctx, uint16_t port, unsigned len, uint32_t val)
{
	struct vm *vm = ctx;

	bus_write(vm->bus, BUS_PORT, port, len, val);
}

static uint64_t on_mmio_read(void *ctx, gpa_t gpa, unsigned len)
{
	struct vm *vm = ctx;

	return bus_read(vm->bus, BUS_MMIO, gpa, len);
}

static void on_mmio_write(void *ctx, gpa_t gpa, unsigned len, uint64_t val)
{
	struct vm *vm = ctx;

	bus_write(vm->bus, BUS_MMIO, gpa, len, val);
}

static void on_eoi(void *ctx, uint8_t vector)
{
	struct vm *vm = ctx;

	if (vm->eoi)
		vm->eoi(vm->eoi_ctx, vector);
}

/* --- vCPU threads --- */

static void end_with(struct vm *vm, enum vm_end why, const char *text)
{
	os_mutex_lock(&vm->end_lock);
	if (!vm->end_text[0])
		snprintf(vm->end_text, sizeof(vm->end_text), "%s", text);
	os_mutex_unlock(&vm->end_lock);
	vm_stop(vm, why);
}

static void run_loop(struct vcpu *v)
{
	struct vm *vm = v->vm;
	char text[64];

	while (!atomic_load(&v->stop) && !atomic_load(&vm->ending)) {
		struct err e = {0};

		switch (vm->ops->run(v->cpu, &e)) {
		case CPU_EXIT_KICK: break;
		case CPU_EXIT_HALT:
			if (atomic_fetch_add(&vm->halted, 1) + 1 == vm->nvcpus)
				vm_stop(vm, VM_END_HALT);
			return;
		case CPU_EXIT_TRIPLE_FAULT:
			snprintf(text, sizeof(text), "vCPU %u: triple fault", v->index);
			end_with(vm, VM_END_CRASH, text);
			return;
		case CPU_EXIT_FAIL:
			err_wrap(&e, e.code, "vCPU %u", v->index);
			end_with(vm, VM_END_CRASH, e.text);
			return;
		}
	}
}

static void vcpu_thread(void *ctx)
{
	struct vcpu *v = ctx;
	const struct cpu_ops *ops = v->vm->ops;

	v->result = ops->vcpu_new(&v->cpu, v->vm->cpu, v->index, &v->err);
	if (v->result < 0) {
		os_event_set(&v->idle);
		return;
	}
	for (;;) {
		os_event_set(&v->idle);
		os_event_wait(&v->wake, UINT64_MAX);
		switch (v->req) {
		case VCPU_RUN: run_loop(v); break;
		case VCPU_CALL: v->result = v->fn(v, v->arg); break;
		case VCPU_QUIT: ops->vcpu_free(v->cpu); return;
		}
	}
}

/* The vCPU is idle and its idle event taken; after this it is not. */
static void request(struct vcpu *v, enum vcpu_req req)
{
	v->req = req;
	os_event_set(&v->wake);
}

static void wait_idle(struct vcpu *v)
{
	os_event_wait(&v->idle, UINT64_MAX);
}

int vcpu_call(struct vcpu *v, int (*fn)(struct vcpu *v, void *arg), void *arg)
{
	v->fn = fn;
	v->arg = arg;
	request(v, VCPU_CALL);
	wait_idle(v);
	return v->result;
}

int vm_create_vcpus(struct vm *vm, struct err *e)
{
	int r;

	if (vm->vcpus)
		return err_set(e, -EBUSY, "the vCPUs exist already");
	vm->vcpus = calloc(vm->nvcpus, sizeof(*vm->vcpus));
	if (!vm->vcpus)
		return err_sys(e, -ENOMEM, "create vCPUs");
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		struct vcpu *v = &vm->vcpus[i];
		char name[16];

		v->vm = vm;
		v->index = i;
		os_event_init(&v->wake);
		os_event_init(&v->idle);
		vm->started = i + 1;
		snprintf(name, sizeof(name), "vcpu%u", i);
		r = os_thread_start(&v->thread, name, vcpu_thread, v);
		if (r < 0)
			return err_sys(e, r, "start the thread of vCPU %u", i);
		wait_idle(v);
		if (v->result < 0) {
			if (e)
				*e = v->err;
			return err_wrap(e, v->result, "create vCPU %u", i);
		}
	}
	return 0;
}

static void free_vcpus(struct vm *vm)
{
	for (unsigned i = 0; i < vm->started; i++) {
		struct vcpu *v = &vm->vcpus[i];

		if (v->cpu)
			request(v, VCPU_QUIT);
		if (v->thread)
			os_thread_join(v->thread);
		os_event_done(&v->wake);
		os_event_done(&v->idle);
	}
	free(vm->vcpus);
	vm->vcpus = NULL;
	vm->started = 0;
}

/* --- life --- */

static void run_all(struct vm *vm)
{
	atomic_store(&vm->halted, 0);
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		atomic_store(&vm->vcpus[i].stop, false);
		request(&vm->vcpus[i], VCPU_RUN);
	}
	atomic_store(&vm->state, VM_RUNNING);
}

static void gather_all(struct vm *vm)
{
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		atomic_store(&vm->vcpus[i].stop, true);
		vm->ops->kick(vm->vcpus[i].cpu);
	}
	for (unsigned i = 0; i < vm->nvcpus; i++)
		wait_idle(&vm->vcpus[i]);
}

/* On the loop's thread, after vm_stop(). */
static void on_ending(void *ctx)
{
	struct vm *vm = ctx;

	if (!atomic_load(&vm->ending) || vm_state(vm) == VM_STOPPED)
		return;
	if (vm_state(vm) == VM_RUNNING)
		gather_all(vm);
	atomic_store(&vm->state, VM_STOPPED);
	if (vm->cfg.on_end)
		vm->cfg.on_end(vm->cfg.ctx, atomic_load(&vm->ending) - 1);
}

void vm_stop(struct vm *vm, enum vm_end why)
{
	int none = 0;

	if (!atomic_compare_exchange_strong(&vm->ending, &none, why + 1))
		return; /* the first reason stands */
	if (atomic_load(&vm->state) == VM_RUNNING)
		for (unsigned i = 0; i < vm->nvcpus; i++)
			vm->ops->kick(vm->vcpus[i].cpu);
	os_notifier_signal(vm->end_note);
}

const char *vm_end_text(struct vm *vm)
{
	return vm->end_text;
}

int vm_start(struct vm *vm, struct err *e)
{
	if (vm_state(vm) != VM_BUILDING || vm->started != vm->nvcpus)
		return err_set(e, -EINVAL, "the virtual machine is not ready to start");
	run_all(vm);
	return 0;
}

int vm_pause(struct vm *vm)
{
	if (vm_state(vm) == VM_PAUSED)
		return 0;
	if (vm_state(vm) != VM_RUNNING)
		return -EINVAL;
	gather_all(vm);
	atomic_store(&vm->state, VM_PAUSED);
	return 0;
}

int vm_resume(struct vm *vm)
{
	if (vm_state(vm) == VM_RUNNING)
		return 0;
	if (vm_state(vm) != VM_PAUSED)
		return -EINVAL;
	run_all(vm);
	return 0;
}

enum vm_state vm_state(struct vm *vm)
{
	return atomic_load(&vm->state);
}

static int get_state(struct vcpu *v, void *arg)
{
	struct cpu_msr msrs[CPU_MAX_MSRS];
	unsigned n = 0;

	return v->vm->ops->get_state(v->cpu, arg, msrs, &n);
}

static int set_state(struct vcpu *v, void *arg)
{
	return v->vm->ops->set_state(v->cpu, arg, NULL, 0);
}

int vm_get_boot_state(struct vm *vm, struct cpu_state *s)
{
	if (vm_state(vm) != VM_BUILDING || !vm->started)
		return -EINVAL;
	return vcpu_call(&vm->vcpus[0], get_state, s);
}

int vm_set_boot_state(struct vm *vm, const struct cpu_state *s)
{
	struct cpu_state copy = *s;

	if (vm_state(vm) != VM_BUILDING || !vm->started)
		return -EINVAL;
	return vcpu_call(&vm->vcpus[0], set_state, &copy);
}

/* --- building --- */

int vm_new(struct vm **ret, const struct vm_config *cfg, struct err *e)
{
	struct vm *vm;
	int r;

	if (cfg->vcpus < 1 || cfg->vcpus > CPU_MAX_VCPUS)
		return err_set(e, -EINVAL, "%u vCPUs asked for: 1 to %d are possible", cfg->vcpus,
			CPU_MAX_VCPUS);
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return err_sys(e, -ENOMEM, "create the virtual machine");
	vm->cfg = *cfg;
	vm->ops = cfg->cpu;
	vm->nvcpus = cfg->vcpus;
	vm->io = (struct cpu_io){.port_in = on_port_in,
		.port_out = on_port_out,
		.mmio_read = on_mmio_read,
		.mmio_write = on_mmio_write,
		.eoi = on_eoi,
		.ctx = vm};
	os_mutex_init(&vm->end_lock);
	r = gmem_new(&vm->gm, cfg->ram_size);
	if (r < 0) {
		err_sys(e, r, "give the virtual machine %llu MiB of memory",
			(unsigned long long)cfg->ram_size >> 20);
		goto fail;
	}
	r = bus_new(&vm->bus);
	if (r == 0)
		r = os_notifier_new(&vm->end_note);
	if (r == 0)
		r = os_notifier_watch(vm->end_note, cfg->loop, on_ending, vm);
	if (r < 0) {
		err_sys(e, r, "create the virtual machine");
		goto fail;
	}
	struct cpu_vm_config ccfg = {.gm = vm->gm, .vcpus = vm->nvcpus, .io = &vm->io};

	r = vm->ops->vm_new(&vm->cpu, &ccfg, e);
	if (r < 0) {
		err_wrap(e, r, "create the virtual machine with engine %s", vm->ops->name);
		goto fail;
	}
	*ret = vm;
	return 0;
fail:
	vm_free(vm);
	return r;
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	if (vm_state(vm) == VM_RUNNING)
		gather_all(vm);
	free_vcpus(vm);
	for (unsigned i = vm->ndevs; i-- > 0;) {
		struct dev *d = vm->devs[i];

		if (d->ops->free)
			d->ops->free(d);
	}
	free(vm->devs);
	if (vm->cpu)
		vm->ops->vm_free(vm->cpu);
	if (vm->end_note)
		os_notifier_free(vm->end_note);
	bus_free(vm->bus);
	gmem_free(vm->gm);
	os_mutex_done(&vm->end_lock);
	free(vm);
}

void vm_add_dev(struct vm *vm, struct dev *d)
{
	assert(vm_state(vm) == VM_BUILDING);
	for (unsigned i = 0; i < vm->ndevs; i++)
		assert(strcmp(vm->devs[i]->id, d->id) != 0);
	vm->devs = realloc(vm->devs, (vm->ndevs + 1) * sizeof(struct dev *));
	if (!vm->devs)
		abort();
	vm->devs[vm->ndevs++] = d;
}

void vm_set_eoi(struct vm *vm, void (*eoi)(void *ctx, uint8_t vector), void *ctx)
{
	vm->eoi = eoi;
	vm->eoi_ctx = ctx;
}

struct gmem *vm_gmem(struct vm *vm)
{
	return vm->gm;
}

struct bus *vm_bus(struct vm *vm)
{
	return vm->bus;
}

struct loop *vm_loop(struct vm *vm)
{
	return vm->cfg.loop;
}

const struct cpu_ops *vm_cpu_ops(struct vm *vm)
{
	return vm->ops;
}

struct cpu_vm *vm_cpu(struct vm *vm)
{
	return vm->cpu;
}

unsigned vm_vcpus(struct vm *vm)
{
	return vm->nvcpus;
}
