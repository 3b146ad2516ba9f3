/* SPDX-License-Identifier: MIT */
/* The kernel's fast paths: system calls, files, page faults, mappings, pipes, signals. */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bench/guest/bench.h"

enum { PAGES = 64, SIZE = PAGES * 4096 };

static uint64_t system_call(uint64_t n)
{
	uint64_t same = 0;
	long pid = syscall(SYS_getpid);

	while (n--)
		same += syscall(SYS_getpid) == pid;
	return same;
}

static uint64_t one_byte(uint64_t n)
{
	int in = open("/dev/zero", O_RDONLY | O_CLOEXEC),
	    out = open("/dev/null", O_WRONLY | O_CLOEXEC);
	uint64_t h = 0;
	char c;

	must(in);
	must(out);
	while (n--) {
		h += (uint64_t)read(in, &c, 1);
		h += (uint64_t)write(out, &c, 1);
	}
	close(in);
	close(out);
	return h;
}

static volatile uint8_t *map(void)
{
	void *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static uint64_t page_faults(uint64_t n)
{
	volatile uint8_t *p = map();
	uint64_t h = 0;

	while (n--) {
		for (int i = 0; i < PAGES; i++)
			h += ++p[i * 4096];
		must(madvise((void *)(uintptr_t)p, SIZE, MADV_DONTNEED));
	}
	must(munmap((void *)(uintptr_t)p, SIZE));
	return h;
}

static uint64_t mappings(uint64_t n)
{
	uint64_t h = 0;

	while (n--) {
		volatile uint8_t *p = map();

		h += ++p[0];
		must(munmap((void *)(uintptr_t)p, SIZE));
	}
	return h;
}

static uint64_t pipe_ping_pong(uint64_t n)
{
	int there[2], back[2], status;
	uint64_t h = 0;
	uint8_t c = 0;
	pid_t pid;

	must(pipe(there));
	must(pipe(back));
	pid = fork();
	must(pid);
	if (pid == 0) {
		close(there[1]);
		while (read(there[0], &c, 1) == 1) {
			c++;
			if (write(back[1], &c, 1) != 1)
				break;
		}
		_exit(0);
	}
	close(there[0]);
	close(back[1]);
	while (n--) {
		if (write(there[1], &c, 1) != 1 || read(back[0], &c, 1) != 1)
			die("pipe");
		h += c;
	}
	close(there[1]);
	close(back[0]);
	must(waitpid(pid, &status, 0));
	return h;
}

static volatile uint64_t caught;

static void on_signal(int sig)
{
	caught++;
}

static uint64_t signals(uint64_t n)
{
	struct sigaction sa = {.sa_handler = on_signal};

	caught = 0;
	must(sigaction(SIGUSR1, &sa, NULL));
	while (n--)
		must(raise(SIGUSR1));
	return caught;
}

static volatile uint8_t *guarded;

static void on_fault(int sig)
{
	caught++;
	if (mprotect((void *)(uintptr_t)guarded, 4096, PROT_READ | PROT_WRITE) < 0)
		_exit(1);
}

static uint64_t protection_faults(uint64_t n)
{
	struct sigaction sa = {.sa_handler = on_fault}, old;

	caught = 0;
	guarded = map();
	guarded[0] = 1;
	must(sigaction(SIGSEGV, &sa, &old));
	while (n--) {
		must(mprotect((void *)(uintptr_t)guarded, 4096, PROT_READ));
		guarded[0]++;
	}
	must(sigaction(SIGSEGV, &old, NULL));
	must(munmap((void *)(uintptr_t)guarded, SIZE));
	return caught;
}

const struct workload work_kernel[] = {{"syscall", system_call}, {"read-write-1", one_byte},
	{"page-faults", page_faults}, {"mmap-munmap", mappings},
	{"pipe-ping-pong", pipe_ping_pong, 30000}, {"signal", signals},
	{"mprotect-faults", protection_faults}, {NULL, NULL}};
