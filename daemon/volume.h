/* SPDX-License-Identifier: MIT */
/*
 * Volumes: disks of no distribution, attached to the machine that distributions share ("mount", "unmount"), and folders of
 * this host that are mounted there beside /mnt/host. A volume is one with what of it is mounted; volume.c keeps the list, in mounts.json in the runtime folder, so that it lasts until
 * the host restarts; volume-op.c does what is asked, one after the other, and puts back into a new machine what the last
 * one had.
 */
#ifndef WSLX_DAEMON_VOLUME_H
#define WSLX_DAEMON_VOLUME_H

#include <sys/stat.h>
#include "daemon/machine.h"
#include "daemon/service.h"

enum { VOLUME_NAME_MAX = 64, VOLUME_OPTIONS_MAX = 500, VOLUME_TYPE_MAX = 31, VOLUMES_MAX = 32 };

struct volume_mount {
	struct volume_mount *next;
	char name[VOLUME_NAME_MAX + 1];
	unsigned partition; /* 0: the whole disk */
	char type[VOLUME_TYPE_MAX + 1], options[VOLUME_OPTIONS_MAX + 1];
};

struct volume {
	struct volume *next;
	char id[40]; /* of its LUN (vm_lun()): '.' and which file it is; the same file is the same volume */
	char path[3900];
	bool vhdx, ro;
	bool folder; /* has no LUN: what is mounted is in the share (share.h) */
	bool bare;   /* asked for without a file system */
	struct volume_mount *mounts;
};

struct volumes {
	struct volume *list;
	struct volume_op *ops; /* the first one is under way, or waits for the machine */
	unsigned restoring;    /* of them, those that put something back */
	bool kick; /* the last of these has ended: distributions need not wait any more */
	struct loop_src *patience;
};

int volumes_open(struct service *s, struct err *e);
void volumes_free(struct service *s);

struct volume *volume_new(const char *path, const struct stat *st);
void volume_free(struct volume *v);
struct volume *volume_find(const struct volumes *vs, const char *id);
/* Whose mount has this name? NULL: nobody's. */
struct volume *volume_named(const struct volumes *vs, const char *name);
void volume_add_mount(struct volume *v, const struct volume_mount *m);
void volume_drop(struct volumes *vs, struct volume *v);
void volumes_save(struct service *s);
/* Letters, digits, '.', '_' and '-', not starting with '.' or '-'. */
bool volume_name_ok(const char *name);
/* One that the disk's file name gives. */
void volume_default_name(const char *path, unsigned partition, char name[VOLUME_NAME_MAX + 1]);
/* For status: an array. */
struct json_object *volumes_json(const struct volumes *vs);
/* Its disk, locked; negative: a negative errno, and why. */
int volume_open_disk(const struct volume *v, struct err *e);
/* fd is locked against everybody else; name: for messages. */
int volume_lock(int fd, const char *name, struct err *e);

/* volume-op.c */
int volume_ops_open(struct service *s);
void volume_ops_close(struct service *s);
void volume_mount_method(void *service, struct ctl_call *call, struct json_object *params);
void volume_unmount_method(void *service, struct ctl_call *call, struct json_object *params);
/* This machine is up: what is to be put back is noted. Distributions wait as long as volume_waits(). */
void volume_machine_up(struct machine *m);
bool volume_waits(const struct machine *m);
/* This machine has gone: what needed it fails with that reason, unless its end was planned. */
void volume_machine_gone(struct machine *m, const char *why, bool planned);
/* Is the machine needed? */
bool volume_busy(const struct machine *m);
/* Goes on, soon, with what waits for a machine's coming or going. */
void volume_advance(struct service *s);

#endif
