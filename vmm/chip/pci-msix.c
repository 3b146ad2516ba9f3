/* SPDX-License-Identifier: MIT */
/*
 * MSI-X (PCI Local Bus 3.0 §6.8.2). A vector is live when MSI-X is on and neither the function nor
 * the vector is masked; only then does its back end source carry a message. A vector raised while
 * masked sets its pending bit and is sent when the mask goes.
 */
#include "vmm/chip/pci-msix.h"
#include <errno.h>
#include <stdlib.h>
#include "lib/base/attr.h"
#include "lib/base/checked.h"
#include "lib/base/log.h"
#include "vmm/core/state.h"

enum { VEC_SIZE = 16, VEC_MASKED = 1, CTL_ENABLE = 0x8000, CTL_FMASK = 0x4000 };

struct msix_vec {
	uint32_t reg[4]; /* address low, address high, data, vector control */
	struct cpu_msi *msi;
	bool live;
	bool pending;
};

struct pci_msix {
	struct os_mutex lock; /* below dev.lock, above the CPU back end */
	const struct cpu_ops *cpu;
	unsigned n, bar;
	uint32_t table_off, pba_off;
	bool enabled, fmask;
	struct msix_vec vec[];
};

int pci_msix_new(struct pci_msix **ret, const struct cpu_ops *cpu, struct cpu_vm *vm, unsigned n,
	unsigned bar, uint32_t table_off, uint32_t pba_off)
{
	struct pci_msix *m;

	if (!n || n > PCI_MSIX_MAX || table_off % 8 || pba_off % 8)
		return -EINVAL;
	m = calloc(1, sizeof(*m) + n * sizeof(m->vec[0]));
	if (!m)
		return -ENOMEM;
	os_mutex_init(&m->lock);
	m->cpu = cpu;
	m->n = n;
	m->bar = bar;
	m->table_off = table_off;
	m->pba_off = pba_off;
	for (unsigned i = 0; i < n; i++) {
		int r = cpu->msi_new(&m->vec[i].msi, vm);

		if (r < 0) {
			m->vec[i].msi = NULL;
			pci_msix_free(m);
			return r;
		}
		m->vec[i].reg[3] = VEC_MASKED;
	}
	*ret = m;
	return 0;
}

void pci_msix_free(struct pci_msix *m)
{
	if (!m)
		return;
	for (unsigned i = 0; i < m->n; i++)
		if (m->vec[i].msi)
			m->cpu->msi_free(m->vec[i].msi);
	os_mutex_done(&m->lock);
	free(m);
}

/* Brings the back end's source in line with the registers; changed: the message itself may be new.
 */
static void update(struct pci_msix *m, struct msix_vec *v, bool changed)
{
	bool live = m->enabled && !m->fmask && !(v->reg[3] & VEC_MASKED);

	if (live != v->live || (live && changed)) {
		uint64_t addr = (uint64_t)v->reg[1] << 32 | v->reg[0];

		if (m->cpu->msi_set(v->msi, live, addr, v->reg[2]) < 0) {
			log_limited("msix", "the CPU back end refuses message %#llx/%#x",
				(unsigned long long)addr, v->reg[2]);
			live = false;
		}
		v->live = live;
	}
	if (v->live && v->pending) {
		v->pending = false;
		m->cpu->msi_raise(v->msi);
	}
}

static void update_all(struct pci_msix *m)
{
	for (unsigned i = 0; i < m->n; i++)
		update(m, &m->vec[i], true);
}

void pci_msix_control(struct pci_msix *m, uint16_t ctl)
{
	OS_GUARD(&m->lock);
	bool enabled = ctl & CTL_ENABLE, fmask = ctl & CTL_FMASK;

	if (enabled == m->enabled && fmask == m->fmask)
		return;
	m->enabled = enabled;
	m->fmask = fmask;
	update_all(m);
}

bool pci_msix_owns(const struct pci_msix *m, unsigned bar, uint64_t off, unsigned len)
{
	if (!m || bar != m->bar)
		return false;
	return (off < m->table_off + (uint64_t)m->n * VEC_SIZE && off + len > m->table_off) ||
	       (off < m->pba_off + (uint64_t)PCI_MSIX_PBA_SIZE(m->n) && off + len > m->pba_off);
}

