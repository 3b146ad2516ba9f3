/* SPDX-License-Identifier: MIT */
/*
 * The block allocation table (2.5): an entry of 64 bits a block, its state and its place in the
 * file. After every chunk of payload entries stands one for the chunk's sector bitmap, which only
 * differencing disks use.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/attr.h"
#include "lib/base/checked.h"
#include "lib/base/cleanup.h"
#include "lib/base/le.h"
#include "lib/vhdx/vhdx-internal.h"

enum { READ_CHUNK = 64 << 10 };

uint64_t vhdx_bat_entries(uint64_t blocks, uint64_t chunk_ratio)
{
	return blocks + (blocks - 1) / chunk_ratio;
}

static uint64_t entry_index(const struct vhdx *v, uint64_t block)
{
	return block + block / v->chunk_ratio;
}

uint64_t vhdx_bat_get(const struct vhdx *v, uint64_t block)
{
	return le64_get(v->bat + entry_index(v, block) * 8);
}

void vhdx_bat_set(struct vhdx *v, uint64_t block, uint64_t entry)
{
	uint64_t i = entry_index(v, block), s = i * 8 / SECTOR;

	le64_put(v->bat + i * 8, entry);
	if (!vhdx_bit_test(v->dirty, s)) {
		vhdx_bit_set(v->dirty, s);
		v->ndirty++;
	}
}

/* Bytes of the virtual disk in this block. */
static uint64_t block_len(const struct vhdx *v, uint64_t block)
{
	return MIN((uint64_t)v->info.block_size, v->info.size - block * v->info.block_size);
}

/* len bytes of it have to be in the file: of the last block only what the virtual disk has. */
static int take_space(struct vhdx *v, uint64_t off, uint64_t len, uint64_t all)
{
	if (off < MIB || !range_ok(off, len, v->file_size))
		return -EINVAL;
	return vhdx_space_take(&v->space, off / MIB, all / MIB);
}

/* A sparse table takes no memory: what is all zero is not touched. */
static int load(struct vhdx *v)
{
	cleanup_free uint8_t *buf = malloc(READ_CHUNK);
	uint64_t size = v->bat_sectors * SECTOR;
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t at = 0, n; r == 0 && at < size; at += n) {
		n = MIN(size - at, (uint64_t)READ_CHUNK);
		r = v->io->read(v->ctx, buf, n, v->bat_off + at);
		if (r == 0 && (buf[0] || memcmp(buf, buf + 1, n - 1) != 0))
			memcpy(v->bat + at, buf, n);
	}
	return r;
}

static int check_present(struct vhdx *v, struct err *e)
{
	for (uint64_t b = 0; b < v->blocks; b++) {
		uint64_t n = vhdx_bat_get(v, b);

		switch (n & BLOCK_STATE_MASK) {
		case BLOCK_PRESENT:
			if (take_space(v, n & BAT_OFFSET_MASK, block_len(v, b),
				    v->info.block_size) < 0)
				return err_set(e, -EINVAL,
					"block %llu overlaps something or is outside the file",
					(unsigned long long)b);
			break;
		case BLOCK_NOT_PRESENT:
		case BLOCK_UNDEFINED:
		case BLOCK_ZERO:
		case BLOCK_UNMAPPED: break;
		default:
			return err_set(e, -EINVAL, "block %llu is in a state that cannot be",
				(unsigned long long)b);
		}
	}
	return 0;
}

/*
 * Others may keep the space of blocks whose content does not matter, and of sector bitmaps from
 * when the disk was a differencing one. Where that is plausible, nobody else gets it; where not, it
 * is nobody's.
 */
static void take_kept(struct vhdx *v)
{
	for (uint64_t b = 0; b < v->blocks; b++) {
		uint64_t n = vhdx_bat_get(v, b);

		if ((n & BLOCK_STATE_MASK) == BLOCK_PRESENT || !n)
			continue;
		if ((n & BLOCK_STATE_MASK) == BLOCK_NOT_PRESENT ||
			take_space(v, n & BAT_OFFSET_MASK, v->info.block_size, v->info.block_size) <
				0)
			le64_put(v->bat + entry_index(v, b) * 8, n & BLOCK_STATE_MASK);
	}
	for (uint64_t i = v->chunk_ratio; i < vhdx_bat_entries(v->blocks, v->chunk_ratio);
		i += v->chunk_ratio + 1) {
		uint64_t n = le64_get(v->bat + i * 8);

		if ((n & BLOCK_STATE_MASK) == BITMAP_PRESENT)
			take_space(v, n & BAT_OFFSET_MASK, MIB, MIB);
	}
}

