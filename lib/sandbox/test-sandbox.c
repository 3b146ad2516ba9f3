/* SPDX-License-Identifier: MIT */
/* Each profile, entered by a child: what must not work does not, what the program needs does. */
#include "lib/sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include "lib/base/test.h"

/* How a child that entered the profile and then ran fn ended: fn's result, or 256 + the signal that killed it. */
enum { KILLED = 256 };

static struct sandbox_opts opts;

static int confined(const struct sandbox_profile *p, int (*fn)(void))
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		struct err e = {0};

		if (sandbox_enter(p, &opts, &e) < 0) {
			dprintf(STDERR_FILENO, "# %s\n", e.text);
			_exit(99);
		}
		_exit(fn());
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? KILLED + WTERMSIG(status) : WEXITSTATUS(status);
}

/* 0: it worked. */
static int try_open(void)
{
	return open("/etc/passwd", O_RDONLY) >= 0 ? 0 : 1;
}
static int try_open_raw(void)
{
	return syscall(SYS_open, "/etc/passwd", O_RDONLY) >= 0 ? 0 : 1;
}
static int try_exec(void)
{
	execl("/bin/true", "true", (char *)NULL);
	return 1;
}
static int try_inet(void)
{
	return socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 0 : 1;
}
static int try_netlink(void)
{
	return socket(AF_NETLINK, SOCK_RAW, 0) >= 0 ? 0 : 1;
}
static int try_fork(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return pid > 0 ? 0 : 1;
}
static int try_kill(void)
{
	return kill(getppid(), 0) == 0 ? 0 : 1;
}
static int try_ptrace(void)
{
	return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 ? 0 : 1;
}
static int try_stat(void)
{
	struct stat st;

	return stat("/etc/passwd", &st) == 0 ? 0 : 1;
}
static int try_unlink(void)
{
	return unlink("/tmp/wslx-no-such-file") == 0 || errno == ENOENT ? 0 : 1;
}
static int try_mount_ns(void)
{
	return syscall(SYS_unshare, 0x00020000) == 0 ? 0 : 1;
}
static int try_tty_inject(void)
{
	return ioctl(0, TIOCSTI, "x") == 0 ? 0 : 1;
}

static const struct {
	const char *name;
	int (*fn)(void);
} forbidden[] = {
	{"open", try_open},
	{"open, the old call", try_open_raw},
	{"exec", try_exec},
	{"inet socket", try_inet},
	{"netlink socket", try_netlink},
	{"fork", try_fork},
	{"kill", try_kill},
	{"ptrace", try_ptrace},
	{"stat", try_stat},
	{"unlink", try_unlink},
	{"unshare", try_mount_ns},
	{"TIOCSTI", try_tty_inject},
};

static int try_unix(void)
{
	return socket(AF_UNIX, SOCK_STREAM, 0) >= 0 ? 0 : 1;
}
static int try_code(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
			       MAP_FAILED
		       ? 0
		       : 1;
}

static void check_forbidden_but(const struct sandbox_profile *p, const char *allowed)
{
	for (unsigned i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
		int r;

		if (allowed && !strcmp(forbidden[i].name, allowed))
			continue;
		r = confined(p, forbidden[i].fn);
		if (r != 1 && r != KILLED + SIGSYS) {
			printf("# %s: %s: ended with %d\n", sandbox_profile_name(p),
				forbidden[i].name, r);
			test_failed_checks++;
		}
	}
}

static void check_forbidden(const struct sandbox_profile *p)
{
	check_forbidden_but(p, NULL);
}

/* The network's processes have sockets of the internet, and of nothing else. */
TEST(netd_forbidden)
{
	int r;

	check_forbidden_but(&sandbox_netd, "inet socket");
	CHECK_EQ(confined(&sandbox_netd, try_inet), 0);
	r = confined(&sandbox_netd, try_unix);
	CHECK(r == 1 || r == KILLED + SIGSYS);
	r = confined(&sandbox_netd, try_code);
	CHECK(r == 1 || r == KILLED + SIGSYS);
	check_forbidden_but(&sandbox_netd_tap, "inet socket");
	check_forbidden_but(&sandbox_forward, "inet socket");
	CHECK_EQ(confined(&sandbox_forward, try_inet), 0);
	CHECK_EQ(confined(&sandbox_forward, try_unix), 0);
}

