/* SPDX-License-Identifier: MIT */
/* A distribution's way up: its disk into the machine, START to init, what init answers. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "daemon/distro-internal.h"
#include "daemon/host-facts.h"
#include "daemon/interop.h"
#include "daemon/net.h"
#include "lib/base/log.h"
#include "lib/base/utf8.h"
#include "lib/image/image.h"

static void keep_warnings(struct distro *d, const struct wire_msg *m)
{
	struct wire_attr a;
	char text[400];

	for (size_t pos = 0; wire_next(m, &pos, &a);) {
		int n = (int)MIN(a.len, sizeof(text) - 1);

		if (a.tag != WSLX_A_WARNING)
			continue;
		snprintf(text, sizeof(text), "%s: %.*s", distro_name(d), n, (const char *)a.data);
		/* A guest's text is for a terminal in the end. */
		utf8_make_printable(text);
		if (!d->warnings)
			d->warnings = js_array();
		js_push(d->warnings, json_object_new_string(text));
		log_info("distro", "%s", text);
	}
}

static void started(void *ctx, const struct wire_msg *m, const struct err *e)
{
	struct service *s = ((struct distro_request *)ctx)->s;
	struct distro *d = distro_answered(ctx, DISTRO_STARTING);
	struct err none = {0};

	if (!d)
		return;
	if (!e && wire_get_u32(m, WSLX_A_PORT, 0) != 0) {
		d->state = DISTRO_RUNNING;
		d->port = wire_get_u32(m, WSLX_A_PORT, 0);
		keep_warnings(d, m);
		distro_watch_idle(d);
		log_debug("distro", "%s runs", distro_name(d));
		vm_mark(d->m->vm, VM_MARK_DISTRO);
		distro_finish_wants(d, NULL);
		if (d->stop_asked)
			distro_stop(d->s, d->id, NULL, NULL);
		return;
	}
	if (e && e->code == -EPIPE)
		return; /* init will connect again and say whether it started */
	if (!e)
		err_set(&none, -EPROTO, "init named no port");
	distro_failed(d, e ? e : &none, "mount its disk and start its init");
	idle_check(s);
}

/* What this distribution may use; a machine of its own has its memory and processors by itself. */
static void send_limits(struct wire_w *w, const struct distro_conf *c)
{
	if (c->isolation == ISOLATION_SHARED) {
		if (c->memory)
			wire_u64(w, WSLX_A_MEM_MAX, c->memory);
		if (c->cpus_percent)
			wire_u32(w, WSLX_A_CPU_PERCENT, (uint32_t)c->cpus_percent);
	}
	if (c->swap != NO_SWAP_LIMIT)
		wire_u64(w, WSLX_A_SWAP_MAX, c->swap);
	wire_u32(w, WSLX_A_TASKS_MAX, (uint32_t)c->tasks);
	if (c->read_bytes)
		wire_u64(w, WSLX_A_READ_BYTES, c->read_bytes);
	if (c->write_bytes)
		wire_u64(w, WSLX_A_WRITE_BYTES, c->write_bytes);
	if (c->read_ops)
		wire_u32(w, WSLX_A_READ_OPS, (uint32_t)c->read_ops);
	if (c->write_ops)
		wire_u32(w, WSLX_A_WRITE_OPS, (uint32_t)c->write_ops);
}

/* Where the host sees a distribution's files. */
static void host_root(const struct service *s, const struct reg_entry *reg, char *buf, size_t cap)
{
	snprintf(buf, cap, "%s/mnt/%s", s->runtime_dir, reg->name);
}

/* It may run programs of the host: whoever is to run them. It starts without when that fails. */
static void allow_interop(struct distro *d, const struct reg_entry *reg)
{
	uint32_t port = WSLX_PORT_INTEROP + (uint32_t)vm_lun(d->m->vm, d->id);
	struct err e = {0};
	int fd;

	bool allowed = d->conf.interop < 0 ? d->m->set.interop : d->conf.interop;

	if (d->interop || !allowed)
		return;
	fd = vm_listen(d->m->vm, port);
	if (fd < 0)
		err_sys(&e, fd, "listen for it");
	else
		interop_new(d->s->loop, fd, port, reg->name, &d->interop, &e);
	if (e.code)
		log_warn("interop", "%s cannot run programs of the host: %s", reg->name, e.text);
}

