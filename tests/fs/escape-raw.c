/* SPDX-License-Identifier: MIT */
/*
 * A hostile guest's kernel: FUSE requests with names of any kind, numbers of nodes and files made up or out of turn, several at
 * once, while others exchange what is at the names.
 */
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/fs/host.h"
#include "lib/fuse/fuse.h"
#include "tests/fs/escape.h"

enum { THREADS = 4, NUMBERS = 256, OUT = 16384 };

static struct {
	struct fuse_server *server;
	const char *outside;
	const struct timespec *end;
	_Atomic uint64_t nodes[NUMBERS], files[NUMBERS];
	_Atomic uint64_t done[DIDS];
	_Atomic bool sang;
} at;

struct attacker {
	struct rng r;
	size_t len;
	uint8_t in[16384] ALIGNED(8), out[OUT] ALIGNED(8);
};

static void add(struct attacker *a, const void *p, size_t n)
{
	memcpy(a->in + a->len, p, n);
	a->len += n;
}

static void add_str(struct attacker *a, const char *s)
{
	add(a, s, strlen(s) + 1);
}

/* A name, with luck one component. */
static void add_name(struct attacker *a)
{
	char buf[4096], to[2048];

	target(&a->r, at.outside, to, sizeof(to));
	switch (rnd(&a->r, 24)) {
	case 0: snprintf(buf, sizeof(buf), ".."); break;
	case 1: snprintf(buf, sizeof(buf), "."); break;
	case 2: snprintf(buf, sizeof(buf), "%s", to); break;
	case 3: snprintf(buf, sizeof(buf), "%s/%s", plain_name(&a->r), to); break;
	case 4: snprintf(buf, sizeof(buf), "%s/canary", plain_name(&a->r)); break;
	case 5: snprintf(buf, sizeof(buf), "%s/../../outside/canary", plain_name(&a->r)); break;
	case 6: snprintf(buf, sizeof(buf), "/proc/self/root%s/canary", at.outside); break;
	case 7: snprintf(buf, sizeof(buf), "canary"); break;
	case 8: buf[0] = '\0'; break;
	default: snprintf(buf, sizeof(buf), "%s", plain_name(&a->r));
	}
	add_str(a, buf);
}

static uint64_t number(struct attacker *a, const _Atomic uint64_t *known, bool root)
{
	uint64_t n = known[rnd(&a->r, NUMBERS)];

	switch (rnd(&a->r, 16)) {
	case 0: return rnd(&a->r, 300);
	case 1: return (uint64_t)rnd(&a->r, 1000) << 32 | rnd(&a->r, 300);
	case 2: return n + (1ull << 32);
	case 3:
	case 4:
	case 5: return root ? 1 : n;
	default: return n;
	}
}

static void begin(struct attacker *a, uint32_t op, uint64_t node)
{
	const struct fuse_in_header h = {.opcode = op, .nodeid = node, .unique = 1};

	a->len = 0;
	add(a, &h, sizeof(h));
}

/* The length of the reply's body; negative: an error. */
static ssize_t send_it(struct attacker *a)
{
	uint32_t len = (uint32_t)a->len;
	struct fuse_out_header h;
	ssize_t n;

	memcpy(a->in, &len, sizeof(len));
	const struct iovec in = {a->in, a->len}, out = {a->out, OUT};

	n = fuse_server_handle(at.server, &in, 1, &out, 1, 0);
	if (n < (ssize_t)sizeof(h))
		return -1;
	memcpy(&h, a->out, sizeof(h));
	return h.error ? -1 : n - (ssize_t)sizeof(h);
}

/* In the place of another one, which is let go of: the server has a limit, and the attack is to go on. */
static void keep(struct attacker *a, bool file, size_t off)
{
	_Atomic uint64_t *known = file ? at.files : at.nodes;
	const struct fuse_forget_in forget = {.nlookup = 1u << 20};
	struct fuse_release_in release = {0};
	uint64_t v, old;

	memcpy(&v, a->out + sizeof(struct fuse_out_header) + off, sizeof(v));
	old = atomic_exchange(&known[rnd(&a->r, NUMBERS)], v);
	if (file) {
		release.fh = old;
		for (unsigned op = FUSE_RELEASE; op;
			op = op == FUSE_RELEASE ? FUSE_RELEASEDIR : 0) {
			begin(a, op, 1);
			add(a, &release, sizeof(release));
			send_it(a);
		}
	} else if (rnd(&a->r, 2)) {
		begin(a, FUSE_FORGET, old);
		add(a, &forget, sizeof(forget));
		send_it(a);
	}
}

