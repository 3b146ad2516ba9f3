/* SPDX-License-Identifier: MIT */
/*
 * Guest memory (gmem.h): one memory object mapped once, seen by the guest as RAM below the 32-bit
 * hole and, when there is more, above 4 GiB. A page's number is its place in the memory object, so
 * the bitmaps have no hole.
 */
#include "vmm/core/gmem.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/checked.h"
#include "lib/os/mem.h"
#include "lib/os/window.h"

enum { WORD_BITS = 64, RAM_ALIGN = 2 << 20 };
static const uint64_t ram_max = 1ull << 40;

struct gmem {
	struct os_memobj *obj;
	uint8_t *base;
	uint64_t size;
	struct gmem_region regions[2];
	unsigned nregions;
	struct gmem_region windows[GMEM_WINDOWS]; /* offset: 0 */
	_Atomic uint64_t *window_code[GMEM_WINDOWS];
	struct os_window *window[GMEM_WINDOWS];
	unsigned nwindows;

	/* One bit a page; anonymous memory, so that what is never touched costs nothing. */
	size_t words;
	void *bitmaps;
	_Atomic uint64_t *dirty, *code;
	atomic_bool dirty_on;
	gmem_code_fn code_fn;
	void *code_ctx;
};

static size_t bitmap_bytes(const struct gmem *gm)
{
	return ALIGN_UP(gm->words * 2 * sizeof(uint64_t), os_page_size());
}

int gmem_new(struct gmem **ret, uint64_t ram_size)
{
	struct gmem *gm;
	uint64_t low = MIN(ram_size, GMEM_HOLE_START);
	void *base;
	int r;

	if (ram_size == 0 || ram_size % RAM_ALIGN || ram_size > ram_max)
		return -EINVAL;
	gm = calloc(1, sizeof(*gm));
	if (!gm)
		return -ENOMEM;
	gm->size = ram_size;
	gm->words = (ram_size / GMEM_PAGE_SIZE + WORD_BITS - 1) / WORD_BITS;
	r = os_memobj_new(&gm->obj, "wslx-guest-memory", ram_size);
	if (r == 0)
		r = os_memobj_map(gm->obj, 0, ram_size, OS_PROT_R | OS_PROT_W, &base);
	if (r == 0) {
		gm->base = base;
		os_mem_large(base, ram_size);
		r = os_mem_map(bitmap_bytes(gm), OS_PROT_R | OS_PROT_W, &gm->bitmaps);
	}
	if (r < 0) {
		gmem_free(gm);
		return r;
	}
	gm->dirty = gm->bitmaps;
	gm->code = gm->dirty + gm->words;
	gm->regions[gm->nregions++] =
		(struct gmem_region){.gpa = 0, .size = low, .hva = gm->base, .offset = 0};
	if (ram_size > low)
		gm->regions[gm->nregions++] = (struct gmem_region){.gpa = GMEM_HOLE_END,
			.size = ram_size - low,
			.hva = gm->base + low,
			.offset = low};
	*ret = gm;
	return 0;
}

static size_t window_bytes(const struct gmem_region *w)
{
	return ALIGN_UP(w->size / GMEM_PAGE_SIZE / 8 + 8, os_page_size());
}

void gmem_free(struct gmem *gm)
{
	if (!gm)
		return;
	for (unsigned i = 0; i < gm->nwindows; i++)
		os_mem_unmap((void *)(uintptr_t)gm->window_code[i], window_bytes(&gm->windows[i]));
	if (gm->bitmaps)
		os_mem_unmap(gm->bitmaps, bitmap_bytes(gm));
	if (gm->base)
		os_mem_unmap(gm->base, gm->size);
	os_memobj_free(gm->obj);
	free(gm);
}

size_t gmem_regions(const struct gmem *gm, const struct gmem_region **ret)
{
	*ret = gm->regions;
	return gm->nregions;
}

struct os_memobj *gmem_object(const struct gmem *gm)
{
	return gm->obj;
}

uint64_t gmem_ram_size(const struct gmem *gm)
{
	return gm->size;
}

static const struct gmem_region *find_in(
	const struct gmem_region *list, unsigned n, gpa_t gpa, uint64_t *ret_left)
{
	for (unsigned i = 0; i < n; i++) {
		const struct gmem_region *r = &list[i];

		if (gpa - r->gpa < r->size) {
			*ret_left = r->size - (gpa - r->gpa);
			return r;
		}
	}
	return NULL;
}

gpa_t gmem_ram_end(const struct gmem *gm)
{
	const struct gmem_region *last = &gm->regions[gm->nregions - 1];

	return last->gpa + last->size;
}

/* The region of RAM that gpa is in and how many bytes of it are left from there, or NULL. */
static const struct gmem_region *find(const struct gmem *gm, gpa_t gpa, uint64_t *ret_left)
{
	return find_in(gm->regions, gm->nregions, gpa, ret_left);
}

static const struct gmem_region *find_window(const struct gmem *gm, gpa_t gpa, uint64_t *ret_left)
{
	return find_in(gm->windows, gm->nwindows, gpa, ret_left);
}

