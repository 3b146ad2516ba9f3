/* SPDX-License-Identifier: MIT */
/*
 * What a disk says of itself: INQUIRY with its vital product data pages (SPC-4 §6.6, §7.8; SBC-3
 * §6.6), MODE SENSE (SPC-4 §6.13, §7.5; SBC-3 §6.5) and READ CAPACITY (SBC-3 §5.15, §5.16).
 */
#include "vmm/scsi/scsi-internal.h"

#include <string.h>
#include "lib/base/attr.h"
#include "lib/base/le.h"

static const char vendor[8] = "WSLX    ";

/* Space-padded, not terminated. */
static void put_text(uint8_t *p, size_t n, const char *s)
{
	size_t len = strlen(s);

	memset(p, ' ', n);
	memcpy(p, s, MIN(len, n));
}

static size_t inquiry_standard(const struct scsi_lun *l, uint8_t *p)
{
	memcpy(p,
		(const uint8_t[8]){0, 0, /* SPC-4 */ 0x06, /* HISUP, format */ 0x12, 0, 0, 0,
			/* CMDQUE */ 0x02},
		8);
	memcpy(p + 8, vendor, 8);
	put_text(p + 16, 16, l->product);
	put_text(p + 32, 4, "1");
	be16_put(p + 58, 0x00a0); /* SAM-5 */
	be16_put(p + 60, 0x0460); /* SPC-4 */
	be16_put(p + 62, 0x04c0); /* SBC-3 */
	p[4] = 96 - 5;
	return 96;
}

static size_t vpd_supported(const struct scsi_lun *l, uint8_t *p)
{
	static const uint8_t pages[] = {0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2};

	memcpy(p, pages, sizeof(pages));
	return sizeof(pages);
}

static size_t vpd_serial(const struct scsi_lun *l, uint8_t *p)
{
	size_t n = strlen(l->serial);

	memcpy(p, l->serial, n);
	return n;
}

/* Two designators of the logical unit: T10 vendor ID with the serial, and a locally assigned NAA
 * number. */
static size_t vpd_ids(const struct scsi_lun *l, uint8_t *p)
{
	size_t n = strlen(l->serial);

	p[0] = 0x02; /* ASCII */
	p[1] = 0x01; /* T10 vendor ID based */
	p[3] = 8 + n;
	memcpy(p + 4, vendor, 8);
	memcpy(p + 12, l->serial, n);
	p += 12 + n;
	p[0] = 0x01; /* binary */
	p[1] = 0x03; /* NAA */
	p[3] = 8;
	be64_put(p + 4, 0x3ull << 60 | l->naa >> 4);
	return 12 + n + 12;
}

static size_t vpd_limits(const struct scsi_lun *l, uint8_t *p)
{
	const struct blk_geometry *g = &l->blk->geo;
	uint32_t phys = g->phys_block_size / g->block_size;

	p[0] = 0x01;	       /* WSNZ: WRITE SAME needs a count */
	be16_put(p + 2, phys); /* optimal transfer granularity */
	be32_put(p + 4, SCSI_MAX_TRANSFER / g->block_size);
	be32_put(p + 8, SCSI_MAX_TRANSFER / 8 / g->block_size); /* optimal */
	if (g->discard) {
		be32_put(p + 16, SCSI_MAX_UNMAP / g->block_size);
		be32_put(p + 20, SCSI_MAX_UNMAP_DESCS);
		be32_put(p + 24, phys); /* optimal granularity */
		p[28] = 0x80;		/* aligned to block 0 */
	}
	be64_put(p + 32, SCSI_MAX_WRITE_SAME / g->block_size);
	return 60;
}

static size_t vpd_characteristics(const struct scsi_lun *l, uint8_t *p)
{
	be16_put(p, 1); /* does not rotate */
	return 60;
}

static size_t vpd_provisioning(const struct scsi_lun *l, uint8_t *p)
{
	const struct blk_geometry *g = &l->blk->geo;

	if (g->discard) {
		p[1] = 0xe0 | (g->discard_zeroes ? 0x04 : 0); /* LBPU, LBPWS, LBPWS10, LBPRZ */
		p[2] = 0x02;				      /* thin */
	}
	return 4;
}

static const struct {
	uint8_t page;
	size_t (*fill)(const struct scsi_lun *l, uint8_t *p);
} vpd_pages[] = {
	{0x00, vpd_supported},
	{0x80, vpd_serial},
	{0x83, vpd_ids},
	{0xb0, vpd_limits},
	{0xb1, vpd_characteristics},
	{0xb2, vpd_provisioning},
};

