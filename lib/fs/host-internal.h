/* SPDX-License-Identifier: MIT */
/*
 * Inside the host back end. A node is known by what statx says it is (device, inode, mount, time of birth) and found
 * again by its place: a folder's node and a name. It needs no descriptor for that. Folders, through which others are
 * found, and what needs one get one (O_PATH); those not in use are closed again when there are too many.
 *
 * The place may be out of date, as the host's programs work on the same files. So whatever is opened by its place is compared
 * with what the node is: -ESTALE, and the peer looks the name up again.
 *
 * One lock guards the table; no system call but close(2) is made under it.
 */
#ifndef WSLX_FS_HOST_INTERNAL_H
#define WSLX_FS_HOST_INTERNAL_H

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/iov.h"
#include "lib/fs/host.h"
#include "lib/fs/sys.h"

struct fs_share {
	struct fs_share *next;
	const struct host *host;
	struct fs_share_opts o;
	uint32_t uid, gid; /* the server's own */
	struct fs_node *root;
	char name[NAME_MAX + 1];
};

struct ident {
	uint64_t dev, ino, mnt;
	int64_t btime, btime_ns; /* both 0: it has none, or it does not count */
};

/* What changes with a file's content. */
struct stamp {
	uint64_t size;
	int64_t mtime, ctime;
	uint32_t mtime_ns, ctime_ns;
};

struct fs_node {
	uint64_t id;
	uint64_t lookups;    /* references of peers */
	uint32_t pins;	     /* ours: operations under way, handles, nodes whose place is here */
	bool hashed;	     /* found by what it is */
	bool keep_fd;	     /* has no place: its descriptor is all there is */
	_Atomic bool closed; /* the root of a mount that is not entered: see closed.c */
	_Atomic bool remote; /* on a file system whose server may have to be asked */
	int fd;		     /* O_PATH; -1 */
	uint32_t fd_users;
	struct fs_node *lru_prev, *lru_next; /* has a descriptor nobody uses */
	_Atomic uint32_t mode;		     /* as last seen */
	struct fs_share *share;		     /* NULL: the root of a set */
	struct ident ident;
	struct fs_node *ident_next, *place_next;
	struct stamp stamp;	/* when it was opened the last time */
	struct fs_node *parent; /* with name: its place; pinned */
	char *name;
	struct fs_handle *handles;
	struct watch *_Atomic watch; /* changed under both locks */
};

struct fs_handle {
	int fd; /* -1: the root of a set */
	uint32_t flags;
	bool unchanged;
	struct fs_node *node; /* pinned */
	struct fs_handle *prev, *next;
	pthread_mutex_t dir_lock; /* of dir, and of the descriptor's position */
	struct dir_state *dir;
};

struct slot {
	struct fs_node *node;
	uint32_t gen, next_free;
};

struct table {
	struct slot *slots; /* by the lower half of their id */
	uint32_t n_slots, n_roots, cap, free;
	struct fs_node **ident, **place;
	uint32_t mask, count; /* of both hashes */
};

enum { WATCH_BUCKETS = 1 << 12, MAX_DEVICES = 128 };

/* watch.c */
struct watches {
	int fd; /* of inotify(7); -1 */
	pthread_mutex_t
		lock; /* taken before the table's; nothing that may wait for a file system is done under it */
	struct watch *by_wd[WATCH_BUCKETS];
	_Atomic unsigned n;
	struct change *first, **last, *moved; /* moved: the last that went from somewhere */
	unsigned n_queued, max_queued;
	bool lost;
	struct own_op *own; /* under way */
};

