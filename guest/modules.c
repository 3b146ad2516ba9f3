/* SPDX-License-Identifier: MIT */
#include "guest/guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/log.h"

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

static void load(const char *dir, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
		log_warn("modules", "%s: %s", path, strerror(errno));
}

void modules_load(const char *dir)
{
	cleanup_free char *order = NULL;
	char path[256];
	char *save;

	snprintf(path, sizeof(path), "%s/order", dir);
	if (io_read_file(path, 1 << 20, &order, NULL) < 0)
		return; /* a kernel with everything built in */
	for (char *name = strtok_r(order, "\n", &save); name; name = strtok_r(NULL, "\n", &save))
		load(dir, name);
}

int modules_request(const char *dir, const char *name)
{
	cleanup_free char *index = NULL;
	char path[256], want[128];
	char *lines, *words;
	int r = -ENOENT;

	snprintf(path, sizeof(path), "%s/index", dir);
	if (strlen(name) >= sizeof(want) || io_read_file(path, 1 << 20, &index, NULL) < 0)
		return r;
	/* '-' and '_' are the same in names of modules. */
	strcpy(want, name);
	for (char *p = want; *p; p++)
		if (*p == '-')
			*p = '_';
	for (char *line = strtok_r(index, "\n", &lines); line;
		line = strtok_r(NULL, "\n", &lines)) {
		char *file, *key = strtok_r(line, " ", &words);

		if (!key || fnmatch(key, want, 0) != 0)
			continue;
		while ((file = strtok_r(NULL, " ", &words)))
			load(dir, file);
		r = 0;
	}
	return r;
}

void modules_for_devices(const char *dir)
{
	cleanup(closedirp) DIR *devices = opendir("/sys/bus/virtio/devices");
	struct dirent *d;

	while (devices && (d = readdir(devices))) {
		cleanup_free char *alias = NULL;
		char path[320];

		if (d->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/sys/bus/virtio/devices/%s/driver", d->d_name);
		if (access(path, F_OK) == 0)
			continue;
		snprintf(path, sizeof(path), "/sys/bus/virtio/devices/%s/modalias", d->d_name);
		if (io_read_file(path, 4096, &alias, NULL) < 0)
			continue;
		alias[strcspn(alias, "\n")] = '\0';
		modules_request(dir, alias);
	}
}
