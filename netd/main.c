/* SPDX-License-Identifier: MIT */
/*
 * wslx-netd: the network of one virtual machine, user-mode NAT, by itself or by passt, or a tap device, in a process that can open no file. Started by wslxd;
 * descriptor 3 is the socket where wslxd connects (serve.h). Lives as long as the machine, also without wslxd.
 */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/log.h"
#include "lib/sandbox/sandbox.h"
#include "netd/quota.h"
#include "netd/passt.h"
#include "netd/serve-passt.h"
#include "netd/serve-tap.h"
#include "netd/serve.h"
#include "netd/tap.h"

enum { CONTROL = 3 };

static const char usage[] =
	"usage: wslx-netd [OPTION...]\n"
	"\n"
	"The network of a virtual machine. Started by wslxd, not by hand.\n"
	"\n"
	"  --network NET       IPv4 network, ADDRESS/BITS (10.0.2.0/24)\n"
	"  --network6 NET      IPv6 network, of 64 bits; \"\": no IPv6 (fd77:736c:7800::/64)\n"
	"  --mtu BYTES         largest packet (65520)\n"
	"  --mac ADDRESS       the guest's\n"
	"  --tap NAME          no NAT: this tap device, by which others see the guest\n"
	"  --dhcp              on it, ask for an address for the guest\n"
	"  --new-tap PROGRAM   no NAT in this process: this program makes a tap device\n"
	"  --passt PROGRAM     this program makes the guest's connections\n"
	"  --no-loopback       the guest does not reach this host's loopback interface\n"
	"  --no-sandbox        for debugging\n";

struct options {
	const char *network, *network6, *mac, *tap, *new_tap, *passt;
	unsigned mtu;
	bool loopback, sandbox, dhcp;
};

static int parse(int argc, char **argv, struct options *o)
{
	static const struct option longopts[] = {{"network", required_argument, NULL, 'n'},
		{"network6", required_argument, NULL, '6'}, {"mtu", required_argument, NULL, 'm'},
		{"mac", required_argument, NULL, 'a'}, {"no-loopback", no_argument, NULL, 'l'},
		{"tap", required_argument, NULL, 't'}, {"dhcp", no_argument, NULL, 'd'},
		{"new-tap", required_argument, NULL, 'T'}, {"passt", required_argument, NULL, 'p'},
		{"no-sandbox", no_argument, NULL, 's'}, {"help", no_argument, NULL, 'h'}, {0}};
	int c;

	*o = (struct options){.network = "10.0.2.0/24",
		.network6 = "fd77:736c:7800::/64",
		.mac = "52:57:53:4c:58:01",
		.mtu = STACK_MTU_MAX,
		.loopback = true,
		.sandbox = true};
	while ((c = getopt_long(argc, argv, "h", longopts, NULL)) != -1) {
		switch (c) {
		case 'n': o->network = optarg; break;
		case '6': o->network6 = optarg; break;
		case 'm': o->mtu = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'a': o->mac = optarg; break;
		case 'l': o->loopback = false; break;
		case 't': o->tap = optarg; break;
		case 'T': o->new_tap = optarg; break;
		case 'p': o->passt = optarg; break;
		case 'd': o->dhcp = true; break;
		case 's': o->sandbox = false; break;
		case 'h': fputs(usage, stdout); exit(0);
		default: return -EINVAL;
		}
	}
	return 0;
}

static int configure(
	const struct options *o, struct stack_config *net, struct device_config *dev, struct err *e)
{
	unsigned m[6];
	int r = stack_config_parse(o->network, o->network6, net, e), n = 0;

	if (r < 0)
		return r;
	if (o->mtu < STACK_MTU_MIN || o->mtu > STACK_MTU_MAX)
		return err_set(e, -EINVAL, "--mtu: %d to %d", STACK_MTU_MIN, STACK_MTU_MAX);
	if (sscanf(o->mac, "%2x:%2x:%2x:%2x:%2x:%2x%n", m, m + 1, m + 2, m + 3, m + 4, m + 5, &n) !=
			6 ||
		o->mac[n] || m[0] & 1)
		return err_set(e, -EINVAL, "'%s' is no address of a network device", o->mac);
	for (int i = 0; i < 6; i++)
		dev->mac[i] = (uint8_t)m[i];
	net->mtu = o->mtu;
	net->loopback = o->loopback;
	dev->mtu = (uint16_t)o->mtu;
	return 0;
}

static int confine(const struct sandbox_profile *profile, struct err *e)
{
	struct sandbox_result res = {0};
	struct sandbox_opts opts = {.ret = &res, .debug = getenv("WSLX_SANDBOX_DEBUG") != NULL};
	int r = sandbox_enter(profile, &opts, e);

	if (r < 0)
		return err_wrap(e, r, "enter the sandbox");
	if (res.note[0])
		log_debug("net", "sandbox: %s", res.note);
	return 0;
}

static int serve_tap(const struct options *o, struct loop *l, const struct device_config *dev,
	struct serve_tap **ret, struct err *e)
{
	struct lease lease;
	int fd = o->new_tap ? tap_new(o->new_tap, &lease, e) : tap_open(o->tap, e);

	return fd < 0 ? fd
		      : serve_tap_new(
				ret, l, CONTROL, fd, o->dhcp, o->new_tap ? &lease : NULL, dev, e);
}

/* Before the sandbox, in which no program can be started. */
static int serve_passt(const struct options *o, struct loop *l, const struct stack_config *net,
	const struct device_config *dev, struct serve_passt **ret, struct err *e)
{
	int fd = passt_start(o->passt, net, e);

	return fd < 0 ? fd : serve_passt_new(ret, l, CONTROL, fd, net, dev, e);
}

/*
 * A connection of libslirp's has two buffers of 128 KiB, of which most connections use a page. Mapped one by one they cost that page;
 * in the heap, where they would be once the first was freed, also what was there before them.
 */
static void buffers_apart(void)
{
#ifdef __GLIBC__
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
#endif
}

int main(int argc, char **argv)
{
	struct stack_config net;
	struct device_config dev = {0};
	struct serve_passt *passt = NULL;
	struct serve_tap *tap = NULL;
	struct serve *serve = NULL;
	struct loop *loop = NULL;
	struct options o;
	struct err e = {0};
	bool taps;
	int r;

	log_init("wslx-netd", LOG_LVL_INFO);
	buffers_apart();
	quota_set();
	if (parse(argc, argv, &o) < 0)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	taps = o.tap || o.new_tap;
	r = configure(&o, &net, &dev, &e);
	if (r == 0)
		r = loop_new(&loop);
	if (r == 0)
		r = taps      ? serve_tap(&o, loop, &dev, &tap, &e)
		    : o.passt ? serve_passt(&o, loop, &net, &dev, &passt, &e)
			      : serve_new(&serve, loop, CONTROL, &net, &dev, &e);
	if (r == 0 && o.sandbox)
		r = confine(taps ? &sandbox_netd_tap : &sandbox_netd, &e);
	if (r == 0)
		r = loop_run(loop);
	if (r < 0)
		log_err(NULL, "%s", e.code ? e.text : strerror(-r));
	serve_free(serve);
	serve_tap_free(tap);
	serve_passt_free(passt);
	loop_free(loop);
	return r < 0;
}
