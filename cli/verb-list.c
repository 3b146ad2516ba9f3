/* SPDX-License-Identifier: MIT */
/* wslx --list [-v|--verbose] [-q|--quiet] [--running] [--all] [--online] [--json] */
#include <stdio.h>
#include <string.h>
#include "cli/catalogue.h"
#include "cli/cli.h"

struct flags {
	bool verbose, quiet, running, all, json, online;
};

static int parse(int argc, char **argv, struct flags *f)
{
	for (int i = 1; i < argc; i++) {
		const char *a = argv[i];

		if (!strcmp(a, "-v") || !strcmp(a, "--verbose"))
			f->verbose = true;
		else if (!strcmp(a, "-q") || !strcmp(a, "--quiet"))
			f->quiet = true;
		else if (!strcmp(a, "--running"))
			f->running = true;
		else if (!strcmp(a, "--all"))
			f->all = true;
		else if (!strcmp(a, "-o") || !strcmp(a, "--online"))
			f->online = true;
		else if (!strcmp(a, "--json"))
			f->json = true;
		else
			return usage_error("--list: unknown argument '%s'", a);
	}
	if (f->quiet && f->verbose)
		return usage_error("--list: --quiet and --verbose exclude each other");
	if (f->all && f->running)
		return usage_error("--list: --all and --running exclude each other");
	if (f->online && (f->verbose || f->all || f->running))
		return usage_error("--list: --online goes with --quiet and --json only");
	return 0;
}

static int print_online(const struct flags *f)
{
	cleanup(catalogue_freep) struct catalogue *c = NULL;
	cleanup_js struct json_object *out = js_array();
	struct err e = {0};
	int width = 4;

	if (catalogue_load(&c, &e) < 0)
		return fail("list what can be installed: %s", e.text);
	for (unsigned i = 0; i < c->n; i++)
		width = MAX(width, (int)strlen(c->entry[i].name) + 4);
	if (!f->json && !f->quiet)
		printf("These can be installed with 'wslx --install NAME':\n\n  %-*sFRIENDLY NAME\n",
			width, "NAME");
	for (unsigned i = 0; i < c->n; i++) {
		const struct catalogue_entry *en = &c->entry[i];

		if (f->json) {
			struct json_object *o = js_set_str(js_object(), "name", en->name);

			js_set_str(
				js_set_str(o, "friendly_name", en->friendly), "flavor", en->flavor);
			js_set_bool(o, "default", en == catalogue_find(c, NULL));
			js_push(out, js_set_str(o, "source",
					     en->url	   ? en->url
					     : *en->mirror ? en->mirror
							   : "mmdebstrap"));
		} else if (f->quiet) {
			printf("%s\n", en->name);
		} else {
			printf("%c %-*s%s\n", en == catalogue_find(c, NULL) ? '*' : ' ', width,
				en->name, en->friendly);
		}
	}
	if (f->json)
		printf("%s\n", json_object_to_json_string_ext(out, JSON_C_TO_STRING_PRETTY));
	return finish_output();
}

static bool shown(const struct flags *f, struct json_object *o)
{
	return !f->running || strcmp(js_str(o, "state", ""), "Running") == 0;
}

static void print(const struct flags *f, struct json_object *o, int width)
{
	const char *name = js_str(o, "name", "");
	bool def = js_bool(o, "default", false);

	if (f->verbose)
		printf("%c %-*s%-16s%d\n", def ? '*' : ' ', width, name, js_str(o, "state", ""), 2);
	else
		printf("%s%s\n", name, def && !f->quiet ? " (Default)" : "");
}

static void print_json(const struct flags *f, struct json_object *list)
{
	cleanup_js struct json_object *out = js_array();

	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);

		if (shown(f, o))
			js_push(out, json_object_get(o));
	}
	printf("%s\n", json_object_to_json_string_ext(out, JSON_C_TO_STRING_PRETTY));
}

int verb_list(int argc, char **argv)
{
	cleanup_js struct json_object *reply = NULL;
	struct flags f = {0};
	struct json_object *list;
	int width = 4, r = parse(argc, argv, &f);
	size_t n;

	if (r == 0 && f.online)
		return print_online(&f);
	if (r == 0)
		r = service_call("list distributions", "list", NULL, &reply);
	if (r)
		return r;
	list = js_get(reply, "distributions");
	n = list ? json_object_array_length(list) : 0;
	if (f.json) {
		if (list)
			print_json(&f, list);
		return finish_output();
	}
	if (n == 0 && !f.quiet)
		fputs("No distribution is installed; 'wslx --import' adds one.\n", stderr);
	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(list, i);

		width = MAX(width, (int)strlen(js_str(o, "name", "")) + 4);
	}
	if (f.verbose && n)
		printf("  %-*s%-16s%s\n", width, "NAME", "STATE", "VERSION");
	/* The default first, then in the order of registration. */
	for (int def = 1; def >= 0; def--)
		for (size_t i = 0; i < n; i++) {
			struct json_object *o = json_object_array_get_idx(list, i);

			if (js_bool(o, "default", false) == def && shown(&f, o))
				print(&f, o, width);
		}
	return finish_output();
}
