/* SPDX-License-Identifier: MIT */
/* Segment registers, descriptors and the operating mode (SDM vol. 3 ch. 3 and 5). */
#include "vmm/cpu/soft/exc.h"
#include "vmm/cpu/soft/mem.h"

void soft_mode_changed(struct soft_vcpu *c)
{
	uint16_t cs = c->seg[SEG_CS].attr;

	if (soft_long_mode(c) && cs & DESC_L)
		c->mode = MODE_64;
	else
		c->mode = cs & DESC_DB ? MODE_32 : MODE_16;
	c->tlb = &c->tlbs[c->cpl == 3];
	for (unsigned s = SEG_ES; s <= SEG_DS; s++)
		c->segbase[s] = c->mode == MODE_64 ? 0 : c->segbase_hidden[s];
	c->segbase[SEG_FS] = c->segbase_hidden[SEG_FS];
	c->segbase[SEG_GS] = c->segbase_hidden[SEG_GS];
}

void soft_set_segbase(struct soft_vcpu *c, unsigned seg, uint64_t base)
{
	c->segbase_hidden[seg] = base;
	if (seg >= SEG_FS || c->mode != MODE_64)
		c->segbase[seg] = base;
}

void soft_set_seg(struct soft_vcpu *c, unsigned seg, uint16_t sel, const struct soft_desc *d)
{
	c->seg[seg] = (struct soft_seg){.sel = sel, .attr = d->attr, .limit = d->limit};
	soft_set_segbase(c, seg, d->base);
}

void soft_set_cs(struct soft_vcpu *c, uint16_t sel, const struct soft_desc *d, unsigned cpl)
{
	c->seg[SEG_CS] = (struct soft_seg){.sel = sel, .attr = d->attr | DESC_A, .limit = d->limit};
	c->segbase_hidden[SEG_CS] = d->base;
	c->cpl = (uint8_t)cpl;
	soft_mode_changed(c);
}

static void take_apart(struct soft_desc *d, uint64_t raw)
{
	d->raw = raw;
	d->base = (raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000);
	d->limit = (uint32_t)((raw & 0xffff) | (raw >> 32 & 0xf0000));
	if (raw >> 55 & 1)
		d->limit = d->limit << 12 | 0xfff;
	d->attr = (uint16_t)(raw >> 40 & 0xf0ff);
}

bool soft_desc_peek(struct soft_vcpu *c, struct soft_desc *d, uint16_t sel)
{
	uint64_t base = c->gdtr.base;
	uint32_t limit = c->gdtr.limit;

	if (sel & 4) {
		base = c->segbase_hidden[SEG_LDTR];
		limit = c->seg[SEG_LDTR].limit;
		if (!(c->seg[SEG_LDTR].attr & DESC_P))
			return false;
	}
	if ((sel | 7u) > limit)
		return false;
	d->lin = base + (sel & ~7u);
	take_apart(d, mem_sys_read(c, d->lin, 8));
	return true;
}

void soft_desc_read(struct soft_vcpu *c, struct soft_desc *d, uint16_t sel, unsigned vec)
{
	if (!soft_desc_peek(c, d, sel))
		soft_raise(c, vec, sel & ~3u);
}

void soft_desc_read_high(struct soft_vcpu *c, struct soft_desc *d, uint16_t sel, unsigned vec)
{
	struct soft_desc high;

	if ((sel & 4 ? c->seg[SEG_LDTR].limit : c->gdtr.limit) < (sel | 7u) + 8)
		soft_raise(c, vec, sel & ~3u);
	high.raw = mem_sys_read(c, d->lin + 8, 8);
	if (high.raw >> 40 & 0x1f)
		soft_raise(c, vec, sel & ~3u);
	d->base |= high.raw << 32;
}

void soft_desc_set_accessed(struct soft_vcpu *c, struct soft_desc *d)
{
	if (d->attr & DESC_A)
		return;
	d->attr |= DESC_A;
	mem_sys_write(c, d->lin + 5, 1, (d->raw >> 40 | DESC_A) & 0xff);
}

static void load_null(struct soft_vcpu *c, unsigned seg, uint16_t sel)
{
	c->seg[seg] = (struct soft_seg){.sel = sel};
	/* As on Intel: a null selector clears the base, of FS and GS too. */
	soft_set_segbase(c, seg, 0);
}

void soft_load_seg(struct soft_vcpu *c, unsigned seg, uint16_t sel)
{
	unsigned rpl = sel & 3, dpl;
	struct soft_desc d;

	if (!(c->cr0 & CR0_PE)) {
		c->seg[seg].sel = sel;
		c->seg[seg].attr |= DESC_P | DESC_S | DESC_RW | DESC_A;
		soft_set_segbase(c, seg, (uint32_t)sel << 4);
		return;
	}
	if (!(sel & ~3)) {
		if (seg == SEG_SS) {
			if (c->mode != MODE_64 || c->cpl == 3 || rpl != c->cpl)
				soft_raise(c, EXC_GP, 0);
			c->seg[seg] = (struct soft_seg){.sel = sel,
				.attr = (uint16_t)(DESC_P | DESC_S | DESC_RW | DESC_A | DESC_DB |
						   c->cpl << 5)};
			soft_set_segbase(c, seg, 0);
			return;
		}
		load_null(c, seg, sel);
		return;
	}
	soft_desc_read(c, &d, sel, EXC_GP);
	dpl = desc_dpl(d.attr);
	if (seg == SEG_SS) {
		if (rpl != c->cpl || dpl != c->cpl ||
			(d.attr & (DESC_S | DESC_CODE | DESC_RW)) != (DESC_S | DESC_RW))
			soft_raise(c, EXC_GP, sel & ~3u);
		if (!(d.attr & DESC_P))
			soft_raise(c, EXC_SS, sel & ~3u);
	} else {
		bool conf = (d.attr & (DESC_CODE | DESC_CONF)) == (DESC_CODE | DESC_CONF);

		if (!(d.attr & DESC_S) || (d.attr & (DESC_CODE | DESC_RW)) == DESC_CODE ||
			(!conf && (rpl > dpl || c->cpl > dpl)))
			soft_raise(c, EXC_GP, sel & ~3u);
		if (!(d.attr & DESC_P))
			soft_raise(c, EXC_NP, sel & ~3u);
	}
	soft_desc_set_accessed(c, &d);
	soft_set_seg(c, seg, sel, &d);
}

void soft_return_outer(struct soft_vcpu *c)
{
	static const uint8_t segs[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

	for (unsigned n = 0; n < ARRAY_LEN(segs); n++) {
		const struct soft_seg *s = &c->seg[segs[n]];
		bool conf = (s->attr & (DESC_CODE | DESC_CONF)) == (DESC_CODE | DESC_CONF);

		if (!(s->sel & ~3) || (!conf && desc_dpl(s->attr) < c->cpl)) {
			/* Selectors become null; the bases of FS and GS stay, as processors do it
			 * for null ones. */
			if (s->sel & ~3)
				load_null(c, segs[n], 0);
		}
	}
}
