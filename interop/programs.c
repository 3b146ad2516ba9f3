/* SPDX-License-Identifier: MIT */
#include "interop/programs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/cleanup.h"

enum { FOUND_MAX = 4 * PROGRAMS_MAX }; /* before those that are in two folders are seen as one */

static bool is_program(int dir, const char *name)
{
	struct stat st;

	return name[0] != '.' && fstatat(dir, name, &st, 0) == 0 && S_ISREG(st.st_mode) &&
	       st.st_mode & 0111 && faccessat(dir, name, X_OK, 0) == 0;
}

static int add(struct programs *p, const char *name)
{
	p->name[p->n] = strdup(name);
	return p->name[p->n] ? (p->n++, 0) : -ENOMEM;
}

static int scan(struct programs *p, const char *folder)
{
	DIR *d = opendir(folder);
	struct dirent *de;
	int r = 0;

	while (d && r == 0 && p->n < FOUND_MAX && (de = readdir(d)))
		if (is_program(dirfd(d), de->d_name))
			r = add(p, de->d_name);
	if (d)
		closedir(d);
	return r;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int programs_list(const char *path, struct programs *ret)
{
	cleanup_free char *folders = strdup(path);
	char *save, *folder;
	size_t n = 0;
	int r = 0;

	*ret = (struct programs){.name = calloc(FOUND_MAX, sizeof(char *))};
	if (!folders || !ret->name)
		r = -ENOMEM;
	for (folder = r ? NULL : strtok_r(folders, ":", &save); folder && r == 0;
		folder = strtok_r(NULL, ":", &save))
		if (folder[0] == '/')
			r = scan(ret, folder);
	if (r < 0) {
		programs_done(ret);
		return r;
	}
	qsort(ret->name, ret->n, sizeof(*ret->name), by_name);
	for (size_t i = 0; i < ret->n; i++) {
		if (n == PROGRAMS_MAX || (n && !strcmp(ret->name[n - 1], ret->name[i])))
			free(ret->name[i]);
		else
			ret->name[n++] = ret->name[i];
	}
	ret->n = n;
	return 0;
}

void programs_done(struct programs *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->name[i]);
	free(p->name);
	*p = (struct programs){0};
}
