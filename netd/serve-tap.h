/* SPDX-License-Identifier: MIT */
/* wslx-netd on a tap device: frames go through as they are, with their offloads; and the guest's lease by DHCP. */
#ifndef WSLX_NETD_SERVE_TAP_H
#define WSLX_NETD_SERVE_TAP_H

#include "lib/base/err.h"
#include "netd/device.h"
#include "netd/dhcp.h"

struct serve_tap;

/*
 * control: a unix socket that listens, taken over; tap: the device (tap.h), the same; both also on failure. fixed: the guest's lease for ever, or NULL.
 * Methods:
 *
 *	device  {} and a descriptor -> {}
 *	lease   {"seen": N} -> {"seen": M, "address": "192.0.2.5/24", "gateway", "nameservers": [...], "domain"}
 *	        when there is one other than the Nth; without an address: there is none any more
 *	status  {} -> {"connected", "rx_frames", ...}
 */
int serve_tap_new(struct serve_tap **ret, struct loop *l, int control, int tap, bool dhcp,
	const struct lease *fixed, const struct device_config *dev, struct err *e);
void serve_tap_free(struct serve_tap *s);

#endif
