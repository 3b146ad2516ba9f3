/* SPDX-License-Identifier: MIT */
/* virtio over PCI, virtio 1.2 §4.1. See pci.h. */
#include "vmm/virtio/pci.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/le.h"
#include "vmm/core/state.h"
#include "vmm/core/vm.h"

enum { VENDOR = 0x1af4, DEVICE_BASE = 0x1040, REVISION = 1 };
enum { BAR = 0, BAR_SIZE = 0x8000, SHM_BAR = 2, NO_VECTOR = 0xffff };

/* The structures' places in the BAR. */
enum {
	COMMON_OFF = 0x0000,
	COMMON_LEN = 64,
	ISR_OFF = 0x1000,
	ISR_LEN = 4,
	CONFIG_OFF = 0x2000,
	CONFIG_LEN = 0x1000,
	NOTIFY_OFF = 0x3000,
	NOTIFY_STEP = 4,
	MSIX_TABLE_OFF = 0x4000,
	MSIX_PBA_OFF = 0x5000,
};

/* struct virtio_pci_common_cfg, §4.1.4.3. */
enum {
	C_DEVICE_FEATURE_SELECT = 0,
	C_DEVICE_FEATURE = 4,
	C_DRIVER_FEATURE_SELECT = 8,
	C_DRIVER_FEATURE = 12,
	C_CONFIG_VECTOR = 16,
	C_NUM_QUEUES = 18,
	C_STATUS = 20,
	C_GENERATION = 21,
	C_QUEUE_SELECT = 22,
	C_QUEUE_SIZE = 24,
	C_QUEUE_VECTOR = 26,
	C_QUEUE_ENABLE = 28,
	C_QUEUE_NOTIFY_OFF = 30,
	C_QUEUE_DESC = 32,
	C_QUEUE_DRIVER = 40,
	C_QUEUE_DEVICE = 48,
};

/* struct virtio_pci_cap, §4.1.4. */
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4, CAP_PCI = 5, CAP_SHM = 8 };
enum { CAP_BAR = 4, CAP_OFFSET = 8, CAP_LENGTH = 12, CAP_EXTRA = 16, CAP_MAX = 20 };
/* struct virtio_pci_cap64 */
enum { CAP_LENGTH_HI = 20, CAP64_LEN = 24 };

enum { ISR_QUEUE = 1, ISR_CONFIG = 2 };

struct doorbell {
	struct virtio_pci *vp;
	struct vm_ioevent *ev;
};

struct virtio_pci {
	struct pci_dev pci;   /* its lock is the device's */
	struct virtio_dev *v; /* owned */
	uint32_t device_select, driver_select;
	uint16_t queue_select, config_vector;
	uint8_t isr;
	unsigned pci_cap;	/* offset of the configuration access capability */
	struct doorbell *bells; /* owned, one a queue; the loop calls back with its address */
};

static struct virtio_pci *to_vp(struct pci_dev *p)
{
	return container_of(p, struct virtio_pci, pci);
}

/* --- interrupts --- */

static void raise_vector(struct virtio_pci *vp, uint16_t vector, uint8_t isr)
{
	if (vector == NO_VECTOR)
		vp->isr |= isr;
	else
		pci_msix_raise(&vp->pci, vector);
}

static void queue_irq(struct virtio_dev *v, unsigned q)
{
	raise_vector(v->transport_ctx, v->q[q].vector, ISR_QUEUE);
}

static void config_irq(struct virtio_dev *v)
{
	struct virtio_pci *vp = v->transport_ctx;

	raise_vector(vp, vp->config_vector, ISR_CONFIG);
}

static const struct virtio_transport_ops transport = {queue_irq, config_irq};

/* --- notifications --- */

static void bell_rung(void *ctx)
{
	struct doorbell *b = ctx;
	struct virtio_dev *v = b->vp->v;
	VIRTIO_GUARD(v);

	virtio_notify(v, (unsigned)(b - b->vp->bells));
}

static void place_bells(struct virtio_pci *vp)
{
	uint64_t bar;

	if (vp->v->ops->on_vcpu || !pci_bar_addr(&vp->pci, BAR, &bar))
		return;
	for (unsigned i = 0; i < vp->v->n_queues; i++)
		if (vp->v->q[i].ring.enabled && vm_ioevent_place(vp->bells[i].ev, BUS_MMIO,
							bar + NOTIFY_OFF + i * NOTIFY_STEP,
							/* len= */ 2, UINT64_MAX) < 0)
			return; /* notifications come through the bus */
}

