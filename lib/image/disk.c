/* SPDX-License-Identifier: MIT */
/* Disk files as a whole, in a process of their own: copied, and looked into; or what somebody else saw there. */
#include "lib/image/image.h"

#include "lib/image/copy.h"
#include "lib/image/facts.h"
#include "lib/image/job.h"
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

static int from_vhdx(int in, int out, const struct job_report *to, struct err *e)
{
	struct job_report copy = *to;
	const struct vhdx_convert c = {on_progress, &copy};

	return vhdx_export(in, out, &c, e);
}

/* A virtual disk may hold anything; a raw one was looked at before. Only ext4 is understood here. */
static int check_copy(int fd, bool *ret_examine, struct err *e)
{
	struct image_info info;
	int r = image_check(fd, "the virtual disk", e);

	if (r == 0 && image_probe(fd, &info) == 0 && info.kind != IMAGE_EXT4)
		*ret_examine = false;
	return r;
}

static int copy_fn(const void *opts, const struct job_report *to, struct err *e)
{
	const struct image_copy_opts *o = opts;
	bool examine = o->examine;
	int r = 0;

	if (o->vhdx)
		r = from_vhdx(o->in_fd, o->out_fd, to, e);
	else if (o->out_fd >= 0)
		r = job_copy(o->in_fd, o->out_fd, to, e);
	if (r == 0 && o->vhdx)
		r = check_copy(o->out_fd, &examine, e);
	if (r == 0 && examine)
		r = facts_of_disk(o->out_fd < 0 ? o->in_fd : o->out_fd, to->facts, e);
	return r;
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
