/* SPDX-License-Identifier: MIT */
#include "guest/mirror.h"

#include <errno.h>
#include <fcntl.h>
#include <arpa/inet.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/log.h"

/* --- instructions, Documentation/bpf/instruction-set of Linux --- */

enum { MAX_INSNS = 128 + 3 * MIRROR_IGNORED, MAX_JUMPS = MIRROR_IGNORED + 16 };
enum label { DONE, REMOTE, LABELS };

struct code {
	struct bpf_insn insn[MAX_INSNS];
	unsigned n, n_jumps;
	struct {
		unsigned at;
		enum label to;
	} jump[MAX_JUMPS];
	unsigned label[LABELS];
};

static void emit(struct code *c, unsigned op, unsigned dst, unsigned src, int off, int32_t imm)
{
	c->insn[c->n++] = (struct bpf_insn){.code = (uint8_t)op,
		.dst_reg = dst & 15,
		.src_reg = src & 15,
		.off = (int16_t)off,
		.imm = imm};
}

static void move(struct code *c, unsigned dst, unsigned src)
{
	emit(c, BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0);
}

static void set(struct code *c, unsigned dst, int32_t value)
{
	emit(c, BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, value);
}

static void load(struct code *c, unsigned dst, unsigned src, size_t off)
{
	emit(c, BPF_LDX | BPF_MEM | BPF_W, dst, src, (int)off, 0);
}

/* 32 bits of the value are compared. */
static void jump(struct code *c, unsigned op, unsigned reg, uint32_t value, enum label to)
{
	c->jump[c->n_jumps].at = c->n;
	c->jump[c->n_jumps++].to = to;
	emit(c, BPF_JMP32 | op | BPF_K, reg, 0, 0, (int32_t)value);
}

/* On the whole register. */
static void jump64(struct code *c, unsigned op, unsigned reg, int32_t value, enum label to)
{
	c->jump[c->n_jumps].at = c->n;
	c->jump[c->n_jumps++].to = to;
	emit(c, BPF_JMP | op | BPF_K, reg, 0, 0, value);
}

static void leave(struct code *c)
{
	jump64(c, BPF_JA, 0, 0, DONE);
}

static void here(struct code *c, enum label l)
{
	c->label[l] = c->n;
}

static void finish(struct code *c)
{
	for (unsigned i = 0; i < c->n_jumps; i++)
		c->insn[c->jump[i].at].off = (int16_t)(c->label[c->jump[i].to] - c->jump[i].at - 1);
}

/* --- the programs --- */

enum { R0, R1, R2, R3, R4, R5, CTX, PORT, FP = BPF_REG_10 };
/* On the stack: what sockets are looked up by, struct bpf_sock_tuple; a socket's cookie, and what is kept for it. */
enum { TUPLE = -40, COOKIE = -48, VALUE = -56 };
/* Datagram sockets whose peer was moved; the one that has sent for longest is forgotten. */
enum { MOVED = 4096 };
#define FIELD(name) offsetof(struct bpf_sock_addr, name)
#define LOOPBACK4   htonl(INADDR_LOOPBACK)
#define MAPPED	    htonl(0xffff)

static uint32_t word(const struct net_addr *a, unsigned i)
{
	uint32_t w;

	memcpy(&w, a->addr + 4 * (size_t)i, sizeof(w));
	return w;
}

static void store(struct code *c, unsigned size, int off, uint32_t value)
{
	emit(c, BPF_ST | BPF_MEM | size, FP, 0, off, (int32_t)value);
}

