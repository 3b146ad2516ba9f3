/* SPDX-License-Identifier: MIT */
/*
 * Folders of this machine as a file server (fs.h) that cannot be talked out of them: every walk starts at a descriptor
 * and takes one component, with openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS) and O_NOFOLLOW.
 */
#ifndef WSLX_FS_HOST_H
#define WSLX_FS_HOST_H

#include "lib/base/err.h"
#include "lib/fs/fs.h"

/* How files of a share look to who asks. */
/*
 * 32 KiB or more, not executable; all; none. What is mapped for writing cannot be executed on the host meanwhile, and what is small is read
 * faster than it is mapped. Never those of network file systems, whose server could keep a whole virtual machine waiting.
 */
enum fs_map { FS_MAP_AUTO, FS_MAP_ALWAYS, FS_MAP_NEVER };

struct fs_share_opts {
	bool read_only;
	enum fs_map map; /* of which files FS_ATTR_MAP is said */
	/*
	 * Without privileges all new files belong to the server's user. "squash": that user is uid and gid for who asks, and
	 * everybody else is who they are. Privileged servers leave it: ids are the same on both sides.
	 */
	bool squash;
	bool privileged; /* the server's to say */
	uint32_t uid, gid;
	/* Owners, types and modes that the server's user may not give to a file are kept in its attribute user.wslx.meta. */
	bool metadata;
	/* Permissions taken away from what is shown, from files and from folders. */
	uint32_t fmask, dmask;
};

/*
 * Options separated by commas, added to what *o says: ro, rw, metadata, dax=auto|always|never, uid=N, gid=N, umask=, fmask=, dmask=OCTAL, and
 * user=UID:GID: uid and gid unless the server is privileged or they are known already. None gives back what another took.
 */
int fs_share_opts_parse(const char *text, struct fs_share_opts *o, struct err *e);

/* The folder fd (borrowed until free) is the root. opts: NULL as in {0}. */
int fs_host_new(struct fs **ret, int fd, const struct fs_share_opts *opts, struct err *e);

/*
 * A root that holds nothing but shares, to be added any time before or after serving starts. A peer can ask for another view of
 * one, with options of its own, under the name "SHARE:OPTIONS".
 */
int fs_host_new_set(struct fs **ret, struct err *e);
/* Folder fd (taken over when this works) becomes the folder "name" of the root, for a peer of one file system with all others. -EEXIST. */
int fs_host_add(
	struct fs *fs, const char *name, int fd, const struct fs_share_opts *opts, struct err *e);
/*
 * For peers that change files' times after they removed them, as kernels do that write later: a file keeps being there for them
 * until they forget it.
 */
void fs_host_keep_removed(struct fs *fs);

/*
 * For a server in a virtual machine, which files of its host are mounted in: those mounts are shown and not entered, and nothing is
 * asked of them, for who answers there may be waiting for this server. Before serving starts.
 */
void fs_host_close_machine(struct fs *fs);

/*
 * Lets go of what other mounts than the shares' own are kept in use by without need, so that the host can unmount them, and of what
 * is watched, so that its end is noticed. To be called some time after peers were busy.
 */
void fs_host_let_go(struct fs *fs);

/*
 * Views survive: those named in the file fd (borrowed) are made now, in order, and new ones are written there. After the
 * shares are added, and before serving starts.
 */
void fs_host_keep_views(struct fs *fs, int fd);

/*
 * Watches of what others change can be had. Before the sandbox is entered. The descriptor, borrowed, which can be read when there
 * may be news; fs_host_look() then takes them in.
 */
int fs_host_enable_watches(struct fs *fs);
void fs_host_look(struct fs *fs);

/* The descriptor of an open file, borrowed. */
int fs_host_fd(const struct fs_handle *h);

#endif
