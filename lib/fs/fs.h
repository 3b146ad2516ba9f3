/* SPDX-License-Identifier: MIT */
/*
 * A file server: what FUSE (lib/fuse) and 9P (lib/p9) ask, and what a back end answers. Operations are synchronous and
 * may be called by several threads at once; they return 0 (or what is said) or a negative errno.
 *
 * A node is a file as long as somebody knows it: lookup and the operations that make files return it with one reference
 * the caller gives back by forget(). One file has one node, however many names it has. A handle is an open file or
 * folder; it keeps what it needs of its node. Both are opaque here; pointers are trusted.
 *
 * Names are one component. The back end refuses those that are not ("", ".", "..", with a slash, too long): -EINVAL,
 * -ENAMETOOLONG.
 */
#ifndef WSLX_FS_FS_H
#define WSLX_FS_FS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

struct fs;
struct fs_node;
struct fs_handle;

/* Who asks. Whether they may is checked by the asking kernel and, beyond that, by what the server itself may. */
struct fs_cred {
	uint32_t uid, gid;
	const uint32_t *groups; /* supplementary; NULL: not known */
	unsigned n_groups;
	uint32_t
		umask; /* applied to new files unless their folder has a default ACL; 0: it already was */
};

/* fs_attr.flags */
enum {
	FS_ATTR_SUBMOUNT = 1, /* the root of another file system than its folder's */
	FS_ATTR_MAP =
		2, /* who can map the file itself is to do that rather than to keep what is in it */
};

struct fs_attr {
	uint64_t ino, dev, rdev; /* makedev(3)'s encoding */
	uint64_t size, blocks;	 /* blocks of 512 bytes */
	uint32_t mode, nlink, uid, gid, blksize, flags;
	struct timespec atime, mtime, ctime,
		btime; /* btime: all 0 where the file system has none */
};

struct fs_entry {
	struct fs_node *node; /* with one reference */
	struct fs_attr attr;
};

/* What setattr changes. */
enum fs_set {
	FS_SET_MODE = 1 << 0,
	FS_SET_UID = 1 << 1,
	FS_SET_GID = 1 << 2,
	FS_SET_SIZE = 1 << 3,
	FS_SET_ATIME = 1 << 4,
	FS_SET_MTIME = 1 << 5,
	FS_SET_ATIME_NOW = 1 << 6,
	FS_SET_MTIME_NOW = 1 << 7,
	FS_SET_KILL_SUIDGID =
		1
		<< 8, /* with size: set-uid and set-gid bits go, as when an ordinary user writes */
};

struct fs_dirent {
	uint64_t ino, next;    /* next: where to go on behind this entry */
	uint32_t type;	       /* DT_... */
	const char *name;      /* valid during the call */
	struct fs_entry entry; /* node NULL: only the name was asked for, or it is "." or ".." */
};
/* False: there is no room for this entry; its node is not taken over and the listing ends before it. */
typedef bool (*fs_dirent_fn)(void *ctx, const struct fs_dirent *d);

/* How to read and write. */
enum fs_how {
	FS_NO_WAIT = 1 << 0, /* read: -EAGAIN rather than wait for a disk */
	FS_KILL_SUIDGID =
		1 << 1, /* write: set-uid and set-gid bits go, even if the server could keep them */
	FS_APPEND = 1 << 2, /* write: at the end of the file, wherever that is now */
};

struct fs_lock {
	uint32_t type;	     /* F_RDLCK, F_WRLCK, F_UNLCK */
	uint64_t start, end; /* both included; end of the file: INT64_MAX */
	uint64_t owner;
	uint32_t pid;
};

/* For statfs: struct statvfs(3)'s, and the type of statfs(2). */
struct fs_stat {
	uint64_t type, blocks, bfree, bavail, files, ffree, fsid;
	uint32_t bsize, frsize, namelen;
};

