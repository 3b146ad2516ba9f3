/* SPDX-License-Identifier: MIT */
/*
 * A resize moves blocks about and cannot be taken up again where it was killed: it is done to a copy,
 * which takes the disk's place when it is whole. Where the host's file system shares blocks between
 * files, the copy costs nothing.
 */
#include "daemon/disk-work.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/proc.h"
#include "lib/image/copy.h"
#include "lib/image/image.h"
#include "lib/vhdx/vhdx.h"

enum { E2FSCK_CORRECTED = 1, TAIL = 4000 };

int disk_copy(void *arg, struct work_out *out, struct err *e)
{
	struct disk_work *w = arg;
	const struct vhdx_convert c = {work_progress, out};
	int r = w->vhdx ? vhdx_recover(w->in, e) : 0;

	if (r < 0)
		return r;
	return w->vhdx ? vhdx_export(w->in, w->out, &c, e)
		       : image_copy(w->in, w->out, work_progress, out, e);
}

static int find_tool(const char *name, char *buf, size_t cap, struct err *e)
{
	static const char *const dirs[] = {"/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"};

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		snprintf(buf, cap, "%s/%s", dirs[i], name);
		if (access(buf, X_OK) == 0)
			return 0;
	}
	return err_set(e, -ENOENT, "%s is needed; install e2fsprogs", name);
}

/*
 * Runs argv[0] and keeps the last of what it says; its exit status. It holds on to lock, so that the
 * disk is in use for as long as the tool lives, whatever becomes of us.
 */
static int run_tool(const char **argv, int lock, char *said, size_t cap, struct err *e)
{
	cleanup_close int rd = -EBADF, wr = -EBADF;
	char path[64], buf[1024];
	struct proc_spawn s = {.argv = argv, .keep = lock, .bound = true};
	size_t len = 0;
	int p[2], status, r = find_tool(argv[0], path, sizeof(path), e);
	pid_t pid;
	ssize_t n;

	if (r < 0)
		return r;
	argv[0] = path;
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "run %s", path);
	rd = p[0];
	wr = p[1];
	s.std[0] = -1;
	s.std[1] = s.std[2] = wr;
	pid = proc_start(&s, e);
	if (pid < 0)
		return pid;
	close(take_fd(wr));
	while ((n = read(rd, buf, sizeof(buf))) > 0 || (n < 0 && errno == EINTR)) {
		size_t k = n < 0 ? 0 : (size_t)n;

		if (len + k > cap - 1) {
			size_t drop = MIN(len, len + k - (cap - 1));

			memmove(said, said + drop, len - drop);
			len -= drop;
		}
		memcpy(said + len, buf, k);
		len += k;
	}
	said[len] = '\0';
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys(e, -errno, "run %s", path);
	if (WIFSIGNALED(status))
		return err_set(e, -ECHILD, "%s was killed by signal %d", path, WTERMSIG(status));
	return WEXITSTATUS(status);
}

/* Its last line that says something. */
static const char *last_line(char *said)
{
	char *best = said;

	for (char *line = strtok(said, "\n"); line; line = strtok(NULL, "\n"))
		if (strspn(line, " \t") < strlen(line))
			best = line;
	return best;
}

static int check(const struct disk_work *w, bool discard, struct err *e)
{
	const char *argv[] = {
		"e2fsck", "-f", "-y", "-E", discard ? "discard" : "nodiscard", w->path, NULL};
	char said[TAIL];
	int r = run_tool(argv, w->in, said, sizeof(said), e);

	return r <= E2FSCK_CORRECTED
		       ? MIN(r, 0)
		       : err_set(e, -EIO, "the file system is damaged: %s", last_line(said));
}

int disk_compact(void *arg, struct work_out *out, struct err *e)
{
	return check(arg, true, e);
}

static int set_size(const struct disk_work *w, struct err *e)
{
	char size[32], said[TAIL];
	const char *argv[] = {"resize2fs", w->path, size, NULL};
	int r;

	snprintf(size, sizeof(size), "%" PRIu64 "K", w->size >> 10);
	r = run_tool(argv, w->in, said, sizeof(said), e);
	return r <= 0 ? r : err_set(e, -ENOSPC, "%s", last_line(said));
}

int disk_resize(void *arg, struct work_out *out, struct err *e)
{
	struct disk_work *w = arg;
	struct image_info info;
	struct stat st;
	int r = image_copy(w->in, w->out, work_progress, out, e);

	if (r == 0)
		r = check(w, false, e);
	if (r < 0)
		return r;
	if (fstat(w->out, &st) < 0)
		return err_sys(e, -errno, "%s", w->path);
	if ((uint64_t)st.st_size < w->size && ftruncate(w->out, (off_t)w->size) < 0)
		return err_sys(e, -errno, "enlarge %s", w->path);
	r = set_size(w, e);
	if (r < 0)
		return r;
	r = image_probe(w->out, &info);
	if (r < 0 || info.kind != IMAGE_EXT4 || info.size > w->size)
		return err_set(e, -EIO, "resize2fs left another size behind");
	if (ftruncate(w->out, (off_t)w->size) < 0 || fsync(w->out) < 0)
		return err_sys(e, -errno, "%s", w->path);
	return 0;
}
