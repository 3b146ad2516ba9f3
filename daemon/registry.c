/* SPDX-License-Identifier: MIT */
#include "daemon/registry.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/json/json.h"

enum { REG_FILE_MAX = 1 << 20 };

struct registry {
	char *dir;
	struct reg_entry *entries[REG_MAX];
	unsigned count;
	char def[37]; /* "": none */
};

static void entry_free(struct reg_entry *e)
{
	free(e->dir);
	free(e->disk);
	free(e);
}
DEFINE_CLEANUP(struct reg_entry, entry_free)

static struct reg_entry *entry_copy(const struct reg_entry *from)
{
	struct reg_entry *e = malloc(sizeof(*e));

	if (!e)
		return NULL;
	*e = *from;
	e->dir = strdup(from->dir);
	e->disk = from->disk ? strdup(from->disk) : NULL;
	if (!e->dir || (from->disk && !e->disk)) {
		entry_free(e);
		return NULL;
	}
	return e;
}

bool registry_name_ok(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n > REG_NAME_MAX || name[0] == '-' || name[0] == '.')
		return false;
	for (const char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("._-", *p))
			return false;
	return true;
}

bool registry_fs_ok(const char *fs)
{
	return !strcmp(fs, "ext4") || !strcmp(fs, "xfs") || !strcmp(fs, "btrfs");
}

const char *registry_fs(const struct reg_entry *entry)
{
	return entry->fs[0] ? entry->fs : "ext4";
}

static bool id_ok(const char *id)
{
	return strlen(id) == 36 && strspn(id, "0123456789abcdef-") == 36;
}

static struct json_object *entry_to_json(const struct reg_entry *e)
{
	struct json_object *o = js_object();

	js_set_str(o, "id", e->id);
	js_set_str(o, "name", e->name);
	js_set_str(o, "dir", e->dir);
	js_set_bool(o, "own_dir", e->own_dir);
	js_set_str(o, "fs", registry_fs(e));
	if (e->disk)
		js_set_str(o, "disk", e->disk);
	if (e->vhdx)
		js_set_str(o, "format", "vhdx");
	if (e->flavor[0])
		js_set_str(o, "flavor", e->flavor);
	if (e->version[0])
		js_set_str(o, "os_version", e->version);
	if (e->run_oobe)
		js_set_bool(o, "run_oobe", true);
	return js_set_u64(o, "uid", e->uid);
}

static int entry_from_json(struct json_object *o, struct reg_entry **ret)
{
	struct reg_entry e = {.own_dir = js_bool(o, "own_dir", false),
		.uid = (uint32_t)js_u64(o, "uid", 0),
		.run_oobe = js_bool(o, "run_oobe", false),
		.vhdx = strcmp(js_str(o, "format", "raw"), "vhdx") == 0};
	const char *id = js_str(o, "id", ""), *name = js_str(o, "name", "");
	const char *dir = js_str(o, "dir", ""), *disk = js_str(o, "disk", NULL);
	const char *fs = js_str(o, "fs", "ext4");
	cleanup_free char *copy = strdup(dir), *disk_copy = disk ? strdup(disk) : NULL;

	if (!id_ok(id) || !registry_name_ok(name) || dir[0] != '/' || (disk && disk[0] != '/') ||
		!registry_fs_ok(fs))
		return -EBADMSG;
	/* A disk in a format of a later version must not be taken for a raw one. */
	if (!e.vhdx && strcmp(js_str(o, "format", "raw"), "raw") != 0)
		return -EBADMSG;
	strcpy(e.id, id);
	strcpy(e.name, name);
	strcpy(e.fs, fs);
	snprintf(e.flavor, sizeof(e.flavor), "%s", js_str(o, "flavor", ""));
	snprintf(e.version, sizeof(e.version), "%s", js_str(o, "os_version", ""));
	e.dir = copy;
	e.disk = disk_copy;
	if (disk && !disk_copy)
		return -ENOMEM;
	*ret = copy ? entry_copy(&e) : NULL;
	return *ret ? 0 : -ENOMEM;
}

static int load(struct registry *r, struct json_object *o)
{
	struct json_object *list = js_get(o, "distributions");

	if (js_u64(o, "version", 0) != 1 || !json_object_is_type(list, json_type_array))
		return -EBADMSG;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		cleanup(entry_freep) struct reg_entry *e = NULL;
		int rc = entry_from_json(json_object_array_get_idx(list, i), &e);

		if (rc < 0)
			return rc;
		if (r->count == REG_MAX || registry_find(r, e->name) || registry_by_id(r, e->id))
			return -EBADMSG;
		r->entries[r->count++] = take_ptr(e);
	}
	snprintf(r->def, sizeof(r->def), "%s", js_str(o, "default", ""));
	if (r->def[0] && !registry_by_id(r, r->def))
		r->def[0] = '\0';
	return 0;
}

