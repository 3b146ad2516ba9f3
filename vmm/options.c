/* SPDX-License-Identifier: MIT */
#include "vmm/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/os/window.h"
#include "vmm/core/cpu.h"

enum {
	OPT_KERNEL = 256,
	OPT_INITRD,
	OPT_CMDLINE,
	OPT_NO_DEFAULT_CMDLINE,
	OPT_MEMORY,
	OPT_CPUS,
	OPT_ENGINE,
	OPT_SERIAL,
	OPT_DISK,
	OPT_VHOST,
	OPT_VSOCK,
	OPT_CONTROL,
	OPT_CONSOLE,
	OPT_BALLOON,
	OPT_RESTORE,
	OPT_EXTRACT,
	OPT_NO_SANDBOX,
	OPT_PROBE,
	OPT_TRANSLATE,
	OPT_DIRECT,
};

static const struct option longopts[] = {
	{"kernel", required_argument, NULL, OPT_KERNEL},
	{"initrd", required_argument, NULL, OPT_INITRD},
	{"cmdline", required_argument, NULL, OPT_CMDLINE},
	{"no-default-cmdline", no_argument, NULL, OPT_NO_DEFAULT_CMDLINE},
	{"memory", required_argument, NULL, OPT_MEMORY},
	{"cpus", required_argument, NULL, OPT_CPUS},
	{"engine", required_argument, NULL, OPT_ENGINE},
	{"translate", required_argument, NULL, OPT_TRANSLATE},
	{"direct", required_argument, NULL, OPT_DIRECT},
	{"serial", required_argument, NULL, OPT_SERIAL},
	{"disk", required_argument, NULL, OPT_DISK},
	{"vhost-user", required_argument, NULL, OPT_VHOST},
	{"vsock", required_argument, NULL, OPT_VSOCK},
	{"control", required_argument, NULL, OPT_CONTROL},
	{"console", required_argument, NULL, OPT_CONSOLE},
	{"balloon", no_argument, NULL, OPT_BALLOON},
	{"restore", required_argument, NULL, OPT_RESTORE},
	{"extract-kernel", required_argument, NULL, OPT_EXTRACT},
	{"no-sandbox", no_argument, NULL, OPT_NO_SANDBOX},
	{"probe", no_argument, NULL, OPT_PROBE},
	{"verbose", no_argument, NULL, 'v'},
	{"version", no_argument, NULL, 'V'},
	{"help", no_argument, NULL, 'h'},
	{0},
};

const char *options_usage(void)
{
	return "usage: wslx-vmm --kernel FILE [OPTION...]\n"
	       "\n"
	       "  --kernel FILE          Linux kernel: vmlinuz (bzImage) or vmlinux (ELF)\n"
	       "  --initrd FILE          initial RAM file system\n"
	       "  --cmdline STRING       appended to the kernel's default command line\n"
	       "  --no-default-cmdline   STRING is the whole command line\n"
	       "  --memory MIB           guest memory (512)\n"
	       "  --cpus N               virtual CPUs (1)\n"
	       "  --engine auto|kvm|soft what runs the virtual CPUs (auto: KVM if it works here)\n"
	       "  --translate on|off|check   soft engine: translate hot code (default), interpret everything, or\n"
	       "                         do both and compare\n"
	       "  --direct on|off|always soft engine: let the processor itself execute user code that computes\n"
	       "                         (default, with --translate on), none, or all of it\n"
	       "  --serial stdio|null|file:PATH   first serial port (null)\n"
	       "  --disk PATH[,ro][,vhdx]   a disk, raw or in a VHDX file; repeatable, in LUN order\n"
	       "  --vhost-user fs,tag=TAG[,queues=N][,dax=MIB][,socket=PATH|,fd=N]\n"
	       "  --vhost-user 9p,tag=TAG[,socket=PATH|,fd=N]\n"
	       "  --vhost-user net[,mac=MAC][,mtu=N][,socket=PATH|,fd=N]\n"
	       "                         a virtio-fs, virtio-9p or virtio-net device that another process serves; without socket\n"
	       "                         and fd its server comes later (control call vhost-user-attach); repeatable;\n"
	       "                         dax: addresses into which the server can map files, a power of two\n"
	       "  --vsock PATH           unix socket for vsock; the guest's CID is 3\n"
	       "  --console PATH         unix socket for the virtio console hvc0\n"
	       "  --balloon              memory balloon with free page reporting\n"
	       "  --control PATH         unix socket for control calls\n"
	       "  --restore FILE         continue the machine saved in FILE\n"
	       "  --no-sandbox           do not enter the sandbox (for debugging)\n"
	       "  --extract-kernel OUT   write the unpacked kernel (vmlinux) to OUT and exit\n"
	       "  --probe                say which engine would be used and why, and exit\n"
	       "  -v, --verbose          debug messages\n"
	       "\n"
	       "Exit status: 0 power-off, 1 error, 2 usage, 3 guest reset, 4 guest crash, 5 stopped\n"
	       "on request, 6 guest halted.\n";
}

