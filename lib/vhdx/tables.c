/* SPDX-License-Identifier: MIT */
/* Region table (2.2.3): where BAT and metadata are. Metadata (2.6): what the disk is. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/attr.h"
#include "lib/base/checked.h"
#include "lib/base/cleanup.h"
#include "lib/base/crc32c.h"
#include "lib/base/le.h"
#include "lib/vhdx/vhdx-internal.h"

/* 2DC27766-F623-4200-9D64-115E9BFD4A08 and so on, as they are in the file. */
const uint8_t vhdx_guid_bat[GUID_LEN] = {0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42, 0x9d, 0x64,
	0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08};
const uint8_t vhdx_guid_metadata[GUID_LEN] = {0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8,
	0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e};
const uint8_t vhdx_guid_parameters[GUID_LEN] = {0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d,
	0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b};
const uint8_t vhdx_guid_size[GUID_LEN] = {0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2,
	0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8};
const uint8_t vhdx_guid_id[GUID_LEN] = {0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45, 0x93, 0xef,
	0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46};
const uint8_t vhdx_guid_sector[GUID_LEN] = {0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47, 0xba,
	0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f};
const uint8_t vhdx_guid_phys_sector[GUID_LEN] = {0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44,
	0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56};
const uint8_t vhdx_guid_parent[GUID_LEN] = {0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab,
	0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c};

enum {
	TABLE_ENTRY_LEN = 32, /* of both tables */
	R_CHECKSUM = 4,
	R_COUNT = 8,
	R_HEADER_LEN = 16,
	R_OFFSET = 16,
	R_LENGTH = 24,
	R_REQUIRED = 28,

	M_COUNT = 10,
	M_HEADER_LEN = 32,
	M_OFFSET = 16,
	M_LENGTH = 20,
	M_FLAGS = 24,
	M_REQUIRED = 4,

	LEAVE_BLOCKS_ALLOCATED = 1,
	HAS_PARENT = 2,
};

void vhdx_region_checksum(uint8_t *t)
{
	le32_put(t + R_CHECKSUM, 0);
	le32_put(t + R_CHECKSUM, crc32c(0, t, REGIONS_LEN));
}

/* t: changed and back. */
static bool regions_valid(uint8_t *t)
{
	uint32_t c = le32_get(t + R_CHECKSUM);
	bool ok;

	vhdx_region_checksum(t);
	ok = le32_get(t + R_CHECKSUM) == c && !memcmp(t, "regi", 4) &&
	     le32_get(t + R_COUNT) <= REGIONS_MAX;
	le32_put(t + R_CHECKSUM, c);
	return ok;
}

static int read_region(struct vhdx *v, const uint8_t *t, unsigned i, uint64_t *metadata,
	uint64_t *metadata_len, struct err *e)
{
	const uint8_t *n = t + R_HEADER_LEN + i * TABLE_ENTRY_LEN;
	uint64_t off = le64_get(n + R_OFFSET), len = le32_get(n + R_LENGTH);

	if (!len || len % MIB || off < MIB || off % MIB || !range_ok(off, len, v->file_size))
		return err_set(e, -EINVAL, "region %u lies where it cannot", i);
	if (vhdx_space_take(&v->space, off / MIB, len / MIB) < 0)
		return err_set(e, -EINVAL, "region %u overlaps another", i);
	if (!memcmp(n, vhdx_guid_bat, GUID_LEN)) {
		if (v->bat_len)
			return err_set(e, -EINVAL, "two block allocation tables");
		v->bat_off = off;
		v->bat_len = len;
		v->bat_region = i;
	} else if (!memcmp(n, vhdx_guid_metadata, GUID_LEN)) {
		if (*metadata_len)
			return err_set(e, -EINVAL, "two metadata regions");
		*metadata = off;
		*metadata_len = len;
	} else if (le32_get(n + R_REQUIRED) & 1) {
		return err_set(e, -EOPNOTSUPP, "it needs a region that is not known");
	}
	return 0;
}

static int read_regions(struct vhdx *v, uint64_t *metadata, uint64_t *metadata_len, struct err *e)
{
	cleanup_free uint8_t *t = malloc(REGIONS_LEN);
	int r = t ? 0 : -ENOMEM;
	bool ok = false;

	for (unsigned i = 0; r == 0 && !ok && i < 2; i++) {
		r = v->io->read(v->ctx, t, REGIONS_LEN, REGIONS_AT + i * REGIONS_LEN);
		ok = r == 0 && regions_valid(t);
		v->region_copy = i;
	}
	if (r < 0)
		return err_sys(e, r, "read the region table");
	if (!ok)
		return err_set(e, -EINVAL, "both region tables are damaged");
	for (unsigned i = 0; r == 0 && i < le32_get(t + R_COUNT); i++)
		r = read_region(v, t, i, metadata, metadata_len, e);
	if (r == 0 && (!v->bat_len || !*metadata_len))
		r = err_set(e, -EINVAL, "a region is missing");
	return r;
}

