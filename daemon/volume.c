/* SPDX-License-Identifier: MIT */
#include "daemon/volume.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/base/log.h"

enum { FILE_MAX = 1 << 20 };

bool volume_name_ok(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n > VOLUME_NAME_MAX || name[0] == '-' || name[0] == '.')
		return false;
	for (const char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("._-", *p))
			return false;
	return true;
}

void volume_default_name(const char *path, unsigned partition, char name[VOLUME_NAME_MAX + 1])
{
	const char *base = strrchr(path, '/');
	size_t n;

	snprintf(name, VOLUME_NAME_MAX - 4, "%s", base ? base + 1 : path);
	for (char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && (!strchr("._-", *p) || p == name))
			*p = '_';
	n = strlen(name);
	if (partition)
		snprintf(name + n, VOLUME_NAME_MAX + 1 - n, "p%u", partition);
}

struct volume *volume_new(const char *path, const struct stat *st)
{
	struct volume *v = calloc(1, sizeof(*v));

	if (!v)
		abort();
	snprintf(v->path, sizeof(v->path), "%s", path);
	/* A device is itself, whatever node leads to it. */
	v->folder = S_ISDIR(st->st_mode);
	if (S_ISBLK(st->st_mode))
		snprintf(v->id, sizeof(v->id), ".b-%llx", (unsigned long long)st->st_rdev);
	else
		snprintf(v->id, sizeof(v->id), ".%llx-%llx", (unsigned long long)st->st_dev,
			(unsigned long long)st->st_ino);
	return v;
}

void volume_free(struct volume *v)
{
	while (v && v->mounts) {
		struct volume_mount *m = v->mounts;

		v->mounts = m->next;
		free(m);
	}
	free(v);
}

struct volume *volume_find(const struct volumes *vs, const char *id)
{
	struct volume *v = vs->list;

	while (v && strcmp(v->id, id) != 0)
		v = v->next;
	return v;
}

struct volume *volume_named(const struct volumes *vs, const char *name)
{
	for (struct volume *v = vs->list; v; v = v->next)
		for (struct volume_mount *m = v->mounts; m; m = m->next)
			if (strcmp(m->name, name) == 0)
				return v;
	return NULL;
}

void volume_add_mount(struct volume *v, const struct volume_mount *m)
{
	struct volume_mount **p = &v->mounts, *copy = malloc(sizeof(*copy));

	if (!copy)
		abort();
	*copy = *m;
	copy->next = NULL;
	while (*p)
		p = &(*p)->next;
	*p = copy;
}

void volume_drop(struct volumes *vs, struct volume *v)
{
	for (struct volume **p = &vs->list; *p; p = &(*p)->next)
		if (*p == v) {
			*p = v->next;
			break;
		}
	volume_free(v);
}

static struct json_object *to_json(const struct volume *v)
{
	struct json_object *o = js_set_str(js_object(), "disk", v->path), *mounts = js_array();

	js_set_bool(o, "folder", v->folder);
	js_set_bool(o, "vhdx", v->vhdx);
	js_set_bool(o, "ro", v->ro);
	js_set_bool(o, "bare", v->bare);
	for (struct volume_mount *m = v->mounts; m; m = m->next) {
		struct json_object *one = js_set_str(js_object(), "name", m->name);

		js_set_u64(one, "partition", m->partition);
		js_set_str(one, "type", m->type);
		js_push(mounts, js_set_str(one, "options", m->options));
	}
	return js_set(o, "mounts", mounts);
}

struct json_object *volumes_json(const struct volumes *vs)
{
	struct json_object *list = js_array();

	for (struct volume *v = vs->list; v; v = v->next)
		js_push(list, to_json(v));
	return list;
}

static void file_path(const struct service *s, char *buf, size_t cap)
{
	snprintf(buf, cap, "%s/mounts.json", s->runtime_dir);
}

