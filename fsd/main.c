/* SPDX-License-Identifier: MIT */
/*
 * wslx-fsd: folders of the host for one virtual machine, as virtio-fs over vhost-user. Its front end is connected to a
 * descriptor it is started with, or to a socket it makes. Once the folders are open it locks itself in: it can reach them
 * and nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fsd/device.h"
#include "fsd/p9-device.h"
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/fs/host.h"
#include "lib/fuse/fuse.h"
#include "lib/p9/server.h"
#include "lib/sandbox/sandbox.h"

enum { MAX_SHARES = 32 };

static const char usage[] =
	"usage: wslx-fsd --fd N|--socket PATH --share NAME=FOLDER[,KEY[=VALUE]...]... [OPTION...]\n"
	"\n"
	"Serves folders to a virtual machine as one virtio-fs device with a folder for each share. Started by wslxd.\n"
	"\n"
	"  --fd N            descriptor that is connected to the virtual machine monitor (vhost-user)\n"
	"  --socket PATH     make this socket and serve the first that connects\n"
	"  --share NAME=FOLDER[,KEY...]   repeatable; a folder whose path has a comma cannot have keys\n"
	"      ro            read-only\n"
	"      uid=N,gid=N   what belongs to this user belongs to these there\n"
	"      metadata      owners and modes this user may not give are kept in an extended attribute\n"
	"      umask=, fmask=, dmask=OCTAL   permissions nobody has there\n"
	"      dax=auto|always|never   files that programs there map themselves: those of 32 KiB or more, all, or none\n"
	"  --cache auto|none|always   how long the guest may believe what it knows: 1 s, not at all, or for good\n"
	"  --state FILE      what another server needs to go on where this one ended; with it one that goes on\n"
	"  --9p              a virtio-9p device (9P2000.L) instead of virtio-fs\n"
	"  --no-sandbox      do not enter the sandbox (for debugging)\n"
	"  -v, --verbose     debug messages\n";

struct share {
	const char *name, *path;
	struct fs_share_opts o;
	int fd;
};

struct options {
	struct share shares[MAX_SHARES];
	unsigned n_shares;
	int fd;
	const char *socket, *state;
	struct fuse_opts fuse;
	bool no_sandbox, p9;
};

static int share(struct options *o, char *text, struct err *e)
{
	char *path = text;
	const char *name = strsep(&path, "=");
	struct share *s;
	int r;

	if (!path || !*name || !*path)
		return err_set(e, -EINVAL, "--share %s: NAME=FOLDER is needed", name);
	if (o->n_shares == MAX_SHARES)
		return err_set(e, -EINVAL, "more than %d shares", MAX_SHARES);
	s = &o->shares[o->n_shares++];
	s->name = name;
	s->path = strsep(&path, ",");
	r = fs_share_opts_parse(path ? path : "", &s->o, e);
	return r < 0 ? err_wrap(e, r, "--share %s", name) : 0;
}

static int cache(struct options *o, const char *text, struct err *e)
{
	/* a name that is not there is made by a host's program more often than one that is there goes */
	static const struct {
		const char *name;
		struct fuse_opts o;
	} modes[] = {
		{"auto", {.entry_ms = 1000, .attr_ms = 1000, .negative_ms = 100}},
		{"none", {0}},
		{"always", {.entry_ms = 86400000,
				   .attr_ms = 86400000,
				   .negative_ms = 86400000,
				   .exclusive = true}},
	};

	for (size_t i = 0; i < ARRAY_LEN(modes); i++)
		if (strcmp(text, modes[i].name) == 0) {
			o->fuse = modes[i].o;
			o->fuse.posix_acl = true;
			return 0;
		}
	return err_set(e, -EINVAL, "--cache %s: auto, none or always is needed", text);
}

