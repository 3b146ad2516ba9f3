/* SPDX-License-Identifier: MIT */
/* Interfaces by rtnetlink(7): each change is one request that the kernel acknowledges. */
#include "guest/net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "guest/guest.h"
#include "lib/base/cleanup.h"
#include "lib/base/log.h"

struct request {
	struct nlmsghdr h;
	union {
		struct ifinfomsg link;
		struct ifaddrmsg addr;
		struct rtmsg route;
	};
	uint8_t attrs[256];
};

static void begin(struct request *q, unsigned type, unsigned flags, size_t body)
{
	*q = (struct request){
		.h = {.nlmsg_len = (uint32_t)NLMSG_LENGTH(body),
			.nlmsg_type = (uint16_t)type,
			.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags)}};
}

static void attr(struct request *q, unsigned type, const void *data, size_t len)
{
	struct rtattr *a = (void *)((uint8_t *)q + NLMSG_ALIGN(q->h.nlmsg_len));

	a->rta_type = (uint16_t)type;
	a->rta_len = (uint16_t)RTA_LENGTH(len);
	memcpy(RTA_DATA(a), data, len);
	q->h.nlmsg_len = (uint32_t)(NLMSG_ALIGN(q->h.nlmsg_len) + RTA_SPACE(len));
}

static int open_netlink(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	return fd < 0 ? -errno : fd;
}

