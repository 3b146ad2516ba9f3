/* SPDX-License-Identifier: MIT */
#include "vmm/scsi/scsi.h"

#include <errno.h>
#include "lib/base/attr.h"
#include "lib/base/le.h"
#include "lib/base/test.h"
#include "vmm/core/state.h"
#include "vmm/scsi/blk-mem.h"

enum { BS = 512, BLOCKS = 8192 };

static struct scsi_target *t;
static struct blk_mem *m;
static unsigned events[3], last_lun;
static struct scsi_req *finished[8];
static unsigned n_finished;

static void on_event(void *ctx, enum scsi_event ev, unsigned lun)
{
	events[ev]++;
	last_lun = lun;
}

static void on_done(struct scsi_req *r)
{
	finished[n_finished++ % 8] = r;
}

static const struct scsi_disk_config cfg = {.serial = "disk-1"};

/* A fresh target with LUN 0 of 4 MiB, its power-on attention taken. */
static void setup(void)
{
	memset(events, 0, sizeof(events));
	n_finished = 0;
	if (scsi_target_new(&t) < 0)
		abort();
	scsi_set_events(t, on_event, NULL);
	m = blk_mem_new(BLOCKS * BS, BS);
	if (scsi_attach(t, 0, &m->blk, &cfg) < 0)
		abort();
}

struct io {
	struct scsi_req r;
	uint8_t in[65536], out[65536];
	struct iovec in_iov[2], out_iov[2];
};

/* Both buffers are split at an odd place. */
static bool submit(struct io *io, unsigned lun, const uint8_t *cdb, size_t cdb_len, size_t in_len,
	size_t out_len)
{
	struct scsi_req *r = &io->r;

	memset(r->cdb, 0, sizeof(r->cdb));
	memcpy(r->cdb, cdb, cdb_len);
	r->cdb_len = 32;
	r->lun = lun;
	io->in_iov[0] = (struct iovec){io->in, MIN(in_len, 13)};
	io->in_iov[1] = (struct iovec){io->in + 13, in_len - MIN(in_len, 13)};
	io->out_iov[0] = (struct iovec){io->out, MIN(out_len, 13)};
	io->out_iov[1] = (struct iovec){io->out + 13, out_len - MIN(out_len, 13)};
	r->in = io->in_iov;
	r->out = io->out_iov;
	r->in_n = r->out_n = 2;
	r->in_len = in_len;
	r->out_len = out_len;
	r->done = on_done;
	return scsi_submit(t, r);
}
#define CDB(...) (const uint8_t[16]){__VA_ARGS__}, 16

static struct io io;

static uint32_t sense(const struct io *x)
{
	if (x->r.status == SCSI_GOOD)
		return 0;
	return x->r.sense[2] << 16 | x->r.sense[12] << 8 | x->r.sense[13];
}

/* Submits and wants it finished at once, with this sense (0xKKAAQQ; 0: GOOD). */
static void expect(int line, uint32_t want, unsigned lun, const uint8_t *cdb, size_t cdb_len,
	size_t in_len, size_t out_len)
{
	bool fin = submit(&io, lun, cdb, cdb_len, in_len, out_len);

	if (!fin || io.r.result != SCSI_DONE || sense(&io) != want) {
		printf("# line %d: finished %d, result %d, sense %06x, want %06x\n", line, fin,
			io.r.result, sense(&io), want);
		test_failed_checks++;
	}
}
#define WANT(sense, lun, in_len, out_len, ...)                                                     \
	expect(__LINE__, sense, lun, CDB(__VA_ARGS__), in_len, out_len)

static void setup_ready(void)
{
	setup();
	WANT(0x062901, 0, 0, 0, 0x00); /* power on */
	WANT(0, 0, 0, 0, 0x00);
}

static void teardown(void)
{
	scsi_target_free(t);
	t = NULL;
}

