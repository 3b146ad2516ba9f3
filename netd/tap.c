/* SPDX-License-Identifier: MIT */
#include "netd/tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/proc.h"

static int set_headers(int fd, struct err *e)
{
	int size = DEVICE_HEADER;

	return ioctl(fd, TUNSETVNETHDRSZ, &size) < 0
		       ? err_sys(e, -errno, "the tap device's headers")
		       : 0;
}

int tap_open(const char *name, struct err *e)
{
	cleanup_close int fd = -EBADF;
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int r;

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
	r = set_headers(fd, e);
	return r < 0 ? r : take_fd(fd);
}

static bool parse_addresses(const char *text, struct lease *ret)
{
	char guest[INET_ADDRSTRLEN], host[INET_ADDRSTRLEN];

	*ret = (struct lease){0};
	return sscanf(text, "%15[0-9.]/%u %15[0-9.]", guest, &ret->prefix, host) == 3 &&
	       ret->prefix <= 32 && inet_pton(AF_INET, guest, &ret->addr) == 1 &&
	       inet_pton(AF_INET, host, &ret->router) == 1;
}

int tap_new(const char *program, struct lease *ret, struct err *e)
{
	const char *const argv[] = {program, NULL};
	cleanup_close int ours = -EBADF, theirs = -EBADF, fd = -EBADF;
	struct timeval limit = {.tv_sec = 30};
	unsigned n_fds = 1;
	char text[128];
	int pair[2], r;
	ssize_t got;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, -errno, "start wslx-tap");
	ours = pair[0];
	theirs = pair[1];
	setsockopt(ours, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	pid = proc_start(&(struct proc_spawn){.argv = argv,
				 .std = {-1, STDERR_FILENO, STDERR_FILENO},
				 .keep = theirs,
				 .bound = true},
		e);
	if (pid < 0)
		return pid;
	close(take_fd(theirs));
	got = io_recv_fds(ours, text, sizeof(text) - 1, &fd, &n_fds);
	waitpid(pid, NULL, 0);
	/* It has said why. */
	if (got <= 0 || !n_fds)
		return err_set(e, -ENODEV, "wslx-tap gave no device");
	text[got] = '\0';
	if (!parse_addresses(text, ret))
		return err_set(e, -EBADMSG, "wslx-tap gave bad addresses");
	r = set_headers(fd, e);
	return r < 0 ? r : take_fd(fd);
}

int tap_offloads(int fd, const struct device_offloads *o)
{
	unsigned flags = 0;

	if (o->csum)
		flags = TUN_F_CSUM | (o->tso4 ? TUN_F_TSO4 : 0) | (o->tso6 ? TUN_F_TSO6 : 0) |
			(o->ecn && (o->tso4 || o->tso6) ? TUN_F_TSO_ECN : 0);
	return ioctl(fd, TUNSETOFFLOAD, flags) < 0 ? -errno : 0;
}