/* Who has this port at localhost, in the caller's network? R0: 0: nobody; otherwise goes to DONE. */
static void look_up(struct code *c, bool v6)
{
	unsigned words = v6 ? 4 : 1;
	int ports = TUPLE + 8 * (int)words;

	for (unsigned i = 0; i < 2 * words; i++)
		store(c, BPF_W, TUPLE + 4 * (int)i,
			!v6		 ? LOOPBACK4
			: i % words == 3 ? htonl(1)
					 : 0);
	store(c, BPF_H, ports, 0);
	emit(c, BPF_STX | BPF_MEM | BPF_H, FP, PORT, ports + 2, 0);
	move(c, R1, CTX);
	move(c, R2, FP);
	emit(c, BPF_ALU64 | BPF_ADD | BPF_K, R2, 0, 0, TUPLE);
	set(c, R3, v6 ? 36 : 12);
	set(c, R4, BPF_F_CURRENT_NETNS);
	set(c, R5, 0);
	load(c, R0, CTX, FIELD(type));
	/* over the other kind's call */
	emit(c, BPF_JMP32 | BPF_JEQ | BPF_K, R0, 0, 2, SOCK_DGRAM);
	emit(c, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_sk_lookup_tcp);
	emit(c, BPF_JMP | BPF_JA, 0, 0, 1, 0);
	emit(c, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_sk_lookup_udp);
	/* if (R0) { release it; goto DONE } */
	emit(c, BPF_JMP | BPF_JEQ | BPF_K, R0, 0, 3, 0);
	move(c, R1, R0);
	emit(c, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_sk_release);
	jump(c, BPF_JSGE, R0, 0, DONE);
}

static void begin(struct code *c, const struct mirror *m)
{
	*c = (struct code){0};
	move(c, CTX, R1);
	load(c, R2, CTX, FIELD(type));
	emit(c, BPF_JMP32 | BPF_JEQ | BPF_K, R2, 0, 1, SOCK_STREAM);
	jump(c, BPF_JNE, R2, SOCK_DGRAM, DONE);
	load(c, PORT, CTX, FIELD(user_port));
	for (unsigned i = 0; i < m->n_ignored; i++)
		jump(c, BPF_JEQ, PORT, htons(m->ignored[i]), DONE);
}

static void redirect(struct code *c, size_t off, uint32_t value)
{
	set(c, R2, (int32_t)value);
	emit(c, BPF_STX | BPF_MEM | BPF_W, CTX, R2, (int)off, 0);
}

