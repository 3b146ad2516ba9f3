/* SPDX-License-Identifier: MIT */
/*
 * wslx [OPTION...] [--] [COMMAND ARG...]: runs a command, or a login shell.
 * wslx --debug-shell [-d NAME] [--] [COMMAND ARG...]: as root in the virtual machine, outside any distribution.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "cli/session.h"

/* An option's argument: "--cd DIR", "--cd=DIR" or "-dNAME". 1: it is this option. -1: no argument. */
static int option(int argc, char **argv, int *i, const char *longname, const char *shortname,
	const char **ret)
{
	const char *a = argv[*i];
	size_t n = strlen(longname);

	if (strncmp(a, longname, n) == 0 && a[n] == '=') {
		*ret = a + n + 1;
		return 1;
	}
	if (shortname && strncmp(a, shortname, 2) == 0 && a[1] != '-' && a[2]) {
		*ret = a + 2;
		return 1;
	}
	if (strcmp(a, longname) != 0 && (!shortname || strcmp(a, shortname) != 0))
		return 0;
	if (*i + 1 >= argc)
		return -1;
	*ret = argv[++*i];
	return 1;
}

enum { ID_LEN = 36 };

/* As the registry has it: lower case, without the braces that Windows writes. */
static int take_id(const char *text, char id[ID_LEN + 1])
{
	size_t n = strlen(text);

	if (n == ID_LEN + 2 && text[0] == '{' && text[n - 1] == '}') {
		text++;
		n -= 2;
	}
	if (n != ID_LEN || strspn(text, "0123456789abcdefABCDEF-") < n)
		return usage_error(
			"--distribution-id '%s': an id as in --list --json is needed", text);
	for (size_t i = 0; i < n; i++)
		id[i] = (char)tolower((unsigned char)text[i]);
	id[n] = '\0';
	return 0;
}

static int parse(int argc, char **argv, struct session_spec *s)
{
	const char *type = NULL;
	int i, r;

	for (i = 1; i < argc; i++) {
		const char *a = argv[i];

		if (strcmp(a, "--") == 0) {
			i++;
			break;
		}
		if (strcmp(a, "-e") == 0 || strcmp(a, "--exec") == 0) {
			s->exec = true;
			i++;
			if (i == argc)
				return usage_error("%s needs a command", a);
			if (strcmp(argv[i], "--") == 0 && i + 1 < argc)
				i++;
			break;
		}
		if (i == 1 && strcmp(a, "~") == 0) {
			s->cwd = a;
			continue;
		}
		if (a[0] != '-' || !a[1])
			break;
		r = option(argc, argv, &i, "--distribution", "-d", &s->distribution);
		if (r == 0)
			r = option(argc, argv, &i, "--distribution-id", NULL, &s->id);
		if (r == 0)
			r = option(argc, argv, &i, "--user", "-u", &s->user);
		if (r == 0)
			r = option(argc, argv, &i, "--cd", NULL, &s->cwd);
		if (r == 0)
			r = option(argc, argv, &i, "--shell-type", NULL, &type);
		if (r < 0)
			return usage_error("%s needs an argument", a);
		if (r == 0)
			return usage_error("unknown option '%s'", a);
	}
	if (type && strcmp(type, "none") == 0)
		s->exec = true;
	else if (type && strcmp(type, "standard") != 0 && strcmp(type, "login") != 0)
		return usage_error("--shell-type '%s': standard, login or none is needed", type);
	s->login = type && strcmp(type, "login") == 0;
	s->args = argv + i;
	if (s->exec && !s->args[0])
		return usage_error("--shell-type none needs a command");
	if (s->distribution && !*s->distribution)
		return usage_error("the distribution's name is empty");
	if (s->distribution && s->id)
		return usage_error("--distribution and --distribution-id exclude each other");
	if (s->user && !*s->user)
		return usage_error("the user's name is empty");
	if (s->cwd && s->cwd[0] != '/' && strcmp(s->cwd, "~") && strncmp(s->cwd, "~/", 2))
		return usage_error(
			"--cd '%s': an absolute path in the distribution is needed, or ~", s->cwd);
	return 0;
}

int verb_run(int argc, char **argv)
{
	struct session_spec spec = {0};
	char id[ID_LEN + 1];
	int r = parse(argc, argv, &spec);

	if (r == 0 && spec.id) {
		r = take_id(spec.id, id);
		spec.id = id;
	}
	return r ? r : session_run(&spec);
}

int verb_debug_shell(int argc, char **argv)
{
	struct session_spec spec = {.debug = true};
	int i, r;

	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		if (!strcmp(argv[i], "--")) {
			i++;
			break;
		}
		r = option(argc, argv, &i, "--distribution", "-d", &spec.distribution);
		if (r <= 0)
			return usage_error(r < 0 ? "--debug-shell: %s needs an argument"
						 : "--debug-shell: unknown option '%s'",
				argv[i]);
	}
	spec.args = argv + i;
	return session_run(&spec);
}