static void hear(const struct attacker *a, ssize_t n, const char *what)
{
	if (n > 0 && memmem(a->out + sizeof(struct fuse_out_header), (size_t)n, what, strlen(what)))
		at.sang = true;
}

static void count(unsigned what, ssize_t n)
{
	at.done[what] += n >= 0;
}

static void entry(struct attacker *a, unsigned what)
{
	uint8_t reply[sizeof(struct fuse_out_header) + sizeof(struct fuse_entry_out) +
		      sizeof(struct fuse_open_out)];
	ssize_t n = send_it(a);

	count(what, n);
	memcpy(reply, a->out, sizeof(reply));
	if (n >= (ssize_t)sizeof(struct fuse_entry_out))
		keep(a, false, 0);
	memcpy(a->out, reply, sizeof(reply));
	if (n >= (ssize_t)(sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out)))
		keep(a, true, sizeof(struct fuse_entry_out));
}

static void make(struct attacker *a)
{
	const struct fuse_mknod_in mk = {.mode = rnd(&a->r, 4) ? S_IFREG | 0666 : S_IFIFO | 0666};
	const struct fuse_mkdir_in md = {.mode = 0777};
	const struct fuse_create_in cr = {
		.mode = S_IFREG | 0666, .flags = O_RDWR | (rnd(&a->r, 2) ? O_TRUNC : 0)};
	char to[2048];

	switch (rnd(&a->r, 4)) {
	case 0:
		begin(a, FUSE_MKNOD, number(a, at.nodes, true));
		add(a, &mk, sizeof(mk));
		break;
	case 1:
		begin(a, FUSE_MKDIR, number(a, at.nodes, true));
		add(a, &md, sizeof(md));
		break;
	case 2:
		begin(a, FUSE_CREATE, number(a, at.nodes, true));
		add(a, &cr, sizeof(cr));
		break;
	default: begin(a, FUSE_SYMLINK, number(a, at.nodes, true));
	}
	add_name(a);
	if (((struct fuse_in_header *)a->in)->opcode == FUSE_SYMLINK) {
		target(&a->r, at.outside, to, sizeof(to));
		add_str(a, to);
	}
	entry(a, DID_MAKE);
}

static void open_something(struct attacker *a)
{
	static const uint32_t flags[] = {O_RDONLY, O_RDWR, O_WRONLY | O_TRUNC, O_RDWR | O_APPEND,
		O_PATH, O_RDWR | O_CREAT, 02000000 | O_DIRECTORY};
	const struct fuse_open_in in = {.flags = flags[rnd(&a->r, ARRAY_LEN(flags))]};
	ssize_t n;

	begin(a, rnd(&a->r, 3) ? FUSE_OPEN : FUSE_OPENDIR, number(a, at.nodes, false));
	add(a, &in, sizeof(in));
	n = send_it(a);
	count(DID_OPEN, n);
	if (n >= 8)
		keep(a, true, 0);
}

static void use(struct attacker *a)
{
	const uint64_t fh = number(a, at.files, false), node = number(a, at.nodes, false);
	const struct fuse_read_in rd = {.fh = fh, .size = 4096};
	const struct fuse_write_in wr = {.fh = fh, .size = 11};
	const struct fuse_release_in rel = {.fh = fh};
	static const uint32_t lists[] = {FUSE_READDIR, FUSE_READDIRPLUS};
	ssize_t n;

	switch (rnd(&a->r, 8)) {
	case 0:
	case 1:
	case 2:
		begin(a, FUSE_READ, node);
		add(a, &rd, sizeof(rd));
		n = send_it(a);
		count(DID_READ, n);
		hear(a, n, SONG);
		break;
	case 3:
	case 4:
		begin(a, FUSE_WRITE, node);
		add(a, &wr, sizeof(wr));
		add(a, "from inside", 11);
		count(DID_WRITE, send_it(a));
		break;
	case 5:
		begin(a, lists[rnd(&a->r, 2)], node);
		add(a, &rd, sizeof(rd));
		n = send_it(a);
		count(DID_LIST, n);
		hear(a, n, "nest");
		hear(a, n, "egg");
		break;
	default:
		begin(a, rnd(&a->r, 2) ? FUSE_RELEASE : FUSE_RELEASEDIR, node);
		add(a, &rel, sizeof(rel));
		send_it(a);
	}
}

