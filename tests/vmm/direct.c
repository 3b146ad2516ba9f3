/* SPDX-License-Identifier: MIT */
/*
 * A guest program for direct execution of user code:
 *
 *	direct		a child computes until it is ended; prints by which signal
 *	direct wait	computes, waits for a disk, and computes again
 *	direct cpuid	computes, and asks the processor what it is in between
 *	direct TEST	computes, then does what is hard to do natively (see tests below), and says whether all was right
 */
#include <cpuid.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include <x86intrin.h>

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

/* Where CPUID does not fault, a page that has it is executed directly as a copy, or not at all. */
#define OWN_PAGES __attribute__((noinline, noclone, aligned(4096)))

OWN_PAGES static void ask(uint32_t regs[4], uint32_t leaf)
{
	__cpuid_count(leaf, 0, regs[0], regs[1], regs[2], regs[3]);
}

OWN_PAGES static int ask_between(void)
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

/* --- tests: 0, or what was wrong ------------------------------------------------------------------------------- */

enum { CODE32 = 0x10000000, DATA32 = 0x11000000, STACK32 = 0x20000000, DATA_LEN = 16 << 20 };
enum { CS32 = 0x23, DATA_SELECTOR = 0x2b };

static uint8_t *map_at(uintptr_t at, size_t len)
{
	void *p = mmap((void *)at, len, PROT_READ | PROT_WRITE | PROT_EXEC,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (p == MAP_FAILED) {
		printf("DIRECT-ERROR no memory at %lx\n", (long)at);
		exit(1);
	}
	return p;
}

/* By the kernel: the pages are there, and this program has not touched them. */
static void fill(uint8_t *p, size_t len)
{
	int fd = open("/dev/zero", O_RDONLY);

	if (fd < 0 || read(fd, p, len) != (ssize_t)len) {
		printf("DIRECT-ERROR no zeros\n");
		exit(1);
	}
	close(fd);
}

static void set_up_32(const uint8_t *code, size_t len)
{
	memcpy(map_at(CODE32, 4096), code, len);
	memset(map_at(STACK32, 65536), 0, 65536);
}

/* By a far call. */
static void call_32(uint64_t *eax, uint64_t *ecx, uint64_t esi)
{
	static struct {
		uint32_t off;
		uint16_t sel;
	} far = {CODE32, CS32};
	static uint64_t save;

	__asm__ volatile("mov %%rsp, %[save]\n mov $0x2000f000, %%esp\n lcall *%[far]\n"
			 "mov %[save], %%rsp"
			 : "+a"(*eax), "+c"(*ecx), [save] "=m"(save)
			 : [far] "m"(far), "S"(esi)
			 : "rbx", "memory", "cc");
}

/* 32-bit code that touches a page which is present in the guest and not yet in the stub. */
OWN_PAGES static const char *code_32(void)
{
	/* push ss; pop ds; mov (%esi),%ebx; dec eax, which in 64-bit code is a prefix; nop; the same again; lret */
	static const uint8_t code[] = {0x16, 0x1f, 0x8b, 0x1e, 0x48, 0x90, 0x48, 0x90, 0xcb};

	set_up_32(code, sizeof(code));
	fill(map_at(DATA32, DATA_LEN), DATA_LEN);
	for (unsigned n = 0; n < 4096; n++) {
		uint64_t eax = 100, ecx = 0;

		call_32(&eax, &ecx, DATA32 + n * 4096ul);
		if (eax != 98)
			return "32-bit code went on as 64-bit code";
	}
	return NULL;
}

/* Selectors that the program loads natively are there in what the translator executes. */
OWN_PAGES static const char *segments(void)
{
	/* 1: mov (%esi),%ebx; dec ecx; jnz 1b; lret */
	static const uint8_t code[] = {0x8b, 0x1e, 0x49, 0x75, 0xfb, 0xcb};
	uint64_t eax = 0, ecx = 300000000;
	unsigned sel;

	set_up_32(code, sizeof(code));
	__asm__ volatile("mov %0, %%es" ::"r"(DATA_SELECTOR));
	for (int n = 0; n < 20; n++) {
		compute(20);
		__asm__ volatile("mov %%es, %0" : "=r"(sel));
		if (sel != DATA_SELECTOR)
			return "ES was lost";
	}
	__asm__ volatile("mov %0, %%ds" ::"r"(DATA_SELECTOR));
	call_32(&eax, &ecx, STACK32);
	return ecx ? "the loop ended early" : NULL;
}

OWN_PAGES static const char *vsyscall(void)
{
	long now = 0;

	for (int n = 0; n < 10; n++) {
		__asm__ volatile("mov $0xffffffffff600400, %%rax\n xor %%edi, %%edi\n call *%%rax"
				 : "=a"(now)
				 :
				 : "rcx", "rdx", "rdi", "r11", "memory");
		if (labs(now - (long)time(NULL)) > 1)
			return "time() by the vsyscall page is not time()";
		compute(20);
	}
	return NULL;
}

static volatile unsigned traps;

static void on_trap(int signo, siginfo_t *si, void *context)
{
	ucontext_t *c = context;

	traps++;
	c->uc_mcontext.gregs[REG_EFL] &= ~0x100;
}

/* TF, and an instruction that leaves the stub. */
OWN_PAGES static const char *steps(void)
{
	struct sigaction sa = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
	uint8_t *data =
		mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	sigaction(SIGTRAP, &sa, NULL);
	for (unsigned n = 0; n < 50; n++) {
		__asm__ volatile("sub $128, %%rsp\n pushf\n orl $0x100, (%%rsp)\n popf\n"
				 "movb $1, (%0)\n nop\n nop\n"
				 "pushf\n andl $0xfffffeff, (%%rsp)\n popf\n add $128, %%rsp" ::"r"(
					 data + n * 4096ul)
				 : "memory", "cc");
		if (traps != n + 1)
			return "a single step was lost";
	}
	return NULL;
}

/* The lowest pages, which hosts refuse to processes without privileges. */
OWN_PAGES static const char *low_pages(void)
{
	FILE *f = fopen("/proc/sys/vm/mmap_min_addr", "w");
	volatile uint8_t *p;

	if (!f || fprintf(f, "0\n") < 0 || fclose(f) != 0)
		return "mmap_min_addr cannot be set";
	p = map_at(0, 8192) + 64;
	compute(100);
	for (int n = 0; n < 100; n++)
		p[n] = (uint8_t)n;
	for (int n = 0; n < 100; n++)
		if (p[n] != n)
			return "a byte is not what it was set to";
	return NULL;
}

/* What tells of the processor, in the page that computes. */
OWN_PAGES static const char *asks(void)
{
	uint32_t first[4], now[4];
	uint64_t before = __rdtsc(), begin = before;
	volatile uint32_t x = 1;

	__cpuid_count(7, 0, first[0], first[1], first[2], first[3]);
	for (unsigned round = 0; round < 300; round++) {
		unsigned processor;
		uint64_t tsc;

		for (int n = 0; n < 1000000; n++)
			x = x * 1664525 + 1013904223;
		__cpuid_count(7, 0, now[0], now[1], now[2], now[3]);
		if (memcmp(now, first, sizeof(now)))
			return "CPUID tells of another processor";
		tsc = round % 2 ? __rdtscp(&processor) : __rdtsc();
		if (tsc <= before || tsc - begin > 1ull << 42)
			return "RDTSC tells of another clock";
		before = tsc;
	}
	return NULL;
}

/* mov $0,%eax; push %rbx; cpuid; pop %rbx; mov $N,%eax; ret, between instructions that do nothing. */
enum { CODE_AT = 1024, NUMBER_AT = CODE_AT + 10 };
static const uint8_t asking_code[] = {
	0xb8, 0, 0, 0, 0, 0x53, 0x0f, 0xa2, 0x5b, 0xb8, 0, 0, 0, 0, 0xc3};

/* Code that asks the processor what it is, and is written to: at its own address, or at another one, by the program or by the kernel. */
OWN_PAGES static const char *written(void)
{
	int fd = memfd_create("code", 0), zero = open("/dev/zero", O_RDONLY);
	uint8_t *data, *code;

	if (fd < 0 || zero < 0 || ftruncate(fd, 8192) < 0)
		return "no file in memory";
	data = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED || code == MAP_FAILED)
		return "no memory";
	memset(data, 0x90, 4096);
	memcpy(data + CODE_AT, asking_code, sizeof(asking_code));
	for (uint32_t n = 1; n < 400; n++) {
		uint32_t want = n;

		compute(1);
		if (n % 4 == 0 && (mprotect(code, 4096, PROT_READ | PROT_WRITE) < 0 ||
					  (memcpy(code + NUMBER_AT, &n, 4), 0) ||
					  mprotect(code, 4096, PROT_READ | PROT_EXEC) < 0))
			return "no right to write";
		if (n % 4 == 1)
			memcpy(data + NUMBER_AT, &n, 4);
		if (n % 4 == 2 && pwrite(fd, &n, 4, NUMBER_AT) != 4)
			return "cannot be written to";
		if (n % 4 == 3 && (read(zero, data + NUMBER_AT, 4) != 4 || (want = 0, 0)))
			return "no zeros";
		for (int k = 0; k < 3; k++)
			if (((uint32_t(*)(void))(code + CODE_AT))() != want)
				return "what was written is not what is executed";
		if (memcmp(data + CODE_AT, asking_code, 10))
			return "the code became something else";
	}
	return NULL;
}

