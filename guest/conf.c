/* SPDX-License-Identifier: MIT */
#include "guest/conf.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "guest/root.h"
#include "lib/base/cleanup.h"
#include "lib/conf/conf.h"

#define WSL_CONF	  "etc/wsl.conf"
#define DISTRIBUTION_CONF "etc/wsl-distribution.conf"

enum { CGROUPS_V1, CGROUPS_V2, MAX_TIMEOUT_MS = 3600000 };

static const char *const cgroup_versions[] = {"v1", "v2", NULL};
static const char *const log_levels[] = {
	"error", "warn", "warning", "info", "debug", "trace", NULL};

#define AT(member) offsetof(struct wsl_conf, member)

static const struct conf_key wsl_keys[] = {
	{"automount", "enabled", CONF_BOOL, AT(automount)},
	{"automount", "mountFsTab", CONF_BOOL, AT(mount_fstab)},
	{"automount", "root", CONF_STR, AT(automount_root)},
	{"automount", "options", CONF_STR, AT(automount_options)},
	{"automount", "cgroups", CONF_CHOICE, AT(cgroups), .choices = cgroup_versions},
	{"automount", "ldconfig", CONF_BOOL, AT(unused)},
	{"filesystem", "umask", CONF_OCTAL, AT(umask), .max = 0777},
	{"interop", "enabled", CONF_BOOL, AT(interop)},
	{"interop", "appendWindowsPath", CONF_BOOL, AT(append_path)},
	{"interop", "appendHostPath", CONF_BOOL, AT(append_path)},
	{"interop", "pathPrefix", CONF_STR, AT(programs)},
	{"network", "generateHosts", CONF_BOOL, AT(generate_hosts)},
	{"network", "generateResolvConf", CONF_BOOL, AT(generate_resolv_conf)},
	{"network", "hostname", CONF_STR, AT(hostname)},
	{"network", "isolation", CONF_BOOL, AT(isolation)},
	{"time", "useWindowsTimezone", CONF_BOOL, AT(host_timezone)},
	{"time", "useHostTimezone", CONF_BOOL, AT(host_timezone)},
	{"user", "default", CONF_STR, AT(user)},
	{"boot", "command", CONF_STR, AT(command)},
	{"boot", "systemd", CONF_BOOL, AT(systemd)},
	{"boot", "initTimeout", CONF_INT, AT(init_timeout_ms), .min = 1, .max = MAX_TIMEOUT_MS},
	{"boot", "protectBinfmt", CONF_BOOL, AT(protect_binfmt)},
	{"general", "guiApplications", CONF_BOOL, AT(unused)},
	{"gpu", "enabled", CONF_BOOL, AT(unused)},
	{"gpu", "appendLibPath", CONF_BOOL, AT(unused)},
	{"fileServer", "enabled", CONF_BOOL, AT(unused)},
	{"fileServer", "logFile", CONF_STR, AT(unused_text)},
	{"fileServer", "logLevel", CONF_CHOICE, AT(unused_level), .choices = log_levels},
	{"fileServer", "logTruncate", CONF_BOOL, AT(unused)},
};

struct source {
	const char *path;
	struct warnings *w;
};

static void complain(void *ctx, unsigned line, const char *text)
{
	const struct source *s = ctx;

	warn_add(s->w, "/%s:%u: %s", s->path, line, text);
}

/* The file, or an empty text with a warning when there is one that cannot be read. */
static char *read_conf(int root, const char *path, size_t *len, struct warnings *w)
{
	char *text = NULL;
	int r = root_read(root, path, CONF_MAX_FILE, &text, len);

	if (r < 0)
		*len = 0;
	if (r < 0 && r != -ENOENT && r != -ENOTDIR)
		warn_add(w, "/%s is not read: %s", path,
			r == -EINVAL ? "not a regular file" : strerror(-r));
	return text;
}

/* A name that sethostname(2) and /etc/hosts can do with. */
static bool hostname_ok(const char *s)
{
	size_t n = strlen(s);

	return n > 0 && n <= 64 && s[0] != '-' && s[0] != '.' &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == n;
}

void wsl_conf_parse(const char *text, size_t len, struct wsl_conf *ret, struct warnings *w)
{
	struct source src = {WSL_CONF, w};

	*ret = (struct wsl_conf){.automount = true,
		.mount_fstab = true,
		.cgroups = CGROUPS_V2,
		.umask = 022,
		.interop = true,
		.generate_hosts = true,
		.generate_resolv_conf = true,
		.host_timezone = true,
		.protect_binfmt = true};
	conf_apply(text, len, wsl_keys, ARRAY_LEN(wsl_keys), ret, complain, &src);
	if (ret->hostname && !hostname_ok(ret->hostname)) {
		warn_add(w, "/etc/wsl.conf: network.hostname '%.64s' is no host name",
			ret->hostname);
		free(take_ptr(ret->hostname));
	}
	if (ret->cgroups == CGROUPS_V1)
		warn_add(w, "/etc/wsl.conf: automount.cgroups: there is cgroup v2 only");
	if (ret->user && !*ret->user)
		free(take_ptr(ret->user));
	if (ret->command && !*ret->command)
		free(take_ptr(ret->command));
}

void wsl_conf_read(int root, struct wsl_conf *ret, struct warnings *w)
{
	size_t len;
	cleanup_free char *text = read_conf(root, WSL_CONF, &len, w);

	wsl_conf_parse(text ? text : "", len, ret, w);
}

void wsl_conf_done(struct wsl_conf *c)
{
	free(c->automount_root);
	free(c->automount_options);
	free(c->programs);
	free(c->hostname);
	free(c->user);
	free(c->command);
	free(c->unused_text);
}

void oobe_conf_parse(const char *text, size_t len, struct oobe_conf *ret, struct warnings *w)
{
	struct source src = {DISTRIBUTION_CONF, w};
	struct all {
		struct oobe_conf oobe;
		bool unused;
		char *unused_text[2];
	} all = {.oobe = {.uid = -1}};
	const struct conf_key keys[] = {
		{"oobe", "command", CONF_STR, offsetof(struct all, oobe.command)},
		{"oobe", "defaultUid", CONF_INT, offsetof(struct all, oobe.uid),
			.max = UINT32_MAX - 1},
		{"oobe", "defaultName", CONF_STR, offsetof(struct all, oobe.name)},
		{"shortcut", "enabled", CONF_BOOL, offsetof(struct all, unused)},
		{"shortcut", "icon", CONF_STR, offsetof(struct all, unused_text[0])},
		{"windowsterminal", "enabled", CONF_BOOL, offsetof(struct all, unused)},
		{"windowsterminal", "profileTemplate", CONF_STR,
			offsetof(struct all, unused_text[1])},
	};

	conf_apply(text, len, keys, ARRAY_LEN(keys), &all, complain, &src);
	free(all.unused_text[0]);
	free(all.unused_text[1]);
	*ret = all.oobe;
	if (ret->command && !*ret->command)
		free(take_ptr(ret->command));
}

void oobe_conf_read(int root, struct oobe_conf *ret, struct warnings *w)
{
	size_t len;
	cleanup_free char *text = read_conf(root, DISTRIBUTION_CONF, &len, w);

	oobe_conf_parse(text ? text : "", len, ret, w);
}

void oobe_conf_done(struct oobe_conf *c)
{
	free(c->command);
	free(c->name);
}
