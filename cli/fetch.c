/* SPDX-License-Identifier: MIT */
#include "cli/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/base/proc.h"

enum { MAX_ARGS = 24, SAID = 2000 };

/* The last line of what a program said. */
static const char *last_line(int fd, char *buf, size_t cap)
{
	off_t size = lseek(fd, 0, SEEK_END);
	ssize_t n = pread(fd, buf, cap - 1, MAX(size - (off_t)cap + 1, 0));
	char *line;

	buf[n < 0 ? 0 : n] = '\0';
	for (size_t len = strlen(buf); len && buf[len - 1] == '\n'; len--)
		buf[len - 1] = '\0';
	line = strrchr(buf, '\n');
	return line ? line + 1 : buf;
}

/* Runs a program with its output in out; it dies with us. */
static int run(const char **argv, int out, struct err *e)
{
	cleanup_close int said = memfd_create("stderr", MFD_CLOEXEC);
	char path[PATH_MAX], text[SAID];
	struct proc_spawn s = {.argv = argv, .std = {-1, out, said}, .keep = -1, .bound = true};
	const char *name = argv[0];
	int status, r = proc_find_in_path(name, path, sizeof(path), e);
	pid_t pid;

	if (r < 0)
		return r;
	if (said < 0)
		return err_sys(e, -errno, "run %s", name);
	argv[0] = path;
	pid = proc_start(&s, e);
	if (pid < 0)
		return pid;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys(e, -errno, "run %s", name);
	if (status == 0)
		return 0;
	return err_set(e, -EIO, "%s", last_line(said, text, sizeof(text)));
}

/* A file without a name, on a disk: archives are large. */
static int make_file(struct err *e)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char dir[PATH_MAX];
	int fd, r;

	if (cache && cache[0] == '/')
		snprintf(dir, sizeof(dir), "%s/wslx", cache);
	else
		snprintf(dir, sizeof(dir), "%s/.cache/wslx", home ? home : "/var/tmp");
	r = io_mkdir_p(dir, 0700);
	if (r < 0)
		return err_sys(e, r, "make %s", dir);
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return fd < 0 ? err_sys(e, -errno, "make a file in %s", dir) : fd;
}

static int download(const char *url, int out, struct err *e)
{
	const char *argv[] = {"curl", "--fail", "--location", "--silent", "--show-error", "--proto",
		"=http,https,file", "--", url, NULL};

	return run(argv, out, e) < 0 ? err_wrap(e, e->code, "download %s", url) : 0;
}

int fetch_text(const char *url, size_t max, char **ret, size_t *ret_len, struct err *e)
{
	cleanup_close int fd = make_file(e);
	cleanup_free char *text = NULL;
	struct stat st;
	int r;

	if (fd < 0)
		return fd;
	r = download(url, fd, e);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0 || st.st_size > (off_t)max)
		return err_set(e, -EFBIG, "%s is too large", url);
	text = malloc((size_t)st.st_size + 1);
	if (!text || lseek(fd, 0, SEEK_SET) < 0)
		return err_sys(e, -ENOMEM, "read %s", url);
	r = io_read_full(fd, text, (size_t)st.st_size);
	if (r < 0)
		return err_sys(e, r, "read %s", url);
	text[st.st_size] = '\0';
	*ret_len = (size_t)st.st_size;
	*ret = take_ptr(text);
	return 0;
}

static int check_sum(int fd, const char *want, struct err *e)
{
	cleanup_free uint8_t *buf = malloc(1 << 20);
	uint8_t digest[SHA256_DIGEST_SIZE];
	char got[2 * SHA256_DIGEST_SIZE + 1];
	struct sha256_ctx sha;
	off_t pos = 0;
	ssize_t n;

	if (!buf)
		return err_sys(e, -ENOMEM, "check the archive");
	sha256_init(&sha);
	while ((n = pread(fd, buf, 1 << 20, pos)) > 0) {
		sha256_update(&sha, (size_t)n, buf);
		pos += n;
	}
	if (n < 0)
		return err_sys(e, -errno, "check the archive");
	sha256_digest(&sha, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(got + 2 * i, 3, "%02x", digest[i]);
	return strcasecmp(got, want) == 0
		       ? 0
		       : err_set(e, -EBADMSG, "the archive's SHA-256 is %s, the list says %s", got,
				 want);
}

/* apt(8)'s own setting for proxies; mmdebstrap starts from an empty configuration. */
static void proxy_option(char *buf, size_t cap)
{
	const char *argv[] = {"apt-config", "dump", "Acquire::http::Proxy", NULL};
	cleanup_close int fd = memfd_create("proxy", MFD_CLOEXEC);
	ssize_t n;

	buf[0] = '\0';
	if (fd < 0 || run(argv, fd, NULL) < 0)
		return;
	n = snprintf(buf, cap, "--aptopt=");
	n = pread(fd, buf + n, cap - (size_t)n - 1, 0);
	if (n <= 0 || strstr(buf, "\"\""))
		buf[0] = '\0';
	else
		buf[strlen("--aptopt=") + (size_t)n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
}

static int make(const struct catalogue_entry *en, int out, struct err *e)
{
	char variant[] = "--variant=minbase", include[2100], components[2100], keyring[2100];
	char proxy[1000];
	const char *argv[MAX_ARGS] = {"mmdebstrap", "--quiet", "--format=tar", variant};
	unsigned n = 4;

	argv[n++] = geteuid() == 0 ? "--mode=root" : "--mode=unshare";
	snprintf(components, sizeof(components), "--components=%s", en->components);
	argv[n++] = components;
	if (*en->include) {
		snprintf(include, sizeof(include), "--include=%s", en->include);
		argv[n++] = include;
	}
	if (*en->keyring) {
		snprintf(keyring, sizeof(keyring), "--keyring=%s", en->keyring);
		argv[n++] = keyring;
	}
	proxy_option(proxy, sizeof(proxy));
	if (proxy[0])
		argv[n++] = proxy;
	/* These are the host's; a distribution gets its own when it starts. */
	argv[n++] = "--customize-hook=rm -f \"$1/etc/hostname\" \"$1/etc/resolv.conf\"";
	argv[n++] = en->suite;
	argv[n++] = "-";
	if (*en->mirror)
		argv[n++] = en->mirror;
	return run(argv, out, e) < 0 ? err_wrap(e, e->code, "make %s", en->name) : 0;
}

int fetch_archive(const struct catalogue_entry *en, struct err *e)
{
	cleanup_close int fd = make_file(e);
	int r;

	if (fd < 0)
		return fd;
	r = en->url ? download(en->url, fd, e) : make(en, fd, e);
	if (r == 0 && en->url)
		r = check_sum(fd, en->sha256, e);
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = err_sys(e, -errno, "read the archive");
	return r < 0 ? r : take_fd(fd);
}
