/* SPDX-License-Identifier: MIT */
/*
 * The CPU back end: what a virtual machine needs of a CPU, whoever provides it (KVM, our software
 * CPU, later the Windows Hypervisor Platform). vmm/core knows only this header; nothing above can
 * tell the back ends apart.
 *
 * Division of labour: the back end runs vCPUs and owns each vCPU's local APIC (in the kernel with
 * KVM's split irqchip, vmm/cpu/soft's own otherwise), CPUID, MSRs, the TSC and kvmclock. The
 * IOAPIC, MSI sources and every device are ours.
 *
 * A vCPU is created, reset and run by the thread that will run it, except where a function says
 * "any thread". Accesses to ports and to GPAs that are not RAM are made from inside run(), on the
 * vCPU's thread, through struct cpu_io: so run() always returns at an instruction boundary with the
 * whole architectural state in place, and that state can be saved right away.
 */
#ifndef WSLX_VMM_CORE_CPU_H
#define WSLX_VMM_CORE_CPU_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/base/err.h"
#include "vmm/core/gmem.h"

struct cpu_vm;	 /* a back end's virtual machine */
struct cpu_vcpu; /* a back end's virtual CPU */
struct cpu_msi;	 /* one message-signalled interrupt source */
struct os_notifier;
struct state_w;
struct state_r;

enum { CPU_MAX_VCPUS = 64 };

/* Why run() came back. */
enum cpu_exit {
	CPU_EXIT_KICK, /* kick() was called, or a signal arrived: look around and run again */
	CPU_EXIT_HALT, /* the guest halted with interrupts off on every path: it will never run
			  again */
	CPU_EXIT_TRIPLE_FAULT, /* the CPU shut down; the guest asked for a reset the hard way */
	CPU_EXIT_FAIL,	       /* the back end cannot go on; struct err says why */
};

/* The machine's side of the bus. Called on a vCPU's thread from inside run(); len is 1, 2, 4 or 8
 * (ports: 1, 2, 4). */
struct cpu_io {
	uint32_t (*port_in)(void *ctx, uint16_t port, unsigned len);
	void (*port_out)(void *ctx, uint16_t port, unsigned len, uint32_t val);
	uint64_t (*mmio_read)(void *ctx, gpa_t gpa, unsigned len);
	void (*mmio_write)(void *ctx, gpa_t gpa, unsigned len, uint64_t val);
	/* A level-triggered vector was ended at a local APIC: the IOAPIC may have to raise it
	 * again. */
	void (*eoi)(void *ctx, uint8_t vector);
	void *ctx;
};

/* The architectural state of one vCPU, the same for every back end: what is saved, and what boot
 * code sets. */
struct cpu_seg {
	uint64_t base;
	uint32_t limit; /* in bytes, expanded */
	uint16_t selector;
	uint16_t attr; /* VMX access-rights layout: type 0-3, S 4, DPL 5-6, P 7, AVL 12, L 13, DB
			* 14, G 15; bit 16 of VMX ("unusable") is expressed by P = 0 */
};

enum { CPU_ES, CPU_CS, CPU_SS, CPU_DS, CPU_FS, CPU_GS, CPU_NSEGS };
enum { CPU_RAX, CPU_RCX, CPU_RDX, CPU_RBX, CPU_RSP, CPU_RBP, CPU_RSI, CPU_RDI };

enum cpu_run_state {
	CPU_RUNNABLE,
	CPU_HALTED,    /* in HLT, waiting for an interrupt */
	CPU_WAIT_SIPI, /* application processor not started (INIT state) */
};

struct cpu_state {
	uint64_t gpr[16]; /* hardware order: rax rcx rdx rbx rsp rbp rsi rdi r8 ... r15 */
	uint64_t rip, rflags;
	struct cpu_seg seg[CPU_NSEGS], ldtr, tr;
	struct {
		uint64_t base;
		uint16_t limit;
	} gdtr, idtr;
	uint64_t cr0, cr2, cr3, cr4, cr8, efer, xcr0;
	uint64_t dr[8];
	uint8_t xsave[4096]; /* standard (not compacted) XSAVE format, SDM vol. 1 §13.4 */
	enum cpu_run_state run;
	bool nmi_pending, nmi_masked, int_shadow;
	bool exc_pending; /* an exception accepted but not yet delivered */
	uint8_t exc_vector;
	bool exc_has_error;
	uint32_t exc_error;
	uint8_t lapic[1024]; /* register page as KVM_GET_LAPIC gives it: register N at offset N * 16
			      */
};

