/* SPDX-License-Identifier: MIT */
/*
 * The guest's processes and what joins them. "init" is pid 1 of the VM and owns the control connection. For each running
 * distribution it forks a supervisor, which mounts the disk in a mount namespace of its own and starts the distribution's
 * init, pid 1 of the distribution's namespaces, which serves sessions. Neighbours in this chain are joined by a
 * SOCK_SEQPACKET pair carrying whole protocol messages, which init passes on to the host as they are.
 */
#ifndef WSLX_GUEST_GUEST_H
#define WSLX_GUEST_GUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "guest/net.h"
#include "lib/base/err.h"
#include "lib/wire/msg.h"

/* What START said, checked and copied. */
struct distro_spec {
	char id[65], name[65], fstype[16], options[256], hostname[65];
	char timezone[64];     /* "": not known */
	char hosts[8192];      /* lines for /etc/hosts */
	char nameservers[256]; /* one a line */
	char search[512];      /* domains, one a line */
	uint32_t lun, uid, request_id, disk_timeout_ms;
	uint32_t timeout_ms; /* the host waits this long for it; 0: not said */
	unsigned
		slow; /* how many times slower than hardware this machine is, 1 at least: stretches our times */
	struct distro_limits { /* 0: none */
		uint64_t mem;  /* bytes */
		uint64_t swap; /* bytes, 0 too; UINT64_MAX: no limit */
		uint32_t cpu;  /* hundredths of a processor */
		uint32_t tasks;
		uint64_t read_bytes, write_bytes; /* a second */
		uint32_t read_ops, write_ops;
	} limits;
	uint32_t interop_port; /* 0: programs of the host may not be run */
	/* Proves to the host who asks; no other distribution's init has it. */
	uint8_t secret[WSLX_SECRET_SIZE];
	struct net_plan
		own_net; /* its addresses if it is to have a network of its own; none: it cannot */
	char host_root[256], vm[65];
	char networking[16]; /* mode; "none" */
	bool wsl_compat, host_files;
};

/* A stop is not stretched as far as a start: whoever asks for it wants it gone. */
enum { STOP_MAX_SLOW = 4 };

/* Reads and checks a START. */
int distro_spec_parse(const struct wire_msg *m, struct distro_spec *ret, struct err *e);

/* NAMESERVER and SEARCH alone, as files.h wants them: of a START or of a NETWORK. */
void distro_dns_parse(
	const struct wire_msg *m, char *nameservers, size_t n_cap, char *search, size_t s_cap);

/* The supervisor's whole life; host is its end of the pair with init. Does not return. */
void NORETURN distro_supervise(const struct distro_spec *spec, int host);

/* The distribution's init, in fresh namespaces, its disk mounted at root. Does not return. */
void NORETURN dinit_main(const struct distro_spec *spec, const char *root, int super);

/* Makes the distribution's cgroup with its limits; dev: its disk. What cannot be limited is logged. */
int limits_set(const struct distro_spec *spec, const char *dev, struct err *e);

/* Makes the distribution's proc, sys, dev, run and cgroup below root, and root the root. Its cgroup is the caller's. */
int view_make(const char *root, struct err *e);
/* Makes /sys read-only for good. */
int view_protect_sys(struct err *e);

/* Waits for the disk at this LUN (virtio-scsi, target 0) and names its block device, "/dev/sdb". */
int disk_wait(uint32_t lun, unsigned timeout_ms, char *ret_dev, size_t cap, struct err *e);
/* Waits until nobody uses the device, then removes it from the guest. */
int disk_remove(uint32_t lun, const char *dev, unsigned timeout_ms);

/* Loads the modules listed in /modules/order; what fails is logged. */
void modules_load(const char *dir);
/* Loads what goes by this name in dir/index, as the kernel asks modprobe(8) to. -ENOENT: nothing does. */
int modules_request(const char *dir, const char *name);
/* Loads what the kernel would ask udev to load: for each virtio device that has no
 * driver yet, those of the modules at hand that are for it. */
void modules_for_devices(const char *dir);

/* mkdir -p and mount(2), with one line to say what failed. */
int mount_at(const char *what, const char *where, const char *type, unsigned long flags,
	const char *data, struct err *e);

/* A listener at a vsock port of the kernel's choosing. */
int listen_vsock(int backlog, uint32_t *ret_port);

/* One message over a SEQPACKET pair. */
void pair_send(int fd, struct wire_w *w);
/* Receives and checks one; -EPIPE at the end. */
int pair_recv(int fd, void *buf, size_t cap, struct wire_msg *ret);

/* Writes text to a file of proc, sys or cgroup. */
int write_text(const char *path, const char *text);

#endif
