/* SPDX-License-Identifier: MIT */
/* What clients can ask about networks and forwarded ports. */
#include "daemon/net-methods.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "daemon/distro.h"
#include "daemon/machine.h"
#include "daemon/net.h"
#include "daemon/ports.h"
#include "daemon/service.h"

static const char *owner_name(const struct service *s, const struct machine *m)
{
	const struct reg_entry *reg = m->owner[0] ? registry_by_id(s->reg, m->owner) : NULL;

	return reg ? reg->name : "";
}

/* Those that run in this machine share its network. */
static struct json_object *residents(struct service *s, const struct machine *m)
{
	struct json_object *list = js_array();

	for (unsigned i = 0; i < registry_count(s->reg); i++) {
		const struct reg_entry *reg = registry_at(s->reg, i);

		if (vm_lun(m->vm, reg->id) >= 0)
			js_push(list, json_object_new_string(reg->name));
	}
	return list;
}

void network_method(void *service, struct ctl_call *call, struct json_object *params)
{
	struct json_object *list = js_array();
	struct service *s = service;

	for (const struct machine *m = s->machines; m; m = m->next) {
		struct json_object *o = net_describe(vm_net(m->vm));

		js_set_str(o, "vm", vm_id(m->vm));
		js_set_str(o, "owner", owner_name(s, m));
		js_set(o, "distributions", residents(s, m));
		js_push(list, o);
	}
	ctl_reply(call, js_set(js_object(), "machines", list), NULL);
}

void port_list_method(void *service, struct ctl_call *call, struct json_object *params)
{
	struct json_object *all = js_array();
	struct service *s = service;

	for (const struct machine *m = s->machines; m; m = m->next) {
		struct json_object *list = ports_describe(net_ports(vm_net(m->vm)));

		for (size_t i = 0; i < json_object_array_length(list); i++) {
			struct json_object *o = json_object_array_get_idx(list, i);

			js_push(all, js_set_str(json_object_get(o), "vm", vm_id(m->vm)));
		}
		js_free(list);
	}
	ctl_reply(call, js_set(js_object(), "ports", all), NULL);
}

struct waiting {
	struct service *s;
	struct ctl_call *call;
};

static void done(void *ctx, const struct err *e)
{
	struct waiting *w = ctx;

	if (e)
		ctl_fail(w->call, e);
	else
		ctl_reply(w->call, NULL, NULL);
	w->s->jobs--;
	idle_check(w->s);
	free(w);
}

/* The ports of the machine that the distribution named (default: the default one) is in; NULL: the call has failed. */
static struct ports *ports_of(struct service *s, struct ctl_call *call, struct json_object *params,
	const struct reg_entry **ret)
{
	const char *name = js_str(params, "distribution", NULL);
	const struct reg_entry *reg = name ? registry_find(s->reg, name) : registry_default(s->reg);
	const struct machine *m = reg ? machine_with_disk(s, reg->id) : NULL;
	struct ports *p = m ? net_ports(vm_net(m->vm)) : NULL;
	struct err e = {0};

	*ret = reg;
	if (!reg)
		err_set(&e, -ENOENT, "there is no distribution%s%s%s; 'wslx --list' shows all",
			name ? " '" : "", name ? name : "", name ? "'" : "");
	else if (!m)
		err_set(&e, -ENOENT, "distribution %s does not run", reg->name);
	else if (!p)
		err_set(&e, -ENOTSUP,
			"distribution %s has no forwarded ports (networkingMode, localhostForwarding in wslx.conf)",
			reg->name);
	if (e.code)
		ctl_fail(call, &e);
	return p;
}

static struct waiting *waiting(struct service *s, struct ctl_call *call)
{
	struct waiting *w = malloc(sizeof(*w));

	if (!w)
		abort();
	*w = (struct waiting){s, call};
	s->jobs++;
	return w;
}

void port_add_method(void *service, struct ctl_call *call, struct json_object *params)
{
	const struct reg_entry *reg;
	struct ports *p = ports_of(service, call, params, &reg);
	char to[FORWARD_TEXT];

	if (!p)
		return;
	/* If it has a network of its own, it is that one. */
	snprintf(to, sizeof(to), "%s %s", js_str(params, "to", ""), reg->id);
	ports_add(p, js_str(params, "listen", ""), to, done, waiting(service, call));
}

void port_remove_method(void *service, struct ctl_call *call, struct json_object *params)
{
	const struct reg_entry *reg;
	struct ports *p = ports_of(service, call, params, &reg);

	if (p)
		ports_remove(p, js_str(params, "listen", ""), done, waiting(service, call));
}
