/* SPDX-License-Identifier: MIT */
/*
 * A range of addresses into which files are mapped, shared, and taken out again, while other threads use it: all of it is memory
 * at any time. Where no file is, or where its file has become shorter, it reads as zero, and what is written is lost with the next
 * change. Such a place costs no signal and no error: a thread that meets the end of a file goes on with zeroes.
 *
 * It is divided into slots, each of which has a part of one file or nothing. So there are never more than two mappings a slot,
 * however they come and go.
 */
#ifndef WSLX_OS_WINDOW_H
#define WSLX_OS_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct os_notifier;
struct os_window;

#define OS_WINDOW_SLOT (2ull << 20)
#define OS_WINDOW_MAX  (16ull << 30)

enum { OS_WINDOW_COUNT = 4 }; /* in a process */

/* len: whole slots. Aligned to a slot. -ENOSPC: there are too many. */
int os_window_new(struct os_window **ret, uint64_t len);
void os_window_free(struct os_window *w);
void *os_window_base(const struct os_window *w);
uint64_t os_window_len(const struct os_window *w);

/*
 * [off, off + len) becomes [at, at + len) of the file, whatever it was before. fd is borrowed. -EINVAL: outside, not whole slots, or
 * nothing that can be mapped; -EACCES: a regular file is needed, opened for this. Nothing has changed then. Any thread.
 */
int os_window_map(
	struct os_window *w, uint64_t off, uint64_t len, int fd, uint64_t at, bool writable);
int os_window_unmap(struct os_window *w, uint64_t off, uint64_t len);
void os_window_clear(struct os_window *w);
/* How many slots have a file. */
unsigned os_window_mapped(struct os_window *w);

/*
 * Signalled when somebody met the end of a file (borrowed). From then on os_window_mend() is to be called from time to time, until it
 * returns false: it puts files that became longer again back into their places.
 */
void os_window_notify(struct os_window *w, struct os_notifier *n);
bool os_window_mend(struct os_window *w);
/*
 * Looks for files that are shorter than when they were mapped, or, all, than what is mapped of them: for those who reach the window by way
 * of a system call and are told no more than that it failed. True: there was one.
 */
bool os_window_cut(struct os_window *w, bool all);

#endif
