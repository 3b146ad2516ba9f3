/* SPDX-License-Identifier: MIT */
/*
 * The paravirtual clock and the timer thread.
 *
 * The VM's clock is one pair (host TSC, nanoseconds) chosen when the VM is made or restored, and the rate of the host's
 * TSC: all vCPUs publish the same pair, moved by their TSC offset, so that time is the same on all of them
 * (PVCLOCK_TSC_STABLE) and the page is written once, not at every entry.
 */
#include "vmm/cpu/soft/clock.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/le.h"
#include "vmm/core/state.h"
#include "vmm/cpu/soft/msr.h"

enum { PVCLOCK_TSC_STABLE = 1, TIME_INFO_SIZE = 32, WALL_SIZE = 12 };

struct soft_clock {
	struct soft_vm *vm;
	struct os_mutex lock; /* everything but stop and next_ns; above os_event's */
	uint64_t base_tsc, base_ns;
	uint32_t mul; /* constant: the rate of the TSC */
	int8_t shift;
	bool have_offset;
	uint64_t last_offset;
	uint64_t seen_tsc, seen_ns; /* the host's, when it was looked at last */
	struct watch {
		struct soft_vcpu *c;
		_Atomic uint64_t *deadline_ns;
	} watch[CPU_MAX_VCPUS];

	struct os_thread *thread;
	struct os_event wake;
	_Atomic bool stop;
	_Atomic uint64_t next_ns; /* when the thread wakes next */
};

uint64_t soft_tsc_to_ns(uint64_t n)
{
	uint64_t hz = os_tsc_hz();
	unsigned __int128 ns = ((unsigned __int128)n * 1000000000 + hz - 1) / hz;

	return ns >> 64 ? UINT64_MAX : (uint64_t)ns;
}

/* --- timer thread --- */

/* Posts what is due; returns the earliest deadline left. */
static uint64_t scan(struct soft_clock *k)
{
	uint64_t now = os_now(), next = UINT64_MAX;

	OS_GUARD(&k->lock);
	for (unsigned i = 0; i < CPU_MAX_VCPUS; i++) {
		struct watch *w = &k->watch[i];
		uint64_t t = w->c ? atomic_load(w->deadline_ns) : UINT64_MAX;

		if (t <= now) {
			/* Once: unless the vCPU has set a new one meanwhile. */
			if (atomic_compare_exchange_strong(w->deadline_ns, &t, UINT64_MAX))
				soft_post(w->c, EV_INTR);
			else
				next = MIN(next, t);
		} else {
			next = MIN(next, t);
		}
	}
	return next;
}

static void timer_thread(void *ctx)
{
	struct soft_clock *k = ctx;

	while (!atomic_load(&k->stop)) {
		uint64_t next = scan(k);

		/* Pairs with soft_clock_earlier(): either it sees the new next_ns, or scan() its deadline. */
		atomic_store(&k->next_ns, next);
		if (scan(k) >= next)
			os_event_wait(&k->wake, next);
	}
}

int soft_clock_watch(struct soft_clock *k, struct soft_vcpu *c, _Atomic uint64_t *deadline_ns)
{
	OS_GUARD(&k->lock);
	k->watch[c->index] = (struct watch){.c = c, .deadline_ns = deadline_ns};
	/* Not before there are vCPUs: by then the program has entered its sandbox, which threads inherit. */
	return k->thread ? 0 : os_thread_start(&k->thread, "vcpu-timer", timer_thread, k);
}

void soft_clock_unwatch(struct soft_clock *k, struct soft_vcpu *c)
{
	OS_GUARD(&k->lock);
	k->watch[c->index] = (struct watch){0};
}

void soft_clock_earlier(struct soft_clock *k, uint64_t t)
{
	if (t < atomic_load(&k->next_ns))
		os_event_set(&k->wake);
}

/* --- the host's TSC --- */

/* Processors of one machine may be apart a little. */
enum { APART_MS = 10 };

void soft_clock_look(struct soft_clock *k, uint64_t (*host_tsc)(void))
{
	uint64_t hz = os_tsc_hz(), tsc, now, lost;

	OS_GUARD(&k->lock);
	/* With the lock held: a thread that stood still after it had read would be late, and find a TSC that went back. */
	tsc = host_tsc();
	now = os_now();
	if (k->seen_tsc > tsc && k->seen_tsc - tsc > hz / 1000 * APART_MS) {
		lost = k->seen_tsc - tsc +
		       (uint64_t)((unsigned __int128)(now - k->seen_ns) * hz / 1000000000);
		/* What is published is the sum of the two, and stays. */
		k->base_tsc -= lost;
		k->last_offset += lost;
		for (unsigned i = 0; i < k->vm->nvcpus; i++)
			if (k->vm->vcpu[i])
				k->vm->vcpu[i]->tsc_offset += lost;
	}
	k->seen_tsc = tsc;
	k->seen_ns = now;
}

/* --- kvmclock --- */

