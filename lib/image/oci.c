/* SPDX-License-Identifier: MIT */
/*
 * Container images: an archive that holds layers, and JSON that says which and in what order. Two forms: the OCI image
 * layout (OCI image specification 1.1, "Image Layout", "Image Index", "Image Manifest") and what "docker save" writes
 * (manifest.json). The archive is read again from its start for every file that is wanted of it; a layer is an archive
 * in the archive, and is checked against its SHA-256 digest while it is read.
 */
#include "lib/image/import-internal.h"

#include <errno.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/json/json.h"

enum { JSON_MAX = 4 << 20, LAYERS_MAX = 512, INDEX_DEPTH = 4, LINKS_MAX = 4, CHUNK = 1 << 18 };

/* One file of the archive: its name, and what is known of it. */
struct blob {
	char name[300];
	uint8_t digest[SHA256_DIGEST_SIZE];
	bool has_digest;
	bool has_size;
	uint64_t size;
};

static void close_archivep(struct archive **a)
{
	if (*a)
		archive_read_free(*a);
}
#define cleanup_archive cleanup(close_archivep)

bool oci_looks_like(const char *name)
{
	static const char *const whole[] = {
		"blobs", "oci-layout", "index.json", "manifest.json", "repositories"};

	for (unsigned i = 0; i < ARRAY_LEN(whole); i++)
		if (!strcmp(name, whole[i]))
			return true;
	/* blobs/sha256/...; a layer's or a configuration's file or folder, named by its digest */
	return !strncmp(name, "blobs/", 6) || !strncmp(name, "sha256:", 7) ||
	       strspn(name, "0123456789abcdef") == 64;
}

/* --- files of the archive --- */

/* Where a link of the archive leads: old "docker save" shares layers in this way. */
static int follow(const char *from, const char *to, char buf[TREE_MAX_PATH], struct err *e)
{
	char joined[2 * TREE_MAX_PATH], *p = joined;
	size_t dir = strrchr(from, '/') ? (size_t)(strrchr(from, '/') - from) : 0;
	bool absolute;

	/* "../x" beside "dir/file" is "x"; more than that nobody needs. */
	if (!strncmp(to, "../", 3) && dir && !memchr(from, '/', dir)) {
		to += 3;
		dir = 0;
	}
	snprintf(p, sizeof(joined), "%.*s/%s", (int)dir, from, to);
	return tree_normalise(joined, buf, &absolute, e);
}

/* Opens the archive at the data of a file; -ENOENT: it has none of this name. */
static int open_once(struct import *im, const char *name, struct archive **ret,
	struct archive_entry **ret_entry, struct err *e)
{
	cleanup_archive struct archive *a = archive_read_new();
	char path[TREE_MAX_PATH];
	bool absolute;
	int r = a ? source_rewind(&im->src, e) : err_sys(e, -ENOMEM, "read the archive");

	if (r < 0)
		return r;
	im->a = a; /* for messages */
	source_formats(a);
	r = source_open(&im->src, a);
	while (r == ARCHIVE_OK && (r = archive_read_next_header(a, ret_entry)) == ARCHIVE_OK) {
		const char *p = archive_entry_pathname(*ret_entry);

		if (p && tree_normalise(p, path, &absolute, NULL) == 0 && !strcmp(path, name)) {
			im->a = NULL;
			*ret = take_ptr(a);
			return 0;
		}
	}
	r = r == ARCHIVE_EOF ? -ENOENT : import_archive_error(im, e);
	im->a = NULL;
	return r;
}

static int open_file(struct import *im, const struct blob *b, struct archive **ret, struct err *e)
{
	cleanup_archive struct archive *a = NULL;
	struct archive_entry *n = NULL;
	char name[TREE_MAX_PATH], next[TREE_MAX_PATH];
	int r;

	snprintf(name, sizeof(name), "%s", b->name);
	for (unsigned i = 0;; i++) {
		const char *link;

		r = open_once(im, name, &a, &n, e);
		if (r == -ENOENT)
			return err_set(e, r, "the archive has no file %s", name);
		if (r < 0)
			return r;
		link = archive_entry_symlink(n);
		if (!link || i == LINKS_MAX)
			break;
		r = follow(name, link, next, e);
		if (r < 0)
			return r;
		strcpy(name, next);
		archive_read_free(take_ptr(a));
	}
	if (!S_ISREG(archive_entry_mode(n)) || archive_entry_hardlink(n))
		return err_set(e, -EINVAL, "%s is not a file", name);
	if (b->has_size && (uint64_t)archive_entry_size(n) != b->size)
		return err_set(e, -EBADMSG, "%s has not the size it should have", name);
	*ret = take_ptr(a);
	return 0;
}

