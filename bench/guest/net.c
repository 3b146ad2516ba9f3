/* SPDX-License-Identifier: MIT */
/*
 * What bench/net compares networks with: a server, and a client that measures for a while each
 *
 *     send      bytes a second to the server, one TCP connection
 *     receive   the same from it
 *     rr        round trips of one byte a second, TCP
 *     connect   connections a second, with one byte there and back
 *     udp-rr    round trips of one datagram of one byte a second
 *
 *     bench-net --serve PORT
 *     bench-net --client ADDRESS PORT SECONDS ROW...
 *     bench-net --listen PORT
 *
 * The last one is told by lines on its standard input: "time": it says what its clock shows; "listen": it listens, answers one
 * connection as "connect" has it, and says when it had begun to listen.
 *
 * As process 1 it loads the modules, gives the first network interface the address, the width of the network and the gateway of
 * "net.ip=ADDRESS/BITS/GATEWAY" on the kernel's command line, and is one of the two by the words of "net.args=", separated by commas.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "guest/guest.h"

enum { CHUNK = 128 << 10, UDP_WAIT_MS = 500 };

static char buf[CHUNK];

static _Noreturn void end(int status)
{
	fflush(stdout);
	if (getpid() == 1) {
		printf("BENCH-DONE\n");
		fflush(stdout);
		reboot(RB_POWER_OFF);
	}
	_exit(status);
}

static _Noreturn void die(const char *what)
{
	printf("BENCH-ERROR %s: %s\n", what, strerror(errno));
	end(1);
}

static void must(int r, const char *what)
{
	if (r < 0)
		die(what);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- server ----------------------------------------------------------------------------------------------------- */

/* One connection: the first byte says what it is for. */
static void serve_one(int fd)
{
	static const int one = 1;
	ssize_t n;
	char what;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (read(fd, &what, 1) != 1)
		return;
	switch (what) {
	case 's': /* and one byte when all has come */
		while ((n = read(fd, buf, sizeof(buf))) > 0)
			;
		(void)!write(fd, "s", 1);
		break;
	case 'r':
		while (write(fd, buf, sizeof(buf)) > 0)
			;
		break;
	case 'p':
		while (read(fd, &what, 1) == 1 && write(fd, &what, 1) == 1)
			;
		break;
	case 'c': (void)!write(fd, "c", 1); break;
	default: break;
	}
}

static void serve_udp(int fd)
{
	struct sockaddr_in from;

	for (;;) {
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);

		if (n >= 0)
			sendto(fd, buf, (size_t)n, 0, (struct sockaddr *)&from, len);
	}
}

static void serve(uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	static const int one = 1;
	int tcp = socket(AF_INET, SOCK_STREAM, 0), udp = socket(AF_INET, SOCK_DGRAM, 0);

	must(tcp, "socket");
	must(udp, "socket");
	setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	must(bind(tcp, (struct sockaddr *)&a, sizeof(a)), "bind");
	must(bind(udp, (struct sockaddr *)&a, sizeof(a)), "bind");
	must(listen(tcp, 512), "listen");
	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	if (fork() == 0)
		serve_udp(udp);
	printf("BENCH-SERVING %u\n", port);
	fflush(stdout);
	for (;;) {
		int fd = accept(tcp, NULL, NULL);
		char what;

		if (fd < 0)
			continue;
		/* Short ones here: a process each would be what is measured. */
		if (recv(fd, &what, 1, MSG_PEEK) == 1 && what != 'c' && fork() == 0) {
			serve_one(fd);
			_exit(0);
		}
		if (what == 'c')
			serve_one(fd);
		close(fd);
	}
}

/* --- one that comes and goes ------------------------------------------------------------------------------------ */

