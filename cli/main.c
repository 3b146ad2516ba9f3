/* SPDX-License-Identifier: MIT */
/* wslx: the command. Finds the verb; without one, it runs a command in a distribution. */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"

static const struct verb verbs[] = {
	{"--list", "-l", verb_list},
	{"--import", NULL, verb_import},
	{"--import-in-place", NULL, verb_import_in_place},
	{"--export", NULL, verb_export},
	{"--install", NULL, verb_install},
	{"--manage", NULL, verb_manage},
	{"--mount", NULL, verb_mount},
	{"--unmount", NULL, verb_unmount},
	{"--unregister", NULL, verb_unregister},
	{"--terminate", "-t", verb_terminate},
	{"--shutdown", NULL, verb_shutdown},
	{"--set-default", "-s", verb_set_default},
	{"--set-version", NULL, verb_set_version},
	{"--set-default-version", NULL, verb_set_default_version},
	{"--update", NULL, verb_update},
	{"--uninstall", NULL, verb_uninstall},
	{"--status", NULL, verb_status},
	{"--debug-shell", NULL, verb_debug_shell},
	{"port", NULL, verb_port},
	{"network", NULL, verb_network},
	{"diag", NULL, verb_diag},
	{"cp", NULL, verb_cp},
	{"mount", NULL, verb_mount_folder, mount_folder_wants},
	{"--version", "-v", verb_version},
	{"--help", "-h", verb_help},
};

static PRINTF_LIKE(2, 0) void say(const char *prefix, const char *fmt, va_list ap, const char *tail)
{
	char text[2048];

	vsnprintf(text, sizeof(text), fmt, ap);
	fflush(stdout);
	fprintf(stderr, "wslx: %s%s%s\n", prefix, text, tail);
}

int fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("", fmt, ap, "");
	va_end(ap);
	return EX_OURS;
}

int usage_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("", fmt, ap, "; see 'wslx --help'");
	va_end(ap);
	return EX_OURS;
}

void warning(const char *fmt, ...)
{
	const char *silent = getenv("WSL_DISABLE_WARNINGS");
	va_list ap;

	if (silent && strcmp(silent, "1") == 0)
		return;
	va_start(ap, fmt);
	say("warning: ", fmt, ap, "");
	va_end(ap);
}

int finish_output(void)
{
	return fflush(stdout) == 0 && !ferror(stdout) ? 0 : fail("write the output: %m");
}

int main(int argc, char **argv)
{
	/* Whatever mask and dispositions we were started with, children and guest see sane ones. */
	signal(SIGPIPE, SIG_IGN);
	for (unsigned i = 0; argc > 1 && i < ARRAY_LEN(verbs); i++) {
		const struct verb *v = &verbs[i];

		if (v->wants && !v->wants(argc - 1, argv + 1))
			continue;
		if (strcmp(argv[1], v->name) == 0 || (v->alias && strcmp(argv[1], v->alias) == 0))
			return v->fn(argc - 1, argv + 1);
	}
	return verb_run(argc, argv);
}
