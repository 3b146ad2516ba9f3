/* SPDX-License-Identifier: MIT */
#include "daemon/upkeep.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "daemon/clock.h"
#include "daemon/crash.h"
#include "daemon/share.h"
#include "daemon/swap.h"
#include "lib/base/cleanup.h"
#include "lib/base/log.h"

/* The first command comes first: a disk more takes the guest a while. */
enum { SWAP_AFTER_MS = 2000 };

struct upkeep {
	struct loop *loop;
	struct vm *vm;
	int swap; /* the file, while it is to come; negative: none is */
	struct loop_src *swap_timer;
	struct crash_sink *crashes;
	struct clock_watch *clock;
	struct share_server *files;
};

static void swap_is_on(void *ctx, const struct wire_msg *m, const struct err *e)
{
	if (e)
		log_warn("swap", "the guest uses no swap: %s", e->text);
}

static void swap_attached(void *ctx, const struct err *e)
{
	struct upkeep *u = ctx;
	struct guestlink *g = e ? NULL : vm_guest(u->vm);
	int lun = vm_lun(u->vm, UPKEEP_SWAP_DISK);
	struct wire_w w;

	if (e)
		log_warn("swap", "attach the swap disk: %s", e->text);
	if (!g || lun < 0)
		return;
	guestlink_begin(g, &w, WSLX_SWAP_ON);
	wire_u32(&w, WSLX_A_LUN, (uint32_t)lun);
	guestlink_send(g, &w, swap_is_on, NULL);
}

static void give_swap(void *ctx)
{
	struct upkeep *u = ctx;
	struct vm_disk disk = {0};

	if (vm_state(u->vm) != VM_UP || u->swap < 0)
		return; /* upkeep_up() comes again, or the end */
	disk.fd = take_fd(u->swap);
	if (vm_attach(u->vm, UPKEEP_SWAP_DISK, &disk, swap_attached, u) < 0)
		log_warn("swap", "no swap: no room for another disk");
}

/* Now, so that the user hears of a file that will not do. */
static void open_swap(
	struct upkeep *u, const struct settings *set, uint64_t size, const char *data_dir)
{
	struct err e = {0};

	u->swap = swap_file_open(set->swap_file, data_dir, size, &e);
	if (u->swap >= 0)
		return;
	err_wrap(&e, e.code, "the guest gets no swap");
	settings_warn(set, e.text);
	log_warn("swap", "%s", e.text);
}

static void take_crashes(
	struct upkeep *u, const struct settings *set, const char *dir, const char *data_dir)
{
	struct crash_config cfg = {.keep = (unsigned)MAX(set->max_crashes, 0)};
	char path[PATH_MAX];
	int r;

	if (set->max_crashes < 0)
		return;
	if (set->crash_folder)
		snprintf(cfg.folder, sizeof(cfg.folder), "%s", set->crash_folder);
	else
		snprintf(cfg.folder, sizeof(cfg.folder), "%s/crashes", data_dir);
	snprintf(path, sizeof(path), "%s/vsock_%d", dir, WSLX_PORT_CRASH);
	r = crash_sink_new(u->loop, path, &cfg, &u->crashes);
	if (r < 0)
		log_warn("crash", "listen for the guest's core dumps: %s", strerror(-r));
}

struct upkeep *upkeep_new(struct vm *vm, const struct vm_env *env, uint64_t swap, const char *dir)
{
	struct upkeep *u = calloc(1, sizeof(*u));
	const struct settings *set = env->set;
	struct loop *l = env->loop;
	int r;

	if (!u)
		abort();
	*u = (struct upkeep){.loop = l, .vm = vm, .swap = -EBADF};
	if (swap)
		open_swap(u, set, swap, env->data_dir);
	take_crashes(u, set, dir, env->data_dir);
	u->files = share_new(l, vm, set, env->owner, dir);
	r = clock_watch_new(l, vm, set->clock_check_ms, &u->clock);
	if (r == 0)
		r = loop_timer(l, give_swap, u, &u->swap_timer);
	if (r < 0)
		log_warn("vm", "watch over the virtual machine: %s", strerror(-r));
	return u;
}

bool upkeep_has_files(const struct upkeep *u)
{
	return u && share_works(u->files);
}

void upkeep_up(struct upkeep *u)
{
	share_up(u->files);
	if (u->swap >= 0 && u->swap_timer)
		loop_timer_arm(u->swap_timer, loop_now() + SWAP_AFTER_MS * 1000000ull);
}

struct upkeep *upkeep_free(struct upkeep *u)
{
	if (!u)
		return NULL;
	clock_watch_free(u->clock);
	share_free(u->files);
	crash_sink_free(u->crashes);
	loop_src_free(u->swap_timer);
	if (u->swap >= 0)
		close(u->swap);
	free(u);
	return NULL;
}
