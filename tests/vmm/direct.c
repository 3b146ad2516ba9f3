/* SPDX-License-Identifier: MIT */
/*
 * A guest program for direct execution of user code: a child computes until it is ended; prints by which signal. With an argument
 * it computes, waits for a line of its input, and computes again.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Without system calls in between: enough to be executed directly. */
static void compute(double seconds)
{
	static volatile uint32_t result;
	uint32_t x = result;
	struct timespec t;
	double end;

	clock_gettime(CLOCK_MONOTONIC, &t);
	end = (double)t.tv_sec + (double)t.tv_nsec / 1e9 + seconds;
	do {
		for (int n = 0; n < 1000000; n++)
			x = x * 1664525 + 1013904223;
		result = x;
		clock_gettime(CLOCK_MONOTONIC, &t);
	} while ((double)t.tv_sec + (double)t.tv_nsec / 1e9 < end);
}

/* Waits in the kernel for a line between two computations. */
static int wait_between(void)
{
	compute(2);
	printf("DIRECT-WAITS\n");
	fflush(stdout);
	if (getchar() == EOF) {
		printf("DIRECT-ERROR no line\n");
		return 1;
	}
	compute(0.5);
	printf("DIRECT-WENT-ON\n");
	return 0;
}

static int spin(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		compute(1e9);
		return 0;
	}
	printf("DIRECT-SPINS\n");
	fflush(stdout);
	if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status)) {
		printf("DIRECT-ERROR the child was not ended by a signal\n");
		return 1;
	}
	compute(0.1);
	printf("DIRECT-ENDED %d\n", WTERMSIG(status));
	return 0;
}

int main(int argc, char **argv)
{
	(void)argv;
	return argc > 1 ? wait_between() : spin();
}