struct host {
	struct fs fs;
	struct watches w;
	pthread_mutex_t lock;
	struct table t;
	struct fs_node lru;	 /* head of a ring: least recently used first */
	unsigned n_fds, max_fds; /* of nodes */
	unsigned n_kept;	 /* of these, those that cannot be found again */
	_Atomic unsigned n_handles;
	unsigned max_handles;
	struct fs_node *root;
	struct fs_share *shares;
	pthread_mutex_t views_lock; /* taken before the other one */
	unsigned n_views;
	int views_fd; /* their names are written there; -1 */
	bool set, privileged, keep_removed;
	bool in_machine;	    /* files of another machine are mounted here: see closed.c */
	uint32_t first_gen;	    /* of numbers: another process before us may have given some */
	uint64_t devs[MAX_DEVICES]; /* that shares lie on, in their order; only ever more */
	_Atomic unsigned n_devs;
};

/* Was it opened for writing? */
static inline bool handle_writes(const struct fs_handle *hd)
{
	return (hd->flags & O_ACCMODE) != O_RDONLY;
}

static inline struct host *to_host(struct fs *fs)
{
	return container_of(fs, struct host, fs);
}

/* node.c */
int nodes_init(struct host *h);
void nodes_free(struct host *h);
struct fs_node *node_new_root(struct host *h, struct fs_share *sh, int fd, const struct statx *stx);
/* What is known of the file system something is on. */
struct mounted {
	bool closed; /* it is the root of a mount that is not entered */
	bool remote;
};
/* The node of what name in dir is, with one more reference. */
int node_enter(struct host *h, struct fs_node *dir, const char *name, const struct statx *stx,
	const struct mounted *m, struct fs_node **ret);
struct fs_node *node_get(struct fs *fs, uint64_t id);
void node_put(struct fs *fs, struct fs_node *n);
void node_forget(struct fs *fs, struct fs_node *n, uint64_t count);
void node_forget_all(struct fs *fs);
/* It is not found by what it is any more: see lose_name(). With the lock held. */
void ident_remove(struct host *h, struct fs_node *n);
uint64_t node_id(const struct fs_node *n);
/* Before a name goes: who knows the file by it gets hold of it by a descriptor. */
void node_hold(struct host *h, struct fs_node *dir, const char *name);
/* What became of names, when it did. a, b, n: what node_at() said of them before, pinned. */
void node_gone(struct host *h, struct fs_node *n, struct fs_node *dir, const char *name);
void node_renamed(struct host *h, struct fs_node *a, struct fs_node *dir, const char *name,
	struct fs_node *b, struct fs_node *new_dir, const char *new_name, bool exchange);
void node_add_handle(struct host *h, struct fs_node *n, struct fs_handle *hd);
void node_drop_handle(struct host *h, struct fs_handle *hd);

/* What is known by a name in dir, pinned; NULL. */
struct fs_node *node_at(struct host *h, struct fs_node *dir, const char *name);
/* The node's folder and, if name is not NULL, the node's name in it; pinned. NULL: it has none. */
struct fs_node *node_place(struct host *h, struct fs_node *n, char name[NAME_MAX + 1]);
/* One more reference of peers. */
void node_again(struct host *h, struct fs_node *n);

/* watch.c */
void watches_init(struct watches *w);
void watches_free(struct host *h);
int host_watch(struct fs *fs, struct fs_node *n, uint32_t events, unsigned peers);
bool host_has_change(struct fs *fs);
bool host_next_change(struct fs *fs, struct fs_change *ret);
bool host_touch(struct fs *fs, const struct fs_touch *t, unsigned n);
void host_touched(struct fs *fs, bool done);
int host_departed(struct fs *fs, struct fs_node *dir, const char *name, struct fs_entry *ret);
int host_parent(struct fs *fs, struct fs_node *n, struct fs_entry *ret);

/* reach.c: a node's O_PATH descriptor, until node_fd_put(). */
int node_fd(struct host *h, struct fs_node *n);
void node_fd_put(struct host *h, struct fs_node *n);
/* Closes it, if nobody uses it and the node can be found again by its place. */
void node_let_go(struct host *h, struct fs_node *n);
int node_stat(struct host *h, struct fs_node *n, struct statx *ret);
/* Opens what the node is, and says how it is now. */
int node_open(struct host *h, struct fs_node *n, uint32_t flags, struct statx *ret);
enum { FD_PATH = 64 };
/* A path that means what fd, even an O_PATH one, refers to; link: as it is, not to follow. */
const char *fd_path(char buf[FD_PATH], int fd);
/* Is what statx says of a file itself (not what meta_apply() makes of it) still the node? Numbers may be another file's by now. */
bool node_is(const struct fs_node *n, const struct statx *stx);
/*
 * On overlays a file is born again when it is changed for the first time, or when something is made in the folder: its time of birth says
 * nothing there.
 */
