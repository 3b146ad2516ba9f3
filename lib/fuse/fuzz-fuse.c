/* SPDX-License-Identifier: MIT */
/*
 * A hostile kernel: the input is a sequence of requests, each two bytes of length and then the request behind a
 * header of which opcode, node and flags come from the input. The files are in a memory file system or a temporary folder; what
 * the server must never do is to touch the canary beside it, crash, or write beyond the reply's buffer.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wslx/abi/watch.h>
#include "lib/base/attr.h"
#include "lib/base/le.h"
#include "lib/fs/host.h"
#include "lib/fuse/fuse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUT = 8192, GUARD = 64, MAX_REQUESTS = 64 };

static char top[64];
static int root = -1;

static void clean(int dir);

static void set_up(void)
{
	static const char *const folders[] = {"/dev/shm", "/tmp"};

	umask(0);
	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		snprintf(top, sizeof(top), "%s/wslx-fuzz.XXXXXX", folders[i]);
		if (mkdtemp(top))
			break;
	}
	int t = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t < 0 || mkdirat(t, "share", 0755) < 0)
		abort();
	close(openat(t, "canary", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	root = openat(t, "share", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	close(t);
	if (root < 0)
		abort();
}

static void tear_down(void)
{
	char path[96];
	struct stat st;

	snprintf(path, sizeof(path), "%s/canary", top);
	if (stat(path, &st) < 0 || st.st_size != 0 || (st.st_mode & 07777) != 0600)
		abort();
	unlink(path);
	clean(root);
	snprintf(path, sizeof(path), "%s/share", top);
	rmdir(path);
	rmdir(top);
}

/* One level of names and what is below; the input cannot make much more. */
static void clean(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char buf[4096];
	long n;

	while (fd >= 0 && (n = syscall(SYS_getdents64, fd, buf, sizeof(buf))) > 0)
		for (long at = 0; at < n; at += le16_get(buf + at + 16)) {
			const char *name = buf + at + 19;

			if (!strcmp(name, ".") || !strcmp(name, "..") ||
				unlinkat(dir, name, 0) == 0)
				continue;
			int sub =
				openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (sub >= 0) {
				fchmod(sub, 0700);
				clean(sub);
				close(sub);
			}
			unlinkat(dir, name, AT_REMOVEDIR);
		}
	if (fd >= 0)
		close(fd);
}

/* The numbers a real kernel would know by now take the place of small ones in the input. */
static uint64_t nodes[8] = {1}, files[8];

static void learn(const struct fuse_in_header *h, const uint8_t *out, size_t len)
{
	static unsigned at;

	if (le32_get(out + 4) != 0)
		return;
	switch (h->opcode) {
	case FUSE_LOOKUP:
	case FUSE_MKDIR:
	case FUSE_MKNOD:
	case FUSE_CREATE:
	case FUSE_SYMLINK:
		if (len >= 24)
			nodes[1 + at++ % 7] = le64_get(out + 16);
		if (h->opcode == FUSE_CREATE && len >= 16 + sizeof(struct fuse_entry_out) + 8)
			files[at % 8] = le64_get(out + 16 + sizeof(struct fuse_entry_out));
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		if (len >= 24)
			files[at++ % 8] = le64_get(out + 16);
		break;
	}
}

static struct fs *shared;

/* Something else than the guest changes files. */
static void host_changes(uint8_t how)
{
	static const char *const names[] = {"a", "b", "f", "d"};
	const char *name = names[how >> 2 & 3];

	switch (how & 3) {
	case 0: close(openat(root, name, O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600)); break;
	case 1: unlinkat(root, name, 0); break;
	case 2: mkdirat(root, name, 0700); break;
	default: renameat(root, name, root, names[how >> 4 & 3]); break;
	}
	fs_host_look(shared);
}

