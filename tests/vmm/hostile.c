/* SPDX-License-Identifier: MIT */
/*
 * A guest program that does what is worst for a CPU in software on the first processor, and on the second measures how
 * late a timer of one millisecond is meanwhile.
 *
 *     hostile MODE[:TICKS[:WORK[:MIB]]]...
 *
 * Each mode in turn goes on until the timer has ticked TICKS times and the mode has done WORK units; its memory for code is
 * MIB large. Modes:
 *
 *     none     nothing: what the timer is like without a neighbour
 *     rewrite  a function is written, called (once, or often enough to be translated) and replaced by another one, first
 *              always in the same page, then each time in another one; a unit is a function written
 *     code     all of the memory is filled with functions, each one different, and they are called, each often in a row, the
 *              next time around all of them in turn; a unit is a page called
 *     fault    page faults, invalid opcodes, divisions by zero, general protection faults, each again and again at the same
 *              instruction; a unit is a fault
 *     cross    the same processor as the timer's fills the memory with functions and goes on rewriting them, with a low
 *              priority, while the other calls them; a unit is a page called
 *
 * It prints for each
 *
 *     BENCH-LATENCY MODE TICKS MEDIAN 99.9% MAX OVER WORK
 *
 * with the lateness in nanoseconds and, as OVER, the ticks more than 10 ms late; or BENCH-ERROR and why. As process 1 it takes its
 * arguments from behind "--" on the kernel's command line and powers off in the end.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum {
	PAGE = 4096,
	OFTEN = 24, /* calls of a function that are enough to have it translated */
	PERIOD_NS = 1000000,
	OVER_NS = 10000000,
	MAX_TICKS = 1 << 20,
	DEFAULT_MIB = 256,
	CODE_MAX = 1200 /* instructions of three bytes that fit into a page */
};

typedef uint32_t (*fn)(void);

static struct shared {
	_Atomic uint64_t work;
	_Atomic bool stop;
	char error[160];
} * shared;

static uint64_t late[MAX_TICKS];

static void end(int status)
{
	fflush(stdout);
	if (getpid() == 1)
		reboot(RB_POWER_OFF);
	_exit(status);
}

/* In a child: its parent tells. */
static void fail(const char *what)
{
	snprintf(shared->error, sizeof(shared->error), "%s (%s)", what, strerror(errno));
	_exit(1);
}

#define CHECK(x) ((x) ? (void)0 : fail(#x))

static bool going_on(void)
{
	return !atomic_load_explicit(&shared->stop, memory_order_relaxed);
}

static void worked(void)
{
	atomic_fetch_add_explicit(&shared->work, 1, memory_order_relaxed);
}

static void pin(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	CHECK(sched_setaffinity(0, sizeof(set), &set) == 0);
}

