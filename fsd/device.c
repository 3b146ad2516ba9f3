/* SPDX-License-Identifier: MIT */
/*
 * Requests are done where they arrive, on the loop's thread: most need no disk, and to wake another thread costs more
 * than they do. What would wait goes to workers, of which there are only as many as are needed at once.
 */
#include "fsd/device.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include "lib/base/log.h"
#include "lib/fs/host.h"
#include "lib/fuse/fuse.h"
#include "lib/vhost/backend.h"

/* Of the queues the first is for FUSE_FORGET and the like, the others are for requests. */
enum { QUEUES = 9, MAX_WAITING = 64, MAX_WORKERS = 8, BATCH = 16 };
/* So many requests of a queue before the loop has its turn: other queues, what workers have done, the front end. */
enum { TURN = 4 * BATCH };
/* After some requests it is seen to what the host may want to unmount. */
#define LET_GO_NS (2ull * 1000000000)

struct request {
	struct request *next;
	unsigned queue;
	uint32_t written;
	struct vring_chain c;
};

/* A queue that was left with requests in it. */
struct queue {
	struct fs_device *d;
	bool again; /* serve_again() is about to come */
};

struct list {
	struct request *first, **last;
};

struct fs_device {
	struct loop *loop;
	struct fuse_server *server;
	struct fs *fs;
	struct loop_src *let_go, *news;
	bool let_go_armed;
	struct request *parked; /* waits for changes of files */
	struct vhost_backend *backend;
	struct request pool[MAX_WAITING + 1];
	struct request *spare;
	struct queue queue[QUEUES];

	pthread_mutex_t lock;
	pthread_cond_t work, idle;
	struct list todo, done;
	unsigned n_workers, n_free, n_busy; /* busy: requests that workers have */
	pthread_t workers[MAX_WORKERS];
	bool stop, told; /* told: finish() is about to come */
};

static void list_init(struct list *l)
{
	l->first = NULL;
	l->last = &l->first;
}

static void list_add(struct list *l, struct request *r)
{
	r->next = NULL;
	*l->last = r;
	l->last = &r->next;
}

static struct request *list_take(struct list *l)
{
	struct request *r = l->first;

	if (r) {
		l->first = r->next;
		if (!l->first)
			l->last = &l->first;
	}
	return r;
}

static ssize_t handle(struct fs_device *d, struct request *r, uint32_t flags)
{
	const struct vring_chain *c = &r->c;

	return fuse_server_handle(d->server, vring_rd(c), c->n_rd, vring_wr(c), c->n_wr, flags);
}

static void put(struct fs_device *d, struct request *r)
{
	r->next = d->spare;
	d->spare = r;
}

/* On the loop. Answers the request that waits for changes, if there are any or it is to wait no longer. */
static void unpark(struct fs_device *d, uint32_t flags)
{
	struct request *r = d->parked;
	ssize_t written = r ? handle(d, r, flags) : -EBUSY;

	if (written == -EBUSY)
		return;
	d->parked = NULL;
	vhost_push(d->backend, r->queue, &r->c, (uint32_t)written);
	vhost_flush(d->backend, r->queue);
	put(d, r);
}

static void on_news(void *ctx, int fd, uint32_t revents)
{
	struct fs_device *d = ctx;

	fs_host_look(d->fs);
	unpark(d, 0);
}

/* On the loop: what workers have done goes back to the guest. */
static void finish(void *ctx)
{
	struct fs_device *d = ctx;
	struct request *r;
	bool used[QUEUES] = {false};

	pthread_mutex_lock(&d->lock);
	d->told = false;
	while ((r = list_take(&d->done))) {
		vhost_push(d->backend, r->queue, &r->c, r->written);
		used[r->queue] = true;
		put(d, r);
	}
	pthread_mutex_unlock(&d->lock);
	for (unsigned q = 0; q < QUEUES; q++)
		if (used[q])
			vhost_flush(d->backend, q);
}

