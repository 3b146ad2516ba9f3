/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/distro-internal.h"
#include "daemon/interop.h"
#include "daemon/volume.h"
#include "lib/base/log.h"

/* systemd has its services end within STOP_MS on hardware, and the guest allows it more on a slow machine. */
enum { STOP_MS = 8000, STOP_DEADLINE_MS = 120000 };

/* For what hangs as it starts: the guest ends it soon after, and has its disk to unmount then. */
enum { HUNG_STOP_MS = 1000, HUNG_DEADLINE_MS = 60000 };

struct distro_want {
	struct distro_want *next;
	struct distro *d;
	distro_ready fn;
	void *ctx;
	struct distro_want **slot; /* the caller's pointer to this */
};

struct stop_wait {
	struct stop_wait *next;
	distro_stopped fn;
	void *ctx;
};

static void kick(struct distro *d);
static void give_up_start(
	struct distro *d, const struct err *e, uint32_t stop_ms, int64_t deadline_ms);

struct distro *distro_find(const struct service *s, const char *id)
{
	struct distro *d = s->distros;

	while (d && strcmp(d->id, id) != 0)
		d = d->next;
	return d;
}

const struct reg_entry *distro_entry(const struct distro *d)
{
	return registry_by_id(d->s->reg, d->id);
}

const char *distro_name(const struct distro *d)
{
	const struct reg_entry *e = distro_entry(d);

	return e ? e->name : d->id;
}

void distro_arm(struct distro *d, int64_t ms)
{
	loop_timer_arm(d->timer, ms < 0 ? 0 : loop_now() + (uint64_t)ms * 1000000u + 1);
}

static bool in_use(const struct distro *d)
{
	return d->busy || d->holds || d->conf.keep_alive == KEEP_ALWAYS ||
	       (d->services && d->conf.keep_alive == KEEP_SERVICES);
}

static void timer(void *ctx)
{
	struct distro *d = ctx;
	struct err e = {0};

	switch (d->state) {
	case DISTRO_RUNNING:
		if (in_use(d))
			break;
		log_debug("distro", "%s is idle", distro_name(d));
		distro_stop(d->s, d->id, NULL, NULL);
		break;
	case DISTRO_ATTACHING: /* this is wslx-vmm's to do */
		vm_kill(d->m->vm, "a disk could not be attached in time");
		break;
	case DISTRO_STARTING:
		/* It alone ends, not its neighbours in the machine. */
		err_set(&e, -ETIMEDOUT, "it did not start in time (distributionStartTimeout)");
		log_warn("distro", "%s: %s", distro_name(d), e.text);
		give_up_start(d, &e, HUNG_STOP_MS, HUNG_DEADLINE_MS);
		break;
	case DISTRO_STOPPING:
	case DISTRO_DETACHING: vm_kill(d->m->vm, "a distribution did not stop in time"); break;
	case DISTRO_STOPPED: break;
	}
}

static struct distro *get(struct service *s, const char *id)
{
	struct distro *d = distro_find(s, id);

	if (d)
		return d;
	d = calloc(1, sizeof(*d));
	if (!d)
		abort();
	*d = (struct distro){.s = s, .next = s->distros};
	snprintf(d->id, sizeof(d->id), "%s", id);
	if (loop_timer(s->loop, timer, d, &d->timer) < 0)
		abort();
	s->distros = d;
	return d;
}

/* Forgets one that is stopped and wanted by nobody. */
static void forget(struct distro *d)
{
	struct service *s = d->s;

	if (d->state != DISTRO_STOPPED || d->wants || d->stops || d->holds || d->reserved)
		return;
	for (struct distro **p = &s->distros; *p; p = &(*p)->next)
		if (*p == d) {
			*p = d->next;
			break;
		}
	loop_src_free(d->timer);
	js_free(d->warnings);
	interop_free(d->interop);
	free(d);
}

void distro_watch_idle(struct distro *d)
{
	if (d->state == DISTRO_RUNNING)
		distro_arm(d, in_use(d) ? -1 : d->m->set.instance_idle_ms);
}

