/* SPDX-License-Identifier: MIT */
/* What the parts of the importer share: write.c (the whole), tar.c (entries), oci.c (container image layers). */
#ifndef WSLX_IMAGE_IMPORT_INTERNAL_H
#define WSLX_IMAGE_IMPORT_INTERNAL_H

#include <archive.h>
#include <archive_entry.h>
#include "lib/image/ext4.h"
#include "lib/image/facts.h"
#include "lib/image/source.h"
#include "lib/image/tree.h"

/* Small files whose text is kept, to be parsed at the end. */
enum { IMPORT_TEXTS = 3 };
extern const char *const import_text_names[IMPORT_TEXTS];
struct import_text {
	uint32_t ino;
	char *data;
	size_t len;
};

struct import {
	const struct image_write_opts *o;
	struct source src;
	struct archive *a; /* the archive being read */
	struct ext4 *x;
	struct tree *t;
	unsigned layer; /* being read; 0: there are none */
	struct image_progress progress;
	uint64_t base; /* bytes read before a */
	uint64_t next_report;
	int64_t consumed; /* of the decompressed archive, at the end of the last entry */
	struct import_text text[IMPORT_TEXTS];
};

void import_report(struct import *im, bool now);
int import_archive_error(const struct import *im, struct err *e);

/* Takes all entries of im->a. IMPORT_LAYERS: the first ones are those of an archive of layers; nothing was taken. */
enum { IMPORT_LAYERS = 1 };
int import_entries(struct import *im, struct err *e);

/* oci.c: does a name at the start of an archive say that it holds layers? Then imports all of them. */
bool oci_looks_like(const char *name);
int oci_import(struct import *im, struct err *e);

#endif
