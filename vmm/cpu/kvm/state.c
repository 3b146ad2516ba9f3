/* SPDX-License-Identifier: MIT */
/*
 * A vCPU's architectural state, between KVM's structures and struct cpu_state.
 *
 * Order matters when setting: CPUID came first (vcpu.c); XCR0 before what it enables; the APIC's base, which chooses its
 * mode, before its registers; those before the TSC deadline, which only a timer in that mode takes.
 *
 * An external interrupt that was taken from the APIC but not yet delivered has no place in struct cpu_state: it goes back
 * to where it came from, from "in service" to "requested".
 */
#include "vmm/cpu/kvm/kvm.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	MSR_TSC = 0x10,
	MSR_APIC_BASE = 0x1b,
	MSR_TSC_DEADLINE = 0x6e0,
};

/* First to last, inclusive. Saved when KVM lists them (MTRRs: when it takes them, since it does not list those). */
static const struct {
	uint32_t first, last;
	bool unlisted;
} saved_msrs[] = {
	{MSR_TSC, MSR_TSC, false}, {MSR_APIC_BASE, MSR_APIC_BASE, true},
	{0x3b, 0x3b, false},						  /* TSC_ADJUST */
	{0x48, 0x48, false},						  /* SPEC_CTRL */
	{0x174, 0x176, false},						  /* SYSENTER */
	{0x17a, 0x17b, false},						  /* MCG_STATUS, MCG_CTL */
	{0x1a0, 0x1a0, false},						  /* MISC_ENABLE */
	{0x1d9, 0x1d9, false},						  /* DEBUGCTL */
	{0x200, 0x20f, true},						  /* variable MTRRs */
	{0x250, 0x250, true},						  /* fixed MTRRs */
	{0x258, 0x259, true}, {0x268, 0x26f, true}, {0x277, 0x277, true}, /* PAT */
	{0x2ff, 0x2ff, true},						  /* MTRR default type */
	{MSR_TSC_DEADLINE, MSR_TSC_DEADLINE, false},
	{0xc0000081, 0xc0000084, false}, /* STAR, LSTAR, CSTAR, SFMASK */
	{0xc0000102, 0xc0000103, false}, /* KERNEL_GS_BASE, TSC_AUX */
	{0xc0010015, 0xc0010015, false}, /* HWCR */
	{0xc001011f, 0xc001011f, false}, /* VIRT_SPEC_CTRL */
	{MSR_KVM_WALL_CLOCK_NEW, MSR_KVM_SYSTEM_TIME_NEW, false},
	{MSR_KVM_STEAL_TIME, MSR_KVM_POLL_CONTROL, false}, /* and PV_EOI */
};

static bool listed(const struct kvm_msr_list *l, uint32_t index)
{
	for (unsigned i = 0; i < l->nmsrs; i++)
		if (l->indices[i] == index)
			return true;
	return false;
}

int kvm_msr_list(struct cpu_vm *vm, struct err *e)
{
	struct kvm_msr_list count = {0};
	cleanup_free struct kvm_msr_list *l = NULL;
	int r;

	r = kvm_ioctl(vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, &count);
	if (r < 0 && r != -E2BIG)
		return err_sys(e, r, "KVM: list of MSRs");
	l = calloc(1, sizeof(*l) + count.nmsrs * sizeof(l->indices[0]));
	vm->msrs = calloc(CPU_MAX_MSRS, sizeof(*vm->msrs));
	if (!l || !vm->msrs)
		return err_sys(e, -ENOMEM, "KVM: list of MSRs");
	l->nmsrs = count.nmsrs;
	r = kvm_ioctl(vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, l);
	if (r < 0)
		return err_sys(e, r, "KVM: list of MSRs");
	for (unsigned i = 0; i < ARRAY_LEN(saved_msrs); i++)
		for (uint32_t m = saved_msrs[i].first; m <= saved_msrs[i].last; m++)
			if ((saved_msrs[i].unlisted || listed(l, m)) && vm->nmsrs < CPU_MAX_MSRS)
				vm->msrs[vm->nmsrs++] = m;
	return 0;
}

/* As struct kvm_msrs, with room. */
struct msr_buf {
	uint32_t nmsrs, pad;
	struct kvm_msr_entry entries[CPU_MAX_MSRS];
};
_Static_assert(offsetof(struct msr_buf, entries) == sizeof(struct kvm_msrs), "kvm_msrs");

