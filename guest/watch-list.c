/* SPDX-License-Identifier: MIT */
/* What is watched, as the kernel's files say. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "guest/watch.h"
#include "lib/base/attr.h"

enum { FUSE_HANDLE = 0x81, FUSE_HANDLE_SIZE = 12 };

static uint32_t le32_hex(const char *hex)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < 4; i++) {
		char two[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

		v |= (uint32_t)strtoul(two, NULL, 16) << 8 * i;
	}
	return v;
}

bool watch_parse(const char *line, struct watched *ret)
{
	unsigned bytes, type, dev, mask;
	char hex[2 * FUSE_HANDLE_SIZE + 1];

	if (sscanf(line,
		    "inotify wd:%*x ino:%*x sdev:%x mask:%x ignored_mask:%*x fhandle-bytes:%x fhandle-type:%x f_handle:%24[0-9a-f]",
		    &dev, &mask, &bytes, &type, hex) != 5 ||
		type != FUSE_HANDLE || bytes != FUSE_HANDLE_SIZE || strlen(hex) != sizeof(hex) - 1)
		return false;
	*ret = (struct watched){.node = (uint64_t)le32_hex(hex) << 32 | le32_hex(hex + 8),
		.gen = le32_hex(hex + 16),
		.dev = dev,
		.events = mask};
	return true;
}

int watch_add(struct watch_list *l, const struct watched *w)
{
	if (l->n == l->cap) {
		unsigned cap = l->cap ? l->cap * 2 : 16;
		struct watched *p = l->n < WATCHED_MAX ? realloc(l->w, cap * sizeof(*p)) : NULL;

		if (!p)
			return -ENOSPC;
		l->w = p;
		l->cap = cap;
	}
	l->w[l->n++] = *w;
	return 0;
}

static int order(const void *a, const void *b)
{
	const struct watched *x = a, *y = b;

	if (x->node != y->node)
		return x->node < y->node ? -1 : 1;
	return x->dev < y->dev ? -1 : x->dev > y->dev;
}

void watch_merge(struct watch_list *l)
{
	unsigned n = 0;

	if (l->n)
		qsort(l->w, l->n, sizeof(*l->w), order);
	for (unsigned i = 0; i < l->n; i++) {
		if (n && order(&l->w[n - 1], &l->w[i]) == 0)
			l->w[n - 1].events |= l->w[i].events;
		else
			l->w[n++] = l->w[i];
	}
	l->n = n;
}

const struct watched *watch_find(const struct watch_list *l, uint64_t node)
{
	unsigned from = 0, to = l->n;

	while (from < to) {
		unsigned mid = from + (to - from) / 2;

		if (l->w[mid].node < node)
			from = mid + 1;
		else
			to = mid;
	}
	return from < l->n && l->w[from].node == node ? &l->w[from] : NULL;
}

/* All of the node at *i, which moves behind it. */
static struct wslx_watch take_node(const struct watch_list *l, unsigned *i)
{
	struct wslx_watch w = {.node = l->w[*i].node};

	for (; *i < l->n && l->w[*i].node == w.node; ++*i) {
		w.events |= l->w[*i].events;
		w.peers++;
	}
	return w;
}

size_t watch_diff(const struct watch_list *before, const struct watch_list *now,
	struct wslx_watch *ret, size_t cap)
{
	unsigned i = 0, j = 0;
	size_t n = 0;

	while ((i < before->n || j < now->n) && n < cap) {
		uint64_t a = i < before->n ? before->w[i].node : UINT64_MAX;
		uint64_t b = j < now->n ? now->w[j].node : UINT64_MAX;
		struct wslx_watch old = {0}, new = {.node = a};

		if (a <= b)
			old = take_node(before, &i);
		if (b <= a)
			new = take_node(now, &j);
		if (old.events != new.events || old.peers != new.peers)
			ret[n++] = new;
	}
	return n;
}

/* mountinfo has \ooo for blanks and the like. */
static bool unescape(char *to, size_t cap, const char *from, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		char c = from[i];

		if (c == '\\' && len - i > 3) {
			c = (char)((from[i + 1] - '0') << 6 | (from[i + 2] - '0') << 3 |
				   (from[i + 3] - '0'));
			i += 3;
		}
		if (n + 1 >= cap)
			return false;
		to[n++] = c;
	}
	to[n] = '\0';
	return true;
}

bool watch_mount_point(const char *mountinfo, uint32_t dev, char *ret, size_t cap)
{
	for (const char *line = mountinfo, *end; *line; line = end + (*end == '\n')) {
		unsigned major, minor;
		int at = 0, len = 0;
		const char *type;

		end = line + strcspn(line, "\n");
		if (sscanf(line, "%*u %*u %u:%u %*s %n%*s%n", &major, &minor, &at, &len) != 2 ||
			len <= at || (major << 20 | minor) != dev || line + len > end)
			continue;
		type = memmem(line, (size_t)(end - line), " - ", 3);
		if (type && strncmp(type, " - virtiofs ", 12) == 0 &&
			unescape(ret, cap, line + at, (size_t)(len - at)))
			return true;
	}
	return false;
}

/* "            name-PID     [000] .....     1.234567: watch_add: (...) fd=3"; the name may be anything. */
enum watch_trace watch_trace_parse(const char *line, pid_t *ret_pid, int *ret_fd)
{
	enum { NAME_WIDTH = 16 };

	const char *what, *fd;

	if (strlen(line) <= NAME_WIDTH || line[NAME_WIDTH] != '-')
		return WATCH_OTHER;
	*ret_pid = (pid_t)strtol(line + NAME_WIDTH + 1, NULL, 10);
	what = strstr(line + NAME_WIDTH, ": watch_");
	if (!what || *ret_pid <= 0)
		return WATCH_OTHER;
	what += 2;
	fd = strstr(what, " fd=");
	if (strncmp(what, "watch_add:", 10) == 0 && fd) {
		*ret_fd = atoi(fd + 4);
		return WATCH_BEGINS;
	}
	if (strncmp(what, "watch_added:", 12) == 0)
		return strstr(what, " ret=-") ? WATCH_FAILED : WATCH_BEGAN;
	return strncmp(what, "watch_removed:", 14) == 0 || strncmp(what, "watch_closed:", 13) == 0
		       ? WATCH_ENDED
		       : WATCH_OTHER;
}
