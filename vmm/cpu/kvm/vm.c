/* SPDX-License-Identifier: MIT */
/*
 * A virtual machine of the KVM back end, and the table of its operations (vmm/core/cpu.h).
 *
 * Interrupts: KVM has the local APICs, we have the IOAPIC ("split irqchip"). KVM learns the IOAPIC's routes only to
 * report ends of level-triggered interrupts. An MSI source is an eventfd bound to a GSI (irqfd) whose route is the
 * message; KVM's routing table is replaced as a whole, under vm->lock.
 */
#include "vmm/cpu/kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "lib/base/log.h"
#include "lib/os/notifier.h"
#include "vmm/core/state.h"

int kvm_ioctl(int fd, unsigned long req, void *arg)
{
	int r;

	do
		r = ioctl(fd, req, arg);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

int kvm_ioctl_val(int fd, unsigned long req, unsigned long arg)
{
	int r;

	do
		r = ioctl(fd, req, arg);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

int kvm_cap(int fd, unsigned cap)
{
	int r = kvm_ioctl_val(fd, KVM_CHECK_EXTENSION, cap);

	return r < 0 ? 0 : r;
}

int kvm_open(int *ret, const char *path, struct err *e)
{
	static const struct {
		unsigned cap;
		const char *name;
	} required[] = {
		{KVM_CAP_USER_MEMORY, "memory slots"},
		{KVM_CAP_SPLIT_IRQCHIP, "a split interrupt controller"},
		{KVM_CAP_IRQFD, "irqfd"},
		{KVM_CAP_IRQ_ROUTING, "interrupt routing"},
		{KVM_CAP_SIGNAL_MSI, "message-signalled interrupts"},
		{KVM_CAP_IOEVENTFD, "ioeventfd"},
		{KVM_CAP_IMMEDIATE_EXIT, "immediate exits"},
		{KVM_CAP_MP_STATE, "run states"},
		{KVM_CAP_VCPU_EVENTS, "pending events"},
		{KVM_CAP_DEBUGREGS, "debug registers"},
		{KVM_CAP_XSAVE, "extended registers"},
	};
	cleanup_close int fd = open(path, O_RDWR | O_CLOEXEC);
	int r;

	if (fd < 0) {
		r = -errno;
		if (r == -ENOENT || r == -ENODEV || r == -ENXIO)
			return err_set(
				e, r, "%s: this machine offers no hardware virtualization", path);
		if (r == -EACCES || r == -EPERM)
			return err_set(e, r,
				"%s: permission denied (members of group \"kvm\" may use it)",
				path);
		return err_sys(e, r, "%s", path);
	}
	r = kvm_ioctl_val(fd, KVM_GET_API_VERSION, 0);
	if (r != KVM_API_VERSION)
		return err_set(e, -EOPNOTSUPP, "%s: does not speak KVM's interface", path);
	for (size_t i = 0; i < ARRAY_LEN(required); i++)
		if (kvm_cap(fd, required[i].cap) <= 0)
			return err_set(
				e, -EOPNOTSUPP, "%s: this KVM lacks %s", path, required[i].name);
	*ret = take_fd(fd);
	return 0;
}

/* --- memory --- */

static int set_slots(struct cpu_vm *vm, bool logging)
{
	const struct gmem_region *reg;
	size_t n = gmem_regions(vm->gm, &reg);

	for (size_t i = 0; i < n; i++) {
		struct kvm_userspace_memory_region slot = {
			.slot = i,
			.flags = logging ? KVM_MEM_LOG_DIRTY_PAGES : 0,
			.guest_phys_addr = reg[i].gpa,
			.memory_size = reg[i].size,
			.userspace_addr = (uintptr_t)reg[i].hva,
		};
		int r = kvm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &slot);

		if (r < 0)
			return r;
	}
	vm->logging = logging;
	return 0;
}

/* The slots behind RAM's. What is behind the addresses may change at any time. */
static int kvm_window(struct cpu_vm *vm)
{
	const struct gmem_region *ram, *w;
	size_t n = gmem_regions(vm->gm, &ram), k = gmem_windows(vm->gm, &w) - 1;
	struct kvm_userspace_memory_region slot = {
		.slot = (uint32_t)(n + k),
		.guest_phys_addr = w[k].gpa,
		.memory_size = w[k].size,
		.userspace_addr = (uintptr_t)w[k].hva,
	};

	return kvm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &slot);
}