/* KVM stops at the first MSR it does not know, and says how many it did: leave that one out and go on. */
static int get_msrs(struct cpu_vcpu *v, struct cpu_msr *msrs, unsigned *n)
{
	struct msr_buf b;
	unsigned done = 0, out = 0;

	while (done < v->vm->nmsrs) {
		unsigned want = v->vm->nmsrs - done;
		int r;

		memset(&b, 0, sizeof(b));
		b.nmsrs = want;
		for (unsigned i = 0; i < want; i++)
			b.entries[i].index = v->vm->msrs[done + i];
		r = kvm_ioctl(v->fd, KVM_GET_MSRS, &b);
		if (r < 0)
			return r;
		for (int i = 0; i < r; i++)
			msrs[out++] = (struct cpu_msr){b.entries[i].index, b.entries[i].data};
		done += (unsigned)r < want ? r + 1 : r;
	}
	*n = out;
	return 0;
}

static int set_one_msr(struct cpu_vcpu *v, uint32_t index, uint64_t value)
{
	struct msr_buf b = {.nmsrs = 1, .entries[0] = {.index = index, .data = value}};
	int r = kvm_ioctl(v->fd, KVM_SET_MSRS, &b);

	return r < 0 ? r : r == 1 ? 0 : -EINVAL;
}

static bool known_msr(const struct cpu_vm *vm, uint32_t index)
{
	for (unsigned i = 0; i < vm->nmsrs; i++)
		if (vm->msrs[i] == index)
			return true;
	return false;
}

/* The ones another back end saved and this one does not keep are passed over. */
static int set_msrs(struct cpu_vcpu *v, const struct cpu_msr *msrs, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		int r;

		if (msrs[i].index == MSR_APIC_BASE || msrs[i].index == MSR_TSC_DEADLINE ||
			!known_msr(v->vm, msrs[i].index))
			continue;
		r = set_one_msr(v, msrs[i].index, msrs[i].value);
		/* Some may only be read or have reserved bits here; a zero there says nothing was lost. */
		if (r == -EINVAL && msrs[i].value == 0)
			continue;
		if (r < 0)
			return r;
	}
	return 0;
}

static const struct cpu_msr *find_msr(const struct cpu_msr *msrs, unsigned n, uint32_t index)
{
	for (unsigned i = 0; i < n; i++)
		if (msrs[i].index == index)
			return &msrs[i];
	return NULL;
}

/* --- segments --- */

static void seg_from(struct cpu_seg *s, const struct kvm_segment *k)
{
	*s = (struct cpu_seg){
		.base = k->base,
		.limit = k->limit,
		.selector = k->selector,
		.attr = (k->type & 0xf) | k->s << 4 | k->dpl << 5 |
			(k->unusable ? 0 : k->present) << 7 | k->avl << 12 | k->l << 13 |
			k->db << 14 | k->g << 15,
	};
}

static void seg_to(struct kvm_segment *k, const struct cpu_seg *s)
{
	*k = (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.type = s->attr & 0xf,
		.s = s->attr >> 4 & 1,
		.dpl = s->attr >> 5 & 3,
		.present = s->attr >> 7 & 1,
		.avl = s->attr >> 12 & 1,
		.l = s->attr >> 13 & 1,
		.db = s->attr >> 14 & 1,
		.g = s->attr >> 15 & 1,
		.unusable = !(s->attr >> 7 & 1),
	};
}

static struct kvm_segment *seg_of(struct kvm_sregs *sr, unsigned i)
{
	struct kvm_segment *segs[] = {&sr->es, &sr->cs, &sr->ss, &sr->ds, &sr->fs, &sr->gs};

	return segs[i];
}

static void sregs_from(struct cpu_state *s, struct kvm_sregs *sr)
{
	for (unsigned i = 0; i < CPU_NSEGS; i++)
		seg_from(&s->seg[i], seg_of(sr, i));
	seg_from(&s->ldtr, &sr->ldt);
	seg_from(&s->tr, &sr->tr);
	s->gdtr.base = sr->gdt.base;
	s->gdtr.limit = sr->gdt.limit;
	s->idtr.base = sr->idt.base;
	s->idtr.limit = sr->idt.limit;
	s->cr0 = sr->cr0;
	s->cr2 = sr->cr2;
	s->cr3 = sr->cr3;
	s->cr4 = sr->cr4;
	s->cr8 = sr->cr8;
	s->efer = sr->efer;
}