static void unplace_bells(struct virtio_pci *vp)
{
	for (unsigned i = 0; i < vp->v->n_queues; i++)
		vm_ioevent_unplace(vp->bells[i].ev);
}

/* --- common configuration --- */

static struct vq *selected(struct virtio_pci *vp)
{
	return vp->queue_select < vp->v->n_queues ? &vp->v->q[vp->queue_select] : NULL;
}

static void common_image(struct virtio_pci *vp, uint8_t img[COMMON_LEN])
{
	const struct virtio_dev *v = vp->v;
	const struct vq *q = selected(vp);

	memset(img, 0, COMMON_LEN);
	le32_put(img + C_DEVICE_FEATURE_SELECT, vp->device_select);
	if (vp->device_select < 2)
		le32_put(img + C_DEVICE_FEATURE, (uint32_t)(v->offered >> vp->device_select * 32));
	le32_put(img + C_DRIVER_FEATURE_SELECT, vp->driver_select);
	if (vp->driver_select < 2)
		le32_put(img + C_DRIVER_FEATURE, (uint32_t)(v->features >> vp->driver_select * 32));
	le16_put(img + C_CONFIG_VECTOR, vp->config_vector);
	le16_put(img + C_NUM_QUEUES, (uint16_t)v->n_queues);
	img[C_STATUS] = v->status;
	img[C_GENERATION] = v->config_generation;
	le16_put(img + C_QUEUE_SELECT, vp->queue_select);
	if (!q)
		return;
	le16_put(img + C_QUEUE_SIZE, q->ring.size);
	le16_put(img + C_QUEUE_VECTOR, q->vector);
	le16_put(img + C_QUEUE_ENABLE, q->ring.enabled);
	le16_put(img + C_QUEUE_NOTIFY_OFF, vp->queue_select);
	le64_put(img + C_QUEUE_DESC, q->ring.desc_addr);
	le64_put(img + C_QUEUE_DRIVER, q->ring.avail_addr);
	le64_put(img + C_QUEUE_DEVICE, q->ring.used_addr);
}

static void set_part(uint64_t *field, uint64_t off, unsigned len, uint64_t val)
{
	if (len == 8)
		*field = val;
	else if (off % 8 == 4)
		*field = (*field & UINT32_MAX) | val << 32;
	else
		*field = (*field & ~(uint64_t)UINT32_MAX) | (uint32_t)val;
}

static void set_features(struct virtio_pci *vp, uint32_t val)
{
	uint64_t f = vp->v->features;

	if (vp->driver_select < 2) {
		set_part(&f, vp->driver_select * 4, 4, val);
		virtio_set_features(vp->v, f);
	} else if (val) {
		/* Bits nobody offers: make the negotiation fail rather than forget them. */
		virtio_set_features(vp->v, UINT64_MAX);
	}
}

static void set_status(struct virtio_pci *vp, uint8_t val)
{
	bool was_live = virtio_live(vp->v);

	if (!val)
		unplace_bells(vp);
	virtio_set_status(vp->v, val);
	if (!val) {
		vp->device_select = vp->driver_select = 0;
		vp->queue_select = 0;
		vp->config_vector = NO_VECTOR;
		vp->isr = 0;
	}
	if (!was_live && virtio_live(vp->v))
		place_bells(vp);
}

static uint16_t valid_vector(struct virtio_pci *vp, uint64_t val)
{
	return val < pci_msix_vectors(&vp->pci) ? (uint16_t)val : NO_VECTOR;
}

static void queue_write(
	struct virtio_pci *vp, struct vq *q, uint64_t off, unsigned len, uint64_t val)
{
	if (off == C_QUEUE_VECTOR && len == 2) {
		q->vector = valid_vector(vp, val);
		return;
	}
	if (q->ring.enabled)
		return; /* what is in use does not change */
	if (off == C_QUEUE_SIZE && len == 2)
		q->ring.size = (uint16_t)val;
	else if (off == C_QUEUE_ENABLE && len == 2 && val == 1)
		virtio_queue_enable(vp->v, q->ring.index);
	else if (off >= C_QUEUE_DESC && off < C_QUEUE_DEVICE + 8 && len >= 4)
		set_part(off < C_QUEUE_DRIVER	? &q->ring.desc_addr
			 : off < C_QUEUE_DEVICE ? &q->ring.avail_addr
						: &q->ring.used_addr,
			off, len, val);
}