static void *worker(void *ctx)
{
	struct fs_device *d = ctx;
	struct request *r;

	pthread_mutex_lock(&d->lock);
	for (;;) {
		d->n_free++;
		while (!(r = list_take(&d->todo)) && !d->stop)
			pthread_cond_wait(&d->work, &d->lock);
		d->n_free--;
		if (!r)
			break;
		pthread_mutex_unlock(&d->lock);
		r->written = (uint32_t)handle(d, r, FUSE_HANDLE_NO_PARK);
		pthread_mutex_lock(&d->lock);
		list_add(&d->done, r);
		if (--d->n_busy == 0)
			pthread_cond_broadcast(&d->idle);
		if (!d->told) {
			d->told = true;
			loop_defer(d->loop, finish, d);
		}
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

/* False: there is none, and none can be made. */
static bool give_to_worker(struct fs_device *d, struct request *r)
{
	bool more, given;

	pthread_mutex_lock(&d->lock);
	more = d->n_free <= d->n_busy && d->n_workers < MAX_WORKERS;
	if (more && pthread_create(&d->workers[d->n_workers], NULL, worker, d) == 0)
		d->n_workers++;
	given = d->n_workers > 0;
	if (given) {
		list_add(&d->todo, r);
		d->n_busy++;
		pthread_cond_signal(&d->work);
	}
	pthread_mutex_unlock(&d->lock);
	return given;
}

static void serve_again(void *ctx);

static void let_go(void *ctx)
{
	struct fs_device *d = ctx;

	d->let_go_armed = false;
	fs_host_let_go(d->fs);
}

static void serve(struct fs_device *d, unsigned q)
{
	if (!d->let_go_armed) {
		loop_timer_arm(d->let_go, loop_now() + LET_GO_NS);
		d->let_go_armed = true;
	}
	for (unsigned n = 0; d->spare;) {
		struct request *r = d->spare;
		ssize_t written;

		if (n == TURN) {
			if (!d->queue[q].again)
				loop_defer(d->loop, serve_again, &d->queue[q]);
			d->queue[q].again = true;
			break;
		}
		if (vhost_pop(d->backend, q, &r->c) <= 0)
			break;
		/* the last one is never given away: the queue goes on */
		written = handle(d, r, r->next ? FUSE_HANDLE_NO_WAIT : FUSE_HANDLE_NO_PARK);
		n++;
		if (written == -EBUSY) {
			d->spare = r->next;
			unpark(d, FUSE_HANDLE_NO_PARK);
			r->queue = q;
			d->parked = r;
			continue;
		}
		if (written == -EAGAIN) {
			struct request *rest = r->next;

			r->queue = q;
			if (give_to_worker(d, r)) {
				d->spare = rest;
				continue;
			}
			written = handle(d, r, FUSE_HANDLE_NO_PARK);
		}
		vhost_push(d->backend, q, &r->c, (uint32_t)written);
		if (n % BATCH == 0)
			vhost_flush(d->backend, q);
	}
	vhost_flush(d->backend, q);
	/* what a request did can be news for who waits */
	unpark(d, 0);
}

static void serve_again(void *ctx)
{
	struct queue *queue = ctx;

	queue->again = false;
	serve(queue->d, (unsigned)(queue - queue->d->queue));
}

static void kick(void *ctx, unsigned q)
{
	serve(ctx, q);
}

/* The memory behind requests is about to go: whoever works on it is waited for. */
static void drain(struct fs_device *d)
{
	pthread_mutex_lock(&d->lock);
	while (d->n_busy)
		pthread_cond_wait(&d->idle, &d->lock);
	pthread_mutex_unlock(&d->lock);
	finish(d);
	unpark(d, FUSE_HANDLE_NO_PARK);
}

static void queue_ready(void *ctx, unsigned q, bool enabled)
{
	if (!enabled)
		drain(ctx);
}

static void closed(void *ctx, int error)
{
	struct fs_device *d = ctx;

	if (error)
		log_warn("fs", "the virtual machine monitor: %s", strerror(-error));
	drain(d);
	loop_quit(d->loop, error ? 1 : 0);
}

/* --- the window --- */

static bool window_works(void *ctx)
{
	struct fs_device *d = ctx;

	return vhost_maps_files(d->backend);
}

static int window_map(
	void *ctx, struct fs_handle *h, uint64_t at, uint64_t off, uint64_t len, bool writable)
{
	struct fs_device *d = ctx;

	return vhost_map_file(d->backend, off, len, fs_host_fd(h), at, writable);
}

static int window_unmap(void *ctx, uint64_t off, uint64_t len)
{
	struct fs_device *d = ctx;

	return vhost_unmap_file(d->backend, off, len);
}

static const struct fuse_window_ops window_ops = {window_works, window_map, window_unmap};

static const struct vhost_dev_ops ops = {
	.maps_files = true,
	.n_queues = QUEUES,
	.queue_ready = queue_ready,
	.kick = kick,
	.closed = closed,
};

int fs_device_new(struct fs_device **ret, struct loop *l, int fd, struct fuse_server *server,
	struct fs *fs, struct err *e)
{
	struct fs_device *d = calloc(1, sizeof(*d));
	int r;

	if (!d) {
		close(fd);
		return err_sys(e, -ENOMEM, "make the device");
	}
	d->loop = l;
	d->server = server;
	d->fs = fs;
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->work, NULL);
	pthread_cond_init(&d->idle, NULL);
	list_init(&d->todo);
	list_init(&d->done);
	for (unsigned i = 0; i < QUEUES; i++)
		d->queue[i].d = d;
	for (unsigned i = 0; i < ARRAY_LEN(d->pool); i++)
		put(d, &d->pool[i]);
	r = loop_timer(l, let_go, d, &d->let_go);
	if (r < 0) {
		close(fd);
		free(d);
		return err_sys(e, r, "make the device");
	}
	r = fs_host_enable_watches(fs);
	if (r >= 0)
		r = loop_io(l, r, EPOLLIN, on_news, d, &d->news);
	if (r < 0)
		log_warn("fs", "the guest does not hear of changes: %s", strerror(-r));
	r = vhost_backend_new(&d->backend, l, fd, &ops, d, e);
	if (r < 0) {
		loop_src_free(d->news);
		loop_src_free(d->let_go);
		free(d);
		return r;
	}
	fuse_server_set_window(server, &window_ops, d);
	*ret = d;
	return 0;
}

void fs_device_free(struct fs_device *d)
{
	if (!d)
		return;
	drain(d);
	pthread_mutex_lock(&d->lock);
	d->stop = true;
	pthread_cond_broadcast(&d->work);
	pthread_mutex_unlock(&d->lock);
	for (unsigned i = 0; i < d->n_workers; i++)
		pthread_join(d->workers[i], NULL);
	vhost_backend_free(d->backend);
	loop_src_free(d->let_go);
	loop_src_free(d->news);
	pthread_cond_destroy(&d->idle);
	pthread_cond_destroy(&d->work);
	pthread_mutex_destroy(&d->lock);
	free(d);
}
