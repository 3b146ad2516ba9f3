/* SPDX-License-Identifier: MIT */
/*
 * The log (2.3): a ring of entries, each a header, descriptors, and the sectors of 4 KiB that data
 * descriptors stand for. An entry that is whole is applied as often as one likes.
 *
 * We write entries into two slots in turn, each a sequence of its own; what others left behind can
 * be any sequence.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/attr.h"
#include "lib/base/checked.h"
#include "lib/base/cleanup.h"
#include "lib/base/crc32c.h"
#include "lib/base/le.h"
#include "lib/vhdx/vhdx-internal.h"

enum {
	/* Entry header (2.3.1.1). */
	E_CHECKSUM = 4,
	E_LENGTH = 8,
	E_TAIL = 12,
	E_SEQ = 16,
	E_DESCS = 24,
	E_GUID = 32,
	E_FLUSHED_SIZE = 48, /* the file was at least so large, durably */
	E_LAST_SIZE = 56,    /* and has to be so large now */
	E_HEADER_LEN = 64,

	/* Descriptors (2.3.1.2, 2.3.1.3): data or zeroes. */
	D_TRAILING = 4,
	D_LEADING = 8,
	D_ZERO_LENGTH = 8,
	D_OFFSET = 16,
	D_SEQ = 24,
	D_LEN = 32,
	DESCS_PER_SECTOR = SECTOR / D_LEN,

	/* Data sectors (2.3.1.4): the first 8 and the last 4 bytes are in the descriptor. */
	S_SEQ_HIGH = 4,
	S_DATA = 8,
	S_SEQ_LOW = 4092,

	/* Bytes checksummed for each byte of a log: an honest one needs 1. */
	CRC_EFFORT = 16,
};

/* A log in memory, where entries may wrap around its end. */
struct ring {
	const uint8_t *p;
	uint64_t sectors;
	const uint8_t *guid;
	uint64_t crc_budget; /* bytes */
};

struct entry {
	uint64_t at, len; /* sectors */
	uint64_t tail;	  /* sector */
	uint64_t seq;
	uint32_t descs;
	uint64_t flushed_size, last_size;
};

static const uint8_t *sector(const struct ring *g, uint64_t i)
{
	return g->p + i % g->sectors * SECTOR;
}

/* Descriptors follow the header as if it were two of them. */
static const uint8_t *desc(const struct ring *g, const struct entry *n, uint64_t i)
{
	i += E_HEADER_LEN / D_LEN;
	return sector(g, n->at + i / DESCS_PER_SECTOR) + i % DESCS_PER_SECTOR * D_LEN;
}

static uint64_t desc_sectors(uint64_t descs)
{
	return (descs + E_HEADER_LEN / D_LEN + DESCS_PER_SECTOR - 1) / DESCS_PER_SECTOR;
}

static bool is_data(const uint8_t *d)
{
	return !memcmp(d, "desc", 4);
}

static bool descs_valid(const struct ring *g, const struct entry *n)
{
	uint64_t data = n->at + desc_sectors(n->descs), end = n->at + n->len;

	for (uint64_t i = 0; i < n->descs; i++) {
		const uint8_t *d = desc(g, n, i);

		if (le64_get(d + D_SEQ) != n->seq || le64_get(d + D_OFFSET) % SECTOR)
			return false;
		if (is_data(d)) {
			const uint8_t *s = sector(g, data);

			if (data++ == end || memcmp(s, "data", 4) ||
				le32_get(s + S_SEQ_HIGH) != n->seq >> 32 ||
				le32_get(s + S_SEQ_LOW) != (uint32_t)n->seq)
				return false;
		} else if (memcmp(d, "zero", 4) || le64_get(d + D_ZERO_LENGTH) % SECTOR) {
			return false;
		}
	}
	return true;
}

/* Is there an entry at this sector? What is cheap to see is looked at first, for a ring can be made
 * so that it looks like one everywhere. */
static bool entry_at(struct ring *g, uint64_t at, struct entry *n)
{
	const uint8_t *h = sector(g, at);
	uint32_t len = le32_get(h + E_LENGTH), tail = le32_get(h + E_TAIL), c;
	uint8_t first[E_HEADER_LEN];

	*n = (struct entry){.at = at % g->sectors,
		.len = len / SECTOR,
		.tail = tail / SECTOR,
		.seq = le64_get(h + E_SEQ),
		.descs = le32_get(h + E_DESCS),
		.flushed_size = le64_get(h + E_FLUSHED_SIZE),
		.last_size = le64_get(h + E_LAST_SIZE)};
	if (memcmp(h, "loge", 4) || memcmp(h + E_GUID, g->guid, GUID_LEN) || !n->seq || !len ||
		len % SECTOR || n->len > g->sectors || tail % SECTOR || n->tail >= g->sectors ||
		desc_sectors(n->descs) > n->len || !descs_valid(g, n) || len > g->crc_budget)
		return false;
	g->crc_budget -= len;
	memcpy(first, h, sizeof(first));
	le32_put(first + E_CHECKSUM, 0);
	c = crc32c(0, first, sizeof(first));
	c = crc32c(c, h + sizeof(first), SECTOR - sizeof(first));
	for (uint64_t i = 1; i < n->len; i++)
		c = crc32c(c, sector(g, at + i), SECTOR);
	return c == le32_get(h + E_CHECKSUM);
}