/* MSRs travel as a list beside struct cpu_state; back ends say which they keep. */
struct cpu_msr {
	uint32_t index;
	uint64_t value;
};
enum { CPU_MAX_MSRS = 128 };

struct cpu_vm_config {
	struct gmem *gm;	 /* borrowed; outlives the VM */
	unsigned vcpus;		 /* 1..CPU_MAX_VCPUS */
	const struct cpu_io *io; /* borrowed; outlives the VM */
};

struct cpu_ops {
	const char *name; /* "kvm", "soft" */

	/*
	 * Can this back end run a stock kernel here? Runs guest code. 0; -ETIME: yes, but slower than hardware would;
	 * any other negative errno: no. The reason is in e.
	 */
	int (*probe)(struct err *e);

	int (*vm_new)(struct cpu_vm **ret, const struct cpu_vm_config *cfg, struct err *e);
	void (*vm_free)(struct cpu_vm *vm); /* after all vCPUs are freed */

	/*
	 * Creates vCPU number index (= APIC id). vCPU 0 starts runnable, the others in
	 * CPU_WAIT_SIPI; a SIPI or the ACPI wake-up mailbox (see vcpu loop) starts them.
	 */
	int (*vcpu_new)(struct cpu_vcpu **ret, struct cpu_vm *vm, unsigned index, struct err *e);
	void (*vcpu_free)(struct cpu_vcpu *v);

	/* Runs until something needs the caller. A halted vCPU sleeps inside. */
	enum cpu_exit (*run)(struct cpu_vcpu *v, struct err *e);
	/* Makes run() return CPU_EXIT_KICK soon, or at once if it is entered next. Any thread. */
	void (*kick)(struct cpu_vcpu *v);

	/* Whole architectural state; the vCPU must not be in run(). get fills msrs[0..*n). */
	int (*get_state)(
		struct cpu_vcpu *v, struct cpu_state *s, struct cpu_msr *msrs, unsigned *n);
	int (*set_state)(struct cpu_vcpu *v, const struct cpu_state *s, const struct cpu_msr *msrs,
		unsigned n);

	/* Delivers the MSI {addr, data} (SDM vol. 3 §11.11) to local APICs. Any thread. */
	void (*signal_msi)(struct cpu_vm *vm, uint64_t addr, uint32_t data);

	/*
	 * A fixed MSI source that is raised often: msi_set() says what it sends (enable = false:
	 * nothing; raising it then is lost), msi_raise() sends it. With KVM this is an irqfd on a
	 * routed GSI, so that another process can raise it through msi_notifier(); a back end
	 * without such a thing returns NULL there. Any thread.
	 */
	int (*msi_new)(struct cpu_msi **ret, struct cpu_vm *vm);
	void (*msi_free)(struct cpu_msi *m);
	int (*msi_set)(struct cpu_msi *m, bool enable, uint64_t addr, uint32_t data);
	void (*msi_raise)(struct cpu_msi *m);
	struct os_notifier *(*msi_notifier)(struct cpu_msi *m);

	/*
	 * Writes of len bytes to gpa (or to a port, is_port) signal n instead of reaching cpu_io;
	 * datamatch: only this value (UINT64_MAX: any). -EOPNOTSUPP where the back end has no such
	 * thing: the caller then does it in cpu_io.
	 */
	int (*ioevent)(struct cpu_vm *vm, gpa_t gpa, unsigned len, bool is_port, uint64_t datamatch,
		struct os_notifier *n, bool add);

	/* VM-wide state that is not any vCPU's (the clock). */
	void (*vm_save)(struct cpu_vm *vm, struct state_w *w);
	int (*vm_load)(struct cpu_vm *vm, struct state_r *r);

	/* Guest memory has got one more window (gmem_add_window()): the last of them. Before a vCPU runs. */
	int (*window)(struct cpu_vm *vm);

	/* Pages written by vCPUs since the last call are reported through gmem_mark_dirty(). Vcpus
	 * must be stopped. */
	int (*dirty_sync)(struct cpu_vm *vm);

	/* The level of the vector's level-triggered IOAPIC routes, so that EOIs exit (KVM split
	 * irqchip). May be NULL. */
	void (*ioapic_routes)(struct cpu_vm *vm, const uint64_t *rte, unsigned n);
};

extern const struct cpu_ops cpu_kvm_ops;
extern const struct cpu_ops cpu_soft_ops;

#endif