static void common_write(struct virtio_pci *vp, uint64_t off, unsigned len, uint64_t val)
{
	struct vq *q = selected(vp);

	if (off == C_DEVICE_FEATURE_SELECT && len == 4)
		vp->device_select = (uint32_t)val;
	else if (off == C_DRIVER_FEATURE_SELECT && len == 4)
		vp->driver_select = (uint32_t)val;
	else if (off == C_DRIVER_FEATURE && len == 4)
		set_features(vp, (uint32_t)val);
	else if (off == C_CONFIG_VECTOR && len == 2)
		vp->config_vector = valid_vector(vp, val);
	else if (off == C_STATUS && len == 1)
		set_status(vp, (uint8_t)val);
	else if (off == C_QUEUE_SELECT && len == 2)
		vp->queue_select = (uint16_t)val;
	else if (off >= C_QUEUE_SIZE && q && off % MIN(len, 4u) == 0 && (len < 8 || off % 8 == 0))
		queue_write(vp, q, off, len, val);
}

/* --- the BAR --- */

static uint64_t bar_read(struct pci_dev *p, unsigned bar, uint64_t off, unsigned len)
{
	struct virtio_pci *vp = to_vp(p);
	struct virtio_dev *v = vp->v;
	uint8_t buf[8] = {0}, img[COMMON_LEN];

	/* Of shared memory, only where the guest moved it: the memory itself stays where the machine has it. */
	if (bar != BAR)
		return UINT64_MAX;
	if (off + len <= COMMON_OFF + COMMON_LEN) {
		common_image(vp, img);
		memcpy(buf, img + off, len);
	} else if (off == ISR_OFF) {
		buf[0] = vp->isr;
		vp->isr = 0;
	} else if (off >= CONFIG_OFF && off + len <= CONFIG_OFF + CONFIG_LEN &&
		   v->ops->config_read) {
		v->ops->config_read(v, (uint32_t)(off - CONFIG_OFF), buf, len);
	}
	return le64_get(buf);
}

static void bar_write(struct pci_dev *p, unsigned bar, uint64_t off, unsigned len, uint64_t val)
{
	struct virtio_pci *vp = to_vp(p);
	struct virtio_dev *v = vp->v;
	uint8_t buf[8];

	if (bar != BAR)
		return;
	if (off >= NOTIFY_OFF && off < NOTIFY_OFF + v->n_queues * NOTIFY_STEP) {
		virtio_notify(v, (unsigned)(off - NOTIFY_OFF) / NOTIFY_STEP);
	} else if (off + len <= COMMON_OFF + COMMON_LEN) {
		common_write(vp, off, len, val);
	} else if (off >= CONFIG_OFF && off + len <= CONFIG_OFF + CONFIG_LEN &&
		   v->ops->config_write && !v->resetting) {
		le64_put(buf, val);
		v->ops->config_write(v, (uint32_t)(off - CONFIG_OFF), buf, len);
	}
}

/* --- the configuration access capability, §4.1.4.9 --- */

static bool window(struct virtio_pci *vp, unsigned off, uint32_t *ret_off, uint32_t *ret_len)
{
	const uint8_t *cap = vp->pci.cfg + vp->pci_cap;
	uint32_t o = le32_get(cap + CAP_OFFSET), n = le32_get(cap + CAP_LENGTH);

	if (off < vp->pci_cap + CAP_EXTRA || off >= vp->pci_cap + CAP_EXTRA + 4)
		return false;
	if (cap[CAP_BAR] != BAR || (n != 1 && n != 2 && n != 4) || o % n || o > BAR_SIZE - n)
		return false;
	*ret_off = o;
	*ret_len = n;
	return true;
}

static bool cfg_read(struct pci_dev *p, unsigned off, unsigned len, uint32_t *ret)
{
	struct virtio_pci *vp = to_vp(p);
	uint32_t o, n;

	if (!window(vp, off, &o, &n))
		return false;
	le32_put(p->cfg + vp->pci_cap + CAP_EXTRA, (uint32_t)bar_read(p, BAR, o, n));
	return false; /* the bytes are in place now */
}

