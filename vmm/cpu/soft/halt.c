/* SPDX-License-Identifier: MIT */
/*
 * Waiting in HLT or for a start-up IPI. Waking a sleeping thread costs tens of microseconds, so a vCPU whose waits have
 * been short spins first; one whose waits are long soon does not spin at all, and an idle VM takes no host CPU.
 */
#include "vmm/cpu/soft/lapic-internal.h"

enum { SPIN_MIN_NS = 5000, SPIN_MAX_NS = 100000 };

static bool has_event(struct soft_vcpu *c, uint32_t mask)
{
	return atomic_load_explicit(&c->events, memory_order_acquire) & mask;
}

/* True: an event came while spinning. */
static bool spin(struct soft_vcpu *c, uint32_t mask, uint64_t until)
{
	do {
		for (unsigned i = 0; i < 64; i++) {
			if (has_event(c, mask))
				return true;
			__builtin_ia32_pause();
		}
	} while (os_now() < until);
	return false;
}

static void sleep_until(struct soft_vcpu *c, uint32_t mask, uint64_t deadline)
{
	/* Pairs with soft_post(), which sets the event first and looks at asleep then. */
	atomic_store(&c->asleep, true);
	if (!(atomic_load(&c->events) & mask))
		os_event_wait(&c->wake, deadline);
	atomic_store(&c->asleep, false);
}

/* Longer spins while they would have paid, shorter ones while they do not. */
static void adapt(struct soft_lapic *l, uint64_t waited_ns)
{
	if (waited_ns < SPIN_MAX_NS)
		l->spin_ns = MIN((uint64_t)SPIN_MAX_NS, MAX((uint64_t)SPIN_MIN_NS, l->spin_ns * 2));
	else
		l->spin_ns = l->spin_ns / 2 < SPIN_MIN_NS ? 0 : l->spin_ns / 2;
}

void soft_halt_wait(struct soft_vcpu *c, uint32_t mask)
{
	struct soft_lapic *l = c->lapic;
	uint64_t start;

	if (has_event(c, mask))
		return;
	start = os_now();
	l->waiting = true;
	apic_timer_watch(l); /* nothing for the timer thread: the deadline is looked at here */
	for (bool spun = false; !has_event(c, mask); spun = true) {
		uint64_t now = os_now();

		if (now >= l->deadline_ns) {
			apic_timer_check(l);
			continue;
		}
		if (!spun && l->spin_ns && spin(c, mask, MIN(now + l->spin_ns, l->deadline_ns)))
			break;
		if (os_now() < l->deadline_ns)
			sleep_until(c, mask, l->deadline_ns);
	}
	l->waiting = false;
	apic_timer_watch(l);
	adapt(l, os_now() - start);
}
