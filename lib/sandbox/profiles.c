/* SPDX-License-Identifier: MIT */
/*
 * What each of our processes may ask of the kernel. A call that is not listed ends the process. Calls of the C library
 * that merely look for a file fail instead: it copes.
 */
#include "lib/sandbox/profile.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <termios.h>

#define ALLOW(n)                                                                                   \
	{                                                                                          \
		.name = (n)                                                                        \
	}
#define FAIL(n, err_)                                                                              \
	{                                                                                          \
		.name = (n), .error = (err_)                                                       \
	}
#define IF_EQUAL(n, a, v)                                                                          \
	{                                                                                          \
		.name = (n), .check = SB_EQUAL, .arg = (a), .value = (v)                           \
	}
#define IF_MASKED(n, a, m, v)                                                                      \
	{                                                                                          \
		.name = (n), .check = SB_MASKED, .arg = (a), .mask = (m), .value = (v)             \
	}
#define IF_SELF(n, a)                                                                              \
	{                                                                                          \
		.name = (n), .check = SB_SELF, .arg = (a)                                          \
	}

/* Nothing has a path. fstat() of glibc is newfstatat() of an empty one. */
#define NO_PATHS                                                                                   \
	FAIL("open", EACCES), FAIL("openat", EACCES), FAIL("openat2", EACCES),                     \
		FAIL("access", EACCES), FAIL("faccessat", EACCES), FAIL("faccessat2", EACCES),     \
		FAIL("stat", EACCES), FAIL("lstat", EACCES), FAIL("statx", ENOSYS),                \
		FAIL("readlink", EACCES), FAIL("readlinkat", EACCES), FAIL("unlink", EACCES),      \
		FAIL("unlinkat", EACCES), FAIL("getcwd", EACCES),                                  \
		IF_MASKED("newfstatat", 3, AT_EMPTY_PATH, AT_EMPTY_PATH),                          \
		{.name = "newfstatat",                                                             \
			.error = EACCES,                                                           \
			.check = SB_MASKED,                                                        \
			.arg = 3,                                                                  \
			.mask = AT_EMPTY_PATH},                                                    \
		ALLOW("fstat")

#define MEMORY_AND_TIME                                                                            \
	ALLOW("brk"), ALLOW("munmap"), ALLOW("mremap"), ALLOW("madvise"), ALLOW("futex"),          \
		ALLOW("clock_gettime"), ALLOW("clock_getres"), ALLOW("gettimeofday"),              \
		ALLOW("time"), ALLOW("getrandom"), ALLOW("getpid"), ALLOW("gettid"),               \
		ALLOW("exit"), ALLOW("exit_group"), ALLOW("rt_sigreturn"),                         \
		ALLOW("rt_sigprocmask"), ALLOW("rt_sigaction"), ALLOW("sigaltstack"),              \
		ALLOW("restart_syscall"), ALLOW("sched_yield"), IF_SELF("tgkill", 0)

#define FILE_IO                                                                                    \
	ALLOW("read"), ALLOW("write"), ALLOW("readv"), ALLOW("writev"), ALLOW("pread64"),          \
		ALLOW("pwrite64"), ALLOW("lseek"), ALLOW("close"), ALLOW("fcntl"), ALLOW("fsync"), \
		ALLOW("fdatasync"), ALLOW("ftruncate"), ALLOW("fallocate")

static const struct sandbox_rule importer_rules[] = {
	NO_PATHS,
	MEMORY_AND_TIME,
	FILE_IO,
	/* memory that can be executed stays what it is */
	IF_MASKED("mmap", 2, PROT_EXEC, 0),
	IF_MASKED("mprotect", 2, PROT_EXEC, 0),
	FAIL("ioctl", ENOTTY),
	FAIL("sched_getaffinity", ENOSYS),
	FAIL("sysinfo", ENOSYS),
	FAIL("prlimit64", EPERM),
	{0},
};

const struct sandbox_profile sandbox_importer = {"importer", importer_rules};

