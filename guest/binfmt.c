/* SPDX-License-Identifier: MIT */
/*
 * Programs of the host run by their name alone: a stub file, found by its first bytes (WSLX_STUB_MAGIC), is executed by
 * our own program under the name wslx-binfmt (Documentation/admin-guide/binfmt-misc.rst of the kernel). The table is one
 * for the whole virtual machine in kernels before 6.7, so the machine's init fills it, once, before any distribution can.
 */
#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>
#include "guest/guest.h"
#include "guest/interop.h"
#include "guest/tools.h"
#include "lib/base/log.h"

#define INTERPRETER "/run/" TOOLS_BINFMT

void binfmt_register(void)
{
	static bool done;
	struct err e = {0};
	int r;

	if (done)
		return;
	done = true;
	/* F: opened now, for every namespace; P: with the name it was called by. */
	if (symlink("/proc/self/exe", INTERPRETER) < 0 && errno != EEXIST)
		log_warn("interop", "create %s: %s", INTERPRETER, strerror(errno));
	r = mount_at("binfmt_misc", BINFMT_DIR, "binfmt_misc", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		NULL, &e);
	if (r < 0)
		log_warn("interop", "%s", e.text);
	else if ((r = write_text(BINFMT_DIR "/register",
			  ":wslx-host:M::" WSLX_STUB_MAGIC "::" INTERPRETER ":FP")) < 0)
		log_warn("interop", "register with binfmt_misc: %s", strerror(-r));
}
