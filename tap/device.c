/* SPDX-License-Identifier: MIT */
#include "tap/device.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"

#define NAME "wslx"

/* --- the device --- */

/*
 * Whose a device is, is in its alias: its owner, whoever has its descriptor can change.
 * ALIAS and the number of the user.
 */
#define ALIAS "wslx of user "

/* One at least, the one that is being made; -errno: they cannot be counted. */
static int devices_of(uid_t user)
{
	glob_t found = {0};
	int n = glob("/sys/class/net/" NAME "*/ifalias", 0, NULL, &found) == 0 ? 0 : -EIO;

	for (size_t i = 0; n >= 0 && i < found.gl_pathc; i++) {
		cleanup_free char *text = NULL;
		int r = io_read_file(found.gl_pathv[i], 256, &text, NULL);

		if (r == 0)
			n += !strncmp(text, ALIAS, strlen(ALIAS)) &&
			     strtoul(text + strlen(ALIAS), NULL, 10) == user;
		else if (r != -ENOENT && r != -ENODEV) /* gone by now */
			n = r;
	}
	globfree(&found);
	return n ? n : -EIO;
}

/* rtnetlink(7) */
static int set_alias(const char *name, uid_t user)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg i;
		struct rtattr a;
		char text[32];
	} q = {.h = {.nlmsg_type = RTM_NEWLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
		.i.ifi_index = (int)if_nametoindex(name),
		.a.rta_type = IFLA_IFALIAS};
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
		char rest[256];
	} answer;
	cleanup_close int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int n = snprintf(q.text, sizeof(q.text), ALIAS "%u", user);

	q.a.rta_len = (unsigned short)RTA_LENGTH(n);
	q.h.nlmsg_len = (uint32_t)(offsetof(typeof(q), text) + RTA_ALIGN((size_t)n));
	if (fd < 0 || send(fd, &q, q.h.nlmsg_len, 0) < 0 ||
		recv(fd, &answer, sizeof(answer), 0) < 0)
		return -errno;
	return answer.h.nlmsg_type == NLMSG_ERROR ? answer.e.error : -EPROTO;
}

static int setting(const char *path, const char *value)
{
	cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -errno : io_write_full(fd, value, strlen(value));
}

static int device_setting(const char *family, const char *name, const char *key, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", family, name, key);
	return setting(path, value);
}

static int bring_up(const struct tap_device *d, struct err *e)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr = d->host};
	cleanup_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = {0};
	int r;

	if (fd < 0)
		return err_sys(e, -errno, "%s", d->name);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", d->name);
	memcpy(&ifr.ifr_addr, &sa, sizeof(sa));
	if (ioctl(fd, SIOCSIFADDR, &ifr) < 0)
		return err_sys(e, -errno, "%s: its address", d->name);
	sa.sin_addr.s_addr = htonl(UINT32_MAX << (32 - TAP_PREFIX));
	memcpy(&ifr.ifr_netmask, &sa, sizeof(sa));
	if (ioctl(fd, SIOCSIFNETMASK, &ifr) < 0)
		return err_sys(e, -errno, "%s: its network", d->name);
	/* Packets with others' addresses stay here, if the host as a whole is not laxer (conf/all/rp_filter). */
	r = device_setting("ipv4", d->name, "rp_filter", "1");
	if (r < 0)
		return err_sys(e, r, "%s: rp_filter", d->name);
	/* A host without IPv6 has no such file. */
	r = device_setting("ipv6", d->name, "disable_ipv6", "1");
	if (r < 0 && r != -ENOENT)
		return err_sys(e, r, "%s: disable_ipv6", d->name);
	ifr.ifr_flags = IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
		return err_sys(e, -errno, "%s", d->name);
	return 0;
}

int tap_device_new(struct tap_device *ret, uid_t owner, struct in_addr network, struct err *e)
{
	/* The kernel puts the lowest number there that is free. */
	struct ifreq ifr = {.ifr_name = NAME "%d", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	struct tap_device d = {.fd = -EBADF};
	cleanup_close int fd = -EBADF;
	unsigned number;
	int r;

	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, -errno, "open /dev/net/tun");
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return err_sys(e, -errno, "make a tap device");
	snprintf(d.name, sizeof(d.name), "%s", ifr.ifr_name);
	if (sscanf(d.name, NAME "%u", &number) != 1 || number >= TAP_DEVICES)
		return err_set(e, -EDQUOT, "there are %d tap devices already", TAP_DEVICES);
	if (ioctl(fd, TUNSETOWNER, (unsigned long)owner) < 0)
		return err_sys(e, -errno, "%s: its owner", d.name);
	r = set_alias(d.name, owner);
	if (r < 0)
		return err_sys(e, r, "%s: its alias", d.name);
	/* This one included, and it goes if it is one too many: of two at a time neither slips through. */
	r = owner ? devices_of(owner) : 0;
	if (r < 0)
		return err_sys(e, r, "count the tap devices of user %u in /sys/class/net", owner);
	if (r > TAP_DEVICES_OF_USER)
		return err_set(e, -EDQUOT, "user %u has %d tap devices already", owner,
			TAP_DEVICES_OF_USER);
	d.host.s_addr = htonl(ntohl(network.s_addr) + (number << 8) + 1);
	d.guest.s_addr = htonl(ntohl(network.s_addr) + (number << 8) + 2);
	r = bring_up(&d, e);
	if (r < 0)
		return r;
	d.fd = take_fd(fd);
	*ret = d;
	return 0;
}

/* --- where its packets go --- */

/* One transaction: what is there already is replaced by the same. */
static const char rules[] =
	"table inet wslx_tap\n"
	"delete table inet wslx_tap\n"
	"table inet wslx_tap {\n"
	"	chain postrouting {\n"
	"		type nat hook postrouting priority 100; policy accept;\n"
	"		ip saddr %s/16 oifname != \"" NAME "*\" masquerade\n"
	"	}\n"
	"	chain forward {\n"
	"		type filter hook forward priority 0; policy accept;\n"
	"		iifname \"" NAME "*\" ip saddr != %s/16 drop\n"
	"		oifname \"" NAME "*\" ct state established,related accept\n"
	"		oifname \"" NAME "*\" drop\n"
	"	}\n"
	"}\n";

int tap_supported(struct err *e)
{
	cleanup_close int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);

	return fd < 0 ? err_sys(e, -errno,
				"nftables, which the host's kernel lacks (module nf_tables)")
		      : 0;
}

int tap_nat(struct in_addr network, struct err *e)
{
	struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);
	char net[INET_ADDRSTRLEN], text[1024];
	int r = 0;

	if (!nft)
		return err_set(e, -ENOMEM, "nftables: out of memory");
	inet_ntop(AF_INET, &network, net, sizeof(net));
	snprintf(text, sizeof(text), rules, net, net);
	nft_ctx_buffer_error(nft);
	nft_ctx_buffer_output(nft);
	if (nft_run_cmd_from_buffer(nft, text) != 0) {
		const char *why = nft_ctx_get_error_buffer(nft);

		r = err_set(e, -EIO, "nftables: %.*s", (int)strcspn(why, "\n"), why);
	}
	nft_ctx_free(nft);
	if (r == 0) {
		r = setting("/proc/sys/net/ipv4/ip_forward", "1");
		if (r < 0)
			err_sys(e, r, "/proc/sys/net/ipv4/ip_forward");
	}
	return r;
}
