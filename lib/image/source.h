/* SPDX-License-Identifier: MIT */
/*
 * The file or pipe an archive comes from. It can be read again from its start: a file always; a pipe as long as little
 * of it was read, and if there is a file to put it into.
 */
#ifndef WSLX_IMAGE_SOURCE_H
#define WSLX_IMAGE_SOURCE_H

#include <archive.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "lib/base/err.h"

struct source {
	int fd, spool; /* borrowed; spool: an empty file, or negative */
	off_t start;
	uint64_t size; /* 0: not known */
	bool is_file;
	uint8_t *head; /* of a pipe: what was read of it so far, as long as that fits */
	size_t len;
	uint8_t *chunk;
};

int source_init(struct source *s, int fd, int spool, struct err *e);
void source_done(struct source *s);
/* Has libarchive read it. ARCHIVE_OK, or what libarchive says. */
int source_open(struct source *s, struct archive *a);
/* Back to the start; from now on it is a file. -ESPIPE with the reason in e: it cannot. */
int source_rewind(struct source *s, struct err *e);
/* libarchive's own decompressors and the tar format. Others run programs. */
void source_formats(struct archive *a);

#endif
