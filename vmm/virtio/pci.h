/* SPDX-License-Identifier: MIT */
/*
 * The PCI transport of virtio devices (virtio 1.2 §4.1), modern interface only: one memory BAR with the common,
 * notification, ISR and device configuration structures and the MSI-X tables; one vector a queue and one for
 * configuration changes. Queue notifications go through ioevents where the CPU back end has them.
 */
#ifndef WSLX_VMM_VIRTIO_PCI_H
#define WSLX_VMM_VIRTIO_PCI_H

#include "vmm/chip/pci.h"
#include "vmm/virtio/dev.h"

struct vm;

/*
 * Wraps v, which it takes over when it succeeds. Then: pci_host_add(host, *ret, -1), vm_add_dev(vm, &(*ret)->dev).
 * Freed with the VM. v->name names the device and its saved section.
 */
int virtio_pci_new(struct pci_dev **ret, struct vm *vm, struct virtio_dev *v);
/* Where the device's shared memory is to be, once the device has its slot. The guest finds it there and is to leave it there. */
uint64_t virtio_pci_shm(const struct pci_dev *p);

#endif
