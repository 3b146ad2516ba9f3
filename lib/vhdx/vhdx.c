/* SPDX-License-Identifier: MIT */
/* Opening, closing, and the order in which changes become durable; see vhdx.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/attr.h"
#include "lib/base/le.h"
#include "lib/vhdx/vhdx-internal.h"

static void lock(struct vhdx *v)
{
	if (v->io->lock)
		v->io->lock(v->ctx);
}

static void unlock(struct vhdx *v)
{
	if (v->io->unlock)
		v->io->unlock(v->ctx);
}

int vhdx_flush_file(struct vhdx *v)
{
	return v->io->flush(v->ctx);
}

static void free_vhdx(struct vhdx *v)
{
	vhdx_space_done(&v->space);
	free(v->entry);
	free(v->bat);
	free(v->dirty);
	free(v);
}

static int read_all(struct vhdx *v, struct err *e)
{
	int r = v->io->size(v->ctx, &v->file_size);

	if (r < 0)
		return err_sys(e, r, "size of the file");
	r = vhdx_read_header(v, e);
	if (r == 0)
		r = vhdx_replay(v, e);
	if (r < 0)
		return r;
	if (v->file_size > VHDX_MAX_FILE)
		return err_set(e, -EFBIG, "the file is beyond 80 TiB");
	/* The last block may end behind the file. */
	r = vhdx_space_init(&v->space, (v->file_size + VHDX_MAX_BLOCK) / MIB + 1);
	if (r == 0 && !v->readonly) {
		v->entry = malloc(LOG_SLOT_SECTORS * SECTOR);
		r = v->entry ? 0 : -ENOMEM;
	}
	if (r < 0)
		return err_sys(e, r, "open");
	/* The first MiB is the headers'; the log is elsewhere and inside the file. */
	vhdx_space_take(&v->space, 0, 1);
	vhdx_space_take(&v->space, v->log_off / MIB, v->log_len / MIB);
	r = vhdx_read_tables(v, e);
	return r < 0 ? r : vhdx_read_bat(v, e);
}

int vhdx_open(struct vhdx **ret, const struct vhdx_io *io, void *ctx, bool readonly, struct err *e)
{
	struct vhdx *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return err_sys(e, -ENOMEM, "open");
	v->io = io;
	v->ctx = ctx;
	v->readonly = readonly;
	r = read_all(v, e);
	if (r < 0) {
		free_vhdx(v);
		return r;
	}
	*ret = v;
	return 0;
}

const struct vhdx_info *vhdx_info(const struct vhdx *v)
{
	return &v->info;
}

/* Puts sectors that changed into a log entry, as many as fit. */
static void collect(struct vhdx *v)
{
	vhdx_log_begin(v);
	for (uint64_t s = 0; v->ndirty && !vhdx_log_full(v); s++) {
		s = vhdx_bit_next(v->dirty, s, v->bat_sectors);
		vhdx_log_add(v, v->bat_off + s * SECTOR, v->bat + s * SECTOR);
		vhdx_bit_clear(v->dirty, s);
		v->ndirty--;
	}
}

/*
 * A log that is in use has to hold a valid entry (2.3.3): it gets its first, a sector of the BAT as
 * it is, before the header names it.
 */
int vhdx_start(struct vhdx *v)
{
	uint64_t size = v->space.end * MIB;
	uint8_t guid[GUID_LEN];
	int r;

	vhdx_new_guid(guid);
	vhdx_log_begin(v);
	vhdx_log_add(v, v->bat_off, v->bat);
	v->log_seq = 0;
	r = vhdx_log_write(v, MIN(size, v->file_size), guid);
	if (r == 0)
		r = vhdx_flush_file(v);
	if (r == 0)
		r = vhdx_write_header(v, guid, NEWS_DATA);
	if (r == 0 && v->file_size != size)
		r = v->io->set_size(v->ctx, size);
	if (r < 0) {
		v->broken = r;
		return r;
	}
	v->file_size = size;
	v->writing = true;
	return 0;
}

/* Steps 1 to 4 of vhdx.h. */
static int commit(struct vhdx *v, uint64_t file_size)
{
	int r = vhdx_flush_file(v);

	if (r < 0 || !v->descs)
		return r;
	r = vhdx_log_write(v, file_size, vhdx_log_guid(v));
	if (r == 0)
		r = vhdx_flush_file(v);
	return r < 0 ? r : vhdx_log_apply(v);
}

/* Step 5. The hole is only there to save space, and comes again when the space is used again. */
static void give_back(struct vhdx *v)
{
	uint64_t first, n;

	if (v->io->quiesce)
		v->io->quiesce(v->ctx);
	lock(v);
	while (vhdx_space_next_leaving(&v->space, &first, &n)) {
		unlock(v);
		v->io->zero(v->ctx, first * MIB, n * MIB);
		lock(v);
		vhdx_space_release(&v->space, first, n);
	}
	unlock(v);
}

int vhdx_flush(struct vhdx *v)
{
	uint64_t file_size;
	bool more;
	int r;

	lock(v);
	r = v->broken;
	more = v->writing;
	unlock(v);
	while (r == 0 && more) {
		lock(v);
		collect(v);
		file_size = v->file_size;
		more = v->ndirty != 0;
		if (!more)
			vhdx_space_commit(&v->space);
		unlock(v);
		r = commit(v, file_size);
		if (r < 0) {
			lock(v);
			v->broken = r;
			unlock(v);
		}
	}
	if (r == 0 && v->space.nleaving)
		give_back(v);
	return r;
}

uint64_t vhdx_unmapped(const struct vhdx *v)
{
	return v->space.nfreed * MIB;
}

int vhdx_close(struct vhdx *v)
{
	static const uint8_t empty[GUID_LEN];
	int r = v->broken;

	if (v->writing) {
		r = vhdx_flush(v);
		if (r == 0)
			r = vhdx_flush_file(
				v); /* what step 4 wrote, and nobody needs the log any more */
		if (r == 0)
			r = vhdx_write_header(v, empty, NEWS_NONE);
	}
	free_vhdx(v);
	return r;
}

static int for_extents(struct vhdx *v, enum vhdx_access a, uint8_t *buf, uint64_t len, uint64_t off)
{
	struct vhdx_extent x;
	int r = 0;

	for (uint64_t done = 0; r == 0 && done < len; done += x.len) {
		r = vhdx_map(v, a, off + done, len - done, &x);
		if (r < 0)
			break;
		if (a == VHDX_WRITE)
			r = v->io->write(v->ctx, buf + done, x.len, x.off);
		else if (a == VHDX_UNMAP)
			r = x.present ? v->io->zero(v->ctx, x.off, x.len) : 0;
		else if (x.present)
			r = v->io->read(v->ctx, buf + done, x.len, x.off);
		else
			memset(buf + done, 0, x.len);
	}
	return r;
}

int vhdx_read(struct vhdx *v, void *buf, size_t len, uint64_t off)
{
	return for_extents(v, VHDX_READ, buf, len, off);
}

int vhdx_write(struct vhdx *v, const void *buf, size_t len, uint64_t off)
{
	union {
		const void *in;
		uint8_t *p;
	} u = {buf}; /* only read */

	return for_extents(v, VHDX_WRITE, u.p, len, off);
}

int vhdx_unmap(struct vhdx *v, uint64_t off, uint64_t len)
{
	return for_extents(v, VHDX_UNMAP, NULL, len, off);
}
