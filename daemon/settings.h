/* SPDX-License-Identifier: MIT */
/* wslx.conf: what of .wslconfig we act on, and our own [wslx] section. */
#ifndef WSLX_DAEMON_SETTINGS_H
#define WSLX_DAEMON_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/base/err.h"
#include "lib/json/json.h"

enum settings_engine { ENGINE_AUTO, ENGINE_KVM, ENGINE_SOFT };
enum settings_reclaim { RECLAIM_GRADUAL, RECLAIM_DROP, RECLAIM_OFF };

/* As .wslconfig names them. VIRTIO_PROXY and CONSOMME are other names for NAT in user mode, which ours is. */
enum settings_net {
	NET_NAT,
	NET_NONE,
	NET_VIRTIO_PROXY,
	NET_CONSOMME,
	NET_BRIDGED,
	NET_MIRRORED,
	NET_TAP, /* a tap device that wslx-tap makes; with vm_switch another name for BRIDGED */
};

/* What makes the guest's connections with NET_NAT and NET_MIRRORED. */
enum settings_backend { BACKEND_SLIRP, BACKEND_PASST };

#define SWAP_DEFAULT UINT64_MAX /* a quarter of memory, in whole GiB */

/* How many are told; more help nobody. */
enum { SETTINGS_MAX_WARNINGS = 50 };

struct settings {
	uint64_t memory;				       /* bytes; 0: not set */
	int64_t processors;				       /* 0: not set */
	uint64_t swap;					       /* bytes; 0: none; SWAP_DEFAULT */
	uint64_t disk_size;				       /* of new disks, bytes */
	char *kernel, *initrd, *command_line;		       /* owned; NULL: not set */
	char *swap_file, *modules, *load_modules;	       /* the same */
	char *console_log, *crash_folder, *install_path;       /* the same */
	int64_t max_crashes;				       /* negative: none are kept */
	int64_t vm_idle_ms, instance_idle_ms, service_idle_ms; /* negative: never */
	int64_t boot_timeout_ms, start_timeout_ms, mount_timeout_ms;
	int64_t clock_check_ms; /* negative: only when the host's clock was set */
	bool load_default_modules, isolate_cgroup, safe_mode;
	bool debug_console, early_boot_logging;
	int engine;			  /* enum settings_engine */
	bool host_files;		  /* the host's files are in the guest */
	uint64_t host_window;		  /* of addresses for files of it, bytes; 0: none */
	bool virtio_9p;			  /* by virtio-9p, not virtio-fs */
	char *host_folder, *host_options; /* the folder of them, and how; owned, NULL: not set */
	bool interop, wsl_compat;	  /* [interop] */
	int reclaim;			  /* enum settings_reclaim */
	int net;			  /* enum settings_net */
	int backend;			  /* enum settings_backend */
	bool localhost_forwarding, auto_proxy;
	char *ignored_ports; /* owned; NULL: not set: "80,443" */
	char *mac;	     /* the same: of the guest's device */
	char *vm_switch;     /* the same: the tap device of NET_BRIDGED */
	bool dhcp, ipv6;     /* on it */
	int64_t dhcp_timeout_ms;
	char *network, *network6;     /* the same: of the guest, ADDRESS/BITS */
	char *gateway;		      /* the same: for NET_BRIDGED without dhcp */
	char *resolv_conf;	      /* the same */
	struct json_object *warnings; /* array of strings: "FILE:LINE: what" */
};

/* Defaults, then the file, if there is one. Only a file that cannot be read is an error; what is
 * wrong inside is in warnings. */
int settings_load(const char *path, struct settings *ret, struct err *e);
void settings_done(struct settings *s);
/* One more for its warnings, which clients show. */
void settings_warn(const struct settings *s, const char *text);

/*
 * What a VM gets from these settings on this host: memory and processors with their defaults and
 * checked against it, kernel and initrd found. data_dir: where our own kernel may be.
 */
struct vm_plan {
	uint64_t memory, swap;
	unsigned processors;
	char kernel[4096], initrd[4096];
};
int settings_plan(struct settings *s, const char *data_dir, struct vm_plan *ret, struct err *e);

/* passt is what makes the guest's connections. */
bool settings_passt(const struct settings *s);

/* How large a new disk is, by the file as it is now; disks are sparse. */
uint64_t settings_disk_size(const char *path);

/* The folder that distribution id gets when nobody names one: in distributionInstallPath by the file as
 * it is now, or in data_dir. */
void settings_new_dir(
	const char *path, const char *data_dir, const char *id, char *buf, size_t cap);

const char *settings_engine_name(int engine);
/* As networkingMode has it. */
const char *settings_net_name(int net);
/* As networkBackend has it. */
const char *settings_backend_name(int backend);

#endif