void birth_forget(struct statx *stx);
/* Of a file in dir. */
void birth_check(const struct fs_node *dir, struct statx *stx);
static inline uint64_t ident_dev(const struct statx *stx)
{
	return (uint64_t)stx->stx_dev_major << 32 | stx->stx_dev_minor;
}

/* number.c: what shares lie on, in their order; a file's number as peers see it. */
void number_add_device(struct host *h, uint64_t dev);
uint64_t number_shown(const struct fs_share *sh, uint64_t dev, uint64_t ino);

/* acl.c: attributes that are ACLs; what a peer says in one, newly allocated, and what one says to a peer. */
bool acl_is(const char *xattr);
bool acl_hides(const struct fs_share *sh, const char *xattr);
int acl_meant(const struct fs_share *sh, const void *val, size_t len, void **ret);
void acl_shown(const struct fs_node *n, const char *xattr, void *val, size_t len);

/* closed.c */
bool fs_is_closed(int fd);
bool fs_is_overlay(int fd);
bool fs_is_remote(int fd);
/* What name in dir is, and what it is on. */
int entry_stat(const struct host *h, const struct fs_node *dir, int dirfd, const char *name,
	struct statx *ret, struct mounted *ret_m);
/*
 * As sys_open_beneath(); -ESTALE where a mount has come over what was there and whoever opens it has to have a descriptor with O_PATH
 * first, or had better not ask at all.
 */
int entry_open(const struct host *h, int dirfd, const char *name, uint64_t flags);

/* cred.c: new files belong to c, made with its umask, until another calls this on the same thread. */
void cred_init(struct host *h);
void cred_enter(const struct host *h, const struct fs_cred *c);

/* meta.c. True: the attribute was there. name "": dirfd itself. */
bool meta_apply(int dirfd, const char *name, struct statx *stx);
int meta_store(int fd, const struct statx *stx);
/* Of a file just made, in the folder dirfd. */
int meta_new(int fd, int dirfd, const struct fs_cred *c, uint32_t mode, uint64_t rdev);
int meta_kill_suidgid(int fd);
bool meta_hides(const char *xattr);
/*
 * The mode a file is made with: with that attribute, its owner can work with it, whatever the mode that shows. Else the attribute
 * could not be written, nor what the peer's root may write.
 */
static inline uint32_t own_mode(const struct fs_share *sh, uint32_t mode, uint32_t owner)
{
	return (mode & 07777) | (sh->o.metadata ? owner : 0);
}

/*
 * Users and groups. The server's user is the share's; who has that number on this side is somebody else, and nobody in particular there.
 */
enum { NOBODY = 65534 };
static inline uint32_t id_shown(uint32_t id, uint32_t own, uint32_t as)
{
	return id == own ? as : id == as ? NOBODY : id;
}
static inline uint32_t id_meant(uint32_t id, uint32_t own, uint32_t as)
{
	return id == as ? own : id;
}

/* What a node is, as its share shows it. dir: the folder it was found in, or NULL. */
void attr_of(const struct fs_node *dir, const struct fs_node *n, const struct statx *stx,
	bool from_meta, struct fs_attr *ret);
/* statfs(2)'s type: a server somewhere else may have to be asked. */
bool is_remote(uint32_t type);
/* When the node has any. */
int kill_suidgid(const struct host *h, const struct fs_node *n, int fd);
int name_check(const char *name); /* 0, or why this is not one component */
int entry_at(
	struct host *h, struct fs_node *dir, int dirfd, const char *name, struct fs_entry *ret);
