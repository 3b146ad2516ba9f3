/* SPDX-License-Identifier: MIT */
#include "daemon/distro-conf.h"

#include <ctype.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"

static const char prefix[] = "distribution.";
static const char *const isolations[] = {"shared", "vm", NULL};
const char *const distro_fs_names[] = {"ext4", "xfs", "btrfs", NULL};
static const char *const keeps[] = {"idle", "services", "always", NULL};

enum { MAX_TASKS = 4 << 20, DEFAULT_TASKS = 16384 };

/* What the table's kinds have no place for is copied from here. */
struct raw {
	struct distro_conf c;
	char *processors, *mount_options, *interop;
};

static const struct conf_key keys[] = {
	{"", "isolation", CONF_CHOICE, offsetof(struct raw, c.isolation), .choices = isolations},
	{"", "keepAlive", CONF_CHOICE, offsetof(struct raw, c.keep_alive), .choices = keeps},
	{"", "fileSystem", CONF_CHOICE, offsetof(struct raw, c.file_system),
		.choices = distro_fs_names},
	{"", "autostart", CONF_BOOL, offsetof(struct raw, c.autostart)},
	{"", "memory", CONF_SIZE, offsetof(struct raw, c.memory)},
	{"", "swap", CONF_SIZE, offsetof(struct raw, c.swap)},
	{"", "processors", CONF_STR, offsetof(struct raw, processors)},
	{"", "tasks", CONF_INT, offsetof(struct raw, c.tasks), .min = 1, .max = MAX_TASKS},
	{"", "ioReadBytes", CONF_SIZE, offsetof(struct raw, c.read_bytes)},
	{"", "ioWriteBytes", CONF_SIZE, offsetof(struct raw, c.write_bytes)},
	{"", "ioReadOps", CONF_INT, offsetof(struct raw, c.read_ops), .min = 1, .max = INT32_MAX},
	{"", "ioWriteOps", CONF_INT, offsetof(struct raw, c.write_ops), .min = 1, .max = INT32_MAX},
	{"", "mountOptions", CONF_STR, offsetof(struct raw, mount_options)},
	{"", "interop", CONF_STR, offsetof(struct raw, interop)},
};

struct load {
	const char *name;
	struct raw raw;
	conf_warn_fn warn;
	void *ctx;
};

/* "2", "1.5", "0.25": hundredths of a processor; 0: none of these. */
static int64_t percent(const char *s)
{
	int64_t n = 0;
	int digits = 0;

	for (; isdigit((unsigned char)*s) && digits < 4; s++, digits++)
		n = n * 10 + (*s - '0');
	n *= 100;
	if (digits && *s == '.' && isdigit((unsigned char)s[1])) {
		n += 10 * (*++s - '0');
		if (isdigit((unsigned char)*++s))
			n += *s++ - '0';
	}
	return digits && !*s ? n : 0;
}

static void tell(struct load *l, unsigned line, const char *key, const char *value)
{
	char text[256];

	if (!l->warn)
		return;
	snprintf(text, sizeof(text), "bad value for %s%s.%s: '%.80s'", prefix, l->name, key, value);
	l->warn(l->ctx, line, text);
}

static void one(void *ctx, const char *section, const char *key, const char *value, unsigned line)
{
	struct load *l = ctx;
	const struct conf_key *k = keys;

	if (strncasecmp(section, prefix, sizeof(prefix) - 1) != 0 ||
		strcasecmp(section + sizeof(prefix) - 1, l->name) != 0)
		return;
	while (k < keys + ARRAY_LEN(keys) && strcasecmp(k->key, key) != 0)
		k++;
	if (k == keys + ARRAY_LEN(keys)) {
		char text[256];

		snprintf(text, sizeof(text), "unknown key '%s.%s'", section, key);
		if (l->warn)
			l->warn(l->ctx, line, text);
		return;
	}
	if (!conf_set(k, &l->raw, value)) {
		tell(l, line, k->key, value);
	} else if (k->off == offsetof(struct raw, processors)) {
		int64_t n = percent(value);

		if (n > 0)
			l->raw.c.cpus_percent = n;
		else
			tell(l, line, k->key, value);
	} else if (k->off == offsetof(struct raw, interop)) {
		bool b;

		if (conf_bool(value, &b) == 0)
			l->raw.c.interop = b;
		else
			tell(l, line, k->key, value);
	} else if (k->off == offsetof(struct raw, mount_options)) {
		char *to = l->raw.c.mount_options;

		if (strlen(value) < sizeof(l->raw.c.mount_options))
			strcpy(to, value);
		else
			tell(l, line, k->key, value);
	}
}

static void complain(void *ctx, unsigned line, const char *text)
{
	/* A malformed line is told by settings_load(), once. */
}

void distro_conf_load(
	const char *path, const char *name, struct distro_conf *ret, conf_warn_fn warn, void *ctx)
{
	struct load l = {.name = name,
		.raw.c = {.tasks = DEFAULT_TASKS, .swap = NO_SWAP_LIMIT, .interop = -1},
		.warn = warn,
		.ctx = ctx};
	cleanup_free char *text = NULL;
	size_t len;

	if (io_read_file(path, CONF_MAX_FILE, &text, &len) == 0)
		conf_parse(text, len, one, complain, &l);
	free(l.raw.processors);
	free(l.raw.mount_options);
	free(l.raw.interop);
	*ret = l.raw.c;
	/* What is pushed out of memory is not to fill the swap space that all share. */
	if (ret->memory && ret->swap == NO_SWAP_LIMIT)
		ret->swap = ret->memory;
}