static void sregs_to(struct kvm_sregs *sr, const struct cpu_state *s)
{
	for (unsigned i = 0; i < CPU_NSEGS; i++)
		seg_to(seg_of(sr, i), &s->seg[i]);
	seg_to(&sr->ldt, &s->ldtr);
	seg_to(&sr->tr, &s->tr);
	sr->gdt.base = s->gdtr.base;
	sr->gdt.limit = s->gdtr.limit;
	sr->idt.base = s->idtr.base;
	sr->idt.limit = s->idtr.limit;
	sr->cr0 = s->cr0;
	sr->cr2 = s->cr2;
	sr->cr3 = s->cr3;
	sr->cr4 = s->cr4;
	sr->cr8 = s->cr8;
	sr->efer = s->efer;
	memset(sr->interrupt_bitmap, 0, sizeof(sr->interrupt_bitmap));
}

/* KVM's order of the first eight is its own. */
static uint64_t *gpr_of(struct kvm_regs *r, unsigned i)
{
	uint64_t *regs[16] = {(uint64_t *)&r->rax, (uint64_t *)&r->rcx, (uint64_t *)&r->rdx,
		(uint64_t *)&r->rbx, (uint64_t *)&r->rsp, (uint64_t *)&r->rbp, (uint64_t *)&r->rsi,
		(uint64_t *)&r->rdi, (uint64_t *)&r->r8, (uint64_t *)&r->r9, (uint64_t *)&r->r10,
		(uint64_t *)&r->r11, (uint64_t *)&r->r12, (uint64_t *)&r->r13, (uint64_t *)&r->r14,
		(uint64_t *)&r->r15};

	return regs[i];
}

/* --- events --- */

static uint32_t *lapic_reg(uint8_t *page, unsigned off, uint8_t vector)
{
	return (uint32_t *)(void *)(page + off + vector / 32 * 16);
}

static void events_from(struct cpu_state *s, const struct kvm_vcpu_events *ev)
{
	enum { LAPIC_ISR = 0x100, LAPIC_IRR = 0x200 };

	s->nmi_pending = ev->nmi.pending || ev->nmi.injected;
	s->nmi_masked = ev->nmi.masked && !ev->nmi.injected;
	s->int_shadow = ev->interrupt.shadow != 0;
	s->exc_pending = ev->exception.injected ||
			 (ev->flags & KVM_VCPUEVENT_VALID_PAYLOAD && ev->exception.pending);
	s->exc_vector = ev->exception.nr;
	s->exc_has_error = ev->exception.has_error_code;
	s->exc_error = ev->exception.error_code;
	if (ev->interrupt.injected && !ev->interrupt.soft) {
		uint8_t nr = ev->interrupt.nr;
		uint32_t bit = 1u << nr % 32;

		*lapic_reg(s->lapic, LAPIC_ISR, nr) &= ~bit;
		*lapic_reg(s->lapic, LAPIC_IRR, nr) |= bit;
	}
}

static void events_to(struct kvm_vcpu_events *ev, const struct cpu_state *s)
{
	memset(ev, 0, sizeof(*ev));
	ev->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	ev->nmi.pending = s->nmi_pending;
	ev->nmi.masked = s->nmi_masked;
	ev->interrupt.shadow =
		s->int_shadow ? KVM_X86_SHADOW_INT_MOV_SS | KVM_X86_SHADOW_INT_STI : 0;
	ev->exception.injected = s->exc_pending;
	ev->exception.nr = s->exc_vector;
	ev->exception.has_error_code = s->exc_has_error;
	ev->exception.error_code = s->exc_error;
}