int gmem_add_window(struct gmem *gm, gpa_t gpa, struct os_window *window)
{
	uint64_t size = os_window_len(window), end;
	struct gmem_region w = {.gpa = gpa, .size = size, .hva = os_window_base(window)};
	void *code;
	int r;

	if (gpa % OS_WINDOW_SLOT || add_overflows(gpa, size, &end))
		return -EINVAL;
	for (unsigned i = 0; i < gm->nregions; i++)
		if (gpa < gm->regions[i].gpa + gm->regions[i].size && gm->regions[i].gpa < end)
			return -EEXIST;
	if (gmem_in_window(gm, gpa, size))
		return -EEXIST;
	if (gm->nwindows == GMEM_WINDOWS)
		return -ENOSPC;
	r = os_mem_map(window_bytes(&w), OS_PROT_R | OS_PROT_W, &code);
	if (r < 0)
		return r;
	gm->window_code[gm->nwindows] = code;
	gm->window[gm->nwindows] = window;
	gm->windows[gm->nwindows++] = w;
	return 0;
}

size_t gmem_windows(const struct gmem *gm, const struct gmem_region **ret)
{
	*ret = gm->windows;
	return gm->nwindows;
}

bool gmem_cut_windows(struct gmem *gm, bool all)
{
	bool any = false;

	for (unsigned i = 0; i < gm->nwindows; i++)
		any |= os_window_cut(gm->window[i], all);
	return any;
}

bool gmem_in_window(const struct gmem *gm, gpa_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < gm->nwindows; i++)
		if (gpa < gm->windows[i].gpa + gm->windows[i].size &&
			gm->windows[i].gpa < gpa + len)
			return true;
	return false;
}

void *gmem_ptr(const struct gmem *gm, gpa_t gpa, uint64_t len)
{
	uint64_t left;
	const struct gmem_region *r = find(gm, gpa, &left);

	if (!r)
		r = find_window(gm, gpa, &left);
	return r && len <= left ? r->hva + (gpa - r->gpa) : NULL;
}

/* RAM's regions never touch each other in the guest's address space, so a range of RAM lies in one
 * of them. */
int gmem_read(const struct gmem *gm, gpa_t gpa, void *buf, size_t len)
{
	const void *p;

	if (len == 0)
		return 0;
	p = gmem_ptr(gm, gpa, len);
	if (!p)
		return -EFAULT;
	memcpy(buf, p, len);
	return 0;
}

int gmem_write(struct gmem *gm, gpa_t gpa, const void *buf, size_t len)
{
	void *p;

	if (len == 0)
		return 0;
	p = gmem_ptr(gm, gpa, len);
	if (!p)
		return -EFAULT;
	memcpy(p, buf, len);
	gmem_wrote(gm, gpa, len);
	return 0;
}

int gmem_fill(struct gmem *gm, gpa_t gpa, const void *buf, size_t len)
{
	enum { CHUNK = 16 * GMEM_PAGE_SIZE };
	const uint8_t *p = buf;
	uint64_t left;
	const struct gmem_region *r = find(gm, gpa, &left);

	if (!r || len > left)
		return len ? -EFAULT : 0;
	for (uint64_t off = r->offset + (gpa - r->gpa); len > 0;) {
		size_t n = MIN(len, CHUNK - off % CHUNK);

		if (p[0] != 0 || memcmp(p, p + 1, n - 1) != 0) {
			int ret = os_memobj_write(gm->obj, off, p, n);

			if (ret < 0)
				return ret;
		}
		p += n;
		off += n;
		len -= n;
	}
	return 0;
}

int gmem_iov(const struct gmem *gm, gpa_t gpa, uint64_t len, struct iovec *iov, unsigned *n,
	unsigned max)
{
	void *p;

	if (len == 0)
		return 0;
	p = gmem_ptr(gm, gpa, len);
	if (!p)
		return -EFAULT;
	if (*n >= max)
		return -E2BIG;
	iov[(*n)++] = (struct iovec){.iov_base = p, .iov_len = len};
	return 0;
}

/* The number of the page that gpa is in; false: not RAM. */
static bool page_index(const struct gmem *gm, gpa_t gpa, uint64_t *ret)
{
	uint64_t left;
	const struct gmem_region *r = find(gm, gpa, &left);

	if (!r)
		return false;
	*ret = (r->offset + (gpa - r->gpa)) >> GMEM_PAGE_SHIFT;
	return true;
}

static void set_bit(_Atomic uint64_t *bits, uint64_t i)
{
	uint64_t mask = 1ull << (i % WORD_BITS);

	/* Sequentially consistent: for the code bits this is the translator's half of the fence in
	 * gmem_wrote(). */
	if (!(atomic_load_explicit(&bits[i / WORD_BITS], memory_order_relaxed) & mask))
		atomic_fetch_or(&bits[i / WORD_BITS], mask);
}

static bool test_bit(const _Atomic uint64_t *bits, uint64_t i)
{
	return atomic_load_explicit(&bits[i / WORD_BITS], memory_order_relaxed) >> (i % WORD_BITS) &
	       1;
}

