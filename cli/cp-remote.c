/* SPDX-License-Identifier: MIT */
/*
 * A distribution's side, over 9P. Requests that depend on one another are sent together, since the server works in order;
 * so a file costs few round trips. Writes are not waited for before the file is done.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "cli/cp.h"
#include "lib/base/cleanup.h"
#include "lib/ctl/service.h"
#include "lib/p9/client.h"
#include "lib/session/files.h"

enum { LINKS_MAX = 40, IN_FLIGHT = 16, ENTRIES = 128 << 10 };

struct cp_remote {
	struct loop *loop;
	struct p9_client *c;
	struct ctl_client *hold;
	struct files_user who;
};

/* Of one file that is written: requests under way, and the first error. */
struct cp_writes {
	struct loop *loop;
	unsigned pending;
	int error;
	bool waits;
};

static struct p9_client *client(struct cp_side *s)
{
	return s->remote->c;
}

static int call(struct cp_side *s, struct p9_msg *m, struct p9_msg *r)
{
	return p9_client_wait(client(s), m, r);
}

static int new_fid(struct cp_side *s, uint32_t *ret)
{
	*ret = p9_client_fid(client(s));
	return *ret == P9_NO_FID ? -ENFILE : 0;
}

static void attr_of(const struct p9_attr *p, struct cp_attr *a)
{
	*a = (struct cp_attr){.mode = p->mode,
		.uid = p->uid,
		.gid = p->gid,
		.major = major(p->rdev),
		.minor = minor(p->rdev),
		.nlink = p->nlink,
		.size = p->size,
		.blocks = p->blocks,
		.ino = p->qid.path,
		.atime = {(time_t)p->atime.sec, (long)p->atime.nsec},
		.mtime = {(time_t)p->mtime.sec, (long)p->mtime.nsec}};
}

static struct cp_node node_of(uint32_t fid)
{
	return (struct cp_node){.fd = -EBADF, .path_fd = -EBADF, .fid = fid};
}

/* --- looking --- */

static int look(
	struct cp_side *s, uint32_t dir, const char *name, struct cp_node *ret, struct cp_attr *a)
{
	struct p9_msg m = {.type = P9_TLOOKUP, .fid = dir, .nnames = *name != '\0'}, r;
	int err = new_fid(s, &m.fid2);

	if (err < 0)
		return err;
	m.names[0] = p9_str(name);
	err = call(s, &m, &r);
	if (err < 0) {
		p9_client_fid_unused(client(s), m.fid2);
		return err;
	}
	*ret = node_of(m.fid2);
	attr_of(&r.attr, a);
	return 0;
}

static int wait_writes(struct cp_side *s, struct cp_node *n, unsigned at_most)
{
	struct cp_writes *w = n->writes;

	w->waits = true;
	while (w->pending > at_most && loop_run(s->remote->loop) >= 0)
		;
	w->waits = false;
	return w->error;
}

static void r_put(struct cp_side *s, struct cp_node *n)
{
	if (n->writes)
		wait_writes(s, n, 0);
	p9_client_clunk(client(s), n->fid);
	free(n->writes);
	*n = node_of(P9_NO_FID);
}

static int r_lookup(struct cp_side *s, struct cp_node *dir, const char *name, struct cp_node *ret,
	struct cp_attr *a)
{
	return look(s, dir->fid, name, ret, a);
}

static ssize_t r_readlink(struct cp_side *s, struct cp_node *n, char *buf, size_t cap)
{
	struct p9_msg m = {.type = P9_TREADLINK, .fid = n->fid}, r;
	int err = call(s, &m, &r);

	if (err < 0)
		return err;
	memcpy(buf, r.name.s, MIN(r.name.len, cap));
	return (ssize_t)MIN(r.name.len, cap);
}

/* One step back: the server knows no "..". */
static void drop_last(char *path)
{
	char *p = strrchr(path, '/');

	if (p)
		*p = '\0';
}

/* "a/b" and the rest of a path, or of a link's target, resolved to a clean absolute path without links but, perhaps, the last. */
static int r_find(
	struct cp_side *s, const char *path, bool follow, struct cp_node *ret, struct cp_attr *a)
{
	char rest[2 * PATH_MAX], done[PATH_MAX] = "";
	struct cp_node at;
	unsigned links = 0;
	int r;

