/* SPDX-License-Identifier: MIT */
/* Interrupt lines and messages as devices see them. Thread-safe; callable with a device's lock
 * held. */
#ifndef WSLX_VMM_CORE_IRQ_H
#define WSLX_VMM_CORE_IRQ_H

#include <stdbool.h>
#include <stdint.h>

/* A wire to an interrupt controller's pin. Embedded by value; set once at wiring time. */
struct irq_line {
	void (*set)(void *ctx, unsigned pin, bool level);
	void *ctx;
	unsigned pin;
};

static inline void irq_set(const struct irq_line *l, bool level)
{
	if (l->set)
		l->set(l->ctx, l->pin, level);
}

#endif
