/* SPDX-License-Identifier: MIT */
/* A 16550A serial port. Sending takes no time; receiving is a 16-byte FIFO with a larger queue of
 * ours behind it. */
#ifndef WSLX_VMM_CHIP_SERIAL_H
#define WSLX_VMM_CHIP_SERIAL_H

#include <stddef.h>
#include "vmm/core/bus.h"
#include "vmm/core/irq.h"

struct serial;

/*
 * out: called on a vCPU's thread, with the port's lock held, for every byte sent; must not block
 * for long. NULL drops the bytes. irq may be a line that goes nowhere.
 */
int serial_new(struct serial **ret, struct bus *bus, const char *id, uint16_t port,
	const struct irq_line *irq, void (*out)(void *ctx, uint8_t byte), void *ctx);
struct dev *serial_dev(struct serial *s); /* for vm_add_dev(), which takes it over */

/* Bytes for the guest to read; returns how many were taken (the queue holds 4 KiB). Any thread. */
size_t serial_input(struct serial *s, const void *buf, size_t len);

#endif