static void window_wrote(struct gmem *gm, gpa_t gpa, uint64_t len)
{
	uint64_t left, last;
	const struct gmem_region *w = find_window(gm, gpa, &left);
	const _Atomic uint64_t *code;

	if (!w || len == 0)
		return;
	code = gm->window_code[w - gm->windows];
	last = (gpa - w->gpa + MIN(len, left) - 1) >> GMEM_PAGE_SHIFT;
	atomic_thread_fence(memory_order_seq_cst);
	for (uint64_t i = (gpa - w->gpa) >> GMEM_PAGE_SHIFT; i <= last; i++) {
		if (i % WORD_BITS == 0 &&
			!atomic_load_explicit(&code[i / WORD_BITS], memory_order_relaxed))
			i |= WORD_BITS - 1; /* none of these */
		else if (test_bit(code, i) && gm->code_fn)
			gm->code_fn(gm->code_ctx, w->gpa + (i << GMEM_PAGE_SHIFT));
	}
}

void gmem_wrote(struct gmem *gm, gpa_t gpa, uint64_t len)
{
	uint64_t left, first, last;
	const struct gmem_region *r = find(gm, gpa, &left);
	bool dirty_on = atomic_load_explicit(&gm->dirty_on, memory_order_relaxed);

	if (!r)
		window_wrote(gm, gpa, len);
	if (!r || len == 0)
		return;
	len = MIN(len, left);
	first = (r->offset + (gpa - r->gpa)) >> GMEM_PAGE_SHIFT;
	last = (r->offset + (gpa - r->gpa) + len - 1) >> GMEM_PAGE_SHIFT;
	/*
	 * Bytes first, then the look at the code bit; a translator sets the bit first and then
	 * reads the bytes. With a full fence on both sides at least one of the two sees the other
	 * (pairs with set_bit()).
	 */
	atomic_thread_fence(memory_order_seq_cst);
	for (uint64_t i = first; i <= last; i++) {
		if (dirty_on)
			set_bit(gm->dirty, i);
		if (test_bit(gm->code, i) && gm->code_fn)
			gm->code_fn(gm->code_ctx, r->gpa + ((i << GMEM_PAGE_SHIFT) - r->offset));
	}
}

void gmem_set_code_hook(struct gmem *gm, gmem_code_fn fn, void *ctx)
{
	gm->code_fn = fn;
	gm->code_ctx = ctx;
}

/* The word and bit that say whether the page is code; false: neither RAM nor a window. */
static bool code_bit(const struct gmem *gm, gpa_t gpa, _Atomic uint64_t **bits, uint64_t *ret)
{
	uint64_t left;
	const struct gmem_region *w;

	*bits = gm->code;
	if (page_index(gm, gpa, ret))
		return true;
	w = find_window(gm, gpa, &left);
	if (!w)
		return false;
	*bits = gm->window_code[w - gm->windows];
	*ret = (gpa - w->gpa) >> GMEM_PAGE_SHIFT;
	return true;
}

void gmem_mark_code(struct gmem *gm, gpa_t page)
{
	_Atomic uint64_t *bits;
	uint64_t i;

	if (code_bit(gm, page, &bits, &i))
		set_bit(bits, i);
}

void gmem_clear_code(struct gmem *gm, gpa_t page)
{
	_Atomic uint64_t *bits;
	uint64_t i;

	if (code_bit(gm, page, &bits, &i))
		atomic_fetch_and(&bits[i / WORD_BITS], ~(1ull << (i % WORD_BITS)));
}

bool gmem_is_code(const struct gmem *gm, gpa_t gpa)
{
	_Atomic uint64_t *bits;
	uint64_t i;

	return code_bit(gm, gpa, &bits, &i) && test_bit(bits, i);
}

void gmem_dirty_enable(struct gmem *gm, bool on)
{
	atomic_store(&gm->dirty_on, on);
}

void gmem_mark_dirty(struct gmem *gm, gpa_t page)
{
	uint64_t i;

	if (page_index(gm, page, &i))
		set_bit(gm->dirty, i);
}

void gmem_dirty_fetch(struct gmem *gm, uint64_t *bits, size_t words)
{
	for (size_t i = 0; i < words; i++)
		bits[i] = i < gm->words ? atomic_exchange(&gm->dirty[i], 0) : 0;
}

int gmem_discard(struct gmem *gm, gpa_t gpa, uint64_t len)
{
	uint64_t left, end;
	const struct gmem_region *r;
	gpa_t start;
	int ret;

	if (add_overflows(gpa, len, &end) || add_overflows(gpa, GMEM_PAGE_SIZE - 1, &start))
		return -EFAULT;
	start = ALIGN_DOWN(start, GMEM_PAGE_SIZE);
	end = ALIGN_DOWN(end, GMEM_PAGE_SIZE);
	if (start >= end)
		return 0;
	r = find(gm, start, &left);
	if (!r || end - start > left)
		return -EFAULT;
	ret = os_memobj_punch(gm->obj, r->offset + (start - r->gpa), end - start);
	if (ret == 0)
		gmem_wrote(gm, start, end - start);
	return ret;
}