	if (snprintf(rest, sizeof(rest), "%s%s%s", path[0] == '/' ? "" : s->remote->who.home,
		    path[0] == '/' ? "" : "/", path) >= PATH_MAX)
		return -ENAMETOOLONG;
	r = look(s, P9_ROOT_FID, "", &at, a);
	while (r == 0) {
		char name[NAME_MAX + 1], target[PATH_MAX], *p = rest + strspn(rest, "/");
		size_t n = strcspn(p, "/");
		bool last = p[n + strspn(p + n, "/")] == '\0';
		struct cp_node next;
		ssize_t len;

		if (n == 0) {
			*ret = at;
			return 0;
		}
		if (n > NAME_MAX) {
			r = -ENAMETOOLONG;
			break;
		}
		memcpy(name, p, n);
		name[n] = '\0';
		memmove(rest, p + n, strlen(p + n) + 1);
		if (!strcmp(name, "."))
			continue;
		if (!strcmp(name, "..")) {
			/* Up, and down again to there by clean names. */
			drop_last(done);
			if (strlen(done) + strlen(rest) + 2 > sizeof(rest))
				r = -ENAMETOOLONG;
			memmove(rest + strlen(done) + 1, rest, strlen(rest) + 1);
			memcpy(rest, done, strlen(done));
			rest[strlen(done)] = '/';
			done[0] = '\0';
			r_put(s, &at);
			r = look(s, P9_ROOT_FID, "", &at, a);
			continue;
		}
		r = look(s, at.fid, name, &next, a);
		if (r < 0)
			break;
		if (!S_ISLNK(a->mode) || (last && !follow)) {
			r_put(s, &at);
			at = next;
			if (strlen(done) + n + 2 > sizeof(done))
				r = -ENAMETOOLONG;
			else
				sprintf(done + strlen(done), "/%s", name);
			continue;
		}
		len = ++links > LINKS_MAX ? -ELOOP
					  : r_readlink(s, &next, target, sizeof(target) - 1);
		r_put(s, &next);
		r = len < 0 ? (int)len : 0;
		if (r == 0 && (size_t)len + strlen(rest) + 2 > PATH_MAX)
			r = -ENAMETOOLONG;
		if (r < 0)
			break;
		memmove(rest + len, rest, strlen(rest) + 1);
		memcpy(rest, target, (size_t)len);
		if (target[0] == '/') {
			done[0] = '\0';
			r_put(s, &at);
			r = look(s, P9_ROOT_FID, "", &at, a);
		}
	}
	r_put(s, &at);
	return r;
}

/* --- reading --- */

/* A clone of the node's fid, opened. */
static int open_fid(struct cp_side *s, uint32_t fid, uint32_t flags, uint32_t *ret)
{
	struct p9_msg walk = {.type = P9_TWALK, .fid = fid},
		      m = {.type = P9_TLOPEN, .flags = flags}, r;
	int err = new_fid(s, ret);

	if (err < 0)
		return err;
	walk.fid2 = m.fid = *ret;
	p9_client_call(client(s), &walk, NULL, NULL);
	err = call(s, &m, &r);
	if (err < 0)
		p9_client_clunk(client(s), *ret);
	return err;
}

static int r_list(
	struct cp_side *s, struct cp_node *dir, int (*fn)(void *ctx, const char *name), void *ctx)
{
	cleanup_free char *copy = malloc(ENTRIES);
	struct p9_msg m = {.type = P9_TREADDIR, .count = ENTRIES}, r;
	int err = copy ? open_fid(s, dir->fid, 0, &m.fid) : -ENOMEM;
	uint32_t open = m.fid;

	if (err < 0)
		return err;
	while (err == 0) {
		struct p9_dirent d;
		size_t at = 0, len;
		int n = 0;

		m.type = P9_TREADDIR;
		err = call(s, &m, &r);
		if (err < 0 || r.count == 0 || r.count > ENTRIES)
			break;
		len = r.count;
		memcpy(copy, r.data, len);
		while (err == 0 && (n = p9_dirent_decode(copy + at, len - at, false, &d)) > 0) {
			char name[P9_NAME_MAX + 1];

			at += (size_t)n;
			m.offset = d.offset;
			memcpy(name, d.name.s, d.name.len);
			name[d.name.len] = '\0';
			if (p9_name_ok(d.name))
				err = fn(ctx, name);
		}
		if (n < 0)
			err = -EIO;
	}
	p9_client_clunk(client(s), open);
	return err;
}

static int r_open(struct cp_side *s, struct cp_node *n)
{
	uint32_t fid;
	int err = open_fid(s, n->fid, O_RDONLY, &fid);

	if (err < 0)
		return err;
	p9_client_clunk(client(s), n->fid);
	n->fid = fid;
	return 0;
}

static ssize_t r_read(struct cp_side *s, struct cp_node *n, void *buf, size_t len, uint64_t off)
{
	struct p9_msg m = {.type = P9_TREAD,
			      .fid = n->fid,
			      .offset = off,
			      .count = (uint32_t)MIN(len, (size_t)p9_client_io_size(client(s)))},
		      r;
	int err = call(s, &m, &r);

	if (err < 0)
		return err;
	if (r.count > len)
		return -EIO;
	memcpy(buf, r.data, r.count);
	return (ssize_t)r.count;
}

