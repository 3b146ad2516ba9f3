/* SPDX-License-Identifier: MIT */
#include "netd/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "lib/base/cleanup.h"

int tap_open(const char *name, struct err *e)
{
	cleanup_close int fd = -EBADF;
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int size = DEVICE_HEADER;

	/* Without this, root would get a new device of that name, which nobody has connected to anything. */
	if (!if_nametoindex(name))
		return err_set(e, -ENODEV, "there is no network device '%s'", name);
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, -errno, "open /dev/net/tun");
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return errno == EINVAL ? err_set(e, -EINVAL, "%s is no tap device", name)
				       : err_sys(e, -errno, "tap device %s", name);
	if (ioctl(fd, TUNSETVNETHDRSZ, &size) < 0)
		return err_sys(e, -errno, "tap device %s: headers", name);
	return take_fd(fd);
}

int tap_offloads(int fd, const struct device_offloads *o)
{
	unsigned flags = 0;

	if (o->csum)
		flags = TUN_F_CSUM | (o->tso4 ? TUN_F_TSO4 : 0) | (o->tso6 ? TUN_F_TSO6 : 0) |
			(o->ecn && (o->tso4 || o->tso6) ? TUN_F_TSO_ECN : 0);
	return ioctl(fd, TUNSETOFFLOAD, flags) < 0 ? -errno : 0;
}
