/* SPDX-License-Identifier: MIT */
/* See fake-front.h. */
#include "lib/vhost/fake-front.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/base/le.h"
#include "lib/vring/vring.h"

enum { LIMIT_MS = 20000, AVAIL = 0x1000, USED = 0x2000, RING = 0x3000 };

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	printf("# fake front end: %s\n", what);
	abort();
}

void front_init(struct front *f, int *ret_server)
{
	int s[2];
	void *p;

	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) == 0, "socketpair");
	*f = (struct front){.fd = s[0], .memfd = memfd_create("front", MFD_CLOEXEC)};
	must(io_set_nonblock(s[0], true) == 0, "a socket that does not block");
	must(f->memfd >= 0 && ftruncate(f->memfd, FRONT_MEM) == 0, "memory");
	p = mmap(NULL, FRONT_MEM, PROT_READ | PROT_WRITE, MAP_SHARED, f->memfd, 0);
	must(p != MAP_FAILED, "map the memory");
	f->mem = p;
	for (unsigned i = 0; i < FRONT_QUEUES; i++) {
		f->q[i].kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		f->q[i].call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		f->q[i].gpa = FRONT_GPA + (uint64_t)i * RING;
	}
	f->heap = FRONT_GPA + FRONT_QUEUES * RING;
	*ret_server = s[1];
}

void front_done(struct front *f)
{
	for (unsigned i = 0; i < FRONT_QUEUES; i++) {
		close(f->q[i].kick);
		close(f->q[i].call);
	}
	munmap(f->mem, FRONT_MEM);
	close(f->memfd);
	if (f->fd >= 0)
		close(f->fd);
}

/* --- messages --- */

void front_send(struct front *f, uint32_t request, uint32_t flags, const void *payload,
	uint32_t len, const int *fds, unsigned nfds)
{
	must(vu_send(f->fd, request, flags, payload, len, fds, nfds) == 0, "send");
}

bool front_answer(struct front *f, struct vu_msg *ret)
{
	struct vu_in in = {0};
	int r;

	while ((r = vu_receive(f->fd, &in)) == 0) {
		struct pollfd p = {.fd = f->fd, .events = POLLIN};

		must(poll(&p, 1, LIMIT_MS) == 1, "an answer in time");
	}
	if (r > 0)
		*ret = in.msg;
	vu_in_done(&in);
	return r > 0;
}

uint64_t front_ask(struct front *f, uint32_t request)
{
	struct vu_msg m;

	front_send(f, request, 0, NULL, 0, NULL, 0);
	must(front_answer(f, &m) && m.h.request == request && m.h.size == 8, "a number");
	return m.p.u64;
}

void front_state(struct front *f, uint32_t request, unsigned q, uint32_t num)
{
	struct vu_vring_state s = {.index = q, .num = num};

	front_send(f, request, 0, &s, sizeof(s), NULL, 0);
}

void front_queue_fd(struct front *f, uint32_t request, unsigned q, int fd)
{
	uint64_t v = q | (fd < 0 ? VU_NO_FD : 0);

	front_send(f, request, 0, &v, sizeof(v), &fd, fd >= 0);
}

/* --- setting up --- */

void front_negotiate(struct front *f, uint64_t features)
{
	uint64_t offered = front_ask(f, VU_GET_FEATURES);

	f->features = offered & (features | VU_F_PROTOCOL_FEATURES);
	must(offered & VU_F_PROTOCOL_FEATURES, "protocol features");
	f->protocol = front_ask(f, VU_GET_PROTOCOL_FEATURES);
	front_send(f, VU_SET_PROTOCOL_FEATURES, 0, &f->protocol, 8, NULL, 0);
	front_send(f, VU_SET_OWNER, 0, NULL, 0, NULL, 0);
	front_send(f, VU_SET_FEATURES, 0, &f->features, 8, NULL, 0);
}

void front_memory(struct front *f)
{
	struct vu_mem_table t = {.n = 2};
	int fds[2] = {f->memfd, f->memfd};

	/* Two regions that touch, so that a buffer can lie in both. */
	for (unsigned i = 0; i < 2; i++)
		t.region[i] = (struct vu_region){.gpa = FRONT_GPA + i * (FRONT_MEM / 2),
			.size = FRONT_MEM / 2,
			.user_addr = FRONT_USER + i * (FRONT_MEM / 2),
			.mmap_offset = i * (FRONT_MEM / 2)};
	front_send(f, VU_SET_MEM_TABLE, 0, &t, 8 + 2 * sizeof(t.region[0]), fds, 2);
}