int vhdx_read_bat(struct vhdx *v, struct err *e)
{
	uint64_t bytes;
	int r;

	v->chunk_ratio = CHUNK_SECTORS * v->info.sector_size / v->info.block_size;
	v->blocks = (v->info.size + v->info.block_size - 1) / v->info.block_size;
	bytes = vhdx_bat_entries(v->blocks, v->chunk_ratio) * 8;
	if (bytes > v->bat_len)
		return err_set(e, -EINVAL, "its block allocation table is too short");
	v->bat_sectors = (bytes + SECTOR - 1) / SECTOR;
	v->bat = calloc(v->bat_sectors, SECTOR);
	v->dirty = calloc((v->bat_sectors + 63) / 64, 8);
	r = v->bat && v->dirty ? load(v) : -ENOMEM;
	if (r < 0)
		return err_sys(e, r, "read the block allocation table");
	r = check_present(v, e);
	if (r == 0)
		take_kept(v);
	return r;
}

/* The block gets a place where everything is zero. */
static int place(struct vhdx *v, uint64_t block)
{
	uint64_t n = vhdx_bat_get(v, block), off = n & BAT_OFFSET_MASK, len = v->info.block_size;
	uint64_t unit;
	bool kept = off != 0;
	int r = 0;

	if (!kept) {
		r = vhdx_space_alloc(&v->space, len / MIB, &unit);
		if (r < 0)
			return r;
		off = unit * MIB;
	}
	if (off < v->file_size)
		r = v->io->zero(v->ctx, off, MIN(len, v->file_size - off));
	if (r == 0 && off + len > v->file_size) {
		r = off + len > VHDX_MAX_FILE ? -ENOSPC : v->io->set_size(v->ctx, off + len);
		if (r == 0)
			v->file_size = off + len;
	}
	if (r == 0)
		vhdx_bat_set(v, block, off | BLOCK_PRESENT);
	else if (!kept)
		vhdx_space_free(&v->space, unit, len / MIB);
	return r;
}

static void unmap(struct vhdx *v, uint64_t block, uint64_t off)
{
	vhdx_bat_set(v, block, BLOCK_ZERO);
	vhdx_space_free(&v->space, off / MIB, v->info.block_size / MIB);
}

/* The part of the range that is in its first block; UNMAP and WRITE have been done. */
static int map_one(
	struct vhdx *v, enum vhdx_access a, uint64_t off, uint64_t len, struct vhdx_extent *ret)
{
	uint64_t block = off / v->info.block_size, in = off % v->info.block_size, n;
	int r;

	ret->len = MIN(len, block_len(v, block) - in);
	n = vhdx_bat_get(v, block);
	ret->present = (n & BLOCK_STATE_MASK) == BLOCK_PRESENT;
	if (!ret->present && a == VHDX_WRITE) {
		r = place(v, block);
		if (r < 0)
			return r;
		n = vhdx_bat_get(v, block);
		ret->present = true;
	} else if (ret->present && a == VHDX_UNMAP && !v->info.fixed && !in &&
		   ret->len == block_len(v, block)) {
		unmap(v, block, n & BAT_OFFSET_MASK);
		ret->present = false;
	}
	ret->off = (n & BAT_OFFSET_MASK) + in;
	return 0;
}

int vhdx_map(
	struct vhdx *v, enum vhdx_access a, uint64_t off, uint64_t len, struct vhdx_extent *ret)
{
	struct vhdx_extent next;
	int r = 0;

	if (!len || !range_ok(off, len, v->info.size))
		return -EINVAL;
	if (a != VHDX_READ) {
		if (v->readonly)
			return -EROFS;
		r = v->broken;
		if (r == 0 && !v->writing)
			r = vhdx_start(v);
	}
	if (r == 0)
		r = map_one(v, a, off, len, ret);
	if (r < 0)
		return r;
	while (ret->len < len) {
		/* What follows and cannot be had now is the next call's error. */
		if (map_one(v, a, off + ret->len, len - ret->len, &next) < 0 ||
			next.present != ret->present ||
			(ret->present && next.off != ret->off + ret->len))
			break;
		ret->len += next.len;
	}
	return 0;
}
