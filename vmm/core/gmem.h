/* SPDX-License-Identifier: MIT */
/*
 * Guest memory: which guest-physical addresses (GPAs) are RAM, and the only way to reach it from
 * devices.
 *
 * Everything a guest says about an address goes through here; nothing else turns a GPA into a host
 * pointer. RAM is one memory object (memfd), mapped once, shared. Regions are added before the VM
 * runs and stay. Reads and writes are plain memory copies: the guest may change the bytes at any
 * time, so copy first, then validate, then use.
 *
 * Writers say so after the bytes are in place (gmem_wrote(), or gmem_write(), which does): this
 * feeds dirty tracking and drops translations of code in those pages. All functions are thread-safe
 * once regions are added.
 */
#ifndef WSLX_VMM_CORE_GMEM_H
#define WSLX_VMM_CORE_GMEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "lib/base/attr.h"

typedef uint64_t gpa_t;

enum { GMEM_PAGE_SHIFT = 12, GMEM_PAGE_SIZE = 4096 };

struct gmem;
struct os_memobj;

struct gmem_region {
	gpa_t gpa;
	uint64_t size;
	uint8_t *hva;	 /* mapped for the life of the gmem */
	uint64_t offset; /* in the memory object */
};

/* Called with the page's GPA after a device wrote into a page marked by gmem_mark_code(); any
 * thread. */
typedef void (*gmem_code_fn)(void *ctx, gpa_t page);

/* ram_size bytes of RAM below and above the 32-bit hole (see GMEM_HOLE_*). ram_size: multiple of 2
 * MiB, <= 1 TiB. */
int gmem_new(struct gmem **ret, uint64_t ram_size);
void gmem_free(struct gmem *gm);

/* RAM never lies in [GMEM_HOLE_START, 4 GiB): PCI windows, IOAPIC, local APIC. */
#define GMEM_HOLE_START 0xc0000000ull
#define GMEM_HOLE_END	0x100000000ull

size_t gmem_regions(const struct gmem *gm, const struct gmem_region **ret);

/*
 * A window (borrowed) at a GPA outside RAM: memory for the guest and for whoever asks below, but no part of the memory object, of dirty
 * tracking or of a saved machine. Before the VM runs. -EEXIST: there is something; -ENOSPC.
 */
enum { GMEM_WINDOWS = 4 };
struct os_window;
int gmem_add_window(struct gmem *gm, gpa_t gpa, struct os_window *w);
size_t gmem_windows(const struct gmem *gm, const struct gmem_region **ret);
/* os_window_cut() of all of them. */
bool gmem_cut_windows(struct gmem *gm, bool all);
/* Does [gpa, gpa+len) touch a window? */
bool gmem_in_window(const struct gmem *gm, gpa_t gpa, uint64_t len);
struct os_memobj *gmem_object(const struct gmem *gm);
uint64_t gmem_ram_size(const struct gmem *gm);
/* Where RAM ends, addresses in the hole counted. */
gpa_t gmem_ram_end(const struct gmem *gm);

/* Host address of [gpa, gpa+len) when it lies in one region, else NULL. Valid for the life of gm.
 */
void *gmem_ptr(const struct gmem *gm, gpa_t gpa, uint64_t len);

/* Copies; -EFAULT when any byte is outside RAM (nothing is copied then). */
int gmem_read(const struct gmem *gm, gpa_t gpa, void *buf, size_t len) MUST_CHECK;
int gmem_write(struct gmem *gm, gpa_t gpa, const void *buf, size_t len) MUST_CHECK;

/*
 * For large copies before the VM runs, when RAM is still all zero: as gmem_write(), but pages that would stay zero are
 * not touched, and the others not mapped.
 */
int gmem_fill(struct gmem *gm, gpa_t gpa, const void *buf, size_t len) MUST_CHECK;

/* Appends the pieces of [gpa, gpa+len) to iov[*n..max); -EFAULT outside RAM, -E2BIG when iov is
 * full. */
int gmem_iov(const struct gmem *gm, gpa_t gpa, uint64_t len, struct iovec *iov, unsigned *n,
	unsigned max) MUST_CHECK;

/* Says that [gpa, gpa+len) was written from outside the CPU back end. Addresses outside RAM are
 * ignored. */
void gmem_wrote(struct gmem *gm, gpa_t gpa, uint64_t len);

/* Pages with translated code (soft CPU): one bit a page; the hook runs when a device writes to such
 * a page. */
void gmem_set_code_hook(struct gmem *gm, gmem_code_fn fn, void *ctx);
void gmem_mark_code(struct gmem *gm, gpa_t page);
void gmem_clear_code(struct gmem *gm, gpa_t page);
bool gmem_is_code(const struct gmem *gm, gpa_t gpa);

/* Dirty tracking of writes that come through here or through gmem_mark_dirty(); one bit a page, RAM
 * pages in order. */
void gmem_dirty_enable(struct gmem *gm, bool on);
void gmem_mark_dirty(struct gmem *gm, gpa_t page);
/* Copies the bitmap (bit i = i-th page of the memory object) to bits[0..words) and clears it. */
void gmem_dirty_fetch(struct gmem *gm, uint64_t *bits, size_t words);

/* Gives whole pages in [gpa, gpa+len) back to the host (balloon, free page reporting); they read as
 * zero. */
int gmem_discard(struct gmem *gm, gpa_t gpa, uint64_t len);

#endif
