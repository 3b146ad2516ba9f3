/* SPDX-License-Identifier: MIT */
#include "vmm/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "vmm/chip/ioapic.h"
#include "vmm/chip/pci-host.h"
#include "vmm/chip/platform.h"
#include "vmm/chip/power.h"
#include "vmm/chip/serial.h"
#include "vmm/host/block-file.h"
#include "vmm/host/block-vhdx.h"
#include "vmm/host/console-unix.h"
#include "vmm/host/vhost-user.h"
#include "vmm/host/vsock-unix.h"
#include "vmm/scsi/scsi.h"
#include "vmm/sink.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/pci.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/scsi.h"

static void on_end(void *ctx, enum vm_end why)
{
	struct machine *m = ctx;

	m->end = why;
	loop_quit(m->loop, 0);
}

static void on_power(void *ctx, enum power_event ev)
{
	struct machine *m = ctx;

	vm_stop(m->vm, ev == POWER_OFF ? VM_END_POWEROFF : VM_END_RESET);
}

static void on_stdin(void *ctx, int fd, uint32_t revents)
{
	struct machine *m = ctx;
	char buf[256];
	ssize_t n = read(fd, buf, sizeof(buf));

	if (n > 0)
		serial_input(m->serial, buf, n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		m->serial_in = loop_src_free(m->serial_in);
}

/* A guest writes to the port for as long as it likes; the disk that the file is on is the user's. */
enum { SERIAL_FILE_MAX = 16 << 20 };

static int add_serial(struct machine *m, const char *where, struct err *e)
{
	struct irq_line irq = ioapic_line(m->ioapic, PLAT_COM1_IRQ);
	int r, fd = -1;

	if (strncmp(where, "file:", 5) == 0) {
		fd = m->serial_fd =
			open(where + 5, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
		if (fd < 0)
			return err_sys(e, -errno, "open %s for the serial port", where + 5);
	} else if (strcmp(where, "stdio") == 0) {
		fd = STDOUT_FILENO;
	}
	if (fd >= 0) {
		r = sink_new(&m->sink, m->loop, fd, fd == m->serial_fd ? SERIAL_FILE_MAX : 0);
		if (r < 0)
			return err_sys(e, r, "add the serial port");
	}
	r = serial_new(&m->serial, vm_bus(m->vm), "serial0", PLAT_COM1_PORT, &irq,
		m->sink ? sink_byte : NULL, m->sink);
	if (r < 0)
		return err_sys(e, r, "add the serial port");
	vm_add_dev(m->vm, serial_dev(m->serial));
	if (fd == STDOUT_FILENO) {
		r = loop_io(m->loop, STDIN_FILENO, EPOLLIN, on_stdin, m, &m->serial_in);
		/* A file or /dev/null cannot be waited for: then there is nothing to type either. */
		if (r < 0 && r != -EPERM)
			return err_sys(e, r, "read standard input");
	}
	return 0;
}

static int add_chips(struct machine *m, struct err *e)
{
	struct bus *bus = vm_bus(m->vm);
	struct irq_line button;
	int r;

	r = ioapic_new(&m->ioapic, bus, vm_cpu_ops(m->vm), vm_cpu(m->vm));
	if (r < 0)
		return err_sys(e, r, "add the IOAPIC");
	vm_add_dev(m->vm, ioapic_dev(m->ioapic));
	vm_set_eoi(m->vm, ioapic_eoi, m->ioapic);
	r = pci_host_new(&m->pci, bus);
	if (r < 0)
		return err_sys(e, r, "add the PCI host bridge");
	vm_add_dev(m->vm, pci_host_dev(m->pci));
	pci_host_set_low64(m->pci, gmem_ram_end(vm_gmem(m->vm)) <= PLAT_PCI_LOW64_START);
	button = ioapic_line(m->ioapic, PLAT_POWER_BUTTON_IRQ);
	r = power_new(&m->power, bus, &button, on_power, m);
	if (r < 0)
		return err_sys(e, r, "add the power registers");
	vm_add_dev(m->vm, power_dev(m->power));
	return 0;
}

/* Takes v over, success or not. shm: where its shared memory is to be; may be NULL. */
static int add_virtio_shm(struct machine *m, struct virtio_dev *v, uint64_t *shm, struct err *e)
{
	struct pci_dev *p;
	int r = virtio_pci_new(&p, m->vm, v);

	if (r < 0) {
		err_sys(e, r, "add %s", v->name);
		v->ops->free(v);
		return r;
	}
	r = pci_host_add(m->pci, p, -1);
	vm_add_dev(m->vm, &p->dev);
	if (shm)
		*shm = virtio_pci_shm(p);
	return r < 0 ? err_sys(e, r, "plug in %s", v->name) : 0;
}

static int add_virtio(struct machine *m, struct virtio_dev *v, struct err *e)
{
	return add_virtio_shm(m, v, NULL, e);
}

int machine_attach_disk(
	struct machine *m, unsigned lun, const struct machine_disk *d, struct err *e)
{
	struct blk_file_config cfg = {.path = d->path ? d->path : "the disk",
		.fd = d->fd,
		.readonly = d->readonly,
		.loop = m->loop};
	struct scsi_disk_config disk = {.serial = d->serial};
	char name[16];
	struct blk *blk;
	int r = d->format == DISK_VHDX ? blk_vhdx_open(&blk, &cfg, e)
				       : blk_file_open(&blk, &cfg, e);

	if (r < 0)
		return r;
	if (!d->serial) {
		snprintf(name, sizeof(name), "lun%u", lun);
		disk.serial = name;
	}
	r = scsi_attach(m->scsi, lun, blk, &disk);
	if (r < 0) {
		blk_free(blk);
		return err_sys(e, r, "attach %s as LUN %u", cfg.path, lun);
	}
	return (int)lun;
}

static int add_disks(struct machine *m, const struct options *o, struct err *e)
{
	struct virtio_dev *v;
	int r = scsi_target_new(&m->scsi);

	if (r == 0)
		r = virtio_scsi_new(&v, vm_gmem(m->vm), m->scsi,
			MIN(o->cpus, (unsigned)VIRTIO_SCSI_MAX_REQUEST_QUEUES));
	if (r < 0)
		return err_sys(e, r, "add the SCSI controller");
	r = add_virtio(m, v, e);
	for (unsigned i = 0; r >= 0 && i < o->ndisks; i++)
		r = machine_attach_disk(m, i,
			&(struct machine_disk){.path = o->disks[i].path,
				.fd = -1,
				.readonly = o->disks[i].readonly,
				.format = o->disks[i].format},
			e);
	return MIN(r, 0);
}

static int add_console(struct machine *m, const char *path, struct err *e)
{
	struct console *c;
	int r = console_new(&c, vm_gmem(m->vm), "console0");

	if (r < 0)
		return err_sys(e, r, "add the console");
	r = console_unix_attach(c, m->loop, path, e);
	if (r < 0) {
		console_dev(c)->ops->free(console_dev(c));
		return r;
	}
	return add_virtio(m, console_dev(c), e);
}

static int add_vsock(struct machine *m, const char *path, struct err *e)
{
	struct vsock *vs;
	int r = vsock_new(&vs, vm_gmem(m->vm), m->loop, "vsock0", VSOCK_CID_GUEST);

	if (r < 0)
		return err_sys(e, r, "add vsock");
	r = vsock_unix_attach(vs, m->loop, path, e);
	if (r < 0) {
		vsock_dev(vs)->ops->free(vsock_dev(vs));
		return r;
	}
	return add_virtio(m, vsock_dev(vs), e);
}

/* Whoever listened, or took the connection, is no more. */
static bool has_died(int r)
{
	return r == -ECONNREFUSED || r == -ECONNRESET || r == -EPIPE || r == -ENODATA;
}

static int add_vhost(struct machine *m, const struct opt_vhost *o, struct err *e)
{
	static const struct {
		const char *name;
		unsigned id;
	} kinds[] = {[VHOST_FS] = {"fs", VIRTIO_ID_FS},
		[VHOST_NET] = {"net", VIRTIO_ID_NET},
		[VHOST_9P] = {"9p", VIRTIO_ID_9P}};
	struct vhost_config conf = o->conf;
	char name[16];
	struct vhost *vh;
	unsigned n = 0;
	uint64_t window;
	int fd = o->fd, r;

	for (unsigned i = 0; i < m->nvhost; i++)
		n += vhost_dev(m->vhost[i])->ops->id == kinds[conf.kind].id;
	snprintf(name, sizeof(name), "%s%u", kinds[conf.kind].name, n);
	conf.name = name;
	/* KVM's guests see what is written without being told. */
	conf.direct = vm_cpu_ops(m->vm)->ioevent != NULL;
	r = vhost_new(&vh, vm_gmem(m->vm), m->loop, &conf);
	if (r < 0)
		return err_sys(e, r, "add %s", name);
	r = add_virtio_shm(m, vhost_dev(vh), &window, e);
	if (r == 0 && vhost_window(vh)) {
		r = vhost_place_window(vh, window);
		if (r == 0)
			r = vm_cpu_ops(m->vm)->window(vm_cpu(m->vm));
		if (r < 0)
			err_sys(e, r, "make the window of %s", name);
	}
	if (r < 0)
		return r;
	m->vhost[m->nvhost++] = vh;
	if (!o->socket)
		return fd < 0 ? 0 : vhost_user_attach(vh, m->loop, fd, e);
	fd = io_unix_connect(o->socket);
	if (fd >= 0)
		r = vhost_user_attach(vh, m->loop, fd, e);
	else
		r = err_sys(e, fd, "connect %s to %s", name, o->socket);
	if (!has_died(r))
		return r;
	/* Its successor will attach another one. */
	log_warn("vhost", "%s", e->text);
	*e = (struct err){0};
	return 0;
}

int machine_attach_server(struct machine *m, const char *device, int fd, struct err *e)
{
	for (unsigned i = 0; i < m->nvhost; i++)
		if (strcmp(vhost_name(m->vhost[i]), device) == 0)
			return vhost_user_attach(m->vhost[i], m->loop, fd, e);
	close(fd);
	return err_set(e, -ENODEV, "there is no device %s for a server", device);
}

int machine_can_save(struct machine *m, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < m->nvhost; i++)
		r = vhost_can_save(m->vhost[i], e);
	return r;
}

static int add_devices(struct machine *m, const struct options *o, struct err *e)
{
	struct virtio_dev *rng;
	int r = virtio_rng_new(&rng, vm_gmem(m->vm), "rng0");

	if (r < 0)
		return err_sys(e, r, "add the entropy source");
	r = add_virtio(m, rng, e);
	if (r == 0 && o->vsock)
		r = add_vsock(m, o->vsock, e);
	if (r == 0 && o->console)
		r = add_console(m, o->console, e);
	if (r == 0 && o->balloon) {
		r = balloon_new(&m->balloon, vm_gmem(m->vm), "balloon0");
		if (r < 0)
			return err_sys(e, r, "add the balloon");
		r = add_virtio(m, balloon_dev(m->balloon), e);
	}
	for (unsigned i = 0; r == 0 && i < o->nvhost; i++)
		r = add_vhost(m, &o->vhost[i], e);
	return r;
}

int machine_init(struct machine *m, const struct options *o, const struct cpu_ops *cpu,
	struct loop *loop, struct err *e)
{
	struct vm_config cfg = {.cpu = cpu,
		.ram_size = (uint64_t)o->memory_mib << 20,
		.vcpus = o->cpus,
		.loop = loop,
		.on_end = on_end,
		.ctx = m};
	int r;

	*m = (struct machine){.loop = loop, .serial_fd = -1};
	r = vm_new(&m->vm, &cfg, e);
	if (r == 0)
		r = add_chips(m, e);
	if (r == 0)
		r = add_serial(m, o->serial, e);
	if (r == 0)
		r = add_disks(m, o, e);
	if (r == 0)
		r = add_devices(m, o, e);
	if (r < 0)
		machine_done(m);
	return r;
}

void machine_done(struct machine *m)
{
	loop_src_free(m->serial_in);
	vm_free(m->vm);
	scsi_target_free(m->scsi);
	sink_free(m->sink);
	if (m->serial_fd >= 0)
		close(m->serial_fd);
	*m = (struct machine){.serial_fd = -1};
}