/*
 * The active sequence (2.3.2): of the runs of entries with ascending numbers whose last entry's
 * Tail is in the run, the one with the greatest number. *ret: its last entry. starts: a bit a
 * sector.
 */
static bool find_sequence(struct ring *g, uint64_t *starts, struct entry *ret)
{
	*ret = (struct entry){0};
	for (uint64_t at = 0; at < g->sectors;) {
		struct entry n, last = {0};
		uint64_t head = at;

		memset(starts, 0, (g->sectors + 63) / 64 * 8);
		while (head - at < g->sectors && entry_at(g, head, &n) &&
			(!last.seq || n.seq == last.seq + 1) && head - at + n.len <= g->sectors) {
			vhdx_bit_set(starts, n.at);
			last = n;
			head += n.len;
		}
		if (last.seq > ret->seq && vhdx_bit_test(starts, last.tail))
			*ret = last;
		at = MAX(head, at + 1);
	}
	return ret->seq != 0;
}

/* What a descriptor asks for is done in the file; data: of a data descriptor. */
static int apply(struct vhdx *v, const uint8_t *d, const uint8_t *data)
{
	uint8_t whole[SECTOR];

	if (!is_data(d))
		return v->io->zero(v->ctx, le64_get(d + D_OFFSET), le64_get(d + D_ZERO_LENGTH));
	memcpy(whole, d + D_LEADING, 8);
	memcpy(whole + 8, data + S_DATA, SECTOR - 12);
	memcpy(whole + SECTOR - 4, d + D_TRAILING, 4);
	return v->io->write(v->ctx, whole, SECTOR, le64_get(d + D_OFFSET));
}

/* May the log change this part of the file? Not headers and log, and not far behind the end. */
static bool target_ok(const struct vhdx *v, const uint8_t *d, uint64_t size, uint64_t *zeroes)
{
	uint64_t off = le64_get(d + D_OFFSET), len = SECTOR;

	if (!is_data(d)) {
		len = le64_get(d + D_ZERO_LENGTH);
		if (len > VHDX_MAX_LOG_ZEROES - *zeroes)
			return false;
		*zeroes += len;
	}
	return range_ok(off, len, size) && off >= REGIONS_AT &&
	       (off >= v->log_off + v->log_len || off + len <= v->log_off);
}

/* Everything an entry asks for is checked before anything is done. */
static int check_entry(
	const struct vhdx *v, const struct ring *g, const struct entry *n, uint64_t *zeroes)
{
	if (n->flushed_size > v->file_size || n->last_size > VHDX_MAX_FILE)
		return -EINVAL;
	for (uint64_t i = 0; i < n->descs; i++)
		if (!target_ok(v, desc(g, n, i), MAX(v->file_size, n->last_size), zeroes))
			return -EINVAL;
	return 0;
}

static int apply_entry(struct vhdx *v, const struct ring *g, const struct entry *n)
{
	uint64_t data = n->at + desc_sectors(n->descs);
	int r = 0;

	if (n->last_size > v->file_size) {
		r = v->io->set_size(v->ctx, n->last_size);
		if (r == 0)
			v->file_size = n->last_size;
	}
	for (uint64_t i = 0; r == 0 && i < n->descs; i++) {
		const uint8_t *d = desc(g, n, i);

		r = apply(v, d, sector(g, data));
		data += is_data(d);
	}
	return r;
}