static const struct sandbox_rule exporter_rules[] = {
	NO_PATHS,
	MEMORY_AND_TIME,
	FILE_IO,
	IF_MASKED("mmap", 2, PROT_EXEC, 0),
	IF_MASKED("mprotect", 2, PROT_EXEC, 0),
	/* a disk's copy shares its blocks where it can */
	IF_EQUAL("ioctl", 1, FICLONE),
	IF_EQUAL("ioctl", 1, TCGETS),
	/* a reader that is slower than we are */
	ALLOW("poll"),
	/* compressors have threads */
	FAIL("clone3", ENOSYS),
	IF_MASKED("clone", 0, CLONE_THREAD, CLONE_THREAD),
	ALLOW("set_robust_list"),
	ALLOW("rseq"),
	ALLOW("sched_getaffinity"),
	FAIL("sysinfo", ENOSYS),
	FAIL("prlimit64", EPERM),
	{0},
};

const struct sandbox_profile sandbox_exporter = {"exporter", exporter_rules};

/* Which paths it can open is for Landlock to say; what it can never have is other processes, sockets, new files. */
static const struct sandbox_rule tool_rules[] = {
	MEMORY_AND_TIME,
	FILE_IO,
	ALLOW("fstat"),
	ALLOW("newfstatat"),
	ALLOW("stat"),
	ALLOW("lstat"),
	ALLOW("statx"),
	ALLOW("statfs"),
	ALLOW("fstatfs"),
	ALLOW("access"),
	ALLOW("faccessat"),
	ALLOW("faccessat2"),
	ALLOW("readlink"),
	ALLOW("readlinkat"),
	ALLOW("getcwd"),
	ALLOW("getdents64"),
	/* a file that is not there is not made */
	IF_MASKED("open", 1, O_CREAT, 0),
	IF_MASKED("openat", 2, O_CREAT, 0),
	FAIL("openat2", ENOSYS),
	ALLOW("preadv"),
	ALLOW("pwritev"),
	ALLOW("flock"),
	ALLOW("dup"),
	ALLOW("sync_file_range"),
	ALLOW("fadvise64"),
	ALLOW("umask"),
	/* its own start, and its libraries */
	ALLOW("execve"),
	ALLOW("mmap"),
	ALLOW("mprotect"),
	ALLOW("arch_prctl"),
	ALLOW("set_tid_address"),
	ALLOW("set_robust_list"),
	ALLOW("rseq"),
	ALLOW("membarrier"),
	FAIL("clone3", ENOSYS),
	IF_MASKED("clone", 0, CLONE_THREAD, CLONE_THREAD),
	ALLOW("uname"),
	ALLOW("sysinfo"),
	ALLOW("sched_getaffinity"),
	ALLOW("getrusage"),
	ALLOW("times"),
	ALLOW("getuid"),
	ALLOW("geteuid"),
	ALLOW("getgid"),
	ALLOW("getegid"),
	ALLOW("getppid"),
	IF_EQUAL("prlimit64", 2, 0), /* asking only */
	FAIL("ioctl", ENOTTY),
	{0},
};

const struct sandbox_profile sandbox_tool = {.name = "tool", .rules = tool_rules, .fails = true};

