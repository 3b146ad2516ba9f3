/* SPDX-License-Identifier: MIT */
/*
 * Root file systems: an archive in, a disk out. The archive is hostile: it is read in a child process that can do
 * nothing but read it and write the disk (lib/sandbox).
 */
#ifndef WSLX_IMAGE_IMAGE_H
#define WSLX_IMAGE_IMAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "lib/base/err.h"

struct image_progress {
	uint64_t read;	/* bytes of the archive, compressed */
	uint64_t total; /* 0: not known (a pipe) */
	uint64_t files;
};

struct image_import_opts {
	int in_fd; /* borrowed: file or pipe with a tar archive, any compression libarchive reads by itself */
	int out_fd;	   /* borrowed: empty regular file open for reading and writing */
	uint64_t size;	   /* of the disk, bytes; sparse */
	const char *label; /* of the file system, at most 16 bytes; NULL: none */
	/* Called now and then in image_import(). May be NULL. */
	void (*progress)(void *ctx, const struct image_progress *p);
	void *ctx;
};

/*
 * Blocks until the disk is complete and on stable storage. On failure out_fd holds rubbish, which the caller removes.
 * -EINVAL: refused archive; -ENOSPC: host or disk full; -ECHILD: the child died.
 */
int image_import(const struct image_import_opts *o, struct err *e);

/* The same for an event loop: a child process with a descriptor that becomes readable when there is news. */
struct image_job;
int image_job_start(struct image_job **ret, const struct image_import_opts *o, struct err *e);
int image_job_fd(const struct image_job *j); /* non-blocking, EPOLLIN */
pid_t image_job_pid(const struct image_job *j);
/* Reads the news: 0, more to come, *p is up to date; 1: finished; negative: failed, see e. */
int image_job_read(struct image_job *j, struct image_progress *p, struct err *e);
/* Kills the child if it still runs, and reaps it. */
void image_job_free(struct image_job *j);

/*
 * The work itself, in this process and without sandbox: for the child and for tests. uuid, hash_seed: 16 bytes. The
 * caller's LC_CTYPE must be UTF-8 for names that are not ASCII.
 */
struct image_write_opts {
	const struct image_import_opts *io;
	const uint8_t *uuid, *hash_seed;
	int64_t now;
};
int image_write(const struct image_write_opts *o, struct err *e);

/* What a disk file holds, from its first blocks; for clear errors before a virtual machine chokes on it. */
enum image_kind {
	IMAGE_EXT4,	 /* also ext2 and ext3 */
	IMAGE_EMPTY,	 /* nothing but zeroes at the start */
	IMAGE_TRUNCATED, /* ext4, but the file is shorter than the file system */
	IMAGE_CORRUPT,	 /* an ext4 superblock that cannot be */
	IMAGE_FOREIGN,	 /* something else: see image_info.what */
	IMAGE_UNKNOWN,
};

struct image_info {
	enum image_kind kind;
	const char *what; /* "an xfs file system", "a VHDX container", ...; static; never NULL */
	uint64_t size;	  /* of the file system, bytes */
	uint8_t uuid[16];
	bool needs_recovery; /* journal to be replayed: it was not unmounted */
	bool has_errors;     /* the kernel noted errors: e2fsck is due */
};

/* Reads; changes neither the file nor its position. -EIO and the like when reading fails. */
int image_probe(int fd, struct image_info *ret);
/* 0 when the disk can be used; otherwise -EINVAL and one clear line. name: the file, for the message. */
int image_check(int fd, const char *name, struct err *e);

#endif
