/* SPDX-License-Identifier: MIT */
#include "lib/session/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/io.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum { ENV_SPARE = 8 }; /* variables of ours */

static void free_list(char **list)
{
	for (char **p = list; p && *p; p++)
		free(*p);
	free(list);
}

void exec_plan_done(struct exec_plan *p)
{
	free(p->file);
	free_list(p->argv);
	free_list(p->envp);
	free(p->request);
	p->request = NULL;
	p->file = NULL;
	p->argv = p->envp = NULL;
}

/* All attributes with this tag as a NULL-terminated list with room for extra more. */
static int collect(
	const struct wire_msg *m, enum wslx_tag tag, unsigned extra, char ***ret, unsigned *n)
{
	struct wire_attr a;
	unsigned count = 0;
	char **list;

	for (size_t pos = 0; wire_next(m, &pos, &a);)
		count += a.tag == (unsigned)tag;
	list = calloc(count + extra + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	*n = 0;
	for (size_t pos = 0; wire_next(m, &pos, &a);) {
		if (a.tag != (unsigned)tag)
			continue;
		if (memchr(a.data, 0, a.len)) {
			free_list(list);
			return -EBADMSG;
		}
		list[*n] = strndup((const char *)a.data, a.len);
		if (!list[(*n)++]) {
			free_list(list);
			return -ENOMEM;
		}
	}
	*ret = list;
	return 0;
}

/* One word stays the script it is; several are quoted so that the shell sees the same words again. */
static char *shell_script(char **args, unsigned n)
{
	size_t len = 1;
	char *s, *p;

	if (n == 1)
		return strdup(args[0]);
	for (unsigned i = 0; i < n; i++)
		len += strlen(args[i]) * 4 + 3;
	s = p = malloc(len);
	if (!s)
		return NULL;
	for (unsigned i = 0; i < n; i++) {
		if (i)
			*p++ = ' ';
		*p++ = '\'';
		for (const char *c = args[i]; *c; c++) {
			if (*c == '\'') {
				memcpy(p, "'\\''", 4);
				p += 4;
			} else {
				*p++ = *c;
			}
		}
		*p++ = '\'';
	}
	*p = '\0';
	return s;
}

static int plan_command(const struct wire_msg *m, unsigned flags, struct exec_plan *p)
{
	char **args, **argv;
	const char *base;
	unsigned n, k = 0;
	int r = collect(m, WSLX_A_ARG, 0, &args, &n);

	if (r < 0)
		return r;
	if (n && !(flags & WSLX_EXEC_SHELL)) {
		p->argv = args;
		p->file = strdup(args[0]);
		return p->file ? 0 : -ENOMEM;
	}
	argv = calloc(4, sizeof(*argv));
	p->argv = argv;
	p->file = strdup(p->user.shell);
	base = strrchr(p->user.shell, '/');
	base = base ? base + 1 : p->user.shell;
	if (!argv || !p->file ||
		asprintf(&argv[k++], "%s%s", flags & WSLX_EXEC_LOGIN || !n ? "-" : "", base) < 0)
		r = -ENOMEM;
	if (r == 0 && n) {
		argv[k++] = strdup("-c");
		argv[k] = shell_script(args, n);
		if (!argv[k - 1] || !argv[k])
			r = -ENOMEM;
	}
	free_list(args);
	return r;
}

static bool env_has(char **env, unsigned n, const char *name)
{
	size_t len = strlen(name);

	for (unsigned i = 0; i < n; i++)
		if (!strncmp(env[i], name, len) && env[i][len] == '=')
			return true;
	return false;
}

/* Our own variables that the program's do not replace. */
static int inherit(char ***env, unsigned *n)
{
	unsigned more = 0, own = *n;
	char **list;

	while (environ[more])
		more++;
	list = reallocarray(*env, own + more + ENV_SPARE + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	*env = list;
	for (unsigned i = 0; i < more; i++) {
		size_t len = strcspn(environ[i], "=");
		char name[256];

		if (len >= sizeof(name) || !environ[i][len])
			continue;
		memcpy(name, environ[i], len);
		name[len] = '\0';
		if (env_has(list, own, name))
			continue;
		list[*n] = strdup(environ[i]);
		if (!list[*n])
			return -ENOMEM;
		list[++*n] = NULL;
	}
	return 0;
}

static int plan_env(const struct wire_msg *m, const struct exec_policy *policy, struct exec_plan *p)
{
	const char *own[][2] = {{"HOME", p->user.home}, {"USER", p->user.name},
		{"LOGNAME", p->user.name}, {"SHELL", p->user.shell}, {"PATH", DEFAULT_PATH},
		{"WSL_DISTRO_NAME", policy->distro}};
	unsigned n;
	int r = collect(m, WSLX_A_ENV, ENV_SPARE, &p->envp, &n);

	_Static_assert(ARRAY_LEN(own) <= ENV_SPARE, "room");
	if (r < 0)
		return r;
	for (unsigned i = 0; i < n; i++)
		if (!strchr(p->envp[i], '='))
			return -EBADMSG;
	if (policy->as_self)
		r = inherit(&p->envp, &n);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < ARRAY_LEN(own); i++) {
		if (!own[i][1] || env_has(p->envp, n, own[i][0]))
			continue;
		if (asprintf(&p->envp[n], "%s=%s", own[i][0], own[i][1]) < 0) {
			p->envp[n] = NULL;
			return -ENOMEM;
		}
		p->envp[++n] = NULL;
	}
	return policy->env ? policy->env(policy->ctx, &p->envp) : 0;
}

int exec_env_default(struct exec_plan *p, const char *name, const char *value)
{
	unsigned n = 0;
	char **list;

	while (p->envp[n])
		n++;
	if (env_has(p->envp, n, name))
		return 0;
	list = reallocarray(p->envp, n + 2, sizeof(*list));
	if (!list)
		return -ENOMEM;
	p->envp = list;
	list[n + 1] = NULL;
	if (asprintf(&list[n], "%s=%s", name, value) >= 0)
		return 0;
	list[n] = NULL;
	return -ENOMEM;
}

/* What the set-up changes, its user above all, is known only after it: the default user of before is left out. */
static int keep_request(
	const struct wire_msg *m, const struct exec_policy *policy, struct exec_plan *p)
{
	struct wire_attr a;

	p->request = malloc(m->len + 1);
	if (!p->request)
		return -ENOMEM;
	for (size_t pos = 0, from = 0; wire_next(m, &pos, &a); from = pos) {
		if (a.tag == WSLX_A_UID)
			continue;
		memcpy(p->request + p->request_len, m->attrs + from, pos - from);
		p->request_len += pos - from;
	}
	p->oobe = true;
	p->policy = *policy;
	return 0;
}

static int plan_cwd(const struct wire_msg *m, unsigned flags, struct exec_plan *p, struct err *e)
{
	char want[sizeof(p->cwd)];
	struct stat st;
	int r = wire_get_str(m, WSLX_A_CWD, want, sizeof(want)), n;

	if (r < 0 && r != -ENOENT)
		return err_wrap(e, r, "working directory");
	if (r == -ENOENT || !strcmp(want, "~"))
		n = snprintf(p->cwd, sizeof(p->cwd), "%s", p->user.home);
	else if (!strncmp(want, "~/", 2))
		n = snprintf(p->cwd, sizeof(p->cwd), "%s/%s", p->user.home, want + 2);
	else if (want[0] == '/')
		n = snprintf(p->cwd, sizeof(p->cwd), "%s", want);
	else
		return err_set(e, -EINVAL, "working directory \"%s\" is not absolute", want);
	if (n >= (int)sizeof(p->cwd))
		return err_set(e, -ENAMETOOLONG, "working directory: the path is too long");
	if (stat(p->cwd, &st) == 0 && S_ISDIR(st.st_mode))
		return 0;
	if (flags & WSLX_EXEC_CWD_MUST)
		return err_set(
			e, -ENOENT, "directory %s does not exist in the distribution", p->cwd);
	/* Seen from a distribution, the host's / is no better a place than any; home is. */
	const char *instead = p->as_self && access(p->user.home, X_OK) == 0 ? p->user.home : "/";
	if (r != -ENOENT)
		snprintf(p->warning, sizeof(p->warning),
			"directory %.120s does not exist: starting in %.60s", p->cwd, instead);
	snprintf(p->cwd, sizeof(p->cwd), "%s", instead);
	return 0;
}

int exec_user(
	const struct wire_msg *m, const struct exec_policy *policy, struct user *ret, struct err *e)
{
	char name[64];
	int r = wire_get_str(m, WSLX_A_USER, name, sizeof(name));
	uid_t uid;

	if (policy->as_self) {
		const char *home = getenv("HOME");

		if (r != -ENOENT)
			return err_set(e, -EPERM, "programs run as one user here: name none");
		r = user_by_uid(geteuid(), ret);
		if (r == 0 && home && home[0] == '/' && strlen(home) < sizeof(ret->home))
			strcpy(ret->home, home);
		return r < 0 ? err_wrap(e, r, "user %u", geteuid()) : 0;
	}
	if (r >= 0) {
		r = user_by_name(name, ret);
		return r < 0 ? err_set(e, r, "user \"%s\" does not exist in the distribution", name)
			     : 0;
	}
	if (r != -ENOENT)
		return err_wrap(e, r, "user name");
	if (policy->default_user && user_by_name(policy->default_user, ret) == 0)
		return 0;
	uid = wire_get_u32(m, WSLX_A_UID, policy->default_uid);
	r = user_by_uid(uid, ret);
	return r < 0 ? err_wrap(e, r, "default user %u", (unsigned)uid) : 0;
}

int exec_plan(const struct wire_msg *m, const struct exec_policy *policy, struct exec_plan *ret,
	struct err *e)
{
	static const enum wslx_tag fd_tag[3] = {WSLX_A_FD0, WSLX_A_FD1, WSLX_A_FD2};
	unsigned flags = wire_get_u32(m, WSLX_A_FLAGS, 0);
	int r;

	*ret = (struct exec_plan){.rows = wire_get_u32(m, WSLX_A_ROWS, 24),
		.cols = wire_get_u32(m, WSLX_A_COLS, 80),
		.as_self = policy->as_self};
	for (int i = 0; i < 3; i++) {
		ret->kind[i] = wire_get_u32(m, fd_tag[i], WSLX_FD_NULL);
		if (ret->kind[i] > WSLX_FD_TTY)
			return err_set(e, -EINVAL, "descriptor %d is of no known kind", i);
	}
	r = exec_user(m, policy, &ret->user, e);
	if (r == 0)
		r = plan_cwd(m, flags, ret, e);
	if (r < 0)
		return r;
	r = plan_env(m, policy, ret);
	if (r == 0)
		r = plan_command(m, flags, ret);
	if (r == 0 && (flags & WSLX_EXEC_OOBE) && ret->kind[0] == WSLX_FD_TTY)
		r = keep_request(m, policy, ret);
	return r < 0 ? err_wrap(e, r, "command line") : 0;
}

/* In the child: everything up to execve(2). Returns only on failure, with the step that failed. */
static const char *become(
	struct exec_plan *p, const int fds[3], int tty, const struct exec_place *place, int *fail)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	setsid();
	if (tty >= 0 && ioctl(tty, TIOCSCTTY, 0) < 0)
		return "set the controlling terminal";
	/* Above 2 first, so that no dup2() overwrites a descriptor still to be placed. */
	int high[3];
	for (int i = 0; i < 3; i++) {
		high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (high[i] < 0)
			return "prepare descriptors";
	}
	for (int i = 0; i < 3; i++)
		if (dup2(high[i], i) < 0)
			return "prepare descriptors";
	if (p->oobe)
		cleanup_closep(fail), *fail = -EBADF;
	if (place->prepare) {
		const char *step = place->prepare(place->ctx, p);

		if (step)
			return step;
	}
	if (!p->as_self) {
		/* "tty" is the group that may write to terminals; the owner of this one is its user (as login(1) does it). */
		if (tty >= 0 && fchown(tty, p->user.uid, (gid_t)-1) < 0)
			return "own the terminal";
		if (setgroups((size_t)p->user.ngroups, p->user.groups) < 0 ||
			setgid(p->user.gid) < 0 || setuid(p->user.uid) < 0)
			return "become the user";
	}
	if (chdir(p->cwd) < 0 && chdir("/") < 0)
		return "enter the working directory";
	umask(place->umask);
	/* execvpe() takes the search path from our own environment. */
	const char *path = DEFAULT_PATH;
	for (char **v = p->envp; *v; v++)
		if (!strncmp(*v, "PATH=", 5))
			path = *v + 5;
	setenv("PATH", path, 1);
	execvpe(p->file, p->argv, p->envp);
	return "execute";
}

