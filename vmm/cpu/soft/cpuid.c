/* SPDX-License-Identifier: MIT */
/*
 * CPUID (SDM vol. 2 "CPUID"; AMD APM vol. 3 appendix E; Linux Documentation/virt/kvm/x86/cpuid.rst).
 *
 * The profile is x86-64-v2 plus what costs nothing: the same on every host but for instructions that run natively (SSE3
 * to SSE4.2, AES, PCLMULQDQ, SHA, RDRAND, RDSEED, ADX), which follow the host, as does the vendor: libraries choose code
 * by it. Family and model are fixed, so that no driver looks for a real processor's model-specific registers.
 *
 * Not offered: AVX, PCID, SMEP, SMAP, UMIP, PKU, LA57, MCE, MONITOR, performance counters.
 */
#include "vmm/cpu/soft/host-cpu.h"
#include <cpuid.h>
#include <string.h>
#include "vmm/cpu/soft/lapic.h"
#include "vmm/cpu/soft/msr.h"

enum {
	KVM_CLOCKSOURCE = 0,
	KVM_NOP_IO_DELAY = 1,
	KVM_CLOCKSOURCE2 = 3,
	KVM_CLOCKSOURCE_STABLE = 24
};

/* Leaf 1 ECX */
#define F1C_PCLMUL     BIT(1)
#define F1C_AES	       BIT(25)
#define F1C_RDRAND     BIT(30)
#define F1C_HYPERVISOR BIT(31)
/*
 * CX16 x2APIC MOVBE POPCNT TSC-deadline; SSE3 SSSE3 SSE4.1 SSE4.2 follow the host. No XSAVE, although it is implemented: user code that is
 * executed directly would save what the host has enabled.
 */
#define F1C_BASE (BIT(13) | BIT(21) | BIT(22) | BIT(23) | BIT(24))
#define F1C_HOST (BIT(0) | BIT(9) | BIT(19) | BIT(20) | F1C_PCLMUL | F1C_AES | F1C_RDRAND)
/* Leaf 1 EDX: FPU DE PSE TSC MSR PAE CX8 SEP MTRR PGE CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2; APIC and HTT follow */
#define F1D_APIC BIT(9)
#define F1D_HTT	 BIT(28)
#define F1D_BASE                                                                                   \
	(BIT(0) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(11) | BIT(12) |        \
		BIT(13) | BIT(15) | BIT(16) | BIT(17) | BIT(19) | BIT(23) | BIT(24) | BIT(25) |    \
		BIT(26))
/*
 * Leaf 7 EBX: FSGSBASE TSC_ADJUST ERMS, and how x87 runs here: FDP for unmasked exceptions only, no FCS and FDS; RDSEED
 * ADX SHA follow the host
 */
#define F7B_BASE (BIT(0) | BIT(1) | BIT(6) | BIT(9) | BIT(13))
#define F7B_HOST (BIT(18) | BIT(19) | BIT(29))
/* Leaf 7 EDX: FSRM, ARCH_CAPABILITIES */
#define F7D_FSRM      BIT(4)
#define F7D_ARCH_CAPS BIT(29)
/* Leaf 0x80000001 ECX: LAHF LZCNT PREFETCHW; EDX: SYSCALL NX 1G-pages RDTSCP LM */
#define FXC_BASE (BIT(0) | BIT(5) | BIT(8))
#define FXD_BASE (BIT(11) | BIT(20) | BIT(26) | BIT(27) | BIT(29))
/* What AMD's leaf 0x80000001 EDX repeats of leaf 1 EDX */
#define FXD_AMD_REPEAT 0x0183f3ffu

enum { XCR0_VALID = 3 };

static struct {
	bool ready, intel;
	uint32_t vendor[3]; /* ebx ecx edx */
	uint32_t f1c, f7b;
} host;

void soft_cpuid_init(void)
{
	uint32_t a, b, c, d;

	if (host.ready)
		return;
	__cpuid(0, a, host.vendor[0], host.vendor[1], host.vendor[2]);
	host.intel = host.vendor[0] == signature_INTEL_ebx;
	__cpuid(1, a, b, host.f1c, d);
	if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
		host.f7b = b;
	host.ready = true;
}

