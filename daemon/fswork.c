/* SPDX-License-Identifier: MIT */
#include "daemon/fswork.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/log.h"

#define MEMORY ((uint64_t)512 << 20)
enum { DISKS = 2 };

struct fswork {
	struct fswork *next;
	struct service *s;
	struct settings set;
	struct vm *vm;
	const struct fswork_ops *ops; /* NULL: nobody waits for it any more */
	void *ctx;
	enum wslx_type type;
	int disks[DISKS]; /* until they are the machine's; negative: none */
	char fs[DISKS][16];
	uint64_t size;
	unsigned attached;
	bool asked, answered;
	struct err error;
	uint8_t *reply; /* the guest's, whole */
	size_t reply_len;
};

static const char *const names[DISKS] = {"disk", "to"};

static void forget(struct fswork *f)
{
	for (struct fswork **p = &f->s->fsworks; *p; p = &(*p)->next)
		if (*p == f) {
			*p = f->next;
			break;
		}
	for (unsigned i = 0; i < DISKS; i++)
		if (f->disks[i] >= 0)
			close(f->disks[i]);
	settings_done(&f->set);
	free(f->reply);
	free(f);
}

/* A copy of the reply's attributes, which the link's buffer does not keep. */
static void keep_reply(struct fswork *f, const struct wire_msg *m)
{
	f->reply = malloc(m->len + 1);
	if (!f->reply)
		abort();
	memcpy(f->reply, m->attrs, m->len);
	f->reply_len = m->len;
}

static void answered(void *ctx, const struct wire_msg *m, const struct err *e)
{
	struct fswork *f = ctx;

	if (e && e->code == -EPIPE)
		return; /* the machine is ending, or init is back in a moment */
	f->answered = true;
	if (e)
		f->error = *e;
	else
		keep_reply(f, m);
	vm_shutdown(f->vm);
}

static void ask(struct fswork *f)
{
	struct guestlink *g = vm_guest(f->vm);
	struct wire_w w;

	if (!g)
		return; /* on_end() comes */
	guestlink_begin(g, &w, f->type);
	wire_u32(&w, WSLX_A_LUN, (uint32_t)vm_lun(f->vm, names[0]));
	wire_str(&w, WSLX_A_FSTYPE, f->fs[0]);
	if (f->fs[1][0]) {
		wire_u32(&w, WSLX_A_TO_LUN, (uint32_t)vm_lun(f->vm, names[1]));
		wire_str(&w, WSLX_A_TO_FSTYPE, f->fs[1]);
	}
	if (f->size)
		wire_u64(&w, WSLX_A_SIZE, f->size);
	guestlink_send(g, &w, answered, f);
}

static void attached(void *ctx, const struct err *e)
{
	struct fswork *f = ctx;

	if (e && !f->error.code) {
		f->error = *e;
		err_wrap(&f->error, e->code, "attach the disk");
		f->answered = true;
		vm_kill(f->vm, f->error.text);
	}
	if (!e && --f->attached == 0 && !f->answered)
		ask(f);
}

static void on_up(void *ctx, const struct wire_msg *m)
{
	struct fswork *f = ctx;

	if (f->asked) {
		if (!f->answered)
			vm_kill(f->vm, "its init lost the connection");
		return;
	}
	f->asked = true;
	f->attached = 1 + (f->fs[1][0] != '\0');
	for (unsigned i = 0; i < DISKS; i++) {
		struct vm_disk disk = {.fd = f->disks[i]};

		if (disk.fd < 0)
			continue;
		f->disks[i] = -EBADF;
		if (vm_attach(f->vm, names[i], &disk, attached, f) < 0)
			vm_kill(f->vm, "no room for a disk");
	}
}

static void on_event(void *ctx, const struct wire_msg *m)
{
	struct fswork *f = ctx;

	if (m->type == WSLX_PROGRESS && f->ops)
		f->ops->progress(
			f->ctx, wire_get_u64(m, WSLX_A_DONE, 0), wire_get_u64(m, WSLX_A_TOTAL, 0));
}

static void on_end(void *ctx, const char *why, bool planned)
{
	struct fswork *f = ctx;
	struct err e = f->error;
	const struct wire_msg m = {.type = f->type, .attrs = f->reply, .len = f->reply_len};

	f->vm = NULL; /* it frees itself */
	if (!f->ops) {
		forget(f);
		return;
	}
	if (!f->answered || (!planned && !e.code))
		err_set(&e, -ECHILD, "the virtual machine it was done in ended: %s", why);
	f->ops->end(f->ctx, e.code ? NULL : &m, e.code ? &e : NULL);
}

static const struct vm_ops vm_ops = {on_up, on_event, on_end};

static int start_vm(struct fswork *f, struct err *e)
{
	const struct vm_env env = {.loop = f->s->loop,
		.runtime_dir = f->s->runtime_dir,
		.data_dir = f->s->data_dir,
		.owner = FSWORK_OWNER,
		.bound = true,
		.set = &f->set,
		.ops = &vm_ops,
		.ctx = f};
	struct vm_plan plan;
	int r = settings_load(f->s->config, &f->set, e);

	if (r < 0)
		return r;
	f->set.memory = MEMORY;
	f->set.processors = 1;
	f->set.swap = 0;
	f->set.max_crashes = -1;
	f->set.net = NET_NONE;
	r = settings_plan(&f->set, f->s->data_dir, &plan, e);
	return r < 0 ? r : vm_start(&env, &plan, &f->vm, e);
}

int fswork_start(struct service *s, const struct fswork_task *t, const struct fswork_ops *ops,
	void *ctx, struct fswork **ret, struct err *e)
{
	struct fswork *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		abort();
	*f = (struct fswork){.next = s->fsworks,
		.s = s,
		.ops = ops,
		.ctx = ctx,
		.type = t->type,
		.size = t->size};
	s->fsworks = f;
	f->disks[0] = fcntl(t->disk, F_DUPFD_CLOEXEC, 3);
	f->disks[1] = t->to < 0 ? -EBADF : fcntl(t->to, F_DUPFD_CLOEXEC, 3);
	strcpy(f->fs[0], t->fs);
	strcpy(f->fs[1], t->to < 0 ? "" : t->to_fs);
	r = f->disks[0] < 0 || (t->to >= 0 && f->disks[1] < 0) ? err_sys(e, -errno, "the disk")
							       : start_vm(f, e);
	if (r < 0) {
		forget(f);
		return err_wrap(e, r, "start a virtual machine for it");
	}
	*ret = f;
	return 0;
}

struct fswork *fswork_free(struct fswork *f)
{
	if (!f)
		return NULL;
	f->ops = NULL;
	if (f->vm)
		vm_kill(f->vm, "nobody waits for it any more"); /* on_end() frees it */
	else
		forget(f);
	return NULL;
}

void fswork_end_all(struct service *s)
{
	while (s->fsworks) {
		struct fswork *f = s->fsworks;

		if (f->vm) {
			vm_kill(f->vm, "the service ends");
			vm_free(f->vm);
		}
		forget(f);
	}
}
