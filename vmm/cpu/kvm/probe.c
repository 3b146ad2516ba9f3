/* SPDX-License-Identifier: MIT */
/*
 * Can this host's KVM run a stock kernel, at a speed worth having? That /dev/kvm opens says little: there are software
 * imitations behind which kernel code is emulated instruction by instruction, and not all of them.
 *
 * So a small guest is run (probe-guest.S), on the same code paths a real one takes: long mode with paging, SSE, a locked
 * 16-byte exchange, CPUID, MSRs, a page fault, a timer interrupt that ends HLT; then a loop, whose time is compared with
 * that of the same loop run by this process, and a series of exits. Times are only ever compared with times of the same
 * run. A helper thread ends it when it takes too long, whatever the guest does.
 */
#include "vmm/cpu/kvm/probe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "lib/base/le.h"
#include "lib/base/log.h"
#include "vmm/cpu/kvm/kvm.h"

extern const uint8_t kvm_probe_guest[], kvm_probe_guest_end[], kvm_probe_on_pf[],
	kvm_probe_on_timer[];
uint64_t kvm_probe_loop(uint64_t *buffer, uint64_t n);

enum {
	PML4 = 0x1000,
	PDPT = 0x2000,
	PD = 0x3000,
	GDT = 0x4000,
	IDT = 0x5000,
	/* A guest's loop is as fast as a process's on hardware, and hundreds of times slower where it is emulated. */
	MAX_LOOP_RATIO = 8,
};
#define RAM_SIZE   (2ull << 20)
#define TIME_LIMIT (10ull * 1000000000)

struct probe {
	struct cpu_vcpu *vcpu;
	unsigned step;
	bool done, bad;
	uint64_t start, loop_ns, exits_ns;
	struct os_event over;
	atomic_bool late;
};

static const char *const step_names[] = {
	[0] = "entering the guest",
	[PROBE_LONG_MODE] = "64-bit paging",
	[PROBE_SSE] = "SSE arithmetic",
	[PROBE_CX16] = "lock cmpxchg16b",
	[PROBE_CPUID] = "CPUID",
	[PROBE_MSR] = "MSRs and swapgs",
	[PROBE_FAULT] = "a page fault",
	[PROBE_TIMER] = "a timer interrupt in HLT",
	[PROBE_LOOP] = "a loop",
	[PROBE_LOOP_END] = "a loop",
	[PROBE_EXITS] = "exits",
	[PROBE_EXITS_END] = "exits",
};

static void port_out(void *ctx, uint16_t port, unsigned len, uint32_t val)
{
	struct probe *p = ctx;
	uint64_t now = os_now(), took = now - p->start;

	if (port == PROBE_PORT_NONE)
		return;
	if (port != PROBE_PORT_STEP || val >= ARRAY_LEN(step_names)) {
		p->bad = true;
	} else if (val == 0) {
		p->done = true;
	} else {
		p->step = val;
		if (val == PROBE_LOOP_END)
			p->loop_ns = MIN(p->loop_ns, took);
		if (val == PROBE_EXITS_END)
			p->exits_ns = took;
		p->start = os_now();
		return;
	}
	kvm_vcpu_kick(p->vcpu);
}

static uint32_t port_in(void *ctx, uint16_t port, unsigned len)
{
	return ~0u;
}

static uint64_t mmio_read(void *ctx, gpa_t gpa, unsigned len)
{
	return ~0ull;
}

/* The guest has no business outside its memory. */
static void mmio_write(void *ctx, gpa_t gpa, unsigned len, uint64_t val)
{
	struct probe *p = ctx;

	p->bad = true;
	kvm_vcpu_kick(p->vcpu);
}

static void watchdog(void *ctx)
{
	struct probe *p = ctx;

	if (!os_event_wait(&p->over, os_now() + TIME_LIMIT)) {
		atomic_store(&p->late, true);
		kvm_vcpu_kick(p->vcpu);
	}
}

static void put_gate(uint8_t *idt, unsigned vector, uint64_t addr)
{
	uint8_t *g = idt + vector * 16;

	le16_put(g, addr);
	le16_put(g + 2, 0x08);
	le16_put(g + 4, 0x8e00); /* present, 64-bit interrupt gate */
	le16_put(g + 6, addr >> 16);
	le32_put(g + 8, addr >> 32);
}

static void fill_memory(struct gmem *gm)
{
	uint8_t *m = gmem_ptr(gm, 0, RAM_SIZE);
	uint64_t code = (uintptr_t)kvm_probe_guest;

	le64_put(m + PML4, PDPT | 3);
	le64_put(m + PDPT, PD | 3);
	le64_put(m + PD, 0x83); /* one page of 2 MiB */
	le64_put(m + GDT + 0x08, 0x00af9b000000ffff);
	le64_put(m + GDT + 0x10, 0x00cf93000000ffff);
	put_gate(m + IDT, 14, PROBE_CODE + (uintptr_t)kvm_probe_on_pf - code);
	put_gate(m + IDT, PROBE_TIMER_VECTOR, PROBE_CODE + (uintptr_t)kvm_probe_on_timer - code);
	memcpy(m + PROBE_CODE, kvm_probe_guest, kvm_probe_guest_end - kvm_probe_guest);
}

