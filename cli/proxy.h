/* SPDX-License-Identifier: MIT */
/* autoProxy: the proxies of the user's environment, as a distribution's programs can use them. */
#ifndef WSLX_CLI_PROXY_H
#define WSLX_CLI_PROXY_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The value of a variable of proxies for the guest: one at this host's localhost ("http://127.0.0.1:3128") becomes that host
 * ("http://host.wslx.internal:3128"). host: what the guest calls this one; "localhost": the same; "": it is not to be
 * reached. False: then, or when the value is too long.
 */
bool proxy_translate(const char *value, const char *host, char *buf, size_t cap);

/*
 * Calls fn(ctx, "NAME=value") for each variable that the guest gets, in small letters and in capitals, of env or else of
 * fallback (either may be NULL). True: a proxy at localhost was left out.
 */
bool proxy_env(char *const *env, char *const *fallback, const char *host,
	void (*fn)(void *ctx, const char *var), void *ctx);

#endif
