/* SPDX-License-Identifier: MIT */
/*
 * Mounting and unmounting volumes. One operation at a time:
 *
 *	mount:	 (machine up) -> disk-attach, if it is not there -> MOUNT -> noted in the list
 *	unmount: (machine up, or none) -> UNMOUNT -> disk-detach -> gone from the list
 *
 * A folder is there without being attached. Whether a machine that was there before this service has it mounted, its guest says.
 *
 * A mount that fails takes its disk back out, unless something else of it is mounted.
 */
#include "daemon/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "daemon/distro.h"
#include "daemon/share.h"
#include "lib/base/log.h"

enum { PATIENCE_MS = 60000 };
enum kind { MOUNT, RESTORE, UNMOUNT };

struct volume_op {
	struct volume_op *next;
	struct service *s;
	struct ctl_call *call; /* NULL: nobody waits for it */
	enum kind kind;
	bool running;  /* a callback will come */
	bool given_up; /* ... for which nobody waits */
	int fd;
	struct volume *want; /* MOUNT, RESTORE: with at most one mount */
	char id[40];	     /* UNMOUNT: "": all */
	unsigned skip;	     /* of the list, which could not be */
	struct err e;
};

static void op_free(struct volume_op *op)
{
	struct service *s = op->s;

	if (op->fd >= 0)
		close(op->fd);
	volume_free(op->want);
	free(op);
	s->jobs--;
	idle_check(s);
}

static struct volume_op *op_new(struct service *s, enum kind kind)
{
	struct volume_op **p = &s->volumes->ops, *op = calloc(1, sizeof(*op));

	if (!op)
		abort();
	*op = (struct volume_op){.s = s, .kind = kind, .fd = -EBADF};
	s->jobs++;
	s->volumes->restoring += kind == RESTORE;
	/* What is put back comes before what somebody wants new. */
	while (*p && (kind != RESTORE || (*p)->kind == RESTORE))
		p = &(*p)->next;
	op->next = *p;
	*p = op;
	return op;
}

/* Its end, for those who wait; result NULL with an error in op->e. */
static void tell(struct volume_op *op, struct json_object *result)
{
	struct machine *m = machine_find(op->s, "");

	if (op->e.code && op->kind == MOUNT)
		err_wrap(&op->e, op->e.code, "mount %s", op->want->path);
	if (op->call) {
		if (op->e.code)
			ctl_fail(op->call, &op->e);
		else
			ctl_reply(op->call, result, NULL);
		op->call = NULL;
	} else {
		js_free(result);
	}
	if (op->e.code && op->e.code != -EPIPE && op->kind == RESTORE) {
		err_wrap(&op->e, op->e.code, "mount %s again", op->want->path);
		log_warn("volume", "%s", op->e.text);
		if (m)
			settings_warn(&m->set, op->e.text);
	}
}

static void unlink_op(struct volume_op *op)
{
	struct volumes *vs = op->s->volumes;

	for (struct volume_op **p = &vs->ops; *p; p = &(*p)->next)
		if (*p == op) {
			*p = op->next;
			break;
		}
	vs->restoring -= op->kind == RESTORE;
	loop_timer_arm(vs->patience, 0);
	vs->kick |= op->kind == RESTORE && !vs->restoring;
}

/* The head of the queue has ended. */
static void finish(struct volume_op *op, struct json_object *result)
{
	struct service *s = op->s;

	tell(op, result);
	unlink_op(op);
	op_free(op);
	volume_advance(s);
}

/* In a callback: false, and op is gone, when nobody waits for the operation any more. */
static bool goes_on(struct volume_op *op)
{
	op->running = false;
	if (!op->given_up)
		return true;
	op_free(op);
	return false;
}

/* The guest does not answer: others go on. */
static void out_of_patience(void *ctx)
{
	struct service *s = ctx;
	struct volume_op *op = s->volumes->ops;

	if (!op || !op->running)
		return;
	err_set(&op->e, -ETIMEDOUT, "the virtual machine has not done it in time");
	tell(op, NULL);
	op->given_up = true;
	unlink_op(op);
	volume_advance(s);
}

static void begins_waiting(struct volume_op *op, const struct machine *m)
{
	op->running = true;
	loop_timer_arm(op->s->volumes->patience,
		loop_now() + (uint64_t)(m->set.mount_timeout_ms + PATIENCE_MS) * 1000000u);
}

