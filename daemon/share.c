/* SPDX-License-Identifier: MIT */
#include "daemon/share.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "daemon/fswork.h"
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/proc.h"

/* One that dies at once, again and again, is not worth a processor. */
enum { AGAIN_MS = 200, AGAIN_MAX_MS = 30000, STEADY_MS = 10000 };

struct share_server {
	struct loop *loop;
	struct vm *vm;
	char *arg; /* what is shared, for its command line */
	char pid_path[PATH_MAX], state_path[PATH_MAX];
	pid_t pid;
	int pidfd, front; /* front: the end that wslx-vmm is to get; negative: it has it */
	bool child, p9;
	uint64_t began;
	unsigned pause_ms;
	struct loop_src *exit_src, *again;
};

/* a machine for work on a file system is to meet a hostile one, and nothing else */
static bool is_shared(const struct settings *set, const char *owner)
{
	return set->host_files && strcmp(owner, FSWORK_OWNER);
}

/* In MiB: a power of two, as addresses of devices have to be. */
static unsigned window_size(uint64_t asked)
{
	unsigned mib = 2;

	if (asked < 2 << 20)
		return 0;
	while ((uint64_t)mib << 21 <= asked)
		mib *= 2;
	return mib;
}

const char *share_device(const struct settings *set, const char *owner, char buf[SHARE_DEVICE_LEN])
{
	if (set->virtio_9p)
		snprintf(buf, SHARE_DEVICE_LEN, "9p,tag=%s", SHARE_TAG);
	else
		snprintf(buf, SHARE_DEVICE_LEN, "fs,tag=%s,dax=%u", SHARE_TAG,
			window_size(set->host_window));
	return is_shared(set, owner) ? buf : NULL;
}

int share_path(const struct settings *set, const char *folder, char *ret, size_t cap, struct err *e)
{
	cleanup_free char *root = realpath(set->host_folder ? set->host_folder : "/", NULL);
	size_t n = root && strcmp(root, "/") ? strlen(root) : 0;

	if (!set->host_files)
		return err_set(e, -ENODEV,
			"files of the host are not shared with the virtual machine (hostFileSystemAccess in wslx.conf)");
	if (!root || strncmp(folder, root, n) || (folder[n] && folder[n] != '/'))
		return err_set(e, -EXDEV,
			"it is not in %s, the folder that is shared with the virtual machine (hostFolder in wslx.conf)",
			set->host_folder ? set->host_folder : "/");
	folder += n;
	folder += strspn(folder, "/");
	return (size_t)snprintf(ret, cap, "%s", folder) < cap
		       ? 0
		       : err_set(e, -ENAMETOOLONG, "its path is too long");
}

static void attached(void *ctx, struct json_object *result, const struct err *e)
{
	if (e)
		log_warn("files", "connect the virtual machine to wslx-fsd: %s", e->text);
}

static void attach(struct share_server *s)
{
	struct ctl_fds f = {.n = 1};

	if (s->front < 0 || vm_state(s->vm) != VM_UP)
		return;
	f.fd[0] = take_fd(s->front);
	vm_call(s->vm, "vhost-user-attach",
		js_set_str(js_object(), "device", s->p9 ? "9p0" : "fs0"), &f, attached, NULL);
}

void share_up(struct share_server *s)
{
	if (s)
		attach(s);
}

static void start_again(void *ctx);

static void forget_process(struct share_server *s)
{
	s->exit_src = loop_src_free(s->exit_src);
	if (s->pidfd >= 0)
		close(take_fd(s->pidfd));
	if (s->front >= 0)
		close(take_fd(s->front));
	s->pid = 0;
}

/* Later each time, if it does not help. */
static void arm_again(struct share_server *s)
{
	loop_timer_arm(s->again, loop_now() + s->pause_ms * 1000000ull);
	s->pause_ms = MIN(s->pause_ms * 2, (unsigned)AGAIN_MAX_MS);
}

static void ended(void *ctx, int fd, uint32_t revents)
{
	struct share_server *s = ctx;
	int status = 0;

	if (s->child && waitpid(s->pid, &status, WNOHANG) == s->pid && WIFSIGNALED(status))
		log_warn("files", "wslx-fsd (process %d) was killed by signal %d", s->pid,
			WTERMSIG(status));
	forget_process(s);
	if (loop_now() - s->began > STEADY_MS * 1000000ull)
		s->pause_ms = AGAIN_MS;
	arm_again(s);
}

