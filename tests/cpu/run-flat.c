/* SPDX-License-Identifier: MIT */
/*
 * run-flat --engine soft|jit|check|kvm [--vcpus N] BLOB
 *
 * Runs a flat blob (tests/cpu/asm) on a bare virtual machine made of guest memory and a CPU back end, nothing else: every
 * vCPU starts at 1 MiB in 64-bit mode with the registers that asm/case.h says. A write to the exit port ends the run;
 * 0 is success, else the line of the failed check. Exit status: 0, 1, 2 for "cannot run", 77 when there is no such engine here.
 */
#include <cpuid.h>
#include <getopt.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/os/thread.h"
#include "vmm/cpu/soft/jit/jit.h"
#include "vmm/core/cpu.h"

enum {
	RAM = 64 << 20,
	TIMEOUT_S = 120,
	PML4 = 0x1000,
	PDPT = 0x2000,
	PD = 0x3000,
	GDT = 0x4000,
	BLOB = 0x100000,
	BLOB_MAX = 0x100000,
	STACK = 0x3f0000,
	MAPPED_MB = 16,
	EXIT_PORT = 0xf4,
};

struct machine {
	const struct cpu_ops *ops;
	struct gmem *gm;
	struct cpu_vm *vm;
	struct cpu_vcpu *vcpu[CPU_MAX_VCPUS]; /* each set by its own thread */
	unsigned vcpus;
	_Atomic unsigned ready;
	_Atomic bool done;
	_Atomic uint32_t result;
};

struct job {
	struct machine *m;
	unsigned index;
};

static void finish(struct machine *m, uint32_t result)
{
	if (!atomic_exchange(&m->done, true))
		atomic_store(&m->result, result);
	for (unsigned k = 0; k < m->vcpus; k++)
		if (m->vcpu[k])
			m->ops->kick(m->vcpu[k]);
}

static uint32_t port_in(void *ctx, uint16_t port, unsigned len)
{
	return 0xffffffff;
}

static void port_out(void *ctx, uint16_t port, unsigned len, uint32_t val)
{
	if (port == EXIT_PORT)
		finish(ctx, val);
}

static uint64_t mmio_read(void *ctx, gpa_t gpa, unsigned len)
{
	return UINT64_MAX;
}

static void mmio_write(void *ctx, gpa_t gpa, unsigned len, uint64_t val)
{
}

static void eoi(void *ctx, uint8_t vector)
{
}

static void fill_tables(struct machine *m)
{
	static const uint64_t gdt[3] = {0, 0x00af9b000000ffff, 0x00cf93000000ffff};
	uint64_t *pml4 = gmem_ptr(m->gm, PML4, 4096), *pdpt = gmem_ptr(m->gm, PDPT, 4096);
	uint64_t *pd = gmem_ptr(m->gm, PD, 4096);

	pml4[0] = PDPT | 3;
	pdpt[0] = PD | 3;
	for (unsigned k = 0; k < MAPPED_MB / 2; k++)
		pd[k] = (uint64_t)k << 21 | 0x83;
	memcpy(gmem_ptr(m->gm, GDT, 4096), gdt, sizeof(gdt));
}

/* The lab's processor is QEMU's TCG; cases leave out what it is known not to do (REAL in asm/case.h). */
static bool host_is_tcg(void)
{
	unsigned a = 0, b = 0, c = 0, d = 0;

	return __get_cpuid(0x80000002, &a, &b, &c, &d) && a == 0x554d4551 && b == 0x47435420;
}

static void fill_state(struct cpu_state *s, unsigned index, unsigned vcpus)
{
	for (int k = 0; k < CPU_NSEGS; k++)
		s->seg[k] = (struct cpu_seg){.limit = 0xffffffff, .selector = 0x10, .attr = 0xc093};
	s->seg[CPU_CS] = (struct cpu_seg){.limit = 0xffffffff, .selector = 8, .attr = 0xa09b};
	s->tr = (struct cpu_seg){.limit = 0x67, .selector = 0, .attr = 0x8b};
	s->ldtr = (struct cpu_seg){0};
	s->gdtr.base = GDT;
	s->gdtr.limit = 23;
	s->idtr.base = 0;
	s->idtr.limit = 0;
	s->cr0 = 0x80000031; /* PG, NE, ET, PE */
	s->cr3 = PML4;
	s->cr4 = 0x620;	 /* PAE, OSFXSR, OSXMMEXCPT */
	s->efer = 0x500; /* LME, LMA */
	s->rflags = 2;
	s->rip = BLOB;
	memset(s->gpr, 0, sizeof(s->gpr));
	s->gpr[CPU_RSP] = STACK - index * 4096;
	s->gpr[CPU_RDI] = index;
	s->gpr[CPU_RSI] = vcpus;
	s->gpr[CPU_RDX] = host_is_tcg();
	s->run = CPU_RUNNABLE;
}

