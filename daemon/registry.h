/* SPDX-License-Identifier: MIT */
/*
 * The distributions on this machine: registry.json in the data folder, replaced as a whole with each
 * change, so that a crash leaves the old or the new one. A change that cannot be saved has not
 * happened.
 *
 * Files of a distribution are made before it is registered and removed after it is unregistered;
 * meanwhile a note in pending/ names them, and registry_recover() removes what a crash left behind.
 */
#ifndef WSLX_DAEMON_REGISTRY_H
#define WSLX_DAEMON_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/base/cleanup.h"
#include "lib/base/err.h"

enum { REG_NAME_MAX = 64, REG_MAX = 256 };

struct reg_entry {
	char id[37];
	char name[REG_NAME_MAX + 1];
	char *dir;    /* owned; holds the disk */
	bool own_dir; /* dir was made by us and goes with the distribution */
	uint32_t uid; /* default user */
	char fs[8];   /* of its disk: "ext4", "xfs", "btrfs"; "": ext4 */
	/* Owned: a disk file that was registered where it is, and is not ours to remove; NULL: FS.img in dir. */
	char *disk;
	bool vhdx;		      /* which is a VHDX file; ours are raw */
	char flavor[64], version[64]; /* os-release(5): ID, VERSION_ID; "" */
	bool run_oobe;		      /* its first interactive start runs oobe.command */
};

struct registry;

/* Reads data_dir/registry.json; a missing one is empty, a damaged one an error. */
int registry_open(const char *data_dir, struct registry **ret, struct err *e);
void registry_free(struct registry *r);
DEFINE_CLEANUP(struct registry, registry_free)

unsigned registry_count(const struct registry *r);
const struct reg_entry *registry_at(const struct registry *r, unsigned i);
/* By name, which does not mind case; NULL. */
const struct reg_entry *registry_find(const struct registry *r, const char *name);
const struct reg_entry *registry_by_id(const struct registry *r, const char *id);
const struct reg_entry *registry_default(const struct registry *r); /* NULL: there is none */

/* entry is copied. The first one becomes the default. */
int registry_add(struct registry *r, const struct reg_entry *entry, struct err *e);
int registry_remove(struct registry *r, const char *id, struct err *e);
/* Replaces the entry of the same id; pointers to it stay good, what they point to changes. */
int registry_update(struct registry *r, const struct reg_entry *entry, struct err *e);
int registry_set_default(struct registry *r, const char *id, struct err *e);

/* "ext4", "xfs" or "btrfs". */
bool registry_fs_ok(const char *fs);
const char *registry_fs(const struct reg_entry *entry);

/* Letters, digits, '.', '_' and '-', not starting with '-' or '.'. */
bool registry_name_ok(const char *name);
/* The disk's path, and where it is while it is being made. */
int registry_disk(const struct reg_entry *entry, bool partial, char *buf, size_t cap);
/* A fresh random id. */
void registry_new_id(char id[37]);

/* Notes that the files of entry come or go, durably; registry_settled() removes the note. */
int registry_pending(struct registry *r, const struct reg_entry *entry, struct err *e);
void registry_settled(struct registry *r, const char *id);
/* Removes the files of entry: the partial disk, the disk (unless only_partial or not ours), and the
 * folder if ours and empty. */
int registry_remove_files(const struct reg_entry *entry, bool only_partial, struct err *e);
/* At start: for each note left, removes the files unless the disk is a registered one (then only a
 * partial disk beside it). */
void registry_recover(struct registry *r);

#endif