/* own: what the user wants instead of the default, "": nothing. */
static void mount_options(const struct reg_entry *reg, const char *own, char *buf, size_t cap)
{
	const char *fs = registry_fs(reg);

	if (!*own)
		own = !strcmp(fs, "ext4")    ? "discard,errors=remount-ro"
		      : !strcmp(fs, "btrfs") ? "discard=async,compress=no"
					     : "discard";
	/* A clone has its original's identity, and both may be in one machine. */
	snprintf(buf, cap, "%s%s", own, !strcmp(fs, "xfs") ? ",nouuid" : "");
}

void distro_send_start(struct distro *d, const struct reg_entry *reg)
{
	struct guestlink *g = vm_guest(d->m->vm);
	char options[288];
	char host[65] = "", root[PATH_MAX];
	struct wire_w w;

	allow_interop(d, reg);
	gethostname(host, sizeof(host) - 1);
	host_root(d->s, reg, root, sizeof(root));
	guestlink_begin(g, &w, WSLX_START);
	wire_str(&w, WSLX_A_DISTRO, d->id);
	wire_str(&w, WSLX_A_NAME, reg->name);
	wire_u32(&w, WSLX_A_LUN, (uint32_t)vm_lun(d->m->vm, d->id));
	wire_str(&w, WSLX_A_FSTYPE, registry_fs(reg));
	mount_options(reg, d->conf.mount_options, options, sizeof(options));
	wire_str(&w, WSLX_A_OPTIONS, options);
	wire_str(&w, WSLX_A_HOSTNAME, host);
	wire_u32(&w, WSLX_A_UID, reg->uid);
	wire_u32(&w, WSLX_A_DISK_TIMEOUT_MS, (uint32_t)d->m->set.mount_timeout_ms);
	send_limits(&w, &d->conf);
	wire_u32(&w, WSLX_A_TIMEOUT_MS, (uint32_t)d->m->set.start_timeout_ms);
	host_facts_add(&w);
	net_add_start(vm_net(d->m->vm), (unsigned)vm_lun(d->m->vm, d->id), &w);
	wire_str(&w, WSLX_A_HOST_ROOT, root);
	wire_str(&w, WSLX_A_VM, vm_id(d->m->vm));
	if (vm_has_files(d->m->vm))
		wire_u32(&w, WSLX_A_HOST_FILES, 1);
	if (d->m->set.wsl_compat)
		wire_u32(&w, WSLX_A_WSL_COMPAT, 1);
	if (d->interop)
		interop_add(d->interop, &w);
	guestlink_send(g, &w, started, distro_request(d));
}

static void attached(void *ctx, const struct err *e)
{
	struct service *s = ((struct distro_request *)ctx)->s;
	struct distro *d = distro_answered(ctx, DISTRO_ATTACHING);
	const struct reg_entry *reg = d ? distro_entry(d) : NULL;
	struct err gone = {0};

	if (!d)
		return;
	if (!e && (!reg || !vm_guest(d->m->vm))) {
		err_set(&gone, -EPIPE, "the virtual machine went away");
		e = &gone;
	} else if (!e && d->stop_asked) {
		err_set(&gone, -ECANCELED, "it was stopped meanwhile");
		e = &gone;
	}
	if (e) {
		distro_failed(d, e, "attach its disk");
		idle_check(s);
		return;
	}
	d->state = DISTRO_STARTING;
	distro_send_start(d, reg);
}

int distro_open_disk(const struct reg_entry *reg, struct err *e)
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
	/* What a virtual disk holds, only what can read it can tell: wslx-vmm, confined. */
	r = reg->vhdx ? 0 : image_check_fs(fd, path, registry_fs(reg), e);
	return r < 0 ? r : take_fd(fd);
}

void distro_attach(struct distro *d, const struct reg_entry *reg)
{
	struct err e = {0};
	struct vm_disk disk = {.format = reg->vhdx ? "vhdx" : NULL};
	struct distro_request *q;
	int lun;

	if (vm_lun(d->m->vm, d->id) >= 0 && vm_guest(d->m->vm)) {
		/* It could not leave the VM the last time. */
		d->state = DISTRO_STARTING;
		distro_arm(d, d->m->set.start_timeout_ms);
		distro_send_start(d, reg);
		return;
	}
	disk.fd = distro_open_disk(reg, &e);
	if (disk.fd < 0) {
		distro_failed(d, &e, "open its disk");
		return;
	}
	d->state = DISTRO_ATTACHING;
	distro_arm(d, d->m->set.start_timeout_ms);
	q = distro_request(d);
	lun = vm_attach(d->m->vm, d->id, &disk, attached, q);
	if (lun < 0) {
		free(q);
		err_sys(&e, lun, "no room for another disk");
		distro_failed(d, &e, "attach its disk");
	}
}
