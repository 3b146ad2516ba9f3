/* SPDX-License-Identifier: MIT */
/*
 * What the guest is told about its CPU: the host's features that KVM can offer, less those whose state this back end does
 * not save or whose use would not help; one package of single-threaded cores. Leaves: SDM vol. 2A, CPUID; AMD APM vol. 3,
 * appendix E; KVM's own: Documentation/virt/kvm/x86/cpuid.rst.
 */
#include "vmm/cpu/kvm/kvm.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LEAVES = 256 };

static int get_supported(int kvm_fd, struct kvm_cpuid2 **ret)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + MAX_LEAVES * sizeof(c->entries[0]));
	int r;

	if (!c)
		return -ENOMEM;
	c->nent = MAX_LEAVES;
	r = kvm_ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, c);
	if (r < 0) {
		free(c);
		return r;
	}
	*ret = c;
	return 0;
}

static unsigned bits_for(unsigned n)
{
	return n > 1 ? 32 - __builtin_clz(n - 1) : 0;
}

/* Leaves left out entirely: SGX, processor trace, AMX tiles, V2 topology (0xb says it all), SVM, SEV, AMD topology. */
static bool dropped(uint32_t leaf)
{
	switch (leaf) {
	case 0x12:
	case 0x14:
	case 0x1d:
	case 0x1e:
	case 0x1f:
	case 0x8000000a:
	case 0x8000001e:
	case 0x8000001f: return true;
	default: return false;
	}
}

static void filter_7(struct kvm_cpuid_entry2 *e)
{
	if (e->index == 0) {
		/* SGX 2, MPX 14, processor trace 25 */
		e->ebx &= ~(BIT(2) | BIT(14) | BIT(25));
		/* WAITPKG 5, shadow stacks 7, 57-bit addresses 16 (a level more to walk), ENQCMD 29, SGX_LC 30 */
		e->ecx &= ~(BIT(5) | BIT(7) | BIT(16) | BIT(29) | BIT(30));
		/* user interrupts 5, AMX 22 24 25, branch tracking 20, architectural LBR 19 */
		e->edx &= ~(BIT(5) | BIT(19) | BIT(20) | BIT(22) | BIT(24) | BIT(25));
	} else if (e->index == 1) {
		e->eax &= ~BIT(21); /* AMX-FP16 */
	}
}

/* Only user state whose standard-format image fits what struct cpu_state holds: x87 to PKRU, no AMX, no XSAVES. */
static void filter_d(struct kvm_cpuid_entry2 *e)
{
	if (e->index == 0) {
		e->eax &= 0x2e7; /* x87, SSE, AVX, AVX-512 (3), PKRU */
		e->edx = 0;
		e->ecx = MIN(e->ecx, 4096u);
	} else if (e->index == 1) {
		e->eax &= ~BIT(3);
		e->ecx = e->edx = 0;
	}
}

/* The part that is the same for every vCPU. False: the leaf is left out. */
static bool filter(struct kvm_cpuid_entry2 *e, unsigned vcpus)
{
	if (dropped(e->function))
		return false;
	switch (e->function) {
	case 0x1:
		/* DTES64 2, MONITOR 3, VMX 5, PDCM 15; hypervisor 31 */
		e->ecx &= ~(BIT(2) | BIT(3) | BIT(5) | BIT(15));
		e->ecx |= BIT(31);
		e->edx &= ~BIT(28);
		if (vcpus > 1)
			e->edx |= BIT(28); /* EBX counts logical processors */
		break;
	case 0x4:
	case 0x8000001d: /* caches: private to a core, the last level shared by all */
		if (!(e->eax & 0x1f))
			break;
		e->eax &= 0x3fff;
		if ((e->eax >> 5 & 7) >= 3)
			e->eax |= (vcpus - 1) << 14;
		if (e->function == 0x4)
			e->eax |= MIN(vcpus - 1, 63u) << 26;
		break;
	case 0x6:
		e->eax &= BIT(2); /* the APIC timer never stops */
		e->ebx = e->ecx = e->edx = 0;
		break;
	case 0x7: filter_7(e); break;
	case 0xa: e->eax = e->ebx = e->ecx = e->edx = 0; break; /* no performance counters */
	case 0xd:
		if (e->index > 1 && (e->index > 9 || !(0x2e7 >> e->index & 1)))
			return false;
		filter_d(e);
		break;
	case KVM_CPUID_SIGNATURE: e->eax = KVM_CPUID_FEATURES; break;
	case KVM_CPUID_FEATURES:
		/* Asynchronous page faults are left out: their tokens are no state one can save. */
		e->eax &= BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_CLOCKSOURCE2) |
			  BIT(KVM_FEATURE_NOP_IO_DELAY) | BIT(KVM_FEATURE_STEAL_TIME) |
			  BIT(KVM_FEATURE_PV_EOI) | BIT(KVM_FEATURE_PV_UNHALT) |
			  BIT(KVM_FEATURE_PV_TLB_FLUSH) | BIT(KVM_FEATURE_PV_SEND_IPI) |
			  BIT(KVM_FEATURE_POLL_CONTROL) | BIT(KVM_FEATURE_PV_SCHED_YIELD) |
			  BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT);
		break;
	case 0x80000001:
		/* CMP_LEGACY 1, SVM 2, IBS 10, TOPOEXT 22, performance counters 23 24 28, MWAITX 29 */
		e->ecx &= ~(BIT(1) | BIT(2) | BIT(10) | BIT(22) | BIT(23) | BIT(24) | BIT(28) |
			    BIT(29));
		break;
	case 0x80000008: e->ecx = bits_for(vcpus) << 12 | (vcpus - 1); break;
	}
	return true;
}

