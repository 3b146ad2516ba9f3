/* SPDX-License-Identifier: MIT */
/*
 * Model-specific registers (SDM vol. 4; AMD APM vol. 2 appendix A): the architectural ones, the paravirtual clock, and
 * what a stock kernel reads or writes without asking. Everything else is #GP, which such kernels expect of a register
 * that is not there.
 */
#include "vmm/cpu/soft/msr.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/log.h"
#include "vmm/cpu/soft/clock.h"
#include "vmm/cpu/soft/host-cpu.h"
#include "vmm/cpu/soft/lapic.h"

enum {
	MSR_TSC = 0x10,
	MSR_PLATFORM_ID = 0x17,
	MSR_APIC_BASE = 0x1b,
	MSR_FEATURE_CONTROL = 0x3a,
	MSR_TSC_ADJUST = 0x3b,
	MSR_UCODE_WRITE = 0x79,
	MSR_UCODE_REV = 0x8b,
	MSR_PLATFORM_INFO = 0xce,
	MSR_MTRRCAP = 0xfe,
	MSR_ARCH_CAPABILITIES = 0x10a,
	MSR_MISC_FEATURES = 0x140,
	MSR_SYSENTER_CS = 0x174,
	MSR_SYSENTER_ESP = 0x175,
	MSR_SYSENTER_EIP = 0x176,
	MSR_MCG_CAP = 0x179,
	MSR_MCG_STATUS = 0x17a,
	MSR_MISC_ENABLE = 0x1a0,
	MSR_DEBUGCTL = 0x1d9,
	MSR_MTRR_PHYS0 = 0x200,
	MSR_MTRR_FIX64K = 0x250,
	MSR_MTRR_FIX16K_80000 = 0x258,
	MSR_MTRR_FIX16K_A0000 = 0x259,
	MSR_MTRR_FIX4K = 0x268,
	MSR_PAT = 0x277,
	MSR_MTRR_DEF_TYPE = 0x2ff,
	MSR_TSC_DEADLINE = 0x6e0,
	MSR_X2APIC = 0x800,
	MSR_EFER = 0xc0000080,
	MSR_STAR = 0xc0000081,
	MSR_LSTAR = 0xc0000082,
	MSR_CSTAR = 0xc0000083,
	MSR_SFMASK = 0xc0000084,
	MSR_FS_BASE = 0xc0000100,
	MSR_GS_BASE = 0xc0000101,
	MSR_KERNEL_GS_BASE = 0xc0000102,
	MSR_TSC_AUX = 0xc0000103,
};

enum { MTRR_VAR = 8, MTRR_FIXED = 11 };

/* FAST_STRING; no BTS, no PEBS. */
#define MISC_ENABLE_RESET 0x1801ull
/*
 * Not vulnerable: RDCL, L1 terminal fault flush not needed, SSB, MDS, page size change MC, TAA, SBDR/SSDP, FBSDP, PSDP,
 * BHI, PBRSB, GDS, RFDS, ITS. Guest code never runs on the host's CPU as it is, so none of these exists for it; without
 * RDCL_NO a kernel would switch page tables at every system call.
 */
#define ARCH_CAPS                                                                                  \
	(BIT(0) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(13) | BIT(14) | BIT(15) |       \
		BIT(20) | BIT(24) | BIT(26) | BIT(27) | BIT(62))
#define PAT_RESET 0x0007040600070406ull

struct soft_msrs {
	uint64_t tsc_adjust, pat, misc_enable, debugctl;
	uint64_t mtrr_var[MTRR_VAR * 2], mtrr_fixed[MTRR_FIXED], mtrr_def;
	uint64_t kvm_wall, kvm_time; /* last written, by the new or the old number */
};

/* --- memory types: kept for software to read back; the software CPU has no caches to govern --- */

static uint64_t *mtrr(struct soft_msrs *m, uint32_t msr)
{
	if (msr >= MSR_MTRR_PHYS0 && msr < MSR_MTRR_PHYS0 + MTRR_VAR * 2)
		return &m->mtrr_var[msr - MSR_MTRR_PHYS0];
	if (msr >= MSR_MTRR_FIX4K && msr < MSR_MTRR_FIX4K + 8)
		return &m->mtrr_fixed[3 + msr - MSR_MTRR_FIX4K];
	switch (msr) {
	case MSR_MTRR_FIX64K: return &m->mtrr_fixed[0];
	case MSR_MTRR_FIX16K_80000: return &m->mtrr_fixed[1];
	case MSR_MTRR_FIX16K_A0000: return &m->mtrr_fixed[2];
	case MSR_MTRR_DEF_TYPE: return &m->mtrr_def;
	default: return NULL;
	}
}

