/* SPDX-License-Identifier: MIT */
#include "lib/base/iov.h"

#include <string.h>
#include "lib/base/attr.h"

void iov_advance(struct iovec **iov, unsigned *cnt, size_t n)
{
	while (*cnt && n >= (*iov)->iov_len) {
		n -= (*iov)->iov_len;
		(*iov)++;
		(*cnt)--;
	}
	if (*cnt) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + n;
		(*iov)->iov_len -= n;
	}
}

size_t iov_size(const struct iovec *iov, unsigned cnt)
{
	size_t n = 0;

	while (cnt--)
		n += (iov++)->iov_len;
	return n;
}

size_t iov_to_buf(const struct iovec *iov, unsigned cnt, size_t off, void *buf, size_t len)
{
	size_t done = 0;

	for (; cnt && done < len; iov++, cnt--) {
		if (off >= iov->iov_len) {
			off -= iov->iov_len;
			continue;
		}
		size_t n = MIN(iov->iov_len - off, len - done);
		memcpy((char *)buf + done, (const char *)iov->iov_base + off, n);
		done += n;
		off = 0;
	}
	return done;
}

size_t iov_from_buf(const struct iovec *iov, unsigned cnt, size_t off, const void *buf, size_t len)
{
	size_t done = 0;

	for (; cnt && done < len; iov++, cnt--) {
		if (off >= iov->iov_len) {
			off -= iov->iov_len;
			continue;
		}
		size_t n = MIN(iov->iov_len - off, len - done);
		memcpy((char *)iov->iov_base + off, (const char *)buf + done, n);
		done += n;
		off = 0;
	}
	return done;
}