static const struct test {
	const char *name;
	const char *(*fn)(void);
} tests[] = {{"code-32", code_32}, {"segments", segments}, {"vsyscall", vsyscall}, {"steps", steps},
	{"low-pages", low_pages}, {"asks", asks}, {"written", written}};

static void on_error(int signo, siginfo_t *si, void *context)
{
	const ucontext_t *c = context;

	printf("DIRECT-ERROR signal %d at %llx\n", signo, c->uc_mcontext.gregs[REG_RIP]);
	fflush(stdout);
	_exit(1);
}

OWN_PAGES static int run(const struct test *t)
{
	static uint8_t stack[65536];
	const stack_t st = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction sa = {.sa_sigaction = on_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	const char *wrong;

	sigaltstack(&st, NULL);
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGILL, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	compute(1000);
	printf("DIRECT-BEGINS\n");
	fflush(stdout);
	compute(500); /* while it is seen to that this is executed directly */
	wrong = t->fn();
	printf(wrong ? "DIRECT-ERROR %s\n" : "DIRECT-RIGHT\n", wrong);
	return wrong != NULL;
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "cpuid"))
		return ask_between();
	for (size_t n = 0; argc > 1 && n < sizeof(tests) / sizeof(*tests); n++)
		if (!strcmp(argv[1], tests[n].name))
			return run(&tests[n]);
	return argc > 1 ? wait_between() : spin();
}
