/* SPDX-License-Identifier: MIT */
/* What the files of lib/vhdx share. Numbers in parentheses are sections of [MS-VHDX]. */
#ifndef WSLX_VHDX_INTERNAL_H
#define WSLX_VHDX_INTERNAL_H

#include "lib/vhdx/vhdx.h"

#define MIB	 (1ull << 20)
#define GUID_LEN 16

/* Limits of the format, and our own where it has none. */
#define VHDX_MAX_SIZE	    (64ull << 40) /* virtual (2.6.2.2) */
#define VHDX_MAX_FILE	    (80ull << 40)
#define VHDX_MAX_LOG	    (64ull << 20)
#define VHDX_MAX_LOG_ZEROES (1ull << 30) /* what one log may ask to be zeroed */
#define VHDX_MIN_BLOCK	    (1u << 20)
#define VHDX_MAX_BLOCK	    (256u << 20)
#define CHUNK_SECTORS	    (1ull << 23) /* that one sector bitmap block describes (2.4) */

enum {
	SECTOR = 4096, /* what the log logs; nothing to do with the virtual disk's sectors */

	/* The file's first MiB (2.2). */
	HEADER_AT = 64 << 10, /* and again at twice that */
	HEADER_LEN = 4096,
	REGIONS_AT = 192 << 10, /* and again REGIONS_LEN behind */
	REGIONS_LEN = 64 << 10,
	REGIONS_MAX = 2047,

	METADATA_TABLE_LEN = 64 << 10, /* (2.6.1) */
	METADATA_MAX = 2047,
	METADATA_ITEM_MAX = 1 << 20,

	/* A slot of the log: half of the smallest log but for one sector, which keeps slots apart
	 * for readers that look for the next entry right behind one. */
	LOG_SLOT_SECTORS = 127,
	LOG_DESCS = 126,
};

/* Payload block states (2.5.1.1). */
enum {
	BLOCK_NOT_PRESENT,
	BLOCK_UNDEFINED,
	BLOCK_ZERO,
	BLOCK_UNMAPPED,
	BLOCK_PRESENT = 6,
	BLOCK_PARTIAL = 7, /* differencing disks only */
	BLOCK_STATE_MASK = 7,
};
enum { BITMAP_PRESENT = 6 }; /* (2.5.1.2) */
#define BAT_OFFSET_MASK (~(MIB - 1))

extern const uint8_t vhdx_guid_bat[GUID_LEN], vhdx_guid_metadata[GUID_LEN];
extern const uint8_t vhdx_guid_parameters[GUID_LEN], vhdx_guid_size[GUID_LEN],
	vhdx_guid_id[GUID_LEN], vhdx_guid_sector[GUID_LEN], vhdx_guid_phys_sector[GUID_LEN],
	vhdx_guid_parent[GUID_LEN];
extern const char vhdx_signature[8];

/*
 * Whose each MiB of the file is. A unit is free, used, or used and no longer mapped: freed until
 * the next commit takes the changes that freed it, leaving until that commit is stable and nobody
 * reads it any more.
 */
struct space {
	uint64_t *used, *freed, *leaving; /* a bit a unit */
	uint64_t cap;			  /* units */
	uint64_t end;			  /* behind the last used unit */
	uint64_t nfree;			  /* free units before end */
	uint64_t hint;			  /* no free unit before it */
	uint64_t nfreed, nleaving;
};

int vhdx_space_init(struct space *s, uint64_t units);
void vhdx_space_done(struct space *s);
/* -EINVAL: a unit has an owner already. */
int vhdx_space_take(struct space *s, uint64_t first, uint64_t n);
/* n units in a row. -ENOMEM. */
int vhdx_space_alloc(struct space *s, uint64_t n, uint64_t *ret);
void vhdx_space_free(struct space *s, uint64_t first, uint64_t n);
void vhdx_space_commit(struct space *s); /* freed: leaving from now on */
/* The first run of leaving units; false: none. */
bool vhdx_space_next_leaving(const struct space *s, uint64_t *first, uint64_t *n);
void vhdx_space_release(struct space *s, uint64_t first, uint64_t n);