static long long wall_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void listen_once(uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	int s = socket(AF_INET, SOCK_STREAM, 0), fd;
	static const int one = 1;
	long long since;

	must(s, "socket");
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	must(bind(s, (struct sockaddr *)&a, sizeof(a)), "bind");
	since = wall_ns();
	must(listen(s, 16), "listen");
	fd = accept(s, NULL, NULL);
	must(fd, "accept");
	serve_one(fd);
	close(fd);
	close(s);
	printf("BENCH-LISTENED %lld\n", since);
}

static void on_command(uint16_t port)
{
	char line[32];

	while (fgets(line, sizeof(line), stdin)) {
		if (!strcmp(line, "listen\n"))
			listen_once(port);
		else
			printf("BENCH-TIME %lld\n", wall_ns());
		fflush(stdout);
	}
}

/* --- client ----------------------------------------------------------------------------------------------------- */

static struct sockaddr_in peer;

static int call(char what)
{
	static const int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	must(fd, "socket");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	must(connect(fd, (struct sockaddr *)&peer, sizeof(peer)), "connect");
	must((int)write(fd, &what, 1), "write");
	return fd;
}

static double send_row(double seconds)
{
	int fd = call('s');
	double start = now(), bytes = 0;
	char c;

	while (now() - start < seconds) {
		ssize_t n = write(fd, buf, sizeof(buf));

		must((int)n, "write");
		bytes += (double)n;
	}
	must(shutdown(fd, SHUT_WR), "shutdown");
	if (read(fd, &c, 1) != 1)
		die("the server's answer");
	close(fd);
	return bytes / (now() - start);
}

static double receive_row(double seconds)
{
	int fd = call('r');
	double start = now(), bytes = 0;

	while (now() - start < seconds) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n <= 0)
			die("read");
		bytes += (double)n;
	}
	start = now() - start;
	close(fd);
	return bytes / start;
}

static double rr_row(double seconds)
{
	int fd = call('p');
	double start = now(), n = 0;
	char c = 'p';

	for (; now() - start < seconds; n++)
		if (write(fd, &c, 1) != 1 || read(fd, &c, 1) != 1)
			die("round trip");
	start = now() - start;
	close(fd);
	return n / start;
}

static double connect_row(double seconds)
{
	double start = now(), n = 0;
	char c;

	for (; now() - start < seconds; n++) {
		int fd = call('c');

		if (read(fd, &c, 1) != 1)
			die("the server's answer");
		close(fd);
	}
	return n / (now() - start);
}

/* A datagram that is lost costs its waiting time. */
static double udp_row(double seconds)
{
	struct timeval wait = {.tv_usec = UDP_WAIT_MS * 1000};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	double start = now(), n = 0;
	char c = 'u';

	must(fd, "socket");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	must(connect(fd, (struct sockaddr *)&peer, sizeof(peer)), "connect");
	while (now() - start < seconds) {
		must((int)send(fd, &c, 1, 0), "send");
		n += recv(fd, &c, 1, 0) == 1;
	}
	start = now() - start;
	close(fd);
	return n / start;
}

static const struct {
	const char *name;
	double (*run)(double seconds);
} rows[] = {{"send", send_row}, {"receive", receive_row}, {"rr", rr_row}, {"connect", connect_row},
	{"udp-rr", udp_row}};

static void client(int argc, char **argv)
{
	double seconds = argc > 2 ? atof(argv[2]) : 0;

	peer = (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(argc > 1 ? (uint16_t)atoi(argv[1]) : 0)};
	if (argc < 4 || inet_pton(AF_INET, argv[0], &peer.sin_addr) != 1 || seconds <= 0) {
		printf("BENCH-ERROR usage: --client ADDRESS PORT SECONDS ROW...\n");
		end(1);
	}
	for (int i = 3; i < argc; i++)
		for (size_t k = 0; k < sizeof(rows) / sizeof(*rows); k++) {
			if (strcmp(rows[k].name, argv[i]) != 0)
				continue;
			printf("BENCH-START %s\n", argv[i]);
			fflush(stdout);
			printf("BENCH-NET %s %.1f\n", argv[i], rows[k].run(seconds));
			fflush(stdout);
		}
}

