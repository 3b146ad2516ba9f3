/* SPDX-License-Identifier: MIT */
/*
 * What the host says of one distribution: the section [distribution.NAME] of wslx.conf. The
 * distribution itself has no say in it.
 */
#ifndef WSLX_DAEMON_DISTRO_CONF_H
#define WSLX_DAEMON_DISTRO_CONF_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/base/err.h"
#include "lib/conf/conf.h"

enum distro_isolation { ISOLATION_SHARED, ISOLATION_VM };
/* When a distribution is idle and may be stopped: when no session's process lives; when no service
 * lives either; never. */
enum distro_keep { KEEP_IDLE, KEEP_SERVICES, KEEP_ALWAYS };

enum distro_fs { DISTRO_EXT4, DISTRO_XFS, DISTRO_BTRFS };
extern const char *const distro_fs_names[];

#define NO_SWAP_LIMIT UINT64_MAX

struct distro_conf {
	int isolation, keep_alive; /* the enumerations above */
	int file_system;	   /* enum distro_fs: of its disk, when it is imported */
	bool autostart;
	int interop; /* may it run programs of the host? negative: as section [interop] says */
	/* Limits; 0: none. With isolation=vm, memory and processors are the machine's. */
	uint64_t memory;      /* bytes */
	uint64_t swap;	      /* bytes, 0 too; NO_SWAP_LIMIT */
	int64_t cpus_percent; /* of one processor */
	int64_t tasks;
	uint64_t read_bytes, write_bytes; /* of its disk, per second */
	int64_t read_ops, write_ops;
	char mount_options[256]; /* "": the default */
};

/* Defaults, then what the file at path says of the distribution called name. What is wrong there
 * is told with its line, to warn, which may be NULL. A file that cannot be read says nothing. */
void distro_conf_load(
	const char *path, const char *name, struct distro_conf *ret, conf_warn_fn warn, void *ctx);

#endif