int handle_new(struct host *h, struct fs_node *n, int fd, uint32_t flags, struct fs_handle **ret);
void dir_free(struct dir_state *d);

/* The root of a set. */
void set_attr(struct host *h, struct fs_attr *ret);
int set_lookup(struct host *h, const char *name, struct fs_entry *ret);
int set_readdir(struct host *h, uint64_t off, bool entries, fs_dirent_fn fn, void *ctx);

/* The operations: host.c has their table. */
extern const struct fs_ops host_ops;
int host_getattr(struct fs *fs, const struct fs_cred *c, struct fs_node *n, struct fs_handle *hd,
	struct fs_attr *ret);
int host_setattr(struct fs *fs, const struct fs_cred *c, struct fs_node *n, struct fs_handle *hd,
	uint32_t set, const struct fs_attr *a, struct fs_attr *ret);
int host_lookup(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
	struct fs_entry *ret);
int host_mknod(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
	uint32_t mode, uint64_t rdev, struct fs_entry *ret);
int host_mkdir(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
	uint32_t mode, struct fs_entry *ret);
int host_symlink(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
	const char *target, struct fs_entry *ret);
int host_link(struct fs *fs, const struct fs_cred *c, struct fs_node *n, struct fs_node *dir,
	const char *name, struct fs_entry *ret);
int host_unlink(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name);
int host_rmdir(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name);
int host_rename(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
	struct fs_node *new_dir, const char *new_name, uint32_t flags);
ssize_t host_readlink(struct fs *fs, struct fs_node *n, char *buf, size_t cap);
int host_access(struct fs *fs, const struct fs_cred *c, struct fs_node *n, int mask);
void host_close(struct fs *fs, struct fs_handle *hd);
int host_open(struct fs *fs, const struct fs_cred *c, struct fs_node *n, uint32_t flags,
	struct fs_handle **ret);
int host_create(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
	uint32_t mode, uint32_t flags, struct fs_entry *ret, struct fs_handle **ret_h);
int host_tmpfile(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, uint32_t mode,
	uint32_t flags, struct fs_entry *ret, struct fs_handle **ret_h);
ssize_t host_read(struct fs *fs, struct fs_handle *hd, const struct iovec *iov, unsigned cnt,
	uint64_t off, uint32_t how);
ssize_t host_write(struct fs *fs, struct fs_handle *hd, const struct iovec *iov, unsigned cnt,
	uint64_t off, uint32_t how);
int host_flush(struct fs *fs, struct fs_handle *hd, uint64_t owner);
bool host_fails_late(struct fs *fs, struct fs_handle *hd);
bool host_unchanged(struct fs *fs, struct fs_handle *hd);
int host_fsync(struct fs *fs, struct fs_handle *hd, bool data_only);
int host_fallocate(struct fs *fs, struct fs_handle *hd, int mode, uint64_t off, uint64_t len);
int64_t host_lseek(struct fs *fs, struct fs_handle *hd, uint64_t off, int whence);
ssize_t host_copy_range(struct fs *fs, struct fs_handle *in, uint64_t in_off, struct fs_handle *out,
	uint64_t out_off, uint64_t len);
int host_opendir(struct fs *fs, const struct fs_cred *c, struct fs_node *n, struct fs_handle **ret);
int host_readdir(struct fs *fs, const struct fs_cred *c, struct fs_handle *hd, uint64_t off,
	bool entries, fs_dirent_fn fn, void *ctx);
ssize_t host_getxattr(struct fs *fs, struct fs_node *n, const char *name, void *buf, size_t cap);
ssize_t host_listxattr(struct fs *fs, struct fs_node *n, char *buf, size_t cap);
int host_setxattr(struct fs *fs, const struct fs_cred *c, struct fs_node *n, const char *name,
	const void *val, size_t len, int flags);
int host_removexattr(struct fs *fs, const struct fs_cred *c, struct fs_node *n, const char *name);
int host_statfs(struct fs *fs, struct fs_node *n, struct fs_stat *ret);
int host_syncfs(struct fs *fs, struct fs_node *n);

#endif
