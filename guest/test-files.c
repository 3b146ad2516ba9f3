/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "guest/files.h"
#include "guest/root.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"

static char dir[64];
static struct warnings w;

/* A folder to play a distribution's root, and beside it what must not be touched. */
static int make_root(void)
{
	char cmd[256], path[96];

	strcpy(dir, "/tmp/wslx-files.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(cmd, sizeof(cmd), "mkdir -p %s/root/etc %s/outside && echo keep >%s/outside/hosts",
		dir, dir, dir);
	if (system(cmd) != 0)
		return -1;
	memset(&w, 0, sizeof(w));
	snprintf(path, sizeof(path), "%s/root", dir);
	return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static void remove_root(int root)
{
	char cmd[96];

	close(root);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	CHECK_EQ(system(cmd), 0);
}

/* A file below dir. */
static const char *text_of(const char *name)
{
	static char *text;
	char path[128];

	free(text);
	text = NULL;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (io_read_file(path, 65536, &text, NULL) < 0)
		return "(none)";
	return text;
}

static const struct host_facts host = {.hostname = "box",
	.timezone = "Europe/Paris",
	.hosts = "10.0.0.7 nas\n",
	.nameservers = "10.0.2.3\n"};

TEST(files_follow_from_the_host)
{
	struct wsl_conf conf = {
		.generate_hosts = true, .generate_resolv_conf = true, .host_timezone = true};
	int root = make_root();
	char cmd[200], link[64] = "";
	struct stat a, b;

	REQUIRE(root >= 0);
	snprintf(cmd, sizeof(cmd),
		"mkdir -p %s/root/usr/share/zoneinfo/Europe && touch %s/root/usr/share/zoneinfo/Europe/Paris",
		dir, dir);
	REQUIRE(system(cmd) == 0);
	files_generate(root, &conf, &host, &w);
	CHECK_EQ(w.n, 0);
	CHECK_STR(text_of("root/etc/hostname"), "box\n");
	CHECK(strstr(text_of("root/etc/hosts"), "127.0.1.1\tbox\n"));
	CHECK(strstr(text_of("root/etc/hosts"), "10.0.0.7 nas\n"));
	CHECK(strstr(text_of("root/etc/hosts"), "generateHosts = false\n"));
	CHECK(strstr(text_of("root/etc/resolv.conf"), "\nnameserver 10.0.2.3\n"));
	CHECK_STR(text_of("root/etc/timezone"), "Europe/Paris\n");
	CHECK(readlinkat(root, "etc/localtime", link, sizeof(link) - 1) > 0);
	CHECK_STR(link, "/usr/share/zoneinfo/Europe/Paris");
	/* What is right already is not written again. */
	CHECK_EQ(fstatat(root, "etc/hosts", &a, 0), 0);
	files_generate(root, &conf, &host, &w);
	CHECK_EQ(fstatat(root, "etc/hosts", &b, 0), 0);
	CHECK_EQ(a.st_ino, b.st_ino);
	remove_root(root);
}

TEST(what_is_switched_off_or_not_known_is_left_alone)
{
	struct wsl_conf conf = {0};
	struct host_facts bare = {
		.hostname = "box", .timezone = "", .hosts = "", .nameservers = ""};
	int root = make_root();

	REQUIRE(root >= 0);
	files_generate(root, &conf, &host, &w);
	CHECK_STR(text_of("root/etc/hosts"), "(none)");
	CHECK_STR(text_of("root/etc/resolv.conf"), "(none)");
	CHECK_STR(text_of("root/etc/timezone"), "(none)");
	conf.generate_resolv_conf = conf.host_timezone = true;
	files_generate(root, &conf, &bare, &w);
	CHECK_STR(text_of("root/etc/resolv.conf"), "(none)");
	/* The zone is unknown here. */
	files_generate(root, &conf, &host, &w);
	CHECK_STR(text_of("root/etc/timezone"), "(none)");
	CHECK_EQ(w.n, 0);
	remove_root(root);
}

TEST(links_are_replaced_and_never_written_through)
{
	struct wsl_conf conf = {.generate_hosts = true};
	int root = make_root();

	REQUIRE(root >= 0);
	CHECK_EQ(symlinkat("../../outside/hosts", root, "etc/hosts"), 0);
	CHECK_EQ(symlinkat("../../outside/hosts", root, "etc/.hosts.wslx"), 0);
	files_generate(root, &conf, &host, &w);
	CHECK_EQ(w.n, 0);
	CHECK_STR(text_of("outside/hosts"), "keep\n");
	CHECK(strstr(text_of("root/etc/hosts"), "box"));
	remove_root(root);
}

TEST(a_folder_that_leads_outside_stays_inside)
{
	struct wsl_conf conf = {.generate_hosts = true};
	int root = make_root();

	REQUIRE(root >= 0);
	CHECK_EQ(unlinkat(root, "etc", AT_REMOVEDIR), 0);
	CHECK_EQ(symlinkat("../outside", root, "etc"), 0);
	files_generate(root, &conf, &host, &w);
	CHECK_STR(text_of("outside/hosts"), "keep\n");
	CHECK_EQ(w.n, 2);
	CHECK(strstr(w.text[0], "/etc/hostname could not be written"));
	remove_root(root);
}

TEST(a_tree_without_etc_gets_one)
{
	struct wsl_conf conf = {.generate_hosts = true};
	int root = make_root();

	REQUIRE(root >= 0);
	CHECK_EQ(unlinkat(root, "etc", AT_REMOVEDIR), 0);
	files_generate(root, &conf, &host, &w);
	CHECK_EQ(w.n, 0);
	CHECK(strstr(text_of("root/etc/hosts"), "box"));
	remove_root(root);
}

TEST(what_cannot_be_replaced_is_told)
{
	struct wsl_conf conf = {.generate_hosts = true};
	int root = make_root();

	REQUIRE(root >= 0);
	CHECK_EQ(mkdirat(root, "etc/hosts", 0755), 0);
	files_generate(root, &conf, &host, &w);
	REQUIRE(w.n == 1);
	CHECK(strstr(w.text[0], "/etc/hosts could not be written: "));
	CHECK_EQ(faccessat(root, "etc/.hosts.wslx", F_OK, 0), -1);
	remove_root(root);
}

TEST(reading_takes_regular_files_only)
{
	int root = make_root();
	struct wsl_conf c;
	char *text;
	size_t len;

	REQUIRE(root >= 0);
	CHECK_EQ(root_read(root, "etc/none", 10, &text, &len), -ENOENT);
	CHECK_EQ(mkfifoat(root, "etc/wsl.conf", 0600), 0);
	CHECK_EQ(root_read(root, "etc/wsl.conf", 10, &text, &len), -EINVAL);
	wsl_conf_read(root, &c, &w);
	REQUIRE(w.n == 1);
	CHECK_STR(w.text[0], "/etc/wsl.conf is not read: not a regular file");
	wsl_conf_done(&c);
	CHECK_EQ(unlinkat(root, "etc/wsl.conf", 0), 0);
	CHECK_EQ(symlinkat("../../outside/hosts", root, "etc/wsl.conf"), 0);
	CHECK_EQ(root_read(root, "etc/wsl.conf", 10, &text, &len), -ENOENT);
	remove_root(root);
}

TEST(names_from_the_host_are_checked)
{
	CHECK(timezone_ok("Europe/Paris") && timezone_ok("Etc/GMT+1") && timezone_ok("UTC"));
	CHECK(!timezone_ok("") && !timezone_ok("/etc/passwd") && !timezone_ok("a/../b") &&
		!timezone_ok("a b"));
	CHECK(host_line_ok("10.0.0.1 a b.example") && host_line_ok("fd00::1\tx"));
	CHECK(!host_line_ok("10.0.0.1") && !host_line_ok("a b") &&
		!host_line_ok("10.0.0.1 a\n1.2.3.4 b"));
	CHECK(!host_line_ok("10.0.0.1  ") && !host_line_ok(""));
}

TEST(variables_and_fstab)
{
	int root = make_root();
	static const char locale[] = "# x\nLC_ALL=C\nexport LANG=\"de_DE.UTF-8\"\n";
	char v[32];

	REQUIRE(root >= 0);
	CHECK_EQ(root_replace(root, "etc", "locale.conf", locale, sizeof(locale) - 1, 0644), 0);
	CHECK(files_variable(root, "etc/locale.conf", "LANG", v, sizeof(v)));
	CHECK_STR(v, "de_DE.UTF-8");
	CHECK(!files_variable(root, "etc/locale.conf", "LANGUAGE", v, sizeof(v)));
	CHECK(!files_variable(root, "etc/locale.conf", "LANG", v, 5));
	CHECK(!files_fstab(root));
	CHECK_EQ(root_replace(root, "etc", "fstab", "# x\n\n  \n", 8, 0644), 0);
	CHECK(!files_fstab(root));
	CHECK_EQ(root_replace(root, "etc", "fstab", "# x\nnone /x tmpfs\n", 18, 0644), 0);
	CHECK(files_fstab(root));
	remove_root(root);
}

TEST_MAIN()
