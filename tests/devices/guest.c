/* SPDX-License-Identifier: MIT */
/*
 * The guest of the virtio device tests: /init of an initramfs (static, musl). It loads the modules, then takes orders, one
 * a line, on hvc0 and answers each with lines there, the last of them "." (or "! why").
 *
 *	hwrng N         which device feeds /dev/hwrng; N bytes from it, as hexadecimal
 *	mem             MemFree and MemTotal in KiB
 *	touch MIB       dirty so much anonymous memory, then free it
 *	dial PORT       connect to that port of the host and echo there until it ends, in the background
 *	size            rows and columns of hvc0
 *	rebind DRIVER   take the driver of a virtio device off it and put it back
 *	bytes N         N bytes of '.' after the answer's first line
 *	off             power off
 *
 * Meanwhile vsock port 7 echoes, port 8 sends what comes as fast as it can into nothing and then says "done\n", and port
 * 9 sends N bytes, N being the decimal line it receives first.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

static FILE *console;

static void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(console, fmt, ap);
	va_end(ap);
	fputc('\n', console);
	fflush(console);
}

static void load_modules(void)
{
	char name[128], path[160];
	FILE *f = fopen("/modules/order", "r");

	while (f && fgets(name, sizeof(name), f)) {
		int fd;

		name[strcspn(name, "\n")] = '\0';
		snprintf(path, sizeof(path), "/modules/%s", name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0)
			fprintf(stderr, "guest: %s: %s\n", path, strerror(errno));
		close(fd);
	}
	if (f)
		fclose(f);
}

static int write_all(int fd, const void *buf, size_t len)
{
	const char *p = buf;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0)
			return -1;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static void echo(int fd)
{
	static char buf[65536];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		if (write_all(fd, buf, (size_t)n) < 0)
			return;
	shutdown(fd, SHUT_WR);
}

static void swallow(int fd)
{
	static char buf[65536];

	while (read(fd, buf, sizeof(buf)) > 0)
		;
	write_all(fd, "done\n", 5);
}

static void pour(int fd)
{
	static char buf[65536];
	unsigned long long left = 0;
	char c;

	while (read(fd, &c, 1) == 1 && c >= '0' && c <= '9')
		left = left * 10 + (unsigned)(c - '0');
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (char)(i * 7);
	while (left) {
		size_t n = left < sizeof(buf) ? left : sizeof(buf);

		if (write_all(fd, buf, n) < 0)
			return;
		left -= n;
	}
}

static void serve(unsigned port, void (*fn)(int))
{
	struct sockaddr_vm sa = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};
	int l = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (l < 0 || bind(l, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(l, 128) < 0) {
		say("! vsock port %u: %s", port, strerror(errno));
		return;
	}
	if (fork() != 0) {
		close(l);
		return;
	}
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int fd = accept(l, NULL, NULL);

		if (fd < 0)
			continue;
		if (fork() == 0) {
			fn(fd);
			_exit(0);
		}
		close(fd);
	}
}

static void do_hwrng(unsigned n)
{
	unsigned char b[256];
	char name[64] = "";
	int fd = open("/sys/class/misc/hw_random/rng_current", O_RDONLY);
	ssize_t got = fd >= 0 ? read(fd, name, sizeof(name) - 1) : 0;

	if (got > 0)
		name[strcspn(name, "\n")] = '\0';
	close(fd);
	fd = open("/dev/hwrng", O_RDONLY);
	got = fd < 0 ? -1 : read(fd, b, n < sizeof(b) ? n : sizeof(b));
	close(fd);
	if (got < 0) {
		say("! /dev/hwrng: %s", strerror(errno));
		return;
	}
	say("%s", name);
	for (ssize_t i = 0; i < got; i++)
		fprintf(console, "%02x", b[i]);
	say("\n.");
}

static void do_mem(void)
{
	char line[128];
	FILE *f = fopen("/proc/meminfo", "r");

	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (!strncmp(line, "MemFree", 7) || !strncmp(line, "MemTotal", 8))
			say("%s", line);
	}
	if (f)
		fclose(f);
	say(".");
}

static void do_touch(unsigned mib)
{
	size_t len = (size_t)mib << 20;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		say("! mmap: %s", strerror(errno));
		return;
	}
	for (size_t i = 0; i < len; i += 4096)
		p[i] = 1;
	munmap(p, len);
	say(".");
}

static void do_dial(unsigned port)
{
	struct sockaddr_vm sa = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		say("! connect: %s", strerror(errno));
		close(fd);
		return;
	}
	if (fork() == 0) {
		echo(fd);
		_exit(0);
	}
	close(fd);
	say(".");
}

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), r;

	r = fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return r;
}

/* The device goes through reset, in the middle of whatever it does. */
static void do_rebind(const char *driver)
{
	char folder[128], path[512], device[64] = "";
	struct dirent *d;
	DIR *dir;
	int r;

	snprintf(folder, sizeof(folder), "/sys/bus/virtio/drivers/%.64s", driver);
	dir = opendir(folder);
	while (dir && (d = readdir(dir)))
		if (!strncmp(d->d_name, "virtio", 6))
			snprintf(device, sizeof(device), "%.63s", d->d_name);
	if (dir)
		closedir(dir);
	snprintf(path, sizeof(path), "%s/unbind", folder);
	r = put(path, device);
	snprintf(path, sizeof(path), "%s/bind", folder);
	if (r == 0)
		r = put(path, device);
	if (r < 0)
		say("! %s, device \"%s\": %s", path, device, strerror(-r));
	else
		say(".");
}

