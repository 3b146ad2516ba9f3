/* SPDX-License-Identifier: MIT */
/* wslx --shutdown [--force]: stops all distributions and the virtual machine. */
#include <string.h>
#include "cli/cli.h"

int verb_shutdown(int argc, char **argv)
{
	bool force = argc == 2 && strcmp(argv[1], "--force") == 0;

	if (argc > 2 || (argc == 2 && !force))
		return usage_error("--shutdown: unknown argument '%s'", argv[argc - 1]);
	return service_call(
		"shut down", "shutdown", js_set_bool(js_object(), "force", force), NULL);
}