int registry_open(const char *data_dir, struct registry **ret, struct err *e)
{
	cleanup(registry_freep) struct registry *r = calloc(1, sizeof(*r));
	cleanup_js struct json_object *o = NULL;
	cleanup_free char *text = NULL;
	char path[PATH_MAX];
	size_t len;
	int rc;

	if (!r || !(r->dir = strdup(data_dir)))
		return err_sys(e, -ENOMEM, "registry");
	snprintf(path, sizeof(path), "%s/registry.json", data_dir);
	rc = io_read_file(path, REG_FILE_MAX, &text, &len);
	if (rc < 0 && rc != -ENOENT)
		return err_sys(e, rc, "%s", path);
	if (rc == 0) {
		rc = js_parse(text, len, &o);
		if (rc == 0)
			rc = load(r, o);
		if (rc < 0)
			return err_set(e, rc,
				"%s is damaged or from a newer version; repair it or move it away",
				path);
	}
	*ret = take_ptr(r);
	return 0;
}

void registry_free(struct registry *r)
{
	if (!r)
		return;
	for (unsigned i = 0; i < r->count; i++)
		entry_free(r->entries[i]);
	free(r->dir);
	free(r);
}

static int save(const struct registry *r, struct err *e)
{
	cleanup_js struct json_object *o = js_object();
	struct json_object *list = js_array();
	char path[PATH_MAX];
	const char *text;
	int rc;

	js_set_u64(o, "version", 1);
	js_set_str(o, "default", r->def);
	js_set(o, "distributions", list);
	for (unsigned i = 0; i < r->count; i++)
		js_push(list, entry_to_json(r->entries[i]));
	text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY);
	snprintf(path, sizeof(path), "%s/registry.json", r->dir);
	rc = io_replace_file(path, text, strlen(text), 0600);
	return rc < 0 ? err_sys(e, rc, "save %s", path) : 0;
}

unsigned registry_count(const struct registry *r)
{
	return r->count;
}

const struct reg_entry *registry_at(const struct registry *r, unsigned i)
{
	return r->entries[i];
}

const struct reg_entry *registry_find(const struct registry *r, const char *name)
{
	for (unsigned i = 0; i < r->count; i++)
		if (strcasecmp(r->entries[i]->name, name) == 0)
			return r->entries[i];
	return NULL;
}

const struct reg_entry *registry_by_id(const struct registry *r, const char *id)
{
	for (unsigned i = 0; i < r->count; i++)
		if (strcmp(r->entries[i]->id, id) == 0)
			return r->entries[i];
	return NULL;
}

const struct reg_entry *registry_default(const struct registry *r)
{
	return registry_by_id(r, r->def);
}

int registry_add(struct registry *r, const struct reg_entry *entry, struct err *e)
{
	char old[37];
	int rc;

	if (r->count == REG_MAX)
		return err_set(e, -ENOSPC, "too many distributions (%d)", REG_MAX);
	if (registry_find(r, entry->name))
		return err_set(e, -EEXIST, "a distribution named '%s' exists already", entry->name);
	r->entries[r->count] = entry_copy(entry);
	if (!r->entries[r->count])
		return err_sys(e, -ENOMEM, "register");
	r->count++;
	strcpy(old, r->def);
	if (!r->def[0])
		strcpy(r->def, entry->id);
	rc = save(r, e);
	if (rc < 0) {
		entry_free(r->entries[--r->count]);
		strcpy(r->def, old);
	}
	return rc;
}

int registry_remove(struct registry *r, const char *id, struct err *e)
{
	struct reg_entry *gone = NULL;
	char old[37];
	unsigned i = 0;
	int rc;

	while (i < r->count && strcmp(r->entries[i]->id, id) != 0)
		i++;
	if (i == r->count)
		return err_set(e, -ENOENT, "no such distribution");
	gone = r->entries[i];
	memmove(&r->entries[i], &r->entries[i + 1], (--r->count - i) * sizeof(gone));
	strcpy(old, r->def);
	if (strcmp(r->def, id) == 0)
		strcpy(r->def, r->count ? r->entries[0]->id : "");
	rc = save(r, e);
	if (rc < 0) {
		memmove(&r->entries[i + 1], &r->entries[i], (r->count++ - i) * sizeof(gone));
		r->entries[i] = gone;
		strcpy(r->def, old);
		return rc;
	}
	entry_free(gone);
	return 0;
}

int registry_update(struct registry *r, const struct reg_entry *entry, struct err *e)
{
	const struct reg_entry *same = registry_find(r, entry->name);
	struct reg_entry *at = NULL, *fresh, old;
	int rc;

	for (unsigned i = 0; i < r->count; i++)
		if (strcmp(r->entries[i]->id, entry->id) == 0)
			at = r->entries[i];
	if (!at)
		return err_set(e, -ENOENT, "no such distribution");
	if (same && same != at)
		return err_set(e, -EEXIST, "a distribution named '%s' exists already", entry->name);
	fresh = entry_copy(entry);
	if (!fresh)
		return err_sys(e, -ENOMEM, "register");
	old = *at;
	*at = *fresh;
	*fresh = old;
	rc = save(r, e);
	if (rc < 0) {
		old = *at;
		*at = *fresh;
		*fresh = old;
	}
	entry_free(fresh);
	return rc;
}

