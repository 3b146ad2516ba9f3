/* SPDX-License-Identifier: MIT */
/*
 * JSON values (RFC 8259) by way of json-c, with cleanup types, typed access and a check of an
 * object against a table of fields. Memory for values is small and host-sized: running out of it
 * aborts.
 */
#ifndef WSLX_JSON_JSON_H
#define WSLX_JSON_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <json-c/json.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"

static inline void js_free(struct json_object *o)
{
	json_object_put(o);
}
DEFINE_CLEANUP(struct json_object, js_free)
#define cleanup_js cleanup(js_freep)

enum { JS_MAX_DEPTH = 16 };

/* Parses exactly len bytes of UTF-8 text holding one value. -EBADMSG. */
int js_parse(const char *text, size_t len, struct json_object **ret) MUST_CHECK;
/* The text on one line; belongs to o and lives as long as o is not changed. */
const char *js_text(struct json_object *o);

struct json_object *js_object(void);
struct json_object *js_array(void);

/* Sets a member; the second takes v over (which may be NULL for null). Return o. */
struct json_object *js_set_str(struct json_object *o, const char *key, const char *v);
struct json_object *js_set_u64(struct json_object *o, const char *key, uint64_t v);
struct json_object *js_set_bool(struct json_object *o, const char *key, bool v);
struct json_object *js_set(struct json_object *o, const char *key, struct json_object *v);
void js_push(struct json_object *array, struct json_object *v);

/* Members, or the default when o is no object, or the member is absent or of another type. A string
 * that holds a NUL byte counts as absent. Strings are borrowed from o. */
const char *js_str(struct json_object *o, const char *key, const char *def);
uint64_t js_u64(struct json_object *o, const char *key, uint64_t def);
bool js_bool(struct json_object *o, const char *key, bool def);
struct json_object *js_get(struct json_object *o, const char *key); /* borrowed; NULL when absent */

enum js_kind { JS_STR, JS_U64, JS_BOOL, JS_OBJECT, JS_ARRAY };

struct js_field {
	const char *name;
	enum js_kind kind;
	bool required;
	uint64_t max; /* of a number, or of a string's or array's length; 0: no limit */
};

/* Is o an object with all required fields, and no others than these? -EINVAL, and *e says which
 * field. */
int js_check(struct json_object *o, const struct js_field *fields, unsigned n, struct err *e);

#endif