int kvm_get_state(struct cpu_vcpu *v, struct cpu_state *s, struct cpu_msr *msrs, unsigned *n)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs = {0};
	struct kvm_xsave xsave;
	struct kvm_debugregs dr;
	struct kvm_vcpu_events ev;
	struct kvm_mp_state mp;
	struct kvm_lapic_state lapic;
	const struct {
		unsigned long req;
		void *arg;
	} calls[] = {
		/* The run state first: asking for it makes KVM act on INITs and start-up IPIs that wait. */
		{KVM_GET_MP_STATE, &mp},
		{KVM_GET_REGS, &regs},
		{KVM_GET_SREGS, &sregs},
		{KVM_GET_XSAVE, &xsave},
		{KVM_GET_DEBUGREGS, &dr},
		{KVM_GET_VCPU_EVENTS, &ev},
		{KVM_GET_LAPIC, &lapic},
	};
	int r;

	for (unsigned i = 0; i < ARRAY_LEN(calls); i++) {
		r = kvm_ioctl(v->fd, calls[i].req, calls[i].arg);
		if (r < 0)
			return r;
	}
	if (v->vm->xcrs) {
		r = kvm_ioctl(v->fd, KVM_GET_XCRS, &xcrs);
		if (r < 0)
			return r;
	}
	memset(s, 0, sizeof(*s));
	for (unsigned i = 0; i < 16; i++)
		s->gpr[i] = *gpr_of(&regs, i);
	s->rip = regs.rip;
	s->rflags = regs.rflags;
	sregs_from(s, &sregs);
	s->xcr0 = 1;
	for (unsigned i = 0; i < xcrs.nr_xcrs && i < KVM_MAX_XCRS; i++)
		if (xcrs.xcrs[i].xcr == 0)
			s->xcr0 = xcrs.xcrs[i].value;
	memcpy(s->dr, dr.db, sizeof(dr.db));
	s->dr[6] = dr.dr6;
	s->dr[7] = dr.dr7;
	memcpy(s->xsave, xsave.region, sizeof(s->xsave));
	memcpy(s->lapic, lapic.regs, sizeof(s->lapic));
	events_from(s, &ev);
	s->run = mp.mp_state == KVM_MP_STATE_RUNNABLE ? CPU_RUNNABLE
		 : mp.mp_state == KVM_MP_STATE_HALTED ? CPU_HALTED
						      : CPU_WAIT_SIPI;
	return get_msrs(v, msrs, n);
}

static int set_sregs(
	struct cpu_vcpu *v, const struct cpu_state *s, const struct cpu_msr *msrs, unsigned n)
{
	const struct cpu_msr *base = find_msr(msrs, n, MSR_APIC_BASE);
	struct kvm_sregs sregs;
	int r = kvm_ioctl(v->fd, KVM_GET_SREGS, &sregs);

	if (r < 0)
		return r;
	sregs_to(&sregs, s);
	if (base)
		sregs.apic_base = base->value;
	return kvm_ioctl(v->fd, KVM_SET_SREGS, &sregs);
}

int kvm_set_state(
	struct cpu_vcpu *v, const struct cpu_state *s, const struct cpu_msr *msrs, unsigned n)
{
	static const uint32_t mp_states[] = {
		[CPU_RUNNABLE] = KVM_MP_STATE_RUNNABLE,
		[CPU_HALTED] = KVM_MP_STATE_HALTED,
		[CPU_WAIT_SIPI] = KVM_MP_STATE_INIT_RECEIVED,
	};
	struct kvm_regs regs = {.rip = s->rip, .rflags = s->rflags};
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0].value = s->xcr0 | 1};
	struct kvm_xsave xsave = {0};
	struct kvm_debugregs dr = {.dr6 = s->dr[6], .dr7 = s->dr[7]};
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events ev;
	struct kvm_mp_state mp;
	const struct cpu_msr *deadline = find_msr(msrs, n, MSR_TSC_DEADLINE);
	int r;

	if ((unsigned)s->run >= ARRAY_LEN(mp_states))
		return -EINVAL;
	mp.mp_state = mp_states[s->run];
	for (unsigned i = 0; i < 16; i++)
		*gpr_of(&regs, i) = s->gpr[i];
	memcpy(xsave.region, s->xsave, sizeof(s->xsave));
	memcpy(dr.db, s->dr, sizeof(dr.db));
	memcpy(lapic.regs, s->lapic, sizeof(s->lapic));
	events_to(&ev, s);

	r = v->vm->xcrs ? kvm_ioctl(v->fd, KVM_SET_XCRS, &xcrs) : 0;
	if (r >= 0)
		r = kvm_ioctl(v->fd, KVM_SET_XSAVE, &xsave);
	if (r >= 0)
		r = set_sregs(v, s, msrs, n);
	if (r >= 0)
		r = set_msrs(v, msrs, n);
	if (r >= 0)
		r = kvm_ioctl(v->fd, KVM_SET_LAPIC, &lapic);
	if (r >= 0 && deadline)
		r = set_one_msr(v, MSR_TSC_DEADLINE, deadline->value);
	if (r >= 0)
		r = kvm_ioctl(v->fd, KVM_SET_DEBUGREGS, &dr);
	if (r >= 0)
		r = kvm_ioctl(v->fd, KVM_SET_REGS, &regs);
	if (r >= 0)
		r = kvm_ioctl(v->fd, KVM_SET_VCPU_EVENTS, &ev);
	if (r >= 0)
		r = kvm_ioctl(v->fd, KVM_SET_MP_STATE, &mp);
	return r < 0 ? r : 0;
}