static const struct sandbox_rule vmm_rules[] = {
	NO_PATHS,
	MEMORY_AND_TIME,
	FILE_IO,
	/* disks and guest memory */
	ALLOW("preadv"),
	ALLOW("pwritev"),
	ALLOW("preadv2"),
	ALLOW("pwritev2"),
	ALLOW("flock"),
	ALLOW("memfd_create"),
	ALLOW("mlock"),
	ALLOW("mincore"),
	ALLOW("fadvise64"),
	/* the software CPU makes code; its memory model needs fences in other threads */
	ALLOW("mmap"),
	ALLOW("mprotect"),
	ALLOW("membarrier"),
	/* the event loop */
	ALLOW("epoll_create1"),
	ALLOW("epoll_ctl"),
	ALLOW("epoll_wait"),
	ALLOW("epoll_pwait"),
	ALLOW("epoll_pwait2"),
	ALLOW("poll"),
	ALLOW("ppoll"),
	ALLOW("eventfd2"),
	ALLOW("pipe2"),
	ALLOW("signalfd4"),
	ALLOW("timerfd_create"),
	ALLOW("timerfd_settime"),
	ALLOW("timerfd_gettime"),
	ALLOW("timer_create"),
	ALLOW("timer_settime"),
	ALLOW("timer_delete"),
	ALLOW("nanosleep"),
	ALLOW("clock_nanosleep"),
	ALLOW("rt_sigtimedwait"),
	ALLOW("rt_sigpending"),
	/* control and vsock: unix sockets only */
	IF_EQUAL("socket", 0, AF_UNIX),
	IF_EQUAL("socketpair", 0, AF_UNIX),
	ALLOW("connect"),
	ALLOW("bind"),
	ALLOW("listen"),
	ALLOW("accept"),
	ALLOW("accept4"),
	ALLOW("shutdown"),
	ALLOW("sendmsg"),
	ALLOW("recvmsg"),
	ALLOW("sendto"),
	ALLOW("recvfrom"),
	ALLOW("getsockopt"),
	ALLOW("setsockopt"),
	ALLOW("getsockname"),
	ALLOW("getpeername"),
	ALLOW("dup"),
	ALLOW("dup3"),
	/* threads, not processes; glibc falls back to clone(), whose flags can be looked at */
	FAIL("clone3", ENOSYS),
	IF_MASKED("clone", 0, CLONE_THREAD, CLONE_THREAD),
	ALLOW("set_robust_list"),
	ALLOW("rseq"),
	ALLOW("sched_getaffinity"),
	ALLOW("sched_setaffinity"),
	ALLOW("getrusage"),
	ALLOW("sysinfo"),
	ALLOW("uname"),
	ALLOW("getuid"),
	ALLOW("geteuid"),
	ALLOW("getgid"),
	ALLOW("getegid"),
	IF_EQUAL("prlimit64", 2, 0), /* asking only */
	IF_EQUAL("prctl", 0, PR_SET_NAME),
	/* every KVM request; sizes, terminals and counts of what is open anyway */
	IF_MASKED("ioctl", 1, 0xff00, 0xae00),
	IF_EQUAL("ioctl", 1, TCGETS),
	IF_EQUAL("ioctl", 1, TCSETS),
	IF_EQUAL("ioctl", 1, TCSETSW),
	IF_EQUAL("ioctl", 1, TIOCGWINSZ),
	IF_EQUAL("ioctl", 1, FIONREAD),
	IF_EQUAL("ioctl", 1, FIONBIO),
	IF_EQUAL("ioctl", 1, BLKGETSIZE64),
	/* the processes in which user code is executed directly: made before the sandbox was entered */
	IF_EQUAL("ioctl", 1, SECCOMP_IOCTL_NOTIF_RECV),
	IF_EQUAL("ioctl", 1, SECCOMP_IOCTL_NOTIF_SEND),
	/* to those of which we hold a descriptor, and it cannot get others */
	IF_EQUAL("pidfd_send_signal", 1, SIGUSR1),
	IF_EQUAL("pidfd_send_signal", 1, SIGKILL),
	ALLOW("wait4"),
	{0},
};

const struct sandbox_profile sandbox_vmm = {.name = "vmm", .rules = vmm_rules, .signals = true};

/*
 * Which paths it can open is for Landlock to say, and without Landlock for the server's own care (lib/fs/host.h). It can have no
 * other process, no network, and no socket but those it has.
 */
static const struct sandbox_rule fsd_rules[] = {
	MEMORY_AND_TIME,
	FILE_IO,
	ALLOW("openat"),
	ALLOW("openat2"),
	ALLOW("open"),
	ALLOW("statx"),
	ALLOW("fstat"),
	ALLOW("newfstatat"),
	ALLOW("fstatfs"),
	ALLOW("getdents64"),
	ALLOW("readlinkat"),
	ALLOW("faccessat"),
	ALLOW("mknodat"),
	ALLOW("mkdirat"),
	ALLOW("symlinkat"),
	ALLOW("linkat"),
	ALLOW("unlinkat"),
	ALLOW("renameat2"),
	ALLOW("chmod"),
	ALLOW("fchmod"),
	ALLOW("fchownat"),
	ALLOW("utimensat"),
	ALLOW("getxattr"),
	ALLOW("lgetxattr"),
	ALLOW("listxattr"),
	ALLOW("setxattr"),
	ALLOW("removexattr"),
	ALLOW("preadv2"),
	ALLOW("pwritev2"),
	ALLOW("copy_file_range"),
	ALLOW("syncfs"),
	/* changes of files that the guest watches; Landlock does not look at these, but who cannot read a file cannot watch it */
	ALLOW("inotify_add_watch"),
	ALLOW("inotify_rm_watch"),
	ALLOW("umask"),
	ALLOW("setfsuid"),
	ALLOW("setfsgid"),
	/* a umask of each thread's own */
	IF_EQUAL("unshare", 0, CLONE_FS),
	/* the guest's memory, and the rings' descriptors */
	IF_MASKED("mmap", 2, PROT_EXEC, 0),
	IF_MASKED("mprotect", 2, PROT_EXEC, 0),
	ALLOW("recvmsg"),
	ALLOW("sendmsg"),
	ALLOW("epoll_create1"),
	ALLOW("epoll_ctl"),
	ALLOW("epoll_wait"),
	ALLOW("epoll_pwait"),
	ALLOW("timerfd_settime"),
	ALLOW("poll"),
	ALLOW("ppoll"),
	/* threads, not processes */
	FAIL("clone3", ENOSYS),
	IF_MASKED("clone", 0, CLONE_THREAD, CLONE_THREAD),
	ALLOW("set_robust_list"),
	ALLOW("rseq"),
	ALLOW("sched_getaffinity"),
	ALLOW("geteuid"),
	ALLOW("getegid"),
	IF_EQUAL("prlimit64", 2, 0), /* asking only */
	IF_EQUAL("ioctl", 1, TCGETS),
	{0},
};

