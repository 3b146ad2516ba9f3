/* SPDX-License-Identifier: MIT */
/* wslx --version */
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"

int verb_version(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--json") == 0)
		printf("{\"wslx\":\"%s\"}\n", WSLX_VERSION);
	else if (argc > 1)
		return usage_error("%s: unknown argument '%s'", argv[0], argv[1]);
	else
		printf("wslx version: %s\n", WSLX_VERSION);
	return finish_output();
}
