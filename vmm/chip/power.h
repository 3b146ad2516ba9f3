/* SPDX-License-Identifier: MIT */
/* The sleep control, sleep status and reset registers of hardware-reduced ACPI, and a power button.
 */
#ifndef WSLX_VMM_CHIP_POWER_H
#define WSLX_VMM_CHIP_POWER_H

#include "vmm/core/bus.h"
#include "vmm/core/irq.h"

struct power;

enum power_event { POWER_OFF, POWER_RESET };

/* fn: called on a vCPU's thread when the guest asks; it calls vm_stop(). */
int power_new(struct power **ret, struct bus *bus, const struct irq_line *button,
	void (*fn)(void *ctx, enum power_event ev), void *ctx);
struct dev *power_dev(struct power *p); /* for vm_add_dev(), which takes it over */

/* Presses the power button: the guest may or may not act on it. Any thread. */
void power_button(struct power *p);

#endif