/* What others than peers changed; see next_change. */
enum fs_change_kind {
	FS_CHANGE_CREATE = 1,
	FS_CHANGE_DELETE,
	FS_CHANGE_MOVE,
	FS_CHANGE_MOVED_FROM,
	FS_CHANGE_MOVED_TO,
	FS_CHANGE_MODIFY,
	FS_CHANGE_ATTRIB,
	FS_CHANGE_CLOSE_WRITE,
	FS_CHANGE_DELETE_SELF,
	FS_CHANGE_MOVE_SELF,
	FS_CHANGE_LOST, /* some; of any node that is watched */
};

struct fs_change {
	uint32_t kind;
	bool dir;	   /* it is a folder that was changed */
	uint64_t node, to; /* to: where MOVE went */
	char name[256];	   /* in node; "": node itself */
	char to_name[256];
};

/* A name in a folder, or without a name a file. */
struct fs_touch {
	struct fs_node *node;
	const char *name;
};

struct fs_ops {
	/* The tree's root; not counted, never to be forgotten. */
	struct fs_node *(*root)(struct fs *fs);
	void (*free)(struct fs *fs);

	int (*lookup)(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
		struct fs_entry *ret);
	/* Gives references back; more than there are, count as all. */
	void (*forget)(struct fs *fs, struct fs_node *n, uint64_t count);
	/*
	 * For peers that name nodes by numbers, without bit 31. The root's is 1; another's is not used again while a peer could mistake
	 * one for the other. get: NULL, or the node, which stays until put() whatever is forgotten meanwhile.
	 */
	uint64_t (*id)(const struct fs_node *n);
	struct fs_node *(*get)(struct fs *fs, uint64_t id);
	void (*put)(struct fs *fs, struct fs_node *n);
	/* The peers are gone with all they knew; handles are closed. */
	void (*forget_all)(struct fs *fs);

	/* h may be NULL; with it n is not looked at, and what it was opened for counts (a file that has no name any more, rights). */
	int (*getattr)(struct fs *fs, const struct fs_cred *c, struct fs_node *n,
		struct fs_handle *h, struct fs_attr *ret);
	/* set: enum fs_set; of a those fields. ret may be NULL. */
	int (*setattr)(struct fs *fs, const struct fs_cred *c, struct fs_node *n,
		struct fs_handle *h, uint32_t set, const struct fs_attr *a, struct fs_attr *ret);
	/* The length of what was stored, no NUL behind it. */
	ssize_t (*readlink)(struct fs *fs, struct fs_node *n, char *buf, size_t cap);
	/* As access(2), for the server's own rights. */
	int (*access)(struct fs *fs, const struct fs_cred *c, struct fs_node *n, int mask);

	int (*mknod)(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
		uint32_t mode, uint64_t rdev, struct fs_entry *ret);
	int (*mkdir)(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
		uint32_t mode, struct fs_entry *ret);
	int (*symlink)(struct fs *fs, const struct fs_cred *c, struct fs_node *dir,
		const char *name, const char *target, struct fs_entry *ret);
	int (*link)(struct fs *fs, const struct fs_cred *c, struct fs_node *n, struct fs_node *dir,
		const char *name, struct fs_entry *ret);
	int (*unlink)(
		struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name);
	int (*rmdir)(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name);
	/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT */
	int (*rename)(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
		struct fs_node *new_dir, const char *new_name, uint32_t flags);

