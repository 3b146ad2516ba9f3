/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <errno.h>
#include "daemon/settings.h"
#include "lib/base/attr.h"
#include "lib/base/io.h"

static char path[64];

static void write_conf(const char *text)
{
	snprintf(path, sizeof(path), "/tmp/test-settings.%d", getpid());
	if (io_replace_file(path, text, strlen(text), 0600) < 0)
		abort();
}

static size_t warnings(const struct settings *s)
{
	return json_object_array_length(s->warnings);
}

TEST(no_file_means_defaults)
{
	struct settings s;
	struct err e = {0};

	REQUIRE(settings_load("/nowhere/wslx.conf", &s, &e) == 0);
	CHECK_EQ(s.vm_idle_ms, 60000);
	CHECK_EQ(s.instance_idle_ms, 15000);
	CHECK_EQ(s.engine, ENGINE_AUTO);
	CHECK(!s.interop && !s.wsl_compat);
	CHECK_EQ(warnings(&s), 0);
	settings_done(&s);
}

TEST(programs_of_the_host_are_allowed_by_saying_so)
{
	struct settings s;
	struct err e = {0};

	write_conf("[interop]\nenabled=true\nenabled=perhaps\nwslCompatibility=1\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK(s.interop && s.wsl_compat);
	CHECK_EQ(warnings(&s), 1);
	settings_done(&s);
	unlink(path);
}

TEST(a_wslconfig_works_and_its_problems_are_told_with_their_line)
{
	struct settings s;
	struct err e = {0};

	write_conf("[wsl2]\nmemory=2GB\nprocessors=1\nvmIdleTimeout=-1\nautoProxy=false\n"
		   "kernelCommandLine = a=b c\nvmIdleTimeout=soon\n[wslx]\nengine=soft\n"
		   "[general]\ninstanceIdleTimeout=1000\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK_EQ(s.memory, 2ull << 30);
	CHECK_EQ(s.processors, 1);
	CHECK_EQ(s.vm_idle_ms, -1);
	CHECK_EQ(s.instance_idle_ms, 1000);
	CHECK_EQ(s.engine, ENGINE_SOFT);
	CHECK_STR(s.command_line, "a=b c");
	REQUIRE(warnings(&s) == 1);
	CHECK(!s.auto_proxy);
	CHECK(strstr(js_text(s.warnings), ":7: bad value for wsl2.vmIdleTimeout") != NULL);
	settings_done(&s);
	unlink(path);
}

TEST(network_modes_have_other_names_and_what_comes_closest)
{
	static const struct {
		const char *mode;
		int net;
		unsigned warnings;
	} modes[] = {{"nat", NET_NAT, 0}, {"NONE", NET_NONE, 0}, {"virtioproxy", NET_NAT, 0},
		{"consomme", NET_NAT, 0}, {"mirrored", NET_MIRRORED, 0}, {"bridged", NET_NAT, 1},
		{"bridged\nvmSwitch=tap0", NET_BRIDGED, 0}, {"tap\nvmSwitch=tap0", NET_BRIDGED, 0},
		{"tap", NET_TAP, 0}, {"wireless", NET_NAT, 1}};
	struct settings s;
	struct err e = {0};
	char text[96];

	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		snprintf(text, sizeof(text), "[wsl2]\nnetworkingMode=%s\n", modes[i].mode);
		write_conf(text);
		REQUIRE(settings_load(path, &s, &e) == 0);
		CHECK_EQ(s.net, modes[i].net);
		CHECK_EQ(warnings(&s), modes[i].warnings);
		CHECK(s.localhost_forwarding);
		settings_done(&s);
	}
	write_conf("[wsl2]\nmacAddress=52-57-53-4C-58-02\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK_STR(s.mac, "52:57:53:4C:58:02");
	settings_done(&s);
	write_conf("[wsl2]\nmacAddress=53:57:53:4C:58:02\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK(!s.mac);
	CHECK_EQ(warnings(&s), 1);
	settings_done(&s);
	write_conf("[experimental]\nignoredPorts=80, 443,,8080\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK_STR(s.ignored_ports, "80, 443,,8080");
	settings_done(&s);
	write_conf("[experimental]\nignoredPorts=80;443\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK(!s.ignored_ports);
	CHECK_EQ(warnings(&s), 1);
	settings_done(&s);
	write_conf("[wsl2]\nsafeMode=true\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK_EQ(s.net, NET_NONE);
	settings_done(&s);
	unlink(path);
}

TEST(passt_is_for_a_network_behind_nat)
{
	static const struct {
		const char *conf;
		bool passt;
		unsigned warnings;
	} cases[] = {{"", false, 0}, {"[wslx]\nnetworkBackend=slirp\n", false, 0},
		{"[wslx]\nnetworkBackend=passt\n", true, 0},
		{"[wslx]\nnetworkBackend=pasta\n", false, 1},
		{"[wslx]\nnetworkBackend=passt\n[wsl2]\nnetworkingMode=mirrored\n", true, 0},
		{"[wslx]\nnetworkBackend=passt\n[wsl2]\nnetworkingMode=none\n", false, 0},
		{"[wslx]\nnetworkBackend=passt\n[wsl2]\nnetworkingMode=tap\nvmSwitch=tap0\n", false,
			0}};
	struct settings s;
	struct err e = {0};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		write_conf(cases[i].conf);
		REQUIRE(settings_load(path, &s, &e) == 0);
		CHECK_EQ(settings_passt(&s), cases[i].passt);
		CHECK_EQ(warnings(&s), cases[i].warnings);
		settings_done(&s);
	}
	unlink(path);
}

TEST(keys_that_mean_nothing_here_are_accepted)
{
	struct settings s;
	struct err e = {0};

	write_conf(
		"[wsl2]\nnestedVirtualization=true\ngpuSupport=false\ntelemetry=false\n"
		"guiApplications=true\nvirtio=true\n[experimental]\nsparseVhd=true\nswiotlb=64MB\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK_EQ(warnings(&s), 0);
	settings_done(&s);
	unlink(path);
}

/* All that WSL 2.6 knows: what has no meaning here, or not yet one, is not taken for a mistake. */
TEST(no_key_of_wslconfig_is_unknown)
{
	static const char *const wsl2[] = {"kernel", "kernelCommandLine", "kernelModules", "memory",
		"processors", "swap", "swapFile", "localhostForwarding", "networkingMode",
		"vmSwitch", "macAddress", "dhcp", "dhcpTimeout", "ipv6", "dnsProxy", "dnsTunneling",
		"firewall", "autoProxy", "nestedVirtualization", "virtio", "virtio9p", "virtiofs",
		"hostFileSystemAccess", "gpuSupport", "guiApplications", "systemDistro",
		"vmIdleTimeout", "kernelBootTimeout", "distributionStartTimeout",
		"mountDeviceTimeout", "debugConsole", "debugConsoleLogFile", "earlyBootLogging",
		"kernelDebugPort", "hardwarePerformanceCounters", "defaultVhdSize",
		"crashDumpFolder", "maxCrashDumpCount", "loadKernelModules",
		"loadDefaultKernelModules", "isolateDistroCgroup", "safeMode", "telemetry"};
	static const char *const general[] = {"distributionInstallPath", "instanceIdleTimeout"};
	static const char *const experimental[] = {"autoMemoryReclaim", "sparseVhd",
		"bestEffortDnsParsing", "dnsTunnelingIpAddress", "initialAutoProxyTimeout",
		"ignoredPorts", "hostAddressLoopback", "setVersionDebug", "swiotlb",
		"virtioFsAggregateShares", "networkingMode", "dnsTunneling", "firewall",
		"autoProxy"};
	const struct {
		const char *name;
		const char *const *keys;
		size_t n;
	} sections[] = {{"wsl2", wsl2, ARRAY_LEN(wsl2)}, {"general", general, ARRAY_LEN(general)},
		{"experimental", experimental, ARRAY_LEN(experimental)}};
	struct settings s;
	struct err e = {0};

	for (size_t i = 0; i < ARRAY_LEN(sections); i++)
		for (size_t k = 0; k < sections[i].n; k++) {
			char text[128];

			snprintf(text, sizeof(text), "[%s]\n%s=\n", sections[i].name,
				sections[i].keys[k]);
			write_conf(text);
			REQUIRE(settings_load(path, &s, &e) == 0);
			if (strstr(js_text(s.warnings), "unknown key"))
				printf("# %s\n", js_text(s.warnings));
			CHECK(!strstr(js_text(s.warnings), "unknown key"));
			settings_done(&s);
		}
	write_conf("[wsl2]\nnoKeyOfWsl=\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK(strstr(js_text(s.warnings), "unknown key") != NULL);
	settings_done(&s);
	unlink(path);
}

TEST(the_settings_of_the_vm_are_read)
{
	struct settings s;
	struct vm_plan p;
	struct err e = {0};

	setenv("HOME", "/home/me", 1);
	write_conf(
		"[wsl2]\nswap=3GB\nswapFile=~/swap\ndebugConsole=true\ndebugConsoleLogFile=/tmp/c.log\n"
		"earlyBootLogging=true\nmountDeviceTimeout=700\ndefaultVhdSize=64GB\n"
		"crashDumpFolder=/tmp/crashes\nmaxCrashDumpCount=-1\nisolateDistroCgroup=false\n"
		"loadDefaultKernelModules=false\n[general]\ndistributionInstallPath=/srv/d\n"
		"[experimental]\nautoMemoryReclaim=dropcache\n[wslx]\nclockCheckInterval=500\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK_EQ(warnings(&s), 0);
	CHECK_EQ(s.swap, 3ull << 30);
	CHECK_STR(s.swap_file, "/home/me/swap");
	CHECK(s.debug_console && s.early_boot_logging && !s.isolate_cgroup &&
		!s.load_default_modules);
	CHECK_STR(s.console_log, "/tmp/c.log");
	CHECK_EQ(s.mount_timeout_ms, 700);
	CHECK_EQ(s.disk_size, 64ull << 30);
	CHECK_EQ(settings_disk_size(path), 64ull << 30);
	CHECK_STR(s.crash_folder, "/tmp/crashes");
	CHECK_EQ(s.max_crashes, -1);
	CHECK_STR(s.install_path, "/srv/d");
	CHECK_EQ(s.reclaim, RECLAIM_DROP);
	CHECK_EQ(s.clock_check_ms, 500);
	settings_done(&s);

	/* A quarter of memory, in whole GiB, unless the file says otherwise. */
	write_conf("[wsl2]\nmemory=128MB\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	settings_plan(&s, "/nowhere", &p, &e);
	CHECK_EQ(p.swap, 1ull << 30);
	settings_done(&s);
	write_conf("[wsl2]\nmemory=128MB\nswap=0\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	settings_plan(&s, "/nowhere", &p, &e);
	CHECK_EQ(p.swap, 0);
	settings_done(&s);
	unlink(path);
}

TEST(bad_values_are_told_with_their_line)
{
	static const char *const said[] = {":2: bad value for wsl2.swap: '9000TB'",
		":3: bad value for wsl2.swapFile: 'here'",
		":4: bad value for wsl2.debugConsole: 'loud'",
		":5: bad value for wsl2.maxCrashDumpCount: '-2'",
		":6: bad value for wsl2.mountDeviceTimeout: '0'",
		":7: bad value for wsl2.crashDumpFolder: 'C:/dumps'",
		":9: bad value for experimental.autoMemoryReclaim: 'always'",
		"loadKernelModules is ignored: kernelModules names no disk"};
	struct settings s;
	struct err e = {0};

	write_conf("[wsl2]\nswap=9000TB\nswapFile=here\ndebugConsole=loud\nmaxCrashDumpCount=-2\n"
		   "mountDeviceTimeout=0\ncrashDumpFolder=C:/dumps\n[experimental]\n"
		   "autoMemoryReclaim=always\n[wsl2]\nloadKernelModules=tun\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK_EQ(warnings(&s), ARRAY_LEN(said));
	for (size_t i = 0; i < ARRAY_LEN(said); i++)
		CHECK(strstr(json_object_get_string(json_object_array_get_idx(s.warnings, i)),
			      said[i]) != NULL);
	CHECK_EQ(s.swap, SWAP_DEFAULT);
	CHECK_EQ(s.max_crashes, 10);
	settings_done(&s);
	unlink(path);
}

TEST(safe_mode_leaves_out_what_could_keep_it_from_starting)
{
	struct settings s;
	struct err e = {0};

	write_conf(
		"[wsl2]\nkernel=/bad\nkernelCommandLine=init=/bad\nkernelModules=/bad\nswap=1GB\n"
		"safeMode=true\nmemory=512MB\n[wslx]\ninitrd=/bad\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK(!s.kernel && !s.command_line && !s.modules && !s.initrd);
	CHECK_EQ(s.swap, 0);
	CHECK_EQ(s.memory, 512ull << 20);
	settings_done(&s);
	unlink(path);
}

TEST(a_folder_of_modules_is_no_disk)
{
	struct settings s;
	struct vm_plan p;
	struct err e = {0};

	write_conf(
		"[wsl2]\nmemory=128MB\nkernel=/dev/null\nkernelModules=/tmp\n[wslx]\ninitrd=/dev/null\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK_EQ(settings_plan(&s, "/nowhere", &p, &e), -EINVAL);
	CHECK(strstr(e.text, "kernelModules /tmp: a disk image is needed") != NULL);
	settings_done(&s);
	unlink(path);
}

TEST(what_this_host_cannot_give_is_refused)
{
	struct settings s;
	struct vm_plan p;
	struct err e = {0};

	write_conf("[wsl2]\nmemory=900TB\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK_EQ(settings_plan(&s, "/nowhere", &p, &e), -ENOMEM);
	CHECK(strstr(e.text, "this host has") != NULL);
	settings_done(&s);

	write_conf("[wsl2]\nmemory=1MB\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK_EQ(settings_plan(&s, "/nowhere", &p, &e), -EINVAL);
	settings_done(&s);

	write_conf("[wsl2]\nprocessors=4000\nkernel=/nowhere/vmlinuz\n");
	REQUIRE(settings_load(path, &s, &e) == 0);
	CHECK_EQ(settings_plan(&s, "/nowhere", &p, &e), -ENOENT);
	CHECK(strstr(e.text, "/nowhere/vmlinuz") != NULL);
	CHECK_EQ(p.processors, 64);
	CHECK_EQ(warnings(&s), 1);
	settings_done(&s);
	unlink(path);
}

TEST_MAIN()
