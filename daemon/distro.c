/* SPDX-License-Identifier: MIT */
#include "daemon/distro.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/log.h"
#include "lib/image/image.h"

enum { STOP_MS = 5000, STOP_DEADLINE_MS = 30000 };

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

struct distro {
	struct distro *next;
	struct service *s;
	char id[37];
	enum distro_state state;
	uint32_t port;
	bool busy; /* the guest says that programs run in it */
	unsigned holds;
	bool stop_asked; /* while it was starting */
	struct distro_want *wants;
	struct stop_wait *stops;
	struct loop_src *timer; /* idle while RUNNING; start and stop deadlines */
};

static void kick(struct distro *d);

static struct distro *find(const struct service *s, const char *id)
{
	struct distro *d = s->distros;

	while (d && strcmp(d->id, id) != 0)
		d = d->next;
	return d;
}

/* What the registry says of it; NULL when it has just been unregistered. */
static const struct reg_entry *entry(const struct distro *d)
{
	return registry_by_id(d->s->reg, d->id);
}

static const char *name(const struct distro *d)
{
	const struct reg_entry *e = entry(d);

	return e ? e->name : d->id;
}

static void arm(struct distro *d, int64_t ms)
{
	loop_timer_arm(d->timer, ms < 0 ? 0 : loop_now() + (uint64_t)ms * 1000000u + 1);
}

static void timer(void *ctx)
{
	struct distro *d = ctx;

	switch (d->state) {
	case DISTRO_RUNNING:
		if (d->busy || d->holds)
			break;
		log_debug("distro", "%s is idle", name(d));
		distro_stop(d->s, d->id, NULL, NULL);
		break;
	case DISTRO_ATTACHING:
	case DISTRO_STARTING:
		vm_kill(d->s->vm,
			"a distribution did not start in time (distributionStartTimeout)");
		break;
	case DISTRO_STOPPING:
	case DISTRO_DETACHING: vm_kill(d->s->vm, "a distribution did not stop in time"); break;
	case DISTRO_STOPPED: break;
	}
}

static struct distro *get(struct service *s, const char *id)
{
	struct distro *d = find(s, id);

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

	if (d->state != DISTRO_STOPPED || d->wants || d->stops || d->holds)
		return;
	for (struct distro **p = &s->distros; *p; p = &(*p)->next)
		if (*p == d) {
			*p = d->next;
			break;
		}
	loop_src_free(d->timer);
	free(d);
}

