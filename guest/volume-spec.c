/* SPDX-License-Identifier: MIT */
#include "guest/volume.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include "lib/base/attr.h"

enum { TIMEOUT_MAX_MS = 3600000, PARTITION_MAX = 255 };

bool volume_name_ok(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n > 64 || name[0] == '-' || name[0] == '.')
		return false;
	for (const char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("._-", *p))
			return false;
	return true;
}

static bool type_ok(const char *type)
{
	for (const char *p = type; *p; p++)
		if (!isalnum((unsigned char)*p) && *p != '_' && *p != '.' && *p != '-')
			return false;
	return true;
}

int volume_spec_parse(const struct wire_msg *m, struct volume_spec *ret, struct err *e)
{
	int r;

	*ret = (struct volume_spec){.lun = wire_get_u32(m, WSLX_A_LUN, UINT32_MAX),
		.partition = wire_get_u32(m, WSLX_A_PARTITION, 0),
		.timeout_ms = MIN(
			wire_get_u32(m, WSLX_A_DISK_TIMEOUT_MS, 10000), (uint32_t)TIMEOUT_MAX_MS)};
	r = wire_get_str(m, WSLX_A_FOLDER, ret->folder, sizeof(ret->folder));
	ret->is_folder = r >= 0;
	if (r < 0 && r != -ENOENT)
		return err_set(e, -ENAMETOOLONG, "the folder's path is too long");
	if (ret->lun == UINT32_MAX && !ret->is_folder)
		return err_set(e, -EINVAL, "MOUNT without a LUN");
	if (ret->partition > PARTITION_MAX)
		return err_set(e, -EINVAL, "there is no partition %u", ret->partition);
	r = wire_get_str(m, WSLX_A_NAME, ret->name, sizeof(ret->name));
	if (r == -ENOENT && !ret->is_folder)
		return 0;
	if (r < 0 || !volume_name_ok(ret->name)) {
		ret->name[0] = '\0';
		return err_set(e, -EINVAL, "the name of the mount is none");
	}
	r = wire_get_str(m, WSLX_A_FSTYPE, ret->fstype, sizeof(ret->fstype));
	if ((r < 0 && r != -ENOENT) || !type_ok(ret->fstype))
		return err_set(e, -EINVAL, "the type of the file system is none");
	r = wire_get_str(m, WSLX_A_OPTIONS, ret->options, sizeof(ret->options));
	if (r < 0 && r != -ENOENT)
		return err_set(e, -EINVAL, "the mount options are too long");
	return 0;
}

/* mount(8), "FILESYSTEM-INDEPENDENT MOUNT OPTIONS": those that are flags. */
static const struct {
	const char *name;
	unsigned long set, clear;
} flags[] = {
	{"defaults", 0, 0},
	{"ro", MS_RDONLY, 0},
	{"rw", 0, MS_RDONLY},
	{"suid", 0, MS_NOSUID},
	{"nosuid", MS_NOSUID, 0},
	{"dev", 0, MS_NODEV},
	{"nodev", MS_NODEV, 0},
	{"exec", 0, MS_NOEXEC},
	{"noexec", MS_NOEXEC, 0},
	{"sync", MS_SYNCHRONOUS, 0},
	{"async", 0, MS_SYNCHRONOUS},
	{"dirsync", MS_DIRSYNC, 0},
	{"atime", 0, MS_NOATIME},
	{"noatime", MS_NOATIME, 0},
	{"diratime", 0, MS_NODIRATIME},
	{"nodiratime", MS_NODIRATIME, 0},
	{"relatime", MS_RELATIME, 0},
	{"norelatime", 0, MS_RELATIME},
	{"strictatime", MS_STRICTATIME, 0},
	{"lazytime", MS_LAZYTIME, 0},
	{"nolazytime", 0, MS_LAZYTIME},
};

static bool take_flag(const char *word, size_t n, unsigned long *f)
{
	for (size_t i = 0; i < ARRAY_LEN(flags); i++)
		if (strlen(flags[i].name) == n && !memcmp(flags[i].name, word, n)) {
			*f = (*f & ~flags[i].clear) | flags[i].set;
			return true;
		}
	return false;
}

int volume_options(const char *list, unsigned long *ret_flags, char *data, size_t cap)
{
	size_t len = 0;

	*ret_flags = MS_NOSUID | MS_NODEV;
	data[0] = '\0';
	for (const char *p = list; *p;) {
		size_t n = strcspn(p, ",");

		if (n && !take_flag(p, n, ret_flags)) {
			int k = snprintf(
				data + len, cap - len, "%s%.*s", len ? "," : "", (int)n, p);

			if (k < 0 || (size_t)k >= cap - len)
				return -E2BIG;
			len += (size_t)k;
		}
		p += n + (p[n] == ',');
	}
	return 0;
}
