/* SPDX-License-Identifier: MIT */
#include "vmm/snapshot.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/checked.h"
#include "lib/base/cleanup.h"
#include "lib/base/le.h"
#include "lib/os/mem.h"
#include "vmm/core/state.h"

/*
 * Header, little-endian: magic[8], u32 version, u32 vCPUs, u64 RAM size, u64 state's offset, u64 state's length, u64
 * memory's offset. Memory is in the order of the memory object, and as long as RAM.
 */
enum { HEADER = 48, STATE_OFF = 4096, VERSION = 1, STATE_MAX = 64 << 20, CHUNK = 64 << 10 };
static const char magic[8] = "WSLXVM\r\n";

DEFINE_CLEANUP(struct state_w, state_w_free)
DEFINE_CLEANUP(struct state_r, state_r_free)

static int write_at(int fd, const void *buf, size_t len, uint64_t off)
{
	const uint8_t *p = buf;

	while (len) {
		ssize_t n = pwrite(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		off += n;
		len -= n;
	}
	return 0;
}

static int read_at(int fd, void *buf, size_t len, uint64_t off)
{
	uint8_t *p = buf;

	while (len) {
		ssize_t n = pread(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EBADMSG;
		p += n;
		off += n;
		len -= n;
	}
	return 0;
}

static bool is_zero(const uint8_t *p, size_t len)
{
	return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

/* The memory object's holes are the file's holes: memory the guest never touched is not even looked at. */
int snapshot_write_memory(struct vm *vm, int fd, uint64_t at)
{
	const struct gmem_region *regions;
	int memfd = os_memobj_fd(gmem_object(vm_gmem(vm)));
	uint64_t size = gmem_ram_size(vm_gmem(vm)), pos = 0;

	gmem_regions(vm_gmem(vm), &regions); /* one mapping in the object's order */
	while (pos < size) {
		off_t data = lseek(memfd, (off_t)pos, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			break;
		hole = data < 0 ? -1 : lseek(memfd, data, SEEK_HOLE);
		if (data < 0 || hole < 0)
			return -errno;
		for (pos = data; pos < (uint64_t)hole; pos += CHUNK) {
			const uint8_t *p = regions[0].hva + pos;
			size_t n = MIN((uint64_t)hole - pos, (uint64_t)CHUNK);
			int r;

			if (is_zero(p, n))
				continue;
			r = write_at(fd, p, n, at + pos);
			if (r < 0)
				return r;
		}
		pos = hole;
	}
	return 0;
}

int snapshot_check_empty(int fd, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, -errno, "look at the file to write");
	if (!S_ISREG(st.st_mode) || st.st_size)
		return err_set(e, -EINVAL, "the file to write is not an empty regular file");
	return 0;
}

int snapshot_save(struct vm *vm, int fd, struct err *e)
{
	cleanup(state_w_freep) struct state_w *w = state_w_new();
	uint8_t h[HEADER] = {0};
	uint64_t size = gmem_ram_size(vm_gmem(vm)), mem_off;
	const void *state;
	size_t len;
	int r;

	r = snapshot_check_empty(fd, e);
	if (r == 0)
		r = vm_save(vm, w, e);
	if (r < 0)
		return r;
	state = state_w_data(w, &len);
	mem_off = ALIGN_UP(STATE_OFF + (uint64_t)len, (uint64_t)2 << 20);
	memcpy(h, magic, sizeof(magic));
	le32_put(h + 8, VERSION);
	le32_put(h + 12, vm_vcpus(vm));
	le64_put(h + 16, size);
	le64_put(h + 24, STATE_OFF);
	le64_put(h + 32, len);
	le64_put(h + 40, mem_off);
	r = ftruncate(fd, (off_t)(mem_off + size)) < 0 ? -errno : 0;
	if (r == 0)
		r = write_at(fd, state, len, STATE_OFF);
	if (r == 0)
		r = snapshot_write_memory(vm, fd, mem_off);
	/* The header last: a file that was not finished is not taken for a saved machine. */
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0)
		r = write_at(fd, h, sizeof(h), 0);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r < 0 ? err_sys(e, r, "write the saved machine") : 0;
}

static int read_header(int fd, struct snapshot_info *i, uint64_t *ret_mem, struct err *e)
{
	uint8_t h[HEADER];
	struct stat st;
	int r = read_at(fd, h, sizeof(h), 0);

	if (r < 0 && r != -EBADMSG)
		return err_sys(e, r, "read the saved machine");
	if (r < 0 || fstat(fd, &st) < 0 || memcmp(h, magic, sizeof(magic)) != 0)
		return err_set(e, -EBADMSG, "the file is not a saved machine");
	if (le32_get(h + 8) != VERSION)
		return err_set(e, -EBADMSG,
			"the saved machine's format, %u, is not one this program knows",
			le32_get(h + 8));
	*i = (struct snapshot_info){.vcpus = le32_get(h + 12),
		.ram_size = le64_get(h + 16),
		.state_len = le64_get(h + 32)};
	*ret_mem = le64_get(h + 40);
	if (i->vcpus < 1 || i->vcpus > CPU_MAX_VCPUS || i->state_len > STATE_MAX ||
		le64_get(h + 24) != STATE_OFF || !range_ok(STATE_OFF, i->state_len, st.st_size) ||
		!range_ok(*ret_mem, i->ram_size, st.st_size))
		return err_set(e, -EBADMSG, "the saved machine is damaged or cut short");
	return 0;
}

int snapshot_info(int fd, struct snapshot_info *ret, struct err *e)
{
	uint64_t mem;

	return read_header(fd, ret, &mem, e);
}

static int load_memory(struct vm *vm, int fd, uint64_t at)
{
	const struct gmem_region *regions;
	uint64_t size = gmem_ram_size(vm_gmem(vm)), pos = 0;

	gmem_regions(vm_gmem(vm), &regions);
	while (pos < size) {
		off_t data = lseek(fd, (off_t)(at + pos), SEEK_DATA), hole;
		uint64_t end;
		int r;

		if (data < 0 && errno == ENXIO)
			break;
		hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
		if (data < 0 || hole < 0)
			return -errno;
		/* Somebody may change the file's size while we read it. */
		if ((uint64_t)data < at + pos)
			return -EBADMSG;
		end = MIN((uint64_t)hole - at, size);
		pos = data - at;
		if (pos >= end)
			break;
		r = read_at(fd, regions[0].hva + pos, end - pos, at + pos);
		if (r < 0)
			return r;
		pos = end;
	}
	return 0;
}

int snapshot_load(struct vm *vm, int fd, struct err *e)
{
	cleanup(state_r_freep) struct state_r *rd = NULL;
	cleanup_free void *state = NULL;
	struct snapshot_info i;
	uint64_t mem;
	int r = read_header(fd, &i, &mem, e);

	if (r < 0)
		return r;
	if (i.ram_size != gmem_ram_size(vm_gmem(vm)) || i.vcpus != vm_vcpus(vm))
		return err_set(e, -EINVAL,
			"the saved machine has %llu MiB and %u CPUs, this one %llu and %u",
			(unsigned long long)i.ram_size >> 20, i.vcpus,
			(unsigned long long)gmem_ram_size(vm_gmem(vm)) >> 20, vm_vcpus(vm));
	state = malloc(i.state_len + 1);
	if (!state)
		return err_sys(e, -ENOMEM, "read the saved machine");
	r = read_at(fd, state, i.state_len, STATE_OFF);
	if (r == 0)
		r = load_memory(vm, fd, mem);
	if (r < 0)
		return err_sys(e, r, "read the saved machine");
	rd = state_r_new(state, i.state_len);
	return vm_load(vm, rd, e);
}
