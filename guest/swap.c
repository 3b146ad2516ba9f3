/* SPDX-License-Identifier: MIT */
/* A whole disk as swap: the header that mkswap(8) writes (include/linux/swap.h, union swap_header), then swapon(2). */
#include "guest/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/swap.h>
#include <unistd.h>
#include "guest/guest.h"
#include "lib/base/cleanup.h"
#include "lib/base/le.h"

enum { PAGE = 4096, DISK_MS = 20000, DISCARD_FREED = 0x10000 };
enum { H_VERSION = 1024, H_LAST_PAGE = 1028, H_UUID = 1036 };

static int format(const char *dev)
{
	static const char signature[] = "SWAPSPACE2";
	cleanup_close int fd = open(dev, O_RDWR | O_EXCL | O_CLOEXEC);
	uint8_t h[PAGE] = {0};
	uint64_t size, pages;

	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size) < 0)
		return -errno;
	pages = MIN(size / PAGE, (uint64_t)UINT32_MAX);
	if (pages < 10)
		return -ENOSPC;
	le32_put(h + H_VERSION, 1);
	le32_put(h + H_LAST_PAGE, (uint32_t)(pages - 1));
	if (getrandom(h + H_UUID, 16, 0) != 16)
		return -EIO;
	memcpy(h + PAGE - strlen(signature), signature, strlen(signature));
	if (pwrite(fd, h, PAGE, 0) != PAGE || fsync(fd) < 0)
		return -errno;
	return 0;
}

int swap_on(const void *lun)
{
	struct err e = {0};
	char dev[64];
	int r = disk_wait(*(const uint32_t *)lun, DISK_MS, dev, sizeof(dev), &e);

	if (r == 0)
		r = format(dev);
	/* What is freed is discarded: the file on the host shrinks again. */
	if (r == 0 && swapon(dev, DISCARD_FREED) < 0)
		r = -errno;
	return r;
}
