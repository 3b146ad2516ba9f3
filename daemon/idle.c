/* SPDX-License-Identifier: MIT */
/*
 * Stopping what nobody uses: a VM when no distribution has run in it for vmIdleTimeout, the
 * service itself when there is neither a VM nor a client nor work for serviceIdleTimeout. Idle
 * distributions are distro.c's.
 */
#include "daemon/distro.h"
#include "daemon/machine.h"
#include "daemon/service.h"
#include "daemon/volume.h"
#include "lib/base/attr.h"
#include "lib/base/log.h"

static void arm(struct loop_src *timer, bool idle, bool *was, int64_t ms)
{
	if (idle == *was)
		return;
	*was = idle;
	loop_timer_arm(timer, idle && ms >= 0 ? loop_now() + (uint64_t)ms * 1000000u + 1 : 0);
}

static bool machine_is_idle(const struct machine *m)
{
	return vm_state(m->vm) == VM_UP && !distro_any(m->s, m) && !volume_busy(m);
}

static bool service_is_idle(const struct service *s)
{
	return !s->machines && !s->jobs && !distro_any(s, NULL) &&
	       ctl_server_connections(s->srv) == 0;
}

/*
 * A client started us and is on its way. Were we to end before it is here, it would start the next
 * one, and so on.
 */
enum { STARTER_MS = 10000 };

void idle_check(void *service)
{
	struct service *s = service;
	int64_t ms = s->service_idle_ms;

	if (s->srv && ctl_server_connections(s->srv) > 0)
		s->visited = true;
	if (!s->visited && ms >= 0)
		ms = MAX(ms, STARTER_MS);
	/* A machine that is one distribution's has nothing to wait for when that has stopped. */
	for (struct machine *m = s->machines; m; m = m->next)
		arm(m->idle, machine_is_idle(m), &m->was_idle, m->owner[0] ? 0 : m->set.vm_idle_ms);
	if (s->srv)
		arm(s->service_idle, service_is_idle(s), &s->service_was_idle, ms);
}

static void machine_idle(void *ctx)
{
	struct machine *m = ctx;

	m->was_idle = false;
	if (machine_is_idle(m)) {
		log_debug("idle", "shutting a virtual machine down");
		vm_shutdown(m->vm);
	}
}

static void service_idle(void *ctx)
{
	struct service *s = ctx;

	s->service_was_idle = false;
	if (service_is_idle(s))
		loop_quit(s->loop, 0);
}

int idle_init(struct service *s)
{
	return loop_timer(s->loop, service_idle, s, &s->service_idle);
}

int idle_watch(struct machine *m)
{
	return loop_timer(m->s->loop, machine_idle, m, &m->idle);
}