TEST(inquiry)
{
	setup();
	/* Allowed with the attention pending, and cut to the allocation length. */
	WANT(0, 0, 255, 0, 0x12, 0, 0, 0, 36);
	CHECK_EQ(io.r.moved, 36);
	CHECK_EQ(io.in[0], 0);
	CHECK(!memcmp(io.in + 8, "WSLX    Virtual Disk    1   ", 28));
	WANT(0, 0, 255, 0, 0x12, 0, 0, 0, 255);
	CHECK_EQ(io.r.moved, io.in[4] + 5);
	/* A page code without EVPD, an unknown page. */
	WANT(0x052400, 0, 255, 0, 0x12, 0, 0x80, 0, 255);
	WANT(0x052400, 0, 255, 0, 0x12, 1, 0xc0, 0, 255);
	/* Every page in the list of pages answers with its number and its length. */
	WANT(0, 0, 255, 0, 0x12, 1, 0, 0, 255);
	uint8_t list[16];
	unsigned n = io.in[3];
	REQUIRE(n == 6);
	memcpy(list, io.in + 4, n);
	for (unsigned i = 0; i < n; i++) {
		WANT(0, 0, 255, 0, 0x12, 1, list[i], 0, 255);
		CHECK_EQ(io.in[1], list[i]);
		CHECK_EQ(io.r.moved, 4 + be16_get(io.in + 2));
	}
	WANT(0, 0, 255, 0, 0x12, 1, 0x80, 0, 255);
	CHECK(!memcmp(io.in + 4, "disk-1", 6));
	WANT(0, 0, 255, 0, 0x12, 1, 0x83, 0, 255);
	CHECK(!memcmp(io.in + 8, "WSLX    disk-1", 14));
	CHECK_EQ(io.in[4 + 4 + 14 + 4] >> 4, 3); /* NAA: locally assigned */
	WANT(0, 0, 255, 0, 0x12, 1, 0xb2, 0, 255);
	CHECK_EQ(io.in[5], 0xe4);
	teardown();
}

TEST(capacity)
{
	setup_ready();
	WANT(0, 0, 8, 0, 0x25);
	CHECK_EQ(be32_get(io.in), BLOCKS - 1);
	CHECK_EQ(be32_get(io.in + 4), BS);
	WANT(0, 0, 32, 0, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32);
	CHECK_EQ(be64_get(io.in), BLOCKS - 1);
	CHECK_EQ(io.in[13], 3);
	CHECK_EQ(io.in[14], 0xc0);
	WANT(0x052400, 0, 32, 0, 0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32);
	teardown();
}

TEST(read_write_all_sizes)
{
	static const struct {
		uint8_t wr[16], rd[16];
	} forms[] = {
		{{0x0a, 0, 0, 5, 3}, {0x08, 0, 0, 5, 3}},
		{{0x2a, 0, 0, 0, 0, 5, 0, 0, 3}, {0x28, 0, 0, 0, 0, 5, 0, 0, 3}},
		{{0xaa, 0, 0, 0, 0, 5, 0, 0, 0, 3}, {0xa8, 0, 0, 0, 0, 5, 0, 0, 0, 3}},
		{{0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 3},
			{0x88, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 3}},
	};

	setup_ready();
	for (unsigned f = 0; f < ARRAY_LEN(forms); f++) {
		for (unsigned i = 0; i < 3 * BS; i++)
			io.out[i] = (uint8_t)(i * 7 + f);
		/* The buffers are larger than the transfer. */
		CHECK(submit(&io, 0, forms[f].wr, 16, 0, 4 * BS));
		CHECK_EQ(sense(&io), 0);
		CHECK_EQ(io.r.moved, 3 * BS);
		CHECK(!memcmp(m->data + 5 * BS, io.out, 3 * BS));
		CHECK_EQ(m->data[8 * BS], 0);
		memset(io.in, 0xee, sizeof(io.in));
		CHECK(submit(&io, 0, forms[f].rd, 16, 4 * BS, 0));
		CHECK_EQ(sense(&io), 0);
		CHECK_EQ(io.r.moved, 3 * BS);
		CHECK(!memcmp(io.in, io.out, 3 * BS));
		CHECK_EQ(io.in[3 * BS], 0xee);
	}
	/* READ (6) of 0 blocks means 256; READ (10) of 0 blocks nothing. */
	CHECK(submit(
		&io, 0, CDB(0x08, 0, 0, 0, 0), 256 * BS > sizeof(io.in) ? sizeof(io.in) : 0, 0));
	CHECK_EQ(io.r.result, SCSI_OVERRUN);
	WANT(0, 0, 0, 0, 0x28);
	CHECK_EQ(io.r.moved, 0);
	teardown();
}

