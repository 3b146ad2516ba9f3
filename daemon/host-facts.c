/* SPDX-License-Identifier: MIT */
#include "daemon/host-facts.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/cleanup.h"
#include "lib/base/io.h"

enum { HOSTS_FILE_MAX = 65536, HOSTS_SENT_MAX = 8192 };

const char *host_facts_zone(const char *path)
{
	static const char dir[] = "/zoneinfo/";
	const char *at = strstr(path, dir);

	return at && at[sizeof(dir) - 1] ? at + sizeof(dir) - 1 : NULL;
}

static void add_zone(struct wire_w *w)
{
	cleanup_free char *text = NULL;
	char path[PATH_MAX];
	const char *zone = getenv("TZ");

	if (zone && *zone == ':')
		zone++;
	if (!zone || !*zone || *zone == '/')
		zone = realpath("/etc/localtime", path) ? host_facts_zone(path) : NULL;
	/* A copy instead of a link: Debian writes the name down too. */
	if (!zone && io_read_file("/etc/timezone", 256, &text, NULL) == 0) {
		text[strcspn(text, " \t\r\n")] = '\0';
		zone = *text ? text : NULL;
	}
	if (zone && strlen(zone) < 64)
		wire_str(w, WSLX_A_TIMEZONE, zone);
}

static bool is_local(const char *line)
{
	static const char *const prefixes[] = {
		"127.", "::1", "fe80:", "fe00:", "ff0", "0.0.0.0", "255."};

	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
		if (!strncmp(line, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}

void host_facts_hosts(char *text, void (*fn)(void *ctx, const char *line), void *ctx)
{
	char *save;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		size_t n;

		line[strcspn(line, "#")] = '\0';
		line += strspn(line, " \t\r");
		n = strlen(line);
		while (n && strchr(" \t\r", line[n - 1]))
			line[--n] = '\0';
		if (n && !is_local(line))
			fn(ctx, line);
	}
}

struct sent {
	struct wire_w *w;
	size_t len;
};

static void add_line(void *ctx, const char *line)
{
	struct sent *s = ctx;
	size_t n = strlen(line);

	if (n > 400 || s->len + n > HOSTS_SENT_MAX)
		return;
	s->len += n;
	wire_str(s->w, WSLX_A_HOST_LINE, line);
}

void host_facts_add(struct wire_w *w)
{
	cleanup_free char *text = NULL;
	struct sent sent = {.w = w};

	add_zone(w);
	if (io_read_file("/etc/hosts", HOSTS_FILE_MAX, &text, NULL) == 0)
		host_facts_hosts(text, add_line, &sent);
}