static void watch_idle(struct distro *d)
{
	if (d->state == DISTRO_RUNNING)
		arm(d, d->busy || d->holds ? -1 : d->s->set.instance_idle_ms);
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

static void finish_wants(struct distro *d, const struct err *e)
{
	finish_list(take_ptr(d->wants), d->port, e);
}

static void finish_stops(struct distro *d, const struct err *e)
{
	while (d->stops) {
		struct stop_wait *w = d->stops;

		d->stops = w->next;
		w->fn(w->ctx, e);
		free(w);
	}
}

/* e: not as it should; for those who asked. */
static void set_stopped(struct distro *d, const struct err *e)
{
	d->state = DISTRO_STOPPED;
	d->port = 0;
	d->busy = d->stop_asked = false;
	arm(d, -1);
	finish_stops(d, e);
}

/* Callbacks of requests name the distribution by id: it may be gone when they come. */
struct request {
	struct service *s;
	char id[37];
};

static struct request *request(struct distro *d)
{
	struct request *q = malloc(sizeof(*q));

	if (!q)
		abort();
	q->s = d->s;
	strcpy(q->id, d->id);
	return q;
}

static struct distro *answered(void *ctx, enum distro_state in)
{
	struct request *q = ctx;
	struct distro *d = find(q->s, q->id);

	free(q);
	return d && d->state == in ? d : NULL;
}

static void disk_gone(void *ctx, const struct err *e)
{
	struct service *s = ((struct request *)ctx)->s;
	struct distro *d = answered(ctx, DISTRO_DETACHING);

	if (!d)
		return;
	if (e)
		log_warn("distro", "detach the disk of %s: %s", name(d), e->text);
	set_stopped(d, e);
	kick(d);
	idle_check(s);
}

/* It is down; its disk leaves the VM, and then it is stopped. */
static void detach(struct distro *d)
{
	int lun = vm_lun(d->s->vm, d->id);

	if (lun < 0) {
		set_stopped(d, NULL);
		kick(d);
		return;
	}
	d->state = DISTRO_DETACHING;
	arm(d, STOP_DEADLINE_MS);
	vm_detach(d->s->vm, lun, disk_gone, request(d));
}

/* Starting it came to nothing: those who want it now are told, and it stops. */
static void failed(struct distro *d, const struct err *e, const char *step)
{
	struct distro_want *wants = take_ptr(d->wants);
	struct err wrapped = *e;

	err_wrap(&wrapped, e->code, "%s", step);
	/* First things first: a callback may want it again. */
	if (d->s->vm && vm_lun(d->s->vm, d->id) >= 0 && e->code != -EBUSY) {
		finish_list(wants, 0, &wrapped);
		detach(d);
	} else {
		set_stopped(d, NULL);
		finish_list(wants, 0, &wrapped);
		kick(d);
	}
}

static void started(void *ctx, const struct wire_msg *m, const struct err *e)
{
	struct service *s = ((struct request *)ctx)->s;
	struct distro *d = answered(ctx, DISTRO_STARTING);
	struct err none = {0};

	if (!d)
		return;
	if (!e && wire_get_u32(m, WSLX_A_PORT, 0) != 0) {
		d->state = DISTRO_RUNNING;
		d->port = wire_get_u32(m, WSLX_A_PORT, 0);
		watch_idle(d);
		log_debug("distro", "%s runs", name(d));
		finish_wants(d, NULL);
		if (d->stop_asked)
			distro_stop(d->s, d->id, NULL, NULL);
		return;
	}
	if (e && e->code == -EPIPE && s->vm)
		return; /* init will connect again and say whether it started */
	if (!e)
		err_set(&none, -EPROTO, "init named no port");
	failed(d, e ? e : &none, "mount its disk and start its init");
	idle_check(s);
}

static void send_start(struct distro *d, const struct reg_entry *reg)
{
	struct guestlink *g = vm_guest(d->s->vm);
	char host[65] = "";
	struct wire_w w;

	gethostname(host, sizeof(host) - 1);
	guestlink_begin(g, &w, WSLX_START);
	wire_str(&w, WSLX_A_DISTRO, d->id);
	wire_str(&w, WSLX_A_NAME, reg->name);
	wire_u32(&w, WSLX_A_LUN, (uint32_t)vm_lun(d->s->vm, d->id));
	wire_str(&w, WSLX_A_FSTYPE, "ext4");
	wire_str(&w, WSLX_A_OPTIONS, "discard,errors=remount-ro");
	wire_str(&w, WSLX_A_HOSTNAME, host);
	wire_u32(&w, WSLX_A_UID, reg->uid);
	guestlink_send(g, &w, started, request(d));
}

static void attached(void *ctx, const struct err *e)
{
	struct service *s = ((struct request *)ctx)->s;
	struct distro *d = answered(ctx, DISTRO_ATTACHING);
	const struct reg_entry *reg = d ? entry(d) : NULL;
	struct err gone = {0};

	if (!d)
		return;
	if (!e && (!reg || !vm_guest(s->vm))) {
		err_set(&gone, -EPIPE, "the virtual machine went away");
		e = &gone;
	}
	if (e) {
		failed(d, e, "attach its disk");
		idle_check(s);
		return;
	}
	d->state = DISTRO_STARTING;
	send_start(d, reg);
}

/* The disk, locked for as long as anybody has it open. */
static int open_disk(const struct reg_entry *reg, struct err *e)
{
	cleanup_close int fd = -EBADF;
	char path[PATH_MAX];
	struct stat st;
	int r;

	if (registry_disk(reg, false, path, sizeof(path)) < 0)
		return err_set(e, -ENAMETOOLONG, "its path is too long");
	fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, -errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "%s is not a disk image", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(e, -EBUSY, "%s is in use by another program", path);
	r = image_check(fd, path, e);
	return r < 0 ? r : take_fd(fd);
}

static void attach(struct distro *d)
{
	const struct reg_entry *reg = entry(d);
	struct err e = {0};
	struct request *q;
	int fd, lun;

	if (!reg) {
		err_set(&e, -ENOENT, "it has been unregistered");
		failed(d, &e, "open its disk");
		return;
	}
	if (vm_lun(d->s->vm, d->id) >= 0 && vm_guest(d->s->vm)) {
		/* It could not leave the VM the last time. */
		d->state = DISTRO_STARTING;
		arm(d, d->s->set.start_timeout_ms);
		send_start(d, reg);
		return;
	}
	fd = open_disk(reg, &e);
	if (fd < 0) {
		failed(d, &e, "open its disk");
		return;
	}
	d->state = DISTRO_ATTACHING;
	arm(d, d->s->set.start_timeout_ms);
	q = request(d);
	lun = vm_attach(d->s->vm, d->id, fd, attached, q);
	if (lun < 0) {
		free(q);
		err_sys(&e, lun, "no room for another disk");
		failed(d, &e, "attach its disk");
	}
}

static int boot(struct service *s, struct err *e)
{
	struct vm_env env = service_vm_env(s);
	struct settings set;
	struct vm_plan plan;
	int r = settings_load(s->config, &set, e);

	if (r < 0)
		return r;
	settings_done(&s->set);
	s->set = set;
	r = settings_plan(&s->set, s->data_dir, &plan, e);
	if (r == 0)
		r = vm_start(&env, &s->set, &plan, &s->vm, e);
	return r < 0 ? err_wrap(e, r, "start the virtual machine") : 0;
}

/* Does what its state and its wants call for. */
static void kick(struct distro *d)
{
	struct service *s = d->s;
	struct err e = {0};

	if (d->state != DISTRO_STOPPED) {
		return;
	} else if (!d->wants) {
		forget(d);
	} else if (!s->vm) {
		if (boot(s, &e) < 0) {
			finish_wants(d, &e);
			forget(d);
		}
	} else if (vm_state(s->vm) == VM_UP) {
		attach(d);
	}
	/* Otherwise the VM is on its way up or down, and its next state kicks us. */
}

static void kick_all(struct service *s)
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
	if (!w->d) { /* finish_wants() has it */
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

/* Its processes have ended, its disk is in use yet: the disk stays, with what is unwritten, and serves the next start. */
static void still_mounted(struct distro *d, const struct err *e)
{
	set_stopped(d, e);
	kick(d);
}

static void stop_answered(void *ctx, const struct wire_msg *m, const struct err *e)
{
	struct service *s = ((struct request *)ctx)->s;
	struct distro *d = answered(ctx, DISTRO_STOPPING);

	if (!d || (e && e->code == -EPIPE && s->vm))
		return; /* init will connect again and say whether it stopped */
	if (e && e->code != -ENOENT)
		log_warn("distro", "stop %s: %s", name(d), e->text);
	if (e && e->code == -EBUSY)
		still_mounted(d, e);
	else
		detach(d);
	idle_check(s);
}

static void send_stop(struct distro *d)
{
	struct guestlink *g = vm_guest(d->s->vm);
	struct wire_w w;

	if (!g)
		return; /* as above */
	guestlink_begin(g, &w, WSLX_STOP);
	wire_str(&w, WSLX_A_DISTRO, d->id);
	wire_u32(&w, WSLX_A_TIMEOUT_MS, STOP_MS);
	guestlink_send(g, &w, stop_answered, request(d));
}

/*
 * Its disk is in the VM, but HELLO does not name it: it may be on its way up for a wslxd that is no
 * more, its disk mounted. Init stops it, or says that there is nothing; only then the disk leaves.
 */
static void stop_unknown(struct distro *d)
{
	d->state = DISTRO_STOPPING;
	arm(d, STOP_DEADLINE_MS);
	send_stop(d);
}

void distro_stop(struct service *s, const char *id, distro_stopped fn, void *ctx)
{
	struct distro *d = find(s, id);

	if (!d || d->state == DISTRO_STOPPED) {
		/* Waiting for the VM to come up: nothing runs, so those who want it are told. */
		struct err e = {0};

		err_set(&e, -ECANCELED, "it was stopped meanwhile");
		if (d && fn) {
			finish_wants(d, &e);
			forget(d);
		}
		if (fn)
			fn(ctx, NULL);
		return;
	}
	if (fn) {
		struct stop_wait *sw = malloc(sizeof(*sw));

		if (!sw)
			abort();
		*sw = (struct stop_wait){.next = d->stops, .fn = fn, .ctx = ctx};
		d->stops = sw;
	}
	if (d->state == DISTRO_ATTACHING || d->state == DISTRO_STARTING)
		d->stop_asked = true;
	if (d->state != DISTRO_RUNNING)
		return;
	d->state = DISTRO_STOPPING;
	arm(d, STOP_DEADLINE_MS);
	send_stop(d);
}

void distro_hold(struct service *s, const char *id)
{
	struct distro *d = get(s, id);

	d->holds++;
	watch_idle(d);
}

void distro_release(struct service *s, const char *id)
{
	struct distro *d = find(s, id);

	if (!d || !d->holds)
		return;
	d->holds--;
	watch_idle(d);
	forget(d);
}

enum distro_state distro_state(const struct service *s, const char *id)
{
	struct distro *d = find(s, id);

	return d ? d->state : DISTRO_STOPPED;
}

const char *distro_state_name(enum distro_state st)
{
	switch (st) {
	case DISTRO_STOPPED: return "Stopped";
	case DISTRO_ATTACHING:
	case DISTRO_STARTING: return "Starting";
	case DISTRO_RUNNING: return "Running";
	case DISTRO_STOPPING:
	case DISTRO_DETACHING: return "Stopping";
	}
	return "?";
}

bool distro_any(const struct service *s)
{
	for (struct distro *d = s->distros; d; d = d->next)
		if (d->state != DISTRO_STOPPED || d->wants)
			return true;
	return false;
}

/* HELLO: what runs, says the guest; what we thought ran and does not, has ended. */
static void vm_up(void *ctx, const struct wire_msg *m)
{
	struct service *s = ctx;
	struct distro *d = NULL;
	struct wire_attr a;
	bool seen[VM_LUNS] = {false};
	char id[65];

	for (size_t pos = 0; wire_next(m, &pos, &a);) {
		struct wire_msg one = {.attrs = a.data - sizeof(struct wslx_attr),
			.len = sizeof(struct wslx_attr) + ALIGN_UP((size_t)a.len, 4)};

		if (a.tag == WSLX_A_DISTRO) {
			int lun = wire_get_str(&one, WSLX_A_DISTRO, id, sizeof(id)) > 0
					  ? vm_lun(s->vm, id)
					  : -1;

			d = lun >= 0 ? get(s, id) : NULL;
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
				finish_wants(d, NULL);
				if (d->stop_asked)
					distro_stop(s, d->id, NULL, NULL);
			}
		} else if (a.tag == WSLX_A_COUNT && d) {
			d->busy = wire_get_u32(&one, WSLX_A_COUNT, 1) != 0;
		}
	}
	for (d = s->distros; d; d = d->next)
		watch_idle(d);
	for (int lun = 0; lun < VM_LUNS; lun++) {
		if (seen[lun] || !*vm_lun_id(s->vm, lun))
			continue;
		d = find(s, vm_lun_id(s->vm, lun));
		if (d && d->state == DISTRO_STARTING && entry(d))
			send_start(d, entry(d)); /* the first one was lost with the connection */
		else if (!d || d->state == DISTRO_STOPPED)
			stop_unknown(d ? d : get(s, vm_lun_id(s->vm, lun)));
		else if (d->state == DISTRO_RUNNING || d->state == DISTRO_STOPPING)
			detach(d);
	}
	kick_all(s);
}

static void vm_event(void *ctx, const struct wire_msg *m)
{
	struct service *s = ctx;
	struct distro *d;
	char id[65], text[200];
	struct err e = {0};

	if (wire_get_str(m, WSLX_A_DISTRO, id, sizeof(id)) <= 0)
		return;
	d = find(s, id);
	if (!d)
		return;
	switch (m->type) {
	case WSLX_BUSY:
		d->busy = wire_get_u32(m, WSLX_A_COUNT, 1) != 0;
		watch_idle(d);
		break;
	case WSLX_EXITED:
		wire_get_str(m, WSLX_A_TEXT, text, sizeof(text));
		log_warn("distro", "%s ended by itself: %s", name(d), text);
		err_set(&e, m->error ? -(int)m->error : -EIO, "%s", text);
		if (d->state == DISTRO_RUNNING || d->state == DISTRO_STOPPING) {
			if (m->error == EBUSY)
				still_mounted(d, &e);
			else
				detach(d);
		} else if (d->state == DISTRO_STARTING) {
			/* No answer to START will come. */
			failed(d, &e, "start its init");
			idle_check(s);
		}
		break;
	default: break;
	}
}

static void vm_end(void *ctx, const char *why, bool planned)
{
	struct service *s = ctx;
	bool was_up = *vm_kernel_release(s->vm);
	struct err e = {0};

	snprintf(s->last_end, sizeof(s->last_end), "%s", why);
	if (!planned)
		log_warn("vm", "the virtual machine ended: %s", why);
	s->vm = NULL; /* frees itself */
	err_set(&e, -EIO, "%s: %s",
		was_up ? "the virtual machine ended" : "start the virtual machine", why);
	for (struct distro *d = s->distros, *next; d; d = next) {
		next = d->next;
		if (d->state != DISTRO_STOPPED)
			set_stopped(d, NULL);
		/* Wants that the VM's planned end only delays are served by a new one. */
		if (!planned)
			finish_wants(d, &e);
		forget(d);
	}
	service_vm_ended(s);
	kick_all(s);
}

const struct vm_ops service_vm_ops = {vm_up, vm_event, vm_end};

struct vm_env service_vm_env(struct service *s)
{
	return (struct vm_env){.loop = s->loop,
		.runtime_dir = s->runtime_dir,
		.data_dir = s->data_dir,
		.ops = &service_vm_ops,
		.ctx = s};
}