static void end(struct code *c)
{
	here(c, DONE);
	set(c, R0, 1);
	emit(c, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	finish(c);
}

/* R1 and R2: the table, and this socket's cookie in it. */
static void this_socket(struct code *c, int table)
{
	move(c, R1, CTX);
	emit(c, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_get_socket_cookie);
	emit(c, BPF_STX | BPF_MEM | BPF_DW, FP, R0, COOKIE, 0);
	emit(c, BPF_LD | BPF_DW | BPF_IMM, R1, BPF_PSEUDO_MAP_FD, 0, table);
	emit(c, 0, 0, 0, 0, 0);
	move(c, R2, FP);
	emit(c, BPF_ALU64 | BPF_ADD | BPF_K, R2, 0, 0, COOKIE);
}

/* The end of a program that has moved the destination. What then comes from there is to be from where it was sent to. */
static void moved(struct code *c, int table)
{
	load(c, R2, CTX, FIELD(type));
	jump(c, BPF_JNE, R2, SOCK_DGRAM, DONE);
	this_socket(c, table);
	store(c, BPF_DW, VALUE, 0);
	move(c, R3, FP);
	emit(c, BPF_ALU64 | BPF_ADD | BPF_K, R3, 0, 0, VALUE);
	set(c, R4, BPF_ANY);
	emit(c, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_update_elem);
}

/* connect(2), and sendmsg(2) of a socket without a peer. */
static void outward4(struct code *c, const struct mirror *m, int table)
{
	begin(c, m);
	load(c, R2, CTX, FIELD(user_ip4));
	jump(c, BPF_JNE, R2, LOOPBACK4, DONE);
	look_up(c, false);
	redirect(c, FIELD(user_ip4), word(&m->host4, 0));
	moved(c, table);
	end(c);
}

/* ::1, or ::ffff:127.0.0.1, as programs call it that have sockets of one family only. */
static void outward6(struct code *c, const struct mirror *m, int table)
{
	begin(c, m);
	for (unsigned i = 0; i < 2; i++) {
		load(c, R2, CTX, FIELD(user_ip6) + 4 * (size_t)i);
		jump(c, BPF_JNE, R2, 0, DONE);
	}
	load(c, R2, CTX, FIELD(user_ip6) + 8);
	load(c, R3, CTX, FIELD(user_ip6) + 12);
	jump(c, BPF_JNE, R2, 0, REMOTE);
	jump(c, BPF_JNE, R3, htonl(1), DONE);
	if (m->host6.family) {
		look_up(c, true);
		for (unsigned i = 0; i < 4; i++)
			redirect(c, FIELD(user_ip6) + 4 * (size_t)i, word(&m->host6, i));
		moved(c, table);
	}
	leave(c);
	here(c, REMOTE);
	jump(c, BPF_JNE, R2, MAPPED, DONE);
	jump(c, BPF_JNE, R3, LOOPBACK4, DONE);
	look_up(c, false);
	redirect(c, FIELD(user_ip6) + 12, word(&m->host4, 0));
	moved(c, table);
	end(c);
}

/* recvmsg(2): DONE, unless this socket's peer was moved. */
static void if_moved(struct code *c, int table)
{
	this_socket(c, table);
	emit(c, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem);
	jump64(c, BPF_JEQ, R0, 0, DONE);
}

static void inward4(struct code *c, const struct mirror *m, int table)
{
	begin(c, m);
	load(c, R2, CTX, FIELD(user_ip4));
	jump(c, BPF_JNE, R2, word(&m->host4, 0), DONE);
	if_moved(c, table);
	redirect(c, FIELD(user_ip4), LOOPBACK4);
	end(c);
}

static void inward6(struct code *c, const struct mirror *m, int table)
{
	static const struct net_addr localhost = {.addr = {[15] = 1}};
	const uint32_t mapped[] = {0, 0, MAPPED, word(&m->host4, 0)};

	begin(c, m);
	for (unsigned i = 0; i < 4; i++) {
		load(c, R2, CTX, FIELD(user_ip6) + 4 * (size_t)i);
		jump(c, BPF_JNE, R2, mapped[i], REMOTE);
	}
	if_moved(c, table);
	redirect(c, FIELD(user_ip6) + 12, LOOPBACK4);
	leave(c);
	here(c, REMOTE);
	for (unsigned i = 0; i < 4; i++) {
		load(c, R2, CTX, FIELD(user_ip6) + 4 * (size_t)i);
		jump(c, BPF_JNE, R2, word(&m->host6, i), DONE);
	}
	if_moved(c, table);
	for (unsigned i = 0; i < 4; i++)
		redirect(c, FIELD(user_ip6) + 4 * (size_t)i, word(&localhost, i));
	end(c);
}

/* accept(2), getpeername(2). */
static void peer4(struct code *c, const struct mirror *m)
{
	begin(c, m);
	load(c, R2, CTX, FIELD(user_ip4));
	jump(c, BPF_JNE, R2, word(&m->host4, 0), DONE);
	redirect(c, FIELD(user_ip4), LOOPBACK4);
	end(c);
}

static void peer6(struct code *c, const struct mirror *m)
{
	const uint32_t mapped[] = {0, 0, MAPPED, word(&m->host4, 0)};

	begin(c, m);
	for (unsigned i = 0; i < 4; i++) {
		load(c, R2, CTX, FIELD(user_ip6) + 4 * (size_t)i);
		jump(c, BPF_JNE, R2, mapped[i], DONE);
	}
	redirect(c, FIELD(user_ip6) + 12, LOOPBACK4);
	end(c);
}

static int bpf(enum bpf_cmd cmd, union bpf_attr *a)
{
	long r = syscall(SYS_bpf, cmd, a, sizeof(*a));

	return r < 0 ? -errno : (int)r;
}

/* What the verifier says fits hardly any buffer, and then nothing is loaded: so it is only asked when there is something to say. */
static int load_program(const struct code *c, enum bpf_attach_type type)
{
	static char said[32768];
	union bpf_attr a = {.prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
		.expected_attach_type = type,
		.insns = (uintptr_t)c->insn,
		.insn_cnt = c->n,
		.license = (uintptr_t) "Dual MIT/GPL"};
	int r = bpf(BPF_PROG_LOAD, &a);
	size_t len;

	if (r >= 0)
		return r;
	a.log_buf = (uintptr_t)said;
	a.log_size = sizeof(said);
	a.log_level = 1;
	r = bpf(BPF_PROG_LOAD, &a);
	if (r >= 0)
		return r;
	len = strnlen(said, sizeof(said));
	log_warn("net", "the kernel on a program: %s", said + (len > 512 ? len - 512 : 0));
	return r;
}

static int attach(const struct code *c, enum bpf_attach_type type, int cgroup)
{
	cleanup_close int prog = load_program(c, type);
	union bpf_attr to = {.target_fd = (uint32_t)cgroup,
		.attach_bpf_fd = (uint32_t)prog,
		.attach_type = type,
		/* distributions have programs of their own */
		.attach_flags = BPF_F_ALLOW_MULTI};

	return prog < 0 ? prog : bpf(BPF_PROG_ATTACH, &to);
}

static int table_new(void)
{
	union bpf_attr a = {.map_type = BPF_MAP_TYPE_LRU_HASH,
		.key_size = sizeof(uint64_t),
		.value_size = sizeof(uint64_t),
		.max_entries = MOVED};

	return bpf(BPF_MAP_CREATE, &a);
}

int mirror_attach(const struct mirror *m, const char *cgroup, struct err *e)
{
	static const struct {
		void (*make)(struct code *c, const struct mirror *m, int table);
		enum bpf_attach_type type;
	} programs[] = {
		{outward4, BPF_CGROUP_INET4_CONNECT},
		{outward6, BPF_CGROUP_INET6_CONNECT},
		{outward4, BPF_CGROUP_UDP4_SENDMSG},
		{outward6, BPF_CGROUP_UDP6_SENDMSG},
		{inward4, BPF_CGROUP_UDP4_RECVMSG},
		{inward6, BPF_CGROUP_UDP6_RECVMSG},
	};
	static struct code c;
	cleanup_close int fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_close int table = table_new();
	int r = fd < 0 ? -errno : table < 0 ? table : 0;

	if (r == 0 && !m->host4.family)
		r = -EADDRNOTAVAIL;
	for (size_t i = 0; i < ARRAY_LEN(programs) && r == 0; i++) {
		programs[i].make(&c, m, table);
		r = attach(&c, programs[i].type, fd);
	}
	return r < 0 ? err_sys(e, r, "networkingMode=mirrored: lead localhost to the host's") : 0;
}

int mirror_clients(const struct net_addr *from, const char *cgroup, struct err *e)
{
	const struct mirror m = {.host4 = *from};
	static struct code c;
	cleanup_close int fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : from->family == AF_INET ? 0 : -EINVAL;

	if (r == 0) {
		peer4(&c, &m);
		r = attach(&c, BPF_CGROUP_INET4_GETPEERNAME, fd);
	}
	if (r == 0) {
		peer6(&c, &m);
		r = attach(&c, BPF_CGROUP_INET6_GETPEERNAME, fd);
	}
	return r < 0 ? err_sys(e, r, "tell programs the host's clients as localhost") : 0;
}

void mirror_parse(const struct wire_msg *m, const struct net_plan *plan, struct mirror *ret)
{
	char text[512], *p = text, *end_at;

	*ret = (struct mirror){0};
	for (unsigned i = 0; i < plan->n_gateway; i++)
		*(plan->gateway[i].family == AF_INET ? &ret->host4 : &ret->host6) =
			plan->gateway[i];
	if (wire_get_str(m, WSLX_A_IGNORED_PORTS, text, sizeof(text)) <= 0)
		return;
	while (*p && ret->n_ignored < MIRROR_IGNORED) {
		unsigned long port = strtoul(p, &end_at, 10);

		if (end_at != p && port > 0 && port <= UINT16_MAX)
			ret->ignored[ret->n_ignored++] = (uint16_t)port;
		p = end_at != p ? end_at : p + 1;
	}
}
