/* SPDX-License-Identifier: MIT */
/* Scattered buffers: vectors of {base, length}. Portable. */
#ifndef WSLX_BASE_IOV_H
#define WSLX_BASE_IOV_H

#include <stddef.h>
#include <sys/uio.h>

/* iovec cursor: drops n bytes from the front of (*iov, *cnt), changing the entries in place. */
void iov_advance(struct iovec **iov, unsigned *cnt, size_t n);
size_t iov_size(const struct iovec *iov, unsigned cnt);
/* Copies up to len bytes at offset off of the vector from/to buf; returns the count copied. */
size_t iov_to_buf(const struct iovec *iov, unsigned cnt, size_t off, void *buf, size_t len);
size_t iov_from_buf(const struct iovec *iov, unsigned cnt, size_t off, const void *buf, size_t len);

#endif
