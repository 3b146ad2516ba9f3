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
	"      --distribution-id ID  which one, by its id (--list --json)\n"
	"  -u, --user NAME           as this user (default: the distribution's)\n"
	"      --cd DIR              in this directory: absolute, ~ or ~/...\n"
	"  -e, --exec                COMMAND without a shell\n"
	"  --                        end of options\n"
	"\n"
	"Verbs:\n"
	"  -l, --list [-v] [-q] [--running] [--json]   distributions\n"
	"      --list --online [-q] [--json]           what can be installed\n"
	"      --import NAME DIR FILE     a new distribution from a root file system archive\n"
	"                                 (FILE: tar, any compression; - for standard input),\n"
	"                                 a container image or a disk image; its disk will be in DIR\n"
	"                                 (--size SIZE, --file-system ext4|xfs|btrfs)\n"
	"      --import-in-place NAME FILE [--vhd]   from a disk image, which stays where it is\n"
	"      --mount DISK [--vhd] [--bare] [-n NAME] [-t TYPE] [-o OPTIONS] [-p PARTITION]\n"
	"                                 a disk in all distributions, at /mnt/wsl/NAME\n"
	"      --unmount [DISK]           no longer; without DISK: all\n"
	"      --export NAME FILE [--format tar|tar.gz|tar.xz|tar.zst|raw]\n"
	"                                 a distribution as an archive, or its disk (- for\n"
	"                                 standard output)\n"
	"      --install [NAME] [-f FILE] [--name NEW] [-l DIR] [-n] [--vhd-size SIZE]\n"
	"                                 a distribution from the list (--list --online), or from\n"
	"                                 a file; then a first shell in it\n"
	"      --manage NAME OPTION           change a distribution: -m, --move DIR,\n"
	"                                 -r, --resize SIZE, --compact, --rename NEW,\n"
	"                                 --clone NEW [--location DIR], --set-default-user USER\n"
	"      --unregister NAME          remove a distribution with all its files\n"
	"  -t, --terminate NAME           stop a distribution\n"
	"      --shutdown [--force]       stop all, and the virtual machine\n"
	"  -s, --set-default NAME         make it the default\n"
	"      --status [--json]          the service, the engine and why it was chosen\n"
	"      --debug-shell [-d NAME] [COMMAND]   as root in the virtual machine itself\n"
	"      port [list] | add [-d NAME] [--udp] [ADDRESS:]PORT[:GUESTPORT] | remove [ADDRESS:]PORT\n"
	"                                 ports of this host that lead into the virtual machine\n"
	"      network [--json]           addresses, name servers, and who shares them\n"
	"      diag list|console|kill|registers|dump|timeline|reclaim   virtual machines from inside;\n"
	"                                 see wslx-diag(1)\n"
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
