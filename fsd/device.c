/* SPDX-License-Identifier: MIT */
/*
 * Requests are done where they arrive, on the loop's thread: most need no disk, and to wake another thread costs more
 * than they do. What would wait goes to workers, of which there are only as many as are needed at once.
 *
 * Any of them can take long all the same: a disk that has to spin up, a server that a file system of the host's waits for, maybe for
 * good. So there is a deputy, who looks at the clock. When one request takes too long it stays with its thread, and the deputy goes on
 * with the loop. What is not locked belongs to the thread that has the loop.
 */
#include "fsd/device.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>
#include "lib/base/log.h"
#include "lib/fs/host.h"
#include "lib/fuse/fuse.h"
#include "lib/vhost/backend.h"

/* Of the queues the first is for FUSE_FORGET and the like, the others are for requests. */
enum { QUEUES = 9, MAX_WAITING = 64, MAX_WORKERS = 8, BATCH = 16 };
/* So long, or twice as long, others wait for a request that has the loop, or for workers who are all busy. */
#define PATIENCE_NS (50l * 1000000)
/* When the guest has gone: writes that are under way have this long to end. */
enum { LAST_S = 10 };
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
	bool starved; /* requests were left because all of these wait */
	struct queue queue[QUEUES];

	/*
	 * Odd: a request has the loop. Whoever makes it even has the loop from then on: its thread when it is done, or the deputy.
	 */
	_Atomic uint64_t turn;
	_Atomic bool sleeps; /* the deputy, until it is told that there is something to do */

	pthread_mutex_t lock;
	pthread_cond_t work, idle, wake; /* wake: the deputy */
	struct list todo, done;
	unsigned n_free, n_busy;     /* busy: requests that other threads than the loop's have */
	unsigned n_workers, allowed; /* allowed: so many workers there may be */
	unsigned n_threads; /* workers, the deputy, and those who were overtaken as deputies */
	uint64_t n_begun;   /* requests that workers took on */
	bool stop, told;    /* told: finish() is about to come */
	bool ended;	    /* the loop, with code, on another thread than it began */
	int code;
};

static struct timespec from_now(time_t s, long ns)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += ns;
	t.tv_sec += s + t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}

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

static void serve_again(void *ctx);

static void serve_later(struct fs_device *d, unsigned q)
{
	if (!d->queue[q].again)
		loop_defer(d->loop, serve_again, &d->queue[q]);
	d->queue[q].again = true;
}

/* On the loop: what others have done goes back to the guest. */
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
	for (unsigned q = 0; q < QUEUES; q++) {
		if (used[q])
			vhost_flush(d->backend, q);
		if (d->starved)
			serve_later(d, q);
	}
	d->starved = false;
	/* they took in what news there was */
	unpark(d, 0);
}

/* With the lock held, on a thread that has not the loop. */
static void request_done(struct fs_device *d, struct request *r)
{
	list_add(&d->done, r);
	if (--d->n_busy == 0)
		pthread_cond_broadcast(&d->idle);
	if (!d->told) {
		d->told = true;
		loop_defer(d->loop, finish, d);
	}
}

/* With the lock held, as the last thing of a thread. */
static void thread_ends(struct fs_device *d)
{
	if (--d->n_threads == 0)
		pthread_cond_broadcast(&d->idle);
}

/* With the lock held. */
static bool thread_begins(struct fs_device *d, void *(*fn)(void *))
{
	pthread_t t;

	if (pthread_create(&t, NULL, fn, d) != 0)
		return false;
	pthread_detach(t);
	d->n_threads++;
	return true;
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
		d->n_begun++;
		pthread_mutex_unlock(&d->lock);
		r->written = (uint32_t)handle(d, r, FUSE_HANDLE_NO_PARK);
		pthread_mutex_lock(&d->lock);
		request_done(d, r);
	}
	thread_ends(d);
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

static void wake_deputy(struct fs_device *d)
{
	pthread_mutex_lock(&d->lock);
	d->sleeps = false;
	pthread_cond_signal(&d->wake);
	pthread_mutex_unlock(&d->lock);
}

/* On the loop. False: it took so long that the loop is another thread's by now, and so is what becomes of the request. */
static bool handle_here(struct fs_device *d, struct request *r, uint32_t flags, ssize_t *ret)
{
	uint64_t turn = ++d->turn;

	if (d->sleeps)
		wake_deputy(d);
	*ret = handle(d, r, flags);
	if (atomic_compare_exchange_strong(&d->turn, &turn, turn + 1))
		return true;
	/* what it was not to wait for it can wait for now */
	if (*ret < 0)
		*ret = handle(d, r, FUSE_HANDLE_NO_PARK);
	r->written = (uint32_t)*ret;
	pthread_mutex_lock(&d->lock);
	request_done(d, r);
	pthread_mutex_unlock(&d->lock);
	loop_leave();
	return false;
}

/* False: there is none, and none can be made. */
static bool give_to_worker(struct fs_device *d, struct request *r)
{
	bool given;

	pthread_mutex_lock(&d->lock);
	if (d->n_free <= d->n_busy && d->n_workers < d->allowed)
		d->n_workers += thread_begins(d, worker);
	given = d->n_workers > 0;
	if (given) {
		list_add(&d->todo, r);
		d->n_busy++;
		pthread_cond_signal(&d->work);
	}
	pthread_mutex_unlock(&d->lock);
	return given;
}

static void let_go(void *ctx)
{
	struct fs_device *d = ctx;

	d->let_go_armed = false;
	fs_host_let_go(d->fs);
}

