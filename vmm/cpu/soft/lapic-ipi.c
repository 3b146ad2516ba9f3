/* SPDX-License-Identifier: MIT */
/*
 * Interrupt messages: from the ICR of one APIC or from an MSI to the APICs they address (SDM vol. 3 §11.6, §11.11,
 * §11.12.10). Receivers are told through atomic request bits; nothing here waits.
 */
#include "vmm/cpu/soft/block.h"
#include "vmm/cpu/soft/lapic-internal.h"
#include "vmm/cpu/soft/msr.h"

enum { SHORT_NONE, SHORT_SELF, SHORT_ALL, SHORT_OTHERS };

struct message {
	uint32_t dest;
	bool wide; /* dest has 32 bits (x2APIC), else 8 */
	bool logical;
	bool level;
	uint8_t mode, vector, shorthand;
	struct soft_lapic *from; /* NULL: a device */
};

void apic_accept(struct soft_lapic *l, uint8_t vector, bool level)
{
	uint32_t bit = 1u << vector % 32;

	if (!apic_enabled(l))
		return;
	if (vector < 16) {
		apic_error(l, ESR_RECV_VECTOR);
		return;
	}
	if (level)
		atomic_fetch_or(&l->reg[APIC_TMR + vector / 32], bit);
	else if (apic_get(l, APIC_TMR + vector / 32) & bit)
		atomic_fetch_and(&l->reg[APIC_TMR + vector / 32], ~bit);
	/* Ordered before the event; pairs with the exchange by which the vCPU takes its events. */
	atomic_fetch_or(&l->reg[APIC_IRR + vector / 32], bit);
	soft_post(l->c, EV_INTR);
}

void apic_error(struct soft_lapic *l, uint32_t bit)
{
	uint32_t lvt = apic_get(l, APIC_LVT_ERROR);

	atomic_fetch_or(&l->esr_next, bit);
	if (!(lvt & LVT_MASKED) && (lvt & LVT_VECTOR) >= 16)
		apic_accept(l, lvt & LVT_VECTOR, false);
}

static bool match_logical_x(const struct soft_lapic *l, uint32_t dest)
{
	uint32_t ldr = apic_get(l, APIC_LDR) >> 24;

	if (apic_get(l, APIC_DFR) >> 28 == 0xf)
		return ldr & dest; /* flat */
	return ldr >> 4 == dest >> 4 && (ldr & dest & 0xf);
}

static bool match(const struct soft_lapic *l, const struct message *m)
{
	switch (m->shorthand) {
	case SHORT_SELF: return l == m->from;
	case SHORT_ALL: return true;
	case SHORT_OTHERS: return l != m->from;
	default: break;
	}
	if (m->dest == (m->wide ? UINT32_MAX : 0xff))
		return true;
	if (!m->logical)
		return m->dest == l->c->index;
	if (apic_x2(l)) {
		uint32_t ldr = apic_get(l, APIC_LDR);

		return ldr >> 16 == m->dest >> 16 && (ldr & m->dest & 0xffff);
	}
	return !(m->dest >> 8) && match_logical_x(l, m->dest);
}

static void receive(struct soft_lapic *l, const struct message *m)
{
	switch (m->mode) {
	case DELIVER_FIXED:
	case DELIVER_LOWEST: apic_accept(l, m->vector, m->level); break;
	case DELIVER_NMI: soft_post(l->c, EV_NMI); break;
	case DELIVER_INIT:
		/* A SIPI that comes after it stands; one from before is void. */
		atomic_fetch_and(&l->c->events, ~(uint32_t)EV_SIPI);
		soft_post(l->c, EV_INIT);
		break;
	case DELIVER_SIPI:
		l->c->sipi_vector = m->vector;
		soft_post(l->c, EV_SIPI);
		break;
	default: break; /* no SMM; ExtINT needs a PIC */
	}
}

static void send(struct soft_vm *vm, const struct message *m)
{
	struct soft_lapic *best = NULL;

	for (unsigned i = 0; i < vm->nvcpus; i++) {
		struct soft_lapic *l = vm->vcpu[i] ? vm->vcpu[i]->lapic : NULL;

		if (!l || !(apic_base(l) & BASE_ENABLED) || !match(l, m))
			continue;
		if (m->mode != DELIVER_LOWEST) {
			receive(l, m);
			continue;
		}
		if (apic_enabled(l) && (!best || apic_get(l, APIC_TPR) < apic_get(best, APIC_TPR)))
			best = l;
	}
	if (best)
		receive(best, m);
}

void apic_send_icr(struct soft_lapic *l, uint64_t icr)
{
	bool x2 = apic_x2(l);
	struct message m = {
		.dest = (uint32_t)(icr >> (x2 ? 32 : 56)),
		.wide = x2,
		.logical = icr & BIT(11),
		.level = false, /* IPIs are edge-triggered, whatever bit 15 says (§11.6.1) */
		.mode = icr >> 8 & 7,
		.vector = icr & 0xff,
		.shorthand = icr >> 18 & 3,
		.from = l,
	};

	/* The target may be told to execute what has just been written here: settle requests about that first. */
	if (atomic_fetch_and(&l->c->events, ~(uint32_t)EV_CODE) & EV_CODE)
		soft_code_requests(l->c);
	/* INIT level de-assert: synchronized arbitration ids once, does nothing today. */
	if (m.mode == DELIVER_INIT && (icr & BIT(15)) && !(icr & BIT(14)))
		return;
	if ((m.mode == DELIVER_FIXED || m.mode == DELIVER_LOWEST) && m.vector < 16) {
		apic_error(l, ESR_SEND_VECTOR);
		return;
	}
	send(l->c->vm, &m);
}

void soft_lapic_msi(struct soft_vm *vm, uint64_t addr, uint32_t data)
{
	struct message m = {
		/* Bits 11:5 extend the destination to 15 bits, as KVM_FEATURE_MSI_EXT_DEST_ID has it. */
		.dest = (uint32_t)(addr >> 12 & 0xff) | (uint32_t)(addr >> 5 & 0x7f) << 8,
		.logical = addr & BIT(2),
		.level = data & BIT(15),
		.mode = data >> 8 & 7,
		.vector = data & 0xff,
	};

	if (addr >> 20 != 0xfee)
		return;
	/* Redirection hint: to one of those addressed. */
	if ((addr & BIT(3)) && m.logical && m.mode == DELIVER_FIXED)
		m.mode = DELIVER_LOWEST;
	send(vm, &m);
}