static void cfg_write(struct pci_dev *p, unsigned off, unsigned len, uint32_t val)
{
	struct virtio_pci *vp = to_vp(p);
	uint32_t o, n;

	/* The BAR may be about to move; until the next DRIVER_OK notifications come through the bus. */
	if (off < PCI_BAR0 + PCI_BARS * 4 &&
		(off >= PCI_BAR0 || !(p->cfg[PCI_COMMAND] & PCI_CMD_MEM)))
		unplace_bells(vp);
	if (window(vp, off, &o, &n))
		bar_write(p, BAR, o, n, le32_get(p->cfg + vp->pci_cap + CAP_EXTRA));
}

/* --- life --- */

static void function_reset(struct pci_dev *p)
{
	struct virtio_pci *vp = to_vp(p);
	VIRTIO_GUARD(vp->v);

	set_status(vp, 0);
}

static void function_save(struct pci_dev *p, struct state_w *w)
{
	struct virtio_pci *vp = to_vp(p);

	state_begin(w, "virtio-pci", 1);
	state_put_u32(w, vp->device_select);
	state_put_u32(w, vp->driver_select);
	state_put_u16(w, vp->queue_select);
	state_put_u16(w, vp->config_vector);
	state_put_u8(w, vp->isr);
	state_end(w);
	virtio_save(vp->v, w);
}

static int function_load(struct pci_dev *p, struct state_r *r)
{
	struct virtio_pci *vp = to_vp(p);
	int e;

	unplace_bells(vp);
	if (!state_enter(r, "virtio-pci", 1))
		return -EBADMSG;
	vp->device_select = state_get_u32(r);
	vp->driver_select = state_get_u32(r);
	vp->queue_select = state_get_u16(r);
	vp->config_vector = valid_vector(vp, state_get_u16(r));
	vp->isr = state_get_u8(r);
	state_leave(r);
	e = virtio_load(vp->v, r);
	if (e < 0)
		return e;
	for (unsigned i = 0; i < vp->v->n_queues; i++)
		vp->v->q[i].vector = valid_vector(vp, vp->v->q[i].vector);
	if (virtio_live(vp->v))
		place_bells(vp);
	return 0;
}

static void vp_free(struct virtio_pci *vp)
{
	if (vp->bells)
		for (unsigned i = 0; i < vp->v->n_queues; i++)
			vm_ioevent_free(vp->bells[i].ev);
	free(vp->bells);
	pci_dev_done(&vp->pci);
	free(vp);
}

static void function_free(struct pci_dev *p)
{
	struct virtio_pci *vp = to_vp(p);
	struct virtio_dev *v = vp->v;
	unsigned n = v->n_queues;

	for (unsigned i = 0; i < n; i++)
		vm_ioevent_free(vp->bells[i].ev);
	free(vp->bells);
	vp->bells = NULL;
	v->ops->free(v);
	vp_free(vp);
}

static const struct pci_dev_ops function_ops = {
	.bar_read = bar_read,
	.bar_write = bar_write,
	.cfg_read = cfg_read,
	.cfg_write = cfg_write,
	.reset = function_reset,
	.save = function_save,
	.load = function_load,
	.free = function_free,
};

static int add_cap(struct virtio_pci *vp, uint8_t type, uint32_t off, uint32_t len, bool extra,
	uint32_t extra_val)
{
	uint8_t cap[CAP_MAX] = {0}, mask[CAP_MAX] = {0};
	unsigned size = extra ? CAP_MAX : CAP_EXTRA;

	cap[2] = (uint8_t)size;
	cap[3] = type;
	cap[CAP_BAR] = BAR;
	le32_put(cap + CAP_OFFSET, off);
	le32_put(cap + CAP_LENGTH, len);
	le32_put(cap + CAP_EXTRA, extra_val);
	if (type == CAP_PCI) {
		mask[CAP_BAR] = 0xff;
		memset(mask + CAP_OFFSET, 0xff, CAP_MAX - CAP_OFFSET);
	}
	return pci_dev_cap(&vp->pci, PCI_CAP_ID_VENDOR, cap + 2, size - 2, mask + 2);
}

