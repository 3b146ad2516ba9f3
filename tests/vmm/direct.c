/* SPDX-License-Identifier: MIT */
/*
 * A guest program for direct execution of user code:
 *
 *	direct		a child computes until it is ended; prints by which signal
 *	direct wait	computes, waits for a disk, and computes again
 *	direct cpuid	computes, and asks the processor what it is in between
 */
#include <cpuid.h>
#include <limits.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FOR_EVER = INT_MAX };

/* Without system calls in between, to be executed directly; a thousand rounds are a second or two of the processor's time. */
static void compute(int rounds)
{
	static volatile uint32_t result;

	while (rounds--) {
		uint32_t x = result;

		for (int n = 0; n < 1000000; n++)
			x = x * 1664525 + 1013904223;
		result = x;
	}
}

/* Waits in the kernel for a disk between two computations. */
static int wait_between(void)
{
	struct sockaddr_nl events = {.nl_family = AF_NETLINK, .nl_groups = 1};
	int fd = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_KOBJECT_UEVENT);
	char text[4096] = "";

	if (fd < 0 || bind(fd, (struct sockaddr *)&events, sizeof(events)) < 0) {
		printf("DIRECT-ERROR no events\n");
		return 1;
	}
	compute(1000);
	printf("DIRECT-WAITS\n");
	fflush(stdout);
	while (!strstr(text, "/block/sda")) {
		ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

		if (n < 0) {
			printf("DIRECT-ERROR no event\n");
			return 1;
		}
		text[n] = '\0';
	}
	close(fd);
	compute(500);
	printf("DIRECT-WENT-ON\n");
	return 0;
}

static int spin(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		compute(FOR_EVER);
		return 0;
	}
	printf("DIRECT-SPINS\n");
	fflush(stdout);
	if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status)) {
		printf("DIRECT-ERROR the child was not ended by a signal\n");
		return 1;
	}
	compute(100);
	printf("DIRECT-ENDED %d\n", WTERMSIG(status));
	return 0;
}

/* Pages of its own, so that what computes is executed directly wherever this is executed. */
__attribute__((noinline, aligned(4096))) static void ask(uint32_t regs[4], uint32_t leaf)
{
	__cpuid_count(leaf, 0, regs[0], regs[1], regs[2], regs[3]);
}

__attribute__((noinline, aligned(4096))) static int ask_between(void)
{
	static const uint32_t leaves[] = {0, 1, 7, 0x40000000, 0x80000001};
	uint32_t first[5][4], now[4];

	for (unsigned n = 0; n < 5; n++)
		ask(first[n], leaves[n]);
	if (memcmp(&first[3][1], "KVMKVMKVM\0\0", 12) || first[1][2] & bit_OSXSAVE) {
		printf("DIRECT-ERROR another processor\n");
		return 1;
	}
	printf("DIRECT-ASKS\n");
	fflush(stdout);
	for (unsigned round = 0; round < 1000; round++) {
		compute(2);
		for (unsigned n = 0; n < 5; n++) {
			ask(now, leaves[n]);
			/* Leaf 1 has the processor's number. */
			now[1] = leaves[n] == 1 ? first[n][1] : now[1];
			if (memcmp(now, first[n], sizeof(now))) {
				printf("DIRECT-ERROR leaf %x: %x %x %x %x in round %u\n", leaves[n],
					now[0], now[1], now[2], now[3], round);
				return 1;
			}
		}
	}
	printf("DIRECT-SAME\n");
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "cpuid"))
		return ask_between();
	return argc > 1 ? wait_between() : spin();
}
