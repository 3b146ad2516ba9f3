/* SPDX-License-Identifier: MIT */
/* A CPU back end for chip tests: it only writes down the messages it is given. */
#ifndef WSLX_VMM_CHIP_FAKE_CPU_H
#define WSLX_VMM_CHIP_FAKE_CPU_H

#include <stdlib.h>
#include "lib/base/attr.h"
#include "vmm/core/cpu.h"

struct cpu_vm {
	unsigned count; /* messages, direct or raised */
	uint64_t addr;	/* of the last one */
	uint32_t data;
	unsigned sources; /* that are alive */
	unsigned routes;  /* calls of ioapic_routes */
};

struct cpu_msi {
	struct cpu_vm *vm;
	bool enable;
	uint64_t addr;
	uint32_t data;
};

static void fake_signal(struct cpu_vm *vm, uint64_t addr, uint32_t data)
{
	vm->count++;
	vm->addr = addr;
	vm->data = data;
}

static int fake_msi_new(struct cpu_msi **ret, struct cpu_vm *vm)
{
	*ret = calloc(1, sizeof(**ret));
	(*ret)->vm = vm;
	vm->sources++;
	return 0;
}

static void fake_msi_free(struct cpu_msi *m)
{
	m->vm->sources--;
	free(m);
}

static int fake_msi_set(struct cpu_msi *m, bool enable, uint64_t addr, uint32_t data)
{
	m->enable = enable;
	m->addr = addr;
	m->data = data;
	return 0;
}

static void fake_msi_raise(struct cpu_msi *m)
{
	if (m->enable)
		fake_signal(m->vm, m->addr, m->data);
}

static struct os_notifier *fake_msi_notifier(struct cpu_msi *m)
{
	return NULL;
}

static void fake_routes(struct cpu_vm *vm, const uint64_t *rte, unsigned n)
{
	vm->routes++;
}

UNUSED static const struct cpu_ops fake_cpu = {
	.name = "fake",
	.signal_msi = fake_signal,
	.msi_new = fake_msi_new,
	.msi_free = fake_msi_free,
	.msi_set = fake_msi_set,
	.msi_raise = fake_msi_raise,
	.msi_notifier = fake_msi_notifier,
	.ioapic_routes = fake_routes,
};

#endif
