/* SPDX-License-Identifier: MIT */
/* lib/os on Linux: memory objects are memfds, notifiers are eventfds, threads and locks are POSIX
 * threads. */
#include "lib/os/mem.h"
#include "lib/os/notifier.h"
#include "lib/os/thread.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

struct os_memobj {
	int fd;
	uint64_t size;
};

int os_memobj_new(struct os_memobj **ret, const char *name, uint64_t size)
{
	cleanup_close int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size) < 0)
		return -errno;
	/* The size never changes: a mapping of the whole object cannot fault with SIGBUS. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	return os_memobj_from_fd(ret, take_fd(fd), size);
}

int os_memobj_from_fd(struct os_memobj **ret, int fd, uint64_t size)
{
	struct os_memobj *o = malloc(sizeof(*o));

	if (!o) {
		close(fd);
		return -ENOMEM;
	}
	*o = (struct os_memobj){.fd = fd, .size = size};
	*ret = o;
	return 0;
}

void os_memobj_free(struct os_memobj *o)
{
	if (!o)
		return;
	close(o->fd);
	free(o);
}

int os_memobj_fd(const struct os_memobj *o)
{
	return o->fd;
}

static int prot_flags(unsigned prot)
{
	return (prot & OS_PROT_R ? PROT_READ : 0) | (prot & OS_PROT_W ? PROT_WRITE : 0) |
	       (prot & OS_PROT_X ? PROT_EXEC : 0);
}

int os_memobj_map(struct os_memobj *o, uint64_t off, size_t len, unsigned prot, void **ret)
{
	void *p = mmap(NULL, len, prot_flags(prot), MAP_SHARED | MAP_NORESERVE, o->fd, (off_t)off);

	if (p == MAP_FAILED)
		return -errno;
	*ret = p;
	return 0;
}

int os_memobj_write(struct os_memobj *o, uint64_t off, const void *buf, size_t len)
{
	const char *p = buf;

	while (len) {
		ssize_t n = pwrite(o->fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int os_memobj_punch(struct os_memobj *o, uint64_t off, uint64_t len)
{
	if (fallocate(o->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) <
		0)
		return -errno;
	return 0;
}

uint64_t os_memobj_used(const struct os_memobj *o)
{
	struct stat st;

	return fstat(o->fd, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

int os_mem_map(size_t len, unsigned prot, void **ret)
{
	void *p = mmap(
		NULL, len, prot_flags(prot), MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	*ret = p;
	return 0;
}

void os_mem_large(void *p, size_t len)
{
	madvise(p, len, MADV_HUGEPAGE);
}

int os_mem_protect(void *p, size_t len, unsigned prot)
{
	return mprotect(p, len, prot_flags(prot)) < 0 ? -errno : 0;
}

void os_mem_unmap(void *p, size_t len)
{
	if (p)
		munmap(p, len);
}

size_t os_page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

void os_mutex_init(struct os_mutex *m)
{
	if (pthread_mutex_init(&m->m, NULL))
		abort();
}

void os_mutex_done(struct os_mutex *m)
{
	pthread_mutex_destroy(&m->m);
}

void os_mutex_lock(struct os_mutex *m)
{
	if (pthread_mutex_lock(&m->m))
		abort();
}

void os_mutex_unlock(struct os_mutex *m)
{
	if (pthread_mutex_unlock(&m->m))
		abort();
}

void os_event_init(struct os_event *e)
{
	pthread_condattr_t ca;

	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	if (pthread_mutex_init(&e->m, NULL) || pthread_cond_init(&e->c, &ca))
		abort();
	pthread_condattr_destroy(&ca);
	e->set = false;
}

void os_event_done(struct os_event *e)
{
	pthread_cond_destroy(&e->c);
	pthread_mutex_destroy(&e->m);
}

void os_event_set(struct os_event *e)
{
	pthread_mutex_lock(&e->m);
	e->set = true;
	pthread_cond_signal(&e->c);
	pthread_mutex_unlock(&e->m);
}

bool os_event_wait(struct os_event *e, uint64_t deadline_ns)
{
	struct timespec ts = {
		.tv_sec = deadline_ns / 1000000000u, .tv_nsec = deadline_ns % 1000000000u};
	bool got;

	pthread_mutex_lock(&e->m);
	while (!e->set) {
		if (deadline_ns == UINT64_MAX)
			pthread_cond_wait(&e->c, &e->m);
		else if (pthread_cond_timedwait(&e->c, &e->m, &ts) == ETIMEDOUT)
			break;
	}
	got = e->set;
	e->set = false;
	pthread_mutex_unlock(&e->m);
	return got;
}

struct os_thread {
	pthread_t t;
	void (*fn)(void *);
	void *ctx;
	char name[16];
};

enum { KICK_SIGNAL_OFFSET = 1 };

static void kick_handler(int signo)
{
	(void)signo; /* its only work is to make a blocking call return EINTR */
}

static void *thread_entry(void *arg)
{
	struct os_thread *t = arg;

	/* By the thread itself: another one's name is a file in /proc, which a sandboxed process cannot open. */
	pthread_setname_np(pthread_self(), t->name);
	t->fn(t->ctx);
	return NULL;
}

