/* SPDX-License-Identifier: MIT */
/* Mapping the regions of a front end's memory table. See memory.h. */
#include "lib/vhost/memory.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/checked.h"

static bool same(const struct vhost_region *a, const struct vhost_region *b)
{
	return memcmp(&a->r, &b->r, sizeof(a->r)) == 0 && a->dev == b->dev && a->ino == b->ino;
}

/* What can be known without mapping. */
static int look_at(struct vhost_region *ret, const struct vu_region *r, int fd)
{
	struct stat st;
	uint64_t end;

	if (!r->size || add_overflows(r->gpa, r->size, &end) ||
		add_overflows(r->user_addr, r->size, &end) ||
		add_overflows(r->mmap_offset, r->size, &end) || end > INT64_MAX)
		return -EINVAL;
	if (fd < 0 || fstat(fd, &st) < 0)
		return -EBADF;
	/* Beyond the end of the file there is no memory, only SIGBUS. */
	if (S_ISREG(st.st_mode) && end > (uint64_t)st.st_size)
		return -EINVAL;
	*ret = (struct vhost_region){.r = *r, .dev = st.st_dev, .ino = st.st_ino};
	return 0;
}

static int map(struct vhost_region *r, int fd)
{
	struct stat st;
	uint64_t unit, start;

	/* Large pages are mapped as wholes; their size is the file's block size. */
	if (fstat(fd, &st) < 0)
		return -errno;
	unit = (uint64_t)sysconf(_SC_PAGESIZE);
	if (st.st_blksize > 0 && ((uint64_t)st.st_blksize & ((uint64_t)st.st_blksize - 1)) == 0)
		unit = MAX(unit, (uint64_t)st.st_blksize);
	start = ALIGN_DOWN(r->r.mmap_offset, unit);
	r->map_len = r->r.mmap_offset - start + r->r.size;
	r->map = mmap(NULL, r->map_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
		(off_t)start);
	if (r->map == MAP_FAILED)
		return -errno;
	/* A crash of ours is not to write the guest's memory to disk. */
	madvise(r->map, r->map_len, MADV_DONTDUMP);
	r->base = (uint8_t *)r->map + (r->r.mmap_offset - start);
	return 0;
}

static bool overlap(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
	return a < b + blen && b < a + alen;
}

static bool collides(const struct vhost_region *list, unsigned n, const struct vu_region *r)
{
	for (unsigned i = 0; i < n; i++)
		if (overlap(list[i].r.gpa, list[i].r.size, r->gpa, r->size) ||
			overlap(list[i].r.user_addr, list[i].r.size, r->user_addr, r->size))
			return true;
	return false;
}

void vhost_memory_clear(struct vhost_memory *m)
{
	for (unsigned i = 0; i < m->n; i++)
		munmap(m->region[i].map, m->region[i].map_len);
	m->n = m->last = 0;
}

int vhost_memory_set(
	struct vhost_memory *m, const struct vu_region *region, const int *fds, unsigned n)
{
	struct vhost_region list[VU_TABLE_REGIONS];
	bool fresh[VU_TABLE_REGIONS] = {0}, kept[VHOST_MAX_REGIONS] = {0};
	int r = n <= VU_TABLE_REGIONS ? 0 : -E2BIG;
	unsigned done = 0;

	for (; r == 0 && done < n; done++) {
		struct vhost_region *l = &list[done];

		r = look_at(l, &region[done], fds[done]);
		if (r == 0 && collides(list, done, &region[done]))
			r = -EEXIST;
		if (r < 0)
			break;
		fresh[done] = true;
		for (unsigned k = 0; k < m->n; k++)
			if (!kept[k] && same(&m->region[k], l)) {
				*l = m->region[k];
				kept[k] = true;
				fresh[done] = false;
				break;
			}
		if (fresh[done] && (r = map(l, fds[done])) < 0)
			break;
	}
	if (r < 0) {
		for (unsigned i = 0; i < done; i++)
			if (fresh[i])
				munmap(list[i].map, list[i].map_len);
		return r;
	}
	for (unsigned k = 0; k < m->n; k++)
		if (!kept[k])
			munmap(m->region[k].map, m->region[k].map_len);
	memcpy(m->region, list, n * sizeof(*list));
	m->n = n;
	m->last = 0;
	return 0;
}

int vhost_memory_add(struct vhost_memory *m, const struct vu_region *region, int fd)
{
	struct vhost_region l;
	int r = look_at(&l, region, fd);

	if (r < 0)
		return r;
	if (m->n == VHOST_MAX_REGIONS)
		return -ENOSPC;
	if (collides(m->region, m->n, region))
		return -EEXIST;
	r = map(&l, fd);
	if (r == 0)
		m->region[m->n++] = l;
	return r;
}

int vhost_memory_remove(struct vhost_memory *m, const struct vu_region *region)
{
	for (unsigned i = 0; i < m->n; i++) {
		struct vhost_region *l = &m->region[i];

		if (l->r.gpa != region->gpa || l->r.size != region->size ||
			l->r.user_addr != region->user_addr)
			continue;
		munmap(l->map, l->map_len);
		*l = m->region[--m->n];
		m->last = 0;
		return 0;
	}
	return -ENOENT;
}

void *vhost_memory_ptr(struct vhost_memory *m, uint64_t addr, uint64_t *len)
{
	for (unsigned k = 0; k < m->n; k++) {
		unsigned i = (m->last + k) % m->n;
		const struct vhost_region *l = &m->region[i];
		uint64_t off = addr - l->r.gpa;

		if (addr < l->r.gpa || off >= l->r.size)
			continue;
		m->last = i;
		*len = MIN(*len, l->r.size - off);
		return l->base + off;
	}
	return NULL;
}

void *vhost_memory_user(const struct vhost_memory *m, uint64_t addr, uint64_t len)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct vhost_region *l = &m->region[i];

		if (addr >= l->r.user_addr && range_ok(addr - l->r.user_addr, len, l->r.size))
			return l->base + (addr - l->r.user_addr);
	}
	return NULL;
}