static void finish_list(struct distro_want *list, uint32_t port, const struct err *e)
{
	/* A callback may cancel others of the list: they are unlinked one by one. */
	for (struct distro_want *w = list; w; w = w->next)
		w->d = NULL;
	while (list) {
		struct distro_want *w = list;

		list = w->next;
		if (w->slot)
			*w->slot = NULL;
		if (w->fn)
			w->fn(w->ctx, port, e);
		free(w);
	}
}

/* Whoever is told that it failed may release it: it is held, so that the caller still finds it after that. */
void distro_finish_wants(struct distro *d, const struct err *e)
{
	d->holds += e != NULL;
	finish_list(take_ptr(d->wants), d->port, e);
	d->holds -= e != NULL;
}

/* Whoever waited may unregister it: it is held, so that the caller still finds it after that. */
static void finish_stops(struct distro *d, const struct err *e)
{
	d->holds++;
	while (d->stops) {
		struct stop_wait *w = d->stops;

		d->stops = w->next;
		w->fn(w->ctx, e);
		free(w);
	}
	d->holds--;
}

/* e: not as it should; for those who asked. */
static void set_stopped(struct distro *d, const struct err *e)
{
	d->state = DISTRO_STOPPED;
	d->m = NULL;
	d->interop = interop_free(d->interop);
	d->port = 0;
	d->busy = d->services = d->stop_asked = false;
	distro_arm(d, -1);
	finish_stops(d, e);
}

struct distro_request *distro_request(struct distro *d)
{
	struct distro_request *q = malloc(sizeof(*q));

	if (!q)
		abort();
	q->s = d->s;
	strcpy(q->id, d->id);
	return q;
}

struct distro *distro_answered(void *ctx, enum distro_state in)
{
	struct distro_request *q = ctx;
	struct distro *d = distro_find(q->s, q->id);

	free(q);
	return d && d->state == in ? d : NULL;
}

static void disk_gone(void *ctx, const struct err *e)
{
	struct service *s = ((struct distro_request *)ctx)->s;
	struct distro *d = distro_answered(ctx, DISTRO_DETACHING);

	if (!d)
		return;
	if (e)
		log_warn("distro", "detach the disk of %s: %s", distro_name(d), e->text);
	set_stopped(d, e);
	kick(d);
	idle_check(s);
}

/* It is down; its disk leaves the VM, and then it is stopped. */
static void detach(struct distro *d)
{
	int lun = vm_lun(d->m->vm, d->id);

	if (lun < 0) {
		set_stopped(d, NULL);
		kick(d);
		return;
	}
	d->state = DISTRO_DETACHING;
	distro_arm(d, STOP_DEADLINE_MS);
	vm_detach(d->m->vm, lun, disk_gone, distro_request(d));
}

void distro_failed(struct distro *d, const struct err *e, const char *step)
{
	struct distro_want *wants = take_ptr(d->wants);
	struct err wrapped = *e;

	err_wrap(&wrapped, e->code, "%s", step);
	d->holds++; /* as in distro_finish_wants() */
	/* First things first: a callback may want it again. */
	if (d->m && vm_lun(d->m->vm, d->id) >= 0 && e->code != -EBUSY) {
		finish_list(wants, 0, &wrapped);
		d->holds--;
		detach(d);
	} else {
		set_stopped(d, NULL);
		finish_list(wants, 0, &wrapped);
		d->holds--;
		kick(d);
	}
}

struct json_object *distro_take_warnings(struct service *s, const char *id)
{
	struct distro *d = distro_find(s, id);

	return d ? take_ptr(d->warnings) : NULL;
}

static struct machine *place(struct service *s, const char *id, const struct distro_conf *c)
{
	struct machine *m = machine_with_disk(s, id);

	return m ? m : machine_find(s, c->isolation == ISOLATION_VM ? id : "");
}

struct machine *distro_machine(struct service *s, const struct reg_entry *reg)
{
	struct distro *d = distro_find(s, reg->id);
	struct distro_conf c;

	if (d && d->m)
		return d->m;
	distro_conf_load(s->config, reg->name, &c, NULL, NULL);
	return place(s, reg->id, &c);
}

