/* SPDX-License-Identifier: MIT */
/* The files of a distribution that follow from the host and from wsl.conf: hosts, hostname, resolv.conf, time zone. */
#ifndef WSLX_GUEST_FILES_H
#define WSLX_GUEST_FILES_H

#include "guest/conf.h"

struct host_facts {
	const char *hostname;
	const char *timezone; /* "": not known */
	const char *hosts;    /* more lines of /etc/hosts, each with its '\n' */
	const char *
		nameservers; /* one a line; "": the distribution's resolv.conf is its own business */
	const char *search;  /* domains, one a line; may be NULL */
};

/* Writes what conf allows and what is not yet as it should be. What cannot be written becomes a warning. */
void files_generate(
	int root, const struct wsl_conf *conf, const struct host_facts *host, struct warnings *w);

/* resolv.conf alone, if conf allows it. */
int files_resolv_conf(int root, const struct wsl_conf *conf, const struct host_facts *host);

/* A time zone's name as tzdata has them: "Europe/Paris". */
bool timezone_ok(const char *name);
/* A line of /etc/hosts: an address, names, blanks between. */
bool host_line_ok(const char *line);

/* The value of NAME in a file of "NAME=value" lines, quotes removed: /etc/locale.conf. False: it has none. */
bool files_variable(int root, const char *path, const char *name, char *buf, size_t cap);
/* Has /etc/fstab anything to mount? */
bool files_fstab(int root);

#endif
