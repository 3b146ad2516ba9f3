/* SPDX-License-Identifier: MIT */
/*
 * See window.h. The end of a file is met by SIGBUS: the handler puts zeroes from there to the end of the slot and lets the thread go
 * on. It takes no lock, since whoever holds it may be the one that is interrupted; if the slot gets another file at the same moment,
 * that one may lose its end until os_window_mend() finds it.
 */
#include "lib/os/window.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <fcntl.h>
#include "lib/base/attr.h"
#include "lib/base/checked.h"
#include "lib/base/cleanup.h"
#include "lib/os/notifier.h"
#include "lib/os/thread.h"

enum { PAGE = 4096 };
#define WHOLE ((uint32_t)(OS_WINDOW_SLOT / PAGE))

struct slot {
	int fd; /* -1: nothing */
	bool writable;
	uint64_t at;	      /* in the file */
	uint32_t end;	      /* the first page behind the file, when it was mapped */
	_Atomic uint32_t cut; /* the page where zeroes begin; WHOLE: none */
};

struct os_window {
	uint8_t *base;
	uint64_t len;
	struct os_mutex lock; /* of the slots; the handler only changes cut */
	_Atomic(struct os_notifier *) notify;
	unsigned mapped;
	struct slot slot[];
};

static _Atomic(struct os_window *) windows[OS_WINDOW_COUNT];

static int zeroes(uint8_t *p, uint64_t len)
{
	void *r = mmap(p, len, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

	return r == MAP_FAILED ? -errno : 0;
}

/* --- the end of a file --- */

static int cut_slot(struct os_window *w, uint64_t off)
{
	struct slot *s = &w->slot[off / OS_WINDOW_SLOT];
	uint32_t page = (uint32_t)(off % OS_WINDOW_SLOT / PAGE), old = atomic_load(&s->cut);
	uint64_t start = ALIGN_DOWN(off, (uint64_t)PAGE);
	int r = zeroes(w->base + start, ALIGN_UP(start + 1, OS_WINDOW_SLOT) - start);

	while (page < old && !atomic_compare_exchange_weak(&s->cut, &old, page))
		;
	return r;
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
	int saved = errno;

	for (unsigned i = 0; i < OS_WINDOW_COUNT; i++) {
		struct os_window *w = atomic_load(&windows[i]);
		struct os_notifier *n;

		if (!w || info->si_code <= 0 ||
			(uintptr_t)info->si_addr - (uintptr_t)w->base >= w->len)
			continue;
		if (cut_slot(w, (uintptr_t)info->si_addr - (uintptr_t)w->base) < 0)
			break;
		n = atomic_load(&w->notify);
		if (n)
			os_notifier_signal(n);
		errno = saved;
		return;
	}
	/* Somebody else's: the instruction faults again, and that is the end. */
	signal(signo, SIG_DFL);
	errno = saved;
}

static void catch_faults(void)
{
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_RESTART};

	sigemptyset(&sa.sa_mask);
	sigaction(SIGBUS, &sa, NULL);
	/* A write to what is mapped for reading. */
	sigaction(SIGSEGV, &sa, NULL);
}

/* The first page of the slot that its file does not reach. */
static uint32_t end_of(const struct slot *s)
{
	struct stat st;
	uint64_t n;

	if (fstat(s->fd, &st) < 0 || (uint64_t)st.st_size <= s->at)
		return 0;
	n = ((uint64_t)st.st_size - s->at + PAGE - 1) / PAGE;
	return (uint32_t)MIN(n, (uint64_t)WHOLE);
}

static int put(struct os_window *w, uint64_t i)
{
	struct slot *s = &w->slot[i];
	void *p;

	/* Before the mapping is there: whoever finds its end short is not to be forgotten. */
	atomic_store(&s->cut, WHOLE);
	s->end = end_of(s);
	p = mmap(w->base + i * OS_WINDOW_SLOT, OS_WINDOW_SLOT,
		PROT_READ | (s->writable ? PROT_WRITE : 0), MAP_SHARED | MAP_NORESERVE | MAP_FIXED,
		s->fd, (off_t)s->at);
	return p == MAP_FAILED ? -errno : 0;
}

bool os_window_mend(struct os_window *w)
{
	OS_GUARD(&w->lock);
	bool left = false;

	for (uint64_t i = 0; i < w->len / OS_WINDOW_SLOT; i++) {
		struct slot *s = &w->slot[i];
		uint32_t cut = atomic_load(&s->cut);

		if (s->fd < 0 || cut == WHOLE)
			continue;
		if (end_of(s) > cut)
			put(w, i);
		left |= atomic_load(&s->cut) != WHOLE || end_of(s) < WHOLE;
	}
	return left;
}

bool os_window_cut(struct os_window *w, bool all)
{
	OS_GUARD(&w->lock);
	bool any = false;

	for (uint64_t i = 0; i < w->len / OS_WINDOW_SLOT; i++) {
		struct slot *s = &w->slot[i];
		uint32_t end = s->fd < 0 ? WHOLE : end_of(s);

		if (end >= atomic_load(&s->cut) || (!all && end >= s->end))
			continue;
		cut_slot(w, i * OS_WINDOW_SLOT + (uint64_t)end * PAGE);
		any = true;
	}
	if (any && atomic_load(&w->notify))
		os_notifier_signal(atomic_load(&w->notify));
	return any;
}

