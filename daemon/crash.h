/* SPDX-License-Identifier: MIT */
/*
 * Core dumps of a guest's programs, written to a folder of the host: wslx-crash-TIME-PID-PROGRAM-SIGNAL.dmp, the newest
 * few kept. Any process of the guest can connect and say what it likes: names are made of harmless characters, and size,
 * number and pace of what is taken are limited.
 */
#ifndef WSLX_DAEMON_CRASH_H
#define WSLX_DAEMON_CRASH_H

#include <stddef.h>
#include <stdint.h>
#include "lib/base/err.h"
#include "lib/base/loop.h"
#include "lib/wire/msg.h"

struct crash_info {
	uint64_t time; /* seconds since 1970 */
	uint32_t pid, signal;
	char program[65];
};

/* A WSLX_CRASH, made harmless. -EBADMSG: it is something else. */
int crash_parse(const struct wire_msg *m, struct crash_info *ret);
/* The name of its file. */
void crash_file_name(const struct crash_info *i, char *buf, size_t cap);
/* Removes all but the newest keep dumps of the folder, and what was left half written long ago. Number of those removed,
 * or a negative errno. */
int crash_rotate(const char *folder, unsigned keep);

struct crash_sink;

struct crash_config {
	char folder[4000]; /* made when the first dump comes */
	unsigned keep;
};

/* Takes dumps at the unix socket path. */
int crash_sink_new(
	struct loop *l, const char *path, const struct crash_config *cfg, struct crash_sink **ret);
/* Dumps under way are dropped. NULL is fine; returns NULL. */
struct crash_sink *crash_sink_free(struct crash_sink *s);

#endif