static void run_vcpu(void *ctx)
{
	static const char *const why[] = {
		"kick", "halted for ever", "triple fault", "back end failed"};
	struct job *j = ctx;
	struct machine *m = j->m;
	struct cpu_vcpu *v;
	struct cpu_state s;
	struct cpu_msr msrs[CPU_MAX_MSRS];
	unsigned n = CPU_MAX_MSRS;
	struct err e = {0};
	enum cpu_exit x = CPU_EXIT_FAIL;

	if (m->ops->vcpu_new(&v, m->vm, j->index, &e)) {
		fprintf(stderr, "vCPU %u: cannot create\n", j->index);
		finish(m, UINT32_MAX);
		atomic_fetch_add(&m->ready, 1);
		return;
	}
	m->vcpu[j->index] = v;
	if (m->ops->get_state(v, &s, msrs, &n) == 0) {
		fill_state(&s, j->index, m->vcpus);
		if (m->ops->set_state(v, &s, NULL, 0))
			finish(m, UINT32_MAX);
	}
	/* All vCPUs exist before the first one runs: kick() reaches every one. */
	atomic_fetch_add(&m->ready, 1);
	while (atomic_load(&m->ready) < m->vcpus)
		usleep(1000);
	while (!atomic_load(&m->done)) {
		x = m->ops->run(v, &e);
		if (x != CPU_EXIT_KICK && !atomic_load(&m->done)) {
			n = CPU_MAX_MSRS;
			m->ops->get_state(v, &s, msrs, &n);
			fprintf(stderr, "vCPU %u: %s at %#lx\n", j->index, why[x],
				(unsigned long)s.rip);
			finish(m, UINT32_MAX);
		}
	}
	/* Nobody kicks it any more once all are here. */
	atomic_fetch_add(&m->ready, 1);
	while (atomic_load(&m->ready) < 2 * m->vcpus)
		usleep(1000);
	m->ops->vcpu_free(v);
}

static int load(struct machine *m, const char *path)
{
	FILE *f = fopen(path, "re");
	size_t n;

	if (!f)
		return -1;
	n = fread(gmem_ptr(m->gm, BLOB, BLOB_MAX), 1, BLOB_MAX, f);
	fclose(f);
	return n ? 0 : -1;
}

static const struct cpu_ops *find_engine(const char *name)
{
	soft_jit_configure(!strcmp(name, "jit")	    ? JIT_ON
			   : !strcmp(name, "check") ? JIT_CHECK
						    : JIT_OFF,
		2);
	if (!strcmp(name, "soft") || !strcmp(name, "jit") || !strcmp(name, "check"))
		return &cpu_soft_ops;
#ifdef __linux__
	if (!strcmp(name, "kvm"))
		return &cpu_kvm_ops;
#endif
	return NULL;
}

int main(int argc, char **argv)
{
	static const struct option longopts[] = {
		{"engine", 1, NULL, 'e'}, {"vcpus", 1, NULL, 'n'}, {NULL, 0, NULL, 0}};
	static struct machine m = {.vcpus = 1};
	static struct os_thread *thread[CPU_MAX_VCPUS];
	static struct job job[CPU_MAX_VCPUS];
	struct cpu_io io = {port_in, port_out, mmio_read, mmio_write, eoi, &m};
	struct cpu_vm_config cfg = {.io = &io};
	const char *engine = "soft";
	struct err e = {0};
	int k;

	while ((k = getopt_long(argc, argv, "", longopts, NULL)) >= 0) {
		if (k == 'e')
			engine = optarg;
		else if (k == 'n')
			m.vcpus = (unsigned)strtoul(optarg, NULL, 0);
		else
			return 2;
	}
	m.ops = find_engine(engine);
	if (!m.ops || optind + 1 != argc || m.vcpus < 1 || m.vcpus > CPU_MAX_VCPUS) {
		fprintf(stderr, "usage: run-flat --engine soft|jit|check|kvm [--vcpus N] BLOB\n");
		return 2;
	}
	if (m.ops->probe(&e)) {
		fprintf(stderr, "run-flat: %s\n", e.text);
		return getenv("WSLX_LAB") ? 1 : 77; /* the lab is there to have it */
	}
	alarm(TIMEOUT_S);
	if (gmem_new(&m.gm, RAM) || load(&m, argv[optind])) {
		fprintf(stderr, "run-flat: cannot load %s\n", argv[optind]);
		return 2;
	}
	fill_tables(&m);
	cfg.gm = m.gm;
	cfg.vcpus = m.vcpus;
	if (m.ops->vm_new(&m.vm, &cfg, &e)) {
		fprintf(stderr, "run-flat: cannot create the virtual machine\n");
		return 2;
	}
	for (unsigned i = 0; i < m.vcpus; i++) {
		job[i] = (struct job){&m, i};
		if (os_thread_start(&thread[i], "vcpu", run_vcpu, &job[i]))
			return 2;
	}
	for (unsigned i = 0; i < m.vcpus; i++)
		os_thread_join(thread[i]);
	m.ops->vm_free(m.vm);
	gmem_free(m.gm);
	if (m.result)
		printf("%s: failed at line %u (%#x)\n", argv[optind], m.result, m.result);
	return m.result != 0;
}