int registry_set_default(struct registry *r, const char *id, struct err *e)
{
	char old[37];
	int rc;

	if (!registry_by_id(r, id))
		return err_set(e, -ENOENT, "no such distribution");
	strcpy(old, r->def);
	strcpy(r->def, id);
	rc = save(r, e);
	if (rc < 0)
		strcpy(r->def, old);
	return rc;
}

int registry_disk(const struct reg_entry *entry, bool partial, char *buf, size_t cap)
{
	int n = partial	      ? snprintf(buf, cap, "%s/disk.img.part", entry->dir)
		: entry->disk ? snprintf(buf, cap, "%s", entry->disk)
			      : snprintf(buf, cap, "%s/%s.img", entry->dir, registry_fs(entry));

	return n < 0 || (size_t)n >= cap ? -ENAMETOOLONG : 0;
}

/* RFC 4122 version 4. */
void registry_new_id(char id[37])
{
	uint8_t b[16];

	if (getrandom(b, sizeof(b), 0) != sizeof(b))
		abort();
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	snprintf(id, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12],
		b[13], b[14], b[15]);
}

int registry_pending(struct registry *r, const struct reg_entry *entry, struct err *e)
{
	cleanup_js struct json_object *o = entry_to_json(entry);
	const char *text = js_text(o);
	char path[PATH_MAX];
	int rc;

	snprintf(path, sizeof(path), "%s/pending", r->dir);
	rc = io_mkdir_p(path, 0700);
	if (rc == 0) {
		snprintf(path, sizeof(path), "%s/pending/%s", r->dir, entry->id);
		rc = io_replace_file(path, text, strlen(text), 0600);
	}
	return rc < 0 ? err_sys(e, rc, "save %s", path) : 0;
}

void registry_settled(struct registry *r, const char *id)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/pending/%s", r->dir, id);
	unlink(path);
}

int registry_remove_files(const struct reg_entry *entry, bool only_partial, struct err *e)
{
	char path[PATH_MAX];

	/* A disk that was registered where it is stays there. */
	for (int partial = only_partial || entry->disk; partial < 2; partial++)
		if (registry_disk(entry, partial, path, sizeof(path)) == 0 && unlink(path) < 0 &&
			errno != ENOENT && errno != ENOTDIR)
			return err_sys(e, -errno, "remove %s", path);
	/* Not empty: somebody keeps files there, which are not ours to remove. */
	if (entry->own_dir && rmdir(entry->dir) < 0 && errno != ENOENT && errno != ENOTEMPTY &&
		errno != EEXIST)
		return err_sys(e, -errno, "remove %s", entry->dir);
	return 0;
}

/* A disk is somebody's when an entry's disk is this file; the entry in a note may be another one. */
static bool disk_is_registered(const struct registry *r, const struct reg_entry *entry)
{
	char disk[PATH_MAX], other[PATH_MAX];

	if (registry_disk(entry, false, disk, sizeof(disk)) < 0)
		return true;
	for (unsigned i = 0; i < r->count; i++)
		if (registry_disk(r->entries[i], false, other, sizeof(other)) == 0 &&
			strcmp(disk, other) == 0)
			return true;
	return false;
}

static void recover_one(struct registry *r, const char *name)
{
	cleanup(entry_freep) struct reg_entry *entry = NULL;
	cleanup_js struct json_object *o = NULL;
	cleanup_free char *text = NULL;
	char path[PATH_MAX];
	struct err e = {0};
	size_t len;

	snprintf(path, sizeof(path), "%s/pending/%s", r->dir, name);
	if (id_ok(name) && io_read_file(path, REG_FILE_MAX, &text, &len) == 0 &&
		js_parse(text, len, &o) == 0 && entry_from_json(o, &entry) == 0) {
		bool used = disk_is_registered(r, entry);

		if (registry_remove_files(entry, used, &e) < 0) {
			log_warn("registry", "clean up after an interrupted operation: %s", e.text);
			return;
		}
		if (!used)
			log_info("registry", "removed what an interrupted operation left in %s",
				entry->dir);
	}
	/* A note that makes no sense (or a temporary file of one) can only be dropped. */
	unlink(path);
}

void registry_recover(struct registry *r)
{
	char path[PATH_MAX];
	DIR *d;

	snprintf(path, sizeof(path), "%s/pending", r->dir);
	d = opendir(path);
	if (!d)
		return;
	for (struct dirent *de; (de = readdir(d));)
		if (de->d_name[0] != '.')
			recover_one(r, de->d_name);
	closedir(d);
}
