/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. At the start, this init opens one connection to the host that stays (WSLX_INTEROP_STAY): while it
 * lives, the host runs programs for this distribution. A program that wants one run connects to WSLX_INTEROP_SOCKET and
 * sends CONNECT; a child of ours opens as many connections to the host, proves on each who we are, and passes their
 * descriptors. From then on program and host talk to each other (lib/session).
 *
 * The child, because a peer that sends half a message, or a host that does not answer, must not hold up pid 1.
 */
#include "guest/interop.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/session/conn.h"
#include "lib/wslpath/env.h"

enum { MAX_CHILDREN = 32, MAX_CONNECTIONS = 4, CLIENT_S = 5 };

struct interop {
	struct loop *loop;
	const struct distro_spec *spec;
	struct info info;
	char *programs;
	bool append_path;
	const char *refused; /* why nothing may be run; NULL: it may */
	struct conn *host;   /* the one that stays */
	int listen_fd;
	struct loop_src *accept;
	pid_t child[MAX_CHILDREN]; /* 0: free */
	unsigned children;
};

static uint8_t out_buf[1024];

/* A connection to the host's end of this distribution, on which we have said who we are. */
static int dial(const struct distro_spec *spec, unsigned flags)
{
	struct sockaddr_vm sa = {
		.svm_family = AF_VSOCK, .svm_cid = WSLX_CID_HOST, .svm_port = spec->interop_port};
	cleanup_close int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint8_t buf[128];
	struct wire_w w;
	int r;

	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	wire_begin(&w, buf, sizeof(buf), WSLX_INTEROP, 0, 0, 0);
	wire_bytes(&w, WSLX_A_SECRET, spec->secret, sizeof(spec->secret));
	wire_u32(&w, WSLX_A_FLAGS, flags);
	r = wire_send(&w, fd);
	return r < 0 ? r : take_fd(fd);
}

/* --- a program asks --- */

static void answer(int sock, uint32_t id, int code, const char *text, const int *fds, unsigned n)
{
	uint8_t buf[700];
	struct wire_w w;
	int len;

	wire_begin(&w, buf, sizeof(buf), WSLX_CONNECT, WSLX_MSG_REPLY, id, (uint32_t)-code);
	if (text)
		wire_str(&w, WSLX_A_TEXT, text);
	len = wire_end(&w);
	if (len > 0 && io_send_fds(sock, buf, (size_t)len, fds, n) < 0)
		_exit(1);
}

/* The child's whole life. */
static void NORETURN serve(const struct interop *i, int sock)
{
	struct timeval tv = {.tv_sec = CLIENT_S};
	int fds[MAX_CONNECTIONS], r;
	uint8_t buf[1024];
	struct wire_msg m;
	char text[300];
	unsigned n;

	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	if (wire_recv(sock, buf, sizeof(buf), &m) < 0)
		_exit(1);
	n = wire_get_u32(&m, WSLX_A_COUNT, 0);
	if (m.type != WSLX_CONNECT || n == 0 || n > MAX_CONNECTIONS) {
		answer(sock, m.id, -EINVAL, "one to four connections can be asked for", NULL, 0);
		_exit(1);
	}
	if (i->refused) {
		answer(sock, m.id, -EACCES, i->refused, NULL, 0);
		_exit(1);
	}
	for (unsigned k = 0; k < n; k++) {
		r = fds[k] = dial(i->spec, 0);
		if (r < 0) {
			snprintf(text, sizeof(text), "connect to the host: %s", strerror(-r));
			answer(sock, m.id, r, text, NULL, 0);
			_exit(1);
		}
	}
	answer(sock, m.id, 0, NULL, fds, n);
	_exit(0);
}

/* True: pid is now known as one of ours. */
static bool keep_child(struct interop *i, pid_t pid)
{
	for (unsigned k = 0; k < MAX_CHILDREN; k++)
		if (!i->child[k]) {
			i->child[k] = pid;
			i->children++;
			return true;
		}
	return false;
}

static void on_accept(void *ctx, int fd, uint32_t revents)
{
	struct interop *i = ctx;
	cleanup_close int sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	struct ucred cred = {0};
	socklen_t len = sizeof(cred);
	pid_t pid;

	if (sock < 0)
		return;
	getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	log_debug("interop", "process %d of user %u asks for the host", cred.pid, cred.uid);
	pid = fork();
	if (pid == 0) {
		signal(SIGPIPE, SIG_IGN);
		serve(i, sock);
	}
	if (pid > 0 && keep_child(i, pid) && i->children == MAX_CHILDREN)
		loop_io_events(i->accept, 0);
}

void interop_child_ended(struct interop *i, pid_t pid)
{
	for (unsigned k = 0; i && k < MAX_CHILDREN; k++) {
		if (i->child[k] != pid)
			continue;
		i->child[k] = 0;
		i->children--;
		loop_io_events(i->accept, EPOLLIN);
		return;
	}
}

static int listen_here(struct interop *i)
{
	int r = i->listen_fd = io_unix_listen(WSLX_INTEROP_SOCKET, 64);

	if (r < 0)
		return r;
	/* Whoever is in the distribution may: what it may do on the host is for the host's user to say. */
	if (chmod(WSLX_INTEROP_SOCKET, 0666) < 0)
		return -errno;
	r = io_set_nonblock(i->listen_fd, true);
	return r < 0 ? r : loop_io(i->loop, i->listen_fd, EPOLLIN, on_accept, i, &i->accept);
}

/* --- the connection that stays --- */