/*
 * Logging slows the guest down (it maps memory page by page), so it begins with the first question; the honest answer
 * to that one is "all of them".
 */
static int kvm_dirty_sync(struct cpu_vm *vm)
{
	const struct gmem_region *reg;
	size_t n = gmem_regions(vm->gm, &reg);
	int r;

	if (!vm->logging) {
		r = set_slots(vm, true);
		if (r < 0)
			return r;
		for (size_t i = 0; i < n; i++)
			for (uint64_t off = 0; off < reg[i].size; off += GMEM_PAGE_SIZE)
				gmem_mark_dirty(vm->gm, reg[i].gpa + off);
		return 0;
	}
	for (size_t i = 0; i < n; i++) {
		uint64_t pages = reg[i].size >> GMEM_PAGE_SHIFT, words = (pages + 63) / 64;
		cleanup_free uint64_t *bits = calloc(words, sizeof(*bits));
		struct kvm_dirty_log log = {.slot = i, .dirty_bitmap = bits};

		if (!bits)
			return -ENOMEM;
		r = kvm_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log);
		if (r < 0)
			return r;
		for (uint64_t w = 0; w < words; w++)
			for (uint64_t left = bits[w]; left; left &= left - 1)
				gmem_mark_dirty(
					vm->gm, reg[i].gpa + ((w * 64 + __builtin_ctzll(left))
								     << GMEM_PAGE_SHIFT));
	}
	return 0;
}

/* --- interrupts --- */

static void route_msi(struct kvm_irq_routing_entry *e, unsigned gsi, uint64_t addr, uint32_t data)
{
	*e = (struct kvm_irq_routing_entry){.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI};
	e->u.msi.address_lo = addr;
	e->u.msi.address_hi = addr >> 32;
	e->u.msi.data = data;
}

/* Redirection table entry (82093AA §3.2.4) to message. */
static void route_rte(struct kvm_irq_routing_entry *e, unsigned gsi, uint64_t rte)
{
	uint64_t addr = 0xfee00000 | (rte >> 56) << 12 | (rte >> 11 & 1) << 2;
	uint32_t data = (rte & 0xff) | (rte >> 8 & 7) << 8 | (rte >> 15 & 1) << 15;

	route_msi(e, gsi, addr, data);
}

/* Tells KVM all routes anew; vm->lock is held. */
static int push_routes(struct cpu_vm *vm)
{
	enum { RTE_MASKED = 1 << 16 };
	unsigned n = 0;

	for (unsigned i = 0; i < vm->nrte; i++)
		if (!(vm->rte[i] & RTE_MASKED))
			route_rte(&vm->routing->entries[n++], i, vm->rte[i]);
	for (unsigned i = KVM_IOAPIC_PINS; i < KVM_MAX_GSIS; i++) {
		const struct cpu_msi *m = vm->msi[i];

		if (m && m->enabled)
			route_msi(&vm->routing->entries[n++], i, m->addr, m->data);
	}
	vm->routing->nr = n;
	return kvm_ioctl(vm->fd, KVM_SET_GSI_ROUTING, vm->routing);
}

static void kvm_ioapic_routes(struct cpu_vm *vm, const uint64_t *rte, unsigned n)
{
	OS_GUARD(&vm->lock);
	int r;

	vm->nrte = MIN(n, (unsigned)KVM_IOAPIC_PINS);
	memcpy(vm->rte, rte, vm->nrte * sizeof(*rte));
	r = push_routes(vm);
	if (r < 0)
		log_debug("kvm", "interrupt routes: %s", strerror(-r));
}

static void kvm_signal_msi(struct cpu_vm *vm, uint64_t addr, uint32_t data)
{
	struct kvm_msi msi = {.address_lo = addr, .address_hi = addr >> 32, .data = data};

	/* A message nobody accepts is lost, as on a bus. */
	kvm_ioctl(vm->fd, KVM_SIGNAL_MSI, &msi);
}

