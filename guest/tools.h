/* SPDX-License-Identifier: MIT */
/* The programs that a distribution has of us, all of them this one under other names. Each gets its own argv. */
#ifndef WSLX_GUEST_TOOLS_H
#define WSLX_GUEST_TOOLS_H

/* Where they are in a distribution, and the name under which the kernel starts programs of the host (guest/binfmt.c). */
#define TOOLS_DIR    "/run/wslx/bin"
#define TOOLS_BINFMT "wslx-binfmt"

extern const char *const tools_names[]; /* what users call; NULL-ended */

/* Runs what argv[0] names, if it is one of ours: its exit status, or -1. */
int tools_main(int argc, char **argv);

int run_main(int argc, char **argv); /* wslx-run */
int binfmt_main(int argc,
	char **argv); /* argv: ours, the stub's path, the name it was called by, arguments */
int wslpath_main(int argc, char **argv);
int wslinfo_main(int argc, char **argv);
int drvfs_main(int argc, char **argv); /* mount.drvfs */

#endif
