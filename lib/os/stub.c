/* SPDX-License-Identifier: MIT */
/* See stub.h. The half that runs in the stub, before it is one, is at the top. */
#include "lib/os/stub.h"

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/os/mem.h"
#include "lib/os/thread.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1
#endif

extern const uint8_t os_stub_code[], os_stub_code_end[], os_stub_handler[], os_stub_start[],
	os_stub_mapper[];
#define CODE_AT(label) (stub_base() + STUB_CODE + (uintptr_t)((label)-os_stub_code))

struct order {
	uint64_t nr, arg[6], pad;
};
static_assert(sizeof(struct order) == ORDERS_OP_LEN, "stub-code.S");
enum {
	MAX_ORDERS = (STUB_STACK - STUB_ORDERS - ORDERS_OPS) / ORDERS_OP_LEN,
	PART = 512, /* mappings that are changed at a time */
	MAX_CHANGES = 65536
};

/* A change of the mappings that is still to be ordered. */
struct change {
	uint64_t va, len;
	uint64_t off;	   /* in RAM, or in what is shared */
	uint16_t prot;	   /* PROT_NONE: unmap */
	uint16_t mappings; /* at most so many end by it */
	bool shared;
};
struct stub_orders {
	uint64_t fs, gs, frame, count;
	uint16_t sel[STUB_SELECTORS];
	uint8_t pad[ORDERS_OPS - 40];
	struct order op[MAX_ORDERS];
};
static_assert(offsetof(struct stub_orders, op) == ORDERS_OPS &&
		      offsetof(struct stub_orders, sel) == ORDERS_DS,
	"stub-code.S");

/*
 * Programs could put something at any address, and in a stub would find our pages there instead. So the address is by chance, 64 KiB of 48
 * TiB between what executables and sanitizers use and where libraries and stacks are.
 */
#define FIRST_BASE 0x200000000000ull
#define LAST_BASE  0x500000000000ull
static uint64_t base;

uint64_t stub_base(void)
{
	return base;
}

static int choose_base(void)
{
	uint32_t r;

	if (base)
		return 0;
	if (getrandom(&r, sizeof(r), 0) != sizeof(r))
		return -EIO;
	base = FIRST_BASE + ((uint64_t)r * STUB_LEN) % (LAST_BASE - FIRST_BASE);
	return 0;
}

/* What the kernel puts on the signal stack: struct rt_sigframe, as far as it is looked at. */
struct frame {
	uint64_t ret;
	uint64_t uc_flags, uc_link;
	stack_t stack;
	gregset_t gregs;
	uint64_t fpstate, reserved[8];
	uint64_t sigmask;
	int32_t signo, error, code, pad;
	uint64_t call; /* SIGSYS: where it was */
};
enum { SHARED_LEN = STUB_SHARED + STUB_COPIES * 4096 };
enum { FX_SW_RESERVED = 464, FX_END = 512, XSTATE_BV = 512 };
enum { XSTATE_FP_SSE = 3 };
enum { LISTENERS = 2 };
static const int handled[] = {SIGSYS, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGUSR1};

struct stub {
	pid_t pid;
	int pidfd;
	int sock;	     /* to get the listeners by */
	int program, mapper; /* the two threads' listeners */
	int ram_fd;
	int shared_fd;			/* in the stub */
	uint64_t program_id, mapper_id; /* of the calls they are parked in */
	uint8_t *shared;
	struct stub_orders *orders;
	struct frame *frame;
	uint8_t *fpstate;
	struct frame frame0; /* as the kernel made it */
	uint8_t fpstate0[FX_END];
	struct change
		*change; /* [done, queued) are to be ordered. Takes memory when it is touched */
	unsigned done, queued;
	int error; /* < 0: unusable */
	_Atomic uint64_t
		interrupted; /* when, by os_now(); 0: not since the program was parked. Any thread */
};

/*
 * A program can block the interrupting signal, by returning from a signal that it made up. Who does not park for so long is killed; on a
 * host that is so overloaded that others do not either, nothing works anyway.
 */
#define PATIENCE_NS 5000000000ull
enum { LOOK_MS = 500 };

/* --- in the stub ------------------------------------------------------------------------------------------------ */

struct child {
	int sock, ram_fd, shared_fd;
	_Atomic int listener; /* of the program's thread; 0: not yet, < 0: -errno */
};

