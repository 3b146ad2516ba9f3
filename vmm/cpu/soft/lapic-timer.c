/* SPDX-License-Identifier: MIT */
/*
 * The APIC timer (SDM vol. 3 §11.5.4). It counts at 1 GHz, as KVM's does, so that a count means the same on either back
 * end. Expiry is noticed on the vCPU's own thread (apic_timer_check()), which the VM's timer thread prods by EV_INTR.
 */
#include "vmm/cpu/soft/lapic-internal.h"

/* A guest that asks for shorter periods than this would only be interrupted. */
enum { MIN_PERIOD_NS = 20000 };

static unsigned mode(const struct soft_lapic *l)
{
	return apic_get(l, APIC_LVT_TIMER) >> 17 & 3;
}

/* log2 of the divider: bits 3, 1 and 0 of the register, where 7 means 1 and n means 2^(n+1). */
static unsigned divider(const struct soft_lapic *l)
{
	uint32_t v = apic_get(l, APIC_TIMER_DCR);

	return ((v & 3) + (v >> 1 & 4) + 1) & 7;
}

static uint64_t period(const struct soft_lapic *l)
{
	uint64_t ns = (uint64_t)apic_get(l, APIC_TIMER_ICR) << divider(l);

	return mode(l) == TIMER_PERIODIC && ns < MIN_PERIOD_NS ? MIN_PERIOD_NS : ns;
}

void apic_timer_watch(struct soft_lapic *l)
{
	uint64_t t = l->waiting ? UINT64_MAX : l->deadline_ns;

	if (atomic_load_explicit(&l->watched_ns, memory_order_relaxed) == t)
		return;
	atomic_store(&l->watched_ns, t);
	if (t != UINT64_MAX)
		soft_clock_earlier(l->c->vm->clock, t);
}

static void set_deadline(struct soft_lapic *l, uint64_t t)
{
	l->deadline_ns = t;
	apic_timer_watch(l);
}

static void arm_tsc(struct soft_lapic *l)
{
	uint64_t now = soft_tsc(l->c);
	uint64_t left = l->tsc_deadline > now ? l->tsc_deadline - now : 0;
	uint64_t ns = soft_tsc_to_ns(left), t = os_now() + ns;

	if (!l->tsc_deadline || t < ns)
		t = UINT64_MAX;
	set_deadline(l, t);
	/* Already past: nobody needs to be woken for it. */
	if (l->tsc_deadline && !left)
		soft_post(l->c, EV_INTR);
}

static void arm(struct soft_lapic *l)
{
	soft_clock_look(l->c->vm->clock, soft_host_tsc);
	if (mode(l) == TIMER_TSC_DEADLINE)
		arm_tsc(l);
	else if (apic_get(l, APIC_TIMER_ICR) && l->start_ns != UINT64_MAX)
		set_deadline(l, l->start_ns + period(l));
	else
		set_deadline(l, UINT64_MAX);
}

void apic_timer_reset(struct soft_lapic *l)
{
	l->start_ns = UINT64_MAX;
	l->tsc_deadline = 0;
	l->deadline_ns = UINT64_MAX;
	atomic_store(&l->watched_ns, UINT64_MAX);
}

void apic_timer_changed(struct soft_lapic *l, bool restart)
{
	if (mode(l) == TIMER_TSC_DEADLINE) {
		apic_put(l, APIC_TIMER_ICR, 0); /* writes are ignored in this mode */
		l->start_ns = UINT64_MAX;
	} else {
		l->tsc_deadline = 0;
		if (restart)
			l->start_ns = os_now();
	}
	arm(l);
}

uint32_t apic_timer_count(struct soft_lapic *l)
{
	uint64_t now = os_now();

	apic_timer_check(l);
	if (mode(l) == TIMER_TSC_DEADLINE || l->deadline_ns == UINT64_MAX || l->deadline_ns <= now)
		return 0;
	return (uint32_t)((l->deadline_ns - now) >> divider(l));
}

void apic_timer_restore(struct soft_lapic *l, uint32_t count)
{
	uint64_t left = (uint64_t)count << divider(l);

	l->start_ns = UINT64_MAX;
	/* An expired one-shot count stays expired. */
	if (mode(l) != TIMER_TSC_DEADLINE && (count || mode(l) == TIMER_PERIODIC) &&
		left <= period(l))
		l->start_ns = os_now() - (period(l) - left);
	arm(l);
}

static void fire(struct soft_lapic *l)
{
	uint32_t lvt = apic_get(l, APIC_LVT_TIMER);

	if (!(lvt & LVT_MASKED))
		apic_accept(l, lvt & LVT_VECTOR, false);
}

void apic_timer_check(struct soft_lapic *l)
{
	uint64_t now;

	if (l->deadline_ns == UINT64_MAX)
		return;
	now = os_now();
	switch (mode(l)) {
	case TIMER_TSC_DEADLINE:
		if (soft_tsc(l->c) < l->tsc_deadline) {
			if (now >= l->deadline_ns)
				arm(l); /* the two clocks differ a little: not yet */
			return;
		}
		l->tsc_deadline = 0;
		set_deadline(l, UINT64_MAX);
		break;
	case TIMER_PERIODIC:
		if (now < l->deadline_ns)
			return;
		/* Periods missed meanwhile are merged into one interrupt. */
		l->start_ns = now - (now - l->start_ns) % period(l);
		arm(l);
		break;
	default:
		if (now < l->deadline_ns)
			return;
		l->start_ns = UINT64_MAX;
		set_deadline(l, UINT64_MAX);
		break;
	}
	fire(l);
}

uint64_t soft_lapic_get_tsc_deadline(struct soft_lapic *l)
{
	apic_timer_check(l);
	return l->tsc_deadline;
}

void soft_lapic_set_tsc_deadline(struct soft_lapic *l, uint64_t v, bool host)
{
	if (!host && mode(l) != TIMER_TSC_DEADLINE)
		return; /* ignored (§11.5.4.1) */
	l->tsc_deadline = v;
	if (mode(l) == TIMER_TSC_DEADLINE)
		arm(l);
}

void soft_lapic_tsc_changed(struct soft_lapic *l)
{
	if (mode(l) == TIMER_TSC_DEADLINE)
		arm(l);
}
