/* SPDX-License-Identifier: MIT */
/*
 * 9P2000.L, the wire format: Plan 9's intro(5) with the Linux dialect of diod's protocol.md and Linux's net/9p. One codec for both
 * directions: a message is one flat structure, whose members a type uses is the codec's table.
 *
 * Where both sides offer P9_VERSION_WSLX, the messages from P9_TLOOKUP on are known too: they save round trips, or do what
 * the dialect cannot say. That server works on requests in the order in which they came, so a client may send a
 * request that depends on the one before without waiting for its reply.
 */
#ifndef WSLX_P9_PROTO_H
#define WSLX_P9_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/base/attr.h"

#define P9_VERSION	"9P2000.L"
#define P9_VERSION_WSLX "9P2000.L.wslx1"

enum {
	P9_HEADER = 7,			/* size[4] type[1] tag[2] */
	P9_DATA_HEADER = 7 + 4 + 8 + 4, /* of a Twrite, the longest before data */
	P9_MSIZE_MIN = 4096,
	P9_MSIZE_MAX = (1 << 20) + 4096,
	P9_WALK_MAX = 16,
	P9_NAME_MAX = 255,
	P9_TARGET_MAX = 4095, /* of a symbolic link */
	P9_XATTR_MAX = 65536,
	P9_NO_TAG = 0xffff,
};
#define P9_NO_FID UINT32_MAX
#define P9_NO_UID UINT32_MAX

/* In comments: members of the request -> members of the reply, in the order of the wire. */
enum p9_type {
	P9_RLERROR = 7,	      /* ecode: a positive Linux errno */
	P9_TSTATFS = 8,	      /* fid -> statfs */
	P9_TLOPEN = 12,	      /* fid flags -> qid iounit */
	P9_TLCREATE = 14,     /* fid name flags mode gid -> qid iounit */
	P9_TSYMLINK = 16,     /* fid name name2 (target) gid -> qid */
	P9_TMKNOD = 18,	      /* fid name mode major minor gid -> qid */
	P9_TRENAME = 20,      /* fid fid2 (folder) name -> */
	P9_TREADLINK = 22,    /* fid -> name */
	P9_TGETATTR = 24,     /* fid valid -> attr */
	P9_TSETATTR = 26,     /* fid set -> */
	P9_TXATTRWALK = 30,   /* fid fid2 (new) name -> length */
	P9_TXATTRCREATE = 32, /* fid name length flags -> */
	P9_TREADDIR = 40,     /* fid offset count -> data: qid[13] offset[8] type[1] name[s].. */
	P9_TFSYNC = 50,	      /* fid flags (1: data only) -> */
	P9_TLOCK = 52,	   /* fid lock_type flags offset length proc_id name (client) -> status */
	P9_TGETLOCK = 54,  /* fid lock_type offset length proc_id name -> the same, without fid */
	P9_TLINK = 70,	   /* fid (folder) fid2 name -> */
	P9_TMKDIR = 72,	   /* fid name mode gid -> qid */
	P9_TRENAMEAT = 74, /* fid name fid2 name2 -> */
	P9_TUNLINKAT = 76, /* fid name flags -> */
	P9_TVERSION = 100, /* msize name -> msize name */
	P9_TAUTH = 102,	   /* fid name name2 uid -> qid */
	P9_TATTACH = 104,  /* fid fid2 (auth) name name2 uid -> qid */
	P9_TFLUSH = 108,   /* oldtag -> */
	P9_TWALK = 110,	   /* fid fid2 (new) names -> qids */
	P9_TREAD = 116,	   /* fid offset count -> data */
	P9_TWRITE = 118,   /* fid offset data -> count */
	P9_TCLUNK = 120,   /* fid -> */
	P9_TREMOVE = 122,  /* fid -> */

	/* P9_VERSION_WSLX */
	P9_TLOOKUP = 200,      /* fid fid2 (new) names -> attr: all names, or none and no new fid */
	P9_TREADDIRPLUS = 202, /* fid offset count -> data: attr offset[8] type[1] name[s].. */
	P9_TFALLOCATE = 204,   /* fid mode offset length -> */
	P9_TSEEK = 206,	       /* fid offset flags (whence) -> offset */
	P9_TRENAMEAT2 = 208,   /* fid name fid2 name2 flags -> */
	P9_TCOPY = 210,	       /* fid offset fid2 (to) offset2 length -> length */
	P9_TACCESS = 212,      /* fid mode -> */
	P9_TGETXATTR =
		214, /* fid name ("": their names) count -> length data; count 0: length alone */
	P9_TSETXATTR = 216,    /* fid name flags data -> */
	P9_TREMOVEXATTR = 218, /* fid name -> */
	P9_TYPES = 220,
};

/* qid.type */
enum { P9_QT_DIR = 0x80, P9_QT_SYMLINK = 0x02, P9_QT_FILE = 0 };