static uint8_t *memory(size_t size, int prot, int flags)
{
	uint8_t *p = mmap(NULL, size, prot, flags | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

static uint8_t *code_memory(size_t size, int flags)
{
	return memory(size, PROT_READ | PROT_WRITE | PROT_EXEC, flags);
}

/* --- functions */

/* mov $v, %eax; n times add $1, %eax; ret. The constant is aligned: it can be replaced while another processor runs it. */
static void write_fn(uint8_t *page, uint32_t v, unsigned n)
{
	uint8_t *p = page + 3;

	*p++ = 0xb8;
	memcpy(p, &v, 4);
	p += 4;
	for (; n > 0; n--, p += 3)
		memcpy(p, "\x83\xc0\x01", 3);
	*p = 0xc3;
}

static uint32_t call(uint8_t *page)
{
	return ((fn)(uintptr_t)(page + 3))();
}

static void rewrite(size_t size)
{
	size_t pages = size / PAGE, at = 0;
	uint8_t *p = code_memory(size, MAP_PRIVATE);

	for (uint32_t v = 0; going_on(); v++) {
		unsigned n = v % 61, calls = v % 4 == 0 ? OFTEN : 1;

		at = v / 8192 % 2 == 0 ? 0 : (at + 1) % pages;
		write_fn(p + at * PAGE, v, n);
		for (unsigned k = 0; k < calls; k++)
			CHECK(call(p + at * PAGE) == v + n);
		worked();
	}
}

/* Mostly short ones, so that many pages are reached; every 16th fills its page. */
static unsigned length(size_t page)
{
	return page % 16 == 15 ? CODE_MAX : 12;
}

static void call_page(uint8_t *p, size_t k, uint32_t round, unsigned calls)
{
	for (unsigned n = 0; n < calls; n++)
		CHECK(call(p + k * PAGE) == round * 0x1000003 + k + length(k));
	worked();
}

static void code(size_t size)
{
	size_t pages = size / PAGE;
	uint8_t *p = code_memory(size, MAP_PRIVATE);

	for (uint32_t round = 0; going_on(); round++) {
		for (size_t k = 0; k < pages && going_on(); k++)
			write_fn(p + k * PAGE, (uint32_t)(round * 0x1000003 + k), length(k));
		for (size_t k = 0; k < pages && going_on(); k++)
			call_page(p, k, round, OFTEN);
		for (unsigned n = 0; n < 2; n++)
			for (size_t k = 0; k < pages && going_on(); k++)
				call_page(p, k, round, 1);
	}
}

/* --- faults */

static uint8_t *resume; /* a RET */
static unsigned repeat;

/* The first times nothing is changed: it faults again. */
static void on_fault(int sig, siginfo_t *si, void *ctx)
{
	ucontext_t *u = ctx;

	(void)sig;
	(void)si;
	worked();
	if (repeat-- == 0)
		u->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)resume;
}

static void fault(size_t size)
{
	static const struct {
		const char *bytes;
		size_t len;
	} kinds[] = {
		{"\x0f\x0b", 2},	 /* ud2 */
		{"\x31\xc9\xf7\xf1", 4}, /* xor %ecx, %ecx; div %ecx */
		{"\x31\xc0\x8b\x00", 4}, /* xor %eax, %eax; mov (%rax), %eax */
		{"\xc6\x07\x01", 3},	 /* movb $1, (%rdi): of a read-only page */
		{"\xff\xe7", 2},	 /* jmp *%rdi: not executable */
		{"\x48\xc1\xe7\x20\x80\x2f\x01",
			7},	     /* shl $32, %rdi; subb $1, (%rdi): not canonical */
		{"\x0f\x01\xf8", 3}, /* swapgs: privileged */
	};
	struct sigaction a = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	uint8_t *p = code_memory(PAGE, MAP_PRIVATE),
		*data = memory(size, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	uint8_t *constant = memory(PAGE, PROT_READ, MAP_PRIVATE);

	CHECK(sigaction(SIGSEGV, &a, NULL) == 0 && sigaction(SIGILL, &a, NULL) == 0 &&
		sigaction(SIGFPE, &a, NULL) == 0 && sigaction(SIGBUS, &a, NULL) == 0);
	for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++)
		memcpy(p + 64 * k, kinds[k].bytes, kinds[k].len);
	resume = p + PAGE - 1;
	*resume = 0xc3;
	for (unsigned k = 0; going_on(); k = (k + 1) % (sizeof(kinds) / sizeof(*kinds))) {
		repeat = 100;
		((void (*)(void *))(uintptr_t)(p + 64 * k))(constant);
		/* Those that the kernel resolves. */
		for (size_t n = 0; n < 64; n++, worked())
			data[n * PAGE] = 1;
		CHECK(madvise(data, 64 * PAGE, MADV_DONTNEED) == 0);
	}
}

/* --- code from the other processor */

static void call_for_ever(uint8_t *p, size_t pages)
{
	while (going_on()) {
		for (size_t k = 0; k < pages && going_on(); k++) {
			for (unsigned n = 0; n < OFTEN; n++)
				call(p + k * PAGE);
			worked();
		}
	}
}

/* Only the constants: a function that runs meanwhile returns the old or the new one. */
static void write_for_ever(uint8_t *p, size_t pages)
{
	for (uint32_t v = 0; going_on(); v++)
		for (size_t k = 0; k < pages && going_on(); k++)
			memcpy(p + k * PAGE + 4, &v, 4);
}

static void cross(size_t size)
{
	size_t pages = size / PAGE;
	uint8_t *p = code_memory(size, MAP_SHARED);
	pid_t pid;

	pin(1);
	CHECK(setpriority(PRIO_PROCESS, 0, 19) == 0);
	for (size_t k = 0; k < pages; k++)
		write_fn(p + k * PAGE, (uint32_t)k, 12);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		pin(0);
		call_for_ever(p, pages);
		_exit(0);
	}
	write_for_ever(p, pages);
	CHECK(waitpid(pid, NULL, 0) == pid);
}

