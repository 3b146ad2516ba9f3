/* SPDX-License-Identifier: MIT */
/*
 * How programs in the guest hear of what others than the guest change in a folder of the host. virtio-fs has no notifications, so
 * the guest's init tells the file server which nodes are watched, is told what happened to them, and makes its own kernel say so
 * to the watchers: it asks for an operation that is this very change, and the server, which did it already, says yes.
 * All of it are extended attributes of the file system's root, for root alone.
 *
 * Numbers are little-endian, as both sides are.
 */
#ifndef WSLX_ABI_WATCH_H
#define WSLX_ABI_WATCH_H

#include <stdint.h>

/* set: an array of struct wslx_watch; empty: nothing is watched any more. */
#define WSLX_WATCH_XATTR "trusted.wslx.watch"
/* get: answered, with nothing, when there is a change to be had, or the server has another reason. */
#define WSLX_WAIT_XATTR "trusted.wslx.wait"
/*
 * get: the next change, or ENODATA. Until that is answered, or the next one asked for, who asked has it in hand: operations it
 * asks for that are this change are done, and others that would change a file are refused.
 */
#define WSLX_CHANGE_XATTR "trusted.wslx.change"

/* A node's number, as in file handles of FUSE. */
struct wslx_watch {
	uint64_t node;
	uint32_t events; /* of inotify(7); 0: none any more */
	uint32_t
		peers; /* file systems in which it is watched; each has an inode of its own for the node */
};
_Static_assert(sizeof(struct wslx_watch) == 16, "ABI");

enum wslx_change_kind {
	WSLX_CHANGE_CREATE = 1, /* name in node */
	WSLX_CHANGE_DELETE,
	WSLX_CHANGE_MOVE, /* name in node to to_name in to */
	WSLX_CHANGE_MOVED_FROM,
	WSLX_CHANGE_MOVED_TO,
	WSLX_CHANGE_MODIFY, /* of name in node, or without a name of node */
	WSLX_CHANGE_ATTRIB,
	WSLX_CHANGE_CLOSE_WRITE,
	WSLX_CHANGE_DELETE_SELF, /* of node */
	WSLX_CHANGE_MOVE_SELF,
	WSLX_CHANGE_LOST, /* there were too many to keep: any watched node may have changed */
};

struct wslx_change {
	uint64_t node, to;
	uint32_t kind; /* enum wslx_change_kind */
	uint32_t mode; /* the file's type, S_IF..., and permissions; 0: not known */
	uint16_t name_len, to_len;
	uint32_t pad;
	/* the names follow */
};
_Static_assert(sizeof(struct wslx_change) == 32, "ABI");

enum { WSLX_CHANGE_MAX = 32 + 2 * 255 };

/*
 * A folder that is in every folder for who has a change in hand. In it, WSLX_RAISE_FROM is the file that came from elsewhere, and
 * WSLX_RAISE_TO a name that one can go to which is gone elsewhere.
 */
#define WSLX_RAISE_DIR	".wslx-raise"
#define WSLX_RAISE_FROM "from"
#define WSLX_RAISE_TO	"to"

/* Times that stand for "now, by somebody else": as time of modification, and for WSLX_CHANGE_ATTRIB as both. */
#define WSLX_RAISE_SEC	INT64_C(0x77736c78)
#define WSLX_RAISE_NSEC 770077007

#endif