#define LOAD(field)	 BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(what)	 BPF_STMT(BPF_RET | BPF_K, what)
#define UNLESS(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, n)
#define IF(value, n)	 BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, n, 0)

/* Returns the listener, or -errno. */
static int filter(struct sock_filter *f, unsigned n)
{
	struct sock_fprog p = {.len = (unsigned short)n, .filter = f};
	long r =
		syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &p);

	return r < 0 ? -errno : (int)r;
}

/* Parks, returns from signals and ends, all by our code; everything else is a signal. */
static int filter_program(void)
{
	struct sock_filter f[] = {
		LOAD(arch),
		UNLESS(AUDIT_ARCH_X86_64, 11),
		LOAD(instruction_pointer) /* its lower half */,
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xfffff000),
		UNLESS((uint32_t)(base + STUB_CODE), 8),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			offsetof(struct seccomp_data, instruction_pointer) + 4),
		UNLESS((uint32_t)(base >> 32), 6),
		LOAD(nr),
		IF(STUB_PARK, 3),
		IF(SYS_rt_sigreturn, 1),
		UNLESS(SYS_exit_group, 2),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_USER_NOTIF),
		RETURN(SECCOMP_RET_TRAP),
	};

	return filter(f, ARRAY_LEN(f));
}

/* It never executes the guest's code. */
static int filter_mapper(void)
{
	struct sock_filter f[] = {
		LOAD(arch),
		UNLESS(AUDIT_ARCH_X86_64, 7),
		LOAD(nr),
		IF(STUB_PARK, 6),
		IF(SYS_mmap, 6),
		IF(SYS_munmap, 5),
		IF(SYS_exit_group, 4),
		IF(SYS_close_range, 3),
		IF(SYS_sendmsg, 2),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		RETURN(SECCOMP_RET_USER_NOTIF),
		RETURN(SECCOMP_RET_ALLOW),
	};

	return filter(f, ARRAY_LEN(f));
}

struct kernel_sigaction {
	uint64_t handler, flags, restorer, mask;
};

bool stub_hides_host(void)
{
	static _Atomic int faults; /* 0: not known */

	if (!atomic_load(&faults))
		atomic_store(&faults, syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1) < 0 ? -1 : 1);
	return atomic_load(&faults) > 0;
}

static int program_thread(void *arg)
{
	struct child *ch = arg;
	stack_t st = {.ss_sp = (void *)(base + STUB_STACK), .ss_size = STUB_LEN - STUB_STACK};
	uint64_t none = 0;
	int r = 0;

	if (sigaltstack(&st, NULL) < 0 ||
		syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof(none)) < 0 ||
		(stub_hides_host() && (prctl(PR_SET_TSC, PR_TSC_SIGSEGV) < 0 ||
					      syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0) < 0)))
		r = -errno;
	if (r == 0)
		r = filter_program();
	atomic_store(&ch->listener, r);
	if (r >= 0)
		((void (*)(void))CODE_AT(os_stub_start))();
	return 1;
}

/* Our own pages, in their places. */
static int map_own(const struct child *ch)
{
	void *code = (void *)(base + STUB_CODE), *orders = (void *)(base + STUB_ORDERS),
	     *stack = (void *)(base + STUB_STACK);
	int fixed = MAP_FIXED_NOREPLACE;

	if (mmap(code, STUB_ORDERS - STUB_CODE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0) != code ||
		mmap(orders, STUB_STACK - STUB_ORDERS, PROT_READ, MAP_SHARED | fixed, ch->shared_fd,
			0) != orders ||
		mmap(stack, STUB_LEN - STUB_STACK, PROT_READ | PROT_WRITE, MAP_SHARED | fixed,
			ch->shared_fd, STUB_STACK - STUB_ORDERS) != stack)
		return -errno;
	memcpy(code, os_stub_code, (size_t)(os_stub_code_end - os_stub_code));
	return mprotect(code, STUB_ORDERS - STUB_CODE, PROT_READ | PROT_EXEC) < 0 ? -errno : 0;
}

