/* SPDX-License-Identifier: MIT */
#include "cli/proxy.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "lib/base/attr.h"

enum { VALUE_MAX = 2048 };

/* no_proxy is a list of names, not a proxy. */
static const char *const names[] = {
	"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"};
enum { NO_PROXY = 4 };

static bool is_loopback(const char *host, size_t n)
{
	return (n == 9 && !strncasecmp(host, "localhost", n)) ||
	       (n >= 9 && !strncmp(host, "127.", 4) && strspn(host, "0123456789.") >= n) ||
	       (n == 5 && !strncmp(host, "[::1]", n));
}

bool proxy_translate(const char *value, const char *host, char *buf, size_t cap)
{
	const char *scheme = strstr(value, "://"), *start = scheme ? scheme + 3 : value;
	const char *at, *end = start + strcspn(start, "/?#");
	size_t n;

	/* behind user and password, which may contain anything but an "@" and what ends the host */
	for (at = start; at < end; at++)
		if (*at == '@')
			start = at + 1;
	n = *start == '[' ? strcspn(start, "]") + 1 : strcspn(start, ":/?#");
	n = MIN(n, strlen(start));
	if (!is_loopback(start, n) || !strcmp(host, "localhost"))
		return (size_t)snprintf(buf, cap, "%s", value) < cap;
	if (!*host)
		return false;
	return (size_t)snprintf(
		       buf, cap, "%.*s%s%s", (int)(start - value), value, host, start + n) < cap;
}

/* In capitals: CGI programs take http_proxy for a header of a request's, so some look for the other one alone. */
static void capitals(const char *name, char *buf)
{
	do
		*buf++ = (char)toupper((unsigned char)*name);
	while (*name++);
}

static const char *value_of(char *const *env, const char *name)
{
	size_t n = strlen(name);

	for (; env && *env; env++)
		if (!strncmp(*env, name, n) && (*env)[n] == '=' && (*env)[n + 1])
			return *env + n + 1;
	return NULL;
}

static const char *either(char *const *env, unsigned i)
{
	const char *value = value_of(env, names[i]);
	char big[16];

	capitals(names[i], big);
	return value ? value : value_of(env, big);
}

bool proxy_env(char *const *env, char *const *fallback, const char *host,
	void (*fn)(void *ctx, const char *var), void *ctx)
{
	char value[VALUE_MAX], var[VALUE_MAX + 32], big[16];
	char *const *from = fallback;
	bool left_out = false;

	/* All of one place: who has no proxy for one protocol means that. */
	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		if (either(env, i))
			from = env;
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		const char *v = either(from, i);

		if (!v || strchr(v, '\n'))
			continue;
		if (i == NO_PROXY ? (size_t)snprintf(value, sizeof(value), "%s", v) >= sizeof(value)
				  : !proxy_translate(v, host, value, sizeof(value))) {
			left_out = true;
			continue;
		}
		snprintf(var, sizeof(var), "%s=%s", names[i], value);
		fn(ctx, var);
		capitals(names[i], big);
		snprintf(var, sizeof(var), "%s=%s", big, value);
		fn(ctx, var);
	}
	return left_out;
}
