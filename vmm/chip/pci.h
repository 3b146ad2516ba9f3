/* SPDX-License-Identifier: MIT */
/*
 * PCI functions: configuration space, base address registers, capabilities and MSI-X, for one
 * device (PCI Local Bus 3.0 §6; PCI Express base §7.5 for the register layout). A device embeds a
 * struct pci_dev and says what is special about it in struct pci_dev_ops; pci.c does the rest, is
 * the device's struct dev_ops (reset, save and load included) and claims the BARs' ranges on the
 * bus as the guest moves and enables them.
 *
 * Setting up: pci_dev_init(), then pci_dev_bar()/pci_dev_cap()/pci_dev_msix(), then pci_host_add()
 * (pci-host.h), all before the VM runs. There is no INTx: interrupts are MSI-X only.
 *
 * Locks: handlers run with pci.dev.lock held. MSI-X has a lock of its own beneath it, so
 * pci_msix_raise() is for any thread, with or without dev.lock.
 */
#ifndef WSLX_VMM_CHIP_PCI_H
#define WSLX_VMM_CHIP_PCI_H

#include <stdbool.h>
#include <stdint.h>
#include "vmm/core/bus.h"
#include "vmm/core/cpu.h"

struct pci_dev;
struct pci_host;
struct os_notifier;

enum { PCI_CFG_SIZE = 256, PCI_BARS = 6, PCI_MSIX_MAX = 2048 };

/* Registers of the type 0 header that devices look at. */
enum {
	PCI_VENDOR = 0x00,
	PCI_COMMAND = 0x04,
	PCI_STATUS = 0x06,
	PCI_REVISION = 0x08,
	PCI_HEADER_TYPE = 0x0e,
	PCI_BAR0 = 0x10,
	PCI_SUBSYS = 0x2c,
	PCI_CAP_PTR = 0x34,
	PCI_INT_LINE = 0x3c,
	PCI_FIRST_CAP = 0x40,
};
enum { PCI_CMD_IO = 1, PCI_CMD_MEM = 2, PCI_CMD_MASTER = 4, PCI_CMD_INTX_OFF = 0x400 };
enum { PCI_CAP_ID_VENDOR = 0x09, PCI_CAP_ID_MSIX = 0x11 };

struct pci_ids {
	uint16_t vendor, device, subvendor, subdevice;
	uint32_t class_code; /* class << 16 | subclass << 8 | interface */
	uint8_t revision;
};

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_MEM32, PCI_BAR_MEM64, PCI_BAR_PORT };

/* All optional. off is inside the BAR; len is 1, 2, 4 or 8. MSI-X table and PBA accesses never
 * reach the device. */
struct pci_dev_ops {
	uint64_t (*bar_read)(struct pci_dev *p, unsigned bar, uint64_t off, unsigned len);
	void (*bar_write)(
		struct pci_dev *p, unsigned bar, uint64_t off, unsigned len, uint64_t val);
	/*
	 * Configuration bytes with side effects (virtio's PCI configuration access capability).
	 * cfg_read: returns true when it answers itself; cfg_write: called after the writable bits
	 * were stored. off/len as accessed: len is 1, 2 or 4 and does not cross a dword.
	 */
	bool (*cfg_read)(struct pci_dev *p, unsigned off, unsigned len, uint32_t *ret);
	void (*cfg_write)(struct pci_dev *p, unsigned off, unsigned len, uint32_t val);
	/* The device's own part; configuration space and MSI-X are done by pci.c before these are
	 * called. */
	void (*reset)(struct pci_dev *p);
	void (*save)(struct pci_dev *p, struct state_w *w);
	int (*load)(struct pci_dev *p, struct state_r *r);
	void (*free)(
		struct pci_dev *p); /* stops the device's work, calls pci_dev_done(), frees it */
};

struct pci_bar {
	enum pci_bar_kind kind;
	uint64_t size;	     /* power of two */
	uint64_t reset_addr; /* what the host gave it; the guest finds it there after a reset */
	uint64_t mapped;     /* where it is on the bus */
	bool is_mapped;
};

/* 64-bit BARs that are not larger lie below 4 GiB, if there is room. */
enum { PCI_SMALL_BAR = 1 << 20 };

struct pci_msix;

struct pci_dev {
	struct dev dev;
	const struct pci_dev_ops *ops;
	struct pci_host *host; /* set by pci_host_add() */
	unsigned slot;
	uint8_t cfg[PCI_CFG_SIZE];   /* little-endian, as the guest sees it */
	uint8_t wmask[PCI_CFG_SIZE]; /* bits the guest may write */
	uint8_t cfg_reset[PCI_CFG_SIZE];
	struct pci_bar bar[PCI_BARS]; /* a 64-bit BAR uses entry n and leaves n + 1 NONE */
	unsigned next_cap, last_cap;
	struct pci_msix *msix;
	unsigned msix_cap;
};

/* id: unique name in the VM, also of the saved section. */
void pci_dev_init(struct pci_dev *p, const struct pci_dev_ops *ops, const struct pci_ids *ids,
	const char *id);
void pci_dev_done(struct pci_dev *p); /* for a device that was never handed to vm_add_dev() */

/* size: a power of two, at least 16 (memory: at least 4096, so that no two devices share a page).
 */
void pci_dev_bar(struct pci_dev *p, unsigned bar, enum pci_bar_kind kind, uint64_t size);

/*
 * Appends a capability: body is what follows the two header bytes, wmask (NULL: read-only) its
 * writable bits. Returns its offset in configuration space (of the capability ID byte), or -ENOSPC.
 */
int pci_dev_cap(
	struct pci_dev *p, uint8_t cap_id, const void *body, unsigned len, const void *wmask);

/* MSI-X with n vectors (1..PCI_MSIX_MAX), table and PBA in the given BAR (already declared), 8-byte
 * aligned. */
int pci_dev_msix(struct pci_dev *p, const struct cpu_ops *cpu, struct cpu_vm *vm, unsigned n,
	unsigned bar, uint32_t table_off, uint32_t pba_off);
/* Bytes that table and PBA of n vectors take. */
#define PCI_MSIX_TABLE_SIZE(n) ((n)*16u)
#define PCI_MSIX_PBA_SIZE(n)   (((n) + 63u) / 64u * 8u)

/* Sends vector vec, or leaves it pending while it is masked. Lost while MSI-X is off. Out of range:
 * nothing. */
void pci_msix_raise(struct pci_dev *p, unsigned vec);
bool pci_msix_enabled(struct pci_dev *p);
unsigned pci_msix_vectors(const struct pci_dev *p);
/* What another process signals to raise the vector (NULL where the back end has no such thing).
 * Borrowed. */
struct os_notifier *pci_msix_notifier(struct pci_dev *p, unsigned vec);

/* Address of a BAR now, when it is mapped; for the device's ioevents. Call with dev.lock held or
 * the VM stopped. */
bool pci_bar_addr(const struct pci_dev *p, unsigned bar, uint64_t *ret);

/* The host bridge's side. off + len must not cross a dword. Take dev.lock themselves. */
uint32_t pci_cfg_read(struct pci_dev *p, unsigned off, unsigned len);
void pci_cfg_write(struct pci_dev *p, unsigned off, unsigned len, uint32_t val);
/* Configuration space as a reset leaves it, BARs included. */
void pci_cfg_reset(struct pci_dev *p);

#endif
