/* SPDX-License-Identifier: MIT */
#include "daemon/crash.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "lib/base/cleanup.h"

#define PREFIX	"wslx-crash-"
#define DUMP	".dmp"
#define PARTIAL ".part"

enum { STALE_S = 3600, MAX_FILES = 20000 };

int crash_parse(const struct wire_msg *m, struct crash_info *ret)
{
	struct wire_attr a;
	size_t n = 0;

	if (m->type != WSLX_CRASH || m->flags)
		return -EBADMSG;
	*ret = (struct crash_info){.time = wire_get_u64(m, WSLX_A_TIME_NS, 0) / 1000000000u,
		.pid = wire_get_u32(m, WSLX_A_PID, 0),
		.signal = wire_get_u32(m, WSLX_A_SIGNAL, 0)};
	if (ret->signal > 64)
		return -EBADMSG;
	if (wire_find(m, WSLX_A_NAME, &a))
		for (; n < a.len && n < sizeof(ret->program) - 1; n++) {
			char c = (char)a.data[n];

			ret->program[n] =
				isalnum((unsigned char)c) || (c && strchr("._+", c)) ? c : '_';
		}
	if (n == 0)
		strcpy(ret->program, "unknown");
	return 0;
}

void crash_file_name(const struct crash_info *i, char *buf, size_t cap)
{
	snprintf(buf, cap, PREFIX "%" PRIu64 "-%" PRIu32 "-%s-%" PRIu32 DUMP, i->time, i->pid,
		i->program, i->signal);
}

struct file {
	char name[256];
	struct timespec mtime;
};

static bool ends_in(const char *name, const char *tail)
{
	size_t n = strlen(name), t = strlen(tail);

	return n >= t && !strcmp(name + n - t, tail);
}

static int newest_first(const void *a, const void *b)
{
	const struct file *x = a, *y = b;

	if (x->mtime.tv_sec != y->mtime.tv_sec)
		return x->mtime.tv_sec < y->mtime.tv_sec ? 1 : -1;
	if (x->mtime.tv_nsec != y->mtime.tv_nsec)
		return x->mtime.tv_nsec < y->mtime.tv_nsec ? 1 : -1;
	return strcmp(y->name, x->name);
}

int crash_rotate(const char *folder, unsigned keep)
{
	cleanup_free struct file *files = NULL;
	DIR *d = opendir(folder);
	time_t now = time(NULL);
	size_t n = 0, cap = 0;
	int removed = 0;

	if (!d)
		return -errno;
	for (struct dirent *de; (de = readdir(d)) && n < MAX_FILES;) {
		struct stat st;

		if (strncmp(de->d_name, PREFIX, strlen(PREFIX)) != 0 ||
			fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			!S_ISREG(st.st_mode))
			continue;
		if (ends_in(de->d_name, PARTIAL) && st.st_mtime < now - STALE_S)
			removed += unlinkat(dirfd(d), de->d_name, 0) == 0;
		if (!ends_in(de->d_name, DUMP))
			continue;
		if (n == cap) {
			cap = cap ? 2 * cap : 32;
			files = reallocarray(files, cap, sizeof(*files));
			if (!files)
				abort();
		}
		snprintf(files[n].name, sizeof(files[n].name), "%s", de->d_name);
		files[n++].mtime = st.st_mtim;
	}
	if (n > keep) {
		qsort(files, n, sizeof(*files), newest_first);
		for (size_t i = keep; i < n; i++)
			removed += unlinkat(dirfd(d), files[i].name, 0) == 0;
	}
	closedir(d);
	return removed;
}
