/* SPDX-License-Identifier: MIT */
/*
 * What the service decided about the VM as a whole when it started it, as "wslx.NAME=VALUE" on the kernel's command line:
 *
 *	wslx.isolate=0|1                 limit what all distributions together may take (1)
 *	wslx.reclaim=gradual|drop|off    what happens to the page cache of an idle VM (gradual)
 *	wslx.crash=0|1                   send core dumps to the host (1)
 *	wslx.modules=LUN                 a disk with the kernel's modules
 *	wslx.load=NAME,NAME...           modules to load from it; "-" before a name: fine when there is none
 */
#ifndef WSLX_GUEST_VMCONF_H
#define WSLX_GUEST_VMCONF_H

#include <stdbool.h>
#include <stdint.h>

enum vm_reclaim { VM_RECLAIM_GRADUAL, VM_RECLAIM_DROP, VM_RECLAIM_OFF };
#define VMCONF_NO_LUN UINT32_MAX

struct vmconf {
	bool isolate, crash;
	enum vm_reclaim reclaim;
	uint32_t modules_lun; /* VMCONF_NO_LUN: none */
	char load[1024];
};

/* Unknown names and values change nothing; of a name given twice, the last counts. */
void vmconf_parse(const char *cmdline, struct vmconf *ret);

#endif