TEST(bounds)
{
	setup_ready();
	/* Last block, one past it, the far end of each field. */
	WANT(0, 0, BS, 0, 0x28, 0, 0, 0, 0x1f, 0xff, 0, 0, 1);
	WANT(0x052100, 0, 2 * BS, 0, 0x28, 0, 0, 0, 0x1f, 0xff, 0, 0, 2);
	WANT(0x052100, 0, BS, 0, 0x28, 0, 0, 0, 0x20, 0x00, 0, 0, 1);
	WANT(0x052100, 0, BS, 0, 0x88, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
		255);
	WANT(0x052100, 0, BS, 0, 0x88, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 1);
	WANT(0x052100, 0, 0, BS, 0x2a, 0, 0, 0, 0x20, 0x00, 0, 0, 1);
	WANT(0x052100, 0, 0, 0, 0x35, 0, 0, 0, 0x20, 0x01, 0, 0, 0);
	WANT(0x052100, 0, 0, 0, 0x2f, 0, 0, 0, 0x20, 0x00, 0, 0, 1);
	WANT(0, 0, 0, 0, 0x2f, 0, 0, 0, 0x1f, 0xff, 0, 0, 1);
	/* Too short a buffer: nothing moves. */
	m->data[0] = 1;
	CHECK(submit(&io, 0, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 2), 0, BS));
	CHECK_EQ(io.r.result, SCSI_OVERRUN);
	CHECK_EQ(io.r.moved, 0);
	CHECK_EQ(m->data[0], 1);
	/* Protection information, NACA, a short CDB. */
	WANT(0x052400, 0, BS, 0, 0x28, 0x20, 0, 0, 0, 0, 0, 0, 1);
	WANT(0x052400, 0, BS, 0, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 4);
	io.r.cdb_len = 8;
	CHECK(scsi_submit(t, &io.r));
	CHECK_EQ(sense(&io), 0x052400);
	/* More than the largest transfer. */
	scsi_detach(t, 0);
	m = blk_mem_new(32 << 20, BS);
	REQUIRE(scsi_attach(t, 0, &m->blk, &cfg) == 0);
	WANT(0x062901, 0, 0, 0, 0);
	WANT(0x052400, 0, BS, 0, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x01);
	teardown();
}

TEST(refused)
{
	setup_ready();
	WANT(0x052000, 0, 255, 0, 0x5e, 0, 0, 0, 0, 0, 0, 0, 255); /* PERSISTENT RESERVE IN */
	WANT(0x052000, 0, 0, 24, 0x5f);
	WANT(0x052000, 0, 0, 0, 0x16); /* RESERVE (6) */
	WANT(0x052000, 0, 0, 0, 0x7f);
	WANT(0x052000, 0, 0, 0, 0xff);
	WANT(0x052500, 1, 0, 0, 0x00);
	WANT(0x052500, 300, 0, 0, 0x00);
	WANT(0, 1, 96, 0, 0x12, 0, 0, 0, 96);
	CHECK_EQ(io.in[0], 0x3f);
	WANT(0, 1, 18, 0, 0x03, 0, 0, 0, 18);
	CHECK_EQ(io.in[2], 5);
	CHECK_EQ(io.in[12], 0x25);
	teardown();
}

