/* SPDX-License-Identifier: MIT */
/*
 * What can be asked about running virtual machines. A parameter "vm" names one by its id, or is left out when there is
 * only one.
 *
 *	diag-list {}                  {machines: [{id, pid, state, kernel, console (a path), distributions: [names],
 *	                              uptime_ms, cpu_ms, engine, reason, cpus, memory, memory_used (bytes)}]}
 *	diag-timeline {vm?}           {id, stages: [{stage, ms}]}, ms since it was asked for
 *	diag-registers {vm?, vcpu?}   {id, vcpus: [...]}, see vmm/registers.h
 *	diag-dump {vm?}               with the descriptor of an empty file, which becomes an ELF core
 *	diag-reclaim {vm?}            {id, total_kib, free_kib}: its page cache is dropped; memory goes to the host soon after
 *	diag-kill {vm?}               answered when it has ended
 */
#ifndef WSLX_DAEMON_DIAG_H
#define WSLX_DAEMON_DIAG_H

#include "daemon/service.h"

void diag_list(void *service, struct ctl_call *call, struct json_object *params);
void diag_timeline(void *service, struct ctl_call *call, struct json_object *params);
void diag_registers(void *service, struct ctl_call *call, struct json_object *params);
void diag_dump(void *service, struct ctl_call *call, struct json_object *params);
void diag_reclaim(void *service, struct ctl_call *call, struct json_object *params);
void diag_kill(void *service, struct ctl_call *call, struct json_object *params);

#endif
