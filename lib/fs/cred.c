/* SPDX-License-Identifier: MIT */
/*
 * Whose new files are. A privileged server makes them as who asks, by the thread's file system ids, which leave its
 * capabilities alone (SECBIT_NO_SETUID_FIXUP): whether the asker may was decided by the asker's kernel. The umask is the
 * thread's own, too, so that folders' default ACLs take its place as they would locally.
 */
#include "lib/fs/host-internal.h"

#include <linux/securebits.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>

static _Thread_local struct {
	bool own; /* the rest is known, and ours alone */
	uint32_t uid, gid, umask;
} now;

void cred_init(struct host *h)
{
	int bits = prctl(PR_GET_SECUREBITS);

	h->privileged = geteuid() == 0 &&
			(bits & SECBIT_NO_SETUID_FIXUP ||
				prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP) == 0);
}

void cred_enter(const struct host *h, const struct fs_cred *c)
{
	if (!now.own) {
		/* without it the umask of all threads changes, which only matters where a default ACL is */
		(void)!unshare(CLONE_FS);
		umask(c->umask);
		now.umask = c->umask;
		now.uid = geteuid();
		now.gid = getegid();
		now.own = true;
	}
	if (now.umask != c->umask) {
		umask(c->umask);
		now.umask = c->umask;
	}
	if (!h->privileged)
		return;
	/* raw: the C library's would do it in every thread or not at all */
	if (now.gid != c->gid) {
		syscall(SYS_setfsgid, c->gid);
		now.gid = c->gid;
	}
	if (now.uid != c->uid) {
		syscall(SYS_setfsuid, c->uid);
		now.uid = c->uid;
	}
}
