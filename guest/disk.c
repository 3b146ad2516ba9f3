/* SPDX-License-Identifier: MIT */
/* From a LUN to a block device and back, by way of sysfs. */
#include "guest/guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/loop.h"

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static DIR *dir_of(const char *path, struct dirent **first)
{
	DIR *d = opendir(path);

	while (d && (*first = readdir(d)) && (*first)->d_name[0] == '.')
		;
	return d;
}

/* A device's name appears a moment before the device can be opened. */
static bool can_open(const char *dev)
{
	cleanup_close int fd = open(dev, O_RDONLY | O_CLOEXEC);

	return fd >= 0;
}

/* The first "H:0:0:LUN" below /sys/class/scsi_device with a block device: our one host adapter has one target. */
static int find(uint32_t lun, char *ret_hctl, size_t hctl_cap, char *ret_dev, size_t dev_cap)
{
	DIR *d = opendir("/sys/class/scsi_device");
	int r = -ENOENT;

	for (struct dirent *e; r < 0 && d && (e = readdir(d));) {
		unsigned h, c, t, l;
		char path[320];
		struct dirent *b = NULL;

		if (sscanf(e->d_name, "%u:%u:%u:%u", &h, &c, &t, &l) != 4 || c || t || l != lun)
			continue;
		snprintf(path, sizeof(path), "/sys/class/scsi_device/%s/device/block", e->d_name);
		DIR *bd = dir_of(path, &b);
		if (bd && b && snprintf(ret_dev, dev_cap, "/dev/%s", b->d_name) < (int)dev_cap &&
			can_open(ret_dev)) {
			snprintf(ret_hctl, hctl_cap, "%s", e->d_name);
			r = 0;
		}
		if (bd)
			closedir(bd);
	}
	if (d)
		closedir(d);
	return r;
}

static void rescan(uint32_t lun)
{
	DIR *d = opendir("/sys/class/scsi_host");
	char path[320], what[32];

	snprintf(what, sizeof(what), "0 0 %u", lun);
	for (struct dirent *e; d && (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/sys/class/scsi_host/%s/scan", e->d_name);
		write_text(path, what);
	}
	if (d)
		closedir(d);
}

int disk_wait(uint32_t lun, unsigned timeout_ms, char *ret_dev, size_t cap, struct err *e)
{
	uint64_t start = loop_now(), end = start + timeout_ms * 1000000ull;
	bool rescanned = false;
	char hctl[64];

	while (find(lun, hctl, sizeof(hctl), ret_dev, cap) < 0) {
		uint64_t now = loop_now();

		if (now >= end)
			return err_set(e, -ENODEV, "no disk appeared at LUN %u within %u ms", lun,
				timeout_ms);
		/* The adapter announces new disks by itself; a scan asked for makes up for an announcement lost. */
		if (!rescanned && now - start > 300000000u) {
			rescan(lun);
			rescanned = true;
		}
		pause_ms(2);
	}
	return 0;
}

int disk_remove(uint32_t lun, const char *dev, unsigned timeout_ms)
{
	uint64_t end = loop_now() + timeout_ms * 1000000ull;
	char hctl[64], found[64], path[160];
	int fd;

	/* A mount holds its device exclusively. The kernel may release it a little after umount(2) has returned. */
	while ((fd = open(dev, O_RDWR | O_EXCL | O_CLOEXEC)) < 0) {
		if (errno != EBUSY || loop_now() >= end)
			return -errno;
		pause_ms(5);
	}
	fsync(fd);
	close(fd);
	if (find(lun, hctl, sizeof(hctl), found, sizeof(found)) < 0)
		return -ENOENT;
	snprintf(path, sizeof(path), "/sys/class/scsi_device/%s/device/delete", hctl);
	return write_text(path, "1");
}
