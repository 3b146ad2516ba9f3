/* SPDX-License-Identifier: MIT */
/*
 * Random programs run as blocks, with everything that binding and fusing chooses for speed, and one instruction at a
 * time, which is what is compared with the processor elsewhere: registers, flags and memory must be the same.
 */
#include "vmm/cpu/soft/test-rig.h"

#include "lib/base/attr.h"
#include "lib/base/test.h"
#include "vmm/cpu/soft/exec.h"

enum { PROGRAMS = 20000, LENGTH = 60, DATA_SIZE = 0x3000 };

static uint64_t rng = 0x9e3779b97f4a7c15;

static uint32_t next(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)(rng >> 33) % below;
}

struct prog {
	uint8_t b[4096];
	unsigned n, starts[LENGTH + 1];
	unsigned fix[LENGTH], target[LENGTH], nfix;
};

static void put(struct prog *p, unsigned v)
{
	p->b[p->n++] = (uint8_t)v;
}

static void put_imm(struct prog *p, unsigned n)
{
	while (n--)
		put(p, next(3) ? next(256) : next(2) * 255);
}

/* Any register but RSP, RBX, RBP (bases) and R15 (index). */
static unsigned reg(void)
{
	static const uint8_t regs[] = {0, 1, 2, 6, 7, 8, 9, 10, 11, 12, 13, 14};

	return regs[next(sizeof(regs))];
}

/* Prefixes, opcode, ModRM. r: /digit, or -1 for a register. wide: operand of 16 to 64 bits. Returns the size. */
static unsigned put_op(struct prog *p, int map, unsigned op, int digit, bool wide)
{
	unsigned r = digit < 0 ? reg() : (unsigned)digit, size = wide ? 4 : 1, rex = 0x40;
	bool mem = next(2), fs = next(12) == 0, sib = next(3) == 0;
	unsigned rm = mem ? (next(2) ? 3 : 5) : reg();

	if (mem && fs)
		put(p, 0x64);
	if (wide && next(8) == 0) {
		put(p, 0x66);
		size = 2;
	} else if (wide && next(2)) {
		rex |= 8;
		size = 8;
	}
	rex |= (r >> 3) << 2;
	if (mem && sib)
		rex |= 2; /* R15 */
	if (!mem)
		rex |= rm >> 3;
	put(p, rex);
	if (map)
		put(p, 0x0f);
	put(p, op);
	if (!mem) {
		put(p, 0xc0 | (r & 7) << 3 | (rm & 7));
	} else if (sib) {
		put(p, 0x84 | (r & 7) << 3);
		put(p, next(4) << 6 | 7 << 3 | rm);
	} else {
		put(p, 0x80 | (r & 7) << 3 | rm);
	}
	if (mem) {
		/* Now and then across a page. */
		uint32_t disp = next(8) ? next(0x800) : 0xff9 + next(8);

		memcpy(p->b + p->n, &disp, 4);
		p->n += 4;
	}
	return size;
}

static void put_insn(struct prog *p, unsigned at)
{
	unsigned size, k = next(16);

	switch (k) {
	case 0 ... 3: put_op(p, 0, next(8) << 3 | next(4), -1, false); return;
	case 4: /* CMP or TEST, then a jump, what gets fused */
		if (next(2)) {
			static const uint8_t ops[] = {0x38, 0x39, 0x3a, 0x3b, 0x84, 0x85};
			unsigned op = ops[next(sizeof(ops))];

			put_op(p, 0, op, -1, op & 1);
		} else {
			bool w = next(2), cmp = next(2);

			size = put_op(p, 0, (cmp ? 0x80 : 0xf6) | w, cmp ? 7 : 0, w);
			put_imm(p, MIN(size, 4u));
		}
		__attribute__((fallthrough));
	case 5: /* a jump forward */
		put(p, 0x70 | next(16));
		p->target[p->nfix] = at + 1 + next(5);
		p->fix[p->nfix++] = p->n;
		put(p, 0);
		return;
	case 6:
		size = put_op(p, 0, 0x81, (int)next(8), true);
		put_imm(p, MIN(size, 4u));
		return;
	case 7:
		put_op(p, 0, 0x83, (int)next(8), true);
		put_imm(p, 1);
		return;
	case 8: {
		bool w = next(2);

		put_op(p, 0, 0xfe | w, (int)next(2), w);
		return;
	}
	case 9: put_op(p, 0, 0xf7, 2 + (int)next(2), true); return;
	case 10:
		put_op(p, 0, 0xc1, (int)next(8), true);
		put_imm(p, 1);
		return;
	case 11: put_op(p, 0, 0x88 | next(2) << 1 | 1, -1, true); return;
	case 12: put_op(p, 1, (next(2) ? 0xb6 : 0xbe) | next(2), -1, true); return;
	case 13: put_op(p, 1, 0x40 | next(16), -1, true); return;
	case 14: put_op(p, 1, 0x90 | next(16), 0, false); return;
	default: put_op(p, 0, next(8) << 3 | next(2) << 1 | 1, -1, true);
	}
}