/* For whoever's command starts it. */
static void conf_warn(void *ctx, unsigned line, const char *text)
{
	struct distro *d = ctx;
	char full[1024];

	snprintf(full, sizeof(full), "%s:%u: %s", d->s->config, line, text);
	log_warn("distro", "%s", full);
	if (!d->warnings)
		d->warnings = js_array();
	if (json_object_array_length(d->warnings) < SETTINGS_MAX_WARNINGS)
		js_push(d->warnings, json_object_new_string(full));
}

/* Does what its state and its wants call for. */
static void kick(struct distro *d)
{
	struct service *s = d->s;
	const struct reg_entry *reg = distro_entry(d);
	struct err e = {0};

	if (d->state != DISTRO_STOPPED)
		return;
	if (!d->wants) {
		forget(d);
		return;
	}
	if (!reg) {
		err_set(&e, -ENOENT, "it has been unregistered");
	} else {
		/* Not for the first time, where the VM had to be waited for. */
		js_free(d->warnings);
		d->warnings = NULL;
		distro_conf_load(s->config, reg->name, &d->conf, conf_warn, d);
		d->m = place(s, d->id, &d->conf);
		if (!d->m)
			machine_start(s, d->conf.isolation == ISOLATION_VM ? d->id : "", &d->conf,
				&d->m, &e);
	}
	if (e.code) {
		distro_finish_wants(d, &e);
		forget(d);
	} else if (vm_state(d->m->vm) == VM_UP && !volume_waits(d->m)) {
		distro_attach(d, reg);
	}
	/* Otherwise the VM is on its way up or down, and its next state kicks us; or volumes are being put back. */
}

void distro_kick_all(struct service *s)
{
	for (struct distro *d = s->distros, *next; d; d = next) {
		next = d->next;
		kick(d);
	}
	idle_check(s);
}

void distro_want(struct service *s, const struct reg_entry *reg, distro_ready fn, void *ctx,
	struct distro_want **ret)
{
	struct distro *d = get(s, reg->id);
	struct distro_want *w;

	*ret = NULL;
	if (d->state == DISTRO_RUNNING) {
		fn(ctx, d->port, NULL);
		return;
	}
	if (d->reserved) {
		struct err e = {0};

		err_set(&e, -EBUSY, "it is busy (%s)", d->reserved);
		fn(ctx, 0, &e);
		return;
	}
	w = malloc(sizeof(*w));
	if (!w)
		abort();
	*w = (struct distro_want){.next = d->wants, .d = d, .fn = fn, .ctx = ctx, .slot = ret};
	d->wants = w;
	*ret = w;
	kick(d);
	idle_check(s);
}

void distro_want_cancel(struct distro_want *w)
{
	if (!w)
		return;
	*w->slot = NULL;
	if (!w->d) { /* distro_finish_wants() has it */
		w->fn = NULL;
		w->slot = NULL;
		return;
	}
	for (struct distro_want **p = &w->d->wants; *p; p = &(*p)->next)
		if (*p == w) {
			*p = w->next;
			break;
		}
	free(w);
}

struct autostart {
	struct distro_want *want;
	char name[REG_NAME_MAX + 1];
};

static void autostarted(void *ctx, uint32_t port, const struct err *e)
{
	struct autostart *a = ctx;

	if (e)
		log_warn("distro", "start %s by itself: %s", a->name, e->text);
	free(a);
}

void distro_autostart(struct service *s)
{
	for (unsigned i = 0; i < registry_count(s->reg); i++) {
		const struct reg_entry *reg = registry_at(s->reg, i);
		struct autostart *a;
		struct distro_conf c;

		distro_conf_load(s->config, reg->name, &c, NULL, NULL);
		if (!c.autostart)
			continue;
		a = calloc(1, sizeof(*a));
		if (!a)
			abort();
		strcpy(a->name, reg->name);
		distro_want(s, reg, autostarted, a, &a->want);
	}
}

/* Its processes have ended, its disk is in use yet: the disk stays, with what is unwritten, and serves the next start. */
static void still_mounted(struct distro *d, const struct err *e)
{
	set_stopped(d, e);
	kick(d);
}

