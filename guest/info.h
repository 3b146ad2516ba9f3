/* SPDX-License-Identifier: MIT */
/*
 * What a distribution's programs may know of where they run: a file that its init writes and everybody may read, so that
 * it needs no environment variable.
 */
#ifndef WSLX_GUEST_INFO_H
#define WSLX_GUEST_INFO_H

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/wslpath/path.h"

#define INFO_DIR  "/run/wslx"
#define INFO_FILE INFO_DIR "/info"

/* Strings are owned, never NULL after info_load(). */
struct info {
	char *name, *vm;	     /* the distribution's name, the virtual machine's id */
	char *automount, *host_root; /* struct wslpath_map's */
	char *networking;	     /* mode */
};

int info_write(const struct info *in);
/* -ENOENT where no init of ours has been. */
int info_load(struct info *ret, struct err *e);
void info_done(struct info *in);

static inline struct wslpath_map info_map(const struct info *in)
{
	return (struct wslpath_map){in->name, in->automount, in->host_root};
}

/* The host's name of a file, symbolic links of what exists resolved; path may be relative to the working directory. */
int info_to_host(const struct info *in, const char *path, char *buf, size_t cap);

#endif
