/* SPDX-License-Identifier: MIT */
/*
 * The native side of cpu-diff: a child process that has the code, data and guard pages at the fixed addresses and runs
 * whole batches. Code is written through one mapping (the parent's) and executed through another (the child's).
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include <asm/prctl.h>
#include "tests/cpu/diff/diff.h"

_Static_assert(offsetof(struct diff_case, gpr) == 512 && offsetof(struct diff_result, gpr) == 512,
	"native-run.S");
_Static_assert(
	offsetof(struct diff_case, rflags) == 640 && offsetof(struct diff_result, rflags) == 640,
	"native-run.S");
_Static_assert(offsetof(struct diff_case, rip) == 648, "native-run.S");

void diff_native_enter(const struct diff_case *c, struct diff_result *r);
extern const char diff_native_exit[], diff_native_abort[];

struct diff_native {
	pid_t pid;
	int to[2], from[2];
	struct diff_batch *batch[2];
	int fd[2];
};

static struct diff_result *current;
static uint64_t *data_page; /* the child's writable pages, at DIFF_RW */

static void fatal(const char *what)
{
	(void)!write(2, what, strlen(what));
	_exit(99);
}

/* Runs on the alternate stack; saves what the exit path would have saved, then leaves the case. */
static void on_fault(int sig, siginfo_t *si, void *ctx)
{
	static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI,
		REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
	ucontext_t *uc = ctx;
	greg_t *g = uc->uc_mcontext.gregs;
	struct diff_result *r = current;

	(void)si;
	if (!r)
		fatal("cpu-diff: fault outside a case\n");
	for (int i = 0; i < 16; i++)
		r->gpr[i] = (uint64_t)g[order[i]];
	r->rflags = (uint64_t)g[REG_EFL];
	r->rip = (uint64_t)g[REG_RIP];
	r->cr2 = (uint64_t)g[REG_CR2];
	r->error = (uint32_t)g[REG_ERR];
	r->vector = sig == SIGVTALRM ? DIFF_HUNG : (uint32_t)g[REG_TRAPNO];
	memcpy(&r->fx, uc->uc_mcontext.fpregs, sizeof(r->fx));
	current = NULL;
	g[REG_RIP] = (greg_t)(uintptr_t)diff_native_abort;
	g[REG_EFL] = 0x202;
}

static uint64_t serial; /* of the case that runs */

static void on_alarm(int sig, siginfo_t *si, void *ctx)
{
	static uint64_t last;

	/* The same case at two ticks: it hangs. */
	if (current && serial == last)
		on_fault(sig, si, ctx);
	last = serial;
}

void diff_collect(
	struct diff_result *r, const uint8_t *now, const uint8_t *was, uint32_t base, uint32_t len)
{
	for (uint32_t off = 0; off < len; off += 256) {
		if (likely(!memcmp(now + off, was + off, 256)))
			continue;
		for (uint32_t w = off; w < off + 256; w += 8) {
			uint64_t a;

			if (!memcmp(now + w, was + w, 8))
				continue;
			memcpy(&a, now + w, 8);
			if (r->nwords < DIFF_MAX_WORDS)
				r->word[r->nwords++] = (struct diff_word){base + w, 0, a};
		}
	}
}

static void child_map(void *addr, size_t len, int prot, int fd, off_t off)
{
	int flags = MAP_FIXED_NOREPLACE | (fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);

	if (mmap(addr, len, prot, flags, fd, off) != addr)
		fatal("cpu-diff: cannot map a fixed address\n");
}

static void child_batch(struct diff_batch *b, int fd)
{
	uint8_t *data = (uint8_t *)data_page;

	if (mmap((void *)DIFF_CODE, DIFF_CODE_SIZE, PROT_READ | PROT_EXEC, MAP_FIXED | MAP_SHARED,
		    fd, 0) == MAP_FAILED)
		fatal("cpu-diff: cannot map code\n");
	mprotect((void *)DIFF_RO, DIFF_RO_SIZE, PROT_READ | PROT_WRITE);
	memcpy(data, b->data, DIFF_DATA_SIZE);
	mprotect((void *)DIFF_RO, DIFF_RO_SIZE, PROT_READ);
	for (unsigned i = 0; i < b->n; i++) {
		struct diff_result *r = &b->r[i];

		r->vector = DIFF_NO_VECTOR;
		r->error = 0;
		r->cr2 = 0;
		r->rip = 0;
		serial++;
		current = r;
		diff_native_enter(&b->c[i], r);
		current = NULL;
		if (r->vector == DIFF_NO_VECTOR)
			r->rip = b->c[i].rip + b->c[i].len;
		r->nwords = 0;
		diff_collect(r, data, b->data, 0, DIFF_RW_SIZE);
		for (uint32_t w = 0; w < r->nwords; w++)
			memcpy(data + r->word[w].off, b->data + r->word[w].off, 8);
	}
}