static int catch_signals(void)
{
	struct kernel_sigaction sa = {.handler = CODE_AT(os_stub_handler),
		.flags = SA_SIGINFO | SA_ONSTACK | 0x04000000 /* SA_RESTORER */,
		.restorer = CODE_AT(os_stub_handler),
		.mask = ~0ull};

	for (unsigned i = 0; i < ARRAY_LEN(handled); i++)
		if (syscall(SYS_rt_sigaction, handled[i], &sa, NULL, sizeof(sa.mask)) < 0)
			return -errno;
	return 0;
}

static void lose_privileges(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};

	syscall(SYS_capset, &h, none);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 0);
}

/* The C library's restartable sequences would have the kernel write to memory that will be the guest's program's. */
static int end_rseq(void)
{
	void *area = (char *)__builtin_thread_pointer() + __rseq_offset;
	unsigned len = __rseq_size < 32 ? 32 : __rseq_size;

	if (!__rseq_size)
		return 0;
	return syscall(SYS_rseq, area, len, RSEQ_FLAG_UNREGISTER, RSEQ_SIG) < 0 ? -errno : 0;
}

static int send_listeners(int sock, const int fds[LISTENERS])
{
	char what = 0;
	struct iovec iov = {.iov_base = &what, .iov_len = 1};
	char control[CMSG_SPACE(LISTENERS * sizeof(int))] = {0};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(LISTENERS * sizeof(int));
	memcpy(CMSG_DATA(c), fds, LISTENERS * sizeof(int));
	return sendmsg(sock, &m, 0) < 0 ? -errno : 0;
}

static void child_main(struct child *ch, pid_t parent)
{
	static uint8_t stack[16384] ALIGNED(16);
	uint64_t all = ~0ull;
	const int low = MIN(ch->ram_fd, ch->shared_fd), high = MAX(ch->ram_fd, ch->shared_fd);
	int fds[LISTENERS], r;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		return;
	setsid();
	prctl(PR_SET_NAME, "wslx-program");
	lose_privileges();
	if (end_rseq() < 0 || map_own(ch) < 0 || catch_signals() < 0 ||
		syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof(all)) < 0)
		return;
	if (clone(program_thread, stack + sizeof(stack),
		    CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
			    CLONE_SYSVSEM,
		    ch) < 0)
		return;
	while (!(r = atomic_load(&ch->listener)))
		sched_yield();
	if (r < 0)
		return;
	fds[0] = r;
	fds[1] = filter_mapper();
	if (fds[1] < 0 || send_listeners(ch->sock, fds) < 0)
		return;
	if (low)
		syscall(SYS_close_range, 0, low - 1, 0);
	syscall(SYS_close_range, low + 1, high - 1, 0);
	syscall(SYS_close_range, high + 1, ~0u, 0);
	((void (*)(void))CODE_AT(os_stub_mapper))();
}

/* --- in the monitor --------------------------------------------------------------------------------------------- */

static int give_up(struct stub *s, int r)
{
	syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL, 0);
	s->error = r;
	return r;
}

/* Waits until the thread behind a listener is parked. */
static int wait_parked(struct stub *s, int fd, struct seccomp_notif *n)
{
	uint64_t start = 0;
	struct pollfd p = {.fd = fd, .events = POLLIN};

	for (;;) {
		int r = poll(&p, 1, LOOK_MS);

		if (r < 0 && errno != EINTR)
			return give_up(s, -errno);
		if (r <= 0) {
			uint64_t t = atomic_load(&s->interrupted);

			/* An interrupt before we waited counts from then on. */
			if (!start)
				start = os_now() - LOOK_MS * 1000000ull;
			if (t && fd == s->program && os_now() > MAX(t, start) + PATIENCE_NS)
				return give_up(s, -ETIMEDOUT);
			continue;
		}
		if (!(p.revents & POLLIN))
			return give_up(s, -ESRCH);
		memset(n, 0, sizeof(*n));
		if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, n) == 0)
			break;
		if (errno != EINTR && errno != ENOENT)
			return give_up(s, -errno);
	}
	/* The filter sees to the rest of the address. */
	if (n->data.nr != STUB_PARK)
		return give_up(s, -EPROTO);
	return 0;
}

static int unpark(struct stub *s, int fd, uint64_t id)
{
	struct seccomp_notif_resp resp = {.id = id};

	if (ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &resp) < 0)
		return give_up(s, -errno);
	return 0;
}

