/* SPDX-License-Identifier: MIT */
/*
 * Stopping what nobody uses: the VM when no distribution has run in it for vmIdleTimeout, the
 * service itself when there is neither VM nor client nor work for serviceIdleTimeout. Idle
 * distributions are distro.c's.
 */
#include "daemon/distro.h"
#include "daemon/service.h"
#include "lib/base/attr.h"
#include "lib/base/log.h"

static void arm(struct loop_src *timer, bool idle, bool *was, int64_t ms)
{
	if (idle == *was)
		return;
	*was = idle;
	loop_timer_arm(timer, idle && ms >= 0 ? loop_now() + (uint64_t)ms * 1000000u + 1 : 0);
}

static bool vm_is_idle(const struct service *s)
{
	return s->vm && vm_state(s->vm) == VM_UP && !distro_any(s);
}

static bool service_is_idle(const struct service *s)
{
	return !s->vm && !s->jobs && !distro_any(s) && ctl_server_connections(s->srv) == 0;
}

/*
 * A client started us and is on its way. Were we to end before it is here, it would start the next
 * one, and so on.
 */
enum { STARTER_MS = 10000 };

void idle_check(void *service)
{
	struct service *s = service;
	int64_t ms = s->set.service_idle_ms;

	if (s->srv && ctl_server_connections(s->srv) > 0)
		s->visited = true;
	if (!s->visited && ms >= 0)
		ms = MAX(ms, STARTER_MS);
	arm(s->vm_idle, vm_is_idle(s), &s->vm_was_idle, s->set.vm_idle_ms);
	if (s->srv)
		arm(s->service_idle, service_is_idle(s), &s->service_was_idle, ms);
}

static void vm_idle(void *ctx)
{
	struct service *s = ctx;

	if (vm_is_idle(s)) {
		log_debug("idle", "shutting the virtual machine down");
		vm_shutdown(s->vm);
	}
	s->vm_was_idle = false;
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
	int r = loop_timer(s->loop, vm_idle, s, &s->vm_idle);

	return r < 0 ? r : loop_timer(s->loop, service_idle, s, &s->service_idle);
}
