/* SPDX-License-Identifier: MIT */
/*
 * What a root file system says of itself: os-release(5) and WSL's /etc/wsl-distribution.conf; and whether it is one.
 */
#ifndef WSLX_IMAGE_FACTS_H
#define WSLX_IMAGE_FACTS_H

#include "lib/image/disk-read.h"

enum { FACTS_FILE_MAX = 64 << 10 };

/* From the texts of the files, len bytes each; NULL: there is none. What makes no sense is left out. */
void facts_parse_os_release(const char *text, size_t len, struct image_facts *ret);
void facts_parse_distribution(const char *text, size_t len, struct image_facts *ret);

/* WSL's rule: it has /etc, or /bin/sh. -EINVAL with the reason. */
int facts_check_root(bool has_etc, bool has_sh, struct err *e);

/* All of it from an ext4 disk. A disk whose journal has to be replayed first is not looked into. */
int facts_of_disk(const struct disk_read *disk, struct image_facts *ret, struct err *e);

#endif