static bool type_ok(uint64_t t)
{
	return t == 0 || t == 1 || (t >= 4 && t <= 6);
}

static bool types_ok(uint64_t v, bool pat)
{
	for (unsigned i = 0; i < 8; i++) {
		uint8_t t = v >> i * 8 & 0xff;

		if (!type_ok(t) && !(pat && t == 7))
			return false;
	}
	return true;
}

static bool mtrr_ok(uint32_t msr, uint64_t v)
{
	uint64_t reserved = ~((1ull << SOFT_PHYS_BITS) - 1);

	if (msr == MSR_MTRR_DEF_TYPE)
		return !(v & ~0xcffull) && type_ok(v & 0xff);
	if (msr >= MSR_MTRR_FIX64K)
		return types_ok(v, false);
	if (msr & 1)
		return !(v & (reserved | 0x7ff));
	return !(v & (reserved | 0xf00)) && type_ok(v & 0xff);
}

/* As firmware leaves it: memory is write-back, the VGA window and the 32-bit hole are uncached. */
static void mtrr_reset(struct soft_msrs *m)
{
	memset(m->mtrr_var, 0, sizeof(m->mtrr_var));
	m->mtrr_var[0] = GMEM_HOLE_START;
	m->mtrr_var[1] = ((1ull << SOFT_PHYS_BITS) - (GMEM_HOLE_END - GMEM_HOLE_START)) | 1 << 11;
	for (unsigned i = 0; i < MTRR_FIXED; i++)
		m->mtrr_fixed[i] = i == 2 ? 0 : 0x0606060606060606ull;
	m->mtrr_def = 0xc06;
}

/* --- registers that only exist to be read or written --- */

static bool constant(uint32_t msr, uint64_t *ret)
{
	switch (msr) {
	case MSR_PLATFORM_ID:
	case MSR_PLATFORM_INFO:
	case MSR_MISC_FEATURES:
	case MSR_MCG_CAP:
	case MSR_MCG_STATUS:
	case 0x34: /* SMI count */
	case 0x2a: /* power-on configuration */ *ret = 0; return true;
	case MSR_FEATURE_CONTROL: *ret = 1; return true; /* locked, nothing enabled */
	case MSR_UCODE_REV: *ret = 1ull << 32; return true;
	case MSR_MTRRCAP: *ret = 0x500 | MTRR_VAR; return true;
	case MSR_ARCH_CAPABILITIES: *ret = ARCH_CAPS; return soft_cpuid_intel();
	default: break;
	}
	if (soft_cpuid_intel())
		return false;
	switch (msr) {
	case 0xc0010000 ... 0xc0010007: /* performance counters of old */
	case 0xc0010010:		/* SYSCFG */
	case 0xc0010015:		/* HWCR */
	case 0xc001001a:		/* TOP_MEM */
	case 0xc001001d:		/* TOP_MEM2 */
	case 0xc001001f:		/* NB_CFG */
	case 0xc0010055:		/* interrupt pending message */
	case 0xc0010058:		/* MMIO configuration base */
	case 0xc0010114:		/* VM_CR */
	case 0xc0010117:		/* VM_HSAVE_PA */
	case 0xc0011020 ... 0xc001102d: /* LS, IC, DC, DE ... configuration */
	case 0xc0010140:		/* OSVW */
	case 0xc0010141: *ret = 0; return true;
	default: return false;
	}
}

static bool ignored_write(uint32_t msr, uint64_t v)
{
	uint64_t dummy;

	switch (msr) {
	case MSR_UCODE_WRITE:
	case MSR_UCODE_REV:
	case MSR_MCG_STATUS: return true;
	case MSR_MISC_FEATURES:
	case MSR_PLATFORM_INFO: return v == 0;
	default: return msr >= 0xc0010000 && constant(msr, &dummy);
	}
}

/* --- the table --- */

static uint64_t *canonical_field(struct soft_vcpu *c, uint32_t msr)
{
	switch (msr) {
	case MSR_SYSENTER_ESP: return &c->sysenter_esp;
	case MSR_SYSENTER_EIP: return &c->sysenter_eip;
	case MSR_LSTAR: return &c->lstar;
	case MSR_CSTAR: return &c->cstar;
	case MSR_KERNEL_GS_BASE: return &c->kernel_gs_base;
	default: return NULL;
	}
}

