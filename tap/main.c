/* SPDX-License-Identifier: MIT */
/*
 * wslx-tap: a tap device for a virtual machine of the user who runs it, on a network behind this host's addresses. The one program of
 * wslx with a privilege, CAP_NET_ADMIN, which an administrator gives it as a file's capability, and tap.conf says to whom (wslx-tap(8)).
 * Started by wslx-netd; descriptor 3 is a unix socket, to which goes one message: the device, and "ADDRESS/BITS GATEWAY" for the guest.
 *
 * Who runs it is not trusted: nothing of its environment counts, and of its arguments there is one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "tap/conf.h"
#include "tap/device.h"

enum { SOCKET = 3, GROUPS = 1024, LIMIT_S = 5 };

static const char usage[] =
	"usage: wslx-tap [--check]\n"
	"\n"
	"Makes a tap device for wslx-netd, which starts it.\n"
	"\n"
	"  --check   only say whether this user may have one, and this host can\n";

/* What the first three descriptors are to be, if they are not: no file that is opened later may be taken for them. */
static int first_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static bool has_capability(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2] = {0};

	return syscall(SYS_capget, &head, caps) == 0 && caps[0].effective & (1u << CAP_NET_ADMIN);
}

static int may(struct tap_conf *conf, struct err *e)
{
	bool privileged = getauxval(AT_SECURE);
	const char *path = getenv("WSLX_TAP_CONF");
	gid_t groups[GROUPS + 1];
	int n = getgroups(GROUPS, groups), r;

	/* A program without more rights than its caller may be told another file. */
	if (privileged || !path)
		path = TAP_CONF;
	clearenv();
	groups[n < 0 ? 0 : n] = getgid();
	r = tap_conf_read(path, privileged, getuid(), groups, n < 0 ? 1 : (unsigned)n + 1, conf, e);
	if (r < 0)
		return r;
	if (!conf->allowed)
		return err_set(e, -EPERM,
			"%s does not allow user %u to have a network; a line 'allow NAME' does, written by an administrator",
			path, getuid());
	if (!has_capability())
		return err_set(e, -EPERM,
			"wslx-tap has not the right to; 'setcap cap_net_admin+ep' on that file, by an administrator, gives it");
	return 0;
}

static int send_device(const struct tap_device *d, struct err *e)
{
	char text[64], guest[INET_ADDRSTRLEN], host[INET_ADDRSTRLEN];
	ssize_t n;

	inet_ntop(AF_INET, &d->guest, guest, sizeof(guest));
	inet_ntop(AF_INET, &d->host, host, sizeof(host));
	snprintf(text, sizeof(text), "%s/%d %s", guest, TAP_PREFIX, host);
	n = io_send_fds(SOCKET, text, strlen(text), &d->fd, 1);
	return n < 0 ? err_sys(e, (int)n, "hand %s over", d->name) : 0;
}

int main(int argc, char **argv)
{
	bool check = argc == 2 && !strcmp(argv[1], "--check");
	struct tap_device d = {.fd = -EBADF};
	struct tap_conf conf;
	struct err e = {0};
	int r;

	if (first_descriptors() < 0)
		return 1;
	log_init("wslx-tap", LOG_LVL_INFO);
	/* Names of users and groups may be another machine's to know, and wslxd waits for us. */
	alarm(LIMIT_S);
	if (argc > 1 && !check) {
		fputs(usage, stderr);
		return 2;
	}
	r = may(&conf, &e);
	if (r == 0)
		r = tap_supported(&e);
	if (r == 0 && !check)
		r = tap_nat(conf.network, &e);
	if (r == 0 && !check)
		r = tap_device_new(&d, getuid(), conf.network, &e);
	if (r == 0 && !check)
		r = send_device(&d, &e);
	if (r < 0)
		log_err(NULL, "%s", e.text);
	return r < 0;
}