static void stop_answered(void *ctx, const struct wire_msg *m, const struct err *e)
{
	struct service *s = ((struct distro_request *)ctx)->s;
	struct distro *d = distro_answered(ctx, DISTRO_STOPPING);

	if (!d || (e && e->code == -EPIPE))
		return; /* init will connect again and say whether it stopped */
	if (e && e->code != -ENOENT)
		log_warn("distro", "stop %s: %s", distro_name(d), e->text);
	if (e && e->code == -EBUSY)
		still_mounted(d, e);
	else
		detach(d);
	idle_check(s);
}

static void send_stop_within(struct distro *d, uint32_t ms)
{
	struct guestlink *g = vm_guest(d->m->vm);
	struct wire_w w;

	if (!g)
		return; /* as above */
	guestlink_begin(g, &w, WSLX_STOP);
	wire_str(&w, WSLX_A_DISTRO, d->id);
	wire_u32(&w, WSLX_A_TIMEOUT_MS, ms);
	guestlink_send(g, &w, stop_answered, distro_request(d));
}

static void send_stop(struct distro *d)
{
	send_stop_within(d, STOP_MS);
}

/* It is on its way up, and shall not be: e is for those who wait for it. */
static void give_up_start(
	struct distro *d, const struct err *e, uint32_t stop_ms, int64_t deadline_ms)
{
	d->state = DISTRO_STOPPING;
	distro_arm(d, deadline_ms);
	send_stop_within(d, stop_ms);
	distro_finish_wants(d, e);
}

/*
 * Its disk is in the VM, but HELLO does not name it: it may be on its way up for a wslxd that is no
 * more, its disk mounted. Init stops it, or says that there is nothing; only then the disk leaves.
 */
static void stop_unknown(struct distro *d)
{
	d->state = DISTRO_STOPPING;
	distro_arm(d, STOP_DEADLINE_MS);
	send_stop(d);
}

/* One of those found running in a machine. */
static struct distro *found(struct machine *m, const char *id)
{
	struct distro *d = get(m->s, id);
	const struct reg_entry *reg = distro_entry(d);

	if (!d->m) {
		d->m = m;
		if (reg)
			distro_conf_load(m->s->config, reg->name, &d->conf, NULL, NULL);
	}
	return d;
}

/*
 * A service that was started anew has its machine back before init is: what runs in there, it is told in HELLO only. NULL:
 * none of which that is true has this distribution's disk.
 */
static struct machine *unheard_machine(const struct service *s, const char *id)
{
	struct machine *m = machine_with_disk(s, id);

	return m && !vm_guest(m->vm) ? m : NULL;
}

void distro_stop(struct service *s, const char *id, distro_stopped fn, void *ctx)
{
	struct distro *d = distro_find(s, id);
	struct machine *unheard = unheard_machine(s, id);
	bool stopped = !d || d->state == DISTRO_STOPPED;
	struct err e = {0};

	err_set(&e, -ECANCELED, "it was stopped meanwhile");
	if (stopped && !unheard) {
		/* Waiting for the VM to come up: nothing runs, so those who want it are told. */
		if (d && fn) {
			distro_finish_wants(d, &e);
			forget(d);
		}
		if (fn)
			fn(ctx, NULL);
		return;
	}
	if (stopped)
		d = found(unheard, id);
	if (fn) {
		struct stop_wait *sw = malloc(sizeof(*sw));

		if (!sw)
			abort();
		*sw = (struct stop_wait){.next = d->stops, .fn = fn, .ctx = ctx};
		d->stops = sw;
	}
	if (stopped) {
		stop_unknown(d); /* HELLO sends it on its way, or says that there is nothing */
		distro_finish_wants(d, &e);
	} else if (d->state == DISTRO_ATTACHING) {
		d->stop_asked = true;
	} else if (d->state == DISTRO_STARTING) {
		give_up_start(d, &e, STOP_MS, STOP_DEADLINE_MS);
	} else if (d->state == DISTRO_RUNNING) {
		d->state = DISTRO_STOPPING;
		distro_arm(d, STOP_DEADLINE_MS);
		send_stop(d);
	}
}