TEST(vmm_forbidden)
{
	check_forbidden(&sandbox_vmm);
}

TEST(importer_forbidden)
{
	check_forbidden(&sandbox_importer);
	CHECK_EQ(confined(&sandbox_importer, try_exec), KILLED + SIGSYS);
}

TEST(exporter_forbidden)
{
	check_forbidden(&sandbox_exporter);
	CHECK_EQ(confined(&sandbox_exporter, try_exec), KILLED + SIGSYS);
}

/* A file server: what is in its folder it can open and change, by descriptor and through /proc; nothing else. */
static int tree = -1;

static int fsd_outside(void)
{
	static const char *const paths[] = {"/etc/passwd", "/proc/self/environ", "/dev/null"};
	char up[64];

	for (unsigned i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (open(paths[i], O_RDONLY) >= 0 || errno != EACCES)
			return 0;
	if (openat(tree, "../canary", O_RDWR) >= 0 || openat(tree, "link", O_RDWR) >= 0)
		return 0;
	snprintf(up, sizeof(up), "/proc/self/fd/%d/../canary", tree);
	if (open(up, O_RDONLY) >= 0 || mkdirat(tree, "../made", 0700) == 0 ||
		syscall(SYS_renameat2, tree, "f", tree, "../f", 0) == 0 ||
		unlinkat(tree, "../canary", 0) == 0)
		return 0;
	return 1;
}

static int fsd_inside(void)
{
	char path[64];
	int fd = openat(tree, "f", O_PATH);

	if (fd < 0 || mkdirat(tree, "d", 0700) < 0 ||
		syscall(SYS_renameat2, tree, "f", tree, "d/f", 0) < 0)
		return 1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = open(path, O_RDWR);
	return fd >= 0 && write(fd, "x", 1) == 1 ? 0 : 1;
}

/* Linux 5.13 to 5.18 */
TEST(files_cannot_be_moved_between_folders_on_an_old_kernel)
{
	char top[] = "/tmp/wslx-sandbox.XXXXXX";
	struct sandbox_grants grants = {.trees = &tree, .n_trees = 1};

	REQUIRE(mkdtemp(top));
	tree = open(top, O_PATH | O_DIRECTORY);
	close(openat(tree, "f", O_CREAT | O_RDWR, 0600));
	opts.grants = &grants;
	opts.landlock_abi = 1;
	CHECK_EQ(confined(&sandbox_fsd, fsd_inside), 0);
	opts.grants = NULL;
	opts.landlock_abi = 0;
	unlinkat(tree, "d/f", 0);
	unlinkat(tree, "d", AT_REMOVEDIR);
	unlinkat(tree, "f", 0);
	close(tree);
	rmdir(top);
}

TEST(fsd_sees_its_folder_and_nothing_else)
{
	char top[] = "/tmp/wslx-sandbox.XXXXXX";
	struct sandbox_grants grants = {.trees = &tree, .n_trees = 1};
	int t;

	REQUIRE(mkdtemp(top));
	t = open(top, O_RDONLY | O_DIRECTORY);
	REQUIRE(t >= 0 && mkdirat(t, "in", 0700) == 0);
	tree = openat(t, "in", O_PATH | O_DIRECTORY);
	close(openat(t, "canary", O_CREAT | O_RDWR, 0600));
	close(openat(tree, "f", O_CREAT | O_RDWR, 0600));
	CHECK(symlinkat("../canary", tree, "link") == 0);
	for (unsigned i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
		/* metadata of any path can be asked for; Landlock has no say in that */
		if (forbidden[i].fn == try_stat)
			continue;
		int r = confined(&sandbox_fsd, forbidden[i].fn);

		if (r != 1 && r != KILLED + SIGSYS) {
			printf("# fsd: %s: ended with %d\n", forbidden[i].name, r);
			test_failed_checks++;
		}
	}
	opts.grants = &grants;
	CHECK_EQ(confined(&sandbox_fsd, fsd_outside), 1);
	CHECK_EQ(confined(&sandbox_fsd, fsd_inside), 0);
	opts.grants = NULL;
	CHECK(faccessat(t, "canary", F_OK, 0) == 0 && faccessat(t, "made", F_OK, 0) < 0);
	unlinkat(tree, "d/f", 0);
	unlinkat(tree, "d", AT_REMOVEDIR);
	unlinkat(tree, "f", 0);
	unlinkat(tree, "link", 0);
	unlinkat(t, "in", AT_REMOVEDIR);
	unlinkat(t, "canary", 0);
	close(tree);
	close(t);
	rmdir(top);
}

/* Without the sandbox these calls work (as far as a process may): the tests above do not pass for another reason. */
TEST(not_forbidden_outside)
{
	CHECK_EQ(try_open(), 0);
	CHECK_EQ(try_inet(), 0);
	CHECK_EQ(try_fork(), 0);
	CHECK_EQ(try_stat(), 0);
	CHECK_EQ(try_unlink(), 0);
}

static void *thread(void *arg)
{
	*(int *)arg = 1;
	return NULL;
}

#define NEED(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			dprintf(STDERR_FILENO, "# line %d: %s: %s\n", __LINE__, #cond,             \
				strerror(errno));                                                  \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

