/* SPDX-License-Identifier: MIT */
#include "lib/conf/conf.h"

#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct parser {
	const char *p, *end;
	unsigned line;	     /* where p is */
	unsigned first_line; /* where the present logical line started */
	conf_fn fn;
	conf_warn_fn warn;
	void *ctx;
	char section[CONF_MAX_NAME + 1];
	char key[CONF_MAX_NAME + 1];
	char value[CONF_MAX_VALUE + 1];
};

/* The next character, or -1 at the end; "\r\n" reads as "\n". */
static int peek(const struct parser *ps)
{
	if (ps->p == ps->end)
		return -1;
	if (*ps->p == '\r' && ps->end - ps->p > 1 && ps->p[1] == '\n')
		return '\n';
	return (unsigned char)*ps->p;
}

static void skip(struct parser *ps)
{
	if (*ps->p == '\r' && ps->end - ps->p > 1 && ps->p[1] == '\n')
		ps->p++;
	if (*ps->p == '\n')
		ps->line++;
	ps->p++;
}

static bool is_blank(int c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

static void skip_blanks(struct parser *ps)
{
	while (is_blank(peek(ps)))
		skip(ps);
}

static void skip_line(struct parser *ps)
{
	while (peek(ps) >= 0 && peek(ps) != '\n')
		skip(ps);
}

static void complain(struct parser *ps, const char *text)
{
	if (ps->warn)
		ps->warn(ps->ctx, ps->first_line, text);
}

static bool is_name(int c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-' || c == '.';
}

static bool read_name(struct parser *ps, char *buf)
{
	size_t n = 0;

	while (is_name(peek(ps))) {
		if (n == CONF_MAX_NAME)
			return false;
		buf[n++] = (char)peek(ps);
		skip(ps);
	}
	buf[n] = '\0';
	return n > 0;
}

/* A comment or nothing up to the line's end. */
static bool only_comment_left(struct parser *ps)
{
	skip_blanks(ps);
	if (peek(ps) == '#')
		skip_line(ps);
	return peek(ps) < 0 || peek(ps) == '\n';
}

static void parse_section(struct parser *ps)
{
	char name[CONF_MAX_NAME + 1];

	skip(ps);
	skip_blanks(ps);
	if (!read_name(ps, name)) {
		complain(ps, "bad section name");
		return;
	}
	skip_blanks(ps);
	if (peek(ps) != ']') {
		complain(ps, "']' expected after the section name");
		return;
	}
	skip(ps);
	memcpy(ps->section, name, sizeof(name));
	if (!only_comment_left(ps))
		complain(ps, "text after the section header");
}

/* What the escape \c stands for; 0: nothing. */
static char escape(int c)
{
	switch (c) {
	case '\\':
	case '"': return (char)c;
	case 'b': return '\b';
	case 'n': return '\n';
	case 't': return '\t';
	default: return 0;
	}
}

/* Reads the value up to the line's end. NULL, or what is wrong with it. */
static const char *read_value(struct parser *ps)
{
	size_t n = 0, keep = 0; /* trailing blanks beyond keep are dropped */
	bool quoted = false;

	skip_blanks(ps);
	for (int c; (c = peek(ps)) >= 0 && c != '\n'; skip(ps)) {
		if (c == '"') {
			quoted = !quoted;
			keep = n;
			continue;
		}
		if (c == '#' && !quoted) {
			skip_line(ps);
			break;
		}
		if (c == 0)
			return "NUL byte in the value";
		bool blank = is_blank(c) && !quoted;
		if (c == '\\') {
			skip(ps);
			c = peek(ps);
			if (c == '\n')
				continue;
			c = c < 0 ? 0 : escape(c);
			if (!c)
				return "unknown escape in the value (a backslash is written \\\\)";
		}
		if (n == CONF_MAX_VALUE)
			return "value too long";
		ps->value[n++] = (char)c;
		if (!blank)
			keep = n;
	}
	if (quoted)
		return "quote not closed";
	ps->value[keep] = '\0';
	return NULL;
}

static void parse_setting(struct parser *ps)
{
	const char *wrong;

	if (!read_name(ps, ps->key)) {
		complain(ps, "a key or a [section] expected");
		return;
	}
	skip_blanks(ps);
	if (peek(ps) != '=') {
		complain(ps, "'=' expected after the key");
		return;
	}
	skip(ps);
	wrong = read_value(ps);
	if (wrong)
		complain(ps, wrong);
	else
		ps->fn(ps->ctx, ps->section, ps->key, ps->value, ps->first_line);
}

void conf_parse(const char *text, size_t len, conf_fn fn, conf_warn_fn warn, void *ctx)
{
	struct parser ps = {
		.p = text, .end = text + len, .line = 1, .fn = fn, .warn = warn, .ctx = ctx};

	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		ps.p += 3;
	while (peek(&ps) >= 0) {
		ps.first_line = ps.line;
		skip_blanks(&ps);
		if (peek(&ps) == '[')
			parse_section(&ps);
		else if (peek(&ps) >= 0 && peek(&ps) != '#' && peek(&ps) != '\n')
			parse_setting(&ps);
		skip_line(&ps);
		if (peek(&ps) == '\n')
			skip(&ps);
	}
}

int conf_bool(const char *s, bool *ret)
{
	if (strcasecmp(s, "true") == 0 || strcmp(s, "1") == 0)
		*ret = true;
	else if (strcasecmp(s, "false") == 0 || strcmp(s, "0") == 0)
		*ret = false;
	else
		return -EINVAL;
	return 0;
}

int conf_int(const char *s, int64_t *ret)
{
	long long v;
	char *end;

	if (!is_name((unsigned char)*s) && *s != '+')
		return -EINVAL; /* strtoll would skip blanks */
	errno = 0;
	v = strtoll(s, &end, 0);
	if (errno || end == s || *end)
		return -EINVAL;
	*ret = v;
	return 0;
}

int conf_octal(const char *s, int64_t *ret)
{
	size_t n = strlen(s);

	if (n == 0 || n > 20 || strspn(s, "01234567") != n)
		return -EINVAL;
	*ret = strtoll(s, NULL, 8);
	return 0;
}

int conf_size(const char *s, uint64_t *ret)
{
	static const char units[] = "BKMGTP";
	unsigned long long v;
	unsigned shift = 0;
	const char *u;
	char *end;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno)
		return -EINVAL;
	if (*end) {
		char c = *end >= 'a' && *end <= 'z' ? (char)(*end - 'a' + 'A') : *end;

		u = strchr(units, c);
		if (!u)
			return -EINVAL;
		shift = 10 * (unsigned)(u - units);
		end++;
		if (shift && (*end == 'i' || *end == 'I'))
			end++;
		if (shift && (*end == 'b' || *end == 'B'))
			end++;
		if (*end)
			return -EINVAL;
	}
	if (v > UINT64_MAX >> shift)
		return -EINVAL;
	*ret = v << shift;
	return 0;
}

