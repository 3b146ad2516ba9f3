/* SPDX-License-Identifier: MIT */
/* The PCI transport, driven through the bus and configuration space as a guest would. */
#include "lib/base/test.h"
#include <errno.h>
#include "lib/base/le.h"
#include "lib/os/notifier.h"
#include "vmm/chip/pci-host.h"
#include "vmm/core/state.h"
#include "vmm/core/vm.h"
#include "vmm/virtio/pci.h"

/* --- a CPU back end that only counts --- */

struct cpu_vm {
	int dummy;
};

struct cpu_msi {
	bool on;
	uint64_t addr;
	uint32_t data;
};

static unsigned raised[64]; /* by MSI data */
static struct {
	gpa_t gpa;
	unsigned len;
	struct os_notifier *n;
} placed[16];
static bool have_ioevents;

static int c_vm_new(struct cpu_vm **ret, const struct cpu_vm_config *cfg, struct err *e)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

static void c_vm_free(struct cpu_vm *vm)
{
	free(vm);
}

static void c_signal(struct cpu_vm *vm, uint64_t addr, uint32_t data)
{
	raised[data % 64]++;
}

static int c_msi_new(struct cpu_msi **ret, struct cpu_vm *vm)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

static void c_msi_free(struct cpu_msi *m)
{
	free(m);
}

static int c_msi_set(struct cpu_msi *m, bool enable, uint64_t addr, uint32_t data)
{
	*m = (struct cpu_msi){enable, addr, data};
	return 0;
}

static void c_msi_raise(struct cpu_msi *m)
{
	if (m->on)
		raised[m->data % 64]++;
}

static struct os_notifier *c_msi_notifier(struct cpu_msi *m)
{
	return NULL;
}

static int c_ioevent(struct cpu_vm *vm, gpa_t gpa, unsigned len, bool is_port, uint64_t datamatch,
	struct os_notifier *n, bool add)
{
	if (!have_ioevents)
		return -EOPNOTSUPP;
	for (unsigned i = 0; i < ARRAY_LEN(placed); i++) {
		if (add ? !placed[i].n : placed[i].n == n) {
			placed[i].n = add ? n : NULL;
			placed[i].gpa = gpa;
			placed[i].len = len;
			return 0;
		}
	}
	return add ? -ENOSPC : -ENOENT;
}

static unsigned n_placed(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < ARRAY_LEN(placed); i++)
		n += placed[i].n != NULL;
	return n;
}

static const struct cpu_ops counting_cpu = {.name = "counting",
	.vm_new = c_vm_new,
	.vm_free = c_vm_free,
	.signal_msi = c_signal,
	.msi_new = c_msi_new,
	.msi_free = c_msi_free,
	.msi_set = c_msi_set,
	.msi_raise = c_msi_raise,
	.msi_notifier = c_msi_notifier,
	.ioevent = c_ioevent};

/* --- a device: writable parts are filled with 0x5a; eight bytes of configuration --- */

struct filler {
	struct virtio_dev v;
	uint8_t config[8];
	unsigned notified, resets, freed;
	bool slow_reset;
	struct vring_chain c;
};

static unsigned freed;