/* The known items, each needed once. */
struct items {
	uint8_t parameters[8], size[8], id[16], sector[4], phys_sector[4];
};

static const struct {
	const uint8_t *guid;
	size_t at, len;
} known[] = {
	{vhdx_guid_parameters, offsetof(struct items, parameters), 8},
	{vhdx_guid_size, offsetof(struct items, size), 8},
	{vhdx_guid_id, offsetof(struct items, id), 16},
	{vhdx_guid_sector, offsetof(struct items, sector), 4},
	{vhdx_guid_phys_sector, offsetof(struct items, phys_sector), 4},
};

static int read_item(struct vhdx *v, const uint8_t *n, uint64_t metadata, uint64_t metadata_len,
	struct items *ret, unsigned *found, struct err *e)
{
	uint64_t off = le32_get(n + M_OFFSET), len = le32_get(n + M_LENGTH);
	unsigned i = 0;
	int r;

	while (i < ARRAY_LEN(known) && memcmp(n, known[i].guid, GUID_LEN) != 0)
		i++;
	if (i == ARRAY_LEN(known)) {
		if (!memcmp(n, vhdx_guid_parent, GUID_LEN) || !(le32_get(n + M_FLAGS) & M_REQUIRED))
			return 0; /* a parent locator means nothing without HAS_PARENT */
		return err_set(e, -EOPNOTSUPP, "it needs a metadata item that is not known");
	}
	if (*found & 1u << i || len != known[i].len || off < METADATA_TABLE_LEN ||
		!range_ok(off, len, metadata_len))
		return err_set(e, -EINVAL, "a metadata item cannot be");
	*found |= 1u << i;
	if (known[i].guid == vhdx_guid_size)
		v->size_at = metadata + off;
	r = v->io->read(v->ctx, (uint8_t *)ret + known[i].at, len, metadata + off);
	return r < 0 ? err_sys(e, r, "read the metadata") : 0;
}

static int read_items(
	struct vhdx *v, uint64_t metadata, uint64_t metadata_len, struct items *ret, struct err *e)
{
	cleanup_free uint8_t *t = malloc(METADATA_TABLE_LEN);
	unsigned found = 0, count;
	int r = t ? v->io->read(v->ctx, t, METADATA_TABLE_LEN, metadata) : -ENOMEM;

	if (r < 0)
		return err_sys(e, r, "read the metadata");
	count = le16_get(t + M_COUNT);
	if (memcmp(t, "metadata", 8) || count > METADATA_MAX)
		return err_set(e, -EINVAL, "the metadata table is damaged");
	for (unsigned i = 0; r == 0 && i < count; i++)
		r = read_item(v, t + M_HEADER_LEN + i * TABLE_ENTRY_LEN, metadata, metadata_len,
			ret, &found, e);
	if (r == 0 && found != (1u << ARRAY_LEN(known)) - 1)
		r = err_set(e, -EINVAL, "a metadata item is missing");
	return r;
}

static bool sector_size_ok(uint32_t n)
{
	return n == 512 || n == 4096;
}

int vhdx_read_tables(struct vhdx *v, struct err *e)
{
	struct vhdx_info *info = &v->info;
	uint64_t metadata = 0, metadata_len = 0;
	uint32_t flags;
	struct items m;
	int r = read_regions(v, &metadata, &metadata_len, e);

	if (r == 0)
		r = read_items(v, metadata, metadata_len, &m, e);
	if (r < 0)
		return r;
	flags = le32_get(m.parameters + 4);
	if (flags & HAS_PARENT)
		return err_set(e, -EOPNOTSUPP,
			"it is a differencing disk, which needs its parent: merge them first");
	info->fixed = flags & LEAVE_BLOCKS_ALLOCATED;
	info->block_size = le32_get(m.parameters);
	info->size = le64_get(m.size);
	info->sector_size = le32_get(m.sector);
	info->phys_sector_size = le32_get(m.phys_sector);
	memcpy(info->id, m.id, sizeof(info->id));
	if (info->block_size < VHDX_MIN_BLOCK || info->block_size > VHDX_MAX_BLOCK ||
		info->block_size & (info->block_size - 1))
		return err_set(e, -EINVAL, "its block size %u cannot be", info->block_size);
	if (!sector_size_ok(info->sector_size) || !sector_size_ok(info->phys_sector_size))
		return err_set(e, -EINVAL, "its sector sizes %u and %u cannot be",
			info->sector_size, info->phys_sector_size);
	if (!info->size || info->size % info->sector_size)
		return err_set(e, -EINVAL, "its size cannot be");
	if (info->size > VHDX_MAX_SIZE)
		return err_set(e, -EFBIG, "its size is beyond 64 TiB");
	return 0;
}