static uint64_t *plain_field(struct soft_vcpu *c, uint32_t msr)
{
	switch (msr) {
	case MSR_STAR: return &c->star;
	case MSR_MISC_ENABLE: return &c->msrs->misc_enable;
	default: return NULL;
	}
}

bool soft_rdmsr(struct soft_vcpu *c, uint32_t msr, uint64_t *ret)
{
	struct soft_msrs *m = c->msrs;
	uint64_t *p;

	switch (msr) {
	case MSR_TSC: *ret = soft_tsc(c); return true;
	case MSR_APIC_BASE: *ret = soft_lapic_get_base(c->lapic); return true;
	case MSR_TSC_ADJUST: *ret = m->tsc_adjust; return true;
	case MSR_SYSENTER_CS: *ret = c->sysenter_cs; return true;
	case MSR_DEBUGCTL: *ret = m->debugctl; return true;
	case MSR_PAT: *ret = m->pat; return true;
	case MSR_TSC_DEADLINE: *ret = soft_lapic_get_tsc_deadline(c->lapic); return true;
	case MSR_EFER: *ret = c->efer; return true;
	case MSR_SFMASK: *ret = c->sfmask; return true;
	case MSR_FS_BASE: *ret = c->segbase[SEG_FS]; return true;
	case MSR_GS_BASE: *ret = c->segbase[SEG_GS]; return true;
	case MSR_TSC_AUX: *ret = c->tsc_aux; return true;
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW: *ret = m->kvm_wall; return true;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW: *ret = m->kvm_time; return true;
	default: break;
	}
	if (msr >= MSR_X2APIC && msr < MSR_X2APIC + 0x100)
		return soft_lapic_rdmsr(c->lapic, msr - MSR_X2APIC, ret);
	p = canonical_field(c, msr);
	if (!p)
		p = plain_field(c, msr);
	if (!p)
		p = mtrr(m, msr);
	if (p) {
		*ret = *p;
		return true;
	}
	if (constant(msr, ret))
		return true;
	log_debug("soft", "rdmsr %#x: no such register", msr);
	return false;
}

static bool set_time(struct soft_vcpu *c, uint64_t v)
{
	if (v & 2)
		return false;
	c->msrs->kvm_time = v;
	soft_clock_publish(c, v);
	return true;
}

static void set_tsc_offset(struct soft_vcpu *c, uint64_t offset)
{
	c->tsc_offset = offset;
	soft_msr_publish_clock(c);
	soft_lapic_tsc_changed(c->lapic);
}

static bool set_canonical(uint64_t *p, uint64_t v)
{
	if (!soft_canonical(v))
		return false;
	*p = v;
	return true;
}

bool soft_wrmsr(struct soft_vcpu *c, uint32_t msr, uint64_t v)
{
	struct soft_msrs *m = c->msrs;
	uint64_t *p, old;

	switch (msr) {
	case MSR_TSC:
		old = c->tsc_offset;
		set_tsc_offset(c, v - soft_host_tsc());
		m->tsc_adjust += c->tsc_offset - old;
		return true;
	case MSR_TSC_ADJUST:
		set_tsc_offset(c, c->tsc_offset + (v - m->tsc_adjust));
		m->tsc_adjust = v;
		return true;
	case MSR_APIC_BASE: return soft_lapic_set_base(c->lapic, v, /* host= */ false);
	case MSR_SYSENTER_CS: c->sysenter_cs = (uint32_t)v; return true;
	case MSR_DEBUGCTL: m->debugctl = v & 3; return !(v & ~0xffffull);
	case MSR_PAT:
		if (!types_ok(v, true))
			return false;
		m->pat = v;
		return true;
	case MSR_TSC_DEADLINE:
		soft_lapic_set_tsc_deadline(c->lapic, v, /* host= */ false);
		return true;
	case MSR_EFER: return soft_set_efer(c, v);
	case MSR_SFMASK: c->sfmask = (uint32_t)v; return true;
	case MSR_FS_BASE:
	case MSR_GS_BASE:
		if (!soft_canonical(v))
			return false;
		soft_set_segbase(c, msr == MSR_FS_BASE ? SEG_FS : SEG_GS, v);
		return true;
	case MSR_TSC_AUX:
		if (v >> 32)
			return false;
		c->tsc_aux = v;
		return true;
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		m->kvm_wall = v;
		soft_clock_wall(c, v);
		return true;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW: return set_time(c, v);
	default: break;
	}
	if (msr >= MSR_X2APIC && msr < MSR_X2APIC + 0x100)
		return soft_lapic_wrmsr(c->lapic, msr - MSR_X2APIC, v);
	p = canonical_field(c, msr);
	if (p)
		return set_canonical(p, v);
	p = plain_field(c, msr);
	if (!p) {
		p = mtrr(m, msr);
		if (p && !mtrr_ok(msr, v))
			return false;
	}
	if (p) {
		*p = v;
		return true;
	}
	if (ignored_write(msr, v))
		return true;
	log_debug("soft", "wrmsr %#x, %#llx: no such register", msr, (unsigned long long)v);
	return false;
}