static char sock_path[64];

static int vmm_work(void)
{
	static const uint8_t code[] = {0xb8, 7, 0, 0, 0, 0xc3}; /* mov eax, 7; ret */
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct iovec iov = {NULL, 4096};
	struct epoll_event ev;
	struct itimerspec its = {.it_value.tv_nsec = 1};
	uint64_t n;
	pthread_t t;
	struct stat st;
	int ran = 0, fd, ep, pair[2];
	uint8_t *p;

	NEED((fd = memfd_create("x", MFD_CLOEXEC)) >= 0);
	NEED(ftruncate(fd, 1 << 20) == 0);
	NEED(fstat(fd, &st) == 0 && st.st_size == 1 << 20);
	NEED((p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) != MAP_FAILED);
	iov.iov_base = p;
	NEED(pwritev(fd, &iov, 1, 4096) == 4096 && preadv(fd, &iov, 1, 0) == 4096);
	NEED(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0);
	NEED(fdatasync(fd) == 0);
	NEED(madvise(p, 4096, MADV_DONTNEED) == 0);
	memcpy(p, code, sizeof(code));
	NEED(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0);
	NEED(((int (*)(void))(uintptr_t)p)() == 7);
	NEED(pthread_create(&t, NULL, thread, &ran) == 0);
	NEED(pthread_join(t, NULL) == 0 && ran);
	NEED((ep = epoll_create1(EPOLL_CLOEXEC)) >= 0);
	NEED((fd = eventfd(1, EFD_NONBLOCK)) >= 0);
	ev.events = EPOLLIN;
	NEED(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == 0 && epoll_wait(ep, &ev, 1, -1) == 1);
	NEED((fd = timerfd_create(CLOCK_MONOTONIC, 0)) >= 0);
	NEED(timerfd_settime(fd, 0, &its, NULL) == 0 && read(fd, &n, sizeof(n)) == sizeof(n));
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && send(pair[0], "a", 1, 0) == 1);
	NEED((fd = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
	strcpy(un.sun_path, sock_path);
	NEED(connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0);
	NEED(raise(0) == 0);
	return 0;
}

TEST(vmm_works)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sock_path, sizeof(sock_path), "/tmp/wslx-test-sandbox.%d", getpid());
	strcpy(un.sun_path, sock_path);
	REQUIRE(bind(fd, (struct sockaddr *)&un, sizeof(un)) == 0 && listen(fd, 4) == 0);
	CHECK_EQ(confined(&sandbox_vmm, vmm_work), 0);
	unlink(sock_path);
	close(fd);
}

static int importer_exec_memory(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
			       MAP_FAILED
		       ? 0
		       : 1;
}

static int importer_work(void)
{
	char *p = malloc(8 << 20);

	NEED(p);
	memset(p, 1, 8 << 20);
	free(p);
	NEED(write(STDERR_FILENO, "", 0) == 0);
	return 0;
}

TEST(importer_works)
{
	CHECK_EQ(confined(&sandbox_importer, importer_work), 0);
	CHECK_EQ(confined(&sandbox_importer, importer_exec_memory), KILLED + SIGSYS);
}

static int exporter_work(void)
{
	pthread_t t;
	int done = 0;

	/* Compressors have threads. */
	NEED(pthread_create(&t, NULL, thread, &done) == 0);
	NEED(pthread_join(t, NULL) == 0 && done);
	return importer_work();
}

TEST(exporter_works)
{
	CHECK_EQ(confined(&sandbox_exporter, exporter_work), 0);
	CHECK_EQ(confined(&sandbox_exporter, importer_exec_memory), KILLED + SIGSYS);
}

