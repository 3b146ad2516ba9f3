/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "daemon/registry.h"
#include "lib/base/io.h"

#define ID "01234567-89ab-cdef-0123-456789abcdef"

static char dir[64], deb[128];

static void fresh(void)
{
	strcpy(dir, "/tmp/test-registry.XXXXXX");
	if (!mkdtemp(dir))
		abort();
	snprintf(deb, sizeof(deb), "%s/deb", dir);
}

static void gone(void)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (system(cmd))
		abort();
}

static struct registry *open_it(void)
{
	struct registry *r = NULL;
	struct err e = {0};

	if (registry_open(dir, &r, &e) < 0)
		printf("# %s\n", e.text);
	return r;
}

static struct reg_entry make(const char *name)
{
	struct reg_entry e = {.dir = deb, .own_dir = true, .uid = 1000};

	registry_new_id(e.id);
	snprintf(e.name, sizeof(e.name), "%s", name);
	return e;
}

static void touch(const char *path, const char *text)
{
	if (io_replace_file(path, text, strlen(text), 0600) < 0)
		abort();
}

TEST(changes_are_there_after_a_restart)
{
	struct reg_entry a = make("Debian"), b = make("arch-2");
	struct err e = {0};

	fresh();
	struct registry *r = open_it();
	REQUIRE(r != NULL);
	CHECK(registry_default(r) == NULL);
	CHECK_EQ(registry_add(r, &a, &e), 0);
	CHECK_EQ(registry_add(r, &b, &e), 0);
	CHECK_EQ(registry_add(r, &b, &e), -EEXIST);
	CHECK_EQ(registry_set_default(r, b.id, &e), 0);
	registry_free(r);

	r = open_it();
	REQUIRE(r != NULL);
	CHECK_EQ(registry_count(r), 2);
	CHECK_STR(registry_default(r)->name, "arch-2");
	const struct reg_entry *found = registry_find(r, "DEBIAN");
	REQUIRE(found != NULL);
	CHECK_STR(found->dir, deb);
	CHECK_EQ(found->uid, 1000);
	CHECK(found->own_dir);
	CHECK(registry_find(r, "deb") == NULL);
	CHECK_EQ(registry_remove(r, b.id, &e), 0);
	CHECK_STR(registry_default(r)->name, "Debian");
	CHECK_EQ(registry_remove(r, b.id, &e), -ENOENT);
	registry_free(r);
	gone();
}

TEST(what_is_known_of_a_distribution_is_kept)
{
	struct reg_entry a = make("a"), b = make("b");
	char disk[128], path[256];
	struct err e = {0};

	fresh();
	snprintf(disk, sizeof(disk), "%s/my.img", dir);
	strcpy(a.flavor, "debian");
	strcpy(a.version, "12");
	a.run_oobe = true;
	b.disk = disk; /* registered where it is */
	b.own_dir = false;
	b.dir = dir;
	strcpy(a.fs, "btrfs");
	strcpy(b.fs, "xfs");
	struct registry *r = open_it();
	REQUIRE(r && registry_add(r, &a, &e) == 0 && registry_add(r, &b, &e) == 0);
	registry_free(r);
	r = open_it();
	REQUIRE(r != NULL);
	const struct reg_entry *found = registry_find(r, "a");
	REQUIRE(found != NULL);
	CHECK_STR(found->flavor, "debian");
	CHECK_STR(found->version, "12");
	CHECK_STR(registry_fs(found), "btrfs");
	CHECK_EQ(registry_disk(found, false, path, sizeof(path)), 0);
	CHECK(strstr(path, "/btrfs.img"));
	CHECK(found->run_oobe && !found->disk);
	found = registry_find(r, "b");
	REQUIRE(found != NULL && found->disk);
	CHECK(!found->run_oobe && !found->flavor[0]);
	CHECK_STR(registry_fs(found), "xfs");
	CHECK_EQ(registry_disk(found, false, path, sizeof(path)), 0);
	CHECK_STR(path, disk);
	touch(disk, "not ours");
	CHECK_EQ(registry_remove_files(found, false, &e), 0);
	CHECK_EQ(access(disk, F_OK), 0);
	registry_free(r);
	gone();
}

/* Entries as they were written before there was more to know. */
TEST(the_format_of_a_disk_is_kept_and_one_that_is_not_known_is_refused)
{
	struct reg_entry a = make("a"), b = make("b");
	char path[128], *text = NULL, *at;
	struct err e = {0};
	size_t len;

	fresh();
	struct registry *r = open_it();
	REQUIRE(r != NULL);
	a.disk = deb;
	a.vhdx = true;
	CHECK_EQ(registry_add(r, &a, &e), 0);
	CHECK_EQ(registry_add(r, &b, &e), 0);
	registry_free(r);
	r = open_it();
	REQUIRE(r != NULL);
	CHECK(registry_find(r, "a")->vhdx && !registry_find(r, "b")->vhdx);
	registry_free(r);

	snprintf(path, sizeof(path), "%s/registry.json", dir);
	REQUIRE(io_read_file(path, 1 << 16, &text, &len) == 0);
	at = strstr(text, "\"vhdx\"");
	REQUIRE(at != NULL);
	memcpy(at, "\"qcow\"", 6);
	touch(path, text);
	CHECK_EQ(registry_open(dir, &r, &e), -EBADMSG);
	free(text);
	gone();
}

