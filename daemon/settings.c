/* SPDX-License-Identifier: MIT */
#include "daemon/settings.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/io.h"
#include "lib/conf/conf.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

enum { MAX_PROCESSORS = 64, MAX_TIME_MS = INT32_MAX };

static const char *const engines[] = {"auto", "kvm", "soft", NULL};

#define TIME(sec, key, member)                                                                     \
	{                                                                                          \
		sec, key, CONF_INT, offsetof(struct settings, member), .min = -1,                  \
								       .max = MAX_TIME_MS          \
	}
#define TIMEOUT(sec, key, member)                                                                  \
	{                                                                                          \
		sec, key, CONF_INT, offsetof(struct settings, member), .min = 1,                   \
								       .max = MAX_TIME_MS          \
	}
#define LATER(sec, key)                                                                            \
	{                                                                                          \
		sec, key, CONF_UNSUPPORTED                                                         \
	}

static const struct conf_key keys[] = {
	{"wsl2", "memory", CONF_SIZE, offsetof(struct settings, memory)},
	{"wsl2", "processors", CONF_INT, offsetof(struct settings, processors), .min = 1,
		.max = 4096},
	{"wsl2", "kernel", CONF_STR, offsetof(struct settings, kernel)},
	{"wsl2", "kernelCommandLine", CONF_STR, offsetof(struct settings, command_line)},
	TIME("wsl2", "vmIdleTimeout", vm_idle_ms),
	TIMEOUT("wsl2", "kernelBootTimeout", boot_timeout_ms),
	TIMEOUT("wsl2", "distributionStartTimeout", start_timeout_ms),
	TIME("general", "instanceIdleTimeout", instance_idle_ms),
	{"wslx", "engine", CONF_CHOICE, offsetof(struct settings, engine), .choices = engines},
	{"wslx", "initrd", CONF_STR, offsetof(struct settings, initrd)},
	TIME("wslx", "serviceIdleTimeout", service_idle_ms),
	LATER("wsl2", "kernelModules"),
	LATER("wsl2", "swap"),
	LATER("wsl2", "swapFile"),
	LATER("wsl2", "localhostForwarding"),
	LATER("wsl2", "networkingMode"),
	LATER("wsl2", "vmSwitch"),
	LATER("wsl2", "macAddress"),
	LATER("wsl2", "dhcp"),
	LATER("wsl2", "dhcpTimeout"),
	LATER("wsl2", "ipv6"),
	LATER("wsl2", "dnsProxy"),
	LATER("wsl2", "dnsTunneling"),
	LATER("wsl2", "firewall"),
	LATER("wsl2", "autoProxy"),
	LATER("wsl2", "nestedVirtualization"),
	LATER("wsl2", "virtio"),
	LATER("wsl2", "virtio9p"),
	LATER("wsl2", "virtiofs"),
	LATER("wsl2", "hostFileSystemAccess"),
	LATER("wsl2", "gpuSupport"),
	LATER("wsl2", "guiApplications"),
	LATER("wsl2", "systemDistro"),
	LATER("wsl2", "mountDeviceTimeout"),
	LATER("wsl2", "debugConsole"),
	LATER("wsl2", "debugConsoleLogFile"),
	LATER("wsl2", "earlyBootLogging"),
	LATER("wsl2", "kernelDebugPort"),
	LATER("wsl2", "hardwarePerformanceCounters"),
	LATER("wsl2", "defaultVhdSize"),
	LATER("wsl2", "crashDumpFolder"),
	LATER("wsl2", "maxCrashDumpCount"),
	LATER("wsl2", "loadKernelModules"),
	LATER("wsl2", "loadDefaultKernelModules"),
	LATER("wsl2", "isolateDistroCgroup"),
	LATER("wsl2", "safeMode"),
	LATER("wsl2", "telemetry"),
	LATER("general", "distributionInstallPath"),
	LATER("experimental", "autoMemoryReclaim"),
	LATER("experimental", "sparseVhd"),
	LATER("experimental", "bestEffortDnsParsing"),
	LATER("experimental", "dnsTunnelingIpAddress"),
	LATER("experimental", "initialAutoProxyTimeout"),
	LATER("experimental", "ignoredPorts"),
	LATER("experimental", "hostAddressLoopback"),
	LATER("experimental", "setVersionDebug"),
	LATER("experimental", "swiotlb"),
	LATER("experimental", "virtioFsAggregateShares"),
	LATER("experimental", "networkingMode"),
	LATER("experimental", "dnsTunneling"),
	LATER("experimental", "firewall"),
	LATER("experimental", "autoProxy"),
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

static void warn(void *ctx, unsigned line, const char *text)
{
	struct warn_ctx *w = ctx;
	char full[5000];

	snprintf(full, sizeof(full), "%s:%u: %s", w->path, line, text);
	if (json_object_array_length(w->list) < 50)
		add_warning(w->list, full);
}

int settings_load(const char *path, struct settings *ret, struct err *e)
{
	cleanup_free char *text = NULL;
	struct warn_ctx w = {.path = path, .list = js_array()};
	size_t len = 0;
	int r;

	*ret = (struct settings){.vm_idle_ms = 60000,
		.instance_idle_ms = 15000,
		.service_idle_ms = 60000,
		.boot_timeout_ms = 180000,
		.start_timeout_ms = 120000,
		.warnings = w.list};
	r = io_read_file(path, CONF_MAX_FILE, &text, &len);
	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r < 0) {
		settings_done(ret);
		return err_sys(e, r, "%s", path);
	}
	conf_apply(text, len, keys, ARRAY_LEN(keys), ret, warn, &w);
	return 0;
}

void settings_done(struct settings *s)
{
	free(s->kernel);
	free(s->initrd);
	free(s->command_line);
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
	char ours[4000];

	snprintf(ours, sizeof(ours), "%s/kernel", data_dir);
	if (!readable(ours))
		strcpy(ours, "/usr/lib/wslx");
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
			       : " (set 'kernel' in wslx.conf, or install one with ./dev setup)");
	if (!readable(p->initrd))
		return err_sys(e, -errno, "initial file system %s", p->initrd);
	return 0;
}

int settings_plan(struct settings *s, const char *data_dir, struct vm_plan *ret, struct err *e)
{
	int r = plan_size(s, ret, e);

	return r < 0 ? r : plan_boot_files(s, data_dir, ret, e);
}

const char *settings_engine_name(int engine)
{
	return engines[engine];
}