/* --- process 1 -------------------------------------------------------------------------------------------------- */

static void up(int s, const char *name)
{
	struct ifreq r = {0};

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	must(ioctl(s, SIOCGIFFLAGS, &r), name);
	r.ifr_flags |= IFF_UP;
	must(ioctl(s, SIOCSIFFLAGS, &r), name);
}

static void put(struct sockaddr *sa, const char *text, uint32_t value)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = value};

	if (text)
		inet_pton(AF_INET, text, &a.sin_addr);
	memcpy(sa, &a, sizeof(a));
}

static void configure(char *text)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	char *address = strtok(text, "/"), *bits = strtok(NULL, "/"), *gateway = strtok(NULL, "/ ");
	struct if_nameindex *all = if_nameindex();
	struct rtentry rt = {.rt_flags = RTF_UP | RTF_GATEWAY};
	struct ifreq r = {0};

	must(s, "socket");
	if (!gateway)
		die("net.ip=ADDRESS/BITS/GATEWAY");
	up(s, "lo");
	for (struct if_nameindex *i = all; i && i->if_index; i++)
		if (strcmp(i->if_name, "lo") != 0)
			snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", i->if_name);
	put(&r.ifr_addr, address, 0);
	must(ioctl(s, SIOCSIFADDR, &r), "set the address: no network interface?");
	put(&r.ifr_netmask, NULL, htonl(~0u << (32 - atoi(bits))));
	must(ioctl(s, SIOCSIFNETMASK, &r), "set the netmask");
	up(s, r.ifr_name);
	put(&rt.rt_dst, NULL, 0);
	put(&rt.rt_genmask, NULL, 0);
	put(&rt.rt_gateway, gateway, 0);
	must(ioctl(s, SIOCADDRT, &rt), "set the gateway");
	close(s);
}

/* What follows the first bytes of a word of the command line. */
static char *value_of(const char *word, size_t skip)
{
	return word ? strndup(word + skip, strcspn(word + skip, " \n")) : NULL;
}

static int as_init(char **argv, int max)
{
	static char cmdline[4096];
	char *ip, *words, *save;
	int fd, n = 0;

	printf("BENCH-INIT\n");
	fflush(stdout);
	mkdir("/dev", 0755);
	mkdir("/proc", 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	must(mount("proc", "/proc", "proc", 0, NULL), "mount /proc");
	fd = open("/proc/cmdline", O_RDONLY);
	must(fd, "/proc/cmdline");
	must((int)read(fd, cmdline, sizeof(cmdline) - 1), "/proc/cmdline");
	modules_load("/modules");
	words = strstr(cmdline, "net.args=");
	ip = strstr(cmdline, "net.ip=");
	if (!words || !ip)
		die("net.args= and net.ip= on the kernel's command line");
	words = value_of(words, 9);
	ip = value_of(ip, 7);
	configure(ip);
	for (char *w = words ? strtok_r(words, ",", &save) : NULL; w && n < max;
		w = strtok_r(NULL, ",", &save))
		argv[n++] = w;
	return n;
}

int main(int argc, char **argv)
{
	char *words[16] = {NULL};

	argv++;
	argc--;
	if (getpid() == 1) {
		argc = as_init(words, ARRAY_LEN(words) - 1);
		argv = words;
	}
	if (argc == 2 && strcmp(argv[0], "--serve") == 0)
		serve((uint16_t)atoi(argv[1]));
	else if (argc == 2 && strcmp(argv[0], "--listen") == 0)
		on_command((uint16_t)atoi(argv[1]));
	else if (argc > 0 && strcmp(argv[0], "--client") == 0)
		client(argc - 1, argv + 1);
	else
		printf("BENCH-ERROR usage: --serve PORT | --listen PORT | --client ADDRESS PORT SECONDS ROW...\n");
	end(0);
}
