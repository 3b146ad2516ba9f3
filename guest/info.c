/* SPDX-License-Identifier: MIT */
#include "guest/info.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/conf/conf.h"

#define KEY(sec, key, member)                                                                      \
	{                                                                                          \
		sec, key, CONF_STR, offsetof(struct info, member)                                  \
	}

/* clang-format off */
static const struct conf_key keys[] = {
	KEY("distribution", "name", name),
	KEY("distribution", "automount", automount),
	KEY("distribution", "hostRoot", host_root),
	KEY("machine", "id", vm),
	KEY("machine", "networkingMode", networking),
};
/* clang-format on */

static void put_value(FILE *f, const char *v)
{
	fputc('"', f);
	for (; *v; v++) {
		if (*v == '\n') {
			fputs("\\n", f);
			continue;
		}
		if (*v == '"' || *v == '\\')
			fputc('\\', f);
		fputc(*v, f);
	}
	fputs("\"\n", f);
}

int info_write(const struct info *in)
{
	const char *section = "";
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	int r;

	if (!f)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const char *const *at =
			(const char *const *)(const void *)((const char *)in + keys[i].off);

		if (strcmp(section, keys[i].section) != 0)
			fprintf(f, "[%s]\n", keys[i].section);
		section = keys[i].section;
		fprintf(f, "%s = ", keys[i].key);
		put_value(f, *at);
	}
	r = fclose(f) == 0 ? io_replace_file(INFO_FILE, text, len, 0644) : -ENOMEM;
	free(text);
	return r;
}

int info_load(struct info *ret, struct err *e)
{
	cleanup_free char *text = NULL;
	size_t len;
	int r = io_read_file(INFO_FILE, CONF_MAX_FILE, &text, &len);

	*ret = (struct info){0};
	if (r < 0)
		return err_sys(e, r, "read %s (is this a distribution of wslx?)", INFO_FILE);
	conf_apply(text, len, keys, ARRAY_LEN(keys), ret, NULL, NULL);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		char **at = (char **)(void *)((char *)ret + keys[i].off);

		if (!*at)
			*at = strdup("");
		if (!*at) {
			info_done(ret);
			return err_sys(e, -ENOMEM, "read %s", INFO_FILE);
		}
	}
	return 0;
}

void info_done(struct info *in)
{
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		free(*(char **)(void *)((char *)in + keys[i].off));
	*in = (struct info){0};
}

int info_to_host(const struct info *in, const char *path, char *buf, size_t cap)
{
	struct wslpath_map map = info_map(in);
	char full[PATH_MAX + 2], cwd[PATH_MAX];
	size_t n = strlen(path);
	int len;

	if (!*path)
		return -EINVAL;
	if (realpath(path, full)) {
		len = (int)strlen(full);
		/* The slash at the end, which says that it is a folder, stays. */
		if (path[n - 1] == '/' && full[len - 1] != '/')
			strcpy(full + len, "/");
	} else if (path[0] == '/') {
		len = snprintf(full, sizeof(full), "%s", path);
	} else if (getcwd(cwd, sizeof(cwd))) {
		len = snprintf(full, sizeof(full), "%s/%s", cwd, path);
	} else {
		return -errno;
	}
	return len >= (int)sizeof(full) ? -ENAMETOOLONG : wslpath_to_host(&map, full, buf, cap);
}
