/* SPDX-License-Identifier: MIT */
/*
 * A 16550A serial port (PC16550D data sheet §8). Bytes are sent the moment they are written, so the
 * transmitter is always empty and its interrupt is pending again at once. Baud rate and line
 * settings are kept and mean nothing.
 */
#include "vmm/chip/serial.h"
#include <errno.h>
#include <stdlib.h>
#include "lib/base/attr.h"
#include "vmm/core/state.h"

enum { QUEUE = 4096, FIFO = 16 };

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };
enum { IER_RX = 1, IER_THRE = 2, IER_LINE = 4, IER_MODEM = 8 };
enum { IIR_NONE = 1, IIR_THRE = 2, IIR_RX = 4, IIR_TIMEOUT = 12, IIR_FIFO = 0xc0 };
enum { FCR_ENABLE = 1, FCR_CLEAR_RX = 2 };
enum { LCR_DLAB = 0x80 };
enum { MCR_LOOP = 0x10 };
enum { LSR_DATA = 1, LSR_THRE = 0x20, LSR_IDLE = 0x40 };
enum { MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80 };

struct serial {
	struct dev dev;
	struct irq_line irq;
	void (*out)(void *ctx, uint8_t byte);
	void *ctx;
	uint8_t ier, fcr, lcr, mcr, scr, dll, dlm;
	bool thre_pending; /* the transmitter became empty and nobody has read that from IIR */
	uint16_t head, count;
	uint8_t queue[QUEUE];
};

static unsigned trigger(const struct serial *s)
{
	static const uint8_t levels[] = {1, 4, 8, 14};

	return s->fcr & FCR_ENABLE ? levels[s->fcr >> 6] : 1;
}

static uint8_t pending(const struct serial *s)
{
	if ((s->ier & IER_RX) && s->count)
		return s->count >= trigger(s) ? IIR_RX : IIR_TIMEOUT;
	if ((s->ier & IER_THRE) && s->thre_pending)
		return IIR_THRE;
	return IIR_NONE;
}

static void update(struct serial *s)
{
	irq_set(&s->irq, pending(s) != IIR_NONE);
}

static bool push(struct serial *s, uint8_t byte)
{
	if (s->count == QUEUE)
		return false;
	s->queue[(s->head + s->count++) % QUEUE] = byte;
	return true;
}

static uint8_t pop(struct serial *s)
{
	uint8_t byte = 0;

	if (s->count) {
		byte = s->queue[s->head];
		s->head = (s->head + 1) % QUEUE;
		s->count--;
	}
	return byte;
}

size_t serial_input(struct serial *s, const void *buf, size_t len)
{
	const uint8_t *p = buf;
	size_t n = 0;

	OS_GUARD(&s->dev.lock);
	while (n < len && push(s, p[n]))
		n++;
	update(s);
	return n;
}