struct apply {
	const struct conf_key *keys;
	unsigned nkeys;
	char *target;
	conf_warn_fn warn;
	void *ctx;
};

static void apply_warn(void *ctx, unsigned line, const char *text)
{
	struct apply *a = ctx;

	if (a->warn)
		a->warn(a->ctx, line, text);
}

static bool set_choice(const struct conf_key *k, const char *value, int *ret)
{
	for (int i = 0; k->choices[i]; i++)
		if (strcasecmp(k->choices[i], value) == 0) {
			*ret = i;
			return true;
		}
	return false;
}

static bool set_path(char **at, const char *value)
{
	const char *home = getenv("HOME");
	char *s = NULL;

	if (value[0] == '/')
		s = strdup(value);
	else if (value[0] == '~' && value[1] == '/' && home && home[0] == '/' &&
		 asprintf(&s, "%s%s", home, value + 1) < 0)
		s = NULL;
	if (!s)
		return false;
	free(*at);
	*at = s;
	return true;
}

bool conf_set(const struct conf_key *k, void *target, const char *value)
{
	void *at = (char *)target + k->off;
	int64_t i;
	uint64_t u;
	char *s;

	switch (k->kind) {
	case CONF_BOOL: return conf_bool(value, at) == 0;
	case CONF_INT:
	case CONF_OCTAL:
		if ((k->kind == CONF_INT ? conf_int(value, &i) : conf_octal(value, &i)) < 0 ||
			i < k->min || i > k->max)
			return false;
		*(int64_t *)at = i;
		return true;
	case CONF_SIZE:
		if (conf_size(value, &u) < 0 || (k->max && u > (uint64_t)k->max))
			return false;
		*(uint64_t *)at = u;
		return true;
	case CONF_STR:
		s = strdup(value);
		if (!s)
			return false;
		free(*(char **)at);
		*(char **)at = s;
		return true;
	case CONF_PATH: return set_path(at, value);
	case CONF_CHOICE: return set_choice(k, value, at);
	case CONF_IGNORED:
	case CONF_ELSEWHERE: return true;
	}
	return false;
}

static void apply_one(
	void *ctx, const char *section, const char *key, const char *value, unsigned line)
{
	struct apply *a = ctx;
	char text[256];

	for (unsigned i = 0; i < a->nkeys; i++) {
		const struct conf_key *k = &a->keys[i];

		if (k->kind == CONF_ELSEWHERE &&
			!strncasecmp(k->section, section, strlen(k->section)))
			return;
		if (strcasecmp(k->section, section) || strcasecmp(k->key, key))
			continue;
		if (!conf_set(k, a->target, value))
			snprintf(text, sizeof(text), "bad value for %s.%s: '%.80s'", k->section,
				k->key, value);
		else
			return;
		apply_warn(a, line, text);
		return;
	}
	snprintf(text, sizeof(text), "unknown key '%s%s%s'", section, *section ? "." : "", key);
	apply_warn(a, line, text);
}

void conf_apply(const char *text, size_t len, const struct conf_key *keys, unsigned nkeys,
	void *target, conf_warn_fn warn, void *ctx)
{
	struct apply a = {.keys = keys, .nkeys = nkeys, .target = target, .warn = warn, .ctx = ctx};

	conf_parse(text, len, apply_one, apply_warn, &a);
}
