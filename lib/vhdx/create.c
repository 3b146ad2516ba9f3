/* SPDX-License-Identifier: MIT */
/* New VHDX files, and larger virtual disks. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/le.h"
#include "lib/vhdx/vhdx-internal.h"

/* Where things are in files that we make: the log, metadata, the BAT, blocks. */
enum {
	LOG_AT = 1 << 20,
	LOG_LEN = 1 << 20,
	METADATA_AT = 2 << 20,
	METADATA_LEN = 1 << 20,
	BAT_AT = 3 << 20,

	PARAMETERS_AT = METADATA_TABLE_LEN, /* in the metadata, as the other items behind it */
	SIZE_AT = PARAMETERS_AT + 8,
	ID_AT = SIZE_AT + 8,
	SECTOR_AT = ID_AT + 16,
	PHYS_SECTOR_AT = SECTOR_AT + 4,
	METADATA_END = PHYS_SECTOR_AT + 4,
};

enum { FLAG_VIRTUAL_DISK = 2, FLAG_REQUIRED = 4 };

struct layout {
	const struct vhdx_io *io;
	void *ctx;
	struct vhdx_create_opts o;
	uint64_t blocks, chunk_ratio, bat_len;
};

static uint64_t bat_len(uint64_t blocks, uint64_t chunk_ratio)
{
	return ALIGN_UP(vhdx_bat_entries(blocks, chunk_ratio) * 8, MIB);
}

static int check_opts(struct layout *l, struct err *e)
{
	struct vhdx_create_opts *o = &l->o;

	o->block_size = o->block_size ? o->block_size : 1 << 20;
	o->sector_size = o->sector_size ? o->sector_size : 512;
	o->phys_sector_size = o->phys_sector_size ? o->phys_sector_size : 4096;
	if (o->block_size < VHDX_MIN_BLOCK || o->block_size > VHDX_MAX_BLOCK ||
		o->block_size & (o->block_size - 1))
		return err_set(e, -EINVAL, "a block size of %u bytes cannot be", o->block_size);
	if ((o->sector_size != 512 && o->sector_size != 4096) ||
		(o->phys_sector_size != 512 && o->phys_sector_size != 4096))
		return err_set(e, -EINVAL, "sectors have 512 or 4096 bytes");
	if (!o->size || o->size % o->sector_size)
		return err_set(
			e, -EINVAL, "a size of %llu bytes cannot be", (unsigned long long)o->size);
	if (o->size > VHDX_MAX_SIZE)
		return err_set(e, -EFBIG, "a size beyond 64 TiB cannot be");
	l->blocks = (o->size + o->block_size - 1) / o->block_size;
	l->chunk_ratio = CHUNK_SECTORS * o->sector_size / o->block_size;
	l->bat_len = bat_len(l->blocks, l->chunk_ratio);
	return 0;
}

static void put_region(uint8_t *n, const uint8_t *guid, uint64_t off, uint64_t len)
{
	memcpy(n, guid, GUID_LEN);
	le64_put(n + 16, off);
	le32_put(n + 24, (uint32_t)len);
	le32_put(n + 28, 1);
}

static int write_regions(const struct layout *l)
{
	cleanup_free uint8_t *t = calloc(1, REGIONS_LEN);
	int r = t ? 0 : -ENOMEM;

	if (r < 0)
		return r;
	memcpy(t, "regi", 4);
	le32_put(t + 8, 2);
	put_region(t + 16, vhdx_guid_bat, BAT_AT, l->bat_len);
	put_region(t + 48, vhdx_guid_metadata, METADATA_AT, METADATA_LEN);
	vhdx_region_checksum(t);
	for (unsigned i = 0; r == 0 && i < 2; i++)
		r = l->io->write(l->ctx, t, REGIONS_LEN, REGIONS_AT + i * REGIONS_LEN);
	return r;
}

static int write_metadata(const struct layout *l)
{
	static const struct {
		const uint8_t *guid;
		uint32_t at, len, flags;
	} items[] = {
		{vhdx_guid_parameters, PARAMETERS_AT, 8, FLAG_REQUIRED},
		{vhdx_guid_size, SIZE_AT, 8, FLAG_REQUIRED | FLAG_VIRTUAL_DISK},
		{vhdx_guid_id, ID_AT, 16, FLAG_REQUIRED | FLAG_VIRTUAL_DISK},
		{vhdx_guid_sector, SECTOR_AT, 4, FLAG_REQUIRED | FLAG_VIRTUAL_DISK},
		{vhdx_guid_phys_sector, PHYS_SECTOR_AT, 4, FLAG_REQUIRED | FLAG_VIRTUAL_DISK},
	};
	cleanup_free uint8_t *m = calloc(1, METADATA_END);

	if (!m)
		return -ENOMEM;
	memcpy(m, "metadata", 8);
	le16_put(m + 10, ARRAY_LEN(items));
	for (unsigned i = 0; i < ARRAY_LEN(items); i++) {
		uint8_t *n = m + 32 + i * 32;

		memcpy(n, items[i].guid, GUID_LEN);
		le32_put(n + 16, items[i].at);
		le32_put(n + 20, items[i].len);
		le32_put(n + 24, items[i].flags);
	}
	le32_put(m + PARAMETERS_AT, l->o.block_size);
	le32_put(m + PARAMETERS_AT + 4, l->o.fixed);
	le64_put(m + SIZE_AT, l->o.size);
	vhdx_new_guid(m + ID_AT);
	le32_put(m + SECTOR_AT, l->o.sector_size);
	le32_put(m + PHYS_SECTOR_AT, l->o.phys_sector_size);
	return l->io->write(l->ctx, m, METADATA_END, METADATA_AT);
}

