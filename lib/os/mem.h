/* SPDX-License-Identifier: MIT */
/* Memory and mappings, as the VMM needs them of an operating system. Sizes and offsets are whole
 * host pages. */
#ifndef WSLX_OS_MEM_H
#define WSLX_OS_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/base/attr.h"

enum os_prot { OS_PROT_NONE = 0, OS_PROT_R = 1, OS_PROT_W = 2, OS_PROT_X = 4 };

/* A named, anonymous-backed memory object that can be mapped several times and handed to another
 * process. */
struct os_memobj;

/* Sparse: pages take memory when first touched. -ENOMEM, -EMFILE. */
int os_memobj_new(struct os_memobj **ret, const char *name, uint64_t size);
/* Wraps a descriptor of the host (a snapshot's memory file); takes it over. */
int os_memobj_from_fd(struct os_memobj **ret, int fd, uint64_t size);
void os_memobj_free(struct os_memobj *o);
int os_memobj_fd(const struct os_memobj *o);

/* Shared mapping of [off, off+len). */
int os_memobj_map(struct os_memobj *o, uint64_t off, size_t len, unsigned prot, void **ret);
/* Copies into the object without a mapping: cheaper than touching each page of one. */
int os_memobj_write(struct os_memobj *o, uint64_t off, const void *buf, size_t len);
/* Gives the pages of [off, off+len) back to the host; they read as zero afterwards. */
int os_memobj_punch(struct os_memobj *o, uint64_t off, uint64_t len);
/* How much of the host's memory it takes, bytes; swapped out pages may not count. */
uint64_t os_memobj_used(const struct os_memobj *o);

/* Anonymous private memory, zeroed. */
int os_mem_map(size_t len, unsigned prot, void **ret);
/*
 * Asks for large pages behind a mapping of either kind; a host may not give them (Linux: transparent_hugepage/enabled has to be "madvise"
 * or "always" for anonymous memory, shmem_enabled "advise" or "always" for an object's).
 */
void os_mem_large(void *p, size_t len);
int os_mem_protect(void *p, size_t len, unsigned prot);
void os_mem_unmap(void *p, size_t len);
size_t os_page_size(void);

#endif
