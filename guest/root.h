/* SPDX-License-Identifier: MIT */
/*
 * Files below a distribution's root, reached so that nothing it holds leads elsewhere: symbolic links are followed as
 * chroot(2) would, those of /proc not at all, and a file is only ever replaced as a whole by rename(2), so that a link in
 * its place is replaced and not written through. root is a descriptor of the folder.
 */
#ifndef WSLX_GUEST_ROOT_H
#define WSLX_GUEST_ROOT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* As openat(2); path is below root, without a leading '/'. A descriptor, or a negative errno. */
int root_open(int root, const char *path, int flags);
bool root_exists(int root, const char *path);

/* A whole regular file, as io_read_file(); -ENOENT, -EINVAL: not a regular file, -EFBIG. */
int root_read(int root, const char *path, size_t max, char **ret, size_t *ret_len);

/*
 * Replaces dir/name, dir made when missing. 1: it held this already and has not been touched; 0: it does now; a negative
 * errno: it is as it was.
 */
int root_replace(
	int root, const char *dir, const char *name, const void *data, size_t len, mode_t mode);
/* The same for a symbolic link. */
int root_replace_link(int root, const char *dir, const char *name, const char *target);

#endif