static int irqfd(struct cpu_msi *m, unsigned flags)
{
	struct kvm_irqfd f = {.fd = os_notifier_fd(m->n), .gsi = m->gsi, .flags = flags};

	return kvm_ioctl(m->vm->fd, KVM_IRQFD, &f);
}

static int kvm_msi_new(struct cpu_msi **ret, struct cpu_vm *vm)
{
	struct cpu_msi *m = calloc(1, sizeof(*m));
	unsigned gsi;
	int r;

	if (!m)
		return -ENOMEM;
	m->vm = vm;
	r = os_notifier_new(&m->n);
	if (r < 0) {
		free(m);
		return r;
	}
	OS_GUARD(&vm->lock);
	for (gsi = KVM_IOAPIC_PINS; gsi < KVM_MAX_GSIS && vm->msi[gsi]; gsi++)
		;
	m->gsi = gsi;
	r = gsi < KVM_MAX_GSIS ? irqfd(m, 0) : -ENOSPC;
	if (r < 0) {
		os_notifier_free(m->n);
		free(m);
		return r;
	}
	vm->msi[gsi] = m;
	*ret = m;
	return 0;
}

static void kvm_msi_free(struct cpu_msi *m)
{
	struct cpu_vm *vm;

	if (!m)
		return;
	vm = m->vm;
	irqfd(m, KVM_IRQFD_FLAG_DEASSIGN);
	os_mutex_lock(&vm->lock);
	vm->msi[m->gsi] = NULL;
	if (m->enabled)
		push_routes(vm);
	os_mutex_unlock(&vm->lock);
	os_notifier_free(m->n);
	free(m);
}

static int kvm_msi_set(struct cpu_msi *m, bool enable, uint64_t addr, uint32_t data)
{
	OS_GUARD(&m->vm->lock);

	if (m->enabled == enable && (!enable || (m->addr == addr && m->data == data)))
		return 0;
	m->enabled = enable;
	m->addr = addr;
	m->data = data;
	return push_routes(m->vm);
}

static void kvm_msi_raise(struct cpu_msi *m)
{
	os_notifier_signal(m->n);
}

static struct os_notifier *kvm_msi_notifier(struct cpu_msi *m)
{
	return m->n;
}