/* Of a fixed disk: one block behind the other. A dynamic one's is all zero, as the file is. */
static int write_bat(const struct layout *l)
{
	uint64_t off = BAT_AT + l->bat_len, block = 0, at = BAT_AT;
	uint8_t s[SECTOR];
	int r = 0;

	for (uint64_t i = 0; r == 0 && block < l->blocks; at += SECTOR) {
		memset(s, 0, sizeof(s));
		for (unsigned k = 0; k < SECTOR / 8 && block < l->blocks; k++, i++) {
			if (i % (l->chunk_ratio + 1) == l->chunk_ratio)
				continue;
			le64_put(s + k * 8, (off + block++ * l->o.block_size) | BLOCK_PRESENT);
		}
		r = l->io->write(l->ctx, s, sizeof(s), at);
	}
	return r;
}

static int write_headers(const struct layout *l)
{
	static const uint16_t creator[] = u"wslx " WSLX_VERSION;
	uint8_t id[8 + 512] = {0}, h[HEADER_LEN];
	int r = 0;

	for (unsigned i = 1; r == 0 && i <= 2; i++) {
		vhdx_format_header(h, i, LOG_AT, LOG_LEN);
		r = l->io->write(l->ctx, h, HEADER_LEN, HEADER_AT * i);
	}
	memcpy(id, vhdx_signature, sizeof(vhdx_signature));
	for (unsigned i = 0; creator[i]; i++)
		le16_put(id + 8 + i * 2, creator[i]);
	return r < 0 ? r : l->io->write(l->ctx, id, sizeof(id), 0);
}

int vhdx_create(
	const struct vhdx_io *io, void *ctx, const struct vhdx_create_opts *o, struct err *e)
{
	struct layout l = {.io = io, .ctx = ctx, .o = *o};
	uint64_t size;
	int r = check_opts(&l, e);

	if (r < 0)
		return r;
	size = BAT_AT + l.bat_len + (o->fixed ? l.blocks * l.o.block_size : 0);
	r = io->set_size(ctx, size);
	if (r == 0)
		r = write_regions(&l);
	if (r == 0)
		r = write_metadata(&l);
	if (r == 0 && o->fixed)
		r = write_bat(&l);
	if (r == 0)
		r = write_headers(&l);
	if (r == 0)
		r = io->flush(ctx);
	return r < 0 ? err_sys(e, r, "write the VHDX file") : 0;
}

/* A BAT of more blocks than its region has room for: in a new region, which becomes the file's with
 * the log's next entry. */
struct moved_bat {
	uint8_t *table; /* the region table that names it */
	uint64_t off, len;
};

static int move_bat(struct vhdx *v, uint64_t blocks, struct moved_bat *ret)
{
	uint64_t unit, len = bat_len(blocks, v->chunk_ratio), end;
	uint8_t *t = malloc(REGIONS_LEN);
	int r = t ? 0 : -ENOMEM;

	if (r == 0)
		r = v->io->read(v->ctx, t, REGIONS_LEN, REGIONS_AT + v->region_copy * REGIONS_LEN);
	if (r == 0)
		r = vhdx_space_alloc(&v->space, len / MIB, &unit);
	if (r < 0) {
		free(t);
		return r;
	}
	end = (unit + len / MIB) * MIB;
	if (unit * MIB < v->file_size)
		r = v->io->zero(v->ctx, unit * MIB, MIN(end, v->file_size) - unit * MIB);
	if (r == 0 && end > v->file_size)
		r = v->io->set_size(v->ctx, end);
	if (r == 0) {
		v->file_size = MAX(v->file_size, end);
		r = v->io->write(v->ctx, v->bat, v->bat_sectors * SECTOR, unit * MIB);
	}
	put_region(t + 16 + v->bat_region * 32, vhdx_guid_bat, unit * MIB, len);
	vhdx_region_checksum(t);
	*ret = (struct moved_bat){t, unit * MIB, len};
	return r;
}

/* Both region tables: the sector with the checksum, and that with the entry. */
static void log_regions(struct vhdx *v, const struct moved_bat *b)
{
	unsigned s = (16 + v->bat_region * 32) / SECTOR;

	for (unsigned copy = 0; copy < 2; copy++) {
		uint64_t at = REGIONS_AT + copy * REGIONS_LEN;

		for (unsigned i = 0; i < REGIONS_LEN / SECTOR; i++)
			if (i == 0 || i == s || copy != v->region_copy)
				vhdx_log_add(v, at + i * SECTOR, b->table + i * SECTOR);
	}
}