static void on_programs(struct interop *i, const struct wire_msg *m)
{
	pid_t pid = fork();

	if (pid == 0) {
		int n = interop_stubs(i->programs, m);

		if (n < 0)
			log_warn("interop", "%s: %s", i->programs, strerror(-n));
		else
			log_debug("interop", "%d programs of the host in %s", n, i->programs);
		_exit(n < 0);
	}
}

static void on_msg(void *ctx, struct conn *c, const struct wire_msg *m)
{
	if (m->type == WSLX_PROGRAMS && m->flags & WSLX_MSG_REPLY && !m->error)
		on_programs(ctx, m);
}

static void on_end(void *ctx, struct conn *c, int code)
{
	struct interop *i = ctx;

	log_info("interop", "the host runs no programs for this distribution any more");
	i->refused = "the host's side has ended; restart the distribution with wslx --terminate";
	i->host = conn_free(c);
}

static const struct conn_ops host_ops = {on_msg, on_end};

static int join(struct interop *i)
{
	struct wire_w w;
	int r = dial(i->spec, WSLX_INTEROP_STAY);

	if (r >= 0)
		r = conn_new(&i->host, i->loop, r, &host_ops, i);
	if (r < 0)
		return r;
	wire_begin(&w, out_buf, sizeof(out_buf), WSLX_PROGRAMS, 0, 1, 0);
	conn_send(i->host, &w);
	return 0;
}

/* --- set-up --- */

static char *copy(const char *s)
{
	char *p = strdup(s);

	if (!p)
		abort();
	return p;
}

struct interop *interop_new(
	struct loop *l, const struct distro_spec *spec, const struct interop_conf *conf)
{
	struct interop *i = calloc(1, sizeof(*i));
	int r = 0;

	if (!i)
		abort();
	*i = (struct interop){.loop = l, .spec = spec, .listen_fd = -1};
	i->info = (struct info){.name = copy(spec->name),
		.vm = copy(spec->vm),
		.automount = copy(conf->automount && conf->automount[0] == '/' ? conf->automount
									       : WSLPATH_AUTOMOUNT),
		.host_root = copy(spec->host_root),
		.networking = copy(spec->networking)};
	i->programs = copy(
		conf->programs && conf->programs[0] == '/' ? conf->programs : INTEROP_PROGRAMS);
	interop_view(spec, &i->info);
	if (!spec->interop_port)
		i->refused =
			"not allowed: the host's wslx.conf has to say so, by enabled=true in section [interop]";
	else if (!conf->enabled)
		i->refused =
			"not allowed: /etc/wsl.conf says so, by enabled=false in section [interop]";
	if (!i->refused) {
		if (conf->protect_binfmt)
			interop_protect_binfmt();
		r = join(i);
		if (r < 0) {
			log_warn("interop", "connect to the host: %s", strerror(-r));
			i->refused =
				"the host's side could not be reached when the distribution started";
		}
	}
	i->append_path = !i->refused && conf->append_path;
	r = listen_here(i);
	if (r < 0)
		log_warn("interop", "%s: %s", WSLX_INTEROP_SOCKET, strerror(-r));
	return i;
}

/* --- the environment of sessions --- */

static char **env_find(char **env, const char *name, size_t len)
{
	for (; *env; env++)
		if (!strncmp(*env, name, len) && (*env)[len] == '=')
			return env;
	return NULL;
}

static int to_guest(void *ctx, const char *path, char *buf, size_t cap)
{
	struct wslpath_map map = info_map(ctx);

	return wslpath_to_guest(&map, path, buf, cap);
}

/* The host passed what WSLENV names as it is: its side does not know where we have its files. */
static int translate(struct interop *i, char **env)
{
	char **list = env_find(env, "WSLENV", 6);
	cleanup_free char *names = list ? strdup(*list + 7) : NULL;
	const char *pos = names;
	struct wslenv_entry e;

	while (pos && wslenv_next(&pos, &e)) {
		char **var = env_find(env, e.name, e.len), *value, *text = NULL;

		if (!var || !e.pass[WSLENV_TO_GUEST] || !(e.path || e.list))
			continue;
		value = wslenv_value(&e, *var + e.len + 1, to_guest, &i->info);
		if (value && asprintf(&text, "%.*s=%s", (int)e.len, e.name, value) < 0)
			text = NULL;
		free(value);
		free(*var);
		if (text) {
			*var = text;
			continue;
		}
		/* It has no counterpart here: it does not pass. */
		do
			var[0] = var[1];
		while (*var++);
	}
	return 0;
}

static int append(char ***env, char *text)
{
	size_t n = 0;
	char **list;

	if (!text)
		return -ENOMEM;
	while ((*env)[n])
		n++;
	list = reallocarray(*env, n + 2, sizeof(*list));
	if (!list) {
		free(text);
		return -ENOMEM;
	}
	list[n] = text;
	list[n + 1] = NULL;
	*env = list;
	return 0;
}

int interop_env(void *interop, char ***env)
{
	struct interop *i = interop;
	char **path, *text;
	int r = translate(i, *env);

	path = i->append_path ? env_find(*env, "PATH", 4) : NULL;
	if (r == 0 && path) {
		if (asprintf(&text, "%s:%s", *path, i->programs) < 0)
			return -ENOMEM;
		free(*path);
		*path = text;
	}
	/* Nothing of ours needs it; programs written for WSL do. */
	if (r == 0 && i->spec->wsl_compat && !i->refused) {
		r = append(env, strdup("WSL_INTEROP=" WSLX_INTEROP_SOCKET));
		if (r == 0 && !env_find(*env, "WSLENV", 6))
			r = append(env, strdup("WSLENV="));
	}
	return r;
}
