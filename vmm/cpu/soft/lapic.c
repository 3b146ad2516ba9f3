/* SPDX-License-Identifier: MIT */
/* The local APIC: nothing yet; no interrupt ever arrives. */
#include "vmm/cpu/soft/lapic.h"

int soft_lapic_new(struct soft_lapic **ret, struct soft_vcpu *c)
{
	*ret = NULL;
	return 0;
}

void soft_lapic_free(struct soft_lapic *l)
{
}

void soft_lapic_reset(struct soft_lapic *l, bool init)
{
}

bool soft_lapic_mmio(struct soft_lapic *l, gpa_t gpa)
{
	return false;
}

uint64_t soft_lapic_mmio_read(struct soft_lapic *l, gpa_t gpa, unsigned len)
{
	return 0;
}

void soft_lapic_mmio_write(struct soft_lapic *l, gpa_t gpa, unsigned len, uint64_t v)
{
}

int soft_lapic_pending(struct soft_lapic *l)
{
	return -1;
}

int soft_lapic_ack(struct soft_lapic *l)
{
	return -1;
}

uint8_t soft_lapic_get_cr8(struct soft_lapic *l)
{
	return 0;
}

void soft_lapic_set_cr8(struct soft_lapic *l, uint8_t v)
{
}

void soft_lapic_msi(struct soft_vm *vm, uint64_t addr, uint32_t data)
{
}

void soft_lapic_get_page(struct soft_lapic *l, uint8_t page[1024])
{
}

void soft_lapic_set_page(struct soft_lapic *l, const uint8_t page[1024])
{
}

void soft_halt_wait(struct soft_vcpu *c, uint32_t mask)
{
	while (!(atomic_load(&c->events) & mask)) {
		atomic_store(&c->asleep, true);
		if (!(atomic_load(&c->events) & mask))
			os_event_wait(&c->wake, UINT64_MAX);
		atomic_store(&c->asleep, false);
	}
}