static int parse(struct options *o, int argc, char **argv, struct err *e)
{
	static const struct option longopts[] = {
		{"fd", required_argument, NULL, 'f'},
		{"socket", required_argument, NULL, 's'},
		{"share", required_argument, NULL, 'S'},
		{"state", required_argument, NULL, 't'},
		{"cache", required_argument, NULL, 'c'},
		{"no-sandbox", no_argument, NULL, 'n'},
		{"9p", no_argument, NULL, '9'},
		{"verbose", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	char end;
	int c, r;

	*o = (struct options){.fd = -1};
	r = cache(o, "auto", e);
	opterr = 0;
	while (r == 0 && (c = getopt_long(argc, argv, ":v", longopts, NULL)) != -1) {
		switch (c) {
		case 'f':
			if (sscanf(optarg, "%d%c", &o->fd, &end) != 1 || o->fd < 0)
				return err_set(e, -EINVAL, "--fd %s: a number is needed", optarg);
			break;
		case 's': o->socket = optarg; break;
		case 'S': r = share(o, optarg, e); break;
		case 't': o->state = optarg; break;
		case 'c': r = cache(o, optarg, e); break;
		case 'n': o->no_sandbox = true; break;
		case '9': o->p9 = true; break;
		case 'v': log_set_level(LOG_LVL_DEBUG); break;
		case 'h': return 'h';
		default:
			return err_set(
				e, -EINVAL, "no such option, or no value: %s", argv[optind - 1]);
		}
	}
	if (r == 0 && (optind < argc || (o->fd < 0) == !o->socket || !o->n_shares))
		r = err_set(e, -EINVAL, "--share and one of --fd and --socket are needed");
	return r;
}

static int open_shares(struct options *o, struct fs *fs, struct err *e)
{
	for (unsigned i = 0; i < o->n_shares; i++) {
		struct share *s = &o->shares[i];
		int r;

		s->fd = open(s->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (s->fd < 0)
			return err_sys(e, -errno, "share %s", s->path);
		r = fs_host_add(fs, s->name, s->fd, &s->o, e);
		if (r < 0)
			return err_wrap(e, r, "share %s", s->path);
	}
	return 0;
}

static int front_end(struct options *o, struct err *e)
{
	cleanup_close int listener = -1;
	int fd;

	if (o->fd >= 0)
		return o->fd;
	listener = io_unix_listen(o->socket, 1);
	if (listener < 0)
		return err_sys(e, listener, "listen on %s", o->socket);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	unlink(o->socket);
	return fd < 0 ? err_sys(e, -errno, "accept on %s", o->socket) : fd;
}

static int confine(const struct options *o, struct err *e)
{
	int trees[MAX_SHARES];
	const struct sandbox_grants grants = {.trees = trees, .n_trees = o->n_shares};
	struct sandbox_result res = {0};
	const struct sandbox_opts opts = {
		.ret = &res, .debug = getenv("WSLX_SANDBOX_DEBUG") != NULL, .grants = &grants};
	int r;

	if (o->no_sandbox) {
		log_warn(NULL, "not sandboxed, as asked for");
		return 0;
	}
	for (unsigned i = 0; i < o->n_shares; i++)
		trees[i] = o->shares[i].fd;
	r = sandbox_enter(&sandbox_fsd, &opts, e);
	if (r < 0)
		return err_wrap(e, r, "enter the sandbox");
	if (res.note[0])
		log_debug(NULL, "sandbox: %s", res.note);
	return 0;
}

static int serve_fuse(struct options *o, struct loop *loop, struct fs *fs, struct err *e)
{
	struct fuse_server *server = NULL;
	struct fs_device *dev = NULL;
	int r = fuse_server_new(&server, fs, &o->fuse), fd;

	if (r < 0)
		return err_sys(e, r, "make the server");
	/* without, the guest does not hear of what the host changes */
	fs_host_enable_watches(fs);
	fd = front_end(o, e);
	r = fd < 0 ? fd : confine(o, e);
	if (r == 0)
		r = fs_device_new(&dev, loop, fd, server, fs, e);
	if (r == 0)
		r = fs_device_run(dev);
	fs_device_free(dev);
	fuse_server_free(server);
	return r;
}

/* Beside the state; what is there of another machine, whose state is gone, does not count. */
static int open_fids(const struct options *o, struct err *e)
{
	int flags = O_RDWR | O_CREAT | O_CLOEXEC | (o->fuse.resume ? 0 : O_TRUNC), fd;
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s.9p", o->state) >= (int)sizeof(path))
		return err_set(e, -ENAMETOOLONG, "--state %s", o->state);
	fd = open(path, flags, 0600);
	return fd < 0 ? err_sys(e, -errno, "open %s", path) : fd;
}

static int serve_p9(struct options *o, struct loop *loop, struct fs *fs, struct err *e)
{
	const struct fs_cred cred = {.uid = geteuid(), .gid = getegid()};
	cleanup(p9_server_freep) struct p9_server *server = NULL;
	cleanup_close int fids = -EBADF;
	struct p9_device *dev = NULL;
	int r = p9_server_new(&server, fs, &cred, fs_host_fd), fd;

	if (r < 0)
		return err_sys(e, r, "make the server");
	/* the guest's kernel says for whom it asks, as it does in FUSE's requests */
	p9_server_trust_ids(server);
	if (o->state && (fids = open_fids(o, e)) < 0)
		return fids;
	if (fids >= 0 && (r = p9_server_keep(server, fids)) < 0)
		return err_sys(e, r, "read the state");
	fd = front_end(o, e);
	r = fd < 0 ? fd : confine(o, e);
	if (r == 0)
		r = p9_device_new(&dev, loop, fd, server, fs, e);
	if (r == 0)
		r = loop_run(loop);
	p9_device_free(dev);
	return r;
}

static int serve(struct options *o, struct err *e)
{
	cleanup(loop_freep) struct loop *loop = NULL;
	struct fs *fs = NULL;
	cleanup_close int state = -1;
	int r;

	umask(0);
	r = fs_host_new_set(&fs, e);
	if (r == 0)
		r = open_shares(o, fs, e);
	if (r == 0 && o->fuse.exclusive)
		fs_host_keep_removed(fs);
	if (r == 0 && o->state) {
		o->fuse.resume = access(o->state, F_OK) == 0;
		state = open(o->state, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		if (state < 0)
			r = err_sys(e, -errno, "open %s", o->state);
		else
			fs_host_keep_views(fs, state);
	}
	if (r == 0 && (r = loop_new(&loop)) < 0)
		err_sys(e, r, "create the event loop");
	if (r == 0)
		r = o->p9 ? serve_p9(o, loop, fs, e) : serve_fuse(o, loop, fs, e);
	if (fs)
		fs->ops->free(fs);
	return r;
}

int main(int argc, char **argv)
{
	struct options o;
	struct err e = {0};
	int r;

	signal(SIGPIPE, SIG_IGN);
	/* a limit of the user's for the size of files is an error of the guest's write, and no end of its server */
	signal(SIGXFSZ, SIG_IGN);
	log_init("wslx-fsd", LOG_LVL_INFO);
	r = parse(&o, argc, argv, &e);
	if (r == 'h') {
		fputs(usage, stdout);
		return 0;
	}
	if (r < 0) {
		log_err(NULL, "%s", e.text);
		return 2;
	}
	r = serve(&o, &e);
	if (r < 0)
		log_err(NULL, "%s", e.code ? e.text : strerror(-r));
	return r != 0;
}
