/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include "guest/fstype.h"
#include "guest/volume.h"

static uint8_t buf[8192];

static int parse(struct wire_w *w, struct volume_spec *v)
{
	static struct wire_msg m;
	struct err e = {0};
	int n = wire_end(w);

	CHECK(n > 0 && wire_parse(buf, (size_t)n, &m) == 0);
	return volume_spec_parse(&m, v, &e);
}

static void begin(struct wire_w *w)
{
	wire_begin(w, buf, sizeof(buf), WSLX_MOUNT, 0, 1, 0);
	wire_u32(w, WSLX_A_LUN, 5);
}

TEST(a_whole_request_is_read)
{
	struct volume_spec v;
	struct wire_w w;

	begin(&w);
	wire_u32(&w, WSLX_A_PARTITION, 2);
	wire_u32(&w, WSLX_A_DISK_TIMEOUT_MS, 1234);
	wire_str(&w, WSLX_A_NAME, "data.img-1_p2");
	wire_str(&w, WSLX_A_FSTYPE, "ext4");
	wire_str(&w, WSLX_A_OPTIONS, "ro,noatime");
	CHECK_EQ(parse(&w, &v), 0);
	CHECK_EQ(v.lun, 5);
	CHECK_EQ(v.partition, 2);
	CHECK_EQ(v.timeout_ms, 1234);
	CHECK_STR(v.name, "data.img-1_p2");
	CHECK_STR(v.fstype, "ext4");
	CHECK_STR(v.options, "ro,noatime");
	begin(&w);
	CHECK_EQ(parse(&w, &v), 0);
	CHECK_STR(v.name, "");
}

TEST(a_folder_needs_a_name_and_no_disk)
{
	struct volume_spec v;
	struct wire_w w;

	wire_begin(&w, buf, sizeof(buf), WSLX_MOUNT, 0, 1, 0);
	wire_str(&w, WSLX_A_FOLDER, "home/me/x");
	wire_str(&w, WSLX_A_NAME, "x");
	CHECK_EQ(parse(&w, &v), 0);
	CHECK(v.is_folder);
	CHECK_STR(v.folder, "home/me/x");
	wire_begin(&w, buf, sizeof(buf), WSLX_MOUNT, 0, 1, 0);
	wire_str(&w, WSLX_A_FOLDER, "");
	CHECK_EQ(parse(&w, &v), -EINVAL);
	begin(&w);
	CHECK_EQ(parse(&w, &v), 0);
	CHECK(!v.is_folder);
}

TEST(a_name_that_leads_elsewhere_is_refused)
{
	static const char *const names[] = {"", ".", "..", "../x", "a/b", "/etc", "-rf", "a b",
		"\n", "0123456789012345678901234567890123456789012345678901234567890123456789"};
	struct volume_spec v;
	struct wire_w w;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		begin(&w);
		wire_str(&w, WSLX_A_NAME, names[i]);
		CHECK_EQ(parse(&w, &v), -EINVAL);
	}
	begin(&w);
	wire_str(&w, WSLX_A_NAME, "x");
	wire_str(&w, WSLX_A_FSTYPE, "../x");
	CHECK_EQ(parse(&w, &v), -EINVAL);
	begin(&w);
	wire_str(&w, WSLX_A_NAME, "x");
	wire_str(&w, WSLX_A_FSTYPE, "a b");
	CHECK_EQ(parse(&w, &v), -EINVAL);
	begin(&w);
	wire_u32(&w, WSLX_A_PARTITION, 1000);
	CHECK_EQ(parse(&w, &v), -EINVAL);
}

TEST(options_are_flags_or_the_file_systems)
{
	unsigned long f;
	char data[64];

	CHECK_EQ(volume_options("", &f, data, sizeof(data)), 0);
	CHECK_EQ(f, MS_NOSUID | MS_NODEV);
	CHECK_STR(data, "");
	CHECK_EQ(volume_options("ro,uid=1000,,noexec,umask=022", &f, data, sizeof(data)), 0);
	CHECK_EQ(f, MS_NOSUID | MS_NODEV | MS_RDONLY | MS_NOEXEC);
	CHECK_STR(data, "uid=1000,umask=022");
	CHECK_EQ(volume_options("suid,dev,ro,rw,read,rox", &f, data, sizeof(data)), 0);
	CHECK_EQ(f, 0);
	CHECK_STR(data, "read,rox");
	CHECK_EQ(volume_options("abcdefghij", &f, data, 11), 0);
	CHECK_EQ(volume_options("abcdefghij", &f, data, 10), -E2BIG);
	CHECK_EQ(volume_options("abcde,ro,fghij", &f, data, 11), -E2BIG);
}

static void check_type(unsigned off, const char *magic, size_t len, const char *type)
{
	static uint8_t p[FSTYPE_BYTES];
	struct fstype t;

	memset(p, 0, sizeof(p));
	memcpy(p + off, magic, len);
	fstype_probe(p, sizeof(p), &t);
	if (type)
		CHECK_STR(t.type ? t.type : "(none)", type);
	else
		CHECK(!t.type && t.what);
	/* What has not been read says nothing. */
	fstype_probe(p, off + len - 1, &t);
	CHECK(!t.type && !t.what);
}

TEST(file_systems_are_known_by_their_magic_numbers)
{
	struct fstype t;

	check_type(0x438, "\x53\xef", 2, "ext4");
	check_type(0, "XFSB", 4, "xfs");
	check_type(0x10040, "_BHRfS_M", 8, "btrfs");
	check_type(82, "FAT32   ", 5, "vfat");
	check_type(0x8001, "CD001", 5, "iso9660");
	check_type(0, "hsqs", 4, "squashfs");
	check_type(0, "LUKS\xba\xbe", 6, NULL);
	check_type(0xff6, "SWAPSPACE2", 10, NULL);
	fstype_probe((const uint8_t *)"", 0, &t);
	CHECK(!t.type && !t.what);
}

TEST_MAIN()
