/* SPDX-License-Identifier: MIT */
#include "daemon/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/proc.h"

/* What /sys says of it; "" when it says nothing. */
static void attribute(const char *name, const char *what, char *buf, size_t cap)
{
	cleanup_free char *text = NULL;
	char path[PATH_MAX];

	*buf = '\0';
	snprintf(path, sizeof(path), "/sys/class/net/%s/%s", name, what);
	if (io_read_file(path, 256, &text, NULL) == 0)
		snprintf(buf, cap, "%.*s", (int)strcspn(text, "\n"), text);
}

static bool is_in_group(const char *gid)
{
	gid_t groups[1024], want = (gid_t)strtoul(gid, NULL, 10);
	int n = getgroups(ARRAY_LEN(groups), groups);

	for (int i = 0; i < n; i++)
		if (groups[i] == want)
			return true;
	return getegid() == want;
}

int tap_check(const char *name, struct err *e)
{
	char text[64], group[64];

	if (!*name || strlen(name) >= IFNAMSIZ || strchr(name, '/') || !strcmp(name, ".") ||
		!strcmp(name, ".."))
		return err_set(e, -EINVAL, "vmSwitch: '%s' is no name of a network device", name);
	if (!if_nametoindex(name))
		return err_set(e, -ENODEV,
			"vmSwitch: there is no network device '%s'; an administrator makes one by 'ip tuntap add dev %s mode tap user %u'",
			name, name, (unsigned)geteuid());
	attribute(name, "tun_flags", text, sizeof(text));
	/* IFF_TAP of <linux/if_tun.h> */
	if (!(strtoul(text, NULL, 16) & 2))
		return err_set(e, -EINVAL,
			"vmSwitch: %s is no tap device; a tap device that is a port of it will do",
			name);
	if (geteuid() == 0)
		return 0;
	attribute(name, "owner", text, sizeof(text));
	attribute(name, "group", group, sizeof(group));
	/* As the kernel has it: neither is for everybody. */
	if ((strcmp(text, "-1") != 0 && strtoul(text, NULL, 10) != geteuid()) ||
		(strcmp(group, "-1") != 0 && !is_in_group(group)))
		return err_set(e, -EPERM, "vmSwitch: the tap device %s is another user's", name);
	return 0;
}

unsigned tap_mtu(const char *name)
{
	char text[16];
	unsigned long mtu;

	attribute(name, "mtu", text, sizeof(text));
	mtu = strtoul(text, NULL, 10);
	return mtu >= 68 && mtu <= 65535 ? (unsigned)mtu : 1500;
}

static uint64_t fnv(uint64_t h, const char *text)
{
	for (; *text; text++)
		h = (h ^ (uint8_t)*text) * 0x100000001b3ull;
	return h;
}

void tap_mac(const char *name, char *buf, size_t cap)
{
	cleanup_free char *machine = NULL;
	uint64_t h = 0xcbf29ce484222325ull;

	if (io_read_file("/etc/machine-id", 64, &machine, NULL) == 0)
		h = fnv(h, machine);
	h = fnv(h, name);
	snprintf(buf, cap, "52:57:53:%02x:%02x:%02x", (unsigned)(h >> 40) & 0xff,
		(unsigned)(h >> 24) & 0xff, (unsigned)(h >> 8) & 0xff);
}

int tap_find(char *buf, size_t cap, struct err *e)
{
	int r = proc_find("wslx-tap", "tap", "WSLX_TAP", buf, cap, e);

	return r < 0 ? err_wrap(e, r, "networkingMode=tap") : 0;
}

/* What it says, which is one line, until it ends. */
static void read_all(int fd, char *buf, size_t cap)
{
	size_t len = 0;
	ssize_t n;

	while (len < cap - 1 && (n = read(fd, buf + len, cap - 1 - len)) != 0)
		if (n > 0)
			len += (size_t)n;
		else if (errno != EINTR)
			break;
	buf[len] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
}

int tap_may(struct err *e)
{
	cleanup_close int ours = -EBADF, theirs = -EBADF;
	char program[PATH_MAX], said[400];
	const char *const argv[] = {program, "--check", NULL};
	int r = tap_find(program, sizeof(program), e), pipe[2], status;
	pid_t pid;

	if (r < 0)
		return r;
	if (pipe2(pipe, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "start wslx-tap");
	ours = pipe[0];
	theirs = pipe[1];
	/* It reads one small file, and ends by itself if it cannot find out who somebody is. */
	pid = proc_start(
		&(struct proc_spawn){.argv = argv, .std = {-1, -1, theirs}, .keep = -1}, e);
	if (pid < 0)
		return pid;
	close(take_fd(theirs));
	read_all(ours, said, sizeof(said));
	if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		snprintf(said, sizeof(said),
			"wslx-tap had no answer in time: are the users' names at a server that is away?");
	return err_set(e, -EPERM, "networkingMode=tap: %s", *said ? said : "wslx-tap failed");
}
