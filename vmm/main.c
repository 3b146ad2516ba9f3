/* SPDX-License-Identifier: MIT */
/*
 * wslx-vmm: runs one virtual machine and ends with it. Options -> machine -> kernel in memory -> sandbox -> run.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/sandbox/sandbox.h"
#include "vmm/boot/linux.h"
#include "vmm/control.h"
#include "vmm/cpu/soft/direct/direct.h"
#include "vmm/cpu/soft/jit/jit.h"
#include "vmm/engine.h"
#include "vmm/machine.h"
#include "vmm/options.h"
#include "vmm/snapshot.h"

enum status {
	ST_POWEROFF = 0,
	ST_ERROR = 1,
	ST_USAGE = 2,
	ST_RESET = 3,
	ST_CRASH = 4,
	ST_STOPPED = 5,
	ST_HALTED = 6,
};

/*
 * What a stock kernel does at boot that a virtual machine does not need: self-tests of its cryptography (two thirds of
 * the boot's instructions), patching for one CPU that the next CPU undoes, looking for more serial ports, and searching
 * all of PCI for an AMD bridge (twice, port by port). A panic resets at once, so that the VM ends. A reset goes through
 * ACPI (see reset_vector() in vmm/boot).
 */
static const char default_cmdline[] =
	"cryptomgr.notests noreplace-smp tsc=reliable 8250.nr_uarts=1 pci=noearly panic=-1 reboot=a";

static struct timespec main_entered;

struct mapping {
	void *p;
	size_t len;
};

static void unmapp(struct mapping *m)
{
	if (m->p)
		munmap(m->p, m->len);
}

static int map_file(const char *path, const char *what, struct mapping *ret, struct err *e)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, -errno, "open the %s %s", what, path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "the %s %s is not a regular file", what, path);
	if (st.st_size == 0)
		return err_set(e, -EINVAL, "the %s %s is empty", what, path);
	p = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return err_sys(e, -errno, "map the %s %s", what, path);
	*ret = (struct mapping){.p = p, .len = st.st_size};
	return 0;
}

/* Somebody who wants to see the kernel's messages is not helped by "quiet". */
static char *command_line(const struct options *o, const struct cpu_ops *cpu)
{
	bool talk = strstr(o->cmdline, "console=") || strstr(o->cmdline, "earlyprintk");
	char *s = NULL;

	if (o->no_default_cmdline)
		s = strdup(o->cmdline);
	else if (asprintf(&s, "%s%s%s%s%s", talk ? "" : "quiet ", default_cmdline,
			 /* The software CPU does not speculate. */
			 cpu->name[0] == 's' ? " mitigations=off" : "", *o->cmdline ? " " : "",
			 o->cmdline) < 0)
		s = NULL;
	if (!s)
		abort();
	return s;
}

/* What the guest starts from, opened before the sandbox and looked at inside it. */
struct inputs {
	struct mapping kernel, initrd;
	int saved;
};

static void inputs_done(struct inputs *in)
{
	unmapp(&in->kernel);
	unmapp(&in->initrd);
	cleanup_closep(&in->saved);
}

static int load_kernel(
	struct machine *m, const struct options *o, const struct inputs *in, struct err *e)
{
	cleanup_free char *cmdline = command_line(o, vm_cpu_ops(m->vm));
	cleanup_free struct cpu_state *s = calloc(1, sizeof(*s));
	struct kernel k;
	int r;

	if (!s)
		abort();
	r = kernel_parse(&k, in->kernel.p, in->kernel.len, o->kernel, e);
	if (r < 0)
		return r;
	log_debug("boot", "kernel %s, command line: %s", k.version[0] ? k.version : o->kernel,
		cmdline);
	struct boot_linux b = {.kernel = &k,
		.kernel_name = o->kernel,
		.initrd = in->initrd.p,
		.initrd_len = in->initrd.len,
		.cmdline = cmdline,
		.acpi = {.vcpus = vm_vcpus(m->vm)}};