static int check_digest(const struct blob *b, struct sha256_ctx *sha, struct err *e)
{
	uint8_t got[SHA256_DIGEST_SIZE];

	sha256_digest(sha, sizeof(got), got);
	if (b->has_digest && memcmp(got, b->digest, sizeof(got)) != 0)
		return err_set(e, -EBADMSG, "%s is damaged: it has not the digest it should have",
			b->name);
	return 0;
}

static int load_json(
	struct import *im, const struct blob *b, struct json_object **ret, struct err *e)
{
	cleanup_archive struct archive *a = NULL;
	cleanup_free char *text = malloc(JSON_MAX + 1);
	struct sha256_ctx sha;
	size_t len = 0;
	int r = text ? open_file(im, b, &a, e) : err_sys(e, -ENOMEM, "read the archive");

	if (r < 0)
		return r;
	for (la_ssize_t n; len <= JSON_MAX; len += (size_t)n) {
		n = archive_read_data(a, text + len, JSON_MAX + 1 - len);
		if (n < 0)
			return err_set(e, -EINVAL, "read %s: %s", b->name, archive_error_string(a));
		if (n == 0)
			break;
	}
	if (len > JSON_MAX)
		return err_set(e, -EFBIG, "%s is too large", b->name);
	sha256_init(&sha);
	sha256_update(&sha, len, (const uint8_t *)text);
	r = check_digest(b, &sha, e);
	if (r == 0 && js_parse(text, len, ret) < 0)
		r = err_set(e, -EINVAL, "%s is not JSON", b->name);
	return r;
}

/* --- what the JSON says --- */

static int parse_digest(const char *s, struct blob *b, struct err *e)
{
	if (strncmp(s, "sha256:", 7) != 0)
		return err_set(e, -EOPNOTSUPP, "digest '%.80s' is not a SHA-256", s);
	s += 7;
	if (strlen(s) != 64 || strspn(s, "0123456789abcdef") != 64)
		return err_set(e, -EINVAL, "digest '%.80s' is malformed", s);
	for (unsigned i = 0; i < sizeof(b->digest); i++) {
		char byte[3] = {s[2 * i], s[2 * i + 1], 0};

		b->digest[i] = (uint8_t)strtoul(byte, NULL, 16);
	}
	b->has_digest = true;
	return 0;
}

/* An OCI descriptor: digest and size. */
static int blob_of(struct json_object *o, struct blob *ret, struct err *e)
{
	const char *digest = js_str(o, "digest", "");

	*ret = (struct blob){.size = js_u64(o, "size", 0)};
	ret->has_size = js_get(o, "size") != NULL;
	snprintf(ret->name, sizeof(ret->name), "blobs/sha256/%.64s",
		strchr(digest, ':') ? strchr(digest, ':') + 1 : "");
	return parse_digest(digest, ret, e);
}

static bool is_ours(struct json_object *platform)
{
	return !strcmp(js_str(platform, "os", ""), "linux") &&
	       !strcmp(js_str(platform, "architecture", ""), "amd64");
}

/* The one manifest of an index that is for this machine; one without platform, if it is the only one. */
static int choose(struct json_object *list, struct json_object **ret, struct err *e)
{
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
	struct json_object *plain = NULL;
	size_t plains = 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *m = json_object_array_get_idx(list, i);
		struct json_object *platform = js_get(m, "platform");

		if (is_ours(platform)) {
			*ret = m;
			return 0;
		}
		/* Names of one and the same image. */
		if (!platform && plain &&
			!strcmp(js_str(m, "digest", ""), js_str(plain, "digest", "")))
			continue;
		if (!platform) {
			plain = m;
			plains++;
		}
	}
	if (plains > 1)
		return err_set(e, -EINVAL, "it holds %zu images; save only one", plains);
	*ret = plain;
	return plain ? 0 : err_set(e, -EINVAL, "it holds no image for linux/amd64");
}

static int check_config(
	struct import *im, const struct blob *b, struct json_object **ret, struct err *e)
{
	int r = load_json(im, b, ret, e);