static int replay_sequence(struct vhdx *v, struct ring *g, const struct entry *last, struct err *e)
{
	static const uint8_t empty[GUID_LEN];
	uint64_t zeroes = 0;
	struct entry n;
	int r = 0;

	g->crc_budget = g->sectors * SECTOR * 3;
	for (uint64_t at = last->tail; r == 0; at = n.at + n.len) {
		if (!entry_at(g, at, &n) || check_entry(v, g, &n, &zeroes) < 0)
			return err_set(e, -EINVAL, "its log asks for what cannot be");
		if (n.seq == last->seq)
			break;
	}
	r = vhdx_write_header(v, vhdx_log_guid(v), NEWS_FILE);
	for (uint64_t at = last->tail; r == 0; at = n.at + n.len) {
		if (!entry_at(g, at, &n))
			return err_set(e, -EINVAL, "its log contradicts itself");
		r = apply_entry(v, g, &n);
		if (n.seq == last->seq)
			break;
	}
	if (r == 0)
		r = vhdx_flush_file(v);
	if (r == 0)
		r = vhdx_write_header(v, empty, NEWS_NONE);
	return r < 0 ? err_sys(e, r, "replay the log") : 0;
}

int vhdx_replay(struct vhdx *v, struct err *e)
{
	static const uint8_t empty[GUID_LEN];
	cleanup_free uint8_t *log = NULL;
	cleanup_free uint64_t *starts = NULL;
	uint8_t guid[GUID_LEN];
	struct ring g = {.sectors = v->log_len / SECTOR,
		.guid = guid,
		.crc_budget = (uint64_t)v->log_len * CRC_EFFORT};
	struct entry last;
	int r;

	memcpy(guid, vhdx_log_guid(v), GUID_LEN);
	if (!memcmp(guid, empty, GUID_LEN))
		return 0;
	log = malloc(v->log_len);
	starts = malloc((g.sectors + 63) / 64 * 8);
	if (!log || !starts)
		return err_sys(e, -ENOMEM, "read the log");
	r = v->io->read(v->ctx, log, v->log_len, v->log_off);
	if (r < 0)
		return err_sys(e, r, "read the log");
	g.p = log;
	if (!find_sequence(&g, starts, &last))
		return err_set(e, -EINVAL, "its log is damaged");
	if (v->readonly)
		return err_set(e, -EROFS,
			"it was not closed cleanly: it has to be opened for writing once");
	return replay_sequence(v, &g, &last, e);
}

void vhdx_log_begin(struct vhdx *v)
{
	memset(v->entry, 0, SECTOR);
	v->descs = 0;
}

bool vhdx_log_full(const struct vhdx *v)
{
	return v->descs == LOG_DESCS;
}

static_assert(1 + LOG_DESCS <= LOG_SLOT_SECTORS, "an entry is no longer than a slot");
static_assert(E_HEADER_LEN / D_LEN + LOG_DESCS <= DESCS_PER_SECTOR, "descriptors fit one sector");

void vhdx_log_add(struct vhdx *v, uint64_t off, const uint8_t *data)
{
	uint8_t *d = v->entry + E_HEADER_LEN + v->descs * D_LEN;
	uint8_t *s = v->entry + SECTOR * (1 + v->descs++);

	memcpy(d, "desc", 4);
	memcpy(d + D_LEADING, data, 8);
	memcpy(d + D_TRAILING, data + SECTOR - 4, 4);
	le64_put(d + D_OFFSET, off);
	memcpy(s, "data", 4);
	memcpy(s + S_DATA, data + 8, SECTOR - 12);
}

int vhdx_log_write(struct vhdx *v, uint64_t file_size, const uint8_t *guid)
{
	uint8_t *h = v->entry;
	uint32_t len = SECTOR * (1 + v->descs), at;

	v->slot = !v->slot;
	v->log_seq++;
	at = v->slot * (LOG_SLOT_SECTORS + 1) * SECTOR;
	memcpy(h, "loge", 4);
	le32_put(h + E_LENGTH, len);
	le32_put(h + E_TAIL, at);
	le64_put(h + E_SEQ, v->log_seq);
	le32_put(h + E_DESCS, v->descs);
	memcpy(h + E_GUID, guid, GUID_LEN);
	le64_put(h + E_FLUSHED_SIZE, file_size);
	le64_put(h + E_LAST_SIZE, file_size);
	for (unsigned i = 0; i < v->descs; i++) {
		uint8_t *s = h + SECTOR * (1 + i);

		le64_put(h + E_HEADER_LEN + i * D_LEN + D_SEQ, v->log_seq);
		le32_put(s + S_SEQ_HIGH, v->log_seq >> 32);
		le32_put(s + S_SEQ_LOW, (uint32_t)v->log_seq);
	}
	le32_put(h + E_CHECKSUM, 0);
	le32_put(h + E_CHECKSUM, crc32c(0, h, len));
	return v->io->write(v->ctx, h, len, v->log_off + at);
}

int vhdx_log_apply(struct vhdx *v)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < v->descs; i++)
		r = apply(v, v->entry + E_HEADER_LEN + i * D_LEN, v->entry + SECTOR * (1 + i));
	return r;
}