bool scsi_inquiry(struct scsi_req *r)
{
	uint8_t buf[128] = {0};
	uint16_t alloc = be16_get(r->cdb + 3);
	bool evpd = r->cdb[1] & 1;

	if (r->cdb[1] & 2 || (!evpd && r->cdb[2]))
		return scsi_check(r, SENSE_BAD_CDB);
	if (!r->l) {
		/* Every number below 256 could be a disk; the others never can (SPC-4 §6.6.2,
		 * qualifiers 1 and 3). */
		if (evpd)
			return scsi_check(r, SENSE_BAD_CDB);
		buf[0] = r->lun < SCSI_MAX_LUNS ? 0x3f : 0x7f;
		if (r->lun == SCSI_LUN_REPORT_LUNS)
			buf[0] = 0x1e;
		buf[2] = 0x06;
		buf[3] = 0x12;
		buf[4] = 36 - 5;
		buf[7] = 0x02;
		memcpy(buf + 8, vendor, 8);
		put_text(buf + 16, 16, "");
		put_text(buf + 32, 4, "1");
		return scsi_reply(r, buf, 36, alloc);
	}
	if (!evpd)
		return scsi_reply(r, buf, inquiry_standard(r->l, buf), alloc);
	for (unsigned i = 0; i < ARRAY_LEN(vpd_pages); i++) {
		if (vpd_pages[i].page == r->cdb[2]) {
			size_t n = vpd_pages[i].fill(r->l, buf + 4);

			buf[1] = r->cdb[2];
			be16_put(buf + 2, n);
			return scsi_reply(r, buf, 4 + n, alloc);
		}
	}
	return scsi_check(r, SENSE_BAD_CDB);
}

static size_t mode_caching(const struct scsi_lun *l, unsigned pc, uint8_t *p)
{
	p[0] = 0x08;
	p[1] = 0x12;
	if (pc != 1)
		p[2] = l->blk->geo.write_cache ? 0x04 : 0; /* WCE */
	return 20;
}

static size_t mode_control(const struct scsi_lun *l, unsigned pc, uint8_t *p)
{
	p[0] = 0x0a;
	p[1] = 0x0a;
	if (pc != 1)
		p[3] = 0x10; /* commands may be reordered */
	return 12;
}

bool scsi_mode_sense(struct scsi_req *r)
{
	const struct blk_geometry *g = &r->l->blk->geo;
	bool ten = r->cdb[0] == 0x5a, dbd = r->cdb[1] & 0x08, llbaa = ten && r->cdb[1] & 0x10;
	unsigned page = r->cdb[2] & 0x3f, pc = r->cdb[2] >> 6;
	unsigned head = ten ? 8 : 4, bd = dbd ? 0 : llbaa ? 16 : 8;
	size_t alloc = ten ? be16_get(r->cdb + 7) : r->cdb[4];
	uint8_t buf[128] = {0}, flags = 0x10 /* DPOFUA */ | (g->readonly ? 0x80 : 0);
	size_t n = head + bd, start = n;

	if (pc == 3)
		return scsi_check(r, SENSE_NO_SAVED_PAGES);
	if (r->cdb[3] != 0 && r->cdb[3] != 0xff)
		return scsi_check(r, SENSE_BAD_CDB);
	if (page == 0x08 || page == 0x3f)
		n += mode_caching(r->l, pc, buf + n);
	if (page == 0x0a || page == 0x3f)
		n += mode_control(r->l, pc, buf + n);
	if (n == start)
		return scsi_check(r, SENSE_BAD_CDB);

	if (bd == 8) {
		be32_put(buf + head, MIN(r->l->blocks, 0xffffffffull));
		be32_put(buf + head + 4, g->block_size);
	} else if (bd == 16) {
		be64_put(buf + head, r->l->blocks);
		be32_put(buf + head + 12, g->block_size);
	}
	if (ten) {
		be16_put(buf, n - 2);
		buf[3] = flags;
		buf[4] = llbaa;
		be16_put(buf + 6, bd);
	} else {
		buf[0] = n - 1;
		buf[2] = flags;
		buf[3] = bd;
	}
	return scsi_reply(r, buf, n, alloc);
}

bool scsi_read_capacity10(struct scsi_req *r)
{
	uint8_t buf[8];

	if (be32_get(r->cdb + 2) || r->cdb[8] & 1)
		return scsi_check(r, SENSE_BAD_CDB);
	be32_put(buf, MIN(r->l->blocks - 1, 0xffffffffull));
	be32_put(buf + 4, r->l->blk->geo.block_size);
	return scsi_reply(r, buf, sizeof(buf), sizeof(buf));
}

/* SERVICE ACTION IN (16): only READ CAPACITY (16). */
bool scsi_service_action_in(struct scsi_req *r)
{
	const struct blk_geometry *g = &r->l->blk->geo;
	uint8_t buf[32] = {0};

	if ((r->cdb[1] & 0x1f) != 0x10 || be64_get(r->cdb + 2) || r->cdb[14] & 1)
		return scsi_check(r, SENSE_BAD_CDB);
	be64_put(buf, r->l->blocks - 1);
	be32_put(buf + 8, g->block_size);
	buf[13] = __builtin_ctz(g->phys_block_size / g->block_size);
	if (g->discard)
		buf[14] = 0x80 | (g->discard_zeroes ? 0x40 : 0); /* LBPME, LBPRZ */
	return scsi_reply(r, buf, sizeof(buf), be32_get(r->cdb + 10));
}