void distro_hold(struct service *s, const char *id)
{
	struct distro *d = get(s, id);

	d->holds++;
	distro_watch_idle(d);
}

void distro_release(struct service *s, const char *id)
{
	struct distro *d = distro_find(s, id);

	if (!d || !d->holds)
		return;
	d->holds--;
	distro_watch_idle(d);
	forget(d);
}

int distro_reserve(struct service *s, const char *id, const char *state, struct err *e)
{
	struct distro *d = get(s, id);

	if (d->reserved)
		return err_set(e, -EBUSY, "it is busy (%s)", d->reserved);
	if (d->state == DISTRO_STOPPED && unheard_machine(s, id)) {
		forget(d);
		return err_set(e, -EBUSY,
			"its virtual machine has not yet said whether it is running; try again");
	}
	if (d->state != DISTRO_STOPPED || d->wants)
		return err_set(
			e, -EBUSY, "it is running; 'wslx --terminate %s' stops it", distro_name(d));
	d->reserved = state;
	return 0;
}

void distro_unreserve(struct service *s, const char *id)
{
	struct distro *d = distro_find(s, id);

	if (!d)
		return;
	d->reserved = NULL;
	forget(d);
}

const char *distro_state_text(const struct service *s, const char *id)
{
	struct distro *d = distro_find(s, id);

	if (!d)
		return "Stopped";
	switch (d->state) {
	case DISTRO_STOPPED: return d->reserved ? d->reserved : "Stopped";
	case DISTRO_ATTACHING:
	case DISTRO_STARTING: return "Starting";
	case DISTRO_RUNNING: return "Running";
	case DISTRO_STOPPING:
	case DISTRO_DETACHING: return "Stopping";
	}
	return "?";
}

enum distro_state distro_state(const struct service *s, const char *id)
{
	struct distro *d = distro_find(s, id);

	return d ? d->state : DISTRO_STOPPED;
}

bool distro_active(const struct service *s, const char *id)
{
	struct distro *d = distro_find(s, id);

	return d && (d->state != DISTRO_STOPPED || d->wants);
}

bool distro_in_use(const struct service *s, const char *id)
{
	struct distro *d = distro_find(s, id);

	return d && (d->busy || d->holds);
}

struct guestlink *distro_guest(const struct service *s, const char *id)
{
	struct distro *d = distro_find(s, id);

	return d && d->state == DISTRO_RUNNING ? vm_guest(d->m->vm) : NULL;
}

bool distro_any(const struct service *s, const struct machine *m)
{
	for (struct distro *d = s->distros; d; d = d->next)
		if ((!m || d->m == m) && (d->state != DISTRO_STOPPED || d->wants))
			return true;
	return false;
}

/* HELLO: what runs, says the guest; what we thought ran and does not, has ended. */
void distro_vm_up(struct machine *m, const struct wire_msg *msg)
{
	struct service *s = m->s;
	struct distro *d = NULL;
	struct wire_attr a;
	bool seen[VM_LUNS] = {false};
	char id[65];

	for (size_t pos = 0; wire_next(msg, &pos, &a);) {
		struct wire_msg one = {.attrs = a.data - sizeof(struct wslx_attr),
			.len = sizeof(struct wslx_attr) + ALIGN_UP((size_t)a.len, 4)};

		if (a.tag == WSLX_A_DISTRO) {
			int lun = wire_get_str(&one, WSLX_A_DISTRO, id, sizeof(id)) > 0
					  ? vm_lun(m->vm, id)
					  : -1;

			d = lun >= 0 ? found(m, id) : NULL;
			if (d && d->m != m)
				d = NULL;
			if (!d)
				continue;
			seen[lun] = true;
		} else if (a.tag == WSLX_A_PORT && d) {
			d->port = wire_get_u32(&one, WSLX_A_PORT, 0);
			d->busy = true; /* until it says otherwise */
			if (d->state == DISTRO_STOPPING) {
				send_stop(d);
			} else {
				d->state = DISTRO_RUNNING;
				distro_finish_wants(d, NULL);
				if (d->stop_asked)
					distro_stop(s, d->id, NULL, NULL);
			}
		} else if (a.tag == WSLX_A_COUNT && d) {
			d->busy = wire_get_u32(&one, WSLX_A_COUNT, 1) != 0;
		} else if (a.tag == WSLX_A_SERVICES && d) {
			d->services = wire_get_u32(&one, WSLX_A_SERVICES, 0) != 0;
		}
	}
	for (d = s->distros; d; d = d->next)
		if (d->m == m)
			distro_watch_idle(d);
	for (int lun = 0; lun < VM_LUNS; lun++) {
		if (seen[lun] || !*vm_lun_id(m->vm, lun) || *vm_lun_id(m->vm, lun) == '.')
			continue; /* '.': the disk of no distribution */
		d = distro_find(s, vm_lun_id(m->vm, lun));
		if (d && d->state == DISTRO_STARTING && distro_entry(d))
			distro_send_start(d,
				distro_entry(d)); /* the first one was lost with the connection */
		else if (!d || d->state == DISTRO_STOPPED)
			stop_unknown(found(m, vm_lun_id(m->vm, lun)));
		else if (d->state == DISTRO_STOPPING)
			stop_unknown(d); /* it may not have been up yet */
		else if (d->state == DISTRO_RUNNING)
			detach(d);
	}
	distro_kick_all(s);
}