struct child_failure {
	int error;
	char step[60];
};

pid_t exec_fork(int cgroup)
{
	struct clone_args args = {
		.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)cgroup};

	/* One thread: there is no state of the C library's that fork() would have to care for. */
	return cgroup < 0 ? fork() : (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

static void NORETURN child(
	struct exec_plan *p, const int fds[3], int tty, const struct exec_place *place, int fail)
{
	const char *step = become(p, fds, tty, place, &fail);
	struct child_failure f = {.error = errno};
	ssize_t n;

	if (fail < 0) {
		/* It counts as started: what is wrong is for the terminal. */
		fprintf(stderr, "wslx: start %s: %s: %s\n", p->file, step, strerror(f.error));
		_exit(126);
	}
	snprintf(f.step, sizeof(f.step), "%s", step);
	n = write(fail, &f, sizeof(f));
	_exit(n == sizeof(f) ? 127 : 126);
}

pid_t exec_start(struct exec_plan *p, const int fds[3], int tty, const struct exec_place *place,
	int *ret_wait, struct err *e)
{
	static const struct exec_place usual = {.cgroup = -1, .umask = 022};
	int pipefd[2];
	pid_t pid;

	if (!place)
		place = &usual;
	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "start %s", p->file);
	pid = exec_fork(place->cgroup);
	if (pid == 0)
		child(p, fds, tty, place, pipefd[1]);
	close(pipefd[1]);
	if (pid < 0) {
		int r = -errno;

		close(pipefd[0]);
		return err_sys(e, r, "start %s", p->file);
	}
	*ret_wait = pipefd[0];
	return pid;
}

int exec_started(int wait, const struct exec_plan *p, struct err *e)
{
	struct child_failure f = {0};
	ssize_t n;

	/* The pipe closes by itself when the program image is replaced. */
	do
		n = read(wait, &f, sizeof(f));
	while (n < 0 && errno == EINTR);
	close(wait);
	if (n == 0)
		return 0;
	if (n != sizeof(f))
		return err_set(e, -EIO, "start %s: the child died", p->file);
	f.step[sizeof(f.step) - 1] = '\0';
	return strcmp(f.step, "execute") ? err_sys(e, -f.error, "start %s: %s", p->file, f.step)
					 : err_sys(e, -f.error, "%s", p->file);
}