/* --- mount --- */

static void detached_again(void *ctx, const struct err *e)
{
	struct volume_op *op = ctx;

	if (goes_on(op))
		finish(op, NULL);
}

static void removed_again(void *ctx, const struct wire_msg *msg, const struct err *e)
{
	struct volume_op *op = ctx;
	struct machine *m;
	int lun;

	if (!goes_on(op))
		return;
	m = machine_find(op->s, "");
	lun = m && !e ? vm_lun(m->vm, op->want->id) : -1;
	if (lun < 0) {
		finish(op, NULL);
		return;
	}
	begins_waiting(op, m);
	vm_detach(m->vm, lun, detached_again, op);
}

/* op->e says why: a disk that nobody has asked for before leaves the machine again. */
static void take_back(struct volume_op *op)
{
	struct machine *m = machine_find(op->s, "");
	int lun = m ? vm_lun(m->vm, op->want->id) : -1;
	struct volume *known = volume_find(op->s->volumes, op->want->id);
	struct guestlink *g = m ? vm_guest(m->vm) : NULL;
	struct wire_w w;

	if (lun < 0 || !g || (known && (known->bare || known->mounts))) {
		finish(op, NULL);
		return;
	}
	guestlink_begin(g, &w, WSLX_UNMOUNT);
	wire_u32(&w, WSLX_A_LUN, (uint32_t)lun);
	begins_waiting(op, m);
	guestlink_send(g, &w, removed_again, op);
}

static void note(struct volume_op *op)
{
	struct volumes *vs = op->s->volumes;
	struct volume *known = volume_find(vs, op->want->id), **p = &vs->list;

	if (op->kind == RESTORE)
		return;
	if (known) {
		known->bare |= op->want->bare;
		if (op->want->mounts)
			volume_add_mount(known, op->want->mounts);
	} else {
		while (*p)
			p = &(*p)->next;
		*p = take_ptr(op->want);
	}
	volumes_save(op->s);
}

static void mounted(void *ctx, const struct wire_msg *m, const struct err *e)
{
	struct volume_op *op = ctx;
	struct json_object *o;
	char device[64], type[32];

	/* Too late, and there all the same: so it can be seen and unmounted. */
	if (op->given_up && !e)
		note(op);
	if (!goes_on(op))
		return;
	if (e && e->code == -EEXIST && op->kind == RESTORE && op->want->folder) {
		finish(op, NULL);
		return;
	}
	if (e) {
		op->e = *e;
		if (e->code == -EPIPE || op->want->folder)
			finish(op, NULL);
		else
			take_back(op);
		return;
	}
	wire_get_str(m, WSLX_A_DEVICE, device, sizeof(device));
	wire_get_str(m, WSLX_A_FSTYPE, type, sizeof(type));
	o = op->want->folder ? js_object() : js_set_str(js_object(), "device", device);
	if (op->want->mounts) {
		js_set_str(o, "name", op->want->mounts->name);
		if (!op->want->folder)
			js_set_str(o, "type", type);
	}
	note(op);
	finish(op, o);
}

static void guest_options(const struct volume_op *op, char *buf, size_t cap)
{
	const struct volume *v = op->want;
	const struct reg_entry *reg = registry_default(op->s->reg);
	const char *own = v->mounts->options;
	unsigned uid = reg ? reg->uid : 0;

	if (v->folder) /* the user of this host is the default user there */
		snprintf(buf, cap, "%s%suser=%u:%u", own, *own ? "," : "", uid, uid);
	else
		snprintf(buf, cap, "%s%s%s", own, v->ro && *own ? "," : "", v->ro ? "ro" : "");
}