/* ns = ticks * 2^shift * mul / 2^32, with as many bits of mul as fit (pvclock_vcpu_time_info). */
static void find_scale(uint64_t hz, uint32_t *ret_mul, int8_t *ret_shift)
{
	int shift = 0;

	while (hz > 2000000000) {
		hz >>= 1;
		shift--;
	}
	while (hz <= 1000000000) {
		hz <<= 1;
		shift++;
	}
	*ret_mul = (uint32_t)(((unsigned __int128)1000000000 << 32) / hz);
	*ret_shift = (int8_t)shift;
}

/* As the guest computes it, to the last bit: a saved time is never behind one that the guest has seen. */
static uint64_t ns_at(const struct soft_clock *k, uint64_t host_tsc)
{
	unsigned __int128 ticks = host_tsc - k->base_tsc;

	ticks = k->shift < 0 ? ticks >> -k->shift : ticks << k->shift;
	return k->base_ns + (uint64_t)(ticks * k->mul >> 32);
}

uint64_t soft_clock_ns(struct soft_clock *k)
{
	OS_GUARD(&k->lock);
	return ns_at(k, soft_host_tsc());
}

uint64_t soft_clock_tsc_offset(struct soft_clock *k, uint64_t guest_tsc)
{
	uint64_t offset = guest_tsc - soft_host_tsc();
	int64_t delta;

	OS_GUARD(&k->lock);
	delta = (int64_t)(offset - k->last_offset);
	/* vCPUs are loaded one after another: values that fit within a second are meant to be the same. */
	if (k->have_offset && delta < (int64_t)os_tsc_hz() && -delta < (int64_t)os_tsc_hz())
		return k->last_offset;
	k->have_offset = true;
	k->last_offset = offset;
	return offset;
}

void soft_clock_publish(struct soft_vcpu *c, uint64_t msr)
{
	struct soft_clock *k = c->vm->clock;
	gpa_t gpa = msr & ~1ull;
	uint8_t page[TIME_INFO_SIZE] = {0}, version[4];

	if (!(msr & 1) || gmem_read(c->vm->gm, gpa, version, sizeof(version)) < 0)
		return;
	os_mutex_lock(&k->lock);
	le64_put(page + 8, k->base_tsc + c->tsc_offset);
	le64_put(page + 16, k->base_ns);
	os_mutex_unlock(&k->lock);
	le32_put(page + 24, k->mul);
	page[28] = (uint8_t)k->shift;
	page[29] = PVCLOCK_TSC_STABLE;

	/* Odd while it changes. A reader on another vCPU retries until it sees the same even number twice. */
	le32_put(page, (le32_get(version) | 1) + 2);
	if (gmem_write(c->vm->gm, gpa, page, 4) < 0)
		return;
	atomic_thread_fence(memory_order_seq_cst);
	if (gmem_write(c->vm->gm, gpa + 4, page + 4, sizeof(page) - 4) < 0)
		return;
	atomic_thread_fence(memory_order_seq_cst);
	le32_put(page, le32_get(page) + 1);
	if (gmem_write(c->vm->gm, gpa, page, 4) < 0)
		return;
}

void soft_clock_wall(struct soft_vcpu *c, uint64_t msr)
{
	uint64_t boot = os_realtime() - soft_clock_ns(c->vm->clock);
	uint8_t page[WALL_SIZE];

	le32_put(page, 2);
	le32_put(page + 4, (uint32_t)(boot / 1000000000));
	le32_put(page + 8, (uint32_t)(boot % 1000000000));
	if (gmem_write(c->vm->gm, msr, page, sizeof(page)) < 0)
		return; /* outside RAM: the guest reads nothing, as with any such address */
}

/* --- life --- */

int soft_clock_new(struct soft_clock **ret, struct soft_vm *vm)
{
	struct soft_clock *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	k->vm = vm;
	os_mutex_init(&k->lock);
	os_event_init(&k->wake);
	find_scale(os_tsc_hz(), &k->mul, &k->shift); /* may take a while the first time */
	k->base_tsc = soft_host_tsc();
	*ret = k;
	return 0;
}

void soft_clock_free(struct soft_clock *k)
{
	if (!k)
		return;
	atomic_store(&k->stop, true);
	os_event_set(&k->wake);
	if (k->thread)
		os_thread_join(k->thread);
	os_event_done(&k->wake);
	os_mutex_done(&k->lock);
	free(k);
}

void soft_clock_save(struct soft_clock *k, struct state_w *w)
{
	state_begin(w, "clock", 1);
	state_put_u64(w, soft_clock_ns(k));
	state_end(w);
}

/* The clock goes on where it stood; vCPUs publish it again, whether their MSRs come before or after. */
int soft_clock_load(struct soft_clock *k, struct state_r *r)
{
	uint64_t ns;

	state_enter(r, "clock", 1);
	ns = state_get_u64(r);
	state_leave(r);
	if (state_check(r, NULL) < 0)
		return -EBADMSG;
	os_mutex_lock(&k->lock);
	k->base_ns = ns;
	k->base_tsc = soft_host_tsc();
	os_mutex_unlock(&k->lock);
	for (unsigned i = 0; i < k->vm->nvcpus; i++)
		if (k->vm->vcpu[i])
			soft_msr_publish_clock(k->vm->vcpu[i]);
	return 0;
}
