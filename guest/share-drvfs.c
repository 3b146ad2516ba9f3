/* SPDX-License-Identifier: MIT */
/* mount.drvfs SOURCE TARGET [-sfnv] [-o OPTIONS]: mount(8)'s helper for folders of the host, in fstab as on the command line. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "guest/share.h"
#include "guest/tools.h"

/* The host's /x/y is "x/y" of its share. NULL: it is nothing of that kind. */
static const char *host_path(const char *source)
{
	if (strcmp(source, SHARE_DEFAULT) == 0)
		return "";
	if (source[0] != '/')
		return NULL;
	while (*source == '/')
		source++;
	return source;
}

int drvfs_main(int argc, char **argv)
{
	const char *options = "", *path;
	struct err e = {0};
	int c;

	/* mount(8) names both first, and getopt(3) need not look behind them */
	optind = argc > 2 && argv[1][0] != '-' ? 3 : 1;
	while ((c = getopt(argc, argv, "sfnvwo:t:")) != -1) {
		if (c == 'o')
			options = optarg;
		if (c == 'f') /* fake: all but the mount */
			return 0;
		if (c == '?')
			return 1;
	}
	if (optind != argc || argc < 3 || argv[1][0] == '-') {
		fputs("usage: mount.drvfs FOLDER-OF-THE-HOST TARGET [-o OPTIONS]\n", stderr);
		return 1;
	}
	path = host_path(argv[1]);
	if (!path) {
		fprintf(stderr,
			"mount.drvfs: %s: a folder of the host by its full path is needed; it has no drives\n",
			argv[1]);
		return 32;
	}
	if (share_mount(SHARE_DEFAULT, path, options, argv[2], &e) < 0) {
		fprintf(stderr, "mount.drvfs: %s\n", e.text);
		return 32;
	}
	return 0;
}
