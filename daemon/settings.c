/* SPDX-License-Identifier: MIT */
#include "daemon/settings.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "daemon/passt.h"
#include "daemon/tap.h"
#include "lib/base/attr.h"
#include "lib/base/io.h"
#include "lib/conf/conf.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

enum { MAX_PROCESSORS = 64, MAX_TIME_MS = INT32_MAX };
#define MAX_SWAP       (1024 * GIB)
#define MAX_DISK       (16 * 1024 * GIB)
#define DEFAULT_DISK   (1024 * GIB)
#define MAX_WINDOW     (16 * GIB)
#define DEFAULT_WINDOW GIB

static const char *const engines[] = {"auto", "kvm", "soft", NULL};
static const char *const net_modes[] = {
	"nat", "none", "virtioproxy", "consomme", "bridged", "mirrored", "tap", NULL};
static const char *const backends[] = {"slirp", "passt", NULL};
static const char *const reclaims[] = {"gradual", "dropCache", "disabled", NULL};

#define KEY(sec, key, kind, member, ...)                                                           \
	{                                                                                          \
		sec, key, kind, offsetof(struct settings, member), __VA_ARGS__                     \
	}
#define TIME(sec, key, member)	  KEY(sec, key, CONF_INT, member, .min = -1, .max = MAX_TIME_MS)
#define TIMEOUT(sec, key, member) KEY(sec, key, CONF_INT, member, .min = 1, .max = MAX_TIME_MS)
/* Has no meaning on a Linux host, or is always so: wslx.conf(5) says which. */
#define NOTHING(sec, key)                                                                          \
	{                                                                                          \
		sec, key, CONF_IGNORED                                                             \
	}

static const struct conf_key keys[] = {
	KEY("wsl2", "memory", CONF_SIZE, memory),
	KEY("wsl2", "processors", CONF_INT, processors, .min = 1, .max = 4096),
	KEY("wsl2", "swap", CONF_SIZE, swap, .max = MAX_SWAP),
	KEY("wsl2", "swapFile", CONF_PATH, swap_file),
	KEY("wsl2", "kernel", CONF_STR, kernel),
	KEY("wsl2", "kernelCommandLine", CONF_STR, command_line),
	KEY("wsl2", "kernelModules", CONF_PATH, modules),
	KEY("wsl2", "loadKernelModules", CONF_STR, load_modules),
	KEY("wsl2", "loadDefaultKernelModules", CONF_BOOL, load_default_modules),
	KEY("wsl2", "isolateDistroCgroup", CONF_BOOL, isolate_cgroup),
	KEY("wsl2", "safeMode", CONF_BOOL, safe_mode),
	KEY("wsl2", "debugConsole", CONF_BOOL, debug_console),
	KEY("wsl2", "debugConsoleLogFile", CONF_PATH, console_log),
	KEY("wsl2", "earlyBootLogging", CONF_BOOL, early_boot_logging),
	KEY("wsl2", "defaultVhdSize", CONF_SIZE, disk_size, .max = MAX_DISK),
	KEY("wsl2", "crashDumpFolder", CONF_PATH, crash_folder),
	KEY("wsl2", "maxCrashDumpCount", CONF_INT, max_crashes, .min = -1, .max = 10000),
	TIME("wsl2", "vmIdleTimeout", vm_idle_ms),
	TIMEOUT("wsl2", "kernelBootTimeout", boot_timeout_ms),
	TIMEOUT("wsl2", "distributionStartTimeout", start_timeout_ms),
	TIMEOUT("wsl2", "mountDeviceTimeout", mount_timeout_ms),
	KEY("general", "distributionInstallPath", CONF_PATH, install_path),
	TIME("general", "instanceIdleTimeout", instance_idle_ms),
	KEY("experimental", "autoMemoryReclaim", CONF_CHOICE, reclaim, .choices = reclaims),
	KEY("wslx", "engine", CONF_CHOICE, engine, .choices = engines),
	KEY("wsl2", "hostFileSystemAccess", CONF_BOOL, host_files),
	KEY("wsl2", "virtio9p", CONF_BOOL, virtio_9p),
	KEY("wslx", "hostFolder", CONF_PATH, host_folder),
	KEY("wslx", "hostFolderOptions", CONF_STR, host_options),
	KEY("wslx", "hostMappingWindow", CONF_SIZE, host_window, .max = MAX_WINDOW),
	KEY("wslx", "initrd", CONF_STR, initrd),
	TIME("wslx", "serviceIdleTimeout", service_idle_ms),
	TIME("wslx", "clockCheckInterval", clock_check_ms),
	{"distribution.", "", CONF_ELSEWHERE},	    /* daemon/distro-conf.c */
	{"wslx", "distributionList", CONF_IGNORED}, /* cli/catalogue.c */
	{"interop", "enabled", CONF_BOOL, offsetof(struct settings, interop)},
	{"interop", "wslCompatibility", CONF_BOOL, offsetof(struct settings, wsl_compat)},

	KEY("wsl2", "networkingMode", CONF_CHOICE, net, .choices = net_modes),
	KEY("experimental", "networkingMode", CONF_CHOICE, net, .choices = net_modes),
	KEY("wsl2", "localhostForwarding", CONF_BOOL, localhost_forwarding),
	KEY("experimental", "ignoredPorts", CONF_STR, ignored_ports),
	KEY("wsl2", "macAddress", CONF_STR, mac),
	KEY("wslx", "network", CONF_STR, network),
	KEY("wslx", "networkBackend", CONF_CHOICE, backend, .choices = backends),
	KEY("wslx", "network6", CONF_STR, network6),
	KEY("wsl2", "vmSwitch", CONF_STR, vm_switch),
	KEY("wsl2", "dhcp", CONF_BOOL, dhcp),
	TIMEOUT("wsl2", "dhcpTimeout", dhcp_timeout_ms),
	KEY("wsl2", "ipv6", CONF_BOOL, ipv6),
	KEY("wslx", "gateway", CONF_STR, gateway),
	KEY("wslx", "resolvConf", CONF_PATH, resolv_conf),

	KEY("wsl2", "autoProxy", CONF_BOOL, auto_proxy),
	KEY("experimental", "autoProxy", CONF_BOOL, auto_proxy),

	NOTHING("wsl2", "dnsProxy"),
	NOTHING("wsl2", "dnsTunneling"),
	NOTHING("wsl2", "firewall"),
	NOTHING("experimental", "dnsTunneling"),
	NOTHING("experimental", "firewall"),
	NOTHING("experimental", "bestEffortDnsParsing"),
	NOTHING("experimental", "dnsTunnelingIpAddress"),
	NOTHING("experimental", "hostAddressLoopback"),
	NOTHING("experimental", "initialAutoProxyTimeout"),
	NOTHING("wsl2", "nestedVirtualization"),
	NOTHING("wsl2", "hardwarePerformanceCounters"),
	NOTHING("wsl2", "virtio"),
	NOTHING("wsl2", "virtiofs"),
	NOTHING("wsl2", "gpuSupport"),
	NOTHING("wsl2", "guiApplications"),
	NOTHING("wsl2", "systemDistro"),
	NOTHING("wsl2", "kernelDebugPort"),
	NOTHING("wsl2", "telemetry"),
	NOTHING("experimental", "sparseVhd"),
	NOTHING("experimental", "setVersionDebug"),
	NOTHING("experimental", "swiotlb"),
	NOTHING("experimental", "virtioFsAggregateShares"),
};

