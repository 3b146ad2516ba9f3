/* SPDX-License-Identifier: MIT */
/*
 * Work on an image in a process of its own: forked, confined to a few descriptors (lib/sandbox), limited in memory.
 * What it says on the pipe to its parent is fixed-size records; one that cannot be, or silence, counts as failure.
 * The parent's side, and what its callers see, is image.h's image_job.
 */
#ifndef WSLX_IMAGE_JOB_H
#define WSLX_IMAGE_JOB_H

#include "lib/image/image.h"
#include "lib/sandbox/sandbox.h"

typedef void (*image_progress_fn)(void *ctx, const struct image_progress *p);

/* In the child: what there is to tell, and to whom. */
struct job_report {
	image_progress_fn progress;
	void *ctx;
	struct image_facts *facts; /* zeroes; told to the parent if the work succeeds */
};

struct job_work {
	const char *who; /* "importer", for messages */
	const struct sandbox_profile *
		profile; /* NULL: not confined, for what understands nothing of what it reads itself */
	int fds[3];	 /* borrowed; all the child keeps; negative: none */
	/* Runs in the child. opts is a copy of this process's memory. 0 or a negative errno. */
	int (*fn)(const void *opts, const struct job_report *to, struct err *e);
	const void *opts;
};

int job_start(struct image_job **ret, const struct job_work *w, struct err *e);
/* Starts it and waits for its end. */
int job_run(const struct job_work *w, const struct job_report *to, struct err *e);

/* image_copy(), for the child's work. */
int job_copy(int in, int out, const struct job_report *to, struct err *e);
/* The same, from or to a VHDX file. */
int job_from_vhdx(int in, int out, const struct job_report *to, struct err *e);
int job_to_vhdx(int in, int out, const struct job_report *to, struct err *e);

#endif
