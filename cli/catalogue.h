/* SPDX-License-Identifier: MIT */
/*
 * Which distributions can be installed: a list in WSL's format (DistributionInfo.json: archives to be
 * downloaded) and in one of ours beside it, "MadeDistributions", of suites that mmdebstrap(1) makes
 * here:
 *
 *	{"MadeDistributions": {"Debian": [{"Name": "Debian-12", "FriendlyName": "Debian 12 (bookworm)",
 *		"Default": true, "Suite": "bookworm", "Mirror": "http://mirror.example/debian",
 *		"Components": "main", "Keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
 *		"Include": "ca-certificates,less"}]}}
 *
 * Without "Mirror" it is mmdebstrap's own.
 */
#ifndef WSLX_CLI_CATALOGUE_H
#define WSLX_CLI_CATALOGUE_H

#include <stdbool.h>
#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/json/json.h"

enum { CATALOGUE_MAX = 512, CATALOGUE_FILE_MAX = 4 << 20 };

/* Strings belong to the catalogue's JSON. */
struct catalogue_entry {
	const char *name, *friendly, *flavor;
	bool is_default;	  /* of its flavor */
	const char *url, *sha256; /* an archive; url NULL: made here */
	const char *suite, *mirror, *components, *keyring, *include; /* "" where not said */
};

struct catalogue {
	struct json_object *json;
	struct catalogue_entry entry[CATALOGUE_MAX];
	unsigned n;
	const char *default_flavor; /* "" */
};

/* The list that wslx.conf names ([wslx] distributionList, a file or a URL), or the built-in one. */
int catalogue_load(struct catalogue **ret, struct err *e);
/* What is not an entry is left out; -EBADMSG: it is no list at all. */
int catalogue_parse(const char *text, size_t len, struct catalogue **ret, struct err *e);
void catalogue_free(struct catalogue *c);
DEFINE_CLEANUP(struct catalogue, catalogue_free)

/* By name, by the name of its flavor (its default), or NULL for the list's default. NULL: none. */
const struct catalogue_entry *catalogue_find(const struct catalogue *c, const char *name);

#endif
