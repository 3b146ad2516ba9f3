/* SPDX-License-Identifier: MIT */
#include "daemon/vmopts.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "lib/base/attr.h"

/* COMMAND_LINE_SIZE of x86, less what wslx-vmm adds. */
enum { KERNEL_MAX = 2048 - 256 };

/* What WSL loads by itself; a kernel that has one built in, or has none, is fine too. */
#define DEFAULT_MODULES "-tun,-ip_tables,-br_netfilter"

/* Names separated by commas or blanks become names separated by commas. */
static void module_list(const char *list, char *buf, size_t cap)
{
	size_t n = 0;

	for (const char *p = list; *p && n + 1 < cap; p++) {
		if (isalnum((unsigned char)*p) || *p == '_' || *p == '-')
			buf[n++] = *p;
		else if (n && buf[n - 1] != ',')
			buf[n++] = ',';
	}
	buf[n] = '\0';
}

int vmopts_cmdline(const struct settings *set, char *buf, size_t cap, struct err *e)
{
	static const char *const reclaims[] = {
		[RECLAIM_GRADUAL] = "gradual", [RECLAIM_DROP] = "drop", [RECLAIM_OFF] = "off"};
	char modules[1200] = "", load[1024] = "";
	int n;

	if (set->modules) {
		module_list(set->load_modules ? set->load_modules : "", load, sizeof(load) - 64);
		snprintf(modules, sizeof(modules), " wslx.modules=%d wslx.load=%s%s%s",
			VMOPTS_MODULES_LUN, set->load_default_modules ? DEFAULT_MODULES : "",
			set->load_default_modules && *load ? "," : "", load);
	}
	n = snprintf(buf, cap,
		"%sconsole=ttyS0%s wslx.isolate=%d wslx.reclaim=%s wslx.crash=%d%s%s%s",
		set->debug_console || set->early_boot_logging ? "" : "quiet ",
		set->early_boot_logging ? " earlyprintk=ttyS0" : "", set->isolate_cgroup,
		reclaims[set->reclaim], set->max_crashes >= 0, modules,
		set->command_line ? " " : "", set->command_line ? set->command_line : "");
	if (n < 0 || (size_t)n >= cap || n > KERNEL_MAX)
		return err_set(e, -E2BIG,
			"the kernel's command line would be %d characters long, %d are possible; "
			"shorten 'kernelCommandLine' in wslx.conf",
			n, (int)KERNEL_MAX);
	return 0;
}