static struct order order_of(const struct stub *s, const struct change *c)
{
	if (c->prot == PROT_NONE)
		return (struct order){.nr = SYS_munmap, .arg = {c->va, c->len}};
	return (struct order){.nr = SYS_mmap,
		.arg = {c->va, c->len, c->prot, MAP_SHARED | MAP_FIXED,
			(uint64_t)(c->shared ? s->shared_fd : s->ram_fd), c->off}};
}

int stub_apply_part(struct stub *s)
{
	struct seccomp_notif n;
	unsigned count = 0, mappings = 0;

	if (s->error)
		return s->error;
	while (s->done < s->queued && count < MAX_ORDERS && mappings < PART) {
		const struct change *c = &s->change[s->done++];

		s->orders->op[count++] = order_of(s, c);
		mappings += c->mappings;
	}
	if (s->done == s->queued)
		s->done = s->queued = 0;
	if (!count)
		return 0;
	s->orders->count = count;
	if (unpark(s, s->mapper, s->mapper_id) < 0 || wait_parked(s, s->mapper, &n) < 0)
		return s->error;
	s->mapper_id = n.id;
	if (n.data.args[0])
		return give_up(s, (int)n.data.args[0]);
	return s->queued > 0;
}

int stub_apply(struct stub *s)
{
	int r;

	do
		r = stub_apply_part(s);
	while (r > 0);
	return r;
}

static void add(struct stub *s, struct change c)
{
	if (s->queued == MAX_CHANGES && stub_apply(s) < 0)
		return; /* stub_run() will say it */
	s->change[s->queued++] = c;
}

void stub_map(struct stub *s, uint64_t va, uint64_t len, unsigned prot, uint64_t off)
{
	int p = (prot & OS_PROT_R ? PROT_READ : 0) | (prot & OS_PROT_W ? PROT_WRITE : 0) |
		(prot & OS_PROT_X ? PROT_EXEC : 0);

	add(s, (struct change){
		       .va = va, .len = len, .off = off, .prot = (uint16_t)p, .mappings = 1});
}

uint8_t *stub_copy(struct stub *s, unsigned n)
{
	return s->shared + STUB_SHARED + n * 4096ul;
}

void stub_map_copy(struct stub *s, uint64_t va, unsigned n)
{
	add(s, (struct change){.va = va,
		       .len = 4096,
		       .off = STUB_SHARED + n * 4096ul,
		       .prot = PROT_READ | PROT_EXEC,
		       .mappings = 1,
		       .shared = true});
}

/* Where programs' addresses end: a page before the lower half does. munmap(2) refuses what reaches beyond. */
#define USER_END 0x7ffffffff000ull

void stub_unmap(struct stub *s, uint64_t va, uint64_t len, unsigned mappings)
{
	if (va >= USER_END)
		return;
	add(s, (struct change){.va = va,
		       .len = MIN(len, USER_END - va),
		       .mappings = (uint16_t)MIN(mappings, UINT16_MAX)});
}

void stub_unmap_all(struct stub *s)
{
	s->done = s->queued = 0; /* whatever it was */
	stub_unmap(s, 0, base, UINT16_MAX);
	stub_unmap(s, base + STUB_LEN, USER_END - (base + STUB_LEN), UINT16_MAX);
}

uint8_t *stub_fx(struct stub *s)
{
	return s->fpstate;
}

static const uint8_t greg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI,
	REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

/* Everything in the frame that sigreturn looks at is written: the program may have spoiled it. */
static void put_regs(struct stub *s, const struct stub_regs *r)
{
	struct frame *f = s->frame;
	uint64_t bv = XSTATE_FP_SSE;

	f->uc_flags = s->frame0.uc_flags;
	f->stack = s->frame0.stack;
	f->fpstate = s->frame0.fpstate;
	f->sigmask = 0;
	for (unsigned n = 0; n < 16; n++)
		f->gregs[greg_of[n]] = (greg_t)r->gpr[n];
	f->gregs[REG_RIP] = (greg_t)r->rip;
	f->gregs[REG_EFL] = (greg_t)r->rflags;
	f->gregs[REG_CSGSFS] = s->frame0.gregs[REG_CSGSFS];
	memcpy(s->fpstate + FX_SW_RESERVED, s->fpstate0 + FX_SW_RESERVED, FX_END - FX_SW_RESERVED);
	memcpy(s->fpstate + XSTATE_BV, &bv, sizeof(bv));
	memset(s->fpstate + XSTATE_BV + 8, 0, 56);
	s->orders->fs = r->fs_base;
	s->orders->gs = r->gs_base;
	memcpy(s->orders->sel, r->sel, sizeof(r->sel));
}