int soft_msr_new(struct soft_vcpu *c)
{
	soft_cpuid_init();
	c->msrs = calloc(1, sizeof(*c->msrs));
	if (!c->msrs)
		return -ENOMEM;
	soft_msr_reset(c, false);
	return 0;
}

void soft_msr_free(struct soft_vcpu *c)
{
	free(c->msrs);
	c->msrs = NULL;
}

/* INIT leaves these registers alone (SDM vol. 3 table 9-1), but not the time page of what ran before. */
void soft_msr_reset(struct soft_vcpu *c, bool init)
{
	struct soft_msrs *m = c->msrs;

	m->kvm_time = 0;
	if (init)
		return;
	memset(m, 0, sizeof(*m));
	m->pat = PAT_RESET;
	m->misc_enable = MISC_ENABLE_RESET;
	mtrr_reset(m);
}

void soft_msr_publish_clock(struct soft_vcpu *c)
{
	soft_clock_publish(c, c->msrs->kvm_time);
}

/* --- saving: in an order in which they can be loaded --- */

static const uint32_t saved[] = {
	MSR_APIC_BASE,
	MSR_TSC,
	MSR_TSC_ADJUST,
	MSR_TSC_DEADLINE,
	MSR_SYSENTER_CS,
	MSR_SYSENTER_ESP,
	MSR_SYSENTER_EIP,
	MSR_MISC_ENABLE,
	MSR_DEBUGCTL,
	MSR_PAT,
	MSR_MTRR_DEF_TYPE,
	MSR_MTRR_FIX64K,
	MSR_MTRR_FIX16K_80000,
	MSR_MTRR_FIX16K_A0000,
	MSR_STAR,
	MSR_LSTAR,
	MSR_CSTAR,
	MSR_SFMASK,
	MSR_KERNEL_GS_BASE,
	MSR_TSC_AUX,
	MSR_KVM_WALL_CLOCK_NEW,
	MSR_KVM_SYSTEM_TIME_NEW,
};
static_assert(ARRAY_LEN(saved) + 8 + MTRR_VAR * 2 <= CPU_MAX_MSRS, "the list fits");

static void save_one(struct soft_vcpu *c, uint32_t msr, struct cpu_msr *msrs, unsigned *n)
{
	msrs[*n].index = msr;
	if (soft_rdmsr(c, msr, &msrs[*n].value))
		(*n)++;
}

void soft_msr_save(struct soft_vcpu *c, struct cpu_msr *msrs, unsigned *n)
{
	*n = 0;
	for (unsigned i = 0; i < ARRAY_LEN(saved); i++)
		save_one(c, saved[i], msrs, n);
	for (unsigned i = 0; i < 8; i++)
		save_one(c, MSR_MTRR_FIX4K + i, msrs, n);
	for (unsigned i = 0; i < MTRR_VAR * 2; i++)
		save_one(c, MSR_MTRR_PHYS0 + i, msrs, n);
}

/* What the guest may not write, or what has effects when the guest writes it. */
static bool load_one(struct soft_vcpu *c, uint32_t msr, uint64_t v)
{
	switch (msr) {
	case MSR_APIC_BASE: return soft_lapic_set_base(c->lapic, v, /* host= */ true);
	case MSR_TSC: set_tsc_offset(c, soft_clock_tsc_offset(c->vm->clock, v)); return true;
	case MSR_TSC_ADJUST: c->msrs->tsc_adjust = v; return true;
	case MSR_TSC_DEADLINE:
		soft_lapic_set_tsc_deadline(c->lapic, v, /* host= */ true);
		return true;
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW: c->msrs->kvm_wall = v; return true;
	default: return soft_wrmsr(c, msr, v);
	}
}

/* Registers that we do not have are passed over when they hold zero, as another back end's list may have them. */
int soft_msr_load(struct soft_vcpu *c, const struct cpu_msr *msrs, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (!load_one(c, msrs[i].index, msrs[i].value) && msrs[i].value)
			return -EINVAL;
	return 0;
}
