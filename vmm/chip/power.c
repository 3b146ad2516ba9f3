/* SPDX-License-Identifier: MIT */
/*
 * Sleep control and status registers (ACPI 6.4 §4.8.3.7): writing SLP_EN with the S5 type powers
 * off; other types are ignored, there is no other sleeping state. The reset register (§4.8.3.6)
 * resets on its one value.
 */
#include "vmm/chip/power.h"
#include <errno.h>
#include <stdlib.h>
#include "lib/base/attr.h"
#include "vmm/chip/platform.h"
#include "vmm/core/state.h"

enum { SLP_EN = 0x20, SLP_TYP_SHIFT = 2, SLP_TYP_MASK = 7 };

struct power {
	struct dev dev;
	struct irq_line button;
	void (*fn)(void *ctx, enum power_event ev);
	void *ctx;
};

static uint64_t power_read(struct dev *d, unsigned region, uint64_t off, unsigned len)
{
	return 0; /* sleep status: WAK_STS is never set, there is no wake-up; the others are
		     write-only */
}

static void power_write(struct dev *d, unsigned region, uint64_t off, unsigned len, uint64_t val)
{
	struct power *p = container_of(d, struct power, dev);

	if (off == PLAT_SLEEP_CTL_PORT - PLAT_POWER_PORT && (val & SLP_EN) &&
		(val >> SLP_TYP_SHIFT & SLP_TYP_MASK) == PLAT_SLP_TYP_S5)
		p->fn(p->ctx, POWER_OFF);
	else if (off == PLAT_RESET_PORT - PLAT_POWER_PORT && (val & 0xff) == PLAT_RESET_VALUE)
		p->fn(p->ctx, POWER_RESET);
}

void power_button(struct power *p)
{
	OS_GUARD(&p->dev.lock);
	irq_set(&p->button, true);
	irq_set(&p->button, false);
}

static void power_free(struct dev *d)
{
	struct power *p = container_of(d, struct power, dev);

	dev_done(&p->dev);
	free(p);
}

/* No state: nothing to reset, save or load. */
static const struct dev_ops power_ops = {
	.name = "power",
	.read = power_read,
	.write = power_write,
	.free = power_free,
};

int power_new(struct power **ret, struct bus *bus, const struct irq_line *button,
	void (*fn)(void *ctx, enum power_event ev), void *ctx)
{
	struct power *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	dev_init(&p->dev, &power_ops, "power");
	p->button = *button;
	p->fn = fn;
	p->ctx = ctx;
	r = bus_add(bus, BUS_PORT, PLAT_POWER_PORT, PLAT_POWER_SIZE, &p->dev, 0);
	if (r < 0) {
		power_free(&p->dev);
		return r;
	}
	*ret = p;
	return 0;
}

struct dev *power_dev(struct power *p)
{
	return &p->dev;
}