static int kvm_ioevent(struct cpu_vm *vm, gpa_t gpa, unsigned len, bool is_port, uint64_t datamatch,
	struct os_notifier *n, bool add)
{
	struct kvm_ioeventfd ev = {
		.addr = gpa,
		.len = len,
		.fd = os_notifier_fd(n),
		.flags = (is_port ? KVM_IOEVENTFD_FLAG_PIO : 0) |
			 (add ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	if (datamatch != UINT64_MAX) {
		ev.datamatch = datamatch;
		ev.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
	}
	return kvm_ioctl(vm->fd, KVM_IOEVENTFD, &ev);
}

/* --- the clock --- */

/* Section "clock", the same for every back end: nanoseconds of the guest's paravirtual clock. */
static void kvm_vm_save(struct cpu_vm *vm, struct state_w *w)
{
	struct kvm_clock_data c = {0};

	kvm_ioctl(vm->fd, KVM_GET_CLOCK, &c);
	state_begin(w, "clock", 1);
	state_put_u64(w, c.clock);
	state_end(w);
}

static int kvm_vm_load(struct cpu_vm *vm, struct state_r *r)
{
	struct kvm_clock_data c = {0};

	state_enter(r, "clock", 1);
	c.clock = state_get_u64(r);
	state_leave(r);
	if (state_check(r, NULL) < 0)
		return -EBADMSG;
	return kvm_ioctl(vm->fd, KVM_SET_CLOCK, &c);
}

/* --- life --- */

static int enable_cap(int fd, unsigned cap, uint64_t arg)
{
	struct kvm_enable_cap c = {.cap = cap, .args = {arg}};

	return kvm_ioctl(fd, KVM_ENABLE_CAP, &c);
}

static void kvm_vm_free(struct cpu_vm *vm)
{
	if (!vm)
		return;
	if (vm->fd >= 0)
		close(vm->fd);
	if (vm->kvm_fd >= 0)
		close(vm->kvm_fd);
	os_mutex_done(&vm->lock);
	free(vm->routing);
	free(vm->cpuid);
	free(vm->msrs);
	free(vm);
}

static int setup(struct cpu_vm *vm, struct err *e)
{
	int r;

	r = kvm_ioctl_val(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (r < 0)
		return err_sys(e, r, "size of a vCPU's shared page");
	vm->run_size = r;
	r = kvm_ioctl_val(vm->kvm_fd, KVM_CREATE_VM, 0);
	if (r < 0)
		return err_sys(e, r, "KVM: create a virtual machine");
	vm->fd = r;
	r = kvm_cap(vm->fd, KVM_CAP_MAX_VCPUS);
	if (r > 0 && vm->vcpus > (unsigned)r)
		return err_set(e, -EINVAL, "KVM: %u vCPUs asked for, this host's limit is %d",
			vm->vcpus, r);
	/* Three pages that Intel's KVM needs for real mode, where no RAM or device is. */
	kvm_ioctl_val(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000);
	r = enable_cap(vm->fd, KVM_CAP_SPLIT_IRQCHIP, KVM_IOAPIC_PINS);
	if (r < 0)
		return err_sys(e, r, "KVM: split interrupt controller");
	/* Without these two, APIC number 255 would mean "everyone" and numbers above it nobody. */
	if (kvm_cap(vm->fd, KVM_CAP_X2APIC_API))
		enable_cap(vm->fd, KVM_CAP_X2APIC_API,
			KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
	/* A local APIC starts with LINT0 masked, as hardware does; nothing is wired to it. */
	if (kvm_cap(vm->fd, KVM_CAP_DISABLE_QUIRKS))
		enable_cap(vm->fd, KVM_CAP_DISABLE_QUIRKS, KVM_X86_QUIRK_LINT0_REENABLED);
	vm->xcrs = kvm_cap(vm->fd, KVM_CAP_XCRS);
	r = set_slots(vm, false);
	if (r < 0)
		return err_sys(e, r, "KVM: guest memory");
	r = push_routes(vm);
	if (r < 0)
		return err_sys(e, r, "KVM: interrupt routes");
	r = kvm_cpuid_supported(vm, e);
	return r < 0 ? r : kvm_msr_list(vm, e);
}

static int kvm_vm_new(struct cpu_vm **ret, const struct cpu_vm_config *cfg, struct err *e)
{
	struct cpu_vm *vm = calloc(1, sizeof(*vm));
	int r;

	if (!vm)
		return err_sys(e, -ENOMEM, "KVM");
	vm->kvm_fd = vm->fd = -1;
	vm->gm = cfg->gm;
	vm->io = cfg->io;
	vm->vcpus = cfg->vcpus;
	os_mutex_init(&vm->lock);
	vm->routing = calloc(
		1, sizeof(*vm->routing) + KVM_MAX_GSIS * sizeof(struct kvm_irq_routing_entry));
	r = vm->routing ? kvm_open(&vm->kvm_fd, "/dev/kvm", e) : err_sys(e, -ENOMEM, "KVM");
	if (r == 0)
		r = setup(vm, e);
	if (r < 0) {
		kvm_vm_free(vm);
		return r;
	}
	*ret = vm;
	return 0;
}

const struct cpu_ops cpu_kvm_ops = {
	.name = "kvm",
	.probe = kvm_probe,
	.vm_new = kvm_vm_new,
	.vm_free = kvm_vm_free,
	.vcpu_new = kvm_vcpu_new,
	.vcpu_free = kvm_vcpu_free,
	.run = kvm_vcpu_run,
	.kick = kvm_vcpu_kick,
	.get_state = kvm_get_state,
	.set_state = kvm_set_state,
	.signal_msi = kvm_signal_msi,
	.msi_new = kvm_msi_new,
	.msi_free = kvm_msi_free,
	.msi_set = kvm_msi_set,
	.msi_raise = kvm_msi_raise,
	.msi_notifier = kvm_msi_notifier,
	.ioevent = kvm_ioevent,
	.vm_save = kvm_vm_save,
	.vm_load = kvm_vm_load,
	.window = kvm_window,
	.dirty_sync = kvm_dirty_sync,
	.ioapic_routes = kvm_ioapic_routes,
};