/* Sends it to the namespace in which fd was opened; what the kernel answers. */
static int ask_at(int fd, struct request *q)
{
	struct sockaddr_nl to = {.nl_family = AF_NETLINK};
	union {
		struct nlmsghdr h;
		uint8_t bytes[1024];
	} reply;
	struct nlmsgerr *err = NLMSG_DATA(&reply.h);

	if (sendto(fd, q, q->h.nlmsg_len, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
		return -errno;
	if (recv(fd, &reply, sizeof(reply), 0) < (ssize_t)NLMSG_LENGTH(sizeof(*err)) ||
		reply.h.nlmsg_type != NLMSG_ERROR)
		return -EPROTO;
	return err->error;
}

static int ask(struct request *q)
{
	cleanup_close int fd = open_netlink();

	return fd < 0 ? fd : ask_at(fd, q);
}

static int set_link(unsigned index, unsigned mtu)
{
	struct request q;
	uint32_t v = mtu;

	begin(&q, RTM_NEWLINK, 0, sizeof(q.link));
	q.link.ifi_index = (int)index;
	q.link.ifi_flags = q.link.ifi_change = IFF_UP;
	if (mtu)
		attr(&q, IFLA_MTU, &v, sizeof(v));
	return ask(&q);
}

static int rename_link(const char *name, const char *to)
{
	struct request q;

	begin(&q, RTM_NEWLINK, 0, sizeof(q.link));
	q.link.ifi_index = (int)if_nametoindex(name);
	attr(&q, IFLA_IFNAME, to, strlen(to) + 1);
	return ask(&q);
}

static size_t addr_len(const struct net_addr *a)
{
	return a->family == AF_INET ? 4 : 16;
}

static int add_address(unsigned index, const struct net_addr *a)
{
	struct request q;
	uint32_t flags = IFA_F_NODAD;

	begin(&q, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(q.addr));
	q.addr.ifa_family = (uint8_t)a->family;
	q.addr.ifa_prefixlen = (uint8_t)a->prefix;
	q.addr.ifa_index = index;
	attr(&q, IFA_LOCAL, a->addr, addr_len(a));
	attr(&q, IFA_ADDRESS, a->addr, addr_len(a));
	if (a->family == AF_INET6)
		attr(&q, IFA_FLAGS, &flags, sizeof(flags));
	return ask(&q);
}

static void remove_address(unsigned index, const struct net_addr *a)
{
	struct request q;
	int r;

	begin(&q, RTM_DELADDR, 0, sizeof(q.addr));
	q.addr.ifa_family = (uint8_t)a->family;
	q.addr.ifa_prefixlen = (uint8_t)a->prefix;
	q.addr.ifa_index = index;
	attr(&q, IFA_LOCAL, a->addr, addr_len(a));
	r = ask(&q);
	if (r < 0)
		log_warn("net", "remove an address: %s", strerror(-r));
}

static bool has_address(const struct net_plan *plan, const struct net_addr *a)
{
	for (unsigned i = 0; i < plan->n_addr; i++)
		if (!memcmp(&plan->addr[i], a, sizeof(*a)))
			return true;
	return false;
}

static int add_default_route(unsigned index, const struct net_addr *gateway)
{
	struct request q;
	uint32_t out = index;

	begin(&q, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof(q.route));
	q.route = (struct rtmsg){.rtm_family = (uint8_t)gateway->family,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_STATIC,
		.rtm_type = RTN_UNICAST};
	attr(&q, RTA_GATEWAY, gateway->addr, addr_len(gateway));
	attr(&q, RTA_OIF, &out, sizeof(out));
	return ask(&q);
}

void net_loopback_up(void)
{
	int r = set_link(if_nametoindex("lo"), 0);

	if (r < 0)
		log_warn("net", "loopback interface: %s", strerror(-r));
}

/* What the host says is all there is, unless others are on this network, too. */
static void set_autoconf(const char *name, bool yes)
{
	static const char *const files[] = {"accept_ra", "accept_dad"};
	char path[96];

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/%s", name, files[i]);
		write_text(path, yes ? "1" : "0");
	}
}

/* The kernel takes a moment to find that the link is up, and drops what is sent before: the first program is not to meet that. */
static void wait_for_link(const char *name)
{
	enum { STEP_MS = 5, LIMIT_MS = 2000 };
	struct ifreq ifr = {0};
	cleanup_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	for (int ms = 0; fd >= 0 && ms < LIMIT_MS; ms += STEP_MS) {
		if (ioctl(fd, SIOCGIFFLAGS, &ifr) < 0 || ifr.ifr_flags & IFF_RUNNING)
			return;
		usleep(STEP_MS * 1000);
	}
}

int net_configure(
	const char *name, const struct net_plan *plan, const struct net_plan *before, struct err *e)
{
	unsigned index = if_nametoindex(name);
	int r;

	if (!index)
		return err_set(e, -ENODEV, "there is no network device '%s'", name);
	set_autoconf(name, plan->autoconf);
	r = set_link(index, plan->mtu);
	if (r < 0)
		return err_sys(e, r, "bring %s up", name);
	/* Routes by it go with it. */
	for (unsigned i = 0; before && i < before->n_addr; i++)
		if (!has_address(plan, &before->addr[i]))
			remove_address(index, &before->addr[i]);
	for (unsigned i = 0; i < plan->n_addr; i++) {
		r = add_address(index, &plan->addr[i]);
		/* a kernel without this family goes without */
		if (r < 0 && r != -EAFNOSUPPORT && r != -EOPNOTSUPP)
			return err_sys(e, r, "give %s an address", name);
	}
	for (unsigned i = 0; i < plan->n_gateway; i++) {
		r = add_default_route(index, &plan->gateway[i]);
		if (r < 0 && r != -EAFNOSUPPORT && r != -EOPNOTSUPP)
			return err_sys(e, r, "route through %s", name);
	}
	wait_for_link(name);
	return 0;
}

/* Attributes inside an attribute: *at is where its length goes. */
static struct rtattr *nest(struct request *q, unsigned type)
{
	struct rtattr *a = (void *)((uint8_t *)q + NLMSG_ALIGN(q->h.nlmsg_len));

	attr(q, type, "", 0);
	return a;
}

static void nest_end(struct request *q, struct rtattr *a)
{
	a->rta_len = (uint16_t)((uint8_t *)q + q->h.nlmsg_len - (uint8_t *)a);
}

int net_isolate(const char *name, const struct net_plan *plan, struct err *e)
{
	cleanup_close int outside = open_netlink(), ns = -EBADF;
	uint32_t below = if_nametoindex(name), mode = MACVLAN_MODE_BRIDGE, fd;
	struct rtattr *info, *data;
	struct request q;
	int r;

	if (!below || !plan->n_addr)
		return err_set(e, -ENODEV, "the virtual machine has no network");
	if (outside < 0)
		return err_sys(e, outside, "ask for a network device");
	if (unshare(CLONE_NEWNET) < 0)
		return err_sys(e, -errno, "make a network namespace");
	ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (ns < 0)
		return err_sys(e, -errno, "open its network namespace");
	fd = (uint32_t)ns;
	net_loopback_up();
	/* A second device on the machine's: nothing has to be routed or translated for it. */
	begin(&q, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(q.link));
	attr(&q, IFLA_LINK, &below, sizeof(below));
	/* Names are compared outside, too: it gets its own when it is in. */
	attr(&q, IFLA_IFNAME, "new0", strlen("new0") + 1);
	attr(&q, IFLA_NET_NS_FD, &fd, sizeof(fd));
	info = nest(&q, IFLA_LINKINFO);
	attr(&q, IFLA_INFO_KIND, "macvlan", strlen("macvlan"));
	data = nest(&q, IFLA_INFO_DATA);
	attr(&q, IFLA_MACVLAN_MODE, &mode, sizeof(mode));
	nest_end(&q, data);
	nest_end(&q, info);
	r = ask_at(outside, &q);
	if (r == 0)
		r = rename_link("new0", name);
	return r < 0 ? err_sys(e, r, "make its network device")
		     : net_configure(name, plan, NULL, e);
}
