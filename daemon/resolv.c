/* SPDX-License-Identifier: MIT */
#include "daemon/resolv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>
#include "lib/base/io.h"

enum { FILE_MAX = 65536, SETTLE_MS = 50, LINKS_MAX = 8 };

/* An address, with an interface's name as its number; false: it is none. */
static bool server_text(char *word, char *buf, size_t cap)
{
	char *hash = strchr(word, '#'), *zone = strchr(word, '%');
	struct in6_addr bin;
	unsigned index = 0;

	if (hash)
		*hash++ = '\0';
	if (zone) {
		*zone++ = '\0';
		index = if_nametoindex(zone);
		index = index ? index : (unsigned)strtoul(zone, NULL, 10);
	}
	if (inet_pton(AF_INET, word, &bin) != 1 && inet_pton(AF_INET6, word, &bin) != 1)
		return false;
	if (hash && (strspn(hash, "0123456789") != strlen(hash) || !*hash || strlen(hash) > 5))
		return false;
	snprintf(buf, cap, "%s", word);
	if (index)
		snprintf(buf + strlen(buf), cap - strlen(buf), "%%%u", index);
	if (hash)
		snprintf(buf + strlen(buf), cap - strlen(buf), "#%s", hash);
	return true;
}

static bool domain_ok(const char *s)
{
	size_t n = strlen(s);

	return n > 0 && n < 254 &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == n;
}

static void add_domain(struct resolv *r, const char *name)
{
	if (domain_ok(name) && strcmp(name, ".") != 0 && r->n_domains < RESOLV_DOMAINS)
		snprintf(r->domain[r->n_domains++], sizeof(r->domain[0]), "%s", name);
}

void resolv_parse(char *text, struct resolv *ret)
{
	char *save, *line;

	*ret = (struct resolv){0};
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *words, *key = strtok_r(line, " \t\r", &words), *word;

		if (!key || *key == '#' || *key == ';')
			continue;
		word = strtok_r(NULL, " \t\r", &words);
		if (!strcmp(key, "nameserver") && word && ret->n_servers < RESOLV_SERVERS) {
			char *to = ret->server[ret->n_servers];

			ret->n_servers += server_text(word, to, sizeof(ret->server[0]));
		} else if (!strcmp(key, "search") || !strcmp(key, "domain")) {
			/* the last one counts */
			ret->n_domains = 0;
			for (; word; word = strtok_r(NULL, " \t\r", &words))
				add_domain(ret, word);
		}
	}
}

void resolv_read(const char *path, struct resolv *ret)
{
	cleanup_free char *text = NULL;

	*ret = (struct resolv){0};
	if (io_read_file(path, FILE_MAX, &text, NULL) == 0)
		resolv_parse(text, ret);
	if (!ret->n_servers) {
		strcpy(ret->server[0], "127.0.0.1");
		ret->n_servers = 1;
	}
}

struct resolv_watch {
	char path[PATH_MAX];
	int fd;
	struct loop_src *src, *timer;
	loop_fn fn;
	void *ctx;
};

/* The folders of the file and of every link on the way to it: who replaces one renames in its folder. */
static void watch_folders(struct resolv_watch *w)
{
	char path[PATH_MAX], to[PATH_MAX], *slash;

	snprintf(path, sizeof(path), "%s", w->path);
	for (int i = 0; i < LINKS_MAX; i++) {
		ssize_t n = readlink(path, to, sizeof(to) - 1);

		slash = strrchr(path, '/');
		if (!slash)
			return;
		*slash = '\0';
		inotify_add_watch(w->fd, *path ? path : "/",
			IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_ONLYDIR);
		if (n <= 0)
			return;
		to[n] = '\0';
		if (to[0] == '/')
			snprintf(path, sizeof(path), "%s", to);
		else if (snprintf(slash, sizeof(path) - (size_t)(slash - path), "/%s", to) >=
			 (int)(sizeof(path) - (size_t)(slash - path)))
			return;
	}
}

static void on_timer(void *ctx)
{
	struct resolv_watch *w = ctx;

	watch_folders(w); /* a link may lead elsewhere now */
	w->fn(w->ctx);
}

static void on_event(void *ctx, int fd, uint32_t revents)
{
	struct resolv_watch *w = ctx;
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));

	while (read(fd, buf, sizeof(buf)) > 0)
		;
	/* One change is several events, and other files of the folder are no reason to read this one ten times a second. */
	loop_timer_arm(w->timer, loop_now() + SETTLE_MS * 1000000ull);
}

int resolv_watch_new(
	struct resolv_watch **ret, struct loop *l, const char *path, loop_fn fn, void *ctx)
{
	struct resolv_watch *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	*w = (struct resolv_watch){.fn = fn, .ctx = ctx};
	snprintf(w->path, sizeof(w->path), "%s", path);
	w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	r = w->fd < 0 ? -errno : loop_io(l, w->fd, EPOLLIN, on_event, w, &w->src);
	if (r == 0)
		r = loop_timer(l, on_timer, w, &w->timer);
	if (r < 0) {
		resolv_watch_free(w);
		return r;
	}
	watch_folders(w);
	*ret = w;
	return 0;
}

struct resolv_watch *resolv_watch_free(struct resolv_watch *w)
{
	if (!w)
		return NULL;
	loop_src_free(w->src);
	loop_src_free(w->timer);
	if (w->fd >= 0)
		close(w->fd);
	free(w);
	return NULL;
}