static void change(struct attacker *a)
{
	struct fuse_setattr_in sa = {.valid = rnd(&a->r, 1 << 11),
		.fh = number(a, at.files, false),
		.mode = 0777,
		.size = rnd(&a->r, 1000)};
	const struct fuse_getxattr_in gx = {.size = 1024};
	const struct fuse_setxattr_in sx = {.size = 1};
	uint64_t node = number(a, at.nodes, false);
	ssize_t n;

	switch (rnd(&a->r, 4)) {
	case 0:
		begin(a, FUSE_SETATTR, node);
		add(a, &sa, sizeof(sa));
		count(DID_SETATTR, send_it(a));
		break;
	case 1:
		begin(a, FUSE_SETXATTR, node);
		add(a, &sx, sizeof(sx));
		add_str(a, "user.x");
		add(a, "y", 1);
		count(DID_XATTR, send_it(a));
		break;
	case 2:
		begin(a, FUSE_GETXATTR, node);
		add(a, &gx, sizeof(gx));
		add_str(a, rnd(&a->r, 2) ? "user.song" : "user.x");
		n = send_it(a);
		count(DID_XATTR, n);
		hear(a, n, SONG);
		break;
	default:
		begin(a, FUSE_REMOVEXATTR, node);
		add_str(a, "user.song");
		count(DID_XATTR, send_it(a));
	}
}

static void names(struct attacker *a)
{
	const struct fuse_rename2_in mv = {
		.newdir = number(a, at.nodes, true), .flags = rnd(&a->r, 4)};
	const struct fuse_link_in ln = {.oldnodeid = number(a, at.nodes, false)};
	const struct fuse_forget_in fg = {.nlookup = 1 + rnd(&a->r, 3)};
	const uint64_t dir = number(a, at.nodes, true);

	switch (rnd(&a->r, 6)) {
	case 0:
	case 1:
		begin(a, FUSE_RENAME2, dir);
		add(a, &mv, sizeof(mv));
		add_name(a);
		add_name(a);
		count(DID_RENAME, send_it(a));
		break;
	case 2:
		begin(a, FUSE_LINK, dir);
		add(a, &ln, sizeof(ln));
		add_name(a);
		entry(a, DID_LINK);
		break;
	case 3:
	case 4:
		begin(a, rnd(&a->r, 2) ? FUSE_UNLINK : FUSE_RMDIR, dir);
		add_name(a);
		count(DID_REMOVE, send_it(a));
		break;
	default:
		begin(a, FUSE_FORGET, number(a, at.nodes, false));
		add(a, &fg, sizeof(fg));
		send_it(a);
	}
}

static void *attack(void *arg)
{
	struct attacker *a = arg;

	while (!at.sang && !time_is_up(at.end)) {
		for (unsigned i = 0; i < 64; i++) {
			switch (rnd(&a->r, 8)) {
			case 0:
			case 1:
				begin(a, FUSE_LOOKUP, number(a, at.nodes, true));
				add_name(a);
				entry(a, DID_LOOKUP);
				break;
			case 2: make(a); break;
			case 3: open_something(a); break;
			case 4:
			case 5: use(a); break;
			case 6: change(a); break;
			default: names(a);
			}
		}
	}
	return NULL;
}

bool attack_raw(const char *share, const char *outside, uint64_t seed, const struct timespec *end,
	uint64_t done[DIDS])
{
	static struct attacker attackers[THREADS];
	const struct fuse_opts opts = {.posix_acl = true};
	const struct fuse_init_in init = {
		.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .flags = ~0u};
	pthread_t threads[THREADS];
	int fd = open(share, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct err e = {0};
	struct fs *fs;

	at.outside = outside;
	at.end = end;
	if (fd < 0 || fs_host_new(&fs, fd, NULL, &e) < 0 ||
		fuse_server_new(&at.server, fs, &opts) < 0)
		exit(2);
	for (unsigned i = 0; i < NUMBERS; i++)
		at.nodes[i] = at.files[i] = 1;
	begin(&attackers[0], FUSE_INIT, 0);
	add(&attackers[0], &init, sizeof(init));
	if (send_it(&attackers[0]) < 0)
		exit(2);
	for (unsigned i = 0; i < THREADS; i++) {
		attackers[i].r.s = seed + i * 7919;
		if (pthread_create(&threads[i], NULL, attack, &attackers[i]))
			exit(2);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < DIDS; i++)
		done[i] = at.done[i];
	fuse_server_free(at.server);
	fs->ops->free(fs);
	close(fd);
	return !at.sang;
}
