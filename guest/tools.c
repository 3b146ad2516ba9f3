/* SPDX-License-Identifier: MIT */
#include "guest/tools.h"

#include <string.h>
#include "guest/p9.h"
#include "lib/base/attr.h"

const char *const tools_names[] = {"wslx-run", "wslpath", "wslinfo", "mount.drvfs", NULL};

int tools_main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*fn)(int argc, char **argv);
	} tools[] = {{"wslx-run", run_main}, {TOOLS_BINFMT, binfmt_main}, {"wslpath", wslpath_main},
		{"wslinfo", wslinfo_main}, {"mount.drvfs", drvfs_main}, {P9_PROGRAM, p9_main}};
	const char *base = argc > 0 ? strrchr(argv[0], '/') : NULL;

	if (argc < 1)
		return -1;
	base = base ? base + 1 : argv[0];
	for (size_t i = 0; i < ARRAY_LEN(tools); i++)
		if (!strcmp(base, tools[i].name))
			return tools[i].fn(argc, argv);
	return -1;
}
