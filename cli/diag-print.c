/* SPDX-License-Identifier: MIT */
#include "cli/diag.h"

#include <stdio.h>
#include <string.h>

static size_t length(struct json_object *array)
{
	return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

/* 90 -> "1m30s" */
static void duration(uint64_t s, char *buf, size_t cap)
{
	if (s < 60)
		snprintf(buf, cap, "%llus", (unsigned long long)s);
	else if (s < 3600)
		snprintf(buf, cap, "%llum%02llus", (unsigned long long)s / 60,
			(unsigned long long)s % 60);
	else
		snprintf(buf, cap, "%lluh%02llum", (unsigned long long)s / 3600,
			(unsigned long long)s / 60 % 60);
}

void diag_print_list(struct json_object *machines)
{
	if (length(machines) == 0)
		fputs("No virtual machine runs.\n", stderr);
	else
		printf("%-8s%-8s%-10s%-9s%-7s%-18s%s\n", "ID", "ENGINE", "STATE", "UPTIME", "CPU",
			"MEMORY (MiB)", "DISTRIBUTIONS");
	for (size_t i = 0; i < length(machines); i++) {
		struct json_object *m = json_object_array_get_idx(machines, i);
		struct json_object *names = js_get(m, "distributions");
		char up[24], cpu[24], mem[48];

		duration(js_u64(m, "uptime_ms", 0) / 1000, up, sizeof(up));
		duration(js_u64(m, "cpu_ms", 0) / 1000, cpu, sizeof(cpu));
		snprintf(mem, sizeof(mem), "%llu of %llu",
			(unsigned long long)js_u64(m, "memory_used", 0) >> 20,
			(unsigned long long)js_u64(m, "memory", 0) >> 20);
		printf("%-8s%-8s%-10s%-9s%-7s%-18s", js_str(m, "id", ""), js_str(m, "engine", "?"),
			js_str(m, "state", ""), up, cpu, mem);
		for (size_t k = 0; k < length(names); k++)
			printf("%s%s", k ? ", " : "",
				json_object_get_string(json_object_array_get_idx(names, k)));
		putchar('\n');
	}
}

void diag_print_timeline(struct json_object *stages)
{
	double before = 0;

	printf("%10s%10s  %s\n", "MS", "TOOK", "STAGE");
	for (size_t i = 0; i < length(stages); i++) {
		struct json_object *s = json_object_array_get_idx(stages, i);
		double ms = json_object_get_double(js_get(s, "ms"));

		printf("%10.1f%10.1f  %s\n", ms, ms - before, js_str(s, "stage", ""));
		before = ms;
	}
}

/* name=value pairs, four a line. */
static void pairs(struct json_object *o)
{
	unsigned n = 0;

	json_object_object_foreach(o, name, value)
	{
		printf("%s%-6s %s", n % 4 ? "  " : "", name, json_object_get_string(value));
		if (++n % 4 == 0)
			putchar('\n');
	}
	if (n % 4)
		putchar('\n');
}

void diag_print_registers(struct json_object *vcpus)
{
	for (size_t i = 0; i < length(vcpus); i++) {
		struct json_object *v = json_object_array_get_idx(vcpus, i);
		struct json_object *regs = js_get(v, "registers"), *segs = js_get(v, "segments"),
				   *tables = js_get(v, "tables"), *msrs = js_get(v, "msrs");

		printf("%svCPU %llu: %s\n", i ? "\n" : "", (unsigned long long)js_u64(v, "vcpu", 0),
			js_str(v, "state", "?"));
		if (regs)
			pairs(regs);
		if (segs) {
			json_object_object_foreach(segs, name, s)
			{
				printf("%-6s %s  base %s  limit %s  attributes %s\n", name,
					js_str(s, "selector", ""), js_str(s, "base", ""),
					js_str(s, "limit", ""), js_str(s, "attributes", ""));
			}
		}
		if (tables) {
			json_object_object_foreach(tables, name, t)
			{
				printf("%-6s         base %s  limit %s\n", name,
					js_str(t, "base", ""), js_str(t, "limit", ""));
			}
		}
		if (msrs)
			pairs(msrs);
	}
}