#define CAP(c) (1ull << CAP_##c)

const struct sandbox_profile sandbox_fsd = {.name = "fsd",
	.rules = fsd_rules,
	.caps = CAP(CHOWN) | CAP(DAC_OVERRIDE) | CAP(FOWNER) | CAP(FSETID) | CAP(SETUID) |
		CAP(SETGID) | CAP(MKNOD) | CAP(SETFCAP)};
/* A program on the loop that has connections to the internet. */
#define NETWORK                                                                                    \
	NO_PATHS, MEMORY_AND_TIME, ALLOW("read"), ALLOW("write"), ALLOW("readv"), ALLOW("writev"), \
		ALLOW("close"), ALLOW("fcntl"), ALLOW("lseek"), /* the guest's memory */           \
		IF_MASKED("mmap", 2, PROT_EXEC, 0),                                                \
		IF_MASKED("mprotect", 2, PROT_EXEC, 0), /* the event loop */                       \
		ALLOW("epoll_create1"), ALLOW("epoll_ctl"), ALLOW("epoll_wait"),                   \
		ALLOW("epoll_pwait"), ALLOW("eventfd2"), ALLOW("timerfd_create"),                  \
		ALLOW("timerfd_settime"),                                                          \
		ALLOW("poll"), /* the internet; sockets of other kinds only as they come to us */  \
		IF_EQUAL("socket", 0, AF_INET), IF_EQUAL("socket", 0, AF_INET6),                   \
		FAIL("socketpair", EPERM), ALLOW("connect"), ALLOW("bind"), ALLOW("listen"),       \
		ALLOW("accept"), ALLOW("accept4"), ALLOW("shutdown"), ALLOW("sendmsg"),            \
		ALLOW("recvmsg"), ALLOW("sendto"), ALLOW("recvfrom"), ALLOW("getsockopt"),         \
		ALLOW("setsockopt"), ALLOW("getsockname"), ALLOW("getpeername"), ALLOW("dup"),     \
		ALLOW("uname"), ALLOW("getuid"), ALLOW("geteuid"), ALLOW("getgid"),                \
		ALLOW("getegid"), IF_EQUAL("ioctl", 1, FIONREAD), IF_EQUAL("ioctl", 1, FIONBIO),   \
		IF_EQUAL("ioctl", 1, TCGETS), FAIL("sysinfo", ENOSYS),                             \
		FAIL("sched_getaffinity", ENOSYS), FAIL("prlimit64", EPERM)

static const struct sandbox_rule netd_rules[] = {
	NETWORK,
	{0},
};

/* What listens at a low port in a guest is at that port of the host, if its user may have it. */
const struct sandbox_profile sandbox_netd = {
	.name = "netd", .rules = netd_rules, .tcp = true, .caps = CAP(NET_BIND_SERVICE)};

static const struct sandbox_rule netd_tap_rules[] = {
	NETWORK,
	/* what may come out of the tap device */
	IF_EQUAL("ioctl", 1, TUNSETOFFLOAD),
	{0},
};

const struct sandbox_profile sandbox_netd_tap = {.name = "netd", .rules = netd_tap_rules};

static const struct sandbox_rule forward_rules[] = {
	NETWORK,
	/* the machine's vsock socket */
	IF_EQUAL("socket", 0, AF_UNIX),
	{0},
};

const struct sandbox_profile sandbox_forward = {
	.name = "forward", .rules = forward_rules, .tcp = true, .caps = CAP(NET_BIND_SERVICE)};