static int pipe_fd, other_fd;

static int fds_left(void)
{
	NEED(fcntl(STDERR_FILENO, F_GETFD) >= 0);
	NEED(fcntl(pipe_fd, F_GETFD) >= 0);
	return fcntl(other_fd, F_GETFD) < 0 && fcntl(0, F_GETFD) < 0 ? 0 : 1;
}

TEST(stray_descriptors_are_closed)
{
	int keep[2];

	pipe_fd = dup(0);
	other_fd = dup(0);
	keep[0] = pipe_fd;
	keep[1] = STDERR_FILENO;
	opts = (struct sandbox_opts){.keep_fds = keep, .n_keep = 2};
	CHECK_EQ(confined(&sandbox_importer, fds_left), 0);
	opts = (struct sandbox_opts){0};
	close(pipe_fd);
	close(other_fd);
}

static struct sandbox_result *result;

static int look_at_result(void)
{
	struct sandbox_result r = *result;
	unsigned want = 1u << SANDBOX_NO_NEW_PRIVS | 1u << SANDBOX_CAPS | 1u << SANDBOX_SECCOMP;

	if ((r.done & want) != want)
		return 1;
	/* Landlock, or a reason. */
	return (r.done & 1u << SANDBOX_LANDLOCK) || r.note[0] ? 0 : 2;
}

TEST(result)
{
	struct sandbox_result r;

	result = &r;
	opts.ret = &r;
	CHECK_EQ(confined(&sandbox_importer, look_at_result), 0);
	opts.ret = NULL;
	for (unsigned i = 0; i < SANDBOX_STAGES; i++)
		CHECK(sandbox_stage_names[i]);
}

/* Debugging: told on stderr, and failing, but not the end. */
static int err_pipe[2];

static int forbidden_call(void)
{
	return syscall(SYS_getppid) == -1 && errno == ENOSYS ? 7 : 1;
}

TEST(debug_mode_reports)
{
	char text[200] = "";
	int saved = dup(STDERR_FILENO), r;

	REQUIRE(pipe(err_pipe) == 0);
	dup2(err_pipe[1], STDERR_FILENO);
	opts.debug = true;
	r = confined(&sandbox_importer, forbidden_call);
	opts.debug = false;
	dup2(saved, STDERR_FILENO);
	close(saved);
	CHECK_EQ(r, 7);
	CHECK(read(err_pipe[0], text, sizeof(text) - 1) > 0);
	CHECK(strstr(text, "importer"));
	CHECK(strstr(text, "getppid"));
	CHECK_EQ(confined(&sandbox_importer, forbidden_call), KILLED + SIGSYS);
	close(err_pipe[0]);
	close(err_pipe[1]);
}

static int set_name(void)
{
	return prctl(PR_SET_NAME, "x") == 0 ? 0 : 1;
}

static int set_dumpable(void)
{
	return prctl(PR_SET_DUMPABLE, 1) == 0 ? 0 : 1;
}

TEST(prctl_by_argument)
{
	CHECK_EQ(confined(&sandbox_vmm, set_name), 0);
	CHECK_EQ(confined(&sandbox_vmm, set_dumpable), KILLED + SIGSYS);
}

static int go[2];

static int wait_to_be_seen(void)
{
	char c;

	return read(go[0], &c, 1) == 1 ? 0 : 1;
}

/* What the kernel says of a confined process. */
TEST(seen_from_outside)
{
	char path[64], text[4096] = "";
	const char *seccomp = NULL;
	pid_t pid;
	int fd;

	REQUIRE(pipe(go) == 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(sandbox_enter(&sandbox_vmm, &opts, NULL) < 0 ? 1 : wait_to_be_seen());
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	while (!seccomp || seccomp[9] != '2') {
		fd = open(path, O_RDONLY);
		REQUIRE(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
		close(fd);
		seccomp = strstr(text, "Seccomp:");
		REQUIRE(seccomp);
	}
	CHECK(strstr(text, "NoNewPrivs:\t1"));
	CHECK(strstr(text, "CapEff:\t0000000000000000"));
	CHECK(strstr(text, "CapPrm:\t0000000000000000"));
	CHECK(write(go[1], "x", 1) == 1);
	waitpid(pid, NULL, 0);
}

TEST_MAIN()
