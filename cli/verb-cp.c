/* SPDX-License-Identifier: MIT */
/* wslx cp [-r] [-a] [-u|--user USER] SRC... DST: files between this host and distributions, which are NAME:PATH. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/cli.h"
#include "cli/cp.h"
#include "cli/progress.h"
#include "lib/base/cleanup.h"

enum { SIDES_MAX = 16 };

struct args {
	bool recursive, all;
	const char *user;
	char **paths; /* the last one is DST */
	int n;
};

/* A distribution that is connected to; kept for all paths that are its. */
struct side {
	char name[65];
	struct cp_side side;
	uint32_t uid, gid;
};

struct run {
	struct side sides[SIDES_MAX];
	unsigned n_sides;
	struct progress progress;
	uint64_t bytes, files;
	int failures;
};

static volatile sig_atomic_t stop;

static void on_signal(int signo)
{
	stop = 1;
}

static int parse(int argc, char **argv, struct args *a)
{
	bool options = true;

	a->paths = argv + 1;
	for (int i = 1; i < argc; i++) {
		const char *s = argv[i];

		if (options && !strcmp(s, "--")) {
			options = false;
		} else if (options && (!strcmp(s, "-u") || !strcmp(s, "--user"))) {
			if (i + 1 == argc || !argv[i + 1][0])
				return usage_error("cp: %s needs an argument", s);
			a->user = argv[++i];
		} else if (options && (!strcmp(s, "--recursive") || !strcmp(s, "--archive"))) {
			a->recursive = true;
			a->all |= s[2] == 'a';
		} else if (options && s[0] == '-' && s[1] && s[strspn(s + 1, "raR") + 1] == '\0') {
			a->recursive = true;
			a->all |= strchr(s, 'a') != NULL;
		} else if (options && s[0] == '-' && s[1]) {
			return usage_error("cp: unexpected argument '%s'", s);
		} else {
			a->paths[a->n++] = argv[i];
		}
	}
	return a->n < 2 ? usage_error("cp needs what to copy, and where to") : 0;
}

/* NAME:PATH is a distribution's; a path of this host with a colon is written ./a:b. *ret_path: the path there. */
static struct side *side_of(struct run *r, const char *arg, const char *user, const char **ret_path)
{
	static struct side here = {.side = {0}};
	const char *colon = strchr(arg, ':');
	size_t n = colon ? (size_t)(colon - arg) : 0;
	struct err e = {0};
	struct side *s;
	char name[65];

	*ret_path = arg;
	if (!n || memchr(arg, '/', n) || n >= sizeof(name)) {
		here.side = cp_local;
		here.uid = getuid();
		here.gid = getgid();
		return &here;
	}
	*ret_path = colon + 1;
	memcpy(name, arg, n);
	name[n] = '\0';
	for (unsigned i = 0; i < r->n_sides; i++)
		if (!strcasecmp(r->sides[i].name, name))
			return &r->sides[i];
	if (r->n_sides == SIDES_MAX) {
		fail("cp: too many distributions at once");
		return NULL;
	}
	s = &r->sides[r->n_sides];
	strcpy(s->name, name);
	if (cp_remote_open(&s->side, name, user, &s->uid, &s->gid, &e) < 0) {
		fail("cp: %s: %s", arg, e.text);
		return NULL;
	}
	r->n_sides++;
	return s;
}

static void on_progress(void *ctx, uint64_t bytes, uint64_t files)
{
	struct run *r = ctx;

	r->bytes += bytes;
	r->files += files;
	progress_show(&r->progress, r->bytes, 0, r->files);
}

static void on_failed(void *ctx, const char *path, const struct err *e)
{
	struct run *r = ctx;

	progress_end(&r->progress, false);
	r->failures++;
	fail("cp: %s: %s", path, e->text);
}

/* The last name of a path, "" when it has none ("/", ".", "a/..", ""); *ret_parent is what is before it. */
static void split(const char *path, char parent[PATH_MAX], char name[NAME_MAX + 1])
{
	size_t n = strlen(path), k;

	while (n > 1 && path[n - 1] == '/')
		n--;
	for (k = n; k > 0 && path[k - 1] != '/';)
		k--;
	snprintf(name, NAME_MAX + 1, "%.*s", (int)(n - k), path + k);
	if (!strcmp(name, ".") || !strcmp(name, "..") || !strcmp(name, "/"))
		name[0] = '\0';
	snprintf(parent, PATH_MAX, "%.*s", (int)k, path);
}

