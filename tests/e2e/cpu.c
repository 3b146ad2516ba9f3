/* SPDX-License-Identifier: MIT */
/* The processor as programs see it where it is hard to get right. cpu CASE: exits with 0, or says what is wrong. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			printf("line %d: %s\n", __LINE__, #x);                                     \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

typedef uint32_t (*fn)(void);

static uint8_t *code_page(int prot)
{
	uint8_t *p = mmap(NULL, 8192, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

/* mov $v, %eax; ret; the immediate is aligned */
static fn write_fn(uint8_t *p, uint32_t v)
{
	p[3] = 0xb8;
	memcpy(p + 4, &v, 4);
	p[8] = 0xc3;
	return (fn)(uintptr_t)(p + 3);
}

static void serialize(void)
{
	uint32_t a = 0, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
}

/* --- code that changes */

static void smc(void)
{
	uint8_t *p = code_page(PROT_READ | PROT_WRITE | PROT_EXEC), *rw, *rx;
	int fd = memfd_create("code", 0);
	uint64_t sum = 0;
	fn f;

	for (uint32_t i = 0; i < 20000; i++)
		sum += write_fn(p + 4091 * (i % 2), i)(); /* the second one crosses the page */
	CHECK(sum == 20000ull * 19999 / 2);

	/* Written at one address, executed at another. */
	CHECK(fd >= 0 && ftruncate(fd, 4096) == 0);
	rw = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	rx = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK(rw != MAP_FAILED && rx != MAP_FAILED);
	write_fn(rw, 0);
	f = (fn)(uintptr_t)(rx + 3);
	for (uint32_t i = 0; i < 5000; i++) {
		memcpy(rw + 4, &i, 4);
		serialize();
		CHECK(f() == i);
	}
	/* Other code at the same address: the mapping changes, not the memory. */
	for (uint32_t i = 0; i < 200; i++) {
		uint8_t *q = mmap(p, 4096, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

		CHECK(q == p);
		f = write_fn(p, i);
		CHECK(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0);
		for (int n = 0; n < 30; n++)
			CHECK(f() == i);
	}
}

static uint8_t *shared_code;
static atomic_bool stop;

static void *rewrite(void *arg)
{
	for (uint32_t i = 1; i <= 20000; i++)
		__atomic_store_n((uint32_t *)(void *)(shared_code + 4), i, __ATOMIC_RELEASE);
	atomic_store(&stop, true);
	return arg;
}

/* One thread rewrites what another one executes: it sees the values in their order, and the last one in the end. */
static void smc_threads(void)
{
	uint32_t last = 0;
	pthread_t t;
	fn f;

	shared_code = code_page(PROT_READ | PROT_WRITE | PROT_EXEC);
	f = write_fn(shared_code, 0);
	CHECK(pthread_create(&t, NULL, rewrite, NULL) == 0);
	while (!atomic_load(&stop)) {
		uint32_t v = f();

		CHECK(v >= last);
		last = v;
	}
	pthread_join(t, NULL);
	serialize();
	CHECK(f() == 20000);
}

/* --- signals */

static uint8_t *guarded;
static volatile int caught;
static greg_t seen[NGREG];

static void on_fault(int sig, siginfo_t *si, void *context)
{
	ucontext_t *u = context;

	caught++;
	memcpy(seen, u->uc_mcontext.gregs, sizeof(seen));
	switch (sig) {
	case SIGSEGV:
		CHECK(si->si_addr == guarded + 8);
		CHECK(mprotect(guarded, 4096, PROT_READ | PROT_WRITE) == 0);
		break;
	case SIGFPE: u->uc_mcontext.gregs[REG_RIP] += 2; break; /* div %ecx */
	case SIGILL: u->uc_mcontext.gregs[REG_RIP] += 2; break; /* ud2 */
	default: break;						/* int3: a trap */
	}
}

static void signals(void)
{
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	static const int which[] = {SIGSEGV, SIGFPE, SIGILL, SIGTRAP};

	for (unsigned n = 0; n < 4; n++)
		CHECK(sigaction(which[n], &sa, NULL) == 0);
	guarded = code_page(PROT_READ | PROT_WRITE);
	for (uint64_t i = 0; i < 3000; i++) {
		uint64_t b = i, r12 = i * 3, r14 = ~i, flags, left = i | 1;

		CHECK(mprotect(guarded, 4096, PROT_NONE) == 0);
		/* The flags of SUB are in nobody's way when the store faults: they must be there all the same. */
		__asm__ volatile(
			"mov %[b], %%rbx; mov %[c], %%r12; mov %[d], %%r14; mov %[l], %%rax;"
			"sub %%rbx, %%rax; movq %%r14, 8(%[p]); pushfq; pop %[f];"
			"mov %%rbx, %[b]; mov %%r12, %[c]; mov %%r14, %[d]"
			: [b] "+m"(b), [c] "+m"(r12), [d] "+m"(r14), [f] "=&r"(flags)
			: [p] "r"(guarded), [l] "m"(left)
			: "rax", "rbx", "r12", "r14", "memory", "cc");
		CHECK(caught == (int)(4 * i + 1));
		CHECK(b == i && r12 == i * 3 && r14 == ~i &&
			*(uint64_t *)(void *)(guarded + 8) == ~i);
		CHECK((uint64_t)seen[REG_RBX] == i && (uint64_t)seen[REG_R14] == ~i);
		CHECK(((flags ^ (uint64_t)seen[REG_EFL]) & 0x8d5) == 0);
		CHECK((flags >> 6 & 1) == (i & 1));
		__asm__ volatile("xor %%ecx, %%ecx; mov $5, %%eax; cltd; div %%ecx"
				 :
				 :
				 : "eax", "ecx", "edx", "cc");
		__asm__ volatile("ud2; int3");
		CHECK(caught == (int)(4 * i + 4));
	}
}

/* --- ptrace */

extern const char traced_start[], traced_end[], traced_mark[];

__attribute__((noinline, noclone)) static void traced(void)
{
	__asm__ volatile(
		"traced_start: mov $50, %%ecx; 1: lea 1(%%rcx), %%rax; imul %%rcx, %%rax; traced_mark: nop; dec %%ecx; "
		"jnz 1b; traced_end: nop"
		:
		:
		: "rax", "rcx", "cc");
}

static void tracer(void)
{
	struct user_regs_struct r;
	int status, steps = 0;
	long text;
	pid_t p = fork();

	if (p == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		traced();
		traced();
		_exit(7);
	}
	CHECK(waitpid(p, &status, 0) == p && WIFSTOPPED(status));
	/* To the first instruction by a breakpoint, then one by one to the end. */
	text = ptrace(PTRACE_PEEKTEXT, p, traced_start, 0);
	CHECK(ptrace(PTRACE_POKETEXT, p, traced_start, (text & ~0xffl) | 0xcc) == 0);
	CHECK(ptrace(PTRACE_CONT, p, 0, 0) == 0 && waitpid(p, &status, 0) == p &&
		WSTOPSIG(status) == SIGTRAP);
	CHECK(ptrace(PTRACE_GETREGS, p, 0, &r) == 0 && r.rip == (uintptr_t)traced_start + 1);
	CHECK(ptrace(PTRACE_POKETEXT, p, traced_start, text) == 0);
	r.rip--;
	CHECK(ptrace(PTRACE_SETREGS, p, 0, &r) == 0);
	while (r.rip != (uintptr_t)traced_end) {
		CHECK(ptrace(PTRACE_SINGLESTEP, p, 0, 0) == 0 && waitpid(p, &status, 0) == p);
		CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP && ++steps < 1000);
		CHECK(ptrace(PTRACE_GETREGS, p, 0, &r) == 0);
	}
	CHECK(steps == 1 + 50 * 5 && r.rax == 2 && (uint32_t)r.rcx == 0);
	/* The second time a breakpoint in the loop, where the code is hot. */
	text = ptrace(PTRACE_PEEKTEXT, p, traced_mark, 0);
	for (int n = 50; n > 40; n--) {
		CHECK(ptrace(PTRACE_POKETEXT, p, traced_mark, (text & ~0xffl) | 0xcc) == 0);
		CHECK(ptrace(PTRACE_CONT, p, 0, 0) == 0 && waitpid(p, &status, 0) == p &&
			WSTOPSIG(status) == SIGTRAP);
		CHECK(ptrace(PTRACE_GETREGS, p, 0, &r) == 0 &&
			r.rax == (uint64_t)n * (unsigned)(n + 1));
		CHECK(ptrace(PTRACE_POKETEXT, p, traced_mark, text) == 0);
	}
	CHECK(ptrace(PTRACE_CONT, p, 0, 0) == 0 && waitpid(p, &status, 0) == p);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

/* --- atomics */

enum { ROUNDS = 200000 };
static struct {
	_Atomic uint64_t added, swapped, bits;
	_Atomic uint8_t byte;
	atomic_flag lock;
	uint64_t plain;
	__attribute__((aligned(16))) uint64_t pair[2];
} shared;

static void *hammer(void *arg)
{
	for (unsigned n = 0; n < ROUNDS; n++) {
		uint64_t old = atomic_load(&shared.swapped), lo = shared.pair[0],
			 hi = shared.pair[1];
		uint8_t ok = 0;

		atomic_fetch_add(&shared.added, 3);
		atomic_fetch_add(&shared.byte, 1);
		while (!atomic_compare_exchange_weak(&shared.swapped, &old, old * 5 + 1))
			;
		atomic_fetch_xor(&shared.bits, 1ull << (n % 64));
		while (atomic_flag_test_and_set(&shared.lock))
			;
		shared.plain++;
		atomic_flag_clear(&shared.lock);
		do {
			__asm__ volatile("lock cmpxchg16b %1; sete %0"
					 : "+q"(ok), "+m"(shared.pair), "+a"(lo), "+d"(hi)
					 : "b"(lo + 1), "c"(hi - 1)
					 : "memory", "cc");
		} while (!ok);
	}
	return arg;
}

static void atomics(void)
{
	uint64_t want = 0;
	pthread_t t[2];

	for (int n = 0; n < 2; n++)
		CHECK(pthread_create(&t[n], NULL, hammer, NULL) == 0);
	for (int n = 0; n < 2; n++)
		pthread_join(t[n], NULL);
	for (int n = 0; n < 2 * ROUNDS; n++)
		want = want * 5 + 1;
	CHECK(shared.added == 6ull * ROUNDS && shared.byte == (uint8_t)(2 * ROUNDS));
	CHECK(shared.swapped == want && shared.bits == 0 && shared.plain == 2ull * ROUNDS);
	CHECK(shared.pair[0] == 2ull * ROUNDS && shared.pair[1] == -2ull * ROUNDS);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} cases[] = {{"smc", smc}, {"smc-threads", smc_threads}, {"signals", signals},
		{"ptrace", tracer}, {"atomics", atomics}};

	for (unsigned n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
		if (argc == 2 && !strcmp(argv[1], cases[n].name)) {
			cases[n].run();
			return 0;
		}
	}
	return 2;
}