TEST(mode_sense)
{
	setup_ready();
	WANT(0, 0, 255, 0, 0x1a, 8, 0x08, 0, 255);
	CHECK_EQ(io.r.moved, 24);
	CHECK_EQ(io.in[0], 23);
	CHECK_EQ(io.in[2], 0x10);
	CHECK_EQ(io.in[4], 0x08);
	CHECK_EQ(io.in[6], 0x04); /* WCE */
	m->blk.geo.write_cache = false;
	WANT(0, 0, 255, 0, 0x1a, 8, 0x08, 0, 255);
	CHECK_EQ(io.in[6], 0);
	/* All pages, with a block descriptor, ten bytes form. */
	WANT(0, 0, 255, 0, 0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 255);
	CHECK_EQ(io.r.moved, 8 + 8 + 20 + 12);
	CHECK_EQ(be16_get(io.in), io.r.moved - 2);
	CHECK_EQ(be32_get(io.in + 8), BLOCKS);
	WANT(0, 0, 255, 0, 0x5a, 0x10, 0x3f, 0, 0, 0, 0, 0, 255);
	CHECK_EQ(be64_get(io.in + 8), BLOCKS);
	/* Nothing is changeable; nothing is saved; no such page. */
	WANT(0, 0, 255, 0, 0x1a, 8, 0x48, 0, 255);
	CHECK_EQ(io.in[6], 0);
	WANT(0x053900, 0, 255, 0, 0x1a, 8, 0xc8, 0, 255);
	WANT(0x052400, 0, 255, 0, 0x1a, 8, 0x1c, 0, 255);
	teardown();
}