struct vhdx {
	const struct vhdx_io *io;
	void *ctx;
	struct vhdx_info info;
	bool readonly;
	bool writing; /* the first change is made: see vhdx_start() */
	int broken;   /* what a flush failed with */
	uint64_t file_size;

	uint8_t header[HEADER_LEN]; /* the current one */
	unsigned header_copy;	    /* 0 or 1 */

	uint64_t log_off;
	uint32_t log_len;
	uint8_t *entry; /* LOG_SLOT_SECTORS; NULL: readonly */
	unsigned descs; /* in it */
	unsigned slot;
	uint64_t log_seq;

	uint64_t bat_off, bat_len; /* of the region */
	unsigned region_copy;	   /* the valid table */
	unsigned bat_region;	   /* its number in the table */
	uint64_t size_at;	   /* where the size is in the file, among the metadata */

	/* The BAT as it is, or will be, in the file; whole sectors. */
	uint8_t *bat;
	uint64_t bat_sectors;
	uint64_t blocks, chunk_ratio;
	uint64_t *dirty; /* a bit a sector */
	uint64_t ndirty;

	struct space space;
};

static inline bool vhdx_bit_test(const uint64_t *w, uint64_t i)
{
	return w[i / 64] >> (i % 64) & 1;
}

static inline void vhdx_bit_set(uint64_t *w, uint64_t i)
{
	w[i / 64] |= 1ull << (i % 64);
}

static inline void vhdx_bit_clear(uint64_t *w, uint64_t i)
{
	w[i / 64] &= ~(1ull << (i % 64));
}

/* The first set bit at or behind i; n if there is none before n. */
uint64_t vhdx_bit_next(const uint64_t *w, uint64_t i, uint64_t n);

void vhdx_new_guid(uint8_t *guid);
int vhdx_flush_file(struct vhdx *v);

/* header.c. Headers (2.2.2). */
int vhdx_read_header(struct vhdx *v, struct err *e);
const uint8_t *vhdx_log_guid(const struct vhdx *v);
/* Makes the other copy current, with this LogGuid; flushed. news: what is about to change for the
 * first time: the file (FileWriteGuid), and what the disk reads as (DataWriteGuid too, by which
 * differencing disks know their parent). */
enum header_news { NEWS_NONE, NEWS_FILE, NEWS_DATA };
int vhdx_write_header(struct vhdx *v, const uint8_t *log_guid, enum header_news news);
void vhdx_format_header(uint8_t *h, uint64_t seq, uint64_t log_off, uint32_t log_len);

/* log.c (2.3). */
int vhdx_replay(struct vhdx *v, struct err *e);
void vhdx_log_begin(struct vhdx *v);
bool vhdx_log_full(const struct vhdx *v);
void vhdx_log_add(struct vhdx *v, uint64_t off, const uint8_t *sector);
int vhdx_log_write(struct vhdx *v, uint64_t file_size, const uint8_t *guid);
int vhdx_log_apply(struct vhdx *v);

/* tables.c: region table (2.2.3), metadata (2.6). */
int vhdx_read_tables(struct vhdx *v, struct err *e);
void vhdx_region_checksum(uint8_t *table);

/* bat.c (2.5). */
uint64_t vhdx_bat_entries(uint64_t blocks, uint64_t chunk_ratio);
/* Into v->bat, and the space that blocks have into v->space. */
int vhdx_read_bat(struct vhdx *v, struct err *e);
void vhdx_bat_set(struct vhdx *v, uint64_t block, uint64_t entry);
uint64_t vhdx_bat_get(const struct vhdx *v, uint64_t block);

/* Before the first change of the file. */
int vhdx_start(struct vhdx *v);

#endif
