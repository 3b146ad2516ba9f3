/* SPDX-License-Identifier: MIT */
/* wslx --help */
#include <stdio.h>
#include "cli/cli.h"

static const char text[] =
	"usage: wslx [OPTION...] [--] [COMMAND ARG...]\n"
	"       wslx VERB [ARG...]\n"
	"\n"
	"Runs COMMAND in a Linux distribution, through its user's shell; without COMMAND, a login\n"
	"shell. The distribution starts when needed and stops when idle.\n"
	"\n"
	"  -d, --distribution NAME   which one (default: the default one)\n"
	"  -u, --user NAME           as this user (default: the distribution's)\n"
	"      --cd DIR              in this directory: absolute, ~ or ~/...\n"
	"  -e, --exec                COMMAND without a shell\n"
	"  --                        end of options\n"
	"\n"
	"Verbs:\n"
	"  -l, --list [-v] [-q] [--running] [--json]   distributions\n"
	"      --import NAME DIR FILE     a new distribution from a root file system archive\n"
	"                                 (FILE: tar, any compression; - for standard input);\n"
	"                                 its disk will be in DIR\n"
	"      --unregister NAME          remove a distribution with all its files\n"
	"  -t, --terminate NAME           stop a distribution\n"
	"      --shutdown [--force]       stop all, and the virtual machine\n"
	"  -s, --set-default NAME         make it the default\n"
	"      --status [--json]          the service, the engine and why it was chosen\n"
	"  -v, --version\n"
	"  -h, --help\n"
	"\n"
	"Exit status: the command's own; 128 + n when signal n killed it; 125 when wslx could not\n"
	"do it, 126 when the command could not be executed, 127 when it was not found.\n";

int verb_help(int argc, char **argv)
{
	fputs(text, stdout);
	return finish_output();
}