	r = vm_get_boot_state(m->vm, s);
	if (r < 0)
		err_sys(e, r, "read the state of vCPU 0");
	if (r == 0)
		r = boot_linux(vm_gmem(m->vm), &b, s, e);
	kernel_done(&k);
	if (r == 0 && (r = vm_set_boot_state(m->vm, s)) < 0)
		err_sys(e, r, "set the state of vCPU 0");
	return r;
}

/* The saved machine decides memory and CPUs. */
static int open_saved(struct options *o, int *ret_fd, struct err *e)
{
	struct snapshot_info i;
	int fd = open(o->restore, O_RDONLY | O_CLOEXEC), r;

	if (fd < 0)
		return err_sys(e, -errno, "open the saved machine %s", o->restore);
	r = snapshot_info(fd, &i, e);
	if (r < 0) {
		close(fd);
		return err_wrap(e, r, "%s", o->restore);
	}
	o->memory_mib = i.ram_size >> 20;
	o->cpus = i.vcpus;
	*ret_fd = fd;
	return 0;
}

static int open_inputs(struct options *o, struct inputs *in, struct err *e)
{
	int r;

	if (o->restore)
		return open_saved(o, &in->saved, e);
	r = map_file(o->kernel, "kernel", &in->kernel, e);
	if (r == 0 && o->initrd)
		r = map_file(o->initrd, "initramfs", &in->initrd, e);
	return r;
}

/* Everything is open and no thread has started. Stray descriptors were closed when the program began. */
static int enter_sandbox(const struct options *o, struct err *e)
{
	struct sandbox_result res = {0};
	struct sandbox_opts opts = {.ret = &res, .debug = getenv("WSLX_SANDBOX_DEBUG") != NULL};
	int r;

	if (o->no_sandbox) {
		log_warn(NULL, "not sandboxed, as asked for");
		return 0;
	}
	r = sandbox_enter(&sandbox_vmm, &opts, e);
	if (r < 0)
		return err_wrap(e, r, "enter the sandbox");
	if (res.note[0])
		log_debug(NULL, "sandbox: %s", res.note);
	return 0;
}

static int extract_kernel(const struct options *o, struct err *e)
{
	cleanup(unmapp) struct mapping kfile = {0};
	struct kernel k;
	int r = map_file(o->kernel, "kernel", &kfile, e);

	if (r == 0)
		r = kernel_parse(&k, kfile.p, kfile.len, o->kernel, e);
	if (r < 0)
		return r;
	r = io_replace_file(o->extract, k.elf, k.elf_len, 0644);
	if (r < 0)
		err_sys(e, r, "write %s", o->extract);
	kernel_done(&k);
	return r;
}

static void on_signal(void *ctx, int signo)
{
	struct machine *m = ctx;

	vm_stop(m->vm, VM_END_KILLED);
}

static int finish(struct machine *m)
{
	static const struct {
		enum status status;
		const char *text;
	} ends[] = {
		[VM_END_POWEROFF] = {ST_POWEROFF, "the guest powered off"},
		[VM_END_RESET] = {ST_RESET, "the guest asked for a reset"},
		[VM_END_HALT] = {ST_HALTED, "the guest halted"},
		[VM_END_CRASH] = {ST_CRASH, "the guest crashed"},
		[VM_END_KILLED] = {ST_STOPPED, "stopped on request"},
	};
	const char *text = vm_end_text(m->vm);

	if (m->end == VM_END_CRASH)
		log_err(NULL, "%s: %s", ends[m->end].text, text);
	else
		log_debug(NULL, "%s", ends[m->end].text);
	return ends[m->end].status;
}

/* How long the start took, in CPU time as well, because a machine is rarely idle. */
static void log_start(void)
{
	struct timespec wall, cpu;

	if (!log_wants(LOG_LVL_DEBUG) || clock_gettime(CLOCK_MONOTONIC, &wall) < 0 ||
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) < 0)
		return;
	log_debug(NULL, "the guest starts after %.1f ms, %.1f ms of CPU",
		(wall.tv_sec - main_entered.tv_sec) * 1e3 +
			(wall.tv_nsec - main_entered.tv_nsec) / 1e6,
		cpu.tv_sec * 1e3 + cpu.tv_nsec / 1e6);
}