static void order(char *line)
{
	unsigned n = strchr(line, ' ') ? (unsigned)atoi(strchr(line, ' ')) : 0;
	struct winsize ws = {0};

	if (!strncmp(line, "hwrng", 5)) {
		do_hwrng(n);
	} else if (!strncmp(line, "mem", 3)) {
		do_mem();
	} else if (!strncmp(line, "touch", 5)) {
		do_touch(n);
	} else if (!strncmp(line, "dial", 4)) {
		do_dial(n);
	} else if (!strncmp(line, "size", 4)) {
		ioctl(fileno(console), TIOCGWINSZ, &ws);
		say("%u %u\n.", ws.ws_row, ws.ws_col);
	} else if (!strncmp(line, "bytes", 5)) {
		say("%u", n);
		for (unsigned i = 0; i < n; i++)
			fputc('.', console);
		say("\n.");
	} else if (!strncmp(line, "rebind ", 7)) {
		do_rebind(line + 7);
	} else if (!strncmp(line, "off", 3)) {
		sync();
		reboot(RB_POWER_OFF);
	} else {
		say("! what is %s", line);
	}
}

int main(void)
{
	struct termios t;
	char line[256];
	FILE *in;

	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	load_modules();
	for (int i = 0; i < 100 && !console; i++) {
		console = fopen("/dev/hvc0", "w");
		if (!console)
			usleep(50000);
	}
	if (!console) {
		fprintf(stderr, "guest: no /dev/hvc0: %s\n", strerror(errno));
		reboot(RB_POWER_OFF);
	}
	/* A stream of its own: one for both would drop orders that came while an answer was written. */
	in = fopen("/dev/hvc0", "r");
	tcgetattr(fileno(console), &t);
	cfmakeraw(&t);
	tcsetattr(fileno(console), TCSANOW, &t);
	setvbuf(console, NULL, _IOFBF, 4096);
	serve(7, echo);
	serve(8, swallow);
	serve(9, pour);
	say("ready");
	while (in && fgets(line, sizeof(line), in)) {
		line[strcspn(line, "\n")] = '\0';
		order(line);
	}
	reboot(RB_POWER_OFF);
	return 1;
}