int os_thread_start(struct os_thread **ret, const char *name, void (*fn)(void *), void *ctx)
{
	struct sigaction sa = {.sa_handler = kick_handler};
	struct os_thread *t = malloc(sizeof(*t));
	sigset_t block, old;
	int r;

	if (!t)
		return -ENOMEM;
	*t = (struct os_thread){.fn = fn, .ctx = ctx};
	snprintf(t->name, sizeof(t->name), "%s", name);
	sigaction(SIGRTMIN + KICK_SIGNAL_OFFSET, &sa, NULL);
	/* Signals meant for the process go to the thread that runs the loop; only kicks and faults
	 * come here. */
	sigfillset(&block);
	sigdelset(&block, SIGRTMIN + KICK_SIGNAL_OFFSET);
	sigdelset(&block, SIGSEGV);
	sigdelset(&block, SIGBUS);
	sigdelset(&block, SIGFPE);
	sigdelset(&block, SIGILL);
	sigdelset(&block, SIGTRAP);
	pthread_sigmask(SIG_SETMASK, &block, &old);
	r = pthread_create(&t->t, NULL, thread_entry, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r) {
		free(t);
		return -r;
	}
	*ret = t;
	return 0;
}

void os_thread_join(struct os_thread *t)
{
	if (!t)
		return;
	pthread_join(t->t, NULL);
	free(t);
}

void os_thread_yield(void)
{
	sched_yield();
}

void os_thread_kick(struct os_thread *t)
{
	pthread_kill(t->t, SIGRTMIN + KICK_SIGNAL_OFFSET);
}

static uint64_t read_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t os_now(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t os_realtime(void)
{
	return read_clock(CLOCK_REALTIME);
}

/* A reading of both clocks: the tightest of a few, so that an interrupt between the two does not count. */
struct clock_pair {
	uint64_t ns, tsc;
};

static struct clock_pair read_clocks(void)
{
	struct clock_pair best = {0};
	uint64_t best_gap = UINT64_MAX;

	for (int i = 0; i < 8; i++) {
		uint64_t before = __rdtsc(), ns = os_now(), after = __rdtsc();

		if (after - before < best_gap) {
			best_gap = after - before;
			best = (struct clock_pair){.ns = ns, .tsc = before + best_gap / 2};
		}
	}
	return best;
}

static struct clock_pair at_start;

__attribute__((constructor)) static void tsc_start(void)
{
	at_start = read_clocks();
}

/*
 * CPUID leaf 0x15 (SDM vol. 2A, CPUID) where it is complete; elsewhere a measurement against the clock since the process
 * started, over 5 ms at least: the two readings are good to some 20 ns, less than the host's own clock is slewed.
 */
static uint64_t tsc_measure(void)
{
	unsigned a, b, c, d;
	struct clock_pair now;

	if (__get_cpuid(0x15, &a, &b, &c, &d) && a && b && c)
		return (uint64_t)c * b / a;
	while (os_now() - at_start.ns < 5000000)
		;
	now = read_clocks();
	return (uint64_t)((__uint128_t)(now.tsc - at_start.tsc) * 1000000000u /
			  (now.ns - at_start.ns));
}

uint64_t os_tsc_hz(void)
{
	static uint64_t hz;
	uint64_t v = __atomic_load_n(&hz, __ATOMIC_RELAXED);

	if (!v) {
		v = tsc_measure();
		__atomic_store_n(&hz, v, __ATOMIC_RELAXED);
	}
	return v;
}

void os_random(void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = getrandom((char *)buf + done, len - done, 0);

		if (n > 0)
			done += (size_t)n;
		else if (n < 0 && errno != EINTR)
			abort();
	}
}

struct os_notifier {
	int fd;
	struct loop_src *src;
	loop_fn fn;
	void *ctx;
};

int os_notifier_new(struct os_notifier **ret)
{
	struct os_notifier *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (n->fd < 0) {
		int r = -errno;

		free(n);
		return r;
	}
	*ret = n;
	return 0;
}

void os_notifier_free(struct os_notifier *n)
{
	if (!n)
		return;
	loop_src_free(n->src);
	close(n->fd);
	free(n);
}

void os_notifier_signal(struct os_notifier *n)
{
	uint64_t one = 1;

	if (write(n->fd, &one, sizeof(one)) < 0)
		return; /* full counter: already signalled */
}

static void notifier_ready(void *ctx, int fd, uint32_t revents)
{
	struct os_notifier *n = ctx;
	uint64_t count;

	if (read(fd, &count, sizeof(count)) == sizeof(count))
		n->fn(n->ctx);
}

int os_notifier_watch(struct os_notifier *n, struct loop *l, loop_fn fn, void *ctx)
{
	n->fn = fn;
	n->ctx = ctx;
	return loop_io(l, n->fd, EPOLLIN, notifier_ready, n, &n->src);
}

int os_notifier_fd(const struct os_notifier *n)
{
	return n->fd;
}