void front_queue(struct front *f, unsigned q, uint16_t base)
{
	uint64_t user = f->q[q].gpa - FRONT_GPA + FRONT_USER;
	struct vu_vring_addr a = {
		.index = q, .desc = user, .avail = user + AVAIL, .used = user + USED};

	f->q[q].avail = f->q[q].used = base;
	le16_put((uint8_t *)front_ptr(f, f->q[q].gpa + AVAIL) + 2, base);
	le16_put((uint8_t *)front_ptr(f, f->q[q].gpa + USED) + 2, base);
	front_state(f, VU_SET_VRING_NUM, q, FRONT_SIZE);
	front_state(f, VU_SET_VRING_BASE, q, base);
	front_send(f, VU_SET_VRING_ADDR, 0, &a, sizeof(a), NULL, 0);
	front_queue_fd(f, VU_SET_VRING_CALL, q, f->q[q].call);
	front_queue_fd(f, VU_SET_VRING_KICK, q, f->q[q].kick);
	front_state(f, VU_SET_VRING_ENABLE, q, 1);
}

void front_start(struct front *f, unsigned n)
{
	front_negotiate(f, UINT64_MAX);
	front_memory(f);
	for (unsigned i = 0; i < n; i++)
		front_queue(f, i, 0);
}

uint16_t front_stop(struct front *f, unsigned q)
{
	struct vu_msg m;

	front_state(f, VU_GET_VRING_BASE, q, 0);
	must(front_answer(f, &m) && m.h.request == VU_GET_VRING_BASE && m.p.state.index == q,
		"where the queue stopped");
	return (uint16_t)m.p.state.num;
}

/* --- requests --- */

uint64_t front_alloc(struct front *f, size_t len)
{
	uint64_t at = f->heap;

	f->heap += ALIGN_UP((uint64_t)len, (uint64_t)16);
	must(f->heap <= FRONT_GPA + FRONT_MEM, "memory is left");
	return at;
}

void *front_ptr(struct front *f, uint64_t gpa)
{
	must(gpa - FRONT_GPA < FRONT_MEM, "an address in memory");
	return f->mem + (gpa - FRONT_GPA);
}

uint16_t front_add(struct front *f, unsigned qi, const struct front_buf *b, unsigned n)
{
	struct front_queue *q = &f->q[qi];
	uint8_t *desc = front_ptr(f, q->gpa), *avail = front_ptr(f, q->gpa + AVAIL);
	uint16_t head = q->next % FRONT_SIZE;

	for (unsigned i = 0; i < n; i++) {
		uint8_t *d = desc + (size_t)(q->next++ % FRONT_SIZE) * 16;

		le64_put(d, b[i].gpa);
		le32_put(d + 8, b[i].len);
		le16_put(d + 12, (uint16_t)((b[i].write ? 2 : 0) | (i + 1 < n ? 1 : 0)));
		le16_put(d + 14, q->next % FRONT_SIZE);
	}
	le16_put(avail + 4 + (size_t)(q->avail % FRONT_SIZE) * 2, head);
	q->avail++;
	__atomic_store_n((uint16_t *)(void *)(avail + 2), htole16(q->avail), __ATOMIC_RELEASE);
	if (f->features & VIRTIO_F_EVENT_IDX)
		le16_put(avail + 4 + (size_t)FRONT_SIZE * 2, q->used);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return head;
}

void front_kick(struct front *f, unsigned q)
{
	uint64_t one = 1;

	must(write(f->q[q].kick, &one, sizeof(one)) == sizeof(one), "kick");
}

uint16_t front_wait(struct front *f, unsigned qi, uint32_t *written)
{
	struct front_queue *q = &f->q[qi];
	uint8_t *used = front_ptr(f, q->gpa + USED), *e;
	uint64_t count;

	while (le16toh(__atomic_load_n((uint16_t *)(void *)(used + 2), __ATOMIC_ACQUIRE)) ==
		q->used) {
		struct pollfd p = {.fd = q->call, .events = POLLIN};

		must(poll(&p, 1, LIMIT_MS) == 1, "a finished request in time");
		must(read(q->call, &count, sizeof(count)) == sizeof(count), "a call");
	}
	e = used + 4 + (size_t)(q->used % FRONT_SIZE) * 8;
	q->used++;
	if (f->features & VIRTIO_F_EVENT_IDX)
		le16_put((uint8_t *)front_ptr(f, q->gpa + AVAIL) + 4 + (size_t)FRONT_SIZE * 2,
			q->used);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (written)
		*written = le32_get(e + 4);
	return (uint16_t)le32_get(e);
}
