/* SPDX-License-Identifier: MIT */
/* Integer code: arithmetic, branches, calls, an interpreter's dispatch. */
#include "bench/guest/bench.h"

static uint64_t alu(uint64_t n)
{
	uint64_t a = 1, b = 2, c = 3, d = 4;

	for (uint64_t i = 0; i < n; i++) {
		a += b ^ i;
		b = (b << 7 | b >> 57) + c;
		c ^= a >> 3;
		d = d * 5 + c;
		opaque(d);
	}
	return mix(mix(a, b), mix(c, d));
}

static uint64_t branchy(uint64_t n)
{
	uint64_t s = 12345, h = 0;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t r = next(&s);

		if (r & 1)
			h += r;
		else if (r & 2)
			h ^= r >> 5;
		if ((r & 0x30) == 0x10)
			h -= i;
		else if (h & 4)
			h = (h >> 1) + 7;
		opaque(h);
	}
	return h;
}

#define CALLEE(i, expr)                                                                            \
	static __attribute__((noinline)) uint64_t callee##i(uint64_t x)                            \
	{                                                                                          \
		opaque(x);                                                                         \
		return expr;                                                                       \
	}
CALLEE(0, x + 1)
CALLEE(1, x ^ 0x55)
CALLEE(2, x * 3)
CALLEE(3, x - 9)
CALLEE(4, x >> 1)
CALLEE(5, x << 1 | 1)
CALLEE(6, ~x)
CALLEE(7, x + (x >> 7))

static uint64_t icall(uint64_t n)
{
	static uint64_t (*volatile const table[8])(uint64_t) = {
		callee0, callee1, callee2, callee3, callee4, callee5, callee6, callee7};
	uint64_t h = 1, s = 99;

	for (uint64_t i = 0; i < n; i++)
		h = table[next(&s) & 7](h);
	return h;
}

/* A stack machine that runs a small loop: an indirect jump for each instruction, as interpreters of languages have. */
static uint64_t dispatch(uint64_t n)
{
	enum { ADD, XOR, PUSH, SWAP, SHR, DUP, DROP, LOOP };
	static const volatile uint8_t code[] = {
		PUSH, ADD, DUP, SHR, XOR, PUSH, XOR, SWAP, DUP, ADD, SWAP, DUP, DROP, LOOP};
	uint64_t stack[64] = {1, 2}, t;
	unsigned sp = 2, pc = 0;

	while (n > 0) {
		switch (code[pc++]) {
		case ADD:
			sp--;
			stack[sp - 1] += stack[sp];
			break;
		case XOR:
			sp--;
			stack[sp - 1] ^= stack[sp];
			break;
		case PUSH: stack[sp++] = n; break;
		case SWAP:
			t = stack[sp - 1];
			stack[sp - 1] = stack[sp - 2];
			stack[sp - 2] = t;
			break;
		case SHR: stack[sp - 1] >>= 3; break;
		case DUP:
			stack[sp] = stack[sp - 1];
			sp++;
			break;
		case DROP: sp--; break;
		case LOOP:
			pc = 0;
			n--;
			break;
		}
	}
	return mix(stack[0], stack[1]);
}

static __attribute__((noinline)) uint64_t fib(uint64_t n)
{
	opaque(n);
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t recurse(uint64_t n)
{
	uint64_t h = 0;

	for (uint64_t i = 0; i < n; i++)
		h = mix(h, fib(12 + (i & 1)));
	return h;
}

const struct workload work_int[] = {{"alu", alu}, {"branchy", branchy}, {"icall", icall},
	{"dispatch", dispatch}, {"recurse", recurse}, {NULL, NULL}};