static int enter(struct cpu_vcpu *v, struct err *e)
{
	cleanup_free struct cpu_state *s = calloc(1, sizeof(*s));
	struct cpu_msr msrs[CPU_MAX_MSRS];
	unsigned n = 0;
	int r = s ? kvm_get_state(v, s, msrs, &n) : -ENOMEM;

	if (r < 0)
		return err_sys(e, r, "KVM: read a vCPU's state");
	s->rip = PROBE_CODE;
	s->rflags = 2;
	s->gpr[CPU_RSP] = PROBE_STACK;
	s->cr0 = 0x80050033;
	s->cr3 = PML4;
	s->cr4 = 0x620;	 /* PAE, OSFXSR, OSXMMEXCPT */
	s->efer = 0xd00; /* LME, LMA, NXE */
	s->gdtr.base = GDT;
	s->gdtr.limit = 0x17;
	s->idtr.base = IDT;
	s->idtr.limit = 0xfff;
	for (unsigned i = 0; i < CPU_NSEGS; i++)
		s->seg[i] = (struct cpu_seg){.limit = 0xffffffff, .selector = 0x10, .attr = 0xc093};
	s->seg[CPU_CS] = (struct cpu_seg){.limit = 0xffffffff, .selector = 0x08, .attr = 0xa09b};
	s->tr.attr = 0x8b;
	r = kvm_set_state(v, s, NULL, 0);
	return r < 0 ? err_sys(e, r, "KVM: set a vCPU's state") : 0;
}

static int run_guest(struct probe *p, struct err *e)
{
	struct os_thread *t;
	struct err why = {0};
	enum cpu_exit x;
	int r = os_thread_start(&t, "probe", watchdog, p);

	if (r < 0)
		return err_sys(e, r, "KVM: start a thread");
	do
		x = kvm_vcpu_run(p->vcpu, &why);
	while (x == CPU_EXIT_KICK && !p->done && !p->bad && !atomic_load(&p->late));
	os_event_set(&p->over);
	os_thread_join(t);
	if (p->done)
		return 0;
	if (p->bad)
		return err_set(e, -EIO, "this KVM gets %s wrong", step_names[p->step]);
	if (x == CPU_EXIT_FAIL)
		return err_set(e, -EIO, "this KVM fails at %s: %s", step_names[p->step], why.text);
	if (x == CPU_EXIT_TRIPLE_FAULT || x == CPU_EXIT_HALT)
		return err_set(e, -EIO, "this KVM fails at %s: the guest %s", step_names[p->step],
			x == CPU_EXIT_HALT ? "halted" : "shut down");
	return err_set(e, -ETIMEDOUT, "this KVM does not get past %s in %d s", step_names[p->step],
		(int)(TIME_LIMIT / 1000000000));
}

/* The same loop here; the fastest of as many rounds. */
static uint64_t run_natively(uint64_t *ret_sum)
{
	static _Thread_local uint64_t buffer[512];
	uint64_t best = UINT64_MAX;

	for (unsigned i = 0; i < PROBE_ROUNDS; i++) {
		uint64_t start = os_now(), took;

		*ret_sum = kvm_probe_loop(buffer, PROBE_LOOPS);
		took = os_now() - start;
		best = MIN(best, took);
	}
	return best;
}

static int judge(const struct probe *p, const struct gmem *gm, struct err *e)
{
	uint64_t want, got, native = MAX(run_natively(&want), 1u);
	int r = gmem_read(gm, PROBE_DATA, &got, sizeof(got));

	if (r < 0 || le64_get(&got) != want)
		return err_set(e, -EIO, "this KVM gets a loop wrong");
	log_debug("kvm", "probe: loop %llu us, natively %llu us; an exit takes %llu ns",
		(unsigned long long)p->loop_ns / 1000, (unsigned long long)native / 1000,
		(unsigned long long)p->exits_ns / PROBE_NEXITS);
	if (p->loop_ns / MAX_LOOP_RATIO > native)
		return err_set(e, -ETIME,
			"this KVM runs kernel code %llu times slower than the CPU: it is emulated",
			(unsigned long long)(p->loop_ns / native));
	return 0;
}

int kvm_probe(struct err *e)
{
	struct probe p = {.loop_ns = UINT64_MAX};
	struct cpu_io io = {
		.port_in = port_in,
		.port_out = port_out,
		.mmio_read = mmio_read,
		.mmio_write = mmio_write,
		.ctx = &p,
	};
	struct cpu_vm_config cfg = {.vcpus = 1, .io = &io};
	struct cpu_vm *vm = NULL;
	int r;

	r = gmem_new(&cfg.gm, RAM_SIZE);
	if (r < 0)
		return err_sys(e, r, "KVM: memory for the probe");
	os_event_init(&p.over);
	fill_memory(cfg.gm);
	r = cpu_kvm_ops.vm_new(&vm, &cfg, e);
	if (r == 0)
		r = kvm_vcpu_new(&p.vcpu, vm, 0, e);
	if (r == 0)
		r = enter(p.vcpu, e);
	if (r == 0)
		r = run_guest(&p, e);
	if (r == 0)
		r = judge(&p, cfg.gm, e);
	kvm_vcpu_free(p.vcpu);
	cpu_kvm_ops.vm_free(vm);
	os_event_done(&p.over);
	gmem_free(cfg.gm);
	return r;
}