bool soft_cpuid_intel(void)
{
	return host.intel;
}

/* Bits that an APIC id takes. */
static unsigned id_bits(const struct soft_vcpu *c)
{
	unsigned n = 0;

	while (1u << n < c->vm->nvcpus)
		n++;
	return n;
}

static void leaf1(struct soft_vcpu *c, uint32_t out[4])
{
	unsigned cpus = MIN(c->vm->nvcpus, 255u);

	/* Intel: family 6, model 0x8f, stepping 8; AMD: family 0x19, model 1. */
	out[CPUID_EAX] = host.intel ? 0x000806f8 : 0x00a00f11;
	out[CPUID_EBX] = c->index << 24 | (cpus > 1 ? 1u << id_bits(c) : 1) << 16 | 8 << 8;
	out[CPUID_ECX] = (uint32_t)(F1C_BASE | (host.f1c & F1C_HOST) | F1C_HYPERVISOR);
	out[CPUID_EDX] = (uint32_t)(F1D_BASE | (cpus > 1 ? F1D_HTT : 0));
	if (soft_lapic_get_base(c->lapic) & BIT(11))
		out[CPUID_EDX] |= F1D_APIC;
}

/* Caches (Intel's leaf 4): the sizes are a common server's; what is shared by all vCPUs is the third level. */
static void leaf4(struct soft_vcpu *c, uint32_t sub, uint32_t out[4])
{
	static const struct {
		uint8_t type, level;
		uint16_t ways, sets;
	} caches[] = {{1, 1, 12, 64}, {2, 1, 8, 64}, {3, 2, 16, 2048}, {3, 3, 16, 32768}};
	unsigned shared;

	if (sub >= ARRAY_LEN(caches))
		return;
	shared = caches[sub].level == 3 ? (1u << id_bits(c)) - 1 : 0;
	out[CPUID_EAX] = caches[sub].type | (uint32_t)caches[sub].level << 5 | 1 << 8 |
			 shared << 14 | (uint32_t)((1u << id_bits(c)) - 1) << 26;
	out[CPUID_EBX] = 63 | (uint32_t)(caches[sub].ways - 1) << 22;
	out[CPUID_ECX] = caches[sub].sets - 1u;
}

/* Topology: one thread a core, one package. */
static void leaf_b(struct soft_vcpu *c, uint32_t sub, uint32_t out[4])
{
	out[CPUID_ECX] = sub & 0xff;
	out[CPUID_EDX] = c->index;
	if (sub == 0) {
		out[CPUID_EBX] = 1;
		out[CPUID_ECX] |= 1 << 8;
	} else if (sub == 1) {
		out[CPUID_EAX] = id_bits(c);
		out[CPUID_EBX] = c->vm->nvcpus;
		out[CPUID_ECX] |= 2 << 8;
	}
}

static void basic(struct soft_vcpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
	uint32_t mhz = (uint32_t)((os_tsc_hz() + 500000) / 1000000);

	switch (leaf) {
	case 0:
		out[CPUID_EAX] = 0x16;
		out[CPUID_EBX] = host.vendor[0];
		out[CPUID_ECX] = host.vendor[1];
		out[CPUID_EDX] = host.vendor[2];
		break;
	case 1: leaf1(c, out); break;
	case 2:
		if (host.intel) {
			out[CPUID_EAX] = 0x00feff01; /* TLBs by leaf 0x18, caches by leaf 4 */
			out[CPUID_EDX] = 0;
		}
		break;
	case 4:
		if (host.intel)
			leaf4(c, sub, out);
		break;
	case 6: out[CPUID_EAX] = BIT(2); break; /* the APIC timer never stops */
	case 7:
		if (sub)
			break;
		out[CPUID_EBX] = (uint32_t)(F7B_BASE | (host.f7b & F7B_HOST));
		out[CPUID_EDX] = (uint32_t)(F7D_FSRM | (host.intel ? F7D_ARCH_CAPS : 0));
		break;
	case 0xb: leaf_b(c, sub, out); break;
	/*
	 * Leaf 0x15 stays zero: it can state the TSC's rate only as a ratio to a crystal, and the rate we know is in
	 * kHz (leaf 0x40000010) and in the clock page.
	 */
	case 0x16:
		out[CPUID_EAX] = out[CPUID_EBX] = mhz;
		out[CPUID_ECX] = 100;
		break;
	default: break;
	}
}

