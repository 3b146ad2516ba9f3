/* SPDX-License-Identifier: MIT */
/* wslx.conf: what of .wslconfig we act on, and our own [wslx] section. */
#ifndef WSLX_DAEMON_SETTINGS_H
#define WSLX_DAEMON_SETTINGS_H

#include <stdint.h>
#include "lib/base/err.h"
#include "lib/json/json.h"

enum settings_engine { ENGINE_AUTO, ENGINE_KVM, ENGINE_SOFT };

struct settings {
	uint64_t memory;				       /* bytes; 0: not set */
	int64_t processors;				       /* 0: not set */
	char *kernel, *initrd, *command_line;		       /* owned; NULL: not set */
	int64_t vm_idle_ms, instance_idle_ms, service_idle_ms; /* negative: never */
	int64_t boot_timeout_ms, start_timeout_ms;
	int engine;		      /* enum settings_engine */
	struct json_object *warnings; /* array of strings: "FILE:LINE: what" */
};

/* Defaults, then the file, if there is one. Only a file that cannot be read is an error; what is
 * wrong inside is in warnings. */
int settings_load(const char *path, struct settings *ret, struct err *e);
void settings_done(struct settings *s);

/*
 * What a VM gets from these settings on this host: memory and processors with their defaults and
 * checked against it, kernel and initrd found. data_dir: where our own kernel may be.
 */
struct vm_plan {
	uint64_t memory;
	unsigned processors;
	char kernel[4096], initrd[4096];
};
int settings_plan(struct settings *s, const char *data_dir, struct vm_plan *ret, struct err *e);

const char *settings_engine_name(int engine);

#endif
