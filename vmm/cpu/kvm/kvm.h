/* SPDX-License-Identifier: MIT */
/*
 * Inside the KVM back end: what its files share.
 *
 *	vm.c     the virtual machine: memory slots, interrupt routes, MSIs, ioeventfds, clock, dirty log
 *	vcpu.c   one virtual CPU: creation, the run loop, kicks
 *	cpuid.c  what the guest is told about its CPU
 *	state.c  the architectural state, out of KVM and into it
 *	probe.c  can this host's KVM run a stock kernel?
 *
 * Facts about the interface are from the kernel's Documentation/virt/kvm/api.rst.
 */
#ifndef WSLX_VMM_CPU_KVM_KVM_H
#define WSLX_VMM_CPU_KVM_KVM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "lib/base/cleanup.h"
#include "lib/os/thread.h"
#include "vmm/core/cpu.h"

/* GSIs below are the IOAPIC's pins (KVM must know their routes to report EOIs); MSIs follow. */
enum { KVM_IOAPIC_PINS = 24, KVM_MAX_GSIS = 1024 };

struct cpu_msi {
	struct cpu_vm *vm;
	struct os_notifier *n;
	unsigned gsi;
	bool enabled;
	uint64_t addr;
	uint32_t data;
};

struct cpu_vm {
	int kvm_fd, fd;
	struct gmem *gm;
	const struct cpu_io *io;
	unsigned vcpus;
	size_t run_size;
	struct kvm_cpuid2 *cpuid; /* what KVM supports, before the parts that differ by vCPU */
	uint32_t *msrs;		  /* which MSRs KVM can save, of those we would; owned */
	unsigned nmsrs;
	bool logging; /* the slots log dirty pages */
	bool xcrs;

	struct os_mutex lock; /* protects what follows */
	struct cpu_msi *msi[KVM_MAX_GSIS];
	uint64_t rte[KVM_IOAPIC_PINS];
	unsigned nrte;
	struct kvm_irq_routing *routing; /* scratch, KVM_MAX_GSIS entries */
};

struct cpu_vcpu {
	struct cpu_vm *vm;
	int fd;
	unsigned index;
	struct kvm_run *run;
	pthread_t thread;
};

/* ioctl() that is not cut short by signals; negative errno. */
int kvm_ioctl(int fd, unsigned long req, void *arg);
int kvm_ioctl_val(int fd, unsigned long req, unsigned long arg);
/* The capability's value; 0 when absent. fd: of /dev/kvm or of a VM. */
int kvm_cap(int fd, unsigned cap);
/* Opens path (/dev/kvm) and checks what this back end cannot do without. */
int kvm_open(int *ret, const char *path, struct err *e);

/* cpuid.c */
void kvm_cpuid_filter(struct kvm_cpuid2 *c,
	unsigned vcpus); /* in place: what KVM supports to what guests are told */
int kvm_cpuid_supported(struct cpu_vm *vm, struct err *e);
int kvm_cpuid_set(struct cpu_vcpu *v, struct err *e);

/* state.c */
int kvm_msr_list(struct cpu_vm *vm, struct err *e);
int kvm_get_state(struct cpu_vcpu *v, struct cpu_state *s, struct cpu_msr *msrs, unsigned *n);
int kvm_set_state(
	struct cpu_vcpu *v, const struct cpu_state *s, const struct cpu_msr *msrs, unsigned n);

/* vcpu.c */
int kvm_vcpu_new(struct cpu_vcpu **ret, struct cpu_vm *vm, unsigned index, struct err *e);
void kvm_vcpu_free(struct cpu_vcpu *v);
enum cpu_exit kvm_vcpu_run(struct cpu_vcpu *v, struct err *e);
void kvm_vcpu_kick(struct cpu_vcpu *v);

/* probe.c */
int kvm_probe(struct err *e);

#endif