/* False: it took so long that another thread has the loop. */
static bool serve(struct fs_device *d, unsigned q)
{
	if (!d->let_go_armed) {
		loop_timer_arm(d->let_go, loop_now() + LET_GO_NS);
		d->let_go_armed = true;
	}
	for (unsigned n = 0;;) {
		struct request *r = d->spare;
		ssize_t written;

		d->starved = d->starved || !r;
		if (!r)
			break;
		if (n == TURN) {
			serve_later(d, q);
			break;
		}
		if (vhost_pop(d->backend, q, &r->c) <= 0)
			break;
		d->spare = r->next;
		r->queue = q;
		/* the last one is never given away: the queue goes on */
		if (!handle_here(
			    d, r, d->spare ? FUSE_HANDLE_NO_WAIT : FUSE_HANDLE_NO_PARK, &written))
			return false;
		n++;
		if (written == -EBUSY) {
			unpark(d, FUSE_HANDLE_NO_PARK);
			d->parked = r;
			continue;
		}
		if (written == -EAGAIN) {
			if (give_to_worker(d, r))
				continue;
			if (!handle_here(d, r, FUSE_HANDLE_NO_PARK, &written))
				return false;
		}
		vhost_push(d->backend, q, &r->c, (uint32_t)written);
		put(d, r);
		if (n % BATCH == 0)
			vhost_flush(d->backend, q);
	}
	vhost_flush(d->backend, q);
	/* what a request did can be news for who waits */
	unpark(d, 0);
	return true;
}

static bool serve_all(struct fs_device *d)
{
	for (unsigned q = 0; q < QUEUES; q++)
		if (!serve(d, q))
			return false;
	return true;
}

/* On a thread that has the loop now, in the middle of what another did. */
static void go_on(struct fs_device *d)
{
	int r = serve_all(d) ? loop_run(d->loop) : -ECANCELED;

	if (r == -ECANCELED)
		return;
	pthread_mutex_lock(&d->lock);
	d->ended = true;
	d->code = r;
	pthread_cond_broadcast(&d->idle);
	pthread_mutex_unlock(&d->lock);
}

/* With the lock held. */
static void sleep_until_needed(struct fs_device *d, uint64_t turn)
{
	d->sleeps = true;
	/* who begins a request looks at it after that */
	if (d->turn != turn)
		d->sleeps = false;
	while (d->sleeps && !d->stop)
		pthread_cond_wait(&d->wake, &d->lock);
}

static void sleep_a_while(struct fs_device *d)
{
	const struct timespec until = from_now(0, PATIENCE_NS);

	pthread_cond_timedwait(&d->wake, &d->lock, &until);
}

static void *deputy(void *ctx)
{
	struct fs_device *d = ctx;
	uint64_t turn = 0, begun = 0;
	bool waited = false; /* all workers were busy the last time, too */

	pthread_mutex_lock(&d->lock);
	while (!d->stop) {
		const bool waiting = d->todo.first;

		if (waiting && waited && d->n_begun == begun && d->allowed < MAX_WAITING) {
			d->allowed++;
			d->n_workers += thread_begins(d, worker);
		}
		waited = waiting;
		begun = d->n_begun;
		if (d->turn != turn) {
			turn = d->turn;
		} else if (turn & 1 && atomic_compare_exchange_strong(&d->turn, &turn, turn + 1)) {
			d->n_busy++;
			thread_begins(d, deputy);
			pthread_mutex_unlock(&d->lock);
			go_on(d);
			pthread_mutex_lock(&d->lock);
			break;
		} else if (!waiting) {
			sleep_until_needed(d, turn);
			continue;
		}
		sleep_a_while(d);
	}
	thread_ends(d);
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

int fs_device_run(struct fs_device *d)
{
	int r = loop_run(d->loop);

	if (r != -ECANCELED)
		return r;
	pthread_mutex_lock(&d->lock);
	while (!d->ended)
		pthread_cond_wait(&d->idle, &d->lock);
	pthread_mutex_unlock(&d->lock);
	return d->code;
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
	const struct timespec last = from_now(LAST_S, 0);
	struct fs_device *d = ctx;

	if (error)
		log_warn("fs", "the virtual machine monitor: %s", strerror(-error));
	pthread_mutex_lock(&d->lock);
	while (d->n_busy && pthread_cond_timedwait(&d->idle, &d->lock, &last) != ETIMEDOUT)
		;
	if (d->n_busy) {
		log_warn(
			"fs", "ends while %u requests wait for the host's file systems", d->n_busy);
		_exit(1);
	}
	pthread_mutex_unlock(&d->lock);
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
	pthread_condattr_t attr;
	int r;

	if (!d) {
		close(fd);
		return err_sys(e, -ENOMEM, "make the device");
	}
	d->allowed = MAX_WORKERS;
	d->loop = l;
	d->server = server;
	d->fs = fs;
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->work, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->idle, &attr);
	pthread_cond_init(&d->wake, &attr);
	pthread_condattr_destroy(&attr);
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
	pthread_mutex_lock(&d->lock);
	if (!thread_begins(d, deputy))
		log_warn("fs", "a request that takes long lets the others wait: no thread");
	pthread_mutex_unlock(&d->lock);
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
	pthread_cond_signal(&d->wake);
	while (d->n_threads)
		pthread_cond_wait(&d->idle, &d->lock);
	pthread_mutex_unlock(&d->lock);
	vhost_backend_free(d->backend);
	loop_src_free(d->let_go);
	loop_src_free(d->news);
	pthread_cond_destroy(&d->idle);
	pthread_cond_destroy(&d->work);
	pthread_cond_destroy(&d->wake);
	pthread_mutex_destroy(&d->lock);
	free(d);
}
