/* SPDX-License-Identifier: MIT */
/* wslx-vmm's command line. */
#ifndef WSLX_VMM_OPTIONS_H
#define WSLX_VMM_OPTIONS_H

#include <stdbool.h>
#include "lib/base/err.h"
#include "vmm/cpu/soft/direct/direct.h"
#include "vmm/cpu/soft/jit/jit.h"
#include "vmm/virtio/vhost.h"

enum engine_kind { ENGINE_AUTO, ENGINE_KVM, ENGINE_SOFT };
enum { OPT_MAX_DISKS = 32, OPT_MAX_VHOST = 8 };

enum disk_format { DISK_RAW, DISK_VHDX };

struct opt_disk {
	const char *path; /* in the option's own copy */
	bool readonly;
	enum disk_format format;
};

/* A device that another process serves. */
struct opt_vhost {
	struct vhost_config conf; /* without the name */
	const char *socket;	  /* where the server listens; NULL: not there */
	int fd;			  /* connected to the server; -1: none */
};

/* Strings are borrowed from argv unless they say otherwise. NULL: not given. */
struct options {
	const char *kernel, *initrd, *cmdline;
	bool no_default_cmdline;
	unsigned memory_mib, cpus;
	enum engine_kind engine;
	enum jit_mode translate; /* soft */
	enum direct_mode direct; /* soft; needs JIT_ON */
	const char *serial;	 /* "stdio", "null" or "file:PATH" */
	struct opt_disk disks[OPT_MAX_DISKS];
	unsigned ndisks;
	struct opt_vhost vhost[OPT_MAX_VHOST];
	unsigned nvhost;
	const char *vsock, *control, *console, *restore;
	const char *extract; /* --extract-kernel OUT */
	bool balloon, no_sandbox, verbose, probe;
};

/* 0; -EINVAL with the reason in e; or the letter of --help or --version. */
int options_parse(struct options *o, int argc, char **argv, struct err *e);
const char *options_usage(void);

/* "raw" or "vhdx"; -EINVAL. What a disk holds does not say: a guest can write anything into a raw one. */
int disk_format_parse(const char *text, enum disk_format *ret);

#endif
