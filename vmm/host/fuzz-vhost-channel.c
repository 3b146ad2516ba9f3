/* SPDX-License-Identifier: MIT */
/*
 * A hostile server: the input is what it asks for, each a byte that says which descriptor goes with it and how the numbers are made, the
 * request, and the payload. Whatever it asks, the window is memory afterwards, and nothing else has changed.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "lib/base/le.h"
#include "lib/os/window.h"
#include "vmm/host/vhost-channel.h"
#include "vmm/virtio/fake-driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SLOT = 2 << 20, SLOTS = 4, ITEM = 2 + 40 };
#define GPA 0x4000000000ull

static int files[3] = {-1, -1, -1};

static void set_up(void)
{
	int ends[2];

	if (pipe(ends) < 0)
		abort();
	files[0] = memfd_create("long", MFD_CLOEXEC);
	files[1] = memfd_create("short", MFD_CLOEXEC);
	files[2] = ends[0];
	if (ftruncate(files[0], 4 * SLOT) < 0 || ftruncate(files[1], 100) < 0)
		abort();
}

/* Numbers near those that make sense. */
static uint64_t number(const uint8_t *p, bool raw)
{
	return raw ? le64_get(p) : (uint64_t)(int8_t)p[0] * SLOT + (uint64_t)(int8_t)p[1] * p[2];
}

static void request(struct vhost *vh, const uint8_t *p)
{
	bool raw = p[0] & 0x80;
	struct vu_in in = {.nfds = p[0] & 3 ? 1 : 0,
		.fds = {files[((p[0] & 3) + 2) % 3]},
		.msg = {.h = {.request = p[1], .size = p[0] & 0x40 ? 8 : sizeof(struct vu_shmem)},
			.p.shmem = {.id = p[0] & 0x20 ? p[2] : 0,
				.fd_offset = number(p + 10, raw),
				.shm_offset = number(p + 18, raw),
				.len = number(p + 26, raw),
				.flags = raw ? le64_get(p + 34) : p[34] & 1}}};

	(void)vhost_channel_do(vh, &in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vhost_config c = {
		.kind = VHOST_FS, .name = "fs0", .tag = "t", .requests = 1, .window = SLOT * SLOTS};
	volatile uint8_t *w;
	struct vhost *vh;
	struct fake f;

	if (files[0] < 0)
		set_up();
	fake_init(&f);
	if (vhost_new(&vh, f.gm, NULL, &c) < 0)
		abort();
	fake_attach(&f, vhost_dev(vh), NULL);
	if (vhost_place_window(vh, GPA) < 0)
		abort();
	for (; size >= ITEM; data += ITEM, size -= ITEM)
		request(vh, data);
	if (os_window_mapped(vhost_window(vh)) > SLOTS)
		abort();
	w = gmem_ptr(f.gm, GPA, SLOT * SLOTS);
	for (uint64_t off = 0; off < SLOT * SLOTS; off += SLOT / 4) {
		(void)w[off];
		w[off + 4096] = 1;
	}
	fake_done(&f);
	return 0;
}
