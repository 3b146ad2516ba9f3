/* SPDX-License-Identifier: MIT */
/* wslx --terminate NAME: stops a running distribution. */
#include "cli/cli.h"

int verb_terminate(int argc, char **argv)
{
	return name_verb(argc, argv, "terminate", "terminate");
}