void volumes_save(struct service *s)
{
	cleanup_js struct json_object *o = js_object();
	struct json_object *list = js_array();
	char path[PATH_MAX];
	const char *text;
	int r;

	for (struct volume *v = s->volumes->list; v; v = v->next)
		js_push(list, js_set_str(to_json(v), "id", v->id));
	text = js_text(js_set(o, "volumes", list));
	file_path(s, path, sizeof(path));
	r = io_replace_file(path, text, strlen(text), 0600);
	if (r < 0)
		log_warn("volume", "save %s: %s", path, strerror(-r));
}

static void load_mounts(struct volume *v, struct json_object *list)
{
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		struct volume_mount m = {.partition = (unsigned)js_u64(o, "partition", 0)};

		snprintf(m.name, sizeof(m.name), "%s", js_str(o, "name", ""));
		snprintf(m.type, sizeof(m.type), "%s", js_str(o, "type", ""));
		snprintf(m.options, sizeof(m.options), "%s", js_str(o, "options", ""));
		if (volume_name_ok(m.name))
			volume_add_mount(v, &m);
	}
}

static void load(struct volumes *vs, struct json_object *list)
{
	struct volume **last = &vs->list;

	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		struct volume *v = calloc(1, sizeof(*v));

		if (!v)
			abort();
		snprintf(v->id, sizeof(v->id), "%s", js_str(o, "id", ""));
		snprintf(v->path, sizeof(v->path), "%s", js_str(o, "disk", ""));
		v->folder = js_bool(o, "folder", false);
		v->vhdx = js_bool(o, "vhdx", false);
		v->ro = js_bool(o, "ro", false);
		v->bare = js_bool(o, "bare", false);
		load_mounts(v, js_get(o, "mounts"));
		if (v->id[0] != '.' || v->path[0] != '/') {
			volume_free(v);
			continue;
		}
		*last = v;
		last = &v->next;
	}
}

int volumes_open(struct service *s, struct err *e)
{
	cleanup_js struct json_object *o = NULL;
	cleanup_free char *text = NULL;
	char path[PATH_MAX];
	size_t len;

	s->volumes = calloc(1, sizeof(*s->volumes));
	if (!s->volumes)
		return err_sys(e, -ENOMEM, "volumes");
	file_path(s, path, sizeof(path));
	/* Damaged, it is as good as gone: disks are mounted again by hand. */
	if (io_read_file(path, FILE_MAX, &text, &len) == 0 && js_parse(text, len, &o) == 0)
		load(s->volumes, js_get(o, "volumes"));
	return volume_ops_open(s);
}

void volumes_free(struct service *s)
{
	struct volumes *vs = s->volumes;

	if (!vs)
		return;
	volume_ops_close(s);
	while (vs->list)
		volume_drop(vs, vs->list);
	free(vs);
	s->volumes = NULL;
}

int volume_lock(int fd, const char *name, struct err *e)
{
	return flock(fd, LOCK_EX | LOCK_NB) < 0
		       ? err_set(e, -EBUSY, "%s is in use by another program", name)
		       : 0;
}

int volume_open_disk(const struct volume *v, struct err *e)
{
	cleanup_close int fd = -EBADF;
	struct volume *now;
	struct stat st;
	bool same;
	int r, flags = (v->ro ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK;

	if (stat(v->path, &st) == 0 && S_ISBLK(st.st_mode))
		flags |= O_EXCL; /* nobody on this host has it mounted (open(2)) */
	fd = open(v->path, flags);
	if (fd < 0 || fstat(fd, &st) < 0)
		return errno == EBUSY ? err_set(e, -EBUSY, "%s is in use by this host", v->path)
				      : err_sys(e, -errno, "%s", v->path);
	now = volume_new(v->path, &st);
	same = strcmp(now->id, v->id) == 0;
	volume_free(now);
	if (!same)
		return err_set(e, -ESTALE, "%s is another disk than before", v->path);
	r = volume_lock(fd, v->path, e);
	return r < 0 ? r : take_fd(fd);
}