TEST(an_old_file_is_read)
{
	char path[128];

	fresh();
	snprintf(path, sizeof(path), "%s/registry.json", dir);
	touch(path, "{\"version\":1,\"default\":\"" ID "\",\"distributions\":[{\"id\":\"" ID
		    "\",\"name\":\"x\",\"dir\":\"/x\",\"own_dir\":true,\"uid\":7}]}");
	struct registry *r = open_it();
	REQUIRE(r && registry_count(r) == 1);
	CHECK_EQ(registry_at(r, 0)->uid, 7);
	CHECK(!registry_at(r, 0)->disk && !registry_at(r, 0)->run_oobe);
	registry_free(r);
	gone();
}

TEST(a_change_that_cannot_be_saved_has_not_happened)
{
	struct reg_entry a = make("a"), b = make("b");
	struct err e = {0};

	fresh();
	struct registry *r = open_it();
	REQUIRE(r && registry_add(r, &a, &e) == 0);
	gone(); /* no folder, no file */
	CHECK_EQ(registry_add(r, &b, &e), -ENOENT);
	CHECK_EQ(registry_remove(r, a.id, &e), -ENOENT);
	CHECK_EQ(registry_count(r), 1);
	CHECK_STR(registry_default(r)->name, "a");
	CHECK(registry_find(r, "b") == NULL);
	registry_free(r);
}

TEST(a_damaged_file_is_refused_and_left_alone)
{
	static const char *const bad[] = {"", "{", "{\"version\":2,\"distributions\":[]}",
		"{\"version\":1,\"distributions\":[{\"name\":\"x\"}]}",
		"{\"version\":1,\"distributions\":[{\"name\":\"../x\",\"dir\":\"/x\",\"id\":\"" ID
		"\"}]}"};
	char path[128];

	fresh();
	snprintf(path, sizeof(path), "%s/registry.json", dir);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct registry *r = NULL;
		struct err e = {0};
		char *text = NULL;

		touch(path, bad[i]);
		CHECK_EQ(registry_open(dir, &r, &e), -EBADMSG);
		CHECK(strstr(e.text, "registry.json") != NULL);
		CHECK_EQ(io_read_file(path, 4096, &text, NULL), 0);
		CHECK_STR(text, bad[i]);
		free(text);
	}
	gone();
}

/* What a crash between the steps of an import, or of unregistering, leaves behind. */
TEST(recovery_removes_files_that_belong_to_nobody)
{
	struct reg_entry a = make("a");
	char disk[160], part[160], note[160];
	struct err e = {0};

	for (int registered = 0; registered < 2; registered++) {
		fresh();
		struct registry *r = open_it();
		REQUIRE(r != NULL);
		CHECK_EQ(registry_pending(r, &a, &e), 0);
		CHECK_EQ(mkdir(deb, 0700), 0);
		CHECK_EQ(registry_disk(&a, false, disk, sizeof(disk)), 0);
		CHECK_EQ(registry_disk(&a, true, part, sizeof(part)), 0);
		touch(disk, "disk");
		touch(part, "part");
		if (registered)
			CHECK_EQ(registry_add(r, &a, &e), 0);
		registry_free(r);

		r = open_it();
		REQUIRE(r != NULL);
		registry_recover(r);
		CHECK_EQ(access(disk, F_OK), registered ? 0 : -1);
		CHECK_EQ(access(part, F_OK), -1);
		CHECK_EQ(access(deb, F_OK), registered ? 0 : -1);
		snprintf(note, sizeof(note), "%s/pending/%s", dir, a.id);
		CHECK_EQ(access(note, F_OK), -1);
		registry_free(r);
		gone();
	}
}

TEST(recovery_leaves_other_files_in_the_folder)
{
	struct reg_entry a = make("a");
	char mine[160];
	struct err e = {0};

	fresh();
	struct registry *r = open_it();
	REQUIRE(r && registry_pending(r, &a, &e) == 0 && mkdir(deb, 0700) == 0);
	snprintf(mine, sizeof(mine), "%s/letter", deb);
	touch(mine, "x");
	registry_recover(r);
	CHECK_EQ(access(mine, F_OK), 0);
	registry_free(r);
	gone();
}

TEST(names)
{
	CHECK(registry_name_ok("Debian-12.5_x"));
	CHECK(!registry_name_ok(""));
	CHECK(!registry_name_ok("-x"));
	CHECK(!registry_name_ok("."));
	CHECK(!registry_name_ok("a/b"));
	CHECK(!registry_name_ok("a b"));
	CHECK(!registry_name_ok("\xc3\xa9"));
	CHECK(!registry_name_ok(
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
}

TEST_MAIN()