static int number(
	const char *opt, const char *text, unsigned min, unsigned max, unsigned *ret, struct err *e)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(text, &end, 10);
	if (errno || end == text || *end || text[0] == '-' || v < min || v > max)
		return err_set(e, -EINVAL, "--%s %s: a number from %u to %u is needed", opt, text,
			min, max);
	*ret = v;
	return 0;
}

int disk_format_parse(const char *text, enum disk_format *ret)
{
	bool vhdx = strcmp(text, "vhdx") == 0;

	if (!vhdx && strcmp(text, "raw") != 0)
		return -EINVAL;
	*ret = vhdx ? DISK_VHDX : DISK_RAW;
	return 0;
}

static int disk(struct options *o, char *text, struct err *e)
{
	char *comma;
	struct opt_disk *d;

	if (o->ndisks == OPT_MAX_DISKS)
		return err_set(e, -EINVAL, "--disk: more than %d disks", OPT_MAX_DISKS);
	d = &o->disks[o->ndisks++];
	d->path = text;
	/* From the end: what is none of these belongs to the path. */
	while ((comma = strrchr(text, ','))) {
		if (strcmp(comma, ",ro") == 0)
			d->readonly = true;
		else if (disk_format_parse(comma + 1, &d->format) < 0)
			break;
		*comma = 0;
	}
	return 0;
}

static int mac(const char *text, uint8_t *ret, struct err *e)
{
	int n = 0, r = sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &ret[0], &ret[1],
			   &ret[2], &ret[3], &ret[4], &ret[5], &n);

	if (r != 6 || text[n] || (ret[0] & 1))
		return err_set(
			e, -EINVAL, "--vhost-user: mac=%s is not an address of one device", text);
	return 0;
}

static int vhost_value(struct opt_vhost *v, const char *key, char *value, struct err *e)
{
	bool fs = v->conf.kind == VHOST_FS, net = v->conf.kind == VHOST_NET;
	unsigned n;
	int r;

	if (!value || !*value)
		return err_set(e, -EINVAL, "--vhost-user: %s needs a value", key);
	if (strcmp(key, "socket") == 0) {
		v->socket = value;
		return 0;
	}
	if (strcmp(key, "fd") == 0) {
		r = number("vhost-user fd", value, 3, 1 << 20, &n, e);
		v->fd = r < 0 ? -1 : (int)n;
		return r;
	}
	if (!net && strcmp(key, "tag") == 0) {
		if (strlen(value) > VHOST_TAG_MAX)
			return err_set(e, -EINVAL, "--vhost-user: tag=%s has more than %d bytes",
				value, VHOST_TAG_MAX);
		v->conf.tag = value;
		return 0;
	}
	if (fs && strcmp(key, "queues") == 0)
		return number(
			"vhost-user queues", value, 1, VHOST_DEV_QUEUES - 1, &v->conf.requests, e);
	if (fs && strcmp(key, "dax") == 0) {
		r = number("vhost-user dax", value, 0, OS_WINDOW_MAX >> 20, &n, e);
		if (r == 0 && n & (n - 1))
			r = err_set(e, -EINVAL, "--vhost-user: dax=%s is no power of two", value);
		if (r == 0 && n == 1)
			r = err_set(e, -EINVAL, "--vhost-user: dax=%s is too small", value);
		v->conf.window = r < 0 ? 0 : (uint64_t)n << 20;
		return r;
	}
	if (net && strcmp(key, "mac") == 0)
		return mac(value, v->conf.mac, e);
	if (net && strcmp(key, "mtu") == 0) {
		r = number("vhost-user mtu", value, 68, UINT16_MAX, &n, e);
		v->conf.mtu = r < 0 ? 0 : (uint16_t)n;
		return r;
	}
	return err_set(e, -EINVAL, "--vhost-user: no such setting: %s", key);
}

static int vhost(struct options *o, char *text, struct err *e)
{
	/* Locally administered, the same in each machine: they do not share a network. */
	static const uint8_t default_mac[6] = {0x02, 0x57, 0x53, 0x4c, 0x58, 0x01};
	char *kind = strsep(&text, ","), *key;
	struct opt_vhost *v;
	int r = 0;

	if (o->nvhost == OPT_MAX_VHOST)
		return err_set(e, -EINVAL, "--vhost-user: more than %d devices", OPT_MAX_VHOST);
	v = &o->vhost[o->nvhost++];
	*v = (struct opt_vhost){.conf = {.requests = 1}, .fd = -1};
	memcpy(v->conf.mac, default_mac, sizeof(default_mac));
	if (strcmp(kind, "fs") == 0)
		v->conf.kind = VHOST_FS;
	else if (strcmp(kind, "net") == 0)
		v->conf.kind = VHOST_NET;
	else if (strcmp(kind, "9p") == 0)
		v->conf.kind = VHOST_9P;
	else
		return err_set(e, -EINVAL, "--vhost-user %s: fs, 9p or net is needed", kind);
	while (r == 0 && (key = strsep(&text, ","))) {
		char *value = key;

		strsep(&value, "=");
		r = vhost_value(v, key, value, e);
	}
	if (r == 0 && v->conf.kind != VHOST_NET && !v->conf.tag)
		r = err_set(e, -EINVAL, "--vhost-user %s: tag= is needed", kind);
	if (r == 0 && v->socket && v->fd >= 0)
		r = err_set(e, -EINVAL, "--vhost-user: socket= or fd=, not both");
	return r;
}