struct warn_ctx {
	const char *path;
	struct json_object *list;
};

static void add_warning(struct json_object *list, const char *text)
{
	struct json_object *s = json_object_new_string(text);

	if (!s)
		abort();
	js_push(list, s);
}

void settings_warn(const struct settings *s, const char *text)
{
	add_warning(s->warnings, text);
}

static void warn(void *ctx, unsigned line, const char *text)
{
	struct warn_ctx *w = ctx;
	size_t n = json_object_array_length(w->list);
	char full[5000];

	if (n < SETTINGS_MAX_WARNINGS)
		snprintf(full, sizeof(full), "%s:%u: %s", w->path, line, text);
	else
		snprintf(full, sizeof(full), "%s: and more of that kind", w->path);
	if (n <= SETTINGS_MAX_WARNINGS)
		add_warning(w->list, full);
}

static void drop(char **s)
{
	free(*s);
	*s = NULL;
}

/* "52:57:53:4c:58:01", or with "-" as Windows writes it, which it then is no longer; not that of a group. */
static bool mac_ok(char *text)
{
	unsigned first;

	if (strlen(text) != 17 || sscanf(text, "%2x", &first) != 1 || first & 1)
		return false;
	for (int i = 0; i < 17; i++) {
		if (i % 3 == 2 && text[i] == '-')
			text[i] = ':';
		if (i % 3 == 2 ? text[i] != ':' : !isxdigit((unsigned char)text[i]))
			return false;
	}
	return true;
}

