/* SPDX-License-Identifier: MIT */
#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/log.h"

int mount_at(const char *what, const char *where, const char *type, unsigned long flags,
	const char *data, struct err *e)
{
	int r = io_mkdir_p(where, 0755);

	if (r < 0 && r != -EROFS)
		return err_sys(e, r, "create %s", where);
	if (mount(what, where, type, flags, data) < 0)
		return err_sys(e, -errno, "mount %s (%s) at %s", what, type ? type : "bind", where);
	return 0;
}

void pair_send(int fd, struct wire_w *w)
{
	int n = wire_end(w);

	if (n < 0 || send(fd, w->buf, (size_t)n, MSG_NOSIGNAL) != n)
		log_warn("init", "a message between our processes was lost");
}

int pair_recv(int fd, void *buf, size_t cap, struct wire_msg *ret)
{
	ssize_t n = recv(fd, buf, cap, 0);

	if (n < 0)
		return -errno;
	return n == 0 ? -EPIPE : wire_parse(buf, (size_t)n, ret);
}

int write_text(const char *path, const char *text)
{
	cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

int listen_vsock(int backlog, uint32_t *ret_port)
{
	struct sockaddr_vm sa = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = VMADDR_PORT_ANY};
	cleanup_close int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(sa);

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, backlog) < 0 ||
		getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		return -errno;
	*ret_port = sa.svm_port;
	return take_fd(fd);
}
