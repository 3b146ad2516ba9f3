/* SPDX-License-Identifier: MIT */
/* The back end as a whole: shares, and the root that holds them. */
#include "lib/fs/host-internal.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { SPARE_FDS = 128, MAX_VIEWS = 64 };

/* Of the descriptors we may have, a third is for nodes, the rest for open files. */
static void set_limits(struct host *h)
{
	struct rlimit rl = {1024, 1024};

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
		getrlimit(RLIMIT_NOFILE, &rl);
	}
	unsigned n = (unsigned)MIN(rl.rlim_cur, (rlim_t)1 << 20);

	h->max_fds = MAX(n / 3, 32u);
	h->max_handles = n > SPARE_FDS * 2 ? n - n / 3 - SPARE_FDS : 64;
}

static int new_host(struct host **ret, struct err *e)
{
	struct host *h = calloc(1, sizeof(*h));

	if (!h || nodes_init(h) < 0) {
		if (h)
			nodes_free(h);
		free(h);
		return err_sys(e, -ENOMEM, "make a file server");
	}
	h->fs.ops = &host_ops;
	h->views_fd = -1;
	watches_init(&h->w);
	pthread_mutex_init(&h->lock, NULL);
	pthread_mutex_init(&h->views_lock, NULL);
	set_limits(h);
	cred_init(h);
	*ret = h;
	return 0;
}

/* A share of the folder; its descriptor becomes the share's root's. */
static int new_share(struct host *h, int fd, const struct fs_share_opts *opts,
	struct fs_share **ret, struct err *e)
{
	struct fs_share *sh;
	struct statx stx;
	int r = sys_statx(fd, "", &stx);

	if (r < 0)
		return err_sys(e, r, "look at the folder to share");
	if (!S_ISDIR(stx.stx_mode))
		return err_set(e, -ENOTDIR, "what is to be shared is no folder");
	if (fs_is_closed(fd))
		return err_set(e, -EACCES, "what is to be shared is the kernel's own and no files");
	sh = calloc(1, sizeof(*sh));
	if (!sh)
		return -ENOMEM;
	if (opts)
		sh->o = *opts;
	sh->host = h;
	sh->o.privileged = h->privileged;
	sh->uid = geteuid();
	sh->gid = getegid();
	if (fs_is_overlay(fd))
		birth_forget(&stx);
	sh->root = node_new_root(h, sh, fd, &stx);
	if (!sh->root) {
		free(sh);
		return -ENOMEM;
	}
	sh->root->remote = fs_is_remote(fd);
	number_add_device(h, sh->root->ident.dev);
	*ret = sh;
	return 0;
}

static void host_free(struct fs *fs)
{
	struct host *h = to_host(fs);

	while (h->shares) {
		struct fs_share *sh = h->shares;

		h->shares = sh->next;
		free(sh);
	}
	watches_free(h);
	nodes_free(h);
	pthread_mutex_destroy(&h->lock);
	pthread_mutex_destroy(&h->views_lock);
	free(h);
}

int fs_host_new(struct fs **ret, int fd, const struct fs_share_opts *opts, struct err *e)
{
	struct host *h;
	int r = new_host(&h, e);

	if (r < 0)
		return r;
	cleanup_close int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (own < 0)
		r = err_sys(e, -errno, "share a folder");
	if (r == 0)
		r = new_share(h, own, opts, &h->shares, e);
	if (r < 0) {
		host_free(&h->fs);
		return r;
	}
	(void)take_fd(own);
	h->root = h->shares->root;
	*ret = &h->fs;
	return 0;
}

int fs_host_new_set(struct fs **ret, struct err *e)
{
	struct host *h;
	int r = new_host(&h, e);

	if (r < 0)
		return r;
	h->set = true;
	h->root = node_new_root(h, NULL, -1, NULL);
	if (!h->root) {
		host_free(&h->fs);
		return err_sys(e, -ENOMEM, "make a file server");
	}
	*ret = &h->fs;
	return 0;
}

static struct fs_share *share_find(struct host *h, const char *name)
{
	struct fs_share *sh = h->shares;

	while (sh && strcmp(sh->name, name) != 0)
		sh = sh->next;
	return sh;
}

int fs_host_add(
	struct fs *fs, const char *name, int fd, const struct fs_share_opts *opts, struct err *e)
{
	struct host *h = to_host(fs);
	struct fs_share *sh, **at;
	int r = h->set ? name_check(name) : -EINVAL;

	if (r < 0)
		return err_set(e, r, "a share cannot be called \"%s\"", name);
	pthread_mutex_lock(&h->lock);
	sh = share_find(h, name);
	pthread_mutex_unlock(&h->lock);
	if (sh)
		return err_set(e, -EEXIST, "there is a share called %s already", name);
	r = new_share(h, fd, opts, &sh, e);
	if (r < 0)
		return r;
	memcpy(sh->name, name, strlen(name) + 1);
	pthread_mutex_lock(&h->lock);
	for (at = &h->shares; *at; at = &(*at)->next)
		;
	*at = sh;
	pthread_mutex_unlock(&h->lock);
	return 0;
}

/* --- the root of a set: a folder that only we can change --- */

/* No file of a share's has it: see number.c. */
#define SET_NUMBER (UINT64_C(1) << 63 | 1)

void set_attr(struct host *h, struct fs_attr *ret)
{
	*ret = (struct fs_attr){
		.ino = SET_NUMBER, .mode = S_IFDIR | 0555, .nlink = 2, .blksize = 4096};
}