	/* flags: O_... as open(2), of the machine that serves. O_NONBLOCK: -EAGAIN rather than wait for who has a lease on it. */
	int (*open)(struct fs *fs, const struct fs_cred *c, struct fs_node *n, uint32_t flags,
		struct fs_handle **ret);
	/* Opens what is there, or makes it (only makes it: O_EXCL). */
	int (*create)(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
		uint32_t mode, uint32_t flags, struct fs_entry *ret, struct fs_handle **ret_h);
	int (*tmpfile)(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, uint32_t mode,
		uint32_t flags, struct fs_entry *ret, struct fs_handle **ret_h);
	void (*close)(struct fs *fs, struct fs_handle *h);
	/* The content is surely what it was when a handle of this file was opened the last time before. */
	bool (*unchanged)(struct fs *fs, struct fs_handle *h);
	/* May flush() say of writes, for which all was well, that they failed after all? */
	bool (*fails_late)(struct fs *fs, struct fs_handle *h);
	/* Bytes done; a read is shorter only at the end of the file. */
	ssize_t (*read)(struct fs *fs, struct fs_handle *h, const struct iovec *iov, unsigned cnt,
		uint64_t off, uint32_t how);
	ssize_t (*write)(struct fs *fs, struct fs_handle *h, const struct iovec *iov, unsigned cnt,
		uint64_t off, uint32_t how); /* how: enum fs_how */
	int (*flush)(struct fs *fs, struct fs_handle *h,
		uint64_t owner); /* one descriptor of it was closed */
	int (*fsync)(struct fs *fs, struct fs_handle *h, bool data_only);
	int (*fallocate)(struct fs *fs, struct fs_handle *h, int mode, uint64_t off, uint64_t len);
	int64_t (*lseek)(struct fs *fs, struct fs_handle *h, uint64_t off,
		int whence); /* SEEK_DATA, SEEK_HOLE */
	ssize_t (*copy_range)(struct fs *fs, struct fs_handle *in, uint64_t in_off,
		struct fs_handle *out, uint64_t out_off, uint64_t len);

	int (*opendir)(
		struct fs *fs, const struct fs_cred *c, struct fs_node *n, struct fs_handle **ret);
	/* Entries from off on (0: the start; else some fs_dirent.next) until fn says no or there are none. entries: with nodes and attributes. */
	int (*readdir)(struct fs *fs, const struct fs_cred *c, struct fs_handle *h, uint64_t off,
		bool entries, fs_dirent_fn fn, void *ctx);

	/* cap 0: only the length is asked for. */
	ssize_t (*getxattr)(
		struct fs *fs, struct fs_node *n, const char *name, void *buf, size_t cap);
	ssize_t (*listxattr)(struct fs *fs, struct fs_node *n, char *buf, size_t cap);
	int (*setxattr)(struct fs *fs, const struct fs_cred *c, struct fs_node *n, const char *name,
		const void *val, size_t len, int flags);
	int (*removexattr)(
		struct fs *fs, const struct fs_cred *c, struct fs_node *n, const char *name);

	/*
	 * POSIX locks, of lock->owner. getlk: lock becomes one that is in the way, or F_UNLCK. setlk: -EAGAIN when there is
	 * one. NULL: not offered; a peer that is alone can keep locks by itself.
	 */
	int (*getlk)(struct fs *fs, struct fs_handle *h, struct fs_lock *lock);
	int (*setlk)(struct fs *fs, struct fs_handle *h, const struct fs_lock *lock);
	int (*flock)(struct fs *fs, struct fs_handle *h, int op); /* LOCK_SH, LOCK_EX, LOCK_UN */

	int (*statfs)(struct fs *fs, struct fs_node *n, struct fs_stat *ret);
	int (*syncfs)(struct fs *fs, struct fs_node *n);

	/*
	 * Changes that others than peers make. All NULL: not offered.
	 *
	 * watch: from now on these events (IN_... of inotify(7)) of the node, or of what is in it, count; 0: none. peers: how
	 * many inodes the peers have of it; with more than one, what a peer changes is news for another. node NULL: nothing
	 * is watched any more.
	 */
	int (*watch)(struct fs *fs, struct fs_node *n, uint32_t events, unsigned peers);
	bool (*has_change)(struct fs *fs);
	bool (*next_change)(struct fs *fs, struct fs_change *ret);
	/*
	 * Around an operation that changes up to three files or names: what it does is no news. False: nobody watches them,
	 * and touched() is not to be called.
	 */
	bool (*touch)(struct fs *fs, const struct fs_touch *t, unsigned n);
	void (*touched)(struct fs *fs, bool done);
	/*
	 * What peers know by this name that is not there any more, or without a name the node itself, with one reference.
	 * -ENOENT: nothing.
	 */
	int (*departed)(struct fs *fs, struct fs_node *dir, const char *name, struct fs_entry *ret);
	/* The folder a node was found in. */
	int (*parent)(struct fs *fs, struct fs_node *n, struct fs_entry *ret);
};

/* Embedded first in a back end's own structure. */
struct fs {
	const struct fs_ops *ops;
};

#endif
