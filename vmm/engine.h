/* SPDX-License-Identifier: MIT */
/* Which CPU back end a VM gets, and why. */
#ifndef WSLX_VMM_ENGINE_H
#define WSLX_VMM_ENGINE_H

#include "lib/base/err.h"
#include "vmm/core/cpu.h"
#include "vmm/options.h"

/*
 * auto: KVM when its probe passes, else the software CPU. reason becomes a sentence for people. An engine asked for by
 * name must pass its probe.
 */
int engine_choose(
	enum engine_kind kind, const struct cpu_ops **ret, struct err *reason, struct err *e);

#endif
