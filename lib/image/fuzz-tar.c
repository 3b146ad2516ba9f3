/* SPDX-License-Identifier: MIT */
/* An archive of arbitrary bytes goes into a small disk in memory: refused, or imported; never more than that. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "lib/image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t id[16] = {1};
	static int in = -1, out = -1;
	struct image_import_opts io = {.size = 16 << 20, .spool_fd = -1};
	struct image_facts facts = {0};
	const struct image_write_opts o = {
		.io = &io, .uuid = id, .hash_seed = id, .now = 1700000000, .facts = &facts};
	struct err e = {0};

	if (in < 0) {
		in = memfd_create("in", MFD_CLOEXEC);
		out = memfd_create("out", MFD_CLOEXEC);
	}
	if (in < 0 || out < 0 || ftruncate(in, 0) < 0 ||
		pwrite(in, data, size, 0) != (ssize_t)size || lseek(in, 0, SEEK_SET) < 0)
		abort();
	io.in_fd = in;
	io.out_fd = out;
	if (image_write(&o, &e) < 0 && !e.text[0])
		abort(); /* every refusal has a reason */
	return 0;
}