static void send_mount(struct volume_op *op, struct machine *m)
{
	const struct volume *v = op->want;
	struct guestlink *g = vm_guest(m->vm);
	char options[VOLUME_OPTIONS_MAX + 40], folder[PATH_MAX];
	struct wire_w w;

	if (!g) {
		err_set(&op->e, -EPIPE, "the virtual machine went away");
		finish(op, NULL);
		return;
	}
	if (v->folder && share_path(&m->set, v->path, folder, sizeof(folder), &op->e) < 0) {
		finish(op, NULL);
		return;
	}
	guestlink_begin(g, &w, WSLX_MOUNT);
	if (v->folder) {
		wire_str(&w, WSLX_A_FOLDER, folder);
	} else {
		wire_u32(&w, WSLX_A_LUN, (uint32_t)vm_lun(m->vm, v->id));
		wire_u32(&w, WSLX_A_DISK_TIMEOUT_MS, (uint32_t)m->set.mount_timeout_ms);
	}
	if (v->mounts) {
		guest_options(op, options, sizeof(options));
		wire_str(&w, WSLX_A_NAME, v->mounts->name);
		if (v->mounts->partition)
			wire_u32(&w, WSLX_A_PARTITION, v->mounts->partition);
		if (*v->mounts->type)
			wire_str(&w, WSLX_A_FSTYPE, v->mounts->type);
		if (*options)
			wire_str(&w, WSLX_A_OPTIONS, options);
	}
	begins_waiting(op, m);
	guestlink_send(g, &w, mounted, op);
}

static void attached(void *ctx, const struct err *e)
{
	struct volume_op *op = ctx;
	struct machine *m;

	if (!goes_on(op))
		return;
	m = machine_find(op->s, "");
	if (e || !m) {
		int lun = m ? vm_lun(m->vm, op->want->id) : -1;

		if (e)
			op->e = *e;
		else
			err_set(&op->e, -EPIPE, "the virtual machine went away");
		err_wrap(&op->e, op->e.code, "attach the disk");
		if (lun >= 0 && op->e.code != -EPIPE) {
			begins_waiting(op, m);
			vm_detach(m->vm, lun, detached_again, op);
		} else {
			finish(op, NULL);
		}
		return;
	}
	send_mount(op, m);
}

/* Against the list as it is now that it is this operation's turn. */
static int check(const struct volume_op *op, struct err *e)
{
	const struct volumes *vs = op->s->volumes;
	const struct volume *known = volume_find(vs, op->want->id), *other;
	const struct volume_mount *m = op->want->mounts;
	unsigned n = 0;

	for (other = vs->list; other; other = other->next)
		n++;
	if (!known && n >= VOLUMES_MAX)
		return err_set(e, -ENOSPC, "%u disks and folders are mounted already", n);
	if (op->want->bare && known)
		return err_set(e, -EEXIST, "%s is attached already", known->path);
	if (!m)
		return 0;
	for (const struct volume_mount *k = known ? known->mounts : NULL; k; k = k->next)
		if (k->partition == m->partition)
			return err_set(
				e, -EEXIST, "it is mounted already, at /mnt/wsl/%s", k->name);
	other = volume_named(vs, m->name);
	if (other)
		return err_set(e, -EEXIST,
			"/mnt/wsl/%s is %s already; choose another name with --name", m->name,
			other->path);
	return 0;
}

static void begin_mount(struct volume_op *op, struct machine *m)
{
	struct vm_disk disk = {.ro = op->want->ro, .format = op->want->vhdx ? "vhdx" : NULL};
	struct volume *known = volume_find(op->s->volumes, op->want->id);

	if (op->kind == MOUNT && check(op, &op->e) < 0) {
		finish(op, NULL);
		return;
	}
	if (op->want->folder) {
		send_mount(op, m);
		return;
	}
	if (vm_lun(m->vm, op->want->id) >= 0) {
		/* Attached already, and as it was then. */
		if (known)
			op->want->ro = known->ro;
		send_mount(op, m);
		return;
	}
	disk.fd = op->fd >= 0 ? take_fd(op->fd) : volume_open_disk(op->want, &op->e);
	if (disk.fd < 0 || volume_lock(disk.fd, op->want->path, &op->e) < 0) {
		if (disk.fd >= 0)
			close(disk.fd);
		finish(op, NULL);
		return;
	}
	begins_waiting(op, m);
	if (vm_attach(m->vm, op->want->id, &disk, attached, op) < 0) {
		op->running = false;
		err_set(&op->e, -ENOSPC, "no room for another disk");
		finish(op, NULL);
	}
}

/* --- unmount --- */

static struct volume *target(const struct volume_op *op)
{
	struct volume *v = op->s->volumes->list;

	if (op->id[0])
		return op->skip ? NULL : volume_find(op->s->volumes, op->id);
	for (unsigned i = 0; v && i < op->skip; i++)
		v = v->next;
	return v;
}

static void begin_unmount(struct volume_op *op);

