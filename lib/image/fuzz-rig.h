/* SPDX-License-Identifier: MIT */
/* What the importer's fuzz targets share: an archive in memory, and its import into a small disk in memory. */
#ifndef WSLX_IMAGE_FUZZ_RIG_H
#define WSLX_IMAGE_FUZZ_RIG_H

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "lib/image/image.h"

/* An empty file for the archive; the same at each call. */
static inline int fuzz_archive(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = memfd_create("in", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		abort();
	return fd;
}

/* Refused, for a reason, or imported. */
static inline void fuzz_import(int archive)
{
	static const uint8_t id[16] = {1};
	static int out = -1;
	struct image_import_opts io = {.size = 16 << 20, .spool_fd = -1, .in_fd = archive};
	struct image_facts facts = {0};
	const struct image_write_opts o = {
		.io = &io, .uuid = id, .hash_seed = id, .now = 1700000000, .facts = &facts};
	struct err e = {0};

	if (out < 0)
		out = memfd_create("out", MFD_CLOEXEC);
	if (out < 0 || lseek(archive, 0, SEEK_SET) < 0)
		abort();
	io.out_fd = out;
	if (image_write(&o, &e) < 0 && !e.text[0])
		abort();
}

#endif
