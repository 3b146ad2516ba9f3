/* SPDX-License-Identifier: MIT */
#include "daemon/machine.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/distro-conf.h"
#include "daemon/distro.h"
#include "daemon/fswork.h"
#include "daemon/volume.h"
#include "lib/base/log.h"

struct machine *machine_find(const struct service *s, const char *owner)
{
	for (struct machine *m = s->machines; m; m = m->next)
		if (strcmp(m->owner, owner) == 0)
			return m;
	return NULL;
}

struct machine *machine_with_disk(const struct service *s, const char *id)
{
	for (struct machine *m = s->machines; m; m = m->next)
		if (vm_lun(m->vm, id) >= 0)
			return m;
	return NULL;
}

static void add(struct machine *m)
{
	m->serial = ++m->s->machine_serial;
	m->next = m->s->machines;
	m->s->machines = m;
}

static void machine_remove(struct machine *m)
{
	for (struct machine **p = &m->s->machines; *p; p = &(*p)->next)
		if (*p == m) {
			*p = m->next;
			break;
		}
}

static void machine_free(struct machine *m)
{
	loop_src_free(m->idle);
	settings_done(&m->set);
	free(m);
}

static void on_up(void *ctx, const struct wire_msg *msg)
{
	struct machine *m = ctx;

	volume_machine_up(m);
	distro_vm_up(m, msg);
	volume_advance(m->s);
}

static void on_event(void *ctx, const struct wire_msg *msg)
{
	distro_vm_event(ctx, msg);
}

static void on_end(void *ctx, const char *why, bool planned)
{
	struct machine *m = ctx;
	struct service *s = m->s;
	struct service_end *end = &s->ends[s->nends++ % SERVICE_ENDS];
	bool was_up = *vm_kernel_release(m->vm);

	end->pid = vm_pid(m->vm);
	snprintf(end->why, sizeof(end->why), "%s", why);
	if (!planned)
		log_warn("vm", "%s ended: %s",
			m->owner[0] ? "a distribution's own virtual machine"
				    : "the virtual machine",
			why);
	/* The vm frees itself. Those who hear of it now find a new machine, or none. */
	machine_remove(m);
	distro_vm_gone(m, why, was_up, planned);
	volume_machine_gone(m, why, planned);
	machine_free(m);
	service_vm_ended(s);
	distro_kick_all(s);
}

static const struct vm_ops ops = {on_up, on_event, on_end};

static struct machine *machine_new(struct service *s)
{
	struct machine *m = calloc(1, sizeof(*m));

	if (!m)
		abort();
	m->s = s;
	if (idle_watch(m) < 0)
		abort();
	return m;
}

static struct vm_env environment(struct machine *m)
{
	return (struct vm_env){.loop = m->s->loop,
		.runtime_dir = m->s->runtime_dir,
		.data_dir = m->s->data_dir,
		.owner = m->owner,
		.set = &m->set,
		.ops = &ops,
		.ctx = m};
}

int machine_start(struct service *s, const char *owner, const struct distro_conf *conf,
	struct machine **ret, struct err *e)
{
	struct machine *m = machine_new(s);
	struct vm_env env = environment(m);
	struct vm_plan plan;
	int r;

	snprintf(m->owner, sizeof(m->owner), "%s", owner);
	r = settings_load(s->config, &m->set, e);
	if (r == 0 && *owner) {
		if (conf->memory)
			m->set.memory = conf->memory;
		if (conf->cpus_percent)
			m->set.processors = (conf->cpus_percent + 99) / 100;
	}
	if (r == 0)
		s->service_idle_ms = m->set.service_idle_ms;
	if (r == 0)
		r = settings_plan(&m->set, s->data_dir, &plan, e);
	if (r == 0)
		r = vm_start(&env, &plan, &m->vm, e);
	if (r < 0) {
		machine_free(m);
		return err_wrap(e, r, "start the virtual machine");
	}
	add(m);
	*ret = m;
	return 0;
}

static bool owner_ok(void *ctx, const char *owner)
{
	struct machine *m = ctx;

	/* Nobody waits for what that one did. */
	if (machine_find(m->s, owner) || !strcmp(owner, FSWORK_OWNER))
		return false;
	snprintf(m->owner, sizeof(m->owner), "%s", owner);
	return true;
}

void machine_adopt_all(struct service *s)
{
	struct err e = {0};
	struct dirent *de;
	DIR *d = opendir(s->runtime_dir);

	while (d && (de = readdir(d))) {
		char dir[PATH_MAX];
		struct machine *m;
		struct vm_env env;

		if (strncmp(de->d_name, "vm-", 3) != 0)
			continue;
		snprintf(dir, sizeof(dir), "%s/%s", s->runtime_dir, de->d_name);
		m = machine_new(s);
		env = environment(m);
		if (settings_load(s->config, &m->set, &e) < 0 ||
			vm_adopt(&env, dir, owner_ok, &m->vm) < 0) {
			machine_free(m);
			continue;
		}
		add(m);
		log_info("vm", "found a running virtual machine (process %d)", vm_pid(m->vm));
	}
	if (d)
		closedir(d);
}

void machine_free_all(struct service *s)
{
	while (s->machines) {
		struct machine *m = s->machines;

		machine_remove(m);
		vm_free(m->vm);
		machine_free(m);
	}
}