/* Where copies go: into a folder under their own names, or to one name. */
struct target {
	struct side *side;
	struct cp_node dir;
	bool into;
	char name[NAME_MAX + 1];
};

static int find_target(struct target *t, const char *path, struct err *e)
{
	struct cp_side *s = &t->side->side;
	char parent[PATH_MAX];
	struct cp_attr a;
	int r;

	if (strlen(path) >= PATH_MAX)
		return err_sys(e, -ENAMETOOLONG, "%s", path);
	r = s->ops->find(s, path, true, &t->dir, &a);
	if (r == 0 && S_ISDIR(a.mode)) {
		t->into = true;
		return 0;
	}
	if (r == 0)
		s->ops->put(s, &t->dir);
	if (r < 0 && r != -ENOENT)
		return err_sys(e, r, "%s", path);
	split(path, parent, t->name);
	if (!t->name[0] || (r == 0 && path[strlen(path) - 1] == '/'))
		return err_sys(e, -ENOTDIR, "%s", path);
	r = s->ops->find(s, parent, true, &t->dir, &a);
	return r < 0 ? err_sys(e, r, "%s", *parent ? parent : path) : 0;
}

static void copy_one(struct run *r, const struct args *a, const char *arg, struct target *t)
{
	struct cp_opts o = {.recursive = a->recursive,
		.all = a->all,
		.stop = &stop,
		.progress = on_progress,
		.failed = on_failed,
		.ctx = r};
	char parent[PATH_MAX], name[NAME_MAX + 1];
	const char *path;
	struct side *from = side_of(r, arg, a->user, &path), copy;
	struct cp_node n;
	struct cp_attr attr;
	struct err e = {0};
	int err;

	if (!from) {
		r->failures++;
		return;
	}
	copy = *from;
	o.from_uid = copy.uid;
	o.from_gid = copy.gid;
	o.to_uid = t->side->uid;
	o.to_gid = t->side->gid;
	o.umask = umask(0);
	umask(o.umask);
	/* As cp(1): a link that is named is followed, unless links are to be kept. */
	err = strlen(path) < PATH_MAX
		      ? copy.side.ops->find(&copy.side, path, !a->recursive, &n, &attr)
		      : -ENAMETOOLONG;
	if (err < 0) {
		err_set(&e, err, "%s", strerror(-err));
		on_failed(r, arg, &e);
		return;
	}
	split(path, parent, name);
	if (!t->into)
		strcpy(name, t->name);
	if (!name[0]) {
		/* "folder/.": its content. */
		err_set(&e, -EINVAL, "it has no name that the copy could have");
		on_failed(r, arg, &e);
	} else {
		cp_copy(&o, &copy.side, &n, &attr, &t->side->side, &t->dir, name, arg);
	}
	cp_links_clear();
	copy.side.ops->put(&copy.side, &n);
}

int verb_cp(int argc, char **argv)
{
	static struct run r;
	const struct sigaction sa = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
	struct args a = {0};
	struct target t = {0};
	struct side to;
	struct err e = {0};
	const char *path;
	int err = parse(argc, argv, &a);

	if (err)
		return err;
	r.progress = progress_begin("copy");
	t.side = side_of(&r, a.paths[a.n - 1], a.user, &path);
	if (!t.side)
		return EX_OURS;
	to = *t.side; /* "here" is one and the same for all */
	t.side = &to;
	if (find_target(&t, path, &e) < 0)
		return fail("cp: %s", e.text);
	if (a.n > 2 && !t.into)
		return fail("cp: %s: several files can only go to a folder", a.paths[a.n - 1]);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	for (int i = 0; i < a.n - 1 && !stop; i++)
		copy_one(&r, &a, a.paths[i], &t);
	t.side->side.ops->put(&t.side->side, &t.dir);
	progress_end(&r.progress, !r.failures);
	for (unsigned i = 0; i < r.n_sides; i++)
		cp_remote_close(&r.sides[i].side);
	return r.failures || stop ? EX_OURS : 0;
}
