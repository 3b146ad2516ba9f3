/* SPDX-License-Identifier: MIT */
/* Doorbells that reach the loop without an exit, where the CPU back end can do it (vm.h). */
#include "vmm/core/vm.h"

#include <errno.h>
#include <stdlib.h>
#include "lib/os/notifier.h"
#include "vmm/core/vm-internal.h"

struct vm_ioevent {
	struct vm *vm;
	struct os_notifier *n;
	bool borrowed; /* the notifier is the caller's */
	bool placed;
	enum bus_kind kind;
	uint64_t addr, datamatch;
	unsigned len;
};

int vm_ioevent_new(struct vm_ioevent **ret, struct vm *vm, loop_fn fn, void *ctx)
{
	struct vm_ioevent *ev = calloc(1, sizeof(*ev));
	int r;

	if (!ev)
		return -ENOMEM;
	ev->vm = vm;
	r = os_notifier_new(&ev->n);
	if (r == 0)
		r = os_notifier_watch(ev->n, vm->cfg.loop, fn, ctx);
	if (r < 0) {
		vm_ioevent_free(ev);
		return r;
	}
	*ret = ev;
	return 0;
}

int vm_ioevent_to(struct vm_ioevent **ret, struct vm *vm, struct os_notifier *n)
{
	struct vm_ioevent *ev = calloc(1, sizeof(*ev));

	if (!ev)
		return -ENOMEM;
	*ev = (struct vm_ioevent){.vm = vm, .n = n, .borrowed = true};
	*ret = ev;
	return 0;
}

void vm_ioevent_free(struct vm_ioevent *ev)
{
	if (!ev)
		return;
	vm_ioevent_unplace(ev);
	if (ev->n && !ev->borrowed)
		os_notifier_free(ev->n);
	free(ev);
}

static int change(struct vm_ioevent *ev, bool add)
{
	return ev->vm->ops->ioevent(
		ev->vm->cpu, ev->addr, ev->len, ev->kind == BUS_PORT, ev->datamatch, ev->n, add);
}

int vm_ioevent_place(
	struct vm_ioevent *ev, enum bus_kind kind, uint64_t addr, unsigned len, uint64_t datamatch)
{
	int r;

	vm_ioevent_unplace(ev);
	if (!ev->vm->ops->ioevent)
		return -EOPNOTSUPP;
	ev->kind = kind;
	ev->addr = addr;
	ev->len = len;
	ev->datamatch = datamatch;
	r = change(ev, /* add= */ true);
	ev->placed = r == 0;
	return r;
}

void vm_ioevent_unplace(struct vm_ioevent *ev)
{
	if (!ev->placed)
		return;
	change(ev, /* add= */ false);
	ev->placed = false;
}