/* --- mapping --- */

static bool whole_slots(const struct os_window *w, uint64_t off, uint64_t len)
{
	return len && off % OS_WINDOW_SLOT == 0 && len % OS_WINDOW_SLOT == 0 &&
	       range_ok(off, len, w->len);
}

static void empty(struct os_window *w, uint64_t i)
{
	struct slot *s = &w->slot[i];

	if (s->fd < 0)
		return;
	close(s->fd);
	s->fd = -1;
	atomic_store(&s->cut, WHOLE);
	w->mapped--;
}

static int check_file(int fd, uint64_t at, uint64_t len, bool writable)
{
	struct stat st;
	uint64_t end;
	int flags = fcntl(fd, F_GETFL);

	if (at % PAGE || add_overflows(at, len, &end) || end > INT64_MAX)
		return -EINVAL;
	if (flags < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || flags & O_PATH)
		return -EACCES;
	flags &= O_ACCMODE;
	return flags == O_WRONLY || (writable && flags != O_RDWR) ? -EACCES : 0;
}

int os_window_map(
	struct os_window *w, uint64_t off, uint64_t len, int fd, uint64_t at, bool writable)
{
	int r = whole_slots(w, off, len) ? check_file(fd, at, len, writable) : -EINVAL;

	if (r < 0)
		return r;
	OS_GUARD(&w->lock);
	for (uint64_t i = off / OS_WINDOW_SLOT; r == 0 && i < (off + len) / OS_WINDOW_SLOT; i++) {
		struct slot *s = &w->slot[i];
		int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);

		if (own < 0) {
			r = -errno;
			break;
		}
		empty(w, i);
		s->fd = own;
		s->at = at + (i * OS_WINDOW_SLOT - off);
		s->writable = writable;
		w->mapped++;
		r = put(w, i);
		if (r < 0) {
			empty(w, i);
			zeroes(w->base + i * OS_WINDOW_SLOT, OS_WINDOW_SLOT);
		}
	}
	return r;
}

int os_window_unmap(struct os_window *w, uint64_t off, uint64_t len)
{
	int r;

	if (!whole_slots(w, off, len))
		return -EINVAL;
	OS_GUARD(&w->lock);
	r = zeroes(w->base + off, len);
	for (uint64_t i = off / OS_WINDOW_SLOT; r == 0 && i < (off + len) / OS_WINDOW_SLOT; i++)
		empty(w, i);
	return r;
}

void os_window_clear(struct os_window *w)
{
	os_window_unmap(w, 0, w->len);
}

unsigned os_window_mapped(struct os_window *w)
{
	OS_GUARD(&w->lock);

	return w->mapped;
}

/* --- life --- */

void os_window_notify(struct os_window *w, struct os_notifier *n)
{
	atomic_store(&w->notify, n);
}

void *os_window_base(const struct os_window *w)
{
	return w->base;
}

uint64_t os_window_len(const struct os_window *w)
{
	return w->len;
}

static int reserve(struct os_window *w)
{
	uint64_t all = w->len + OS_WINDOW_SLOT;
	uint8_t *p = mmap(NULL, all, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t head;

	if (p == MAP_FAILED)
		return -errno;
	w->base = (uint8_t *)ALIGN_UP((uintptr_t)p, (uintptr_t)OS_WINDOW_SLOT);
	head = (uint64_t)(w->base - p);
	if (head)
		munmap(p, head);
	if (all - head > w->len)
		munmap(w->base + w->len, all - head - w->len);
	/* A crash of ours is not to write other people's files into a core file. */
	madvise(w->base, w->len, MADV_DONTDUMP);
	return 0;
}

static int enlist(struct os_window *w)
{
	for (unsigned i = 0; i < OS_WINDOW_COUNT; i++) {
		struct os_window *none = NULL;

		if (atomic_compare_exchange_strong(&windows[i], &none, w))
			return 0;
	}
	return -ENOSPC;
}

int os_window_new(struct os_window **ret, uint64_t len)
{
	uint64_t n = len / OS_WINDOW_SLOT;
	struct os_window *w;
	int r;

	if (!len || len % OS_WINDOW_SLOT || len > OS_WINDOW_MAX)
		return -EINVAL;
	w = calloc(1, sizeof(*w) + n * sizeof(w->slot[0]));
	if (!w)
		return -ENOMEM;
	w->len = len;
	os_mutex_init(&w->lock);
	for (uint64_t i = 0; i < n; i++) {
		w->slot[i].fd = -1;
		atomic_init(&w->slot[i].cut, WHOLE);
	}
	r = reserve(w);
	if (r == 0)
		r = enlist(w);
	if (r < 0) {
		os_window_free(w);
		return r;
	}
	catch_faults();
	*ret = w;
	return 0;
}

void os_window_free(struct os_window *w)
{
	if (!w)
		return;
	for (unsigned i = 0; i < OS_WINDOW_COUNT; i++) {
		struct os_window *mine = w;

		atomic_compare_exchange_strong(&windows[i], &mine, NULL);
	}
	for (uint64_t i = 0; i < w->len / OS_WINDOW_SLOT; i++)
		empty(w, i);
	if (w->base)
		munmap(w->base, w->len);
	os_mutex_done(&w->lock);
	free(w);
}