/* The 4-byte register at off; anything outside table and PBA reads as zero. */
static uint32_t read_reg(const struct pci_msix *m, uint64_t off)
{
	uint32_t bits = 0;

	if (off >= m->table_off && off - m->table_off < (uint64_t)m->n * VEC_SIZE) {
		off -= m->table_off;
		return m->vec[off / VEC_SIZE].reg[off % VEC_SIZE / 4];
	}
	if (off >= m->pba_off && off - m->pba_off < PCI_MSIX_PBA_SIZE(m->n)) {
		unsigned first = (unsigned)(off - m->pba_off) * 8;

		for (unsigned i = 0; i < 32 && first + i < m->n; i++)
			bits |= (uint32_t)m->vec[first + i].pending << i;
	}
	return bits;
}

uint64_t pci_msix_read(struct pci_msix *m, uint64_t off, unsigned len)
{
	uint64_t val = 0;

	OS_GUARD(&m->lock);
	for (unsigned i = 0; i < len; i++) {
		uint32_t reg = read_reg(m, ALIGN_DOWN(off + i, 4));

		val |= (uint64_t)(reg >> (off + i) % 4 * 8 & 0xff) << i * 8;
	}
	return val;
}

static void write_reg(struct pci_msix *m, uint64_t off, uint32_t val)
{
	struct msix_vec *v;
	unsigned reg;

	if (off < m->table_off || off - m->table_off >= (uint64_t)m->n * VEC_SIZE)
		return; /* the PBA is read-only */
	off -= m->table_off;
	v = &m->vec[off / VEC_SIZE];
	reg = off % VEC_SIZE / 4;
	if (reg == 3)
		val &= VEC_MASKED;
	if (v->reg[reg] == val)
		return;
	v->reg[reg] = val;
	update(m, v, reg != 3);
}

/* Only whole, aligned registers can be written (§6.8.2: dword or qword accesses). */
void pci_msix_write(struct pci_msix *m, uint64_t off, unsigned len, uint64_t val)
{
	OS_GUARD(&m->lock);
	if ((len != 4 && len != 8) || off % len)
		return;
	write_reg(m, off, (uint32_t)val);
	if (len == 8)
		write_reg(m, off + 4, (uint32_t)(val >> 32));
}

void pci_msix_raise(struct pci_dev *p, unsigned vec)
{
	struct pci_msix *m = p->msix;

	if (!m || vec >= m->n)
		return;
	OS_GUARD(&m->lock);
	if (m->vec[vec].live)
		m->cpu->msi_raise(m->vec[vec].msi);
	else if (m->enabled)
		m->vec[vec].pending = true;
}

bool pci_msix_enabled(struct pci_dev *p)
{
	if (!p->msix)
		return false;
	OS_GUARD(&p->msix->lock);
	return p->msix->enabled;
}

unsigned pci_msix_vectors(const struct pci_dev *p)
{
	return p->msix ? p->msix->n : 0;
}

struct os_notifier *pci_msix_notifier(struct pci_dev *p, unsigned vec)
{
	struct pci_msix *m = p->msix;

	if (!m || vec >= m->n)
		return NULL;
	return m->cpu->msi_notifier(m->vec[vec].msi);
}

void pci_msix_reset(struct pci_msix *m)
{
	OS_GUARD(&m->lock);
	m->enabled = m->fmask = false;
	for (unsigned i = 0; i < m->n; i++) {
		struct msix_vec *v = &m->vec[i];

		v->reg[0] = v->reg[1] = v->reg[2] = 0;
		v->reg[3] = VEC_MASKED;
		v->pending = false;
		update(m, v, false);
	}
}

void pci_msix_save(struct pci_msix *m, struct state_w *w)
{
	OS_GUARD(&m->lock);
	state_begin(w, "msix", 1);
	state_put_u32(w, m->n);
	for (unsigned i = 0; i < m->n; i++) {
		for (unsigned k = 0; k < 4; k++)
			state_put_u32(w, m->vec[i].reg[k]);
		state_put_u8(w, m->vec[i].pending);
	}
	state_end(w);
}

/* Leaves MSI-X off: the caller goes on with pci_msix_control() from configuration space. */
int pci_msix_load(struct pci_msix *m, struct state_r *r)
{
	pci_msix_reset(m);
	OS_GUARD(&m->lock);
	state_enter(r, "msix", 1);
	if (state_get_u32(r) != m->n)
		state_fail(r, "number of MSI-X vectors differs");
	for (unsigned i = 0; i < m->n; i++) {
		for (unsigned k = 0; k < 4; k++)
			m->vec[i].reg[k] = state_get_u32(r);
		m->vec[i].reg[3] &= VEC_MASKED;
		m->vec[i].pending = state_get_u8(r);
	}
	state_leave(r);
	return state_check(r, NULL);
}
