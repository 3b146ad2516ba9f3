/* SPDX-License-Identifier: MIT */
/* wslx --unregister NAME: removes a distribution and all its files. */
#include "cli/cli.h"

int verb_unregister(int argc, char **argv)
{
	return name_verb(argc, argv, "unregister", "unregister");
}