/* "80, 443" */
static bool ports_ok(const char *text)
{
	unsigned long port;
	char *end;

	for (const char *p = text; *p;) {
		if (*p == ',' || isspace((unsigned char)*p)) {
			p++;
			continue;
		}
		port = isdigit((unsigned char)*p) ? strtoul(p, &end, 10) : 0;
		if (port < 1 || port > 65535)
			return false;
		p = end;
	}
	return true;
}

static void check_net(struct settings *s, const char *path)
{
	char full[4400];

	if (s->net == NET_TAP && s->vm_switch)
		s->net = NET_BRIDGED;
	if (s->net == NET_VIRTIO_PROXY || s->net == NET_CONSOMME)
		s->net = NET_NAT;
	if (s->net == NET_BRIDGED && !s->vm_switch) {
		snprintf(full, sizeof(full),
			"%s: networkingMode=bridged needs vmSwitch, the name of a tap device; using nat",
			path);
		add_warning(s->warnings, full);
		s->net = NET_NAT;
	}
	if (s->ignored_ports && !ports_ok(s->ignored_ports)) {
		snprintf(full, sizeof(full), "%s: bad value for experimental.ignoredPorts: '%.80s'",
			path, s->ignored_ports);
		add_warning(s->warnings, full);
		drop(&s->ignored_ports);
	}
	if (s->mac && !mac_ok(s->mac)) {
		snprintf(full, sizeof(full), "%s: bad value for wsl2.macAddress: '%.80s'", path,
			s->mac);
		add_warning(s->warnings, full);
		drop(&s->mac);
	}
}

/* Nothing that could keep the VM from starting. */
static void make_safe(struct settings *s)
{
	s->net = NET_NONE;
	drop(&s->kernel);
	drop(&s->initrd);
	drop(&s->command_line);
	drop(&s->modules);
	drop(&s->load_modules);
	drop(&s->console_log);
	s->swap = 0;
}

int settings_load(const char *path, struct settings *ret, struct err *e)
{
	cleanup_free char *text = NULL;
	struct warn_ctx w = {.path = path, .list = js_array()};
	size_t len = 0;
	int r;

	*ret = (struct settings){.swap = SWAP_DEFAULT,
		.load_default_modules = true,
		.isolate_cgroup = true,
		.disk_size = DEFAULT_DISK,
		.max_crashes = 10,
		.host_files = true,
		.host_window = DEFAULT_WINDOW,
		.vm_idle_ms = 60000,
		.instance_idle_ms = 15000,
		.service_idle_ms = 60000,
		.boot_timeout_ms = 180000,
		.start_timeout_ms = 120000,
		.mount_timeout_ms = 10000,
		.clock_check_ms = 60000,
		.localhost_forwarding = true,
		.auto_proxy = true,
		.dhcp = true,
		.ipv6 = true,
		.dhcp_timeout_ms = 5000,
		.warnings = w.list};
	r = io_read_file(path, CONF_MAX_FILE, &text, &len);
	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r < 0) {
		settings_done(ret);
		return err_sys(e, r, "%s", path);
	}
	conf_apply(text, len, keys, ARRAY_LEN(keys), ret, warn, &w);
	check_net(ret, path);
	if (ret->safe_mode)
		make_safe(ret);
	if (ret->load_modules && !ret->modules) {
		char full[4400];

		snprintf(full, sizeof(full),
			"%s: wsl2.loadKernelModules is ignored: kernelModules names no disk", path);
		add_warning(ret->warnings, full);
	}
	return 0;
}

void settings_done(struct settings *s)
{
	free(s->kernel);
	free(s->initrd);
	free(s->command_line);
	free(s->swap_file);
	free(s->modules);
	free(s->load_modules);
	free(s->console_log);
	free(s->crash_folder);
	free(s->install_path);
	free(s->host_folder);
	free(s->host_options);
	free(s->ignored_ports);
	free(s->mac);
	free(s->network);
	free(s->network6);
	free(s->vm_switch);
	free(s->gateway);
	free(s->resolv_conf);
	js_free(s->warnings);
	*s = (struct settings){0};
}

