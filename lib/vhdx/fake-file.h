/* SPDX-License-Identifier: MIT */
/*
 * A file in memory for tests of lib/vhdx, whose power can fail: what was not flushed is then lost
 * in part, sector by sector of 512 bytes.
 */
#ifndef WSLX_VHDX_FAKE_FILE_H
#define WSLX_VHDX_FAKE_FILE_H

#include "lib/vhdx/vhdx.h"

struct fake_op;

struct fake_file {
	uint8_t *now, *stable; /* FAKE_FILE_MAX bytes each; behind the sizes zero */
	uint64_t size, stable_size;
	struct fake_op *ops; /* since the last flush, in order */
	unsigned nops, cap;
	long countdown; /* calls until the power fails, -1: it does not */
	bool dead;	/* it has: every call fails */
	bool journal;	/* else stable is not kept up */
	uint64_t calls;
};

#define FAKE_FILE_MAX (128ull << 20)

void fake_file_init(struct fake_file *f, bool journal);
void fake_file_done(struct fake_file *f);
/* The power comes back: each unflushed sector is what rnd() says, old or new; rnd: any 64 bits. */
void fake_file_crash(struct fake_file *f, uint64_t (*rnd)(void));

extern const struct vhdx_io fake_file_io; /* ctx: a struct fake_file */

#endif