static int run(struct options *o, struct err *e)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
	cleanup(loop_freep) struct loop *loop = NULL;
	struct loop_src *sources[ARRAY_LEN(signals)] = {0};
	const struct cpu_ops *cpu;
	cleanup(inputs_done) struct inputs in = {.saved = -1};
	struct control *control = NULL;
	struct err reason = {0};
	struct machine m;
	int r, st;

	r = engine_choose(o->engine, &cpu, &reason, e);
	if (r < 0)
		return r;
	if (o->probe) {
		printf("%s: %s\n", cpu->name, reason.text);
		return ST_POWEROFF;
	}
	log_info(NULL, "engine %s: %s", cpu->name, reason.text);
	soft_jit_configure(o->translate, 0);
	soft_direct_configure(o->translate == JIT_ON ? o->direct : DIRECT_MODE_OFF);
	r = loop_new(&loop);
	if (r < 0)
		return err_sys(e, r, "create the event loop");
	r = open_inputs(o, &in, e);
	if (r < 0)
		return r;
	r = machine_init(&m, o, cpu, loop, e);
	if (r < 0)
		return r;
	/* Before there are threads, so that all of them leave these signals to the loop. */
	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(signals); i++) {
		r = loop_signal(loop, signals[i], on_signal, &m, &sources[i]);
		if (r < 0)
			err_sys(e, r, "watch for signals");
	}
	if (r == 0 && o->control)
		r = control_new(&control, &m, o->control, reason.text, e);
	if (r == 0)
		r = enter_sandbox(o, e);
	if (r == 0)
		r = vm_create_vcpus(m.vm, e);
	if (r == 0)
		r = in.saved >= 0 ? snapshot_load(m.vm, in.saved, e) : load_kernel(&m, o, &in, e);
	/* The file may be large and the guest has its own copy. */
	inputs_done(&in);
	in = (struct inputs){.saved = -1};
	log_start();
	m.began = (uint64_t)main_entered.tv_sec * 1000000000u + (uint64_t)main_entered.tv_nsec;
	m.entered = loop_now();
	if (r == 0)
		r = vm_start(m.vm, e);
	if (r == 0)
		r = loop_run(loop);
	st = r == 0 ? finish(&m) : r;
	control_free(control);
	for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
		loop_src_free(sources[i]);
	machine_done(&m);
	return st;
}

/* What came with the program and is not for it. */
static void close_strays(const struct options *o)
{
	int keep[OPT_MAX_VHOST + 3] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
	unsigned n = 3;

	for (unsigned i = 0; i < o->nvhost; i++)
		if (o->vhost[i].fd >= 0)
			keep[n++] = o->vhost[i].fd;
	sandbox_close_others(keep, n, NULL);
}

int main(int argc, char **argv)
{
	struct options o;
	struct err e = {0};
	int r;

	clock_gettime(CLOCK_MONOTONIC, &main_entered);
	signal(SIGPIPE, SIG_IGN);
	log_init("wslx-vmm", LOG_LVL_INFO);
	r = options_parse(&o, argc, argv, &e);
	close_strays(&o);
	if (r == 'h' || r == 'V') {
		if (r == 'h')
			fputs(options_usage(), stdout);
		else
			printf("wslx-vmm %s\n", WSLX_VERSION);
		return 0;
	}
	if (r < 0) {
		log_err(NULL, "%s", e.text);
		return ST_USAGE;
	}
	if (o.verbose)
		log_set_level(LOG_LVL_DEBUG);
	r = o.extract ? extract_kernel(&o, &e) : run(&o, &e);
	if (r < 0) {
		log_err(NULL, "%s", e.code ? e.text : strerror(-r));
		return ST_ERROR;
	}
	return r;
}
