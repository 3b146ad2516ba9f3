/* SPDX-License-Identifier: MIT */
/* wslx-mount [--user NAME] [--no-start] [--ready-fd N] FOLDER: see wslx-mount(1). */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/notify.h"
#include "lib/base/xdg.h"
#include "mount/mount.h"
#include "mount/offline.h"

/* Of one request: as large as the kernel lets them be. */
enum { IO_MAX = 1 << 20, BACKGROUND = 64, BATCH = 32 };

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	conn->max_write = IO_MAX;
	conn->max_read = IO_MAX;
	conn->max_readahead = IO_MAX;
	conn->max_background = BACKGROUND;
	conn->congestion_threshold = BACKGROUND * 3 / 4;
	conn->time_gran = 1;
	/* Changes there show here within a second, in attributes and, with them, in cached data. */
	conn->want |= conn->capable & (FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ATOMIC_O_TRUNC |
					      FUSE_CAP_PARALLEL_DIROPS);
	/* The server creates and sets modes as its own kernel does. */
	conn->want &= ~(unsigned)(FUSE_CAP_WRITEBACK_CACHE);
}

static void on_fuse(void *ctx, int fd, uint32_t revents)
{
	static struct fuse_buf buf;
	struct mnt *m = ctx;

	for (int i = 0; i < BATCH; i++) {
		int n = fuse_session_receive_buf(m->se, &buf);

		if (n == -EINTR)
			continue;
		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			/* Unmounted, or the connection was aborted. */
			loop_quit(m->loop, n == 0 || n == -ENODEV ? 0 : n);
			return;
		}
		fuse_session_process_buf(m->se, &buf);
		if (fuse_session_exited(m->se)) {
			loop_quit(m->loop, 0);
			return;
		}
	}
}

static void on_signal(void *ctx, int signo)
{
	struct mnt *m = ctx;

	loop_quit(m->loop, 0);
}

/* What a mount that was killed has left is taken away; the folder is made. */
static int prepare_folder(const char *folder, struct err *e)
{
	struct stat st;
	pid_t pid;
	int r;

	if (stat(folder, &st) < 0 && errno == ENOTCONN) {
		pid = fork();
		if (pid == 0) {
			execlp("fusermount3", "fusermount3", "-u", "-z", folder, (char *)NULL);
			_exit(127);
		}
		if (pid > 0)
			waitpid(pid, NULL, 0);
	}
	r = io_mkdir_p(folder, 0700);
	if (r == -EEXIST || (r == 0 && stat(folder, &st) == 0 && !S_ISDIR(st.st_mode)))
		return err_set(e, -ENOTDIR, "%s is not a folder", folder);
	return r < 0 ? err_sys(e, r, "create %s", folder) : 0;
}

/* What wslpath(1) calls the place of distributions' files; without it only that does not work. */
static void link_folder(const char *folder, bool there)
{
	char dir[PATH_MAX - 16], path[PATH_MAX], old[PATH_MAX];
	ssize_t n;

	if (xdg_runtime(dir, sizeof(dir), NULL) < 0)
		return;
	snprintf(path, sizeof(path), "%s/mnt", dir);
	n = readlink(path, old, sizeof(old) - 1);
	/* That of another folder is its own. */
	if (n >= 0 && !there &&
		((size_t)n != strlen(folder) || memcmp(old, folder, (size_t)n) != 0))
		return;
	if (n >= 0)
		unlink(path);
	if (there && symlink(folder, path) < 0)
		log_warn("mount", "link %s to it: %s", path, strerror(errno));
}

static int set_up(struct mnt *m, const char *folder, struct err *e)
{
	static struct fuse_lowlevel_ops ops = {.init = op_init};
	char *argv[] = {(char[]){"wslx-mount"}, (char[]){"-o"},
		(char[]){"fsname=wslx,subtype=wslx,nosuid,nodev,max_read=1048576"}, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	static struct loop_src *term, *intr, *hup;
	int r = loop_new(&m->loop);

	ops_meta(&ops);
	ops_name(&ops);
	ops_file(&ops);
	ops_dir(&ops);
	ops_lock(&ops);
	m->root = calloc(1, sizeof(*m->root));
	if (r < 0 || !m->root)
		return err_sys(e, r < 0 ? r : -ENOMEM, "start");
	m->root->qid.type = P9_QT_DIR;
	m->se = fuse_session_new(&args, &ops, sizeof(ops), m);
	fuse_opt_free_args(&args);
	if (!m->se)
		return err_set(e, -EINVAL, "libfuse does not start");
	r = prepare_folder(folder, e);
	if (r < 0)
		return r;
	if (fuse_session_mount(m->se, folder) != 0)
		return err_set(e, -EIO,
			"mount %s: see above; is the package fuse3 installed, and may you use /dev/fuse?",
			folder);
	r = io_set_nonblock(fuse_session_fd(m->se), true);
	if (r == 0)
		r = loop_io(m->loop, fuse_session_fd(m->se), EPOLLIN, on_fuse, m, &m->src);
	if (r == 0)
		r = loop_signal(m->loop, SIGTERM, on_signal, m, &term);
	if (r == 0)
		r = loop_signal(m->loop, SIGINT, on_signal, m, &intr);
	if (r == 0)
		r = loop_signal(m->loop, SIGHUP, on_signal, m, &hup);
	return r < 0 ? err_sys(e, r, "serve %s", folder) : 0;
}

static int usage(void)
{
	fputs("usage: wslx-mount [--user NAME] [--no-start] [--ready-fd N] FOLDER\n", stderr);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"user", required_argument, NULL, 'u'},
		{"no-start", no_argument, NULL, 'n'}, {"ready-fd", required_argument, NULL, 'r'},
		{"verbose", no_argument, NULL, 'v'}, {NULL, 0, NULL, 0}};
	static struct mnt m;
	struct err e = {0};
	int r, opt, null, ready = -1;

	log_init("wslx-mount", LOG_LVL_WARN);
	if (argc == 2 && !strcmp(argv[1], "--serve-disk"))
		return offline_serve();
	m.uid = getuid();
	m.gid = getgid();
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'u': m.user = optarg; break;
		case 'n': m.no_start = true; break;
		case 'r': ready = atoi(optarg); break;
		case 'v': log_set_level(LOG_LVL_DEBUG); break;
		default: return usage();
		}
	}
	if (optind + 1 != argc)
		return usage();
	signal(SIGPIPE, SIG_IGN);
	umask(077);
	r = set_up(&m, argv[optind], &e);
	if (r < 0) {
		log_err("mount", "%s", e.text);
		return 1;
	}
	link_folder(argv[optind], true);
	signal(SIGCHLD, SIG_IGN); /* nobody waits for those who read disks */
	notify_state("READY=1");
	if (ready >= 0) {
		if (write(ready, "ok\n", 3) != 3)
			return 1;
		close(ready);
		/* Whoever started it has heard what there was to say. */
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (null >= 0)
			dup2(null, STDERR_FILENO);
	}
	r = loop_run(m.loop);
	link_folder(argv[optind], false);
	m.src = loop_src_free(m.src);
	fuse_session_unmount(m.se);
	/* Connections end with the process, and with them what they held. */
	return r < 0;
}