/*
 * Some hosts, virtual ones above all, name AVX without the XSAVE that switches it on. Kernels then leave it off, but programs
 * that look at the one bit only die of an illegal instruction: the guest is told of neither.
 */
static void drop_avx(struct kvm_cpuid_entry2 *e)
{
	if (e->function == 0x1) {
		e->ecx &= ~(BIT(12) | BIT(28) | BIT(29)); /* FMA, AVX, F16C */
	} else if (e->function == 0x7 && e->index == 0) {
		/* AVX2 5; AVX-512: F 16, DQ 17, IFMA 21, PF 26, ER 27, CD 28, BW 30, VL 31 */
		e->ebx &= ~(BIT(5) | BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) |
			    BIT(30) | BIT(31));
		/* PKU 3; VBMI 1, VBMI2 6, VAES 9, VPCLMULQDQ 10, VNNI 11, BITALG 12, VPOPCNTDQ 14 */
		e->ecx &= ~(
			BIT(1) | BIT(3) | BIT(6) | BIT(9) | BIT(10) | BIT(11) | BIT(12) | BIT(14));
		/* 4VNNIW 2, 4FMAPS 3, VP2INTERSECT 8, FP16 23 */
		e->edx &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(23));
	} else if (e->function == 0x7 && e->index == 1) {
		/* SHA512 0, SM3 1, SM4 2, VNNI 4, BF16 5, IFMA 23; VNNI-INT8 4, NE-CONVERT 5, VNNI-INT16 10, AVX10 19 */
		e->eax &= ~(BIT(0) | BIT(1) | BIT(2) | BIT(4) | BIT(5) | BIT(23));
		e->edx &= ~(BIT(4) | BIT(5) | BIT(10) | BIT(19));
	} else if (e->function == 0x80000001) {
		e->ecx &= ~(BIT(11) | BIT(16)); /* XOP, FMA4 */
	}
}

void kvm_cpuid_filter(struct kvm_cpuid2 *c, unsigned vcpus)
{
	unsigned n = 0;
	bool amd = false, xsave = false;

	for (unsigned i = 0; i < c->nent; i++) {
		if (c->entries[i].function == 0)
			amd = c->entries[i].ecx == 0x444d4163; /* "cAMD" */
		if (c->entries[i].function == 1)
			xsave = c->entries[i].ecx & BIT(26);
	}
	for (unsigned i = 0; i < c->nent; i++) {
		struct kvm_cpuid_entry2 ent = c->entries[i];

		if (ent.function == 0xb || !filter(&ent, vcpus))
			continue;
		if (!xsave)
			drop_avx(&ent);
		if (ent.function == 0x80000001 && amd && vcpus > 1)
			ent.ecx |= BIT(1);
		if (ent.function == 0 && ent.eax < 0xb)
			ent.eax = 0xb;
		c->entries[n++] = ent;
	}
	c->nent = n;
}

int kvm_cpuid_supported(struct cpu_vm *vm, struct err *e)
{
	struct kvm_cpuid2 *c = NULL;
	int r = get_supported(vm->kvm_fd, &c);

	if (r < 0)
		return err_sys(e, r, "KVM: ask for CPU features");
	kvm_cpuid_filter(c, vm->vcpus);
	/* Where the kernel emulates the local APIC, it does not say so among what it supports. */
	if (kvm_cap(vm->kvm_fd, KVM_CAP_TSC_DEADLINE_TIMER))
		for (unsigned i = 0; i < c->nent; i++)
			if (c->entries[i].function == 1)
				c->entries[i].ecx |= BIT(24);
	vm->cpuid = c;
	return 0;
}

static void add_topology(struct kvm_cpuid2 *c, unsigned vcpus, unsigned index)
{
	const struct kvm_cpuid_entry2 levels[] = {
		{.eax = 0, .ebx = 1, .ecx = 0 | 1 << 8},
		{.eax = bits_for(vcpus), .ebx = vcpus, .ecx = 1 | 2 << 8},
		{.ecx = 2},
	};

	for (unsigned i = 0; i < ARRAY_LEN(levels); i++) {
		struct kvm_cpuid_entry2 *e = &c->entries[c->nent++];

		*e = levels[i];
		e->function = 0xb;
		e->index = i;
		e->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		e->edx = index;
	}
}

int kvm_cpuid_set(struct cpu_vcpu *v, struct err *e)
{
	const struct kvm_cpuid2 *base = v->vm->cpuid;
	unsigned vcpus = v->vm->vcpus;
	cleanup_free struct kvm_cpuid2 *c =
		calloc(1, sizeof(*c) + (base->nent + 3) * sizeof(c->entries[0]));
	int r;

	if (!c)
		return err_sys(e, -ENOMEM, "KVM: CPU features");
	memcpy(c, base, sizeof(*base) + base->nent * sizeof(base->entries[0]));
	for (unsigned i = 0; i < c->nent; i++) {
		struct kvm_cpuid_entry2 *ent = &c->entries[i];

		if (ent->function == 0x1) /* APIC number, logical processors, CLFLUSH size */
			ent->ebx = (ent->ebx & 0xffff) | v->index << 24 |
				   (1u << bits_for(vcpus)) << 16;
	}
	add_topology(c, vcpus, v->index);
	r = kvm_ioctl(v->fd, KVM_SET_CPUID2, c);
	return r < 0 ? err_sys(e, r, "KVM: set CPU features") : 0;
}
