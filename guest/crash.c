/* SPDX-License-Identifier: MIT */
/*
 * Core dumps go to the host. The kernel runs this program in the VM's root namespaces, whichever distribution the dump is
 * from, with the dump on its standard input.
 */
#include "guest/vm.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "guest/guest.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"

/* A host that does not take the dump must not hold up the program that crashed for ever. */
enum { SEND_S = 30, PARALLEL = 4, CHUNK = 64 << 10 };

int crash_install(void)
{
	char limit[] = {'0' + PARALLEL, 0};
	int r = write_text("/proc/sys/kernel/core_pipe_limit", limit);

	return r < 0 ? r
		     : write_text("/proc/sys/kernel/core_pattern",
			       "|/proc/1/exe wslx-crash %p %t %s %E");
}

static int dial(void)
{
	struct sockaddr_vm sa = {
		.svm_family = AF_VSOCK, .svm_cid = WSLX_CID_HOST, .svm_port = WSLX_PORT_CRASH};
	struct timeval tv = {.tv_sec = SEND_S};
	cleanup_close int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) < 0 ||
		connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	return take_fd(fd);
}

int crash_main(int argc, char **argv)
{
	static uint8_t buf[CHUNK];
	const char *exe, *base;
	struct wire_w w;
	ssize_t n;

	if (argc != 5)
		return 2;
	/* %E has '!' for '/'. */
	exe = argv[4];
	base = strrchr(exe, '!');
	cleanup_close int fd = dial();
	if (fd < 0)
		return 1;
	wire_begin(&w, buf, sizeof(buf), WSLX_CRASH, 0, 0, 0);
	wire_u32(&w, WSLX_A_PID, (uint32_t)strtoul(argv[1], NULL, 10));
	wire_u64(&w, WSLX_A_TIME_NS, strtoull(argv[2], NULL, 10) * 1000000000u);
	wire_u32(&w, WSLX_A_SIGNAL, (uint32_t)strtoul(argv[3], NULL, 10));
	wire_str(&w, WSLX_A_NAME, base ? base + 1 : exe);
	if (wire_send(&w, fd) < 0)
		return 1;
	while ((n = read(STDIN_FILENO, buf, sizeof(buf))) > 0)
		if (io_write_full(fd, buf, (size_t)n) < 0)
			return 1;
	return n < 0;
}