static int share_entry(struct host *h, struct fs_share *sh, struct fs_entry *ret)
{
	struct statx stx;
	int r = sys_statx(sh->root->fd, "", &stx);

	if (r < 0)
		return r;
	pthread_mutex_lock(&h->lock);
	sh->root->lookups++;
	pthread_mutex_unlock(&h->lock);
	ret->node = sh->root;
	attr_of(NULL, sh->root, &stx, false, &ret->attr);
	return 0;
}

/* "SHARE:OPTIONS", asked for the first time. */
static int new_view(struct host *h, const char *name, struct fs_share **ret)
{
	const char *colon = strchr(name, ':');
	struct fs_share *base = h->shares;
	struct fs_share_opts o;
	cleanup_close int fd = -1;
	int r;

	if (!colon || h->n_views == MAX_VIEWS)
		return -ENOENT;
	while (base && (strncmp(base->name, name, (size_t)(colon - name)) != 0 ||
			       base->name[colon - name]))
		base = base->next;
	if (!base)
		return -ENOENT;
	o = base->o;
	r = fs_share_opts_parse(colon + 1, &o, NULL);
	if (r < 0)
		return -ENOENT;
	fd = fcntl(base->root->fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return -errno;
	r = fs_host_add(&h->fs, name, fd, &o, NULL);
	if (r < 0)
		return r;
	(void)take_fd(fd);
	h->n_views++;
	*ret = share_find(h, name);
	/* one that is not written down has to be mounted again after a restart */
	if (h->views_fd >= 0)
		dprintf(h->views_fd, "%s\n", name);
	return 0;
}

void fs_host_keep_removed(struct fs *fs)
{
	to_host(fs)->keep_removed = true;
}

void fs_host_close_machine(struct fs *fs)
{
	to_host(fs)->in_machine = true;
}

void fs_host_keep_views(struct fs *fs, int fd)
{
	struct host *h = to_host(fs);
	char text[MAX_VIEWS * (NAME_MAX + 1)];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	struct fs_share *sh;
	char *save, *name;

	text[MAX(n, 0)] = '\0';
	for (name = strtok_r(text, "\n", &save); name; name = strtok_r(NULL, "\n", &save))
		if (name_check(name) == 0)
			new_view(h, name, &sh);
	h->views_fd = fd;
}

int set_lookup(struct host *h, const char *name, struct fs_entry *ret)
{
	struct fs_share *sh;
	int r;

	pthread_mutex_lock(&h->lock);
	sh = share_find(h, name);
	pthread_mutex_unlock(&h->lock);
	if (!sh) {
		pthread_mutex_lock(&h->views_lock);
		r = new_view(h, name, &sh);
		pthread_mutex_unlock(&h->views_lock);
		/* another thread was faster */
		if (r == -EEXIST)
			return set_lookup(h, name, ret);
		if (r < 0)
			return r;
	}
	return share_entry(h, sh, ret);
}

/* Shares are never taken away, so their order numbers them. */
int set_readdir(struct host *h, uint64_t off, bool entries, fs_dirent_fn fn, void *ctx)
{
	uint64_t i = 0;

	pthread_mutex_lock(&h->lock);
	struct fs_share *sh = h->shares;
	pthread_mutex_unlock(&h->lock);
	for (; sh; sh = sh->next) {
		const struct ident *root = &sh->root->ident;
		struct fs_dirent d = {.ino = number_shown(sh, root->dev, root->ino),
			.type = DT_DIR,
			.name = sh->name};

		/* views are for who asks for them */
		if (i++ < off || strchr(sh->name, ':'))
			continue;
		d.next = i;
		if (entries && share_entry(h, sh, &d.entry) < 0)
			d.entry.node = NULL;
		if (!fn(ctx, &d)) {
			if (d.entry.node)
				node_forget(&h->fs, d.entry.node, 1);
			break;
		}
	}
	return 0;
}

static struct fs_node *host_root(struct fs *fs)
{
	return to_host(fs)->root;
}

const struct fs_ops host_ops = {
	.root = host_root,
	.free = host_free,
	.lookup = host_lookup,
	.forget = node_forget,
	.id = node_id,
	.get = node_get,
	.put = node_put,
	.forget_all = node_forget_all,
	.getattr = host_getattr,
	.setattr = host_setattr,
	.readlink = host_readlink,
	.access = host_access,
	.mknod = host_mknod,
	.mkdir = host_mkdir,
	.symlink = host_symlink,
	.link = host_link,
	.unlink = host_unlink,
	.rmdir = host_rmdir,
	.rename = host_rename,
	.open = host_open,
	.create = host_create,
	.tmpfile = host_tmpfile,
	.close = host_close,
	.unchanged = host_unchanged,
	.fails_late = host_fails_late,
	.read = host_read,
	.write = host_write,
	.flush = host_flush,
	.fsync = host_fsync,
	.fallocate = host_fallocate,
	.lseek = host_lseek,
	.copy_range = host_copy_range,
	.opendir = host_opendir,
	.readdir = host_readdir,
	.getxattr = host_getxattr,
	.listxattr = host_listxattr,
	.setxattr = host_setxattr,
	.removexattr = host_removexattr,
	.statfs = host_statfs,
	.syncfs = host_syncfs,
	.watch = host_watch,
	.has_change = host_has_change,
	.next_change = host_next_change,
	.touch = host_touch,
	.touched = host_touched,
	.departed = host_departed,
	.parent = host_parent,
};