static void filler_config_read(struct virtio_dev *v, uint32_t off, void *buf, uint32_t len)
{
	struct filler *d = container_of(v, struct filler, v);

	for (uint32_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = off + i < 8 ? d->config[off + i] : 0;
}

static void filler_config_write(struct virtio_dev *v, uint32_t off, const void *buf, uint32_t len)
{
	struct filler *d = container_of(v, struct filler, v);

	for (uint32_t i = 0; i < len && off + i < 8; i++)
		d->config[off + i] = ((const uint8_t *)buf)[i];
}

static void filler_notify(struct virtio_dev *v, unsigned q)
{
	struct filler *d = container_of(v, struct filler, v);

	d->notified++;
	while (vq_pop(&v->q[q], &d->c) > 0) {
		uint8_t b = 0x5a;

		for (uint32_t i = 0; i < d->c.wr_len; i++)
			vring_write(&d->c, i, &b, 1);
		vq_push(&v->q[q], &d->c, d->c.wr_len);
	}
	vq_flush(&v->q[q]);
}

static bool filler_reset(struct virtio_dev *v)
{
	struct filler *d = container_of(v, struct filler, v);

	d->resets++;
	return !d->slow_reset;
}

static void filler_free(struct virtio_dev *v)
{
	freed++;
	virtio_dev_done(v);
	free(container_of(v, struct filler, v));
}

static const struct virtio_dev_ops filler_ops = {.name = "filler",
	.id = VIRTIO_ID_RNG,
	.features = BIT(3) | BIT(40),
	.config_read = filler_config_read,
	.config_write = filler_config_write,
	.notify = filler_notify,
	.reset = filler_reset,
	.free = filler_free};

/* --- the machine --- */

struct machine {
	struct loop *loop;
	struct vm *vm;
	struct pci_host *host;
	struct pci_dev *p;
	struct filler *d;
	uint64_t bar;
	/* From the capabilities, as a driver finds them. */
	uint64_t common, isr, notify, config;
	uint32_t step;
	unsigned pci_cap;
};

static uint64_t rd(struct machine *m, uint64_t addr, unsigned len)
{
	uint64_t v = bus_read(vm_bus(m->vm), BUS_MMIO, addr, len);

	return len == 8 ? v : v & (BIT(len * 8) - 1);
}

static void wr(struct machine *m, uint64_t addr, unsigned len, uint64_t v)
{
	bus_write(vm_bus(m->vm), BUS_MMIO, addr, len, v);
}

static void find_caps(struct machine *m)
{
	for (unsigned at = pci_cfg_read(m->p, PCI_CAP_PTR, 1); at;
		at = pci_cfg_read(m->p, at + 1, 1)) {
		uint64_t off = m->bar + pci_cfg_read(m->p, at + 8, 4);

		if (pci_cfg_read(m->p, at, 1) != PCI_CAP_ID_VENDOR)
			continue;
		switch (pci_cfg_read(m->p, at + 3, 1)) {
		case 1: m->common = off; break;
		case 2:
			m->notify = off;
			m->step = pci_cfg_read(m->p, at + 16, 4);
			break;
		case 3: m->isr = off; break;
		case 4: m->config = off; break;
		case 5: m->pci_cap = at; break;
		}
	}
}

static void machine_new(struct machine *m, bool ioevents)
{
	struct vm_config cfg = {.cpu = &counting_cpu, .ram_size = 4 << 20, .vcpus = 1};
	bool ok;

	memset(raised, 0, sizeof(raised));
	memset(placed, 0, sizeof(placed));
	have_ioevents = ioevents;
	memset(m, 0, sizeof(*m));
	ok = loop_new(&m->loop) == 0;
	cfg.loop = m->loop;
	ok = ok && vm_new(&m->vm, &cfg, NULL) == 0 && pci_host_new(&m->host, vm_bus(m->vm)) == 0;
	m->d = calloc(1, sizeof(*m->d));
	ok = ok && m->d &&
	     virtio_dev_init(&m->d->v, &filler_ops, "filler0", vm_gmem(m->vm), 2, 64) == 0 &&
	     virtio_pci_new(&m->p, m->vm, &m->d->v) == 0 && pci_host_add(m->host, m->p, -1) == 0;
	if (!ok)
		abort();
	vm_add_dev(m->vm, pci_host_dev(m->host));
	vm_add_dev(m->vm, &m->p->dev);
	memcpy(m->d->config, "abcdefgh", 8);
	pci_cfg_write(m->p, PCI_COMMAND, 2, PCI_CMD_MEM | PCI_CMD_MASTER);
	if (!pci_bar_addr(m->p, 0, &m->bar))
		abort();
	find_caps(m);
}

static void machine_free(struct machine *m)
{
	unsigned before = freed;

	vm_free(m->vm);
	loop_free(m->loop);
	CHECK_EQ(freed, before + 1);
}

static void msix_on(struct machine *m)
{
	for (unsigned at = pci_cfg_read(m->p, PCI_CAP_PTR, 1); at;
		at = pci_cfg_read(m->p, at + 1, 1)) {
		uint64_t table;

		if (pci_cfg_read(m->p, at, 1) != PCI_CAP_ID_MSIX)
			continue;
		table = m->bar + (pci_cfg_read(m->p, at + 4, 4) & ~7u);
		for (unsigned i = 0; i < 3; i++) {
			wr(m, table + i * 16, 4, 0xfee00000);
			wr(m, table + i * 16 + 4, 4, 0);
			wr(m, table + i * 16 + 8, 4, 40 + i);
			wr(m, table + i * 16 + 12, 4, 0);
		}
		pci_cfg_write(m->p, at + 2, 2, 0x8000);
	}
}

enum { DESC = 0x10000, AVAIL = 0x11000, USED = 0x12000, BUF = 0x20000 };

static void drive(struct machine *m)
{
	msix_on(m);
	wr(m, m->common + 20, 1, 0);
	CHECK_EQ(rd(m, m->common + 20, 1), 0);
	wr(m, m->common + 20, 1, 3);
	for (unsigned i = 0; i < 2; i++) {
		uint32_t f;

		wr(m, m->common, 4, i);
		f = (uint32_t)rd(m, m->common + 4, 4);
		wr(m, m->common + 8, 4, i);
		wr(m, m->common + 12, 4, f);
	}
	wr(m, m->common + 20, 1, 11);
	CHECK_EQ(rd(m, m->common + 20, 1), 11);
	wr(m, m->common + 16, 2, 0); /* configuration: vector 0 */
	CHECK_EQ(rd(m, m->common + 16, 2), 0);
	CHECK_EQ(rd(m, m->common + 18, 2), 2);
	wr(m, m->common + 22, 2, 1); /* queue 1 */
	CHECK_EQ(rd(m, m->common + 24, 2), 64);
	wr(m, m->common + 24, 2, 16);
	wr(m, m->common + 26, 2, 2);
	CHECK_EQ(rd(m, m->common + 26, 2), 2);
	wr(m, m->common + 32, 4, DESC);
	wr(m, m->common + 36, 4, 0);
	wr(m, m->common + 40, 8, AVAIL);
	wr(m, m->common + 48, 4, USED);
	wr(m, m->common + 28, 2, 1);
	CHECK_EQ(rd(m, m->common + 28, 2), 1);
	wr(m, m->common + 20, 1, 15);
	CHECK_EQ(rd(m, m->common + 20, 1), 15);
}

static void add_request(struct machine *m, uint16_t n)
{
	uint8_t d[16];

	le64_put(d, BUF);
	le32_put(d + 8, 32);
	le16_put(d + 12, 2);
	le16_put(d + 14, 0);
	CHECK_EQ(gmem_write(vm_gmem(m->vm), DESC, d, 16), 0);
	le16_put(d, 0);
	le16_put(d + 2, n);
	CHECK_EQ(gmem_write(vm_gmem(m->vm), AVAIL, d, 4), 0);
	le16_put(d, 0);
	CHECK_EQ(gmem_write(vm_gmem(m->vm), AVAIL + 4 + ((n - 1) % 16) * 2, d, 2), 0);
	le16_put(d, (uint16_t)(n - 1)); /* used_event */
	CHECK_EQ(gmem_write(vm_gmem(m->vm), AVAIL + 4 + 32, d, 2), 0);
}

static unsigned used_index(struct machine *m)
{
	uint8_t b[2];

	CHECK_EQ(gmem_read(vm_gmem(m->vm), USED + 2, b, 2), 0);
	return le16_get(b);
}

TEST(a_driver_finds_and_uses_the_device)
{
	struct machine m;
	uint8_t b[32] = {0};

	machine_new(&m, false);
	CHECK_EQ(pci_cfg_read(m.p, PCI_VENDOR, 4), 0x10441af4);
	REQUIRE(m.common && m.isr && m.notify && m.config && m.pci_cap);
	drive(&m);
	CHECK_EQ(m.d->v.features, BIT(3) | BIT(40) | BIT(28) | BIT(29) | BIT(32));
	add_request(&m, 1);
	wr(&m, m.notify + m.step * 1, 2, 1);
	CHECK_EQ(used_index(&m), 1);
	CHECK_EQ(gmem_read(vm_gmem(m.vm), BUF, b, 32), 0);
	CHECK_EQ(b[0], 0x5a);
	CHECK_EQ(b[31], 0x5a);
	CHECK_EQ(raised[42], 1);
	CHECK_EQ(raised[40] + raised[41], 0);
	os_mutex_lock(m.d->v.lock);
	virtio_config_changed(&m.d->v);
	os_mutex_unlock(m.d->v.lock);
	CHECK_EQ(raised[40], 1);
	CHECK_EQ(rd(&m, m.common + 21, 1), 1);
	machine_free(&m);
}

TEST(device_configuration_of_any_width)
{
	struct machine m;

	machine_new(&m, false);
	CHECK_EQ(rd(&m, m.config, 1), 'a');
	CHECK_EQ(rd(&m, m.config + 2, 2), 'c' | 'd' << 8);
	CHECK_EQ(rd(&m, m.config + 4, 4), 0x68676665);
	CHECK_EQ(rd(&m, m.config, 8), 0x6867666564636261);
	CHECK_EQ(rd(&m, m.config + 100, 4), 0);
	wr(&m, m.config + 4, 4, 0x31323334);
	CHECK_EQ(memcmp(m.d->config, "abcd4321", 8), 0);
	machine_free(&m);
}

TEST(the_configuration_window_reaches_the_bar)
{
	struct machine m;
	unsigned c;

	machine_new(&m, false);
	c = m.pci_cap;
	pci_cfg_write(m.p, c + 4, 1, 0);
	pci_cfg_write(m.p, c + 8, 4, (uint32_t)(m.config - m.bar));
	pci_cfg_write(m.p, c + 12, 4, 4);
	CHECK_EQ(pci_cfg_read(m.p, c + 16, 4), 0x64636261);
	pci_cfg_write(m.p, c + 16, 4, 0x34333231);
	CHECK_EQ(memcmp(m.d->config, "1234efgh", 8), 0);
	/* Nonsense in the window reaches nothing. */
	pci_cfg_write(m.p, c + 12, 4, 3);
	pci_cfg_write(m.p, c + 16, 4, 0);
	pci_cfg_write(m.p, c + 12, 4, 4);
	pci_cfg_write(m.p, c + 8, 4, 0xfffffffc);
	pci_cfg_write(m.p, c + 16, 4, 0);
	pci_cfg_read(m.p, c + 16, 4);
	pci_cfg_write(m.p, c + 4, 1, 3);
	pci_cfg_write(m.p, c + 8, 4, (uint32_t)(m.config - m.bar));
	pci_cfg_write(m.p, c + 16, 4, 0);
	CHECK_EQ(memcmp(m.d->config, "1234efgh", 8), 0);
	machine_free(&m);
}

TEST(ioevents_follow_the_device_s_life)
{
	struct machine m;

	machine_new(&m, true);
	drive(&m);
	CHECK_EQ(n_placed(), 1); /* queue 0 is not enabled */
	CHECK_EQ(placed[0].gpa, m.notify + m.step);
	CHECK_EQ(placed[0].len, 2);
	wr(&m, m.common + 20, 1, 0);
	CHECK_EQ(n_placed(), 0);
	drive(&m);
	CHECK_EQ(n_placed(), 1);
	pci_cfg_write(m.p, PCI_COMMAND, 2, 0);
	CHECK_EQ(n_placed(), 0);
	/* The bus still takes notifications. */
	pci_cfg_write(m.p, PCI_COMMAND, 2, PCI_CMD_MEM);
	add_request(&m, 1);
	wr(&m, m.notify + m.step, 2, 1);
	CHECK_EQ(used_index(&m), 1);
	machine_free(&m);
	CHECK_EQ(n_placed(), 0);
}

TEST(a_reset_that_takes_time_is_seen_pending)
{
	struct machine m;

	machine_new(&m, false);
	drive(&m);
	m.d->slow_reset = true;
	wr(&m, m.common + 20, 1, 0);
	CHECK_EQ(rd(&m, m.common + 20, 1), 15);
	add_request(&m, 1);
	wr(&m, m.notify + m.step, 2, 1);
	CHECK_EQ(m.d->notified, 0);
	wr(&m, m.common + 20, 1, 0);
	os_mutex_lock(m.d->v.lock);
	virtio_reset_done(&m.d->v);
	os_mutex_unlock(m.d->v.lock);
	CHECK_EQ(rd(&m, m.common + 20, 1), 0);
	CHECK_EQ(m.d->resets, 2); /* drive() made the first */
	CHECK_EQ(rd(&m, m.common + 28, 2), 0);
	m.d->slow_reset = false;
	machine_free(&m);
}

TEST(what_is_in_use_does_not_change)
{
	struct machine m;

	machine_new(&m, false);
	drive(&m);
	wr(&m, m.common + 24, 2, 64);
	wr(&m, m.common + 32, 4, 0xdead0000);
	wr(&m, m.common + 28, 2, 0);
	CHECK_EQ(m.d->v.q[1].ring.size, 16);
	CHECK_EQ(m.d->v.q[1].ring.desc_addr, DESC);
	CHECK(m.d->v.q[1].ring.enabled);
	wr(&m, m.common + 26, 2, 7); /* no such vector */
	CHECK_EQ(rd(&m, m.common + 26, 2), 0xffff);
	wr(&m, m.common + 22, 2, 9); /* no such queue */
	CHECK_EQ(rd(&m, m.common + 24, 2), 0);
	wr(&m, m.common + 24, 2, 8);
	wr(&m, m.common + 28, 2, 1);
	machine_free(&m);
}

TEST(every_register_survives_any_access)
{
	struct machine m;
	uint64_t rng = 1;

	machine_new(&m, false);
	drive(&m);
	for (unsigned i = 0; i < 200000; i++) {
		uint64_t off;
		unsigned len;

		rng = rng * 6364136223846793005ull + 1442695040888963407ull;
		len = 1u << (rng >> 60) % 4;
		off = (rng >> 20) % 0x8000;
		if (rng >> 63)
			off %= 0x60;
		off = off / len * len;
		if ((rng >> 50) & 1)
			wr(&m, m.bar + off, len, (rng >> 51) & 1 ? rng >> 8 : (rng >> 8) % 16);
		else
			rd(&m, m.bar + off, len);
	}
	wr(&m, m.common + 20, 1, 0);
	drive(&m);
	machine_free(&m);
}

TEST(saved_and_loaded_into_another_machine)
{
	struct machine m, m2;
	struct state_w *w = state_w_new();
	struct state_r *r;
	size_t len;

	machine_new(&m, true);
	drive(&m);
	add_request(&m, 1);
	wr(&m, m.notify + m.step, 2, 1);
	m.p->dev.ops->save(&m.p->dev, w);
	const void *data = state_w_data(w, &len);

	machine_new(&m2, true);
	r = state_r_new(data, len);
	memcpy(gmem_ptr(vm_gmem(m2.vm), 0, 4 << 20), gmem_ptr(vm_gmem(m.vm), 0, 4 << 20), 4 << 20);
	CHECK_EQ(m2.p->dev.ops->load(&m2.p->dev, r), 0);
	CHECK_EQ(state_check(r, NULL), 0);
	CHECK_EQ(n_placed(), 1);
	CHECK_EQ(rd(&m2, m2.common + 20, 1), 15);
	add_request(&m2, 2);
	wr(&m2, m2.notify + m2.step, 2, 1);
	CHECK_EQ(used_index(&m2), 2);
	CHECK_EQ(raised[42], 2); /* and once in case that one was lost */
	state_r_free(r);
	/* A truncated one is refused. */
	r = state_r_new(data, len - 20);
	CHECK(m2.p->dev.ops->load(&m2.p->dev, r) < 0 || state_check(r, NULL) < 0);
	state_r_free(r);
	state_w_free(w);
	machine_free(&m);
	machine_free(&m2);
}

TEST_MAIN()
