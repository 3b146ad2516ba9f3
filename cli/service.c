/* SPDX-License-Identifier: MIT */
/* Calls to wslxd, and what verbs share. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "cli/cli.h"
#include "lib/base/cleanup.h"

int service_call(const char *intent, const char *method, struct json_object *params,
	struct json_object **ret)
{
	cleanup(ctl_client_freep) struct ctl_client *c = NULL;
	struct ctl_req req = {.method = method, .params = params};
	struct err e = {0};

	if (service_connect(&c, &e) < 0) {
		js_free(params);
		return fail("%s: %s", intent, e.text);
	}
	if (ctl_call(c, &req, ret, &e) < 0)
		return fail("%s: %s", intent, e.text);
	return 0;
}

int name_verb(int argc, char **argv, const char *method, const char *intent)
{
	char what[512];

	if (argc != 2 || !argv[1][0])
		return usage_error("%s needs the name of one distribution", argv[0]);
	snprintf(what, sizeof(what), "%s %s", intent, argv[1]);
	return service_call(what, method, js_set_str(js_object(), "name", argv[1]), NULL);
}

int absolute_path(const char *path, char *buf, size_t cap)
{
	char cwd[PATH_MAX];
	int n;

	if (path[0] == '/')
		n = snprintf(buf, cap, "%s", path);
	else if (!getcwd(cwd, sizeof(cwd)))
		return -errno;
	else
		n = snprintf(buf, cap, "%s/%s", cwd, path);
	return n < 0 || (size_t)n >= cap ? -ENAMETOOLONG : 0;
}

bool is_vhdx(int fd)
{
	char magic[8];

	return pread(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
	       memcmp(magic, "vhdxfile", sizeof(magic)) == 0;
}

bool ends_in(const char *s, const char *end)
{
	size_t n = strlen(s), k = strlen(end);

	return n >= k && !strcasecmp(s + n - k, end);
}