/* The metadata's sectors in which the size is; it need not be aligned. */
static int log_size(struct vhdx *v, uint64_t size)
{
	uint64_t at = ALIGN_DOWN(v->size_at, (uint64_t)SECTOR);
	unsigned n = (unsigned)((v->size_at + 7) / SECTOR - v->size_at / SECTOR) + 1;
	uint8_t s[2 * SECTOR];
	int r = v->io->read(v->ctx, s, n * SECTOR, at);

	le64_put(s + v->size_at - at, size);
	for (unsigned i = 0; r == 0 && i < n; i++)
		vhdx_log_add(v, at + i * SECTOR, s + i * SECTOR);
	return r;
}

/* The BAT in memory, with room for more sectors. */
static int enlarge_bat(struct vhdx *v, uint64_t sectors)
{
	uint64_t words = (sectors + 63) / 64, old = (v->bat_sectors + 63) / 64;
	uint8_t *bat;
	uint64_t *dirty = realloc(v->dirty, words * 8);

	if (!dirty)
		return -ENOMEM;
	memset(dirty + old, 0, (words - old) * 8);
	v->dirty = dirty;
	bat = realloc(v->bat, sectors * SECTOR);
	if (!bat)
		return -ENOMEM;
	memset(bat + v->bat_sectors * SECTOR, 0, (sectors - v->bat_sectors) * SECTOR);
	v->bat = bat;
	return 0;
}

/* What the BAT's region holds behind its last entry means nothing so far: zeroes, before it does.
 */
static int clear_tail(struct vhdx *v, uint64_t entries)
{
	uint64_t used = vhdx_bat_entries(v->blocks, v->chunk_ratio), old = v->bat_sectors;
	uint64_t sectors = MAX(old, (entries * 8 + SECTOR - 1) / SECTOR);
	int r = enlarge_bat(v, sectors);

	if (r < 0)
		return r;
	memset(v->bat + used * 8, 0, sectors * SECTOR - used * 8);
	v->bat_sectors = sectors;
	if (entries * 8 > v->bat_len)
		return 0; /* it moves */
	if (sectors > old)
		r = v->io->zero(v->ctx, v->bat_off + old * SECTOR, (sectors - old) * SECTOR);
	if (r == 0 && !vhdx_bit_test(v->dirty, old - 1)) {
		vhdx_bit_set(v->dirty, old - 1);
		v->ndirty++;
	}
	return r;
}

/* The last block's rest, which can be seen from now on. */
static int clear_block(struct vhdx *v)
{
	uint64_t in = v->info.size % v->info.block_size, n = vhdx_bat_get(v, v->blocks - 1);

	if (!in || (n & BLOCK_STATE_MASK) != BLOCK_PRESENT)
		return 0;
	return v->io->zero(v->ctx, (n & BAT_OFFSET_MASK) + in, v->info.block_size - in);
}

static int grow(struct vhdx *v, uint64_t size)
{
	uint64_t blocks = (size + v->info.block_size - 1) / v->info.block_size;
	uint64_t entries = vhdx_bat_entries(blocks, v->chunk_ratio);
	struct moved_bat moved = {0};
	int r = v->writing ? 0 : vhdx_start(v);

	if (r == 0)
		r = clear_block(v);
	if (r == 0)
		r = clear_tail(v, entries);
	if (r == 0)
		r = vhdx_flush(v);
	vhdx_log_begin(v);
	if (r == 0)
		r = log_size(v, size);
	if (r == 0 && entries * 8 > v->bat_len) {
		r = move_bat(v, blocks, &moved);
		if (r == 0)
			log_regions(v, &moved);
	}
	if (r == 0)
		r = vhdx_flush_file(v);
	if (r == 0)
		r = vhdx_log_write(v, v->file_size, vhdx_log_guid(v));
	if (r == 0)
		r = vhdx_flush_file(v);
	if (r == 0)
		r = vhdx_log_apply(v);
	if (r == 0 && moved.len) {
		vhdx_space_free(&v->space, v->bat_off / MIB, v->bat_len / MIB);
		v->bat_off = moved.off;
		v->bat_len = moved.len;
	}
	free(moved.table);
	if (r < 0) {
		v->broken = r;
		return r;
	}
	v->blocks = blocks;
	v->info.size = size;
	return 0;
}

int vhdx_grow(struct vhdx *v, uint64_t size, struct err *e)
{
	int r;

	if (v->readonly || v->broken)
		return err_sys(e, v->readonly ? -EROFS : v->broken, "grow");
	if (size < v->info.size || size % v->info.sector_size)
		return err_set(e, -EINVAL, "its size has to grow, by a multiple of %u bytes",
			v->info.sector_size);
	if (size > VHDX_MAX_SIZE)
		return err_set(e, -EFBIG, "a size beyond 64 TiB cannot be");
	if (size == v->info.size)
		return 0;
	r = grow(v, size);
	return r < 0 ? err_sys(e, r, "grow") : 0;
}
