/* SPDX-License-Identifier: MIT */
/* Disk files as a whole, in a process of their own: copied, and looked into; or what somebody else saw there. */
#include "lib/image/image.h"

#include <errno.h>
#include "lib/image/copy.h"
#include "lib/image/disk-read.h"
#include "lib/image/facts.h"
#include "lib/image/job.h"
#include "lib/image/probe-internal.h"
#include "lib/vhdx/vhdx.h"

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
	const struct job_report *to = ctx;
	const struct image_progress p = {.read = done, .total = total};

	if (to->progress)
		to->progress(to->ctx, &p);
}

int job_copy(int in, int out, const struct job_report *to, struct err *e)
{
	struct job_report copy = *to;

	return image_copy(in, out, on_progress, &copy, e);
}

int job_to_vhdx(int in, int out, const struct job_report *to, struct err *e)
{
	struct job_report copy = *to;
	const struct vhdx_convert c = {on_progress, &copy};

	return vhdx_import(in, out, NULL, &c, e);
}

int job_from_vhdx(int in, int out, const struct job_report *to, struct err *e)
{
	struct job_report copy = *to;
	const struct vhdx_convert c = {on_progress, &copy};

	return vhdx_export(in, out, &c, e);
}

/*
 * A virtual disk may hold anything; a raw one was looked at before. Only ext4 is understood here: *ret_ext4. Of a virtual
 * disk that is used where it is, nobody else could say more.
 */
static int check_content(const struct disk_read *disk, bool in_place, bool *ret_ext4, struct err *e)
{
	struct image_info i;
	int r = disk_read_probe(disk, &i);

	if (r < 0)
		return err_sys(e, r, "read the virtual disk");
	*ret_ext4 = i.kind == IMAGE_EXT4;
	r = image_check_info(&i, "the virtual disk", e);
	if (r == 0 && in_place && !*ret_ext4)
		r = err_set(e, -EOPNOTSUPP,
			"the virtual disk holds %s: only ext4 can be used where it is; import it with --vhd",
			i.what);
	return r;
}

static int examine(const struct image_copy_opts *o, const struct job_report *to, struct err *e)
{
	bool in = o->out_fd < 0, ext4 = true;
	struct disk_read disk;
	int r = disk_read_open(&disk, in ? o->in_fd : o->out_fd, in && o->vhdx, e);

	if (r == 0 && o->vhdx)
		r = check_content(&disk, in, &ext4, e);
	if (r == 0 && o->examine && ext4)
		r = facts_of_disk(&disk, to->facts, e);
	disk_read_done(&disk);
	return r;
}

static int copy_fn(const void *opts, const struct job_report *to, struct err *e)
{
	const struct image_copy_opts *o = opts;
	int r = 0;

	if (o->out_fd >= 0)
		r = o->vhdx ? job_from_vhdx(o->in_fd, o->out_fd, to, e)
			    : job_copy(o->in_fd, o->out_fd, to, e);
	return r == 0 && (o->vhdx || o->examine) ? examine(o, to, e) : r;
}

int image_copy_start(struct image_job **ret, const struct image_copy_opts *o, struct err *e)
{
	const struct job_work w = {.who = "copier",
		.profile = &sandbox_exporter,
		.fds = {o->in_fd, o->out_fd, -1},
		.fn = copy_fn,
		.opts = o};

	return job_start(ret, &w, e);
}

static int texts_fn(const void *opts, const struct job_report *to, struct err *e)
{
	const struct image_texts *t = opts;

	if (t->os_release)
		facts_parse_os_release(t->os_release, t->os_release_len, to->facts);
	if (t->distribution)
		facts_parse_distribution(t->distribution, t->distribution_len, to->facts);
	return 0;
}

int image_facts_start(struct image_job **ret, const struct image_texts *t, struct err *e)
{
	const struct job_work w = {.who = "examiner",
		.profile = &sandbox_importer,
		.fds = {-1, -1, -1},
		.fn = texts_fn,
		.opts = t};

	return job_start(ret, &w, e);
}
