/* SPDX-License-Identifier: MIT */
#include "netd/passt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/proc.h"

enum { SOCKET_BUFFER = 4 << 20 };

static pid_t run(const char *program, const struct stack_config *net, int fd, struct err *e)
{
	char guest[INET_ADDRSTRLEN], host[INET_ADDRSTRLEN], mask[INET_ADDRSTRLEN], mtu[16], mac[24];
	char text6[2][INET6_ADDRSTRLEN];
	const uint8_t *h = (const uint8_t *)&net->host;
	/*
	 * wslx tells the guest its addresses itself, makes its forwards itself, and asks this host's name servers itself.
	 * What goes to the gateway goes to this host's loopback interface.
	 */
	const char *argv[40] = {program, "--foreground", "--quiet", "--stderr", "--fd", "3",
		"--tcp-ports", "none", "--udp-ports", "none", "--no-dhcp", "--no-dhcpv6", "--no-ra",
		"--dns", "none", "--search", "none", "--mtu", mtu, "--mac-addr", mac, "--address",
		guest, "--netmask", mask, "--gateway", host};
	struct proc_spawn sp = {
		.argv = argv, .std = {-1, STDERR_FILENO, STDERR_FILENO}, .keep = fd, .bound = true};
	unsigned n = 0;

	while (argv[n])
		n++;
	inet_ntop(AF_INET, &net->guest, guest, sizeof(guest));
	inet_ntop(AF_INET, &net->host, host, sizeof(host));
	inet_ntop(AF_INET, &net->mask, mask, sizeof(mask));
	snprintf(mtu, sizeof(mtu), "%u", net->mtu);
	snprintf(mac, sizeof(mac), "52:55:%02x:%02x:%02x:%02x", h[0], h[1], h[2], h[3]);
	if (net->ipv6) {
		argv[n++] = "--address";
		argv[n++] = inet_ntop(AF_INET6, &net->guest6, text6[0], sizeof(text6[0]));
		argv[n++] = "--gateway";
		argv[n++] = inet_ntop(AF_INET6, &net->host6, text6[1], sizeof(text6[1]));
	} else {
		argv[n++] = "--ipv4-only";
	}
	if (!net->loopback)
		argv[n++] = "--no-map-gw";
	return proc_start(&sp, e);
}

int passt_start(const char *program, const struct stack_config *net, struct err *e)
{
	cleanup_close int ours = -EBADF, theirs = -EBADF;
	int pair[2], size = SOCKET_BUFFER;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, -errno, "start passt");
	ours = pair[0];
	theirs = pair[1];
	/* As much as the system allows. */
	setsockopt(ours, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(theirs, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	/* Nobody waits for it: its end shows at the socket. */
	signal(SIGCHLD, SIG_IGN);
	pid = run(program, net, theirs, e);
	return pid < 0 ? pid : take_fd(ours);
}