static int add_shm(struct virtio_pci *vp)
{
	uint64_t n = vp->v->shm_len;
	uint8_t cap[CAP64_LEN] = {0};

	if (!n)
		return 0;
	pci_dev_bar(&vp->pci, SHM_BAR, PCI_BAR_MEM64, n);
	cap[2] = sizeof(cap);
	cap[3] = CAP_SHM;
	cap[CAP_BAR] = SHM_BAR;
	le32_put(cap + CAP_LENGTH, (uint32_t)n);
	le32_put(cap + CAP_LENGTH_HI, (uint32_t)(n >> 32));
	return pci_dev_cap(&vp->pci, PCI_CAP_ID_VENDOR, cap + 2, sizeof(cap) - 2, NULL);
}

uint64_t virtio_pci_shm(const struct pci_dev *p)
{
	return p->bar[SHM_BAR].reset_addr;
}

static uint32_t class_of(uint16_t id)
{
	switch (id) {
	case VIRTIO_ID_NET: return 0x020000;
	case VIRTIO_ID_BLOCK:
	case VIRTIO_ID_SCSI: return 0x010000;
	case VIRTIO_ID_CONSOLE:
	case VIRTIO_ID_VSOCK: return 0x078000;
	default: return 0xff0000;
	}
}

static int set_up(struct virtio_pci *vp, struct vm *vm)
{
	struct virtio_dev *v = vp->v;
	unsigned notify_len = v->n_queues * NOTIFY_STEP;
	struct os_notifier *kick;
	int r;

	pci_dev_bar(&vp->pci, BAR, PCI_BAR_MEM32, BAR_SIZE);
	r = pci_dev_msix(&vp->pci, vm_cpu_ops(vm), vm_cpu(vm), v->n_queues + 1, BAR, MSIX_TABLE_OFF,
		MSIX_PBA_OFF);
	if (r < 0)
		return r;
	if ((r = add_cap(vp, CAP_COMMON, COMMON_OFF, COMMON_LEN, false, 0)) < 0 ||
		(r = add_cap(vp, CAP_ISR, ISR_OFF, ISR_LEN, false, 0)) < 0 ||
		(r = add_cap(vp, CAP_NOTIFY, NOTIFY_OFF, notify_len, true, NOTIFY_STEP)) < 0 ||
		(v->ops->config_read &&
			(r = add_cap(vp, CAP_DEVICE, CONFIG_OFF, CONFIG_LEN, false, 0)) < 0) ||
		(r = add_shm(vp)) < 0 || (r = add_cap(vp, CAP_PCI, 0, 0, true, 0)) < 0)
		return r;
	vp->pci_cap = (unsigned)r;
	vp->bells = calloc(v->n_queues, sizeof(*vp->bells));
	if (!vp->bells)
		return -ENOMEM;
	for (unsigned i = 0; i < v->n_queues; i++) {
		vp->bells[i].vp = vp;
		kick = v->ops->kick_notifier ? v->ops->kick_notifier(v, i) : NULL;
		r = kick ? vm_ioevent_to(&vp->bells[i].ev, vm, kick)
			 : vm_ioevent_new(&vp->bells[i].ev, vm, bell_rung, &vp->bells[i]);
		if (r < 0)
			return r;
	}
	return virtio_attach(v, &transport, vp, &vp->pci.dev.lock, vm_loop(vm));
}

int virtio_pci_new(struct pci_dev **ret, struct vm *vm, struct virtio_dev *v)
{
	struct virtio_pci *vp = calloc(1, sizeof(*vp));
	struct pci_ids ids = {.vendor = VENDOR,
		.device = (uint16_t)(DEVICE_BASE + v->ops->id),
		.subvendor = VENDOR,
		.subdevice = (uint16_t)(DEVICE_BASE + v->ops->id),
		.class_code = class_of(v->ops->id),
		.revision = REVISION};
	int r;

	if (!vp)
		return -ENOMEM;
	vp->v = v;
	vp->config_vector = NO_VECTOR;
	pci_dev_init(&vp->pci, &function_ops, &ids, v->name);
	r = set_up(vp, vm);
	if (r < 0) {
		vp_free(vp);
		return r;
	}
	*ret = &vp->pci;
	return 0;
}
