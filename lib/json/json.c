/* SPDX-License-Identifier: MIT */
#include "lib/json/json.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static struct json_object *must(struct json_object *o)
{
	if (!o)
		abort();
	return o;
}

int js_parse(const char *text, size_t len, struct json_object **ret)
{
	struct json_tokener *t;
	struct json_object *o;
	int r = 0;

	if (len == 0 || len > INT_MAX)
		return -EBADMSG;
	t = json_tokener_new_ex(JS_MAX_DEPTH);
	if (!t)
		return -ENOMEM;
	json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	o = json_tokener_parse_ex(t, text, (int)len);
	/* A number at the very end is complete only when something follows it. */
	if (json_tokener_get_error(t) == json_tokener_continue)
		o = json_tokener_parse_ex(t, "\n", 1);
	else if (json_tokener_get_parse_end(t) != len)
		r = -EBADMSG;
	if (json_tokener_get_error(t) != json_tokener_success)
		r = -EBADMSG;
	json_tokener_free(t);
	if (r < 0)
		json_object_put(o);
	else
		*ret = o;
	return r;
}

const char *js_text(struct json_object *o)
{
	const char *s = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);

	if (!s)
		abort();
	return s;
}

struct json_object *js_object(void)
{
	return must(json_object_new_object());
}

struct json_object *js_array(void)
{
	return must(json_object_new_array());
}

struct json_object *js_set(struct json_object *o, const char *key, struct json_object *v)
{
	if (json_object_object_add(o, key, v) < 0)
		abort();
	return o;
}

struct json_object *js_set_str(struct json_object *o, const char *key, const char *v)
{
	return js_set(o, key, must(json_object_new_string(v)));
}

struct json_object *js_set_u64(struct json_object *o, const char *key, uint64_t v)
{
	return js_set(o, key, must(json_object_new_uint64(v)));
}

struct json_object *js_set_bool(struct json_object *o, const char *key, bool v)
{
	return js_set(o, key, must(json_object_new_boolean(v)));
}

void js_push(struct json_object *array, struct json_object *v)
{
	if (json_object_array_add(array, v) < 0)
		abort();
}

struct json_object *js_get(struct json_object *o, const char *key)
{
	struct json_object *v;

	if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, key, &v))
		return NULL;
	return v;
}

static const char *plain_string(struct json_object *v)
{
	const char *s;

	if (!json_object_is_type(v, json_type_string))
		return NULL;
	s = json_object_get_string(v);
	return strlen(s) == (size_t)json_object_get_string_len(v) ? s : NULL;
}

const char *js_str(struct json_object *o, const char *key, const char *def)
{
	const char *s = plain_string(js_get(o, key));

	return s ? s : def;
}

/* json-c keeps numbers above INT64_MAX apart; negative ones read as unsigned give 0. */
static bool is_u64(struct json_object *v)
{
	return json_object_is_type(v, json_type_int) &&
	       (json_object_get_int64(v) >= 0 || json_object_get_uint64(v) != 0);
}

uint64_t js_u64(struct json_object *o, const char *key, uint64_t def)
{
	struct json_object *v = js_get(o, key);

	return v && is_u64(v) ? json_object_get_uint64(v) : def;
}

bool js_bool(struct json_object *o, const char *key, bool def)
{
	struct json_object *v = js_get(o, key);

	return json_object_is_type(v, json_type_boolean) ? json_object_get_boolean(v) : def;
}

static bool field_ok(const struct js_field *f, struct json_object *v)
{
	const char *s;

	switch (f->kind) {
	case JS_STR: s = plain_string(v); return s && (!f->max || strlen(s) <= f->max);
	case JS_U64: return is_u64(v) && (!f->max || json_object_get_uint64(v) <= f->max);
	case JS_BOOL: return json_object_is_type(v, json_type_boolean);
	case JS_OBJECT: return json_object_is_type(v, json_type_object);
	case JS_ARRAY:
		return json_object_is_type(v, json_type_array) &&
		       (!f->max || json_object_array_length(v) <= f->max);
	}
	return false;
}

int js_check(struct json_object *o, const struct js_field *fields, unsigned n, struct err *e)
{
	unsigned seen = 0;

	if (!json_object_is_type(o, json_type_object))
		return err_set(e, -EINVAL, "arguments must be a JSON object");
	for (unsigned i = 0; i < n; i++) {
		struct json_object *v;

		if (!json_object_object_get_ex(o, fields[i].name, &v)) {
			if (fields[i].required)
				return err_set(
					e, -EINVAL, "argument '%s' is missing", fields[i].name);
			continue;
		}
		seen++;
		if (!field_ok(&fields[i], v))
			return err_set(e, -EINVAL, "argument '%s' has a bad value", fields[i].name);
	}
	if ((int)seen == json_object_object_length(o))
		return 0;
	json_object_object_foreach(o, key, val)
	{
		unsigned i = 0;

		(void)val;
		while (i < n && strcmp(fields[i].name, key) != 0)
			i++;
		if (i == n)
			return err_set(e, -EINVAL, "unknown argument '%.64s'", key);
	}
	return 0;
}