TEST(read_only_disk)
{
	setup_ready();
	m->blk.geo.readonly = true;
	WANT(0, 0, 255, 0, 0x1a, 8, 0x3f, 0, 255);
	CHECK_EQ(io.in[2], 0x90);
	WANT(0x072700, 0, 0, BS, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1);
	WANT(0x072700, 0, 0, 24, 0x42, 0, 0, 0, 0, 0, 0, 0, 24);
	WANT(0x072700, 0, 0, BS, 0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
	WANT(0, 0, BS, 0, 0x28, 0, 0, 0, 0, 0, 0, 0, 1);
	teardown();
}

TEST(back_end_errors_become_sense)
{
	setup_ready();
	m->fail[BLK_WRITE] = -ENOSPC;
	WANT(0x072707, 0, 0, BS, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1);
	CHECK_EQ(io.r.moved, 0);
	m->fail[BLK_WRITE] = -EIO;
	WANT(0x030c00, 0, 0, BS, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1);
	m->fail[BLK_READ] = -EIO;
	WANT(0x031100, 0, BS, 0, 0x28, 0, 0, 0, 0, 0, 0, 0, 1);
	m->fail[BLK_READ] = -ENOMEM;
	WANT(0x044400, 0, BS, 0, 0x28, 0, 0, 0, 0, 0, 0, 0, 1);
	m->fail[BLK_FLUSH] = -EIO;
	WANT(0x030c00, 0, 0, 0, 0x35);
	/* FUA: the write is fine, making it durable is not. */
	m->fail[BLK_WRITE] = 0;
	WANT(0x030c00, 0, 0, BS, 0x2a, 8, 0, 0, 0, 0, 0, 0, 1);
	m->fail[BLK_DISCARD] = -EIO;
	memset(io.out, 0, 24);
	be16_put(io.out + 2, 16);
	be32_put(io.out + 16, 1);
	WANT(0x030c00, 0, 0, 24, 0x42, 0, 0, 0, 0, 0, 0, 0, 24);
	teardown();
}

TEST(flushes)
{
	setup_ready();
	WANT(0, 0, 0, 0, 0x35);
	CHECK_EQ(m->count[BLK_FLUSH], 1);
	WANT(0, 0, 0, 0, 0x91);
	CHECK_EQ(m->count[BLK_FLUSH], 2);
	WANT(0, 0, 0, BS, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1);
	CHECK_EQ(m->count[BLK_FLUSH], 2);
	WANT(0, 0, 0, BS, 0x2a, 8, 0, 0, 0, 0, 0, 0, 1); /* FUA */
	CHECK_EQ(m->count[BLK_FLUSH], 3);
	teardown();
}

TEST(unmap)
{
	setup_ready();
	memset(m->data, 0xff, BLOCKS * BS);
	memset(io.out, 0, 4096);
	be16_put(io.out, 62);
	be16_put(io.out + 2, 48);
	be64_put(io.out + 8, 1);
	be32_put(io.out + 16, 2);
	be64_put(io.out + 24, 7); /* an empty one */
	be64_put(io.out + 40, BLOCKS - 1);
	be32_put(io.out + 48, 1);
	WANT(0, 0, 0, 56, 0x42, 0, 0, 0, 0, 0, 0, 0, 56);
	CHECK_EQ(m->count[BLK_DISCARD], 2);
	CHECK_EQ(m->data[BS - 1], 0xff);
	CHECK_EQ(m->data[BS], 0);
	CHECK_EQ(m->data[3 * BS - 1], 0);
	CHECK_EQ(m->data[3 * BS], 0xff);
	CHECK_EQ(m->data[BLOCKS * BS - 1], 0);
	/* One descriptor outside: nothing is unmapped. */
	be32_put(io.out + 48, 2);
	WANT(0x052100, 0, 0, 56, 0x42, 0, 0, 0, 0, 0, 0, 0, 56);
	CHECK_EQ(m->count[BLK_DISCARD], 2);
	/* Lists that are empty, too short, too long, longer than the buffer, or cut within a
	 * descriptor. */
	WANT(0, 0, 0, 0, 0x42);
	WANT(0x051a00, 0, 0, 7, 0x42, 0, 0, 0, 0, 0, 0, 0, 7);
	WANT(0x051a00, 0, 0, 8192, 0x42, 0, 0, 0, 0, 0, 0, 0x20, 0);
	CHECK(submit(&io, 0, CDB(0x42, 0, 0, 0, 0, 0, 0, 0, 56), 0, 55));
	CHECK_EQ(io.r.result, SCSI_OVERRUN);
	WANT(0, 0, 0, 20, 0x42, 0, 0, 0, 0, 0, 0, 0, 20);
	CHECK_EQ(m->count[BLK_DISCARD], 2);
	/* A disk that cannot. */
	m->blk.geo.discard = false;
	WANT(0x052000, 0, 0, 56, 0x42, 0, 0, 0, 0, 0, 0, 0, 56);
	teardown();
}

TEST(write_same)
{
	setup_ready();
	memset(m->data, 0xff, BLOCKS * BS);
	memset(io.out, 0, BS);
	WANT(0, 0, 0, BS, 0x93, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4);
	CHECK_EQ(m->count[BLK_ZERO], 1);
	CHECK_EQ(m->data[BS - 1], 0xff);
	CHECK_EQ(m->data[BS], 0);
	CHECK_EQ(m->data[5 * BS - 1], 0);
	CHECK_EQ(m->data[5 * BS], 0xff);
	/* Without a buffer (NDOB). */
	WANT(0, 0, 0, 0, 0x93, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1);
	CHECK_EQ(m->data[9 * BS], 0);
	/* A pattern over more than one step of the chunked write: 2000 blocks. */
	for (unsigned i = 0; i < BS; i++)
		io.out[i] = (uint8_t)(i * 3 + 1);
	WANT(0, 0, 0, BS, 0x41, 0, 0, 0, 0, 10, 0, 0x07, 0xd0);
	for (unsigned b = 10; b < 2010; b++)
		CHECK(!memcmp(m->data + b * BS, io.out, BS));
	CHECK_EQ(m->data[2010 * BS], 0xff);
	WANT(0x052400, 0, 0, BS, 0x41, 0, 0, 0, 0, 10, 0, 0, 0);
	WANT(0x052400, 0, 0, BS, 0x41, 1, 0, 0, 0, 10, 0, 0, 1);
	WANT(0x052100, 0, 0, BS, 0x41, 0, 0, 0, 0x20, 0, 0, 0, 1);
	CHECK(submit(&io, 0, CDB(0x41, 0, 0, 0, 0, 0, 0, 0, 1), 0, BS - 1));
	CHECK_EQ(io.r.result, SCSI_OVERRUN);
	teardown();
}

TEST(report_luns)
{
	struct blk_mem *m2 = blk_mem_new(BS, BS);

	setup_ready();
	REQUIRE(scsi_attach(t, 200, &m2->blk, &cfg) == 0);
	/* The old LUN hears of the new one; asking for the list answers that. */
	WANT(0, 0, 8192, 0, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0);
	CHECK_EQ(be32_get(io.in), 16);
	CHECK_EQ(io.in[9], 0);
	CHECK_EQ(io.in[17], 200);
	WANT(0, 0, 0, 0, 0x00);
	WANT(0, SCSI_LUN_REPORT_LUNS, 8192, 0, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0);
	CHECK_EQ(be32_get(io.in), 16);
	WANT(0, 0, 8192, 0, 0xa0, 0, 1, 0, 0, 0, 0, 0, 0x20, 0);
	CHECK_EQ(be32_get(io.in), 8);
	CHECK_EQ(be16_get(io.in + 8), 0xc101);
	WANT(0x052400, 0, 8192, 0, 0xa0, 0, 3, 0, 0, 0, 0, 0, 0x20, 0);
	WANT(0x052400, 0, 8192, 0, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 15);
	teardown();
}

TEST(attach_detach_resize)
{
	struct blk_mem *m2 = blk_mem_new(BS, BS);
	bool freed = false;

	setup_ready();
	CHECK_EQ(events[SCSI_EV_ATTACHED], 1);
	m2->ret_freed = &freed;
	CHECK_EQ(scsi_attach(t, 0, &m2->blk, &cfg), -EBUSY);
	CHECK_EQ(scsi_attach(t, 256, &m2->blk, &cfg), -EINVAL);
	CHECK_EQ(scsi_attach(t, 1, &m2->blk, &(struct scsi_disk_config){.serial = "a b"}), -EINVAL);
	CHECK_EQ(scsi_attach(t, 1, &m2->blk, &(struct scsi_disk_config){.serial = ""}), -EINVAL);
	CHECK_EQ(scsi_free_lun(t), 1);
	REQUIRE(scsi_attach(t, 1, &m2->blk, &cfg) == 0);
	CHECK_EQ(last_lun, 1);
	WANT(0x063f0e, 0, 0, 0, 0x00);
	WANT(0, 0, 0, 0, 0x00);
	m->blk.geo.size /= 2;
	CHECK_EQ(scsi_resized(t, 0), 0);
	CHECK_EQ(events[SCSI_EV_RESIZED], 1);
	WANT(0, 0, 18, 0, 0x03, 0, 0, 0, 18); /* REQUEST SENSE takes it */
	CHECK_EQ(io.in[2] << 16 | io.in[12] << 8 | io.in[13], 0x062a09);
	WANT(0, 0, 8, 0, 0x25);
	CHECK_EQ(be32_get(io.in), BLOCKS / 2 - 1);
	CHECK_EQ(scsi_detach(t, 1), 0);
	CHECK(freed);
	CHECK_EQ(scsi_detach(t, 1), -ENOENT);
	CHECK_EQ(scsi_resized(t, 1), -ENOENT);
	WANT(0x052500, 1, 0, 0, 0x00);
	teardown();
}

TEST(detach_waits_for_requests)
{
	bool freed = false;

	setup_ready();
	m->ret_freed = &freed;
	m->hold[BLK_FLUSH] = true;
	CHECK(!submit(&io, 0, CDB(0x35), 0, 0));
	CHECK_EQ(n_finished, 0);
	CHECK_EQ(scsi_detach(t, 0), 0);
	CHECK(freed);
	REQUIRE(n_finished == 1);
	CHECK(finished[0] == &io.r);
	CHECK_EQ(sense(&io), 0);
	teardown();
}

static unsigned tmfs_done;
static void on_tmf(struct scsi_tmf *x)
{
	tmfs_done++;
}

TEST(task_management)
{
	static struct io a, b;
	struct scsi_tmf f = {.op = SCSI_TMF_ABORT_TASK, .tag = 7, .done = on_tmf};
	struct scsi_tmf q = {.op = SCSI_TMF_QUERY_TASK, .tag = 7};

	setup_ready();
	tmfs_done = 0;
	m->hold[BLK_FLUSH] = true;
	a.r.tag = 7;
	b.r.tag = 8;
	CHECK(!submit(&a, 0, CDB(0x35), 0, 0));
	CHECK(!submit(&b, 0, CDB(0x35), 0, 0));
	CHECK(scsi_tmf(t, &q));
	CHECK_EQ(q.result, SCSI_TMF_SUCCEEDED);
	CHECK(!scsi_tmf(t, &f));
	/* Requests that come after the function are not its business. */
	a.r.tag = 7;
	CHECK(blk_mem_complete(m));
	CHECK_EQ(tmfs_done, 1);
	CHECK_EQ(a.r.result, SCSI_ABORTED);
	CHECK_EQ(n_finished, 1);
	CHECK(scsi_tmf(t, &q));
	CHECK_EQ(q.result, SCSI_TMF_COMPLETE);
	/* A reset ends what is left, in flight again from a FUA write; the next command hears of
	 * it. */
	memset(a.out, 3, BS);
	CHECK(!submit(&a, 0, CDB(0x2a, 8, 0, 0, 0, 0, 0, 0, 1), 0, BS));
	f.op = SCSI_TMF_LUN_RESET;
	CHECK(!scsi_tmf(t, &f));
	CHECK(blk_mem_complete(m));
	CHECK_EQ(b.r.result, SCSI_RESET);
	CHECK_EQ(tmfs_done, 1);
	CHECK(blk_mem_complete(m));
	CHECK_EQ(a.r.result, SCSI_RESET);
	CHECK_EQ(tmfs_done, 2);
	WANT(0x062903, 0, 0, 0, 0x00);
	f.op = SCSI_TMF_ABORT_TASK_SET;
	CHECK(scsi_tmf(t, &f));
	CHECK_EQ(f.result, SCSI_TMF_COMPLETE);
	f.lun = 9;
	CHECK(scsi_tmf(t, &f));
	CHECK_EQ(f.result, SCSI_TMF_BAD_LUN);
	f.op = SCSI_TMF_NEXUS_RESET;
	CHECK(scsi_tmf(t, &f));
	WANT(0x062903, 0, 0, 0, 0x00);
	teardown();
}

TEST(start_stop)
{
	setup_ready();
	WANT(0, 0, 0, 0, 0x1b);
	CHECK_EQ(m->count[BLK_FLUSH], 1);
	WANT(0x020402, 0, BS, 0, 0x28, 0, 0, 0, 0, 0, 0, 0, 1);
	WANT(0, 0, 0, 0, 0x1b, 0, 0, 0, 1);
	WANT(0, 0, BS, 0, 0x28, 0, 0, 0, 0, 0, 0, 0, 1);
	WANT(0x052400, 0, 0, 0, 0x1b, 0, 0, 0, 0x10);
	teardown();
}

TEST(save_load)
{
	struct state_w *w = state_w_new();
	struct state_r *r;
	size_t len;
	const void *p;

	setup();
	WANT(0x062901, 0, 0, 0, 0x1b);
	WANT(0, 0, 0, 0, 0x1b);
	scsi_save(t, w);
	p = state_w_data(w, &len);
	teardown();
	setup();
	r = state_r_new(p, len);
	CHECK_EQ(scsi_load(t, r), 0);
	state_r_free(r);
	WANT(0x020402, 0, 0, 0, 0x00); /* no power-on attention, still stopped */
	/* A machine without the disk, or with a smaller one, cannot take the state. */
	scsi_detach(t, 0);
	r = state_r_new(p, len);
	CHECK(scsi_load(t, r) < 0);
	state_r_free(r);
	m = blk_mem_new(BS, BS);
	REQUIRE(scsi_attach(t, 0, &m->blk, &cfg) == 0);
	r = state_r_new(p, len);
	CHECK(scsi_load(t, r) < 0);
	state_r_free(r);
	state_w_free(w);
	teardown();
}

TEST_MAIN()
