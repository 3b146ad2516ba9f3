/* SPDX-License-Identifier: MIT */
/*
 * The I/O APIC: registers as in the 82093AA data sheet §3, plus the EOI register of version 0x20.
 *
 * An edge pin sends when its line rises while unmasked. A level pin sends while its line is high,
 * unmasked and its remote IRR is clear; remote IRR is set by sending and cleared by the EOI of its
 * vector.
 */
#include "vmm/chip/ioapic.h"
#include <errno.h>
#include <stdlib.h>
#include "lib/base/attr.h"
#include "vmm/chip/platform.h"
#include "vmm/core/state.h"

enum { PINS = PLAT_IOAPIC_PINS };
enum { REG_SELECT = 0x00, REG_WINDOW = 0x10, REG_EOI = 0x40 };
enum { IDX_ID = 0, IDX_VERSION = 1, IDX_ARB = 2, IDX_RTE = 0x10 };
#define RTE_REMOTE_IRR BIT(14)
#define RTE_LEVEL      BIT(15)
#define RTE_MASKED     BIT(16)
/* Delivery status and remote IRR are not software's. */
#define RTE_WRITABLE (0xff00000000000000ull | 0x1afff)

struct ioapic {
	struct dev dev; /* dev.lock: everything below; above it any device's lock, below it the CPU
			   back end */
	const struct cpu_ops *cpu;
	struct cpu_vm *vm;
	uint32_t id, select;
	uint64_t rte[PINS];
	uint32_t level; /* bit per pin: the line is high */
};

/* The message a redirection entry stands for (SDM vol. 3 §11.11). */
static void send(struct ioapic *a, unsigned pin)
{
	uint64_t e = a->rte[pin];
	uint64_t addr = PLAT_LAPIC_BASE | e >> 56 << 12 | (e >> 11 & 1) << 2;
	uint32_t data = (uint32_t)(e & 0x7ff) | (uint32_t)(e & RTE_LEVEL) | 1u << 14;

	if (e & RTE_LEVEL)
		a->rte[pin] |= RTE_REMOTE_IRR;
	a->cpu->signal_msi(a->vm, addr, data);
}

static void send_level(struct ioapic *a, unsigned pin)
{
	if ((a->level & BIT(pin)) && (a->rte[pin] & RTE_LEVEL) &&
		!(a->rte[pin] & (RTE_MASKED | RTE_REMOTE_IRR)))
		send(a, pin);
}

static void set_line(void *ctx, unsigned pin, bool level)
{
	struct ioapic *a = ctx;

	OS_GUARD(&a->dev.lock);
	bool rose = level && !(a->level & BIT(pin));

	a->level = (uint32_t)(level ? a->level | BIT(pin) : a->level & ~BIT(pin));
	if (a->rte[pin] & RTE_LEVEL)
		send_level(a, pin);
	else if (rose && !(a->rte[pin] & RTE_MASKED))
		send(a, pin);
}

struct irq_line ioapic_line(struct ioapic *a, unsigned pin)
{
	if (pin >= PINS)
		return (struct irq_line){0};
	return (struct irq_line){.set = set_line, .ctx = a, .pin = pin};
}

static void end_of_interrupt(struct ioapic *a, uint8_t vector)
{
	for (unsigned i = 0; i < PINS; i++) {
		if ((a->rte[i] & 0xff) != vector || !(a->rte[i] & RTE_REMOTE_IRR))
			continue;
		a->rte[i] &= ~RTE_REMOTE_IRR;
		send_level(a, i);
	}
}

void ioapic_eoi(void *ctx, uint8_t vector)
{
	struct ioapic *a = ctx;

	OS_GUARD(&a->dev.lock);
	end_of_interrupt(a, vector);
}

static void routes_changed(struct ioapic *a)
{
	if (a->cpu->ioapic_routes)
		a->cpu->ioapic_routes(a->vm, a->rte, PINS);
}

static void write_rte(struct ioapic *a, unsigned pin, unsigned half, uint32_t val)
{
	uint64_t mask = RTE_WRITABLE & (half ? 0xffffffff00000000ull : 0xffffffffull);
	uint64_t new = (a->rte[pin] & ~mask) | ((uint64_t)val << (half ? 32 : 0) & mask);

	/* An edge pin has no remote IRR; drivers toggle the trigger mode to clear a stuck one. */
	if (!(new &RTE_LEVEL))
		new &= ~RTE_REMOTE_IRR;
	if (new == a->rte[pin])
		return;
	a->rte[pin] = new;
	routes_changed(a);
	send_level(a, pin);
}

