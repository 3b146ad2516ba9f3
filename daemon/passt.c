/* SPDX-License-Identifier: MIT */
#include "daemon/passt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "lib/base/proc.h"

int passt_find(char *buf, size_t cap, struct err *e)
{
	const char *chosen = getenv("WSLX_PASST");

	if (chosen && *chosen) {
		if ((size_t)snprintf(buf, cap, "%s", chosen) < cap && access(buf, X_OK) == 0)
			return 0;
		return err_set(e, -ENOENT, "networkBackend=passt: WSLX_PASST names no program: %s",
			chosen);
	}
	if (proc_find_in_path("passt", buf, cap, NULL) < 0)
		return err_set(e, -ENOENT,
			"networkBackend=passt: passt is not installed; install the package passt, or set networkBackend=slirp in wslx.conf");
	return 0;
}
