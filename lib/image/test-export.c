/* SPDX-License-Identifier: MIT */
/*
 * Exports: the forms, and disks that are damaged. That an archive holds what the disk does is checked for all that
 * test-image.c imports, too.
 */
#include "lib/image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#define TEST_TIMEOUT_S 240
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/le.h"
#include "lib/base/test.h"
#include "lib/image/ext4-read.h"
#include "lib/image/test-rig.h"

static char exported[80];

static void import_ok(void)
{
	int r = rig_import_size(64 << 20);

	if (r < 0)
		printf("# import: %s\n", rig_err.text);
	CHECK_EQ(r, 0);
}

static void make_disk(void)
{
	static char data[300000];

	rig_start();
	rig_root();
	memset(data, 'd', sizeof(data));
	rig_file("./etc/data", data, sizeof(data));
	rig_hardlink("./etc/data2", "./etc/data");
	rig_folder("./etc/sub/");
	rig_file("./etc/sub/file", "f", 1);
	rig_finish();
	import_ok();
	snprintf(exported, sizeof(exported), "%s/exported", rig_path);
}

static int export_tar(void)
{
	return rig_export(IMAGE_TAR, IMAGE_PLAIN, exported);
}

TEST(every_compression)
{
	static const enum image_compression all[] = {IMAGE_PLAIN, IMAGE_GZIP, IMAGE_XZ, IMAGE_ZSTD};
	static const uint8_t magic[][2] = {{'P', 'a'}, {0x1f, 0x8b}, {0xfd, '7'}, {0x28, 0xb5}};

	make_disk();
	for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
		cleanup_close int fd = -1;
		uint8_t got[2];
		char cmd[200];

		CHECK_EQ(rig_export(IMAGE_TAR, all[i], exported), 0);
		fd = open(exported, O_RDONLY | O_CLOEXEC);
		REQUIRE(pread(fd, got, 2, 0) == 2);
		CHECK(!memcmp(got, magic[i], 2));
		snprintf(cmd, sizeof(cmd), "%s <%s >%s.tar",
			(const char *[]){"cat", "gzip -dc", "xz -dc", "zstd -dc"}[i], exported,
			exported);
		CHECK_EQ(system(cmd), 0);
		snprintf(cmd, sizeof(cmd), "%s.tar", exported);
		CHECK_EQ(rig_compare(cmd, 0), 0);
	}
}

TEST(a_raw_copy_is_the_disk)
{
	char cmd[300];
	struct stat a, b;

	make_disk();
	CHECK_EQ(rig_export(IMAGE_RAW, IMAGE_PLAIN, exported), 0);
	snprintf(cmd, sizeof(cmd), "cmp %s %s", rig_disk, exported);
	CHECK_EQ(system(cmd), 0);
	REQUIRE(stat(rig_disk, &a) == 0 && stat(exported, &b) == 0);
	CHECK(b.st_blocks <= a.st_blocks + 64);
}

/* Block maps instead of extents, and small blocks: disks made elsewhere. */
TEST(ext2_and_ext3)
{
	static const char *const kinds[] = {"ext2 -b 1024", "ext3 -b 4096"};
	char cmd[600];

	make_disk();
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		snprintf(cmd, sizeof(cmd),
			"cd %s && rm -rf tree disk && mkdir -p tree/etc tree/many && "
			"head -c 3000000 /dev/urandom >tree/etc/big && truncate -s 900000 tree/etc/hole && "
			"echo end >>tree/etc/hole && ln -s \"$(head -c 300 /dev/zero | tr '\\0' l)\" tree/long && "
			"(cd tree/many && seq 400 | split -l 1 -a 3) && chmod 4711 tree/etc/big && "
			"PATH=$PATH:/sbin:/usr/sbin mke2fs -q -F -t %s -d tree disk 32M >/dev/null 2>&1",
			rig_path, kinds[i]);
		REQUIRE(system(cmd) == 0);
		CHECK_EQ(export_tar(), 0);
		CHECK_EQ(rig_compare(exported, 0), 0);
	}
}

/* --- damage --- */

static void poke(uint64_t at, const void *p, size_t len)
{
	cleanup_close int fd = open(rig_disk, O_WRONLY | O_CLOEXEC);

	if (pwrite(fd, p, len, (off_t)at) != (ssize_t)len)
		abort();
}

static void peek(uint64_t at, void *p, size_t len)
{
	cleanup_close int fd = open(rig_disk, O_RDONLY | O_CLOEXEC);

	if (pread(fd, p, len, (off_t)at) != (ssize_t)len)
		abort();
}

/* Damage is to be found by what it says, not only by its checksum. */
static void checksums_off(void)
{
	uint8_t ro[4];

	peek(1024 + 100, ro, 4);
	le32_put(ro, le32_get(ro) & ~0x400u);
	poke(1024 + 100, ro, 4);
}

/* Where an inode is on the disk: in the first group, whose table the first descriptor names. */
static uint64_t inode_at(const char *path)
{
	uint64_t table;
	ext2_ino_t ino;

	if (!rig_open())
		abort();
	ino = rig_lookup(path, NULL);
	table = ext2fs_inode_table_loc(rig_fs, 0);
	ext2fs_close_free(&rig_fs);
	return table * 4096 + (ino - 1) * 256ull;
}

