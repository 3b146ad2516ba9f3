/* SPDX-License-Identifier: MIT */
#include "vmm/dump.h"

#include <elf.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/procfs.h>
#include <sys/user.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "vmm/snapshot.h"

enum { MAX_REGIONS = 4, DATA_ALIGN = 4096, MSR_KERNEL_GS_BASE = 0xc0000102 };

struct qemu_segment {
	uint32_t selector, limit, flags, pad;
	uint64_t base;
};

/* The note's layout, version 1, with the segments in the order cs ds es fs gs ss ldt tr gdt idt. */
struct qemu_cpu {
	uint32_t version, size;
	uint64_t gpr[16]; /* rax rbx rcx rdx rsi rdi rsp rbp r8 ... r15 */
	uint64_t rip, rflags;
	struct qemu_segment seg[10];
	uint64_t cr[5];
	uint64_t kernel_gs_base;
};
_Static_assert(sizeof(struct qemu_cpu) == 440, "the note's layout");

/* A vCPU's notes, each a header, a name and a description, one after the other. */
struct notes {
	Elf64_Nhdr prstatus_header;
	char prstatus_name[8];
	uint8_t prstatus[sizeof(struct elf_prstatus)];
	Elf64_Nhdr qemu_header;
	char qemu_name[8];
	uint8_t qemu[sizeof(struct qemu_cpu)];
};
_Static_assert(
	sizeof(struct notes) == 2 * 20 + sizeof(struct elf_prstatus) + sizeof(struct qemu_cpu) &&
		sizeof(struct elf_prstatus) % 4 == 0,
	"nothing is between them");

static void fill_prstatus(struct elf_prstatus *p, const struct cpu_state *s, unsigned vcpu)
{
	struct user_regs_struct r = {.r15 = s->gpr[15],
		.r14 = s->gpr[14],
		.r13 = s->gpr[13],
		.r12 = s->gpr[12],
		.rbp = s->gpr[CPU_RBP],
		.rbx = s->gpr[CPU_RBX],
		.r11 = s->gpr[11],
		.r10 = s->gpr[10],
		.r9 = s->gpr[9],
		.r8 = s->gpr[8],
		.rax = s->gpr[CPU_RAX],
		.rcx = s->gpr[CPU_RCX],
		.rdx = s->gpr[CPU_RDX],
		.rsi = s->gpr[CPU_RSI],
		.rdi = s->gpr[CPU_RDI],
		.orig_rax = s->gpr[CPU_RAX],
		.rip = s->rip,
		.cs = s->seg[CPU_CS].selector,
		.eflags = s->rflags,
		.rsp = s->gpr[CPU_RSP],
		.ss = s->seg[CPU_SS].selector,
		.fs_base = s->seg[CPU_FS].base,
		.gs_base = s->seg[CPU_GS].base,
		.ds = s->seg[CPU_DS].selector,
		.es = s->seg[CPU_ES].selector,
		.fs = s->seg[CPU_FS].selector,
		.gs = s->seg[CPU_GS].selector};

	*p = (struct elf_prstatus){.pr_pid = (int)vcpu + 1};
	_Static_assert(sizeof(r) == sizeof(p->pr_reg), "elf_gregset_t holds user_regs_struct");
	memcpy(p->pr_reg, &r, sizeof(r));
}

static struct qemu_segment qemu_segment(const struct cpu_seg *s)
{
	return (struct qemu_segment){.selector = s->selector,
		.limit = s->limit,
		.flags = (uint32_t)s->attr << 8,
		.base = s->base};
}

static void fill_qemu(
	struct qemu_cpu *q, const struct cpu_state *s, const struct cpu_msr *msrs, unsigned n)
{
	static const uint8_t gpr[8] = {
		CPU_RAX, CPU_RBX, CPU_RCX, CPU_RDX, CPU_RSI, CPU_RDI, CPU_RSP, CPU_RBP};
	static const uint8_t seg[6] = {CPU_CS, CPU_DS, CPU_ES, CPU_FS, CPU_GS, CPU_SS};

