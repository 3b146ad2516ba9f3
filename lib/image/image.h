/* SPDX-License-Identifier: MIT */
/*
 * Root file systems: an archive in, a disk out; a disk in, an archive out. Both are hostile: they are read in a child
 * process that can do nothing but read the one and write the other (lib/sandbox).
 */
#ifndef WSLX_IMAGE_IMAGE_H
#define WSLX_IMAGE_IMAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "lib/base/err.h"

struct image_progress {
	uint64_t read;	/* bytes, of the archive as it is, or of what the disk holds */
	uint64_t total; /* 0: not known (a pipe) */
	uint64_t files;
	uint64_t skipped; /* sockets, which no archive can hold */
};

/* What a root file system says of itself; plain text of one line, "" where it says nothing. */
struct image_facts {
	char flavor[64], version[64]; /* os-release(5): ID, VERSION_ID */
	char name[65];		      /* /etc/wsl-distribution.conf: oobe.defaultName */
	uint32_t uid;		      /* oobe.defaultUid, if has_uid */
	bool has_uid, oobe;	      /* oobe: there is an oobe.command */
};

struct image_import_opts {
	/*
	 * Borrowed: a tar archive, any compression libarchive reads by itself; or an archive of container image layers
	 * (an OCI image layout, or what "docker save" writes).
	 */
	int in_fd;
	int out_fd; /* borrowed: empty regular file open for reading and writing */
	/* Borrowed: the same again, for layers that arrive in a pipe; negative: they are refused there. */
	int spool_fd;
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

enum image_format { IMAGE_TAR, IMAGE_RAW, IMAGE_VHDX };
enum image_compression { IMAGE_PLAIN, IMAGE_GZIP, IMAGE_XZ, IMAGE_ZSTD };

struct image_export_opts {
	int in_fd; /* borrowed: a disk with an ext4 file system that nobody writes to meanwhile */
	int out_fd; /* borrowed: where the archive goes: file, pipe, device; for IMAGE_RAW an empty regular file */
	enum image_format format;
	bool vhdx; /* in_fd is a VHDX file, open for writing: its log is replayed */
	enum image_compression compression; /* of IMAGE_TAR */
	unsigned threads;		    /* to compress with, where that is possible */
	void (*progress)(void *ctx, const struct image_progress *p);
	void *ctx;
};

/*
 * Writes what is on the disk as an archive, or a copy of the disk. Blocks until it is complete and, in a file, on stable
 * storage. -EUCLEAN: the disk is damaged or was not cleanly unmounted; -EPIPE, -ENOSPC and the like: it cannot be
 * written; -EOPNOTSUPP: this format cannot be, or the disk has features that cannot be read; -ECHILD.
 */
int image_export(const struct image_export_opts *o, struct err *e);

struct image_copy_opts {
	int in_fd;  /* borrowed: a disk file */
	int out_fd; /* borrowed: empty regular file; negative: nothing is copied */
	/* in_fd is a VHDX file; the copy is a raw disk, and must be one that can be used. Where nothing is copied, that is
	 * checked of in_fd, open for writing: its log is replayed. */
	bool vhdx;
	/* Look into the copy (or in_fd) for a root file system: -EINVAL if there is none; image_job_facts() tells. */
	bool examine;
};

/*
 * The same for an event loop: a child process with a descriptor that becomes readable when there is news. The options
 * need to live only until the call returns, the descriptors are the child's from then on.
 */
struct image_job;
int image_job_start(struct image_job **ret, const struct image_import_opts *o, struct err *e);
int image_export_start(struct image_job **ret, const struct image_export_opts *o, struct err *e);
int image_copy_start(struct image_job **ret, const struct image_copy_opts *o, struct err *e);
/* An OCI image layout that is a folder becomes a tar archive in the empty file out_fd. */
int image_pack_start(struct image_job **ret, int dir_fd, int out_fd, struct err *e);
/* What the texts of a root file system's files say of it (facts.h); NULL and 0: there is none of it. */
struct image_texts {
	const char *os_release;
	size_t os_release_len;
	const char *distribution;
	size_t distribution_len;
};
int image_facts_start(struct image_job **ret, const struct image_texts *t, struct err *e);
int image_job_fd(const struct image_job *j); /* non-blocking, EPOLLIN */
pid_t image_job_pid(const struct image_job *j);
/* Reads the news: 0, more to come, *p is up to date; 1: finished; negative: failed, see e. */
int image_job_read(struct image_job *j, struct image_progress *p, struct err *e);
/* After an import or an examination has finished; borrowed. */
const struct image_facts *image_job_facts(const struct image_job *j);
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
	struct image_facts *facts; /* filled in; may be NULL */
};
int image_write(const struct image_write_opts *o, struct err *e);
/* The same of an export to IMAGE_TAR. */
int image_export_here(const struct image_export_opts *o, struct err *e);

/* What a disk file holds, from its first blocks; for clear errors before a virtual machine chokes on it. */
enum image_kind {
	IMAGE_EXT4, /* also ext2 and ext3 */
	IMAGE_XFS,
	IMAGE_BTRFS,
	IMAGE_EMPTY,	 /* nothing but zeroes at the start */
	IMAGE_TRUNCATED, /* one of these, but the file is shorter than the file system */
	IMAGE_CORRUPT,	 /* a superblock that cannot be */
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
	bool archive;	     /* a tar archive, or compressed */
};

/* Reads; changes neither the file nor its position. -EIO and the like when reading fails. */
int image_probe(int fd, struct image_info *ret);
/* "ext4", "xfs", "btrfs": what the kernel mounts it as; NULL: nothing that a distribution can have. */
const char *image_fs(enum image_kind kind);
/* 0 when the disk can be used; otherwise -EINVAL and one clear line. name: the file, for the message. */
int image_check(int fd, const char *name, struct err *e);
/* The same, and that it holds this file system ("ext4"...). */
int image_check_fs(int fd, const char *name, const char *fs, struct err *e);

#endif
