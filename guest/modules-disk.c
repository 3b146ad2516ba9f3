/* SPDX-License-Identifier: MIT */
/* The part of modprobe.h that asks the kernel. */
#include "guest/modprobe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "guest/guest.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/log.h"

#define AT "/run/modules"

enum { DISK_MS = 10000, MAX_DEP = 16 << 20, INIT_COMPRESSED_FILE = 4 };

static int load(void *ctx, const char *path, size_t len)
{
	const char *folder = ctx;
	char full[640];
	int flags;

	snprintf(full, sizeof(full), "%s/%.*s", folder, (int)len, path);
	flags = len > 3 && !memcmp(path + len - 3, ".ko", 3) ? 0 : INIT_COMPRESSED_FILE;
	cleanup_close int fd = open(full, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || (syscall(SYS_finit_module, fd, "", flags) < 0 && errno != EEXIST))
		return -errno;
	return 0;
}

void modprobe_list(const char *folder, const char *list)
{
	cleanup_free char *dep = NULL;
	union {
		const char *in;
		void *out;
	} ctx = {folder};
	char path[256], name[64];
	size_t dep_len;
	int r;

	snprintf(path, sizeof(path), "%s/modules.dep", folder);
	r = io_read_file(path, MAX_DEP, &dep, &dep_len);
	if (r < 0) {
		log_warn("modules", "%s: %s", path, strerror(-r));
		return;
	}
	for (const char *p = list; *p;) {
		size_t n = strcspn(p, ",");
		bool optional = *p == '-';

		snprintf(name, sizeof(name), "%.*s", (int)(n - optional), p + optional);
		r = *name ? modprobe_plan(dep, dep_len, name, load, ctx.out) : 0;
		if (r < 0 && !optional)
			log_warn("modules", "load %s: %s", name, strerror(-r));
		p += n + (p[n] == ',');
	}
}

static int mount_disk(const char *dev)
{
	static const char *const types[] = {"ext4", "squashfs", "erofs"};
	struct err e = {0};
	int r = -EINVAL;

	for (unsigned i = 0; r < 0 && i < ARRAY_LEN(types); i++)
		r = mount_at(dev, AT, types[i], MS_RDONLY | MS_NOSUID | MS_NODEV, NULL, &e);
	if (r < 0)
		log_warn("modules", "%s", e.text);
	return r;
}

void modprobe_disk(unsigned lun, const char *list)
{
	static const char *const above[] = {"", "/lib/modules"};
	struct utsname un;
	struct err e = {0};
	char dev[64], folder[160], dep[192];

	uname(&un);
	if (disk_wait(lun, DISK_MS, dev, sizeof(dev), &e) < 0) {
		log_warn("modules", "%s", e.text);
		return;
	}
	if (mount_disk(dev) < 0)
		return;
	strcpy(folder, AT);
	for (unsigned i = 0; i <= ARRAY_LEN(above); i++) {
		snprintf(dep, sizeof(dep), "%s/modules.dep", folder);
		if (access(dep, R_OK) == 0) {
			modprobe_list(folder, list);
			return;
		}
		if (i < ARRAY_LEN(above))
			snprintf(folder, sizeof(folder), AT "%s/%s", above[i], un.release);
	}
	log_warn("modules", "the disk holds no modules.dep for kernel %s", un.release);
}
