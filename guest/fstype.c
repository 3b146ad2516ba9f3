/* SPDX-License-Identifier: MIT */
#include "guest/fstype.h"

#include <string.h>
#include "lib/base/attr.h"
#include "lib/base/checked.h"

/*
 * In the order of their trust: what stands in the middle of nowhere first, boot sectors, which other formats carry too,
 * last. ext4 is ext3 and ext2 as well.
 */
static const struct {
	unsigned off, len;
	const char *magic, *type, *what;
} magics[] = {
	{0, 6, "LUKS\xba\xbe", NULL, "an encrypted volume (LUKS)"},
	{0x438, 2, "\x53\xef", "ext4", NULL},
	{0, 4, "XFSB", "xfs", NULL},
	{0x10040, 8, "_BHRfS_M", "btrfs", NULL},
	{0x400, 4, "\x10\x20\xf5\xf2", "f2fs", NULL},
	{0x400, 4, "\xe2\xe1\xf5\xe0", "erofs", NULL},
	{0, 4, "hsqs", "squashfs", NULL},
	{0xff6, 10, "SWAPSPACE2", NULL, "a swap area"},
	{0x218, 8, "LVM2 001", NULL, "a physical volume of LVM"},
	{0x1000, 4, "\xfc\x4e\x2b\xa9", NULL, "a member of a RAID"},
	{0x8801, 5, "NSR02", "udf", NULL},
	{0x8801, 5, "NSR03", "udf", NULL},
	{0x9001, 5, "NSR02", "udf", NULL},
	{0x9001, 5, "NSR03", "udf", NULL},
	{0x8001, 5, "CD001", "iso9660", NULL},
	{3, 8, "EXFAT   ", "exfat", NULL},
	{3, 8, "NTFS    ", "ntfs3", NULL},
	{82, 5, "FAT32", "vfat", NULL},
	{54, 5, "FAT12", "vfat", NULL},
	{54, 5, "FAT16", "vfat", NULL},
};

static bool has(const uint8_t *p, size_t len, unsigned off, const char *magic, unsigned n)
{
	return range_ok(off, n, len) && !memcmp(p + off, magic, n);
}

void fstype_probe(const uint8_t *p, size_t len, struct fstype *ret)
{
	*ret = (struct fstype){0};
	for (size_t i = 0; i < ARRAY_LEN(magics); i++) {
		if (!has(p, len, magics[i].off, magics[i].magic, magics[i].len))
			continue;
		ret->type = magics[i].type;
		ret->what = magics[i].what;
		return;
	}
}