static void request(struct fuse_server *s, const uint8_t *p, size_t n)
{
	uint8_t *in = malloc(sizeof(struct fuse_in_header) + n);
	uint8_t *out = malloc(OUT + GUARD);
	size_t cap = n & 1 ? OUT : 16 + n * 8 % 4096;
	struct fuse_in_header h = {.len = (uint32_t)(sizeof(h) + n - 3),
		.opcode = p[0] & 63,
		.unique = 7,
		/* one process of the guest's may have changes in hand */
		.pid = p[2] & 4 ? 77 : 78,
		.nodeid = p[1] < 64 ? nodes[p[1] & 7] : p[1],
		.total_extlen = 0};
	ssize_t r;

	if (!in || !out)
		abort();
	if (p[2] & 1)
		h.len += p[2];
	memcpy(in, &h, sizeof(h));
	memcpy(in + sizeof(h), p + 3, n - 3);
	/* handles come first in the arguments that have them */
	if (p[2] & 2 && n - 3 >= 8)
		le64_put(in + sizeof(h), files[p[3] & 7]);
	memset(out + cap, 0x5a, GUARD);
	/* and the nodes that are to be watched come last */
	if (p[2] & 8 && n - 3 >= sizeof(struct wslx_watch))
		le64_put(in + sizeof(h) + n - 3 - sizeof(struct wslx_watch), nodes[p[3] & 7]);
	/* in two pieces, as a driver may */
	size_t total = sizeof(h) + n - 3, cut = MIN(total, 24 + (size_t)p[2]);
	const struct iovec iin[2] = {{in, cut}, {in + cut, total - cut}};
	const struct iovec iout[2] = {{out, cap / 2}, {out + cap / 2, cap - cap / 2}};

	r = fuse_server_handle(s, iin, 2, iout, 2, FUSE_HANDLE_NO_WAIT);
	if (r == -EBUSY) {
		fs_host_look(shared);
		r = fuse_server_handle(s, iin, 2, iout, 2, FUSE_HANDLE_NO_PARK);
	}
	if (r == -EAGAIN)
		r = fuse_server_handle(s, iin, 2, iout, 2, 0);
	if (r > (ssize_t)cap || (r > 0 && le32_get(out) != (uint32_t)r))
		abort();
	for (unsigned i = 0; i < GUARD; i++)
		if (out[cap + i] != 0x5a)
			abort();
	if (r > 0)
		learn(&h, out, (size_t)r);
	free(in);
	free(out);
}

static bool window_works(void *ctx)
{
	return true;
}

static int window_map(
	void *ctx, struct fs_handle *h, uint64_t at, uint64_t off, uint64_t len, bool writable)
{
	return fs_host_fd(h) < 0 ? -EBADF : 0;
}

static int window_unmap(void *ctx, uint64_t off, uint64_t len)
{
	return len ? 0 : -EINVAL;
}

static const struct fuse_window_ops window = {window_works, window_map, window_unmap};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct fuse_opts opts = {
		.entry_ms = 1, .posix_acl = true, .resume = size && data[0] & 1};
	const struct fs_share_opts so = {.metadata = size && data[0] & 2,
		.squash = size && data[0] & 4,
		.uid = 1000,
		.gid = 1000};
	struct fuse_server *s;
	struct fs *fs;

	if (root < 0) {
		set_up();
		atexit(tear_down);
	}
	if (size == 0 || fs_host_new(&fs, root, &so, NULL) < 0)
		return 0;
	shared = fs;
	fs_host_enable_watches(fs);
	if (fuse_server_new(&s, fs, &opts) < 0)
		abort();
	if (data[0] & 8)
		fuse_server_set_window(s, &window, NULL);
	data++;
	size--;
	for (unsigned i = 0; i < MAX_REQUESTS && size >= 5; i++) {
		size_t n = MIN((size_t)(le16_get(data) & 0xfff), size - 2);

		if (n >= 3)
			request(s, data + 2, n);
		if (n == 4)
			host_changes(data[5]);
		data += 2 + n;
		size -= 2 + n;
	}
	fuse_server_free(s);
	fs->ops->free(fs);
	clean(root);
	return 0;
}