/* First-run set-up is done, once and for all. */
static void set_up_done(struct distro *d, const struct wire_msg *m)
{
	const struct reg_entry *reg = distro_entry(d);
	struct reg_entry fresh;
	struct err e = {0};

	if (!reg || !reg->run_oobe)
		return;
	fresh = *reg;
	fresh.run_oobe = false;
	fresh.uid = wire_get_u32(m, WSLX_A_UID, reg->uid);
	if (registry_update(d->s->reg, &fresh, &e) < 0)
		log_warn("distro", "%s has been set up: %s", distro_name(d), e.text);
}

void distro_vm_event(struct machine *machine, const struct wire_msg *m)
{
	struct service *s = machine->s;
	struct distro *d;
	char id[65], text[200];
	struct err e = {0};

	if (wire_get_str(m, WSLX_A_DISTRO, id, sizeof(id)) <= 0)
		return;
	d = distro_find(s, id);
	if (!d || d->m != machine)
		return; /* a machine has no say in what runs in another */
	switch (m->type) {
	case WSLX_BUSY:
		d->busy = wire_get_u32(m, WSLX_A_COUNT, 1) != 0;
		d->services = wire_get_u32(m, WSLX_A_SERVICES, 0) != 0;
		distro_watch_idle(d);
		break;
	case WSLX_OOBE_RESULT: set_up_done(d, m); break;
	case WSLX_EXITED:
		wire_get_str(m, WSLX_A_TEXT, text, sizeof(text));
		if (wire_get_u32(m, WSLX_A_ORDERLY, 0))
			log_info("distro", "%s has stopped: %s", distro_name(d), text);
		else
			log_warn("distro", "%s ended by itself: %s", distro_name(d), text);
		err_set(&e, m->error ? -(int)m->error : -EIO, "%s", text);
		if (d->state == DISTRO_RUNNING || d->state == DISTRO_STOPPING) {
			if (m->error == EBUSY)
				still_mounted(d, &e);
			else
				detach(d);
		} else if (d->state == DISTRO_STARTING) {
			/* No answer to START will come. */
			distro_failed(d, &e, "start its init");
			idle_check(s);
		}
		break;
	default: break;
	}
}

void distro_vm_gone(struct machine *m, const char *why, bool was_up, bool planned)
{
	struct err e = {0};

	err_set(&e, -EIO, "%s: %s",
		was_up ? "the virtual machine ended" : "start the virtual machine", why);
	for (struct distro *d = m->s->distros, *next; d; d = next) {
		next = d->next;
		if (d->m != m)
			continue;
		if (d->state != DISTRO_STOPPED)
			set_stopped(d, NULL);
		d->m = NULL;
		/* Wants that the VM's planned end only delays are served by a new one. */
		if (!planned)
			distro_finish_wants(d, &e);
		forget(d);
	}
}
