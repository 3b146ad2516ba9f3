/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include "guest/cgroup.h"
#include "guest/conf.h"

static struct warnings w;

static struct wsl_conf parse(const char *text)
{
	struct wsl_conf c;

	memset(&w, 0, sizeof(w));
	wsl_conf_parse(text, strlen(text), &c, &w);
	return c;
}

TEST(defaults)
{
	struct wsl_conf c = parse("");

	CHECK(c.automount && c.mount_fstab && c.interop && !c.append_path && c.generate_hosts);
	CHECK(c.generate_resolv_conf && c.host_timezone && c.protect_binfmt && !c.systemd);
	CHECK_EQ(c.umask, 022);
	CHECK_EQ(c.init_timeout_ms, 0);
	CHECK(!c.hostname && !c.user && !c.command && !c.automount_root);
	CHECK_EQ(w.n, 0);
	wsl_conf_done(&c);
}

TEST(every_key_is_known)
{
	struct wsl_conf c = parse(
		"[automount]\nenabled=false\nroot=/win\noptions=\"metadata,uid=1\"\nmountFsTab=false\nldconfig=false\n"
		"cgroups=v2\n[filesystem]\numask=077\n[interop]\nenabled=false\nappendWindowsPath=true\npathPrefix=/host\n"
		"[network]\ngenerateHosts=false\ngenerateResolvConf=false\nhostname=box\n[time]\n"
		"useWindowsTimezone=false\nuseHostTimezone=true\n[user]\ndefault=joe\n[boot]\n"
		"command=\"service x start\"\nsystemd=true\ninitTimeout=500\nprotectBinfmt=false\n[general]\n"
		"guiApplications=true\n[gpu]\nenabled=true\nappendLibPath=true\n[fileServer]\nenabled=true\n"
		"logFile=/x\nlogLevel=info\nlogTruncate=true\n");

	CHECK_EQ(w.n, 0);
	CHECK(!c.automount && !c.mount_fstab && !c.interop && c.append_path && !c.generate_hosts);
	CHECK(!c.generate_resolv_conf && c.host_timezone && !c.protect_binfmt && c.systemd);
	CHECK_EQ(c.umask, 077);
	CHECK_EQ(c.init_timeout_ms, 500);
	CHECK_STR(c.automount_root, "/win");
	CHECK_STR(c.automount_options, "metadata,uid=1");
	CHECK_STR(c.programs, "/host");
	CHECK_STR(c.hostname, "box");
	CHECK_STR(c.user, "joe");
	CHECK_STR(c.command, "service x start");
	wsl_conf_done(&c);
}

TEST(what_is_wrong_is_told_with_file_and_line_and_changes_nothing)
{
	struct wsl_conf c = parse(
		"[filesystem]\numask=9\n[boot]\nsystemd=perhaps\ninitTimeout=-1\nsystem=true\n"
		"[network]\nhostname=a b\n[automount]\ncgroups=v1\n");

	CHECK_EQ(c.umask, 022);
	CHECK(!c.systemd && !c.hostname);
	CHECK_EQ(c.init_timeout_ms, 0);
	REQUIRE(w.n == 6);
	CHECK_STR(w.text[0], "/etc/wsl.conf:2: bad value for filesystem.umask: '9'");
	CHECK_STR(w.text[1], "/etc/wsl.conf:4: bad value for boot.systemd: 'perhaps'");
	CHECK_STR(w.text[2], "/etc/wsl.conf:5: bad value for boot.initTimeout: '-1'");
	CHECK_STR(w.text[3], "/etc/wsl.conf:6: unknown key 'boot.system'");
	CHECK_STR(w.text[4], "/etc/wsl.conf: network.hostname 'a b' is no host name");
	CHECK_STR(w.text[5], "/etc/wsl.conf: automount.cgroups: there is cgroup v2 only");
	wsl_conf_done(&c);
}

TEST(warnings_are_bounded_and_fit_for_a_terminal)
{
	char text[8192] = "";
	struct wsl_conf c;

	for (int i = 0; i < 100; i++)
		strcat(text, "nonsense\n");
	c = parse(text);
	CHECK_EQ(w.n, WARN_MAX);
	CHECK_EQ(w.dropped, 100 - WARN_MAX);
	wsl_conf_done(&c);
	c = parse("[boot]\nsystemd=\"\\b\\t\"\n");
	CHECK_STR(w.text[0], "/etc/wsl.conf:2: bad value for boot.systemd: '\?\?'");
	wsl_conf_done(&c);
}

TEST(first_run_set_up)
{
	static const char text[] =
		"[oobe]\ncommand = /etc/oobe.sh\ndefaultUid = 1000\ndefaultName = X\n"
		"[shortcut]\nenabled=true\nicon=/i\n[windowsterminal]\nprofileTemplate=/t\nenabled=0\n";
	struct oobe_conf c;

	memset(&w, 0, sizeof(w));
	oobe_conf_parse(text, strlen(text), &c, &w);
	CHECK_EQ(w.n, 0);
	CHECK_STR(c.command, "/etc/oobe.sh");
	CHECK_EQ(c.uid, 1000);
	CHECK_STR(c.name, "X");
	oobe_conf_done(&c);
	oobe_conf_parse("[oobe]\ndefaultUid=-1\n", 21, &c, &w);
	CHECK_EQ(w.n, 1);
	CHECK_EQ(c.uid, -1);
	oobe_conf_done(&c);
}

TEST(what_systemd_consists_of_is_no_service_to_stay_for)
{
	static const char *const base[] = {"systemd-journald.service", "dbus.service",
		"getty@tty1.service", "serial-getty@ttyS0.service", "init.scope", "session-3.scope",
		"wslx-login@1000.service"};
	static const char *const services[] = {"nginx.service", "docker.service", "libpod-12.scope",
		"sshd.service", "run-r12.service"};

	for (size_t i = 0; i < ARRAY_LEN(base); i++)
		CHECK(cgroup_base_unit(base[i]));
	for (size_t i = 0; i < ARRAY_LEN(services); i++)
		CHECK(!cgroup_base_unit(services[i]));
}

TEST_MAIN()