static int r_data(
	struct cp_side *s, struct cp_node *n, uint64_t off, uint64_t *start, uint64_t *end)
{
	struct p9_msg m = {.type = P9_TSEEK, .fid = n->fid, .offset = off, .flags = SEEK_DATA}, r;
	int err = call(s, &m, &r);

	if (err == -ENXIO)
		return err;
	*start = err < 0 ? off : r.offset;
	*end = UINT64_MAX;
	if (err < 0)
		return err == -EINVAL || err == -EOPNOTSUPP ? 0 : err;
	m.offset = *start;
	m.flags = SEEK_HOLE;
	err = call(s, &m, &r);
	if (err == 0)
		*end = r.offset;
	return *start < off || *end <= *start ? -EIO : 0;
}

/* --- writing --- */

static void write_done(void *ctx, const struct p9_msg *r, int error)
{
	struct cp_writes *w = ctx;

	w->pending--;
	if (error && !w->error)
		w->error = error;
	if (w->waits)
		loop_quit(w->loop, 0);
}

/* Sent, not waited for. */
static void later(struct cp_side *s, struct cp_node *n, struct p9_msg *m)
{
	n->writes->pending++;
	p9_client_call(client(s), m, write_done, n->writes);
}

static int r_create(struct cp_side *s, struct cp_node *dir, const char *name, struct cp_node *ret)
{
	struct p9_msg m = {.type = P9_TWALK, .fid = dir->fid};
	int err;

	*ret = node_of(P9_NO_FID);
	ret->writes = calloc(1, sizeof(*ret->writes));
	if (!ret->writes)
		return -ENOMEM;
	ret->writes->loop = s->remote->loop;
	err = new_fid(s, &m.fid2);
	if (err < 0)
		return err;
	ret->fid = m.fid2;
	later(s, ret, &m);
	m = (struct p9_msg){.type = P9_TLCREATE,
		.fid = ret->fid,
		.name = p9_str(name),
		.flags = O_WRONLY | O_EXCL,
		.mode = 0600,
		.gid = P9_NO_UID};
	later(s, ret, &m);
	/* Before anything else is written, lest it go elsewhere: a name that is there already is an error. */
	return wait_writes(s, ret, 0);
}

static int r_write(struct cp_side *s, struct cp_node *n, const void *buf, size_t len, uint64_t off)
{
	struct p9_msg m = {.type = P9_TWRITE,
		.fid = n->fid,
		.offset = off,
		.count = (uint32_t)len,
		.data = buf};

	later(s, n, &m);
	return wait_writes(s, n, IN_FLIGHT - 1);
}

static int set_later(struct cp_side *s, struct cp_node *n, const struct p9_setattr *set)
{
	struct p9_msg m = {.type = P9_TSETATTR, .fid = n->fid, .set = *set}, r;

	if (!n->writes)
		return call(s, &m, &r);
	later(s, n, &m);
	return 0;
}

static int r_truncate(struct cp_side *s, struct cp_node *n, uint64_t size)
{
	return set_later(s, n, &(struct p9_setattr){.valid = P9_SET_SIZE, .size = size});
}

static int r_done(struct cp_side *s, struct cp_node *n)
{
	return wait_writes(s, n, 0);
}

static int find_made(struct cp_side *s, struct p9_msg *m, const char *name, struct cp_node *ret)
{
	struct p9_msg r;
	struct cp_attr a;
	int err = call(s, m, &r);

	return err < 0 ? err : look(s, m->fid, name, ret, &a);
}

static int r_mkdir(struct cp_side *s, struct cp_node *dir, const char *name, struct cp_node *ret)
{
	struct p9_msg m = {.type = P9_TMKDIR,
		.fid = dir->fid,
		.name = p9_str(name),
		.mode = 0700,
		.gid = P9_NO_UID};

	return find_made(s, &m, name, ret);
}

static int r_symlink(struct cp_side *s, struct cp_node *dir, const char *name, const char *target,
	struct cp_node *ret)
{
	struct p9_msg m = {.type = P9_TSYMLINK,
		.fid = dir->fid,
		.name = p9_str(name),
		.name2 = p9_str(target),
		.gid = P9_NO_UID};

	return find_made(s, &m, name, ret);
}

static int r_mknod(struct cp_side *s, struct cp_node *dir, const char *name,
	const struct cp_attr *a, struct cp_node *ret)
{
	struct p9_msg m = {.type = P9_TMKNOD,
		.fid = dir->fid,
		.name = p9_str(name),
		.mode = (a->mode & S_IFMT) | 0600,
		.major = a->major,
		.minor = a->minor,
		.gid = P9_NO_UID};

	return find_made(s, &m, name, ret);
}

