/* SPDX-License-Identifier: MIT */
/*
 * What the owner of a VM can ask of it while it runs, over a unix socket (lib/ctl):
 *
 *	status {}                         {state, engine, reason, memory_mib, cpus, luns: [n...], servers: {device: connected}, memory_used (bytes),
 *	                                  began, entered (CLOCK_MONOTONIC, ns: the program, the guest)}; with a balloon also
 *	                                  {balloon_mib, reported_mib}: what the guest gave up, and freed by itself in all
 *	balloon {mib}                     the guest is asked to give up so much memory
 *	pause {}, resume {}, stop {}      stop: as by a power cut
 *	power-button {}                   the guest may shut down
 *	disk-attach {lun?, ro?, serial?, format?}  with the disk's descriptor; {lun}. format: raw (if not given), vhdx
 *	disk-detach {lun}
 *	vhost-user-attach {device}        with a connection to a vhost-user server, which serves the device (--vhost-user,
 *	                                  fs0, net0, ...) from now on
 *	registers {vcpu?}                 {vcpus: [...]}, see vmm/registers.h; a running VM is paused meanwhile
 *	dump {}                           with the descriptor of an empty file, which becomes an ELF core (vmm/dump.h);
 *	                                  a running VM is paused meanwhile
 *	save {}                           with the descriptor of an empty file; the VM must be paused, and stays so
 */
#ifndef WSLX_VMM_CONTROL_H
#define WSLX_VMM_CONTROL_H

#include "lib/base/err.h"
#include "vmm/machine.h"

struct control;

/* Listens at path. reason: why the engine was chosen; borrowed, as is m. */
int control_new(struct control **ret, struct machine *m, const char *path, const char *reason,
	struct err *e);
/* The socket's file stays behind: the sandbox has no paths. The next to listen there replaces it. */
void control_free(struct control *c);

#endif