static NORETURN void child(struct diff_native *n)
{
	static uint8_t altstack[65536] ALIGNED(64);
	stack_t ss = {.ss_sp = altstack, .ss_size = sizeof(altstack)};
	struct sigaction sa = {
		.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
	struct itimerval tick = {{0, 200000}, {0, 200000}};
	static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaltstack(&ss, NULL);
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		sigaction(signals[i], &sa, NULL);
	sa.sa_sigaction = on_alarm;
	sa.sa_flags |= SA_RESTART;
	setitimer(ITIMER_VIRTUAL, &tick, NULL);
	sigaction(SIGVTALRM, &sa, NULL);

	data_page = (uint64_t *)DIFF_RW;
	child_map((void *)DIFF_CODE, DIFF_CODE_SIZE, PROT_NONE, -1, 0);
	child_map((void *)(DIFF_RW - 4096), 4096, PROT_NONE, -1, 0);
	child_map(data_page, DIFF_RW_SIZE, PROT_READ | PROT_WRITE, -1, 0);
	child_map((void *)DIFF_RO, DIFF_RO_SIZE, PROT_READ | PROT_WRITE, -1, 0);
	child_map((void *)(DIFF_RO + DIFF_RO_SIZE), 4096, PROT_NONE, -1, 0);
	child_map((void *)DIFF_VECTOR_CELL, 4096, PROT_READ | PROT_WRITE, -1, 0);
	*(const char **)DIFF_VECTOR_CELL = diff_native_exit;
	mprotect((void *)DIFF_VECTOR_CELL, 4096, PROT_READ);
	if (syscall(SYS_arch_prctl, ARCH_SET_GS, (unsigned long)DIFF_GS_BASE))
		fatal("cpu-diff: no gs base\n");
	for (;;) {
		uint8_t i;
		ssize_t k = read(n->to[0], &i, 1);

		if (k < 0 && errno == EINTR)
			continue;
		if (k != 1)
			_exit(0);
		child_batch(n->batch[i & 1], n->fd[i & 1]);
		if (write(n->from[1], &i, 1) != 1)
			_exit(0);
	}
}

int diff_native_new(struct diff_native **ret)
{
	struct diff_native *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	for (int i = 0; i < 2; i++) {
		n->fd[i] = memfd_create("cpu-diff", MFD_CLOEXEC);
		if (n->fd[i] < 0 || ftruncate(n->fd[i], sizeof(struct diff_batch)))
			return -errno;
		n->batch[i] = mmap(NULL, sizeof(struct diff_batch), PROT_READ | PROT_WRITE,
			MAP_SHARED, n->fd[i], 0);
		if (n->batch[i] == MAP_FAILED)
			return -errno;
	}
	if (pipe2(n->to, 0) || pipe2(n->from, 0))
		return -errno;
	n->pid = fork();
	if (n->pid < 0)
		return -errno;
	if (!n->pid) {
		close(n->to[1]);
		close(n->from[0]);
		child(n);
	}
	close(n->to[0]);
	close(n->from[1]);
	*ret = n;
	return 0;
}

void diff_native_free(struct diff_native *n)
{
	if (!n)
		return;
	close(n->to[1]);
	close(n->from[0]);
	waitpid(n->pid, NULL, 0);
	for (int i = 0; i < 2; i++) {
		munmap(n->batch[i], sizeof(struct diff_batch));
		close(n->fd[i]);
	}
	free(n);
}

struct diff_batch *diff_native_batch(struct diff_native *n, unsigned i)
{
	return n->batch[i];
}

int diff_native_start(struct diff_native *n, unsigned i)
{
	uint8_t c = (uint8_t)i;

	return write(n->to[1], &c, 1) == 1 ? 0 : -ECHILD;
}

int diff_native_wait(struct diff_native *n, unsigned i)
{
	uint8_t c;

	return read(n->from[0], &c, 1) == 1 && c == i ? 0 : -ECHILD;
}