static void get_regs(struct stub *s, struct stub_regs *r, struct stub_exit *x)
{
	gregset_t g = {0};

	memcpy(&g, &s->frame->gregs, sizeof(g));
	for (unsigned n = 0; n < 16; n++)
		r->gpr[n] = (uint64_t)g[greg_of[n]];
	r->rip = (uint64_t)g[REG_RIP];
	r->rflags = (uint64_t)g[REG_EFL];
	r->cs = (uint16_t)g[REG_CSGSFS];
	r->ss = (uint16_t)((uint64_t)g[REG_CSGSFS] >> 48);
	x->vector = (unsigned)g[REG_TRAPNO];
	x->err = (uint64_t)g[REG_ERR];
	x->cr2 = (uint64_t)g[REG_CR2];
	x->call = s->frame->call;
}

/* A part of the state that is as after a reset may not be in the image. */
static void complete_fx(struct stub *s)
{
	static const uint8_t init[STUB_FX_LEN] = {[0] = 0x7f, [1] = 0x03};
	uint64_t bv;

	memcpy(&bv, s->fpstate + XSTATE_BV, sizeof(bv));
	if (!(bv & 1)) {
		memcpy(s->fpstate, init, 24);
		memset(s->fpstate + 32, 0, 128);
	}
	if (!(bv & 2))
		memset(s->fpstate + 160, 0, 256);
}

static int kind_of(int signo)
{
	switch (signo) {
	case SIGUSR1: return STUB_INTERRUPTED;
	case SIGSYS: return STUB_SYSCALL;
	case SIGTRAP: return STUB_DEBUG;
	default: return STUB_EXCEPTION;
	}
}

int stub_run(struct stub *s, struct stub_regs *r, struct stub_exit *x)
{
	struct seccomp_notif n;
	uint64_t start;
	int e;

	x->ticks = 0;
	if (stub_apply(s) < 0)
		return s->error;
	put_regs(s, r);
	start = __builtin_ia32_rdtsc();
	if (unpark(s, s->program, s->program_id) < 0)
		return s->error;
	e = wait_parked(s, s->program, &n);
	x->ticks = __builtin_ia32_rdtsc() - start;
	if (e < 0)
		return e;
	s->program_id = n.id;
	atomic_store(&s->interrupted, 0);
	x->kind = kind_of((int)n.data.args[0]);
	r->fs_base = n.data.args[1];
	r->gs_base = n.data.args[2];
	memcpy(r->sel, &n.data.args[3], sizeof(r->sel));
	get_regs(s, r, x);
	complete_fx(s);
	return 0;
}

int stub_error(const struct stub *s)
{
	return s->error;
}

void stub_interrupt(struct stub *s)
{
	uint64_t not = 0;

	atomic_compare_exchange_strong(&s->interrupted, &not, os_now());
	syscall(SYS_pidfd_send_signal, s->pidfd, SIGUSR1, NULL, 0);
}

static int receive_listeners(int sock, int fds[LISTENERS])
{
	char what;
	struct iovec iov = {.iov_base = &what, .iov_len = 1};
	char control[CMSG_SPACE(LISTENERS * sizeof(int))];
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control)};
	struct cmsghdr *c;
	ssize_t n;

	do
		n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	c = n == 1 ? CMSG_FIRSTHDR(&m) : NULL;
	if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(LISTENERS * sizeof(int)))
		return -ENOTSUP; /* the child could not, and ended */
	memcpy(fds, CMSG_DATA(c), LISTENERS * sizeof(int));
	return 0;
}

/* Where the kernel puts the frame, and what must be in it: from the one that it made first. */
static int learn_frame(struct stub *s)
{
	const uint64_t first = base + STUB_STACK, end = base + STUB_LEN,
		       orders = base + STUB_ORDERS;
	uint64_t at;

	/* The handler's stack pointer is at the frame. It is the same for every signal. */
	for (at = end - sizeof(struct frame); at >= first; at -= 8) {
		struct frame *f = (struct frame *)(s->shared + (at - orders));

		if (f->ret == CODE_AT(os_stub_handler) &&
			f->gregs[REG_RIP] == (greg_t)CODE_AT(os_stub_start) + 1)
			break;
	}
	if (at < first)
		return -ENOTSUP;
	s->frame = (struct frame *)(s->shared + (at - orders));
	s->frame0 = *s->frame;
	if (s->frame0.fpstate < first || s->frame0.fpstate + FX_END + 64 > end)
		return -ENOTSUP;
	s->fpstate = s->shared + (s->frame0.fpstate - orders);
	memcpy(s->fpstate0, s->fpstate, FX_END);
	s->orders->frame = at + 8;
	return 0;
}

