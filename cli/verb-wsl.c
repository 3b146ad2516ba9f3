/* SPDX-License-Identifier: MIT */
/* Verbs of WSL that have little to do here: they say so, and what does it instead. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "cli/cli.h"

static int version_arg(const char *verb, const char *version)
{
	if (strcmp(version, "2") == 0)
		return 0;
	return fail("%s %s: there is only version 2: distributions run in a virtual machine", verb,
		version);
}

int verb_set_version(int argc, char **argv)
{
	cleanup_js struct json_object *reply = NULL;
	struct json_object *list;

	if (argc != 3)
		return usage_error("%s needs a distribution and a version", argv[0]);
	if (service_call("set the version", "list", NULL, &reply))
		return EX_OURS;
	list = js_get(reply, "distributions");
	for (size_t i = 0; list && i < json_object_array_length(list); i++)
		if (!strcasecmp(js_str(json_object_array_get_idx(list, i), "name", ""), argv[1]))
			return version_arg("set-version", argv[2]);
	return fail("set-version: there is no distribution '%s'; 'wslx --list' shows all", argv[1]);
}

int verb_set_default_version(int argc, char **argv)
{
	if (argc != 2)
		return usage_error("%s needs a version", argv[0]);
	return version_arg("set-default-version", argv[1]);
}

int verb_update(int argc, char **argv)
{
	return fail(
		"update: wslx is updated as what installed it updates it: apt upgrade for a package, "
		"git pull and ./dev setup for a clone");
}

int verb_uninstall(int argc, char **argv)
{
	if (argc > 1)
		return usage_error("--uninstall takes no arguments");
	return fail(
		"uninstall: wslx is removed as what installed it removes it: apt remove for a package; "
		"distributions stay, and 'wslx --unregister' removes them");
}