/* Which of the names text is; -1: none. */
static int choice(const char *const *names, unsigned n, const char *text)
{
	for (unsigned i = 0; i < n; i++)
		if (strcmp(text, names[i]) == 0)
			return (int)i;
	return -1;
}

static int translate(struct options *o, const char *text, struct err *e)
{
	static const char *const names[] = {
		[JIT_OFF] = "off", [JIT_ON] = "on", [JIT_CHECK] = "check"};
	int n = choice(names, ARRAY_LEN(names), text);

	o->translate = (enum jit_mode)n;
	return n < 0 ? err_set(e, -EINVAL, "--translate %s: on, off or check is needed", text) : 0;
}

static int direct(struct options *o, const char *text, struct err *e)
{
	static const char *const names[] = {[DIRECT_MODE_OFF] = "off",
		[DIRECT_MODE_ON] = "on",
		[DIRECT_MODE_ALWAYS] = "always"};
	int n = choice(names, ARRAY_LEN(names), text);

	o->direct = (enum direct_mode)n;
	return n < 0 ? err_set(e, -EINVAL, "--direct %s: on, off or always is needed", text) : 0;
}

static int engine(struct options *o, const char *text, struct err *e)
{
	static const char *const names[] = {
		[ENGINE_AUTO] = "auto", [ENGINE_KVM] = "kvm", [ENGINE_SOFT] = "soft"};
	int n = choice(names, ARRAY_LEN(names), text);

	o->engine = (enum engine_kind)n;
	return n < 0 ? err_set(e, -EINVAL, "--engine %s: auto, kvm or soft is needed", text) : 0;
}

int options_parse(struct options *o, int argc, char **argv, struct err *e)
{
	int c, r = 0;

	*o = (struct options){.memory_mib = 512,
		.cpus = 1,
		.translate = JIT_ON,
		.direct = DIRECT_MODE_ON,
		.serial = "null",
		.cmdline = ""};
	opterr = 0;
	while (r == 0 && (c = getopt_long(argc, argv, ":vVh", longopts, NULL)) != -1) {
		switch (c) {
		case OPT_KERNEL: o->kernel = optarg; break;
		case OPT_INITRD: o->initrd = optarg; break;
		case OPT_CMDLINE: o->cmdline = optarg; break;
		case OPT_NO_DEFAULT_CMDLINE: o->no_default_cmdline = true; break;
		case OPT_MEMORY:
			r = number("memory", optarg, 32, 1 << 20, &o->memory_mib, e);
			break;
		case OPT_CPUS: r = number("cpus", optarg, 1, CPU_MAX_VCPUS, &o->cpus, e); break;
		case OPT_TRANSLATE: r = translate(o, optarg, e); break;
		case OPT_DIRECT: r = direct(o, optarg, e); break;
		case OPT_ENGINE: r = engine(o, optarg, e); break;
		case OPT_SERIAL: o->serial = optarg; break;
		case OPT_DISK: r = disk(o, optarg, e); break;
		case OPT_VHOST: r = vhost(o, optarg, e); break;
		case OPT_VSOCK: o->vsock = optarg; break;
		case OPT_CONTROL: o->control = optarg; break;
		case OPT_CONSOLE: o->console = optarg; break;
		case OPT_BALLOON: o->balloon = true; break;
		case OPT_RESTORE: o->restore = optarg; break;
		case OPT_EXTRACT: o->extract = optarg; break;
		case OPT_NO_SANDBOX: o->no_sandbox = true; break;
		case OPT_PROBE: o->probe = true; break;
		case 'v': o->verbose = true; break;
		case 'V':
		case 'h': return c;
		case ':': return err_set(e, -EINVAL, "%s needs a value", argv[optind - 1]);
		default: return err_set(e, -EINVAL, "no such option: %s", argv[optind - 1]);
		}
	}
	if (r < 0)
		return r;
	if (optind < argc)
		return err_set(e, -EINVAL, "unexpected argument: %s", argv[optind]);
	if (o->memory_mib % 2)
		return err_set(
			e, -EINVAL, "--memory %u: an even number of MiB is needed", o->memory_mib);
	if (!o->kernel && !o->restore && !o->probe)
		return err_set(e, -EINVAL, "--kernel is needed");
	if (strcmp(o->serial, "stdio") && strcmp(o->serial, "null") &&
		strncmp(o->serial, "file:", 5))
		return err_set(
			e, -EINVAL, "--serial %s: stdio, null or file:PATH is needed", o->serial);
	return 0;
}
