/* SPDX-License-Identifier: MIT */
#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/log.h"

void modules_load(const char *dir)
{
	cleanup_free char *order = NULL;
	char path[256];
	char *save;

	snprintf(path, sizeof(path), "%s/order", dir);
	if (io_read_file(path, 1 << 20, &order, NULL) < 0)
		return; /* a kernel with everything built in */
	for (char *name = strtok_r(order, "\n", &save); name; name = strtok_r(NULL, "\n", &save)) {
		snprintf(path, sizeof(path), "%s/%s", dir, name);
		cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
			log_warn("modules", "%s: %s", path, strerror(errno));
	}
}
