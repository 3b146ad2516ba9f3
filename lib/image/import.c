/* SPDX-License-Identifier: MIT */
/* The importer's process (job.h). */
#include "lib/image/image.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>
#include "lib/image/job.h"

static int import_fn(const void *opts, const struct job_report *to, struct err *e)
{
	struct image_import_opts io = *(const struct image_import_opts *)opts;
	uint8_t uuid[16], seed[16];
	const struct image_write_opts w = {
		.io = &io, .uuid = uuid, .hash_seed = seed, .now = time(NULL), .facts = to->facts};

	if (getrandom(uuid, 16, 0) != 16 || getrandom(seed, 16, 0) != 16)
		return err_set(e, -EIO, "there is no randomness");
	uuid[6] = (uuid[6] & 0x0f) | 0x40; /* RFC 4122: random */
	uuid[8] = (uuid[8] & 0x3f) | 0x80;
	io.progress = to->progress;
	io.ctx = to->ctx;
	return image_write(&w, e);
}

static struct job_work import_work(const struct image_import_opts *o)
{
	return (struct job_work){.who = "importer",
		.profile = &sandbox_importer,
		.fds = {o->in_fd, o->out_fd, o->spool_fd},
		.fn = import_fn,
		.opts = o};
}

int image_job_start(struct image_job **ret, const struct image_import_opts *o, struct err *e)
{
	const struct job_work w = import_work(o);

	return job_start(ret, &w, e);
}

int image_import(const struct image_import_opts *o, struct err *e)
{
	const struct job_work w = import_work(o);
	const struct job_report to = {o->progress, o->ctx, NULL};

	return job_run(&w, &to, e);
}