struct p9_qid {
	uint8_t type;
	uint32_t version;
	uint64_t path;
};
enum { P9_QID_SIZE = 13 };

struct p9_time {
	uint64_t sec, nsec;
};

enum { P9_GETATTR_BASIC = 0x7ff, P9_GETATTR_BTIME = 0x800, P9_GETATTR_ALL = 0x3fff };
struct p9_attr {
	uint64_t valid;
	struct p9_qid qid;
	uint32_t mode, uid, gid;
	uint64_t nlink, rdev, size, blksize, blocks;
	struct p9_time atime, mtime, ctime, btime;
	uint64_t gen, data_version;
};
enum { P9_ATTR_SIZE = 8 + 13 + 3 * 4 + 5 * 8 + 4 * 16 + 2 * 8 };

enum {
	P9_SET_MODE = 1,
	P9_SET_UID = 2,
	P9_SET_GID = 4,
	P9_SET_SIZE = 8,
	P9_SET_ATIME = 16, /* to now, but for ..._GIVEN */
	P9_SET_MTIME = 32,
	P9_SET_CTIME = 64,
	P9_SET_ATIME_GIVEN = 128,
	P9_SET_MTIME_GIVEN = 256,
};
struct p9_setattr {
	uint32_t valid, mode, uid, gid;
	uint64_t size;
	struct p9_time atime, mtime;
};

struct p9_statfs {
	uint32_t type, bsize;
	uint64_t blocks, bfree, bavail, files, ffree, fsid;
	uint32_t namelen;
};

/* Linux's open(2) flags on x86; the dialect has them as they are. */
enum {
	P9_O_ACCMODE = 3,
	P9_O_WRONLY = 1,
	P9_O_RDWR = 2,
	P9_O_CREAT = 0100,
	P9_O_EXCL = 0200,
	P9_O_TRUNC = 01000,
	P9_O_APPEND = 02000,
};

enum { P9_AT_REMOVEDIR = 0x200 };
enum { P9_LOCK_RDLCK, P9_LOCK_WRLCK, P9_LOCK_UNLCK };
/* Tlock's flags; P9_VERSION_WSLX: as flock(2), of the open file. */
enum { P9_LOCK_WAIT = 1, P9_LOCK_FLOCK = 0x100 };
enum { P9_LOCK_SUCCESS, P9_LOCK_BLOCKED, P9_LOCK_ERROR, P9_LOCK_GRACE };

/* Bytes of a message, not ended by a NUL. A decoded one holds no NUL and, but for targets and versions, no '/'. */
struct p9_str {
	const char *s;
	uint16_t len;
};

struct p9_msg {
	uint8_t type;
	uint8_t lock_type, status;
	uint16_t tag, oldtag;
	uint32_t fid, fid2;
	uint32_t flags, mode, uid, gid, major, minor, proc_id, msize, iounit, ecode;
	uint32_t count; /* of data, or wanted */
	uint64_t offset, offset2, length, valid;
	struct p9_str name, name2;
	struct p9_qid qid;
	struct p9_attr attr;
	struct p9_setattr set;
	struct p9_statfs statfs;
	uint16_t nnames, nqids;
	struct p9_str names[P9_WALK_MAX];
	struct p9_qid qids[P9_WALK_MAX];
	/* count bytes. To be encoded: NULL: they follow behind what is encoded. */
	const void *data;
};

/*
 * Decodes a whole message of size bytes: its own size, and that every member lies in it and has a legal value. -EBADMSG;
 * -EOPNOTSUPP: of a type that is not known, then type and tag are set. Strings and data point into buf.
 */
int p9_decode(const void *buf, size_t size, struct p9_msg *ret) MUST_CHECK;
/* The size that a message says it has: -EBADMSG unless within P9_HEADER .. max. buf: 4 bytes. */
int p9_size(const void *buf, size_t max);

/*
 * Encodes m. The length of what is in buf; the message's size has m->count more when its data follows. -EMSGSIZE when it
 * does not fit, -EINVAL when a string is too long.
 */
int p9_encode(const struct p9_msg *m, void *buf, size_t cap) MUST_CHECK;

/* Entries of a directory, in the data of Rreaddir and Rreaddirplus. */
struct p9_dirent {
	struct p9_attr attr; /* without plus: qid alone */
	uint64_t offset;     /* of the next one */
	uint8_t type;	     /* DT_REG .. */
	struct p9_str name;
};
/* Bytes taken; 0 at the end of the data; -EBADMSG. */
int p9_dirent_decode(const void *buf, size_t len, bool plus, struct p9_dirent *ret) MUST_CHECK;
/* Bytes written; -EMSGSIZE. */
int p9_dirent_encode(const struct p9_dirent *d, bool plus, void *buf, size_t cap) MUST_CHECK;

/* Is s a name that a directory can hold: not empty, not "." or "..", no '/', no NUL, not too long? */
bool p9_name_ok(struct p9_str s);
struct p9_str p9_str(const char *s);

#endif