static uint32_t window_read(const struct ioapic *a)
{
	unsigned i = a->select - IDX_RTE;

	switch (a->select) {
	case IDX_ID:
	case IDX_ARB: return a->id;
	case IDX_VERSION: return 0x20 | (PINS - 1) << 16;
	default: break;
	}
	if (a->select < IDX_RTE || i >= PINS * 2)
		return 0;
	return (uint32_t)(a->rte[i / 2] >> i % 2 * 32);
}

static uint64_t ioapic_read(struct dev *d, unsigned region, uint64_t off, unsigned len)
{
	const struct ioapic *a = container_of(d, struct ioapic, dev);

	switch (off) {
	case REG_SELECT: return a->select;
	case REG_WINDOW: return window_read(a);
	default: return 0;
	}
}

static void ioapic_write(struct dev *d, unsigned region, uint64_t off, unsigned len, uint64_t val)
{
	struct ioapic *a = container_of(d, struct ioapic, dev);

	switch (off) {
	case REG_SELECT: a->select = val & 0xff; break;
	case REG_WINDOW:
		if (a->select == IDX_ID)
			a->id = val & 0xff000000;
		else if (a->select >= IDX_RTE && a->select < IDX_RTE + PINS * 2)
			write_rte(a, (a->select - IDX_RTE) / 2, a->select % 2, (uint32_t)val);
		break;
	case REG_EOI: end_of_interrupt(a, val & 0xff); break;
	default: break;
	}
}

/* The lines stay as the devices hold them: they are wires, not state of ours. */
static void ioapic_reset(struct dev *d)
{
	struct ioapic *a = container_of(d, struct ioapic, dev);

	a->id = (uint32_t)PLAT_IOAPIC_ID << 24;
	a->select = 0;
	for (unsigned i = 0; i < PINS; i++)
		a->rte[i] = RTE_MASKED;
	routes_changed(a);
}

static void ioapic_save(struct dev *d, struct state_w *w)
{
	struct ioapic *a = container_of(d, struct ioapic, dev);

	state_begin(w, "ioapic", 1);
	state_put_u32(w, a->id);
	state_put_u32(w, a->select);
	state_put_u32(w, a->level);
	for (unsigned i = 0; i < PINS; i++)
		state_put_u64(w, a->rte[i]);
	state_end(w);
}

static int ioapic_load(struct dev *d, struct state_r *r)
{
	struct ioapic *a = container_of(d, struct ioapic, dev);

	state_enter(r, "ioapic", 1);
	a->id = state_get_u32(r) & 0xff000000;
	a->select = state_get_u32(r) & 0xff;
	a->level = state_get_u32(r) & (BIT(PINS) - 1);
	for (unsigned i = 0; i < PINS; i++)
		a->rte[i] = state_get_u64(r) & (RTE_WRITABLE | RTE_REMOTE_IRR);
	state_leave(r);
	routes_changed(a);
	return state_check(r, NULL);
}

static void ioapic_free(struct dev *d)
{
	struct ioapic *a = container_of(d, struct ioapic, dev);

	dev_done(&a->dev);
	free(a);
}

static const struct dev_ops ioapic_ops = {
	.name = "ioapic",
	.read = ioapic_read,
	.write = ioapic_write,
	.reset = ioapic_reset,
	.save = ioapic_save,
	.load = ioapic_load,
	.free = ioapic_free,
};

int ioapic_new(struct ioapic **ret, struct bus *bus, const struct cpu_ops *cpu, struct cpu_vm *vm)
{
	struct ioapic *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	dev_init(&a->dev, &ioapic_ops, "ioapic");
	a->cpu = cpu;
	a->vm = vm;
	ioapic_reset(&a->dev);
	r = bus_add(bus, BUS_MMIO, PLAT_IOAPIC_BASE, PLAT_IOAPIC_SIZE, &a->dev, 0);
	if (r < 0) {
		ioapic_free(&a->dev);
		return r;
	}
	*ret = a;
	return 0;
}

struct dev *ioapic_dev(struct ioapic *a)
{
	return &a->dev;
}