static int r_link(struct cp_side *s, struct cp_node *n, struct cp_node *dir, const char *name)
{
	struct p9_msg m = {.type = P9_TLINK, .fid = dir->fid, .fid2 = n->fid, .name = p9_str(name)},
		      r;

	return call(s, &m, &r);
}

static int r_rename(struct cp_side *s, struct cp_node *dir, const char *from, const char *to)
{
	struct p9_msg m = {.type = P9_TRENAMEAT2,
			      .fid = dir->fid,
			      .name = p9_str(from),
			      .fid2 = dir->fid,
			      .name2 = p9_str(to)},
		      r;

	return call(s, &m, &r);
}

static int r_unlink(struct cp_side *s, struct cp_node *dir, const char *name)
{
	struct p9_msg m = {.type = P9_TUNLINKAT, .fid = dir->fid, .name = p9_str(name)}, r;

	return call(s, &m, &r);
}

static struct p9_time time_of(struct timespec ts)
{
	return (struct p9_time){(uint64_t)ts.tv_sec, (uint64_t)ts.tv_nsec};
}

static int r_setattr(struct cp_side *s, struct cp_node *n, const struct cp_attr *a, unsigned what)
{
	struct p9_setattr set = {.mode = a->mode & 07777,
		.uid = a->uid,
		.gid = a->gid,
		.atime = time_of(a->atime),
		.mtime = time_of(a->mtime)};
	struct p9_msg m = {.type = P9_TSETATTR, .fid = n->fid}, r;

	if (what & CP_MODE)
		set.valid |= P9_SET_MODE;
	if (what & CP_TIMES)
		set.valid |= P9_SET_ATIME | P9_SET_ATIME_GIVEN | P9_SET_MTIME | P9_SET_MTIME_GIVEN;
	if (!(what & CP_OWNER))
		return set_later(s, n, &set);
	/* That it may not be given away is for the caller to know. */
	set.valid |= P9_SET_UID | P9_SET_GID;
	m.set = set;
	return call(s, &m, &r);
}

static ssize_t r_getxattr(
	struct cp_side *s, struct cp_node *n, const char *name, void *buf, size_t cap)
{
	struct p9_msg m = {.type = P9_TGETXATTR,
			      .fid = n->fid,
			      .name = p9_str(name),
			      .count = (uint32_t)cap},
		      r;
	int err = call(s, &m, &r);

	if (err < 0)
		return err;
	if (r.count > cap || (r.count && !*name && ((const char *)r.data)[r.count - 1]))
		return -EIO;
	memcpy(buf, r.data, r.count);
	return (ssize_t)r.count;
}

static int r_setxattr(
	struct cp_side *s, struct cp_node *n, const char *name, const void *value, size_t len)
{
	struct p9_msg m = {.type = P9_TSETXATTR,
			      .fid = n->fid,
			      .name = p9_str(name),
			      .count = (uint32_t)len,
			      .data = value},
		      r;

	return call(s, &m, &r);
}

static const struct cp_ops remote_ops = {r_find, r_lookup, r_put, r_list, r_readlink, r_open,
	r_read, r_data, r_create, r_write, r_truncate, r_done, r_mkdir, r_symlink, r_mknod, r_link,
	r_rename, r_unlink, r_setattr, r_getxattr, r_setxattr};

/* --- the connection --- */

void cp_remote_close(struct cp_side *s)
{
	struct cp_remote *x = s->remote;

	if (!x)
		return;
	p9_client_free(x->c);
	ctl_client_free(x->hold);
	loop_free(x->loop);
	free(x);
	s->remote = NULL;
}

int cp_remote_open(struct cp_side *ret, const char *distribution, const char *user, uint32_t *uid,
	uint32_t *gid, struct err *e)
{
	struct json_object *reply = NULL;
	struct cp_side s = {.ops = &remote_ops, .remote = calloc(1, sizeof(struct cp_remote))};
	struct cp_remote *x = s.remote;
	cleanup_close int fd = -EBADF;
	int r = x ? service_connect(&x->hold, e) : err_sys(e, -ENOMEM, "connect");

	if (r == 0)
		r = service_open(x->hold, distribution, &fd, &reply, e);
	if (r == 0)
		r = files_ask(fd, user, (uid_t)js_u64(reply, "uid", 0), &x->who, e);
	js_free(reply);
	if (r == 0) {
		r = loop_new(&x->loop);
		if (r == 0)
			r = p9_client_new(&x->c, x->loop, take_fd(fd), NULL, NULL);
		if (r < 0)
			err_sys(e, r, "speak with its file server");
	}
	if (r < 0) {
		cp_remote_close(&s);
		return r;
	}
	*ret = s;
	*uid = x->who.uid;
	*gid = x->who.gid;
	return 0;
}