	if (r < 0)
		return r;
	if (js_get(*ret, "architecture") && !is_ours(*ret))
		return err_set(e, -EINVAL, "it is an image for %.40s/%.40s, not for linux/amd64",
			js_str(*ret, "os", "?"), js_str(*ret, "architecture", "?"));
	return 0;
}

static int too_many(size_t n, struct err *e)
{
	return n == 0 ? err_set(e, -EINVAL, "the image has no layers")
		      : err_set(e, -E2BIG, "the image has %zu layers; %d are supported", n,
				LAYERS_MAX);
}

struct image {
	struct blob *layer;
	size_t layers;
};

static int from_manifest(
	struct import *im, struct json_object *manifest, struct image *ret, struct err *e)
{
	cleanup_js struct json_object *config = NULL;
	struct json_object *layers = js_get(manifest, "layers");
	size_t n =
		json_object_is_type(layers, json_type_array) ? json_object_array_length(layers) : 0;
	struct blob b;
	int r;

	if (n == 0 || n > LAYERS_MAX)
		return too_many(n, e);
	r = blob_of(js_get(manifest, "config"), &b, e);
	if (r == 0)
		r = check_config(im, &b, &config, e);
	ret->layer = calloc(n, sizeof(*ret->layer));
	ret->layers = n;
	if (!ret->layer)
		return err_sys(e, -ENOMEM, "read the image");
	for (size_t i = 0; i < n && r == 0; i++) {
		struct json_object *o = json_object_array_get_idx(layers, i);
		const char *type = js_str(o, "mediaType", "");

		if (!strstr(type, "tar") || strstr(type, "encrypted"))
			r = err_set(e, -EOPNOTSUPP, "a layer of type '%.80s' cannot be read", type);
		else
			r = blob_of(o, &ret->layer[i], e);
	}
	return r;
}

/* index.json, and whatever it takes from there to a manifest. */
static int from_index(struct import *im, struct image *ret, struct err *e)
{
	struct blob b = {.name = "index.json"};
	int r = 0;

	for (unsigned depth = 0; depth < INDEX_DEPTH && r == 0; depth++) {
		cleanup_js struct json_object *o = NULL;
		struct json_object *next;

		r = load_json(im, &b, &o, e);
		if (r == 0 && !js_get(o, "manifests")) {
			r = from_manifest(im, o, ret, e);
			return r == -ENOENT ? err_wrap(e, -EINVAL, "index.json") : r;
		}
		if (r == 0)
			r = choose(js_get(o, "manifests"), &next, e);
		if (r == 0)
			r = blob_of(next, &b, e);
		if (r == -ENOENT && depth > 0)
			return err_wrap(e, -EINVAL,
				"index.json"); /* only its own absence is none of our business */
	}
	return r < 0 ? r : err_set(e, -EINVAL, "indexes of indexes, and no image");
}

/* A name in manifest.json; one that is a digest is checked. Otherwise diff_id is that of a layer not compressed. */
static int saved_blob(const char *name, const char *diff_id, struct blob *ret, struct err *e)
{
	char path[TREE_MAX_PATH], digest[80];
	bool absolute;
	int r = tree_normalise(name, path, &absolute, e);

	*ret = (struct blob){0};
	if (r < 0)
		return r;
	if (!*path || strlen(path) >= sizeof(ret->name))
		return err_set(e, -EINVAL, "manifest.json names no file");
	strcpy(ret->name, path);
	if (!strncmp(path, "blobs/sha256/", 13) && strlen(path) == 13 + 64) {
		snprintf(digest, sizeof(digest), "sha256:%s", path + 13);
		return parse_digest(digest, ret, e);
	}
	return diff_id ? parse_digest(diff_id, ret, e) : 0;
}