static int watch(struct share_server *s)
{
	s->pidfd = proc_pidfd(s->pid);
	return s->pidfd < 0 ? s->pidfd
			    : loop_io(s->loop, s->pidfd, EPOLLIN, ended, s, &s->exit_src);
}

static int start(struct share_server *s, struct err *e)
{
	char prog[PATH_MAX], text[64];
	cleanup_close int back = -EBADF;
	const char *argv[] = {prog, "--fd", "3", "--state", s->state_path, "--share", s->arg,
		s->p9 ? "--9p" : NULL, NULL};
	struct proc_spawn p = {.argv = argv, .std = {-1, -1, STDERR_FILENO}, .detach = true};
	int r = proc_find("wslx-fsd", "fsd", "WSLX_FSD", prog, sizeof(prog), e), pair[2];

	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, -errno, "make a socket pair");
	s->front = pair[0];
	back = pair[1];
	p.keep = back;
	s->pid = proc_start(&p, e);
	if (s->pid < 0) {
		close(take_fd(s->front));
		return s->pid;
	}
	s->child = true;
	s->began = loop_now();
	snprintf(text, sizeof(text), "%d %llu\n", s->pid,
		(unsigned long long)proc_start_time(s->pid));
	r = io_replace_file(s->pid_path, text, strlen(text), 0600);
	if (r == 0)
		r = watch(s);
	if (r == 0)
		return 0;
	/* it ends with its connection */
	forget_process(s);
	return err_sys(e, r, "watch wslx-fsd");
}

static void start_again(void *ctx)
{
	struct share_server *s = ctx;
	struct err e = {0};

	if (start(s, &e) == 0) {
		attach(s);
		return;
	}
	log_warn("files", "the guest has none of the host's files: %s", e.text);
	arm_again(s);
}

/* The one that an earlier service started. */
static bool adopt(struct share_server *s)
{
	cleanup_free char *text = NULL;
	unsigned long long began;
	int pid;

	if (io_read_file(s->pid_path, 64, &text, NULL) < 0 ||
		sscanf(text, "%d %llu", &pid, &began) != 2 || pid <= 0)
		return false;
	s->pid = pid;
	if (proc_start_time(pid) == began && watch(s) == 0)
		return true;
	/* it died while nobody looked; the guest still counts on it */
	s->pid = 0;
	loop_timer_arm(s->again, loop_now() + 1);
	return true;
}

struct share_server *share_new(struct loop *l, struct vm *vm, const struct settings *set,
	const char *owner, const char *dir)
{
	const char *folder = set->host_folder ? set->host_folder : "/";
	const char *opts = set->host_options ? set->host_options : "";
	struct share_server *s;
	struct err e = {0};
	int r = 0;

	if (!is_shared(set, owner))
		return NULL;
	s = calloc(1, sizeof(*s));
	if (!s)
		abort();
	*s = (struct share_server){.loop = l,
		.vm = vm,
		.p9 = set->virtio_9p,
		.pidfd = -EBADF,
		.front = -EBADF,
		.pause_ms = AGAIN_MS};
	snprintf(s->pid_path, sizeof(s->pid_path), "%s/fsd", dir);
	snprintf(s->state_path, sizeof(s->state_path), "%s/fsd.state", dir);
	if (strchr(folder, ','))
		r = err_set(&e, -EINVAL, "hostFolder in wslx.conf has a comma in its path");
	if (r == 0 && (r = loop_timer(l, start_again, s, &s->again)) < 0)
		err_sys(&e, r, "make a timer");
	if (r == 0 &&
		asprintf(&s->arg, "%s=%s%s%s", SHARE_NAME, folder, *opts ? "," : "", opts) < 0)
		abort();
	if (r == 0 && !adopt(s))
		r = start(s, &e);
	if (r < 0) {
		err_wrap(&e, e.code, "the guest gets no files of the host");
		settings_warn(set, e.text);
		log_warn("files", "%s", e.text);
		return share_free(s);
	}
	return s;
}

bool share_works(const struct share_server *s)
{
	return s && s->pid > 0;
}

struct share_server *share_free(struct share_server *s)
{
	if (!s)
		return NULL;
	forget_process(s);
	loop_src_free(s->again);
	free(s->arg);
	free(s);
	return NULL;
}
