/* SPDX-License-Identifier: MIT */
/*
 * What a server that was started again goes on with: a file with the fids that are not open. Its first line is "MSIZE WSLX"; "+FID
 * UID QID PATH" is added for one that was made, "-FID" for one that ended or was opened, and when the file has become long it is
 * written anew. A file is looked up again by its path from the root, which may be another's by now: what its qid says counts.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/log.h"
#include "lib/p9/server-internal.h"

enum {
	PATH_LEN_MAX = 4000,
	LINE_LEN_MAX = PATH_LEN_MAX + 96,
	LOG_MAX = 1 << 20,
	FILE_MAX = 64 << 20
};

/* One line of the file. */
struct kept {
	uint32_t fid, uid;
	unsigned at; /* how many came before it */
	uint64_t qid;
	const char *path; /* NULL: it is not there any more */
};

char *p9_keep_path(const struct p9_server *s, const struct p9_node *dir, const char *name)
{
	size_t before = dir->path ? strlen(dir->path) + 1 : 0, len = strlen(name);
	char *path;

	if (s->keep_fd < 0 || (!dir->root && !dir->path) || before + len > PATH_LEN_MAX ||
		strchr(name, '\n'))
		return NULL;
	path = malloc(before + len + 1);
	if (!path)
		return NULL;
	if (before) {
		memcpy(path, dir->path, before - 1);
		path[before - 1] = '/';
	}
	memcpy(path + before, name, len + 1);
	return path;
}

static void put(struct p9_server *s, const char *text, size_t len)
{
	if (pwrite(s->keep_fd, text, len, s->keep_len) != (ssize_t)len)
		log_limited("9p",
			"the state cannot be written: a server after this one will not know all");
	s->keep_len += (off_t)len;
}

static void put_fid(struct p9_server *s, const struct p9_fid *f)
{
	char line[LINE_LEN_MAX];
	int n;

	if (f->kept)
		n = snprintf(line, sizeof(line), "+%u %u %" PRIu64 " %s\n", f->fid, f->uid,
			f->node->qid.path, f->node->path ? f->node->path : "");
	else
		n = snprintf(line, sizeof(line), "-%u\n", f->fid);
	put(s, line, (size_t)n);
}

void p9_keep_all(struct p9_server *s)
{
	char line[32];
	int n = snprintf(line, sizeof(line), "%u %d\n", s->msize, s->wslx);

	if (s->keep_fd < 0)
		return;
	if (ftruncate(s->keep_fd, 0) < 0)
		log_limited("9p", "the state cannot be written: %s", strerror(errno));
	s->keep_len = 0;
	put(s, line, (size_t)n);
	for (unsigned i = 0; i < FID_BUCKETS; i++)
		for (const struct p9_fid *f = s->fids[i]; f; f = f->next)
			if (f->kept)
				put_fid(s, f);
	s->keep_max = MAX(2 * s->keep_len, (off_t)LOG_MAX);
}

static void change(struct p9_server *s, struct p9_fid *f, bool kept)
{
	if (f->kept == kept)
		return;
	f->kept = kept;
	put_fid(s, f);
	if (s->keep_len > s->keep_max)
		p9_keep_all(s);
}

void p9_keep(struct p9_server *s, struct p9_fid *f, const struct p9_node *before)
{
	bool kept = !f->h && !f->xattr && (f->node->root || f->node->path);

	if (s->keep_fd < 0)
		return;
	if (f->node != before)
		change(s, f, false);
	change(s, f, kept);
}

void p9_keep_no_more(struct p9_server *s, struct p9_fid *f)
{
	if (s->keep_fd >= 0)
		change(s, f, false);
}

/* --- from a file --- */

/* The node at the end of a path, which is changed. */
static int find(struct p9_server *s, char *path, struct p9_node **ret)
{
	struct p9_node *at, *next;
	char *name, *save;
	struct fs_entry e;
	int r = p9_node_root(s, &at);

	if (r < 0)
		return r;
	for (name = strtok_r(path, "/", &save); name; name = strtok_r(NULL, "/", &save)) {
		r = s->fs->ops->lookup(s->fs, &s->cred, at->node, name, &e);
		next = r < 0 ? NULL : p9_node_new(s, &e);
		if (next)
			next->path = p9_keep_path(s, at, name);
		p9_node_unref(s, at);
		if (!next)
			return r < 0 ? r : -ENOMEM;
		at = next;
	}
	*ret = at;
	return 0;
}

static void restore(struct p9_server *s, const struct kept *k)
{
	cleanup_free char *path = strdup(k->path);
	struct p9_node *n;
	struct p9_fid *f;
	int r = path ? find(s, path, &n) : -ENOMEM;

	if (r == 0 && n->qid.path != k->qid) {
		p9_node_unref(s, n);
		r = -ESTALE;
	}
	if (r == 0)
		r = p9_fid_new(s, k->fid, n, &f);
	if (r < 0) {
		log_debug("9p", "the guest loses /%s: %s", k->path, strerror(-r));
		return;
	}
	f->uid = k->uid;
	f->kept = true;
}

static bool parse(char *line, struct kept *k)
{
	int at = 0;

	k->path = NULL;
	if (line[0] == '-')
		return sscanf(line, "-%u", &k->fid) == 1;
	if (sscanf(line, "+%u %u %" SCNu64 "%n", &k->fid, &k->uid, &k->qid, &at) != 3 ||
		line[at] != ' ')
		return false;
	k->path = line + at + 1;
	return true;
}

static int by_fid(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;

	if (x->fid != y->fid)
		return x->fid < y->fid ? -1 : 1;
	return x->at < y->at ? -1 : 1;
}

/* Of each fid the last line counts. */
static int restore_all(struct p9_server *s, char *text)
{
	unsigned msize, is_ours, n = 0, lines = 0;
	cleanup_free struct kept *k = NULL;
	char *line, *save;

	for (const char *c = text; *c; c++)
		lines += *c == '\n';
	line = strtok_r(text, "\n", &save);
	if (!line || sscanf(line, "%u %u", &msize, &is_ours) != 2 || msize < P9_MSIZE_MIN ||
		msize > P9_MSIZE_MAX)
		return 0;
	s->msize = msize;
	s->wslx = is_ours;
	s->resumed = true;
	k = calloc(lines + 1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	while ((line = strtok_r(NULL, "\n", &save)) && n < lines) {
		k[n].at = n;
		n += parse(line, &k[n]);
	}
	qsort(k, n, sizeof(*k), by_fid);
	for (unsigned i = 0; i < n; i++)
		if (k[i].path && (i + 1 == n || k[i + 1].fid != k[i].fid))
			restore(s, &k[i]);
	return 0;
}

int p9_server_keep(struct p9_server *s, int fd)
{
	cleanup_free char *text = NULL;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	text = calloc(1, (size_t)MIN(st.st_size, (off_t)FILE_MAX) + 1);
	if (!text)
		return -ENOMEM;
	if (pread(fd, text, (size_t)MIN(st.st_size, (off_t)FILE_MAX), 0) < 0)
		return -errno;
	s->keep_fd = fd;
	r = restore_all(s, text);
	p9_keep_all(s);
	return r;
}