static uint8_t modem_status(const struct serial *s)
{
	uint8_t m = s->mcr;

	if (!(m & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	/* Loop-back: DTR, RTS, OUT1 and OUT2 come back as DSR, CTS, RI and DCD. */
	return (uint8_t)((m & 1 ? MSR_DSR : 0) | (m & 2 ? MSR_CTS : 0) | (m & 4 ? MSR_RI : 0) |
			 (m & 8 ? MSR_DCD : 0));
}

static uint8_t read_reg(struct serial *s, unsigned reg)
{
	uint8_t v;

	switch (reg) {
	case REG_DATA:
		if (s->lcr & LCR_DLAB)
			return s->dll;
		v = pop(s);
		update(s);
		return v;
	case REG_IER: return s->lcr & LCR_DLAB ? s->dlm : s->ier;
	case REG_IIR_FCR:
		v = pending(s);
		if (v == IIR_THRE) {
			s->thre_pending = false;
			update(s);
		}
		return v | (s->fcr & FCR_ENABLE ? IIR_FIFO : 0);
	case REG_LCR: return s->lcr;
	case REG_MCR: return s->mcr;
	case REG_LSR: return LSR_THRE | LSR_IDLE | (s->count ? LSR_DATA : 0);
	case REG_MSR: return modem_status(s);
	default: return s->scr;
	}
}

static void send(struct serial *s, uint8_t byte)
{
	if (s->mcr & MCR_LOOP)
		push(s, byte);
	else if (s->out)
		s->out(s->ctx, byte);
	/* The line falls while the byte is on its way: an edge for each one. */
	s->thre_pending = false;
	update(s);
	s->thre_pending = true;
	update(s);
}

static void write_reg(struct serial *s, unsigned reg, uint8_t v)
{
	switch (reg) {
	case REG_DATA:
		if (s->lcr & LCR_DLAB)
			s->dll = v;
		else
			send(s, v);
		break;
	case REG_IER:
		if (s->lcr & LCR_DLAB) {
			s->dlm = v;
			break;
		}
		/* Enabling the transmitter's interrupt while it is empty raises one. */
		if ((v & IER_THRE) && !(s->ier & IER_THRE))
			s->thre_pending = true;
		s->ier = v & (IER_RX | IER_THRE | IER_LINE | IER_MODEM);
		update(s);
		break;
	case REG_IIR_FCR:
		if (v & FCR_CLEAR_RX)
			for (unsigned i = 0; i < FIFO && s->count; i++)
				pop(s);
		s->fcr = v & (FCR_ENABLE | 0xc0);
		update(s);
		break;
	case REG_LCR: s->lcr = v; break;
	case REG_MCR: s->mcr = v & 0x1f; break;
	case REG_SCR: s->scr = v; break;
	default: break; /* LSR and MSR are read-only */
	}
}

static uint64_t serial_read(struct dev *d, unsigned region, uint64_t off, unsigned len)
{
	struct serial *s = container_of(d, struct serial, dev);
	uint64_t v = 0;

	for (unsigned i = 0; i < len; i++)
		v |= (uint64_t)read_reg(s, (unsigned)off + i) << i * 8;
	return v;
}

static void serial_write(struct dev *d, unsigned region, uint64_t off, unsigned len, uint64_t val)
{
	struct serial *s = container_of(d, struct serial, dev);

	for (unsigned i = 0; i < len; i++)
		write_reg(s, (unsigned)off + i, (uint8_t)(val >> i * 8));
}

static void serial_reset(struct dev *d)
{
	struct serial *s = container_of(d, struct serial, dev);

	s->ier = s->fcr = s->lcr = s->mcr = s->scr = s->dlm = 0;
	s->dll = 1;
	s->thre_pending = false;
	s->head = s->count = 0;
	update(s);
}

static void serial_save(struct dev *d, struct state_w *w)
{
	struct serial *s = container_of(d, struct serial, dev);

	state_begin(w, "serial", 1);
	state_put_u8(w, s->ier);
	state_put_u8(w, s->fcr);
	state_put_u8(w, s->lcr);
	state_put_u8(w, s->mcr);
	state_put_u8(w, s->scr);
	state_put_u8(w, s->dll);
	state_put_u8(w, s->dlm);
	state_put_u8(w, s->thre_pending);
	state_put_u16(w, s->count);
	for (unsigned i = 0; i < s->count; i++)
		state_put_u8(w, s->queue[(s->head + i) % QUEUE]);
	state_end(w);
}

static int serial_load(struct dev *d, struct state_r *r)
{
	struct serial *s = container_of(d, struct serial, dev);

	state_enter(r, "serial", 1);
	s->ier = state_get_u8(r) & 0xf;
	s->fcr = state_get_u8(r) & (FCR_ENABLE | 0xc0);
	s->lcr = state_get_u8(r);
	s->mcr = state_get_u8(r) & 0x1f;
	s->scr = state_get_u8(r);
	s->dll = state_get_u8(r);
	s->dlm = state_get_u8(r);
	s->thre_pending = state_get_u8(r);
	s->head = 0;
	s->count = state_get_u16(r);
	if (s->count > QUEUE) {
		state_fail(r, "serial input queue too long");
		s->count = 0;
	}
	state_get_bytes(r, s->queue, s->count);
	state_leave(r);
	/* The interrupt line's level is part of the interrupt controller's state. */
	return state_check(r, NULL);
}

static void serial_free(struct dev *d)
{
	struct serial *s = container_of(d, struct serial, dev);

	dev_done(&s->dev);
	free(s);
}

static const struct dev_ops serial_ops = {
	.name = "serial",
	.read = serial_read,
	.write = serial_write,
	.reset = serial_reset,
	.save = serial_save,
	.load = serial_load,
	.free = serial_free,
};

int serial_new(struct serial **ret, struct bus *bus, const char *id, uint16_t port,
	const struct irq_line *irq, void (*out)(void *ctx, uint8_t byte), void *ctx)
{
	struct serial *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	dev_init(&s->dev, &serial_ops, id);
	s->irq = *irq;
	s->out = out;
	s->ctx = ctx;
	s->dll = 1;
	r = bus_add(bus, BUS_PORT, port, 8, &s->dev, 0);
	if (r < 0) {
		serial_free(&s->dev);
		return r;
	}
	*ret = s;
	return 0;
}

struct dev *serial_dev(struct serial *s)
{
	return &s->dev;
}