	*q = (struct qemu_cpu){
		.version = 1, .size = sizeof(*q), .rip = s->rip, .rflags = s->rflags};
	for (unsigned i = 0; i < 16; i++)
		q->gpr[i] = s->gpr[i < 8 ? gpr[i] : i];
	for (unsigned i = 0; i < 6; i++)
		q->seg[i] = qemu_segment(&s->seg[seg[i]]);
	q->seg[6] = qemu_segment(&s->ldtr);
	q->seg[7] = qemu_segment(&s->tr);
	q->seg[8] = (struct qemu_segment){.limit = s->gdtr.limit, .base = s->gdtr.base};
	q->seg[9] = (struct qemu_segment){.limit = s->idtr.limit, .base = s->idtr.base};
	q->cr[0] = s->cr0;
	q->cr[2] = s->cr2;
	q->cr[3] = s->cr3;
	q->cr[4] = s->cr4;
	for (unsigned i = 0; i < n; i++)
		if (msrs[i].index == MSR_KERNEL_GS_BASE)
			q->kernel_gs_base = msrs[i].value;
}

static int fill_notes(struct vm *vm, struct notes *notes, struct err *e)
{
	cleanup_free struct cpu_state *s = calloc(1, sizeof(*s));
	struct cpu_msr msrs[CPU_MAX_MSRS];
	struct elf_prstatus prstatus;
	struct qemu_cpu qemu;

	if (!s)
		return err_sys(e, -ENOMEM, "read the vCPUs");
	for (unsigned i = 0; i < vm_vcpus(vm); i++) {
		unsigned n = 0;
		int r = vm_vcpu_state(vm, i, s, msrs, &n);

		if (r < 0)
			return err_sys(e, r, "read the state of vCPU %u", i);
		notes[i].prstatus_header = (Elf64_Nhdr){5, sizeof(prstatus), NT_PRSTATUS};
		memcpy(notes[i].prstatus_name, "CORE", 5);
		fill_prstatus(&prstatus, s, i);
		memcpy(notes[i].prstatus, &prstatus, sizeof(prstatus));
		notes[i].qemu_header = (Elf64_Nhdr){5, sizeof(qemu), 0};
		memcpy(notes[i].qemu_name, "QEMU", 5);
		fill_qemu(&qemu, s, msrs, n);
		memcpy(notes[i].qemu, &qemu, sizeof(qemu));
	}
	return 0;
}

int dump_write(struct vm *vm, int fd, struct err *e)
{
	const struct gmem_region *regions;
	unsigned vcpus = vm_vcpus(vm), n = (unsigned)gmem_regions(vm_gmem(vm), &regions);
	size_t notes_size = vcpus * sizeof(struct notes);
	cleanup_free struct notes *notes = calloc(vcpus, sizeof(*notes));
	Elf64_Phdr ph[1 + MAX_REGIONS] = {0};
	Elf64_Ehdr eh = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
				 EV_CURRENT},
		.e_type = ET_CORE,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_phoff = sizeof(eh),
		.e_ehsize = sizeof(eh),
		.e_phentsize = sizeof(ph[0])};
	uint64_t notes_off, data;
	int r;

	if (!notes || n > MAX_REGIONS)
		return err_sys(e, -ENOMEM, "dump the virtual machine");
	r = snapshot_check_empty(fd, e);
	if (r == 0)
		r = fill_notes(vm, notes, e);
	if (r < 0)
		return r;
	eh.e_phnum = (Elf64_Half)(1 + n);
	notes_off = sizeof(eh) + (1 + n) * sizeof(ph[0]);
	data = ALIGN_UP(notes_off + notes_size, (uint64_t)DATA_ALIGN);
	ph[0] = (Elf64_Phdr){.p_type = PT_NOTE,
		.p_offset = notes_off,
		.p_filesz = notes_size,
		.p_memsz = notes_size,
		.p_align = 4};
	for (unsigned i = 0; i < n; i++)
		ph[1 + i] = (Elf64_Phdr){.p_type = PT_LOAD,
			.p_flags = PF_R | PF_W | PF_X,
			.p_offset = data + regions[i].offset,
			.p_vaddr = regions[i].gpa,
			.p_paddr = regions[i].gpa,
			.p_filesz = regions[i].size,
			.p_memsz = regions[i].size,
			.p_align = DATA_ALIGN};
	r = ftruncate(fd, (off_t)(data + gmem_ram_size(vm_gmem(vm)))) < 0 ? -errno : 0;
	if (r == 0)
		r = snapshot_write_memory(vm, fd, data);
	if (r == 0)
		r = io_write_full(fd, &eh, sizeof(eh));
	if (r == 0)
		r = io_write_full(fd, ph, (1 + n) * sizeof(ph[0]));
	if (r == 0)
		r = io_write_full(fd, notes, notes_size);
	return r < 0 ? err_sys(e, r, "write the dump") : 0;
}