static void forget(struct volume_op *op)
{
	volume_drop(op->s->volumes, target(op));
	volumes_save(op->s);
	if (op->id[0])
		finish(op, NULL);
	else
		begin_unmount(op);
}

/* This one cannot be; with all, the others can. */
static void pass_over(struct volume_op *op, const struct err *e)
{
	if (!op->e.code) {
		op->e = *e;
		err_wrap(&op->e, e->code, "%s", target(op)->path);
	}
	op->skip++;
	begin_unmount(op);
}

static void detached(void *ctx, const struct err *e)
{
	struct volume_op *op = ctx;

	if (!goes_on(op))
		return;
	if (e && e->code != -ENOENT)
		pass_over(op, e);
	else
		forget(op);
}

static void unmounted(void *ctx, const struct wire_msg *msg, const struct err *e)
{
	struct volume_op *op = ctx;
	struct machine *m;
	int lun;

	if (!goes_on(op))
		return;
	m = machine_find(op->s, "");
	lun = m && target(op) ? vm_lun(m->vm, target(op)->id) : -1;
	if (e && e->code == -EPIPE) {
		op->e = *e;
		finish(op, NULL);
	} else if (e) {
		pass_over(op, e);
	} else if (lun < 0) {
		forget(op);
	} else {
		begins_waiting(op, m);
		vm_detach(m->vm, lun, detached, op);
	}
}

static void begin_unmount(struct volume_op *op)
{
	struct machine *m = machine_find(op->s, "");
	struct volume *v = target(op);
	struct guestlink *g = m ? vm_guest(m->vm) : NULL;
	struct wire_w w;

	if (!v) {
		finish(op, NULL);
		return;
	}
	if (!m || !g || (!v->folder && vm_lun(m->vm, v->id) < 0)) {
		forget(op);
		return;
	}
	guestlink_begin(g, &w, WSLX_UNMOUNT);
	if (!v->folder)
		wire_u32(&w, WSLX_A_LUN, (uint32_t)vm_lun(m->vm, v->id));
	for (struct volume_mount *k = v->mounts; k; k = k->next)
		wire_str(&w, WSLX_A_NAME, k->name);
	begins_waiting(op, m);
	guestlink_send(g, &w, unmounted, op);
}

/* --- the queue --- */

static void advance(void *ctx)
{
	struct service *s = ctx;
	struct volume_op *op = s->volumes->ops;
	struct machine *m = machine_find(s, "");

	if (s->volumes->kick) {
		s->volumes->kick = false;
		distro_kick_all(s);
	}
	if (!op || op->running)
		return;
	if (!m && op->kind != UNMOUNT && machine_start(s, "", NULL, &m, &op->e) < 0) {
		finish(op, NULL);
		return;
	}
	if (m && vm_state(m->vm) != VM_UP)
		return; /* its next state comes here again */
	if (op->kind == UNMOUNT)
		begin_unmount(op);
	else
		begin_mount(op, m);
}

/* Not at once: in a callback about a machine's end, the machine is still there. */
void volume_advance(struct service *s)
{
	loop_defer(s->loop, advance, s);
}

bool volume_waits(const struct machine *m)
{
	return !m->owner[0] && m->s->volumes->restoring;
}

bool volume_busy(const struct machine *m)
{
	return !m->owner[0] && m->s->volumes->ops;
}

static void put_back(struct service *s, const struct volume *v, const struct volume_mount *m)
{
	struct volume_op *op = op_new(s, RESTORE);

	op->want = malloc(sizeof(*op->want));
	if (!op->want)
		abort();
	*op->want = *v;
	op->want->next = NULL;
	op->want->mounts = NULL;
	if (m)
		volume_add_mount(op->want, m);
}

void volume_machine_up(struct machine *m)
{
	struct volumes *vs = m->s->volumes;

	if (m->owner[0])
		return;
	for (struct volume *v = vs->list; v; v = v->next) {
		if (vm_lun(m->vm, v->id) >= 0)
			continue;
		if (v->bare)
			put_back(m->s, v, NULL);
		for (struct volume_mount *k = v->mounts; k; k = k->next)
			put_back(m->s, v, k);
	}
}