static uint64_t host_memory(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static unsigned host_processors(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		return (unsigned)CPU_COUNT(&set);
	return (unsigned)MAX(sysconf(_SC_NPROCESSORS_ONLN), 1);
}

/* Guest memory is sparse: what the guest does not touch costs nothing. */
static uint64_t default_memory(void)
{
	uint64_t half = host_memory() / 2;

	return MAX(256 * MIB, MIN(half, 64 * GIB));
}

static int plan_size(struct settings *s, struct vm_plan *p, struct err *e)
{
	char text[128];

	p->memory = ALIGN_DOWN(s->memory ? s->memory : default_memory(), 2 * MIB);
	if (p->memory > host_memory())
		return err_set(e, -ENOMEM,
			"memory is set to %" PRIu64 " MiB, this host has %" PRIu64
			" MiB; lower 'memory' in wslx.conf",
			p->memory / MIB, host_memory() / MIB);
	if (p->memory < 64 * MIB)
		return err_set(e, -EINVAL,
			"memory is set to %" PRIu64
			" MiB, at least 64 are needed; raise 'memory' in wslx.conf",
			p->memory / MIB);
	p->swap = s->swap == SWAP_DEFAULT ? ALIGN_UP(p->memory / 4, GIB) : s->swap;
	p->processors = s->processors ? (unsigned)s->processors
				      : MIN(host_processors(), (unsigned)MAX_PROCESSORS);
	/* More than the host has is slow, but what one asks for may be a test of just that. */
	if (p->processors > MAX_PROCESSORS) {
		snprintf(text, sizeof(text),
			"processors is set to %u: using %u, the most there can be", p->processors,
			(unsigned)MAX_PROCESSORS);
		add_warning(s->warnings, text);
		p->processors = MAX_PROCESSORS;
	}
	return 0;
}

static bool readable(const char *path)
{
	return access(path, R_OK) == 0;
}

static int plan_boot_files(
	const struct settings *s, const char *data_dir, struct vm_plan *p, struct err *e)
{
	const char *env_kernel = getenv("WSLX_KERNEL"), *env_initrd = getenv("WSLX_INITRD");
	const char *kernel = env_kernel && *env_kernel ? env_kernel : s->kernel;
	const char *initrd = env_initrd && *env_initrd ? env_initrd : s->initrd;
	struct stat st;
	char ours[4000];

	snprintf(ours, sizeof(ours), "%s/kernel", data_dir);
	if (!readable(ours))
		strcpy(ours, WSLX_GUEST_DIR "/current");
	if (kernel)
		snprintf(p->kernel, sizeof(p->kernel), "%s", kernel);
	else
		snprintf(p->kernel, sizeof(p->kernel), "%s/vmlinuz", ours);
	if (initrd)
		snprintf(p->initrd, sizeof(p->initrd), "%s", initrd);
	else
		snprintf(p->initrd, sizeof(p->initrd), "%s/initrd.img", ours);
	if (!readable(p->kernel))
		return err_sys(e, -errno, "kernel %s%s", p->kernel,
			kernel ? ""
			       : " (install the package wslx-guest, or set 'kernel' in wslx.conf)");
	if (s->modules && (stat(s->modules, &st) < 0 || access(s->modules, R_OK) < 0))
		return err_sys(e, -errno, "kernelModules %s", s->modules);
	if (s->modules && !S_ISREG(st.st_mode))
		return err_set(e, -EINVAL,
			"kernelModules %s: a disk image is needed, as mke2fs -d makes one of a folder",
			s->modules);
	if (!readable(p->initrd))
		return err_sys(e, -errno, "initial file system %s", p->initrd);
	return 0;
}

bool settings_passt(const struct settings *s)
{
	return s->backend == BACKEND_PASST && (s->net == NET_NAT || s->net == NET_MIRRORED);
}

int settings_plan(struct settings *s, const char *data_dir, struct vm_plan *ret, struct err *e)
{
	char path[PATH_MAX];
	int r = plan_size(s, ret, e);

	if (r == 0)
		r = plan_boot_files(s, data_dir, ret, e);
	if (r == 0 && s->net == NET_BRIDGED)
		r = tap_check(s->vm_switch, e);
	if (r == 0 && s->net == NET_TAP)
		r = tap_may(e);
	if (r == 0 && settings_passt(s))
		r = passt_find(path, sizeof(path), e);
	return r;
}

uint64_t settings_disk_size(const char *path)
{
	uint64_t size = DEFAULT_DISK;
	struct settings s;

	if (settings_load(path, &s, NULL) == 0) {
		size = s.disk_size;
		settings_done(&s);
	}
	return size;
}

void settings_new_dir(const char *path, const char *data_dir, const char *id, char *buf, size_t cap)
{
	struct settings s;

	if (settings_load(path, &s, NULL) < 0) {
		snprintf(buf, cap, "%s/distributions/%s", data_dir, id);
		return;
	}
	if (s.install_path)
		snprintf(buf, cap, "%s/%s", s.install_path, id);
	else
		snprintf(buf, cap, "%s/distributions/%s", data_dir, id);
	settings_done(&s);
}

const char *settings_engine_name(int engine)
{
	return engines[engine];
}

const char *settings_net_name(int net)
{
	return net_modes[net];
}

const char *settings_backend_name(int backend)
{
	return backends[backend];
}
