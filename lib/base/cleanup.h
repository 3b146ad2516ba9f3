/* SPDX-License-Identifier: MIT */
/*
 * Scope-bound ownership. A variable marked with one of these attributes is released when it goes
 * out of scope; take_ptr()/take_fd() hand it over instead.
 */
#ifndef WSLX_BASE_CLEANUP_H
#define WSLX_BASE_CLEANUP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <errno.h>

#define cleanup(fn) __attribute__((cleanup(fn)))

/* Defines fn##p, the cleanup function of "type *" variables released by fn(). */
#define DEFINE_CLEANUP(type, fn)                                                                   \
	static inline void fn##p(type **p)                                                         \
	{                                                                                          \
		if (*p)                                                                            \
			fn(*p);                                                                    \
	}

static inline void cleanup_freep(void *p)
{
	free(*(void **)p);
}

/* close(2) that keeps errno: used on failure paths whose errno is still to be reported. */
static inline void cleanup_closep(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;
		close(*fd);
		errno = saved;
	}
}

static inline void cleanup_fclosep(FILE **f)
{
	if (*f)
		fclose(*f);
}

#define cleanup_free   cleanup(cleanup_freep)
#define cleanup_close  cleanup(cleanup_closep)
#define cleanup_fclose cleanup(cleanup_fclosep)

#define take_ptr(p)                                                                                \
	({                                                                                         \
		__typeof__(p) take_tmp_ = (p);                                                     \
		(p) = NULL;                                                                        \
		take_tmp_;                                                                         \
	})

static inline int take_fd_(int *fd)
{
	int r = *fd;

	*fd = -EBADF;
	return r;
}
#define take_fd(fd) take_fd_(&(fd))

#endif
