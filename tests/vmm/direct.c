/* SPDX-License-Identifier: MIT */
/*
 * A guest program for direct execution of user code: a child computes until it is ended; prints by which signal. With an argument
 * it computes, waits for a disk, and computes again.
 */
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

int main(int argc, char **argv)
{
	(void)argv;
	return argc > 1 ? wait_between() : spin();
}