static int from_saved(struct import *im, struct image *ret, struct err *e)
{
	cleanup_js struct json_object *o = NULL, *config = NULL;
	struct json_object *one, *layers, *ids;
	struct blob b = {.name = "manifest.json"};
	size_t n;
	int r = load_json(im, &b, &o, e);

	if (r < 0)
		return r;
	n = json_object_is_type(o, json_type_array) ? json_object_array_length(o) : 0;
	if (n != 1)
		return err_set(e, -EINVAL, "it holds %zu images; save only one", n);
	one = json_object_array_get_idx(o, 0);
	layers = js_get(one, "Layers");
	n = json_object_is_type(layers, json_type_array) ? json_object_array_length(layers) : 0;
	if (n == 0 || n > LAYERS_MAX)
		return too_many(n, e);
	r = saved_blob(js_str(one, "Config", ""), NULL, &b, e);
	if (r == 0)
		r = check_config(im, &b, &config, e);
	if (r < 0)
		return err_wrap(e, -EINVAL, "manifest.json");
	ids = js_get(js_get(config, "rootfs"), "diff_ids");
	ret->layer = calloc(n, sizeof(*ret->layer));
	ret->layers = n;
	if (!ret->layer)
		return err_sys(e, -ENOMEM, "read the image");
	for (size_t i = 0; i < n && r == 0; i++) {
		struct json_object *name = json_object_array_get_idx(layers, i), *id = NULL;

		if (json_object_is_type(ids, json_type_array) && json_object_array_length(ids) == n)
			id = json_object_array_get_idx(ids, i);
		r = saved_blob(json_object_get_string(name) ? json_object_get_string(name) : "",
			json_object_is_type(id, json_type_string) ? json_object_get_string(id)
								  : NULL,
			&ret->layer[i], e);
	}
	return r;
}

/* --- layers --- */

struct stream {
	struct archive *outer;
	struct sha256_ctx sha;
	uint8_t buf[CHUNK];
};

static la_ssize_t on_read(struct archive *a, void *ctx, const void **buf)
{
	struct stream *s = ctx;
	la_ssize_t n = archive_read_data(s->outer, s->buf, sizeof(s->buf));

	if (n < 0) {
		archive_set_error(a, archive_errno(s->outer), "%s", archive_error_string(s->outer));
		return -1;
	}
	sha256_update(&s->sha, (size_t)n, s->buf);
	*buf = s->buf;
	return n;
}

static int read_layer(struct import *im, struct stream *s, struct err *e)
{
	const void *rest;
	int r;

	source_formats(im->a);
	if (archive_read_open(im->a, s, NULL, on_read, NULL) != ARCHIVE_OK)
		return import_archive_error(im, e);
	r = import_entries(im, e);
	/* What follows the archive's end belongs to the digest, too. */
	for (la_ssize_t n = 1; r == 0 && n;) {
		n = on_read(im->a, s, &rest);
		if (n < 0)
			r = import_archive_error(im, e);
	}
	im->base += (uint64_t)MAX(archive_filter_bytes(im->a, -1), 0);
	return r;
}

/* A layer is compressed or not; of one in manifest.json only the digest when it is not compressed is known. */
static bool digest_is_of_archive(struct import *im, const struct blob *b)
{
	return strncmp(b->name, "blobs/sha256/", 13) == 0 || archive_filter_count(im->a) <= 1;
}

static int import_layer(struct import *im, const struct blob *b, struct err *e)
{
	cleanup_archive struct archive *outer = NULL;
	cleanup_free struct stream *s = malloc(sizeof(*s));
	int r = s ? open_file(im, b, &outer, e) : err_sys(e, -ENOMEM, "read a layer");

	if (r < 0)
		return r;
	s->outer = outer;
	sha256_init(&s->sha);
	im->layer++;
	im->a = archive_read_new();
	r = im->a ? read_layer(im, s, e) : err_sys(e, -ENOMEM, "read a layer");
	if (r == 0 && digest_is_of_archive(im, b))
		r = check_digest(b, &s->sha, e);
	if (im->a)
		archive_read_free(take_ptr(im->a));
	return r < 0 ? err_wrap(e, r, "layer %u", im->layer) : 0;
}

/* The first entries were the archive's own, not a root file system's. */
static int reset_root(struct import *im, struct err *e)
{
	const struct ext4_attr a = {
		.mode = S_IFDIR | 0755, .atime.sec = im->o->now, .mtime.sec = im->o->now};

	return ext4_set_attr(im->x, EXT4_ROOT, &a, e);
}

int oci_import(struct import *im, struct err *e)
{
	struct image image = {0};
	int r = reset_root(im, e);

	if (r == 0)
		r = from_index(im, &image, e);
	if (r == -ENOENT && !image.layer)
		r = from_saved(im, &image, e);
	if (r == -ENOENT && !image.layer)
		r = err_set(e, -EINVAL,
			"not a container image: there is neither index.json nor manifest.json");
	im->progress.total = 0;
	for (size_t i = 0; i < image.layers && r == 0; i++)
		im->progress.total += image.layer[i].size;
	for (size_t i = 0; i < image.layers && r == 0; i++)
		r = import_layer(im, &image.layer[i], e);
	free(image.layer);
	return r;
}
