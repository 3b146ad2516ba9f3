/* SPDX-License-Identifier: MIT */
/* wslinfo(1): says where one is. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "guest/info.h"
#include "guest/tools.h"

static const char usage[] = "usage: wslinfo [-n] QUESTION\n"
			    "\n"
			    "Says how and where this distribution runs.\n"
			    "\n"
			    "  --networking-mode      how it reaches the network\n"
			    "  --version              the version of wslx; also --wsl-version\n"
			    "  --vm-id                the virtual machine it is in\n"
			    "  --msal-proxy-path      of WSL; there is no such thing here\n"
			    "  -n                     no newline after the answer\n"
			    "  --help\n";

static int fail(const char *text)
{
	fprintf(stderr, "wslinfo: %s\n", text);
	return 1;
}

int wslinfo_main(int argc, char **argv)
{
	const char *question = NULL, *answer = NULL;
	struct info in = {0};
	struct err e = {0};
	bool newline = true;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--help")) {
			fputs(usage, stdout);
			return 0;
		} else if (!strcmp(argv[i], "-n")) {
			newline = false;
		} else if (question) {
			return fail("one question at a time; see 'wslinfo --help'");
		} else {
			question = argv[i];
		}
	}
	if (!question)
		return fail("a question is needed; see 'wslinfo --help'");
	if (!strcmp(question, "--version") || !strcmp(question, "--wsl-version")) {
		answer = WSLX_VERSION;
	} else if (!strcmp(question, "--msal-proxy-path")) {
		return fail("wslx has no MSAL proxy: that is Windows' sign-in");
	} else if (!strcmp(question, "--networking-mode") || !strcmp(question, "--vm-id")) {
		if (info_load(&in, &e) < 0)
			return fail(e.text);
		answer = question[2] == 'v' ? in.vm : in.networking;
		if (!*answer)
			return fail("the host did not say");
	} else {
		fprintf(stderr, "wslinfo: unknown option '%s'; see 'wslinfo --help'\n", question);
		return 1;
	}
	printf("%s%s", answer, newline ? "\n" : "");
	info_done(&in);
	return fflush(stdout) == 0 ? 0 : fail("write the answer");
}