static void make(struct prog *p)
{
	p->n = p->nfix = 0;
	for (unsigned k = 0; k < LENGTH; k++) {
		p->starts[k] = p->n;
		put_insn(p, k);
	}
	p->starts[LENGTH] = p->n;
	put(p, 0xf4);
	for (unsigned k = 0; k < p->nfix; k++)
		p->b[p->fix[k]] =
			(uint8_t)(p->starts[MIN(p->target[k], (unsigned)LENGTH)] - p->fix[k] - 1);
}

static void fill_data(struct rig *r, uint64_t seed)
{
	uint8_t *d = rig_ptr(r, RIG_DATA);

	for (unsigned k = 0; k < DATA_SIZE; k++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		d[k] = (uint8_t)(seed >> 56);
	}
}

TEST(blocks_do_what_steps_do)
{
	struct rig *r = rig_new(1);
	struct soft_vcpu *c = (struct soft_vcpu *)r->cpu[0];
	static struct cpu_state first, blocks;
	static uint8_t mem[DATA_SIZE];
	static struct prog p;
	unsigned bad = 0;

	for (unsigned n = 0; n < PROGRAMS && bad < 5; n++) {
		uint64_t where = RIG_CODE + 0x1000 * (n & 7) + next(0xf00), seed = rng;
		unsigned steps = 0;

		make(&p);
		rig_load(r, where, p.b, p.b + p.n);
		for (unsigned k = 0; k < 16; k++)
			r->s.gpr[k] = next(3) ? rng * (k + 1) : next(3) - 1ull;
		r->s.gpr[CPU_RSP] = RIG_STACK;
		r->s.gpr[CPU_RBX] = RIG_DATA;
		r->s.gpr[CPU_RBP] = RIG_DATA + 0x800;
		r->s.gpr[15] = next(0x40);
		r->s.seg[CPU_FS].base = next(0x100);
		r->s.rflags = 2 | (next(256) & 0xd5) | next(2) << 11;
		first = r->s;
		fill_data(r, seed);
		REQUIRE(rig_run(r) == CPU_EXIT_HALT);
		blocks = r->s;
		memcpy(mem, rig_ptr(r, RIG_DATA), DATA_SIZE);

		fill_data(r, seed);
		REQUIRE(cpu_soft_ops.set_state(r->cpu[0], &first, r->msrs, r->nmsrs) == 0);
		while (c->run_state != CPU_HALTED && steps++ <= 2 * LENGTH + 1)
			REQUIRE(soft_step(c));
		REQUIRE(cpu_soft_ops.get_state(r->cpu[0], &r->s, r->msrs, &r->nmsrs) == 0);
		if (memcmp(r->s.gpr, blocks.gpr, sizeof(blocks.gpr)) ||
			r->s.rflags != blocks.rflags || r->s.rip != blocks.rip ||
			memcmp(mem, rig_ptr(r, RIG_DATA), DATA_SIZE)) {
			printf("# program %u differs: rip %#" PRIx64 " %#" PRIx64
			       " rflags %#" PRIx64 " %#" PRIx64 "\n",
				n, blocks.rip, r->s.rip, blocks.rflags, r->s.rflags);
			for (unsigned k = 0; k < 16; k++)
				if (blocks.gpr[k] != r->s.gpr[k])
					printf("#  register %u: %#" PRIx64 ", by steps %#" PRIx64
					       "\n",
						k, blocks.gpr[k], r->s.gpr[k]);
			bad++;
		}
	}
	CHECK_EQ(bad, 0);
	rig_free(r);
}

TEST_MAIN()