/* --- the timer */

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static bool ended(pid_t pid)
{
	return pid > 0 && waitpid(pid, NULL, WNOHANG) != 0;
}

/* How many of late[] it filled. Ticks that are missed altogether are not counted: the one before them was late. */
static size_t measure(pid_t pid, uint64_t ticks, uint64_t work)
{
	uint64_t next = now() + PERIOD_NS;
	size_t n = 0;

	while (n < ticks || atomic_load(&shared->work) < work) {
		struct timespec t = {(time_t)(next / 1000000000), (long)(next % 1000000000)};
		uint64_t at;

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
		at = now();
		if (n < MAX_TICKS)
			late[n] = at - next;
		n++;
		next += PERIOD_NS;
		if (next <= at)
			next = at + PERIOD_NS;
		if (ended(pid)) {
			printf("BENCH-ERROR the neighbour ended: %s\n", shared->error);
			end(1);
		}
	}
	return n < MAX_TICKS ? n : MAX_TICKS;
}

static void report(const char *name, size_t n)
{
	size_t over = 0;

	for (size_t k = 0; k < n; k++)
		over += late[k] > OVER_NS;
	qsort(late, n, sizeof(*late), by_size);
	printf("BENCH-LATENCY %s %zu %llu %llu %llu %zu %llu\n", name, n,
		(unsigned long long)late[n / 2], (unsigned long long)late[n - 1 - n / 1000],
		(unsigned long long)late[n - 1], over,
		(unsigned long long)atomic_load(&shared->work));
	fflush(stdout);
}

static void run(char *what)
{
	static const struct {
		const char *name;
		void (*run)(size_t size);
	} modes[] = {{"rewrite", rewrite}, {"code", code}, {"fault", fault}, {"cross", cross}};
	uint64_t number[3] = {1000, 0, DEFAULT_MIB};
	void (*mode)(size_t size) = NULL;
	char *name = strtok(what, ":"), *word;
	pid_t pid = -1;
	size_t n;

	for (unsigned k = 0; k < 3 && (word = strtok(NULL, ":")); k++)
		number[k] = strtoull(word, NULL, 10);
	for (size_t k = 0; k < sizeof(modes) / sizeof(*modes); k++)
		if (strcmp(modes[k].name, name) == 0)
			mode = modes[k].run;
	if ((!mode && strcmp(name, "none") != 0) || number[0] == 0 || number[2] == 0) {
		printf("BENCH-ERROR no such mode: %s\n", name);
		end(2);
	}
	printf("BENCH-START %s\n", name);
	fflush(stdout);
	*shared = (struct shared){0};
	if (mode) {
		pid = fork();
		if (pid == 0) {
			pin(0);
			mode((size_t)number[2] << 20);
			_exit(0);
		}
	}
	n = measure(pid, number[0], mode ? number[1] : 0);
	atomic_store(&shared->stop, true);
	if (mode)
		waitpid(pid, NULL, 0);
	report(name, n);
}

int main(int argc, char **argv)
{
	shared = mmap(
		NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	pin(1);
	prctl(PR_SET_TIMERSLACK, 1UL);
	for (int k = 1; k < argc; k++)
		run(argv[k]);
	printf("BENCH-DONE\n");
	end(0);
}