void volume_machine_gone(struct machine *m, const char *why, bool planned)
{
	struct volumes *vs = m->s->volumes;

	if (m->owner[0])
		return;
	for (struct volume_op *op = vs->ops, *next; op; op = next) {
		next = op->next;
		if (op->running || op->kind == UNMOUNT || (op->kind == MOUNT && planned))
			continue;
		err_set(&op->e, -EIO, "start the virtual machine: %s", why);
		if (op->kind == MOUNT)
			tell(op, NULL); /* what was to be put back is when the next one is up */
		unlink_op(op);
		op_free(op);
	}
	volume_advance(m->s);
}

int volume_ops_open(struct service *s)
{
	return loop_timer(s->loop, out_of_patience, s, &s->volumes->patience);
}

void volume_ops_close(struct service *s)
{
	struct volumes *vs = s->volumes;

	while (vs->ops) {
		struct volume_op *op = vs->ops;

		vs->ops = op->next;
		if (op->fd >= 0)
			close(op->fd);
		volume_free(op->want);
		free(op);
	}
	vs->patience = loop_src_free(vs->patience);
}

/* --- the calls --- */

static void client_gone(void *ctx)
{
	((struct volume_op *)ctx)->call = NULL;
}

static int plan(struct volume *v, struct json_object *params, struct err *e)
{
	const char *name = js_str(params, "name", NULL);
	struct volume_mount m = {.partition = (unsigned)js_u64(params, "partition", 0)};

	v->vhdx = js_bool(params, "vhdx", false);
	v->bare = js_bool(params, "bare", false);
	if (v->folder && (v->vhdx || v->bare || m.partition || *js_str(params, "type", "")))
		return err_set(e, -EINVAL, "a folder has no format, partitions or file system");
	if (v->bare)
		return 0;
	if (name)
		snprintf(m.name, sizeof(m.name), "%s", name);
	else
		volume_default_name(v->path, m.partition, m.name);
	if ((name && strlen(name) > VOLUME_NAME_MAX) || !volume_name_ok(m.name))
		return err_set(e, -EINVAL,
			"'%.80s' is no name for a mount (letters, digits, . _ -)",
			name ? name : m.name);
	snprintf(m.type, sizeof(m.type), "%s", js_str(params, "type", ""));
	snprintf(m.options, sizeof(m.options), "%s", js_str(params, "options", ""));
	volume_add_mount(v, &m);
	return 0;
}

void volume_mount_method(void *service, struct ctl_call *call, struct json_object *params)
{
	const char *path = js_str(params, "disk", "");
	struct service *s = service;
	cleanup_close int fd = ctl_call_take_fd(call, 0);
	struct volume_op *op;
	struct volume *v = NULL;
	struct err e = {0};
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	if (fd < 0 || flags < 0 || fstat(fd, &st) < 0)
		err_sys(&e, -errno, "the disk");
	else if (path[0] != '/')
		err_set(&e, -EINVAL, "it is not an absolute path");
	else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode) && !S_ISDIR(st.st_mode))
		err_set(&e, -EINVAL, "neither a disk nor a folder");
	if (!e.code) {
		v = volume_new(path, &st);
		v->ro = !v->folder && (flags & O_ACCMODE) == O_RDONLY;
		plan(v, params, &e);
	}
	if (e.code) {
		volume_free(v);
		err_wrap(&e, e.code, "mount %s", path);
		ctl_fail(call, &e);
		return;
	}
	op = op_new(s, MOUNT);
	op->want = v;
	op->fd = take_fd(fd);
	op->call = call;
	ctl_call_on_close(call, client_gone, op);
	volume_advance(s);
}

void volume_unmount_method(void *service, struct ctl_call *call, struct json_object *params)
{
	const char *path = js_str(params, "disk", NULL);
	struct service *s = service;
	struct volume *v = NULL;
	struct volume_op *op;
	struct err e = {0};
	struct stat st;

	if (path && stat(path, &st) == 0) {
		struct volume *like = volume_new(path, &st);

		v = volume_find(s->volumes, like->id);
		volume_free(like);
	}
	/* Of a file that has gone the path is left. */
	for (struct volume *k = s->volumes->list; path && !v && k; k = k->next)
		if (strcmp(k->path, path) == 0)
			v = k;
	if (path && !v) {
		err_set(&e, -ENOENT, "%s is not mounted", path);
		ctl_fail(call, &e);
		return;
	}
	op = op_new(s, UNMOUNT);
	if (v)
		strcpy(op->id, v->id);
	op->call = call;
	ctl_call_on_close(call, client_gone, op);
	volume_advance(s);
}
