/* SPDX-License-Identifier: MIT */
/*
 * For tests of images: archives are made, imported in the sandboxed child, and the disk is checked by e2fsck and compared
 * with the archive, name by name and byte by byte. What is wrong is printed as TAP comments and counted.
 */
#ifndef WSLX_IMAGE_TEST_RIG_H
#define WSLX_IMAGE_TEST_RIG_H

#include <archive.h>
#include <archive_entry.h>
#include <ext2fs/ext2fs.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/base/err.h"
#include "lib/image/image.h"

/* A folder for the whole program's tests, removed at its end; the archive and the disk in it. */
extern char rig_path[], rig_tar[64], rig_disk[64];
void rig_set_up(void);

/* An archive of these entries at rig_tar. Failing to make one aborts. */
void rig_start(void);
void rig_finish(void);
struct archive_entry *rig_entry(const char *path, unsigned mode);
void rig_put(struct archive_entry *n, const void *data, size_t len); /* takes n over */
void rig_file(const char *path, const void *data, size_t len);
void rig_folder(const char *path);
void rig_symlink(const char *path, const char *target);
void rig_hardlink(const char *path, const char *target);
void rig_node(const char *path, unsigned type, unsigned major, unsigned minor);
void rig_root(void); /* what makes it a root file system */
uint64_t rig_rnd(void);

/* Into rig_disk; the result is image_import()'s, its error in rig_err. */
extern struct err rig_err;
int rig_import_fd(int in, uint64_t size);
int rig_import_size(uint64_t size);
int rig_import(void);

/* From rig_disk to a file; likewise. */
int rig_export(enum image_format format, enum image_compression compression, const char *path);

int rig_fsck(void); /* 0: e2fsck finds nothing wrong */
/* How much of the disk differs from the archive, which has every name once. more: names the disk has beyond those. */
int rig_compare(const char *path, size_t more);

/* The disk, opened; by path, 0: there is no such file. */
extern ext2_filsys rig_fs;
bool rig_open(void);
ext2_ino_t rig_lookup(const char *path, struct ext2_inode_large *inode);
size_t rig_read(ext2_ino_t ino, void *buf, size_t len);

#endif
