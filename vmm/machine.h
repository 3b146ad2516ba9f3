/* SPDX-License-Identifier: MIT */
/* The machine that wslx-vmm builds: one VM, its chips and its devices, wired together. */
#ifndef WSLX_VMM_MACHINE_H
#define WSLX_VMM_MACHINE_H

#include "vmm/core/vm.h"
#include "vmm/options.h"

struct serial;
struct power;
struct ioapic;
struct pci_host;
struct scsi_target;
struct sink;
struct balloon;
struct vhost;
struct virtio_dev;

struct machine {
	struct loop *loop; /* borrowed */
	struct vm *vm;
	enum vm_end end;
	/* CLOCK_MONOTONIC, ns: when the program began, and when the guest's first instruction ran. */
	uint64_t began, entered;

	/* Owned by the VM. */
	struct pci_host *pci;
	struct ioapic *ioapic;
	struct serial *serial;
	struct power *power;
	struct balloon *balloon; /* NULL: none */
	struct vhost *vhost[OPT_MAX_VHOST];
	unsigned nvhost;

	/* Host ends of devices. */
	struct scsi_target *scsi;
	int serial_fd; /* -1: none of our own */
	struct sink *sink;
	struct loop_src *serial_in;
};

/* Builds everything but the vCPUs and what memory holds. m must stay where it is until machine_done(). */
int machine_init(struct machine *m, const struct options *o, const struct cpu_ops *cpu,
	struct loop *loop, struct err *e);
void machine_done(struct machine *m);

struct machine_disk {
	const char *path; /* opened here when fd is -1; NULL: not known */
	int fd;		  /* taken over, also on failure */
	bool readonly;
	enum disk_format format;
	const char *serial; /* names the disk in the guest; NULL: "lun" and the number */
};

/* Attaches a disk and returns its LUN. Loop's thread. */
int machine_attach_disk(
	struct machine *m, unsigned lun, const struct machine_disk *d, struct err *e);

/* Connects the device of that name to a server at the other end of fd, which is taken over. Loop's thread. */
int machine_attach_server(struct machine *m, const char *device, int fd, struct err *e);

/* Is there nothing that would be lost if the machine was saved now? */
int machine_can_save(struct machine *m, struct err *e);

#endif
