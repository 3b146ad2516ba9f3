/* SPDX-License-Identifier: MIT */
#include "cli/catalogue.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "cli/fetch.h"
#include "lib/base/io.h"
#include "lib/base/xdg.h"
#include "lib/conf/conf.h"

/* Where a suite's packages are, mmdebstrap(1) knows. */
#define SUITE(name, friendly, def, suite, components, keyring)                                     \
	"{\"Name\": \"" name "\", \"FriendlyName\": \"" friendly "\", \"Default\": " def           \
	", \"Suite\": \"" suite "\", \"Components\": \"" components "\", "                         \
	"\"Keyring\": \"/usr/share/keyrings/" keyring "-archive-keyring.gpg\", "                   \
	"\"Include\": \"ca-certificates,less,procps,iproute2,kmod,sudo\"}"
#define DEBIAN(name, friendly, def, suite) SUITE(name, friendly, def, suite, "main", "debian")
#define UBUNTU(name, friendly, def, suite)                                                         \
	SUITE(name, friendly, def, suite, "main universe", "ubuntu")

static const char built_in[] =
	"{\"Default\": \"Debian\", \"MadeDistributions\": {"
	"\"Debian\": [" DEBIAN("Debian", "Debian GNU/Linux 12 (bookworm)", "true",
		"bookworm") ", " DEBIAN("Debian-13", "Debian GNU/Linux 13 (trixie)", "false",
		"trixie") ", " DEBIAN("Debian-11", "Debian GNU/Linux 11 (bullseye)", "false",
		"bullseye") ", " DEBIAN("Debian-sid", "Debian GNU/Linux, unstable (sid)", "false",
		"sid") "], \"Ubuntu\": [" UBUNTU("Ubuntu", "Ubuntu 24.04 LTS (noble)", "true",
		"noble") ", " UBUNTU("Ubuntu-22.04", "Ubuntu 22.04 LTS (jammy)", "false",
		"jammy") "]}}";

void catalogue_free(struct catalogue *c)
{
	if (!c)
		return;
	js_free(c->json);
	free(c);
}

/* Becomes a word of a command line or of a message: nothing in it may act as more. */
static bool printable(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 127)
			return false;
	return true;
}

static bool word(const char *s)
{
	return *s && *s != '-' && strlen(s) < 2048 && printable(s);
}

static void add_download(struct catalogue *c, const char *flavor, struct json_object *o)
{
	struct json_object *amd64 = js_get(o, "Amd64Url");
	struct catalogue_entry e = {.name = js_str(o, "Name", ""),
		.friendly = js_str(o, "FriendlyName", ""),
		.flavor = flavor,
		.is_default = js_bool(o, "Default", false),
		.url = js_str(amd64, "Url", ""),
		.sha256 = js_str(amd64, "Sha256", "")};

	if (!strncasecmp(e.sha256, "0x", 2))
		e.sha256 += 2;
	if (c->n < CATALOGUE_MAX && word(e.name) && printable(e.friendly) && word(e.url) &&
		strlen(e.sha256) == 64 && strspn(e.sha256, "0123456789abcdefABCDEF") == 64)
		c->entry[c->n++] = e;
}

static void add_made(struct catalogue *c, const char *flavor, struct json_object *o)
{
	struct catalogue_entry e = {.name = js_str(o, "Name", ""),
		.friendly = js_str(o, "FriendlyName", ""),
		.flavor = flavor,
		.is_default = js_bool(o, "Default", false),
		.suite = js_str(o, "Suite", ""),
		.mirror = js_str(o, "Mirror", ""),
		.components = js_str(o, "Components", "main"),
		.keyring = js_str(o, "Keyring", ""),
		.include = js_str(o, "Include", "")};

	if (c->n < CATALOGUE_MAX && word(e.name) && printable(e.friendly) && word(e.suite) &&
		(!*e.mirror || word(e.mirror)) && word(e.components) && printable(e.keyring) &&
		printable(e.include))
		c->entry[c->n++] = e;
}

static void add_all(struct catalogue *c, const char *key,
	void (*add)(struct catalogue *c, const char *flavor, struct json_object *o))
{
	struct json_object *flavors = js_get(c->json, key);

	if (!json_object_is_type(flavors, json_type_object))
		return;
	json_object_object_foreach(flavors, flavor, list)
	{
		if (!json_object_is_type(list, json_type_array) || !printable(flavor))
			continue;
		for (size_t i = 0; i < json_object_array_length(list); i++) {
			struct json_object *o = json_object_array_get_idx(list, i);

			if (json_object_is_type(o, json_type_object))
				add(c, flavor, o);
		}
	}
}

int catalogue_parse(const char *text, size_t len, struct catalogue **ret, struct err *e)
{
	cleanup(catalogue_freep) struct catalogue *c = calloc(1, sizeof(*c));
	int r = c ? js_parse(text, len, &c->json) : -ENOMEM;

	if (r < 0 || !json_object_is_type(c->json, json_type_object))
		return err_set(e, -EBADMSG, "it is no list of distributions (JSON)");
	add_all(c, "ModernDistributions", add_download);
	add_all(c, "MadeDistributions", add_made);
	c->default_flavor = js_str(c->json, "Default", "");
	*ret = take_ptr(c);
	return 0;
}

struct list_conf {
	char *list; /* owned */
};

static void ignore(void *ctx, unsigned line, const char *text)
{
	/* The service tells what is wrong with the file. */
}

static char *configured(void)
{
	static const struct conf_key key = {"wslx", "distributionList", CONF_STR, 0};
	const char *env = getenv("WSLX_DISTRIBUTION_LIST");
	cleanup_free char *text = NULL;
	struct list_conf conf = {0};
	char path[4096];
	size_t len;

	if (env && *env)
		return strdup(env);
	if (xdg_config(path, sizeof(path), NULL) == 0 &&
		io_read_file(path, CONF_MAX_FILE, &text, &len) == 0)
		conf_apply(text, len, &key, 1, &conf, ignore, NULL);
	return conf.list;
}

int catalogue_load(struct catalogue **ret, struct err *e)
{
	cleanup_free char *from = configured(), *text = NULL;
	size_t len = 0;
	int r;

	if (!from)
		return catalogue_parse(built_in, sizeof(built_in) - 1, ret, e);
	r = from[0] == '/' ? io_read_file(from, CATALOGUE_FILE_MAX, &text, &len)
			   : fetch_text(from, CATALOGUE_FILE_MAX, &text, &len, e);
	if (r < 0 && from[0] == '/')
		err_sys(e, r, "%s", from);
	if (r == 0) {
		r = catalogue_parse(text, len, ret, e);
		if (r < 0)
			err_wrap(e, r, "%s", from);
	}
	return r;
}

const struct catalogue_entry *catalogue_find(const struct catalogue *c, const char *name)
{
	if (!name)
		name = *c->default_flavor ? c->default_flavor : c->n ? c->entry[0].name : "";
	for (unsigned i = 0; i < c->n; i++)
		if (!strcasecmp(c->entry[i].name, name))
			return &c->entry[i];
	for (unsigned i = 0; i < c->n; i++)
		if (!strcasecmp(c->entry[i].flavor, name) && c->entry[i].is_default)
			return &c->entry[i];
	return NULL;
}
