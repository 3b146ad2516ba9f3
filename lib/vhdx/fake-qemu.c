/* SPDX-License-Identifier: MIT */
#include "lib/vhdx/fake-qemu.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "lib/base/attr.h"

static char dir[] = "/tmp/wslx-test-vhdx.XXXXXX";

static void remove_dir(void)
{
	char cmd[80];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (system(cmd) != 0)
		fprintf(stderr, "%s stays behind\n", dir);
}

const char *fake_qemu_dir(void)
{
	static bool made;

	if (!made) {
		if (!mkdtemp(dir))
			abort();
		atexit(remove_dir);
		made = true;
	}
	return dir;
}

bool fake_qemu_present(void)
{
	if (system("qemu-img --version >/dev/null 2>&1") == 0)
		return true;
	printf("# qemu-img is missing (Debian package qemu-utils)\n");
	return false;
}

bool fake_qemu_img(const char *fmt, ...)
{
	char args[512], cmd[640];
	va_list ap;
	int r;

	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	snprintf(cmd, sizeof(cmd), "qemu-img %s >%s/log 2>&1", args, fake_qemu_dir());
	r = system(cmd);
	if (r != 0) {
		printf("# status %d of qemu-img %s\n", r, args);
		fflush(stdout);
		snprintf(cmd, sizeof(cmd), "sed 's/^/# /' %s/log", dir);
		r = system(cmd);
		return false;
	}
	return true;
}

/* Sparse: most of a file is holes. */
static bool store(const uint8_t *file, uint64_t size)
{
	char path[80];
	bool ok;
	int fd;

	snprintf(path, sizeof(path), "%s/disk.vhdx", fake_qemu_dir());
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ok = fd >= 0 && ftruncate(fd, size) == 0;
	for (uint64_t at = 0; ok && at < size; at += 4096) {
		size_t n = MIN(size - at, 4096ull), i = 0;

		while (i < n && !file[at + i])
			i++;
		if (i < n)
			ok = pwrite(fd, file + at, n, at) == (ssize_t)n;
	}
	close(fd);
	return ok;
}

bool fake_qemu_check(const uint8_t *file, uint64_t size)
{
	/* The first run may have a log to replay, which counts as repaired (3: leaks, which are
	 * none of VHDX); the second has nothing. */
	return store(file, size) && fake_qemu_img("check -q -f vhdx -r all %s/disk.vhdx", dir) &&
	       fake_qemu_img("check -q -f vhdx %s/disk.vhdx", dir);
}

int fake_qemu_raw(const uint8_t *file, uint64_t size)
{
	char path[80];

	if (!fake_qemu_check(file, size) ||
		!fake_qemu_img("convert -f vhdx -O raw %s/disk.vhdx %s/disk.raw", dir, dir))
		return -1;
	snprintf(path, sizeof(path), "%s/disk.raw", dir);
	return open(path, O_RDONLY | O_CLOEXEC);
}