static int meet(struct stub *s)
{
	uint64_t flags = SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP;
	struct seccomp_notif n;
	int r;

	/* Since Linux 6.6; before, waking costs more. */
	ioctl(s->program, SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags);
	ioctl(s->mapper, SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags);
	r = wait_parked(s, s->mapper, &n);
	if (r < 0)
		return r;
	s->mapper_id = n.id;
	r = wait_parked(s, s->program, &n);
	if (r < 0)
		return r;
	s->program_id = n.id;
	r = learn_frame(s);
	if (r < 0)
		return r;
	stub_unmap_all(s);
	/* Some hosts forbid memory objects to be executed. */
	stub_map(s, base + STUB_LEN, 4096, OS_PROT_R | OS_PROT_X, 0);
	stub_unmap(s, base + STUB_LEN, 4096, 1);
	return stub_apply(s);
}

static int start(struct stub *s, const char **why)
{
	cleanup_close int shared = -1;
	int sv[2];
	pid_t parent = getpid();
	void *p;

	*why = "memory";
	shared = memfd_create("wslx-stub", MFD_CLOEXEC);
	if (shared < 0 || ftruncate(shared, SHARED_LEN) < 0)
		return -errno;
	p = mmap(NULL, SHARED_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
	if (p == MAP_FAILED)
		return -errno;
	s->shared = p;
	s->shared_fd = shared;
	s->orders = p;
	*why = "a process";
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return -errno;
	s->sock = sv[0];
	s->pid = fork();
	if (s->pid == 0) {
		child_main(&(struct child){.sock = sv[1], .ram_fd = s->ram_fd, .shared_fd = shared},
			parent);
		_exit(1);
	}
	close(sv[1]);
	if (s->pid < 0)
		return -errno;
	s->pidfd = (int)syscall(SYS_pidfd_open, s->pid, 0);
	return s->pidfd < 0 ? -errno : 0;
}

int stub_ready(struct stub *s, const char **why)
{
	int fds[LISTENERS], r;

	*why = "system call filters with listeners, or the addresses for it";
	r = receive_listeners(s->sock, fds);
	close(s->sock);
	s->sock = -1;
	if (r < 0)
		return give_up(s, r);
	s->program = fds[0];
	s->mapper = fds[1];
	*why = "executable shared memory";
	return meet(s);
}

int stub_new(struct stub **ret, const struct os_memobj *ram, const char **why)
{
	struct stub *s = calloc(1, sizeof(*s));
	void *p;
	int r;

	if (!s)
		return -ENOMEM;
	if (os_mem_map(MAX_CHANGES * sizeof(struct change), OS_PROT_R | OS_PROT_W, &p) < 0) {
		free(s);
		return -ENOMEM;
	}
	s->change = p;
	s->ram_fd = os_memobj_fd(ram);
	s->pid = -1;
	s->pidfd = s->program = s->mapper = s->sock = -1;
	stub_hides_host(); /* found out while system calls are free */
	*why = "random numbers";
	r = choose_base();
	if (r == 0 && !(getauxval(AT_HWCAP2) & 2)) { /* HWCAP2_FSGSBASE */
		*why = "FSGSBASE";
		r = -ENOTSUP;
	} else if (r == 0) {
		r = start(s, why);
	}
	if (r < 0) {
		stub_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void stub_free(struct stub *s)
{
	if (!s)
		return;
	if (s->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL, 0);
	close_fd(s->sock);
	close_fd(s->program);
	close_fd(s->mapper);
	close_fd(s->pidfd);
	if (s->pid > 0)
		waitpid(s->pid, NULL, 0);
	if (s->shared)
		munmap(s->shared, SHARED_LEN);
	os_mem_unmap(s->change, MAX_CHANGES * sizeof(struct change));
	free(s);
}