static void refused(const char *what)
{
	int r = export_tar();

	if (r >= 0 || !strstr(rig_err.text, what)) {
		printf("# want \"%s\", got %d: %s\n", what, r, rig_err.text);
		test_failed_checks++;
	}
}

TEST(a_wrong_checksum)
{
	make_disk();
	poke(inode_at("etc/data") + 4, "\x01", 1);
	refused("etc/data: the file system is damaged");
}

TEST(not_unmounted)
{
	uint8_t incompat[4];

	make_disk();
	checksums_off();
	peek(1024 + 96, incompat, 4);
	incompat[0] |= 4;
	poke(1024 + 96, incompat, 4);
	refused("not cleanly unmounted");
}

TEST(no_file_system)
{
	static const char zero[4096];

	make_disk();
	poke(0, zero, sizeof(zero));
	refused("cannot be read");
	REQUIRE(truncate(rig_disk, 1 << 20) == 0);
	refused("");
}

TEST(a_directory_in_itself)
{
	uint8_t root[4], entry[8];
	blk64_t block;
	ext2_ino_t sub;

	make_disk();
	checksums_off();
	REQUIRE(rig_open());
	sub = rig_lookup("etc/sub", NULL);
	REQUIRE(ext2fs_bmap2(rig_fs, sub, NULL, NULL, 0, 0, NULL, &block) == 0);
	ext2fs_close_free(&rig_fs);
	peek(block * 4096 + 24, entry, 8); /* behind "." and "..": file */
	CHECK_EQ(entry[6], 4);
	le32_put(root, sub);
	poke(block * 4096 + 24, root, 4);
	refused("has two names");
}

TEST(extents_that_cannot_be)
{
	uint64_t at;
	uint8_t far[4];

	make_disk();
	checksums_off();
	at = inode_at("etc/data") + 40; /* i_block: header of 12 bytes, then the first extent */
	le32_put(far, 0x7fffffff);
	poke(at + 12 + 8, far, 4);
	refused("beyond the end of the disk");

	make_disk();
	checksums_off();
	poke(at + 2, "\xff\xff", 2); /* more entries than there is room for */
	refused("damaged");

	make_disk();
	checksums_off();
	poke(at + 6, "\xff\xff", 2); /* a tree of endless depth */
	refused("damaged");
}

TEST(sizes_that_cannot_be)
{
	uint64_t at;

	make_disk();
	checksums_off();
	at = inode_at("etc/data");
	poke(at + 108, "\xff\xff\xff\x7f", 4); /* i_size_high */
	refused("its size cannot be");
}

/* Many files may not share blocks: there would be no end to what is read. */
TEST(more_blocks_than_there_are)
{
	static char data[8 << 20];
	uint8_t first[60];
	char name[40];
	uint64_t at;

	rig_start();
	rig_root();
	rig_file("./etc/big", data, sizeof(data));
	for (unsigned i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "./etc/small-%u", i);
		rig_file(name, "s", 1);
	}
	rig_finish();
	import_ok();
	checksums_off();
	at = inode_at("etc/big");
	peek(at + 40, first, sizeof(first));
	for (unsigned i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "etc/small-%u", i);
		at = inode_at(name);
		poke(at + 40, first, sizeof(first));
		poke(at + 4, "\0\0\x80\0", 4);
	}
	refused("more blocks than there are");
}

/* --- what is told of a disk --- */

TEST(facts)
{
	static const char release[] =
		"NAME=x\n# ID=no\nID=\"my distro\"\nVERSION_ID='1.0'\nID_LIKE=debian\n";
	static const char conf[] = "[oobe]\ncommand = /bin/setup\ndefaultUid=1000\n"
				   "defaultName=Mine # really\n[shortcut]\nenabled=false\n";
	cleanup_close int fd = -1;
	struct image_copy_opts o = {.out_fd = -1, .examine = true};
	const struct image_facts *f;
	struct image_progress p;
	struct image_job *j;
	int r;

	rig_start();
	rig_root();
	rig_folder("./usr/lib");
	rig_file("./usr/lib/os-release", release, sizeof(release) - 1);
	rig_symlink("./etc/os-release", "../usr/lib/os-release");
	rig_file("./etc/wsl-distribution.conf", conf, sizeof(conf) - 1);
	rig_finish();
	import_ok();
	fd = open(rig_disk, O_RDONLY | O_CLOEXEC);
	o.in_fd = fd;
	REQUIRE(image_copy_start(&j, &o, &rig_err) == 0);
	while ((r = image_job_read(j, &p, &rig_err)) == 0)
		usleep(1000);
	CHECK_EQ(r, 1);
	f = image_job_facts(j);
	CHECK_STR(f->flavor, "my distro");
	CHECK_STR(f->version, "1.0");
	CHECK_STR(f->name, "Mine");
	CHECK(f->oobe && f->has_uid && f->uid == 1000);
	image_job_free(j);
}

TEST_MAIN()
