/* SPDX-License-Identifier: MIT */
/*
 * The local APIC, MSRs and CPUID under a hostile guest: a stream of 8-byte commands {what and which vCPU, length,
 * register16, value32}; the input's first 1024 bytes serve as a saved register page, too.
 */
#include <stdlib.h>
#include "lib/base/le.h"
#include "vmm/cpu/soft/lapic-rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint32_t msrs[] = {0x10, 0x1b, 0x3b, 0x6e0, 0x11, 0x12, 0x174, 0x1a0, 0x1d9, 0x200,
	0x250, 0x277, 0x2ff, 0x4b564d00, 0x4b564d01, 0xc0000080, 0xc0000100, 0xc0000103,
	0xc0010015};

static uint32_t msr_of(unsigned reg)
{
	return reg & 0x100 ? msrs[reg % ARRAY_LEN(msrs)] : 0x800 + (reg & 0x3f);
}

static void command(struct rig *r, struct soft_vcpu *c, const uint8_t *cmd)
{
	unsigned len = 1u << cmd[1] % 4, reg = le16_get(cmd + 2);
	uint64_t val = le32_get(cmd + 4), v;
	uint32_t out[4];
	int pending;

	/* High halves that matter: none, all, a destination, a kernel address. */
	val |= (uint64_t[]){0, ~0ull << 32, 2ull << 32, 0xffff8880ull << 32}[cmd[1] >> 2 & 3];
	switch (cmd[0] >> 2 & 7) {
	case 0:
		if (soft_lapic_mmio(c->lapic, 0xfee00000 | (reg & 0xfff)))
			soft_lapic_mmio_write(c->lapic, 0xfee00000 | (reg & 0xfff), len, val);
		break;
	case 1: soft_lapic_mmio_read(c->lapic, 0xfee00000 | (reg & 0xfff), len); break;
	case 2: soft_wrmsr(c, msr_of(reg), val); break;
	case 3: soft_rdmsr(c, msr_of(reg), &v); break;
	case 4: soft_lapic_msi(&r->vm, 0xfee00000ull | (uint64_t)reg << 2, (uint32_t)val); break;
	case 5:
		pending = soft_lapic_pending(c->lapic);
		/* Only this thread lowers requests: what is pending can be taken, or something higher. */
		if (pending >= 0 && soft_lapic_ack(c->lapic) < pending)
			abort();
		break;
	case 6: soft_lapic_set_cr8(c->lapic, val & 15); break;
	default: soft_cpuid(c, (uint32_t)val, reg, out); break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rig *r = setup(3);
	uint8_t page[1024] = {0};

	memcpy(page, data, MIN(size, sizeof(page)));
	for (size_t i = 0; i + 8 <= size; i += 8)
		command(r, r->vm.vcpu[data[i] % 3], data + i);
	for (unsigned i = 0; i < 3; i++) {
		struct soft_vcpu *c = r->vm.vcpu[i];

		soft_lapic_set_page(c->lapic, page);
		soft_lapic_pending(c->lapic);
		soft_lapic_ack(c->lapic);
		soft_lapic_get_page(c->lapic, page);
		soft_lapic_reset(c->lapic, true);
	}
	teardown(r);
	return 0;
}