static void hypervisor(uint32_t leaf, uint32_t out[4])
{
	switch (leaf) {
	case 0x40000000:
		out[CPUID_EAX] = 0x40000010;
		out[CPUID_EBX] = 0x4b4d564b; /* KVMKVMKVM */
		out[CPUID_ECX] = 0x564b4d56;
		out[CPUID_EDX] = 0x4d;
		break;
	case 0x40000001:
		out[CPUID_EAX] = (uint32_t)(BIT(KVM_CLOCKSOURCE) | BIT(KVM_NOP_IO_DELAY) |
					    BIT(KVM_CLOCKSOURCE2) | BIT(KVM_CLOCKSOURCE_STABLE));
		break;
	case 0x40000010:
		out[CPUID_EAX] = (uint32_t)(os_tsc_hz() / 1000);
		out[CPUID_EBX] = 1000000; /* the APIC timer's rate */
		break;
	default: break;
	}
}

static void extended(struct soft_vcpu *c, uint32_t leaf, uint32_t out[4])
{
	static const char brand[48] = "wslx software CPU";

	switch (leaf) {
	case 0x80000000:
		out[CPUID_EAX] = 0x80000008;
		if (!host.intel) {
			out[CPUID_EBX] = host.vendor[0];
			out[CPUID_ECX] = host.vendor[1];
			out[CPUID_EDX] = host.vendor[2];
		}
		break;
	case 0x80000001:
		out[CPUID_ECX] = (uint32_t)FXC_BASE;
		out[CPUID_EDX] = (uint32_t)FXD_BASE;
		if (!host.intel) {
			out[CPUID_EDX] |= (uint32_t)F1D_BASE & FXD_AMD_REPEAT;
			out[CPUID_ECX] |= c->vm->nvcpus > 1 ? BIT(1) : 0; /* CmpLegacy */
		}
		break;
	case 0x80000002:
	case 0x80000003:
	case 0x80000004: memcpy(out, brand + (leaf - 0x80000002) * 16, 16); break;
	case 0x80000005:
		if (!host.intel) {
			out[CPUID_ECX] = 48 << 24 | 12 << 16 | 1 << 8 | 64;
			out[CPUID_EDX] = 32 << 24 | 8 << 16 | 1 << 8 | 64;
		}
		break;
	case 0x80000006: out[CPUID_ECX] = 2048u << 16 | 8 << 12 | 64; break;
	case 0x80000007: out[CPUID_EDX] = BIT(8); break; /* invariant TSC */
	case 0x80000008:
		out[CPUID_EAX] = SOFT_PHYS_BITS | 48 << 8;
		if (!host.intel)
			out[CPUID_ECX] = (c->vm->nvcpus - 1) | id_bits(c) << 12;
		break;
	default: break;
	}
}

void soft_cpuid(struct soft_vcpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
	memset(out, 0, 4 * sizeof(out[0]));
	if (leaf >= 0x80000000)
		extended(c, leaf, out);
	else if (leaf >= 0x40000000)
		hypervisor(leaf, out);
	else
		basic(c, leaf, sub, out);
}

uint64_t soft_cr4_valid(const struct soft_vcpu *c)
{
	return CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCE | CR4_OSFXSR |
	       CR4_OSXMMEXCPT | CR4_FSGSBASE | CR4_OSXSAVE;
}

uint64_t soft_xcr0_valid(const struct soft_vcpu *c)
{
	return XCR0_VALID;
}
