/* SPDX-License-Identifier: MIT */
/* wslx --set-default NAME */
#include "cli/cli.h"

int verb_set_default(int argc, char **argv)
{
	return name_verb(argc, argv, "set-default", "set the default to");
}
