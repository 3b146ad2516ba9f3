/* SPDX-License-Identifier: MIT */
/* wslx --status [--json] */
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"

static void print(struct json_object *o)
{
	struct json_object *engine = js_get(o, "engine"), *vm = js_get(o, "vm");
	struct json_object *warnings = js_get(o, "warnings");

	printf("Default distribution: %s\n", js_str(o, "default", "(none)"));
	printf("Distributions: %llu\n", (unsigned long long)js_u64(o, "distributions", 0));
	printf("Engine: %s (%s)\n", js_str(engine, "name", "unknown"),
		js_str(engine, "reason", "wslx-vmm did not say"));
	if (vm)
		printf("Virtual machine: %s, process %llu, kernel %s\n", js_str(vm, "state", ""),
			(unsigned long long)js_u64(vm, "pid", 0), js_str(vm, "kernel", ""));
	else
		printf("Virtual machine: Stopped\n");
	if (js_get(o, "memory"))
		printf("Size: %llu MiB of memory, %llu processors\n",
			(unsigned long long)(js_u64(o, "memory", 0) >> 20),
			(unsigned long long)js_u64(o, "processors", 0));
	printf("Kernel: %s\n", js_str(o, "kernel", "(none)"));
	printf("Service: wslxd %s, process %llu\n", js_str(o, "version", "?"),
		(unsigned long long)js_u64(o, "pid", 0));
	printf("Data: %s\n", js_str(o, "data", ""));
	if (js_str(o, "last_end", NULL))
		printf("Last virtual machine: %s\n", js_str(o, "last_end", ""));
	if (js_str(o, "problem", NULL))
		printf("Problem: %s\n", js_str(o, "problem", ""));
	for (size_t i = 0; warnings && i < json_object_array_length(warnings); i++)
		printf("Warning: %s\n",
			json_object_get_string(json_object_array_get_idx(warnings, i)));
}

int verb_status(int argc, char **argv)
{
	cleanup_js struct json_object *o = NULL;
	bool json = argc == 2 && strcmp(argv[1], "--json") == 0;
	int r;

	if (argc > 2 || (argc == 2 && !json))
		return usage_error("--status: unknown argument '%s'", argv[argc - 1]);
	r = service_call("status", "status", NULL, &o);
	if (r)
		return r;
	if (json)
		printf("%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY));
	else
		print(o);
	return finish_output();
}
