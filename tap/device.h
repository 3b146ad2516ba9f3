/* SPDX-License-Identifier: MIT */
/* The tap device of one virtual machine, and what leads its packets on. Linux, tuntap.rst, netdevice(7), nft(8). */
#ifndef WSLX_TAP_DEVICE_H
#define WSLX_TAP_DEVICE_H

#include <net/if.h>
#include <netinet/in.h>
#include <sys/types.h>
#include "lib/base/err.h"

enum { TAP_PREFIX = 24, TAP_DEVICES = 256, TAP_DEVICES_OF_USER = 16 };

struct tap_device {
	int fd; /* the caller's; the device goes with it */
	char name[IFNAMSIZ];
	struct in_addr host, guest; /* of its own network, one of TAP_DEVICES */
};

/* The next that is free of network's, up, with the host's address; network is of 16 bits. */
int tap_device_new(struct tap_device *ret, uid_t owner, struct in_addr network, struct err *e);

/* Whether tap_nat() could be done; libnftables ends the process where there is nothing to talk to. */
int tap_supported(struct err *e);
/*
 * This host forwards, hides the guests of all such devices behind its own addresses, lets nobody in to them who was not asked, and
 * keeps them apart. Nothing changes when it is so already.
 */
int tap_nat(struct in_addr network, struct err *e);

#endif
