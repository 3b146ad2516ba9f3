/* SPDX-License-Identifier: MIT */
/*
 * Files' numbers as peers see them. All shares are one file system there, and may lie on several here: each of those after the first
 * has its place in the shares' order, which another server finds too, in the upper bits. What is mounted below a share is a file
 * system of its own there as well, and keeps its numbers.
 */
#include "lib/fs/host-internal.h"

enum { SHIFT = 56 };

_Static_assert(MAX_DEVICES <= 1 << (63 - SHIFT), "the root of a set has the last bit to itself");

void number_add_device(struct host *h, uint64_t dev)
{
	unsigned n = h->n_devs;

	for (unsigned i = 0; i < n; i++)
		if (h->devs[i] == dev)
			return;
	if (n == MAX_DEVICES)
		return;
	h->devs[n] = dev;
	h->n_devs = n + 1;
}

uint64_t number_shown(const struct fs_share *sh, uint64_t dev, uint64_t ino)
{
	const struct host *h = sh->host;
	unsigned n = h->n_devs;

	for (unsigned i = 0; i < n; i++)
		if (h->devs[i] == dev)
			return ino ^ (uint64_t)i << SHIFT;
	return ino;
}
