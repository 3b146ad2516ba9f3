/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <errno.h>
#include "lib/wslpath/env.h"
#include "lib/wslpath/path.h"

static const struct wslpath_map map = {"Deb", "/mnt/host", "/run/user/7/wslx/mnt/Deb"};

static const char *guest(const char *path)
{
	static char buf[4096];
	int r = wslpath_to_guest(&map, path, buf, sizeof(buf));

	return r < 0 ? strerror(-r) : buf;
}

static const char *host(const char *path)
{
	static char buf[4096];
	int r = wslpath_to_host(&map, path, buf, sizeof(buf));

	return r < 0 ? strerror(-r) : buf;
}

TEST(the_hosts_files_are_below_the_automount_root)
{
	CHECK_STR(guest("/home/me/x"), "/mnt/host/home/me/x");
	CHECK_STR(guest("/"), "/mnt/host/");
	CHECK_STR(guest("/a/"), "/mnt/host/a/");
	CHECK_STR(guest("/a b/ü"), "/mnt/host/a b/ü");
	CHECK_STR(host("/mnt/host/home/me/x"), "/home/me/x");
	CHECK_STR(host("/mnt/host"), "/");
	CHECK_STR(host("/mnt/host/"), "/");
	CHECK_STR(host("//mnt//host//a/"), "//a/");
}

TEST(its_own_files_are_below_the_hosts_folder_of_it)
{
	CHECK_STR(host("/etc/fstab"), "/run/user/7/wslx/mnt/Deb/etc/fstab");
	CHECK_STR(host("/"), "/run/user/7/wslx/mnt/Deb/");
	CHECK_STR(host("/mnt/hosts"), "/run/user/7/wslx/mnt/Deb/mnt/hosts");
	CHECK_STR(guest("/run/user/7/wslx/mnt/Deb/etc/fstab"), "/etc/fstab");
	CHECK_STR(guest("/run/user/7/wslx/mnt/Deb"), "/");
	CHECK_STR(guest("/run/user/7/wslx/mnt/Debian/x"), "/mnt/host/run/user/7/wslx/mnt/Debian/x");
}

TEST(dots_do_not_lead_from_one_root_into_the_other)
{
	CHECK_STR(guest("/run/user/7/wslx/mnt/Deb/../Other/x"),
		"/mnt/host/run/user/7/wslx/mnt/Deb/../Other/x");
	CHECK_STR(guest("/run/user/7/wslx/mnt/Deb/a/../b"), "/a/../b");
	CHECK_STR(host("/mnt/host/../x"), "/run/user/7/wslx/mnt/Deb/mnt/host/../x");
	CHECK_STR(host("/mnt/host/a/../b"), "/a/../b");
	CHECK_STR(host("/../../etc/passwd"), "/run/user/7/wslx/mnt/Deb/etc/passwd");
	CHECK_STR(host("/../mnt/host/etc/"), "/etc/");
	CHECK_STR(host("/a/../../mnt/./host/etc"), "/etc");
}

TEST(names_of_windows)
{
	CHECK_STR(guest("\\\\wsl.localhost\\Deb\\etc\\fstab"), "/etc/fstab");
	CHECK_STR(guest("\\\\WSL$\\deb\\"), "/");
	CHECK_STR(guest("\\\\wsl$\\deb"), "/");
	CHECK_STR(guest("//wsl.localhost/Deb/etc"), "/etc");
	CHECK_STR(guest("\\\\wsl.localhost\\Other\\etc"), strerror(EINVAL));
	CHECK_STR(guest("\\\\server\\share"), strerror(EINVAL));
	CHECK_STR(guest("C:\\Users"), strerror(EINVAL));
	CHECK(wslpath_foreign("C:\\Users"));
	CHECK(wslpath_foreign("\\\\wsl$\\x"));
	CHECK(wslpath_foreign("\\\\server\\share"));
	CHECK(!wslpath_foreign("a\\b"));
	CHECK(!wslpath_foreign("cc:/x"));
	CHECK(!wslpath_foreign("/x"));
}

TEST(a_name_that_does_not_fit_is_no_name)
{
	char buf[12];

	CHECK_EQ(wslpath_to_guest(&map, "/a", buf, sizeof(buf)), 0);
	CHECK_STR(buf, "/mnt/host/a");
	CHECK_EQ(wslpath_to_guest(&map, "/ab", buf, sizeof(buf)), -ENAMETOOLONG);
	CHECK_EQ(wslpath_to_host(&map, "/mnt/host/12345678901", buf, sizeof(buf)), -ENAMETOOLONG);
	CHECK_EQ(wslpath_to_host(&map, "relative", buf, sizeof(buf)), -EINVAL);
	CHECK_EQ(wslpath_to_guest(&map, "", buf, sizeof(buf)), -EINVAL);
}

TEST(wslenv_has_names_and_flags)
{
	const char *pos = "A:B/p:/p:C/lw:D/x:E/u::F/uw:G=/p:H/pl";
	const char *names[] = {"A", "B", "C", "E", "F", "H"};
	const bool to_guest[] = {true, true, false, true, true, true};
	const bool to_host[] = {true, true, true, false, true, true};
	struct wslenv_entry e;
	unsigned n = 0;

	while (wslenv_next(&pos, &e)) {
		REQUIRE(n < 6);
		CHECK_EQ(e.len, 1);
		CHECK_EQ(e.name[0], names[n][0]);
		CHECK_EQ(e.pass[WSLENV_TO_GUEST], to_guest[n]);
		CHECK_EQ(e.pass[WSLENV_TO_HOST], to_host[n]);
		CHECK_EQ(e.path, e.name[0] == 'B' || e.name[0] == 'H');
		CHECK_EQ(e.list, e.name[0] == 'C' || e.name[0] == 'H');
		n++;
	}
	CHECK_EQ(n, 6);
}

TEST(wslenv_says_what_passes)
{
	CHECK(wslenv_names("A/w:B", "B=x", WSLENV_TO_GUEST));
	CHECK(!wslenv_names("A/w:B", "A=x", WSLENV_TO_GUEST));
	CHECK(wslenv_names("A/w:B", "A=x", WSLENV_TO_HOST));
	CHECK(!wslenv_names("AB", "A=x", WSLENV_TO_HOST));
	CHECK(!wslenv_names("A", "AB=x", WSLENV_TO_HOST));
	CHECK(!wslenv_names(NULL, "A=x", WSLENV_TO_HOST));
	CHECK(wslenv_names("A", "WSLENV=A", WSLENV_TO_HOST));
}

static int to_guest(void *ctx, const char *path, char *buf, size_t cap)
{
	return wslpath_to_guest(&map, path, buf, cap);
}

static char *value(const char *entry, const char *v)
{
	struct wslenv_entry e;

	return wslenv_next(&entry, &e) ? wslenv_value(&e, v, to_guest, NULL) : NULL;
}

TEST(wslenv_translates_paths)
{
	char *s = value("A/p", "/home/me");

	CHECK_STR(s, "/mnt/host/home/me");
	free(s);
	s = value("A/p", "rel/x");
	CHECK_STR(s, "rel/x");
	free(s);
	s = value("A", "/home/me");
	CHECK_STR(s, "/home/me");
	free(s);
	s = value("A/l", "/a:rel:\\\\server\\x:/b/");
	CHECK_STR(s, "/mnt/host/a:rel:/mnt/host/b/");
	free(s);
	s = value("A/l", "");
	CHECK_STR(s, "");
	free(s);
	CHECK(!value("A/p", "\\\\server\\x"));
}

TEST_MAIN()
