/* SPDX-License-Identifier: MIT */
/*
 * Generates cases: random bytes of an encoding class, filtered and understood with Zydis, with registers chosen so that the
 * memory operand falls somewhere interesting: aligned and not, across pages, on read-only and on missing ones.
 */
#include <stdio.h>
#include <string.h>
#include <Zydis/Zydis.h>
#include "tests/cpu/diff/gen.h"

const char *const diff_class_names[DIFF_CLASSES] = {"int", "int2", "string", "sse", "mmx", "x87"};

/* --- encodings --- */

/* Opcodes left out of the one-byte map: prefixes, x87, and what leaves user mode or changes segments. */
static bool skip_op1(unsigned op)
{
	switch (op) {
	case 0x0f:
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
	case 0x40 ... 0x4f:
	case 0x64 ... 0x67:
	case 0x8c:
	case 0x8e:
	case 0x9a:
	case 0x9b:
	case 0xa4 ... 0xa7:
	case 0xaa ... 0xaf:
	case 0x6c ... 0x6f:
	case 0xc4:
	case 0xc5:
	case 0xca:
	case 0xcb:
	case 0xcd:
	case 0xce:
	case 0xcf:
	case 0xd8 ... 0xdf:
	case 0x62:
	case 0xf0:
	case 0xf1:
	case 0xf2:
	case 0xf3: return true;
	default: return false;
	}
}

static const uint8_t int2_ops[] = {0x0d, 0x18, 0x19, 0x1e, 0x1f, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45,
	0x46, 0x47, 0x48, 0x49, 0x4a, 0x4b, 0x4c, 0x4d, 0x4e, 0x4f, 0x80, 0x81, 0x82, 0x83, 0x84,
	0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0x90, 0x91, 0x92, 0x93,
	0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa3, 0xa3, 0xab,
	0xab, 0xb3, 0xb3, 0xbb, 0xbb, 0xba, 0xba, 0xba, 0xba, 0xa4, 0xa4, 0xa5, 0xa5, 0xac, 0xac,
	0xad, 0xad, 0xaf, 0xaf, 0xaf, 0xb0, 0xb0, 0xb1, 0xb1, 0xb6, 0xb7, 0xbe, 0xbf, 0xbc, 0xbc,
	0xbd, 0xbd, 0xb8, 0xb8, 0xc0, 0xc0, 0xc1, 0xc1, 0xc3, 0xc7, 0xc7, 0xc8, 0xc9, 0xca, 0xcb,
	0xcc, 0xcd, 0xce, 0xcf, 0xae, 0x0b, 0xb9, 0xff};

static const uint8_t sse_ops[] = {0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x28, 0x29, 0x2a,
	0x2b, 0x2c, 0x2d, 0x2e, 0x2f, 0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59,
	0x5a, 0x5b, 0x5c, 0x5d, 0x5e, 0x5f, 0xc2, 0xc4, 0xc5, 0xc6, 0xd0, 0xd6, 0xe6, 0xf0, 0x7c,
	0x7d, 0xae};

static const uint8_t sse38_ops[] = {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09,
	0x0a, 0x0b, 0x10, 0x14, 0x15, 0x17, 0x1c, 0x1d, 0x1e, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25,
	0x28, 0x29, 0x2a, 0x2b, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x37, 0x38, 0x39, 0x3a, 0x3b,
	0x3c, 0x3d, 0x3e, 0x3f, 0x40, 0x41, 0xc8, 0xc9, 0xca, 0xcb, 0xcc, 0xcd, 0xdb, 0xdc, 0xdd,
	0xde, 0xdf};

static const uint8_t sse3a_ops[] = {0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x14, 0x15,
	0x16, 0x17, 0x20, 0x21, 0x22, 0x40, 0x41, 0x42, 0x44, 0x60, 0x61, 0x62, 0x63, 0xcc, 0xdf};

static const uint8_t string_ops[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};

struct emit {
	uint8_t b[32];
	unsigned n;
};

static void put(struct emit *e, unsigned v)
{
	e->b[e->n++] = (uint8_t)v;
}

static void put_tail(struct rng *r, struct emit *e)
{
	uint64_t x = rnd(r), y = rnd(r);

	/* Small displacements and immediates are as likely as large ones. */
	for (unsigned k = 0; k < 8 && e->n < 31; k++)
		put(e, (unsigned)(x >> (8 * k)));
	for (unsigned k = 0; k < 8 && e->n < 31; k++)
		put(e, (unsigned)(y >> (8 * k)));
}

static unsigned modrm(struct rng *r)
{
	unsigned m = (unsigned)rnd(r) & 0xff;

	return one_in(r, 3) ? m | 0xc0 : m;
}

static void gen_bytes(struct rng *r, enum diff_class class, struct emit *e)
{
	uint64_t x = rnd(r);
	unsigned op;

	e->n = 0;
	if ((x & 15) == 0)
		put(e, 0x65);
	if ((x >> 4 & 63) == 0)
		put(e, "\x2e\x36\x3e\x26"[x >> 10 & 3]);
	if ((x >> 12 & 15) == 0)
		put(e, 0x67);
	switch (class) {
	case DIFF_INT:
		do
			op = (unsigned)rnd(r) & 0xff;
		while (skip_op1(op));
		if ((x >> 16 & 3) == 0)
			put(e, 0x66);
		if ((x >> 18 & 15) == 0)
			put(e, 0xf0);
		else if ((x >> 18 & 63) == 1)
			put(e, x >> 24 & 1 ? 0xf2 : 0xf3);
		if (x >> 25 & 1)
			put(e, 0x40 | (x >> 26 & 15));
		put(e, op);
		put(e, modrm(r));
		break;
	case DIFF_INT2:
		if ((x >> 16 & 3) == 0)
			put(e, 0x66);
		if ((x >> 18 & 7) == 0)
			put(e, 0xf0);
		else if ((x >> 18 & 7) == 1)
			put(e, x >> 24 & 1 ? 0xf2 : 0xf3);
		if ((x >> 30 & 15) == 0) { /* crc32, movbe, adx */
			unsigned k = x >> 36 & 3;

			if (k == 1)
				put(e, 0xf2);
			if (x >> 25 & 1)
				put(e, 0x40 | (x >> 26 & 15));
			put(e, 0x0f);
			put(e, 0x38);
			put(e, k == 3 ? 0xf6 : 0xf0 + (x >> 38 & 1));
		} else {
			op = int2_ops[below(r, sizeof(int2_ops))];
			if (op == 0xb8)
				put(e, 0xf3);
			if (x >> 25 & 1)
				put(e, 0x40 | (x >> 26 & 15));
			put(e, 0x0f);
			put(e, op);
		}
		put(e, modrm(r));
		break;
	case DIFF_STRING:
		if ((x >> 16 & 3) == 0)
			put(e, 0x66);
		if (x >> 18 & 1)
			put(e, x >> 19 & 1 ? 0xf2 : 0xf3);
		if (x >> 25 & 1)
			put(e, 0x40 | (x >> 26 & 15));
		put(e, string_ops[below(r, sizeof(string_ops))]);
		break;
	case DIFF_SSE:
		op = x >> 16 & 7;
		if (op < 3)
			put(e, "\x66\xf3\xf2"[op]);
		else if (op == 3 || op == 4)
			put(e, 0x66);
		if ((x >> 20 & 63) == 0)
			put(e, 0x66);
		if (x >> 26 & 1)
			put(e, 0x40 | (x >> 27 & 15));
		put(e, 0x0f);
		switch (x >> 32 & 7) {
		case 0:
			put(e, 0x38);
			put(e, sse38_ops[below(r, sizeof(sse38_ops))]);
			break;
		case 1:
			put(e, 0x3a);
			put(e, sse3a_ops[below(r, sizeof(sse3a_ops))]);
			break;
		case 2 ... 4:
			op = (unsigned)below(r, 0x60);
			put(e, op < 0x20    ? 0x60 + op
				: op < 0x30 ? 0xd0 + (op & 15)
					    : 0xd0 + (op - 0x30));
			break;
		default: put(e, sse_ops[below(r, sizeof(sse_ops))]); break;
		}
		put(e, modrm(r));
		break;
	case DIFF_MMX:
		if (x >> 26 & 1)
			put(e, 0x40 | (x >> 27 & 15));
		put(e, 0x0f);
		if ((x >> 32 & 7) == 0) {
			put(e, 0x38);
			put(e, sse38_ops[below(r, 16)]);
		} else {
			op = below(r, 0x50);
			put(e, op < 0x20 ? 0x60 + op : 0xd0 + (op - 0x20));
		}
		put(e, modrm(r));
		break;
	default:
		if ((x >> 16 & 15) == 0)
			put(e, 0x66);
		if (x >> 26 & 1)
			put(e, 0x40 | (x >> 27 & 15));
		if ((x >> 36 & 63) == 0) {
			put(e, 0x9b);
			break;
		}
		put(e, 0xd8 + (x >> 32 & 7));
		put(e, modrm(r));
		break;
	}
	put_tail(r, e);
}

/* --- what may run --- */

enum verdict { RUN, EXPECT_UD, DROP };

static enum verdict judge_isa(ZydisISASet s)
{
	switch (s) {
	case ZYDIS_ISA_SET_ADOX_ADCX:
	case ZYDIS_ISA_SET_AES:
	case ZYDIS_ISA_SET_CLFSH:
	case ZYDIS_ISA_SET_CMOV:
	case ZYDIS_ISA_SET_CMPXCHG16B:
	case ZYDIS_ISA_SET_FAT_NOP:
	case ZYDIS_ISA_SET_FCMOV:
	case ZYDIS_ISA_SET_FXSAVE:
	case ZYDIS_ISA_SET_FXSAVE64:
	case ZYDIS_ISA_SET_I186:
	case ZYDIS_ISA_SET_I386:
	case ZYDIS_ISA_SET_I486:
	case ZYDIS_ISA_SET_I486REAL:
	case ZYDIS_ISA_SET_I86:
	case ZYDIS_ISA_SET_LAHF:
	case ZYDIS_ISA_SET_LONGMODE:
	case ZYDIS_ISA_SET_LZCNT:
	case ZYDIS_ISA_SET_MOVBE:
	case ZYDIS_ISA_SET_PAUSE:
	case ZYDIS_ISA_SET_PCLMULQDQ:
	case ZYDIS_ISA_SET_PENTIUMMMX:
	case ZYDIS_ISA_SET_PENTIUMREAL:
	case ZYDIS_ISA_SET_POPCNT:
	case ZYDIS_ISA_SET_PPRO:
	case ZYDIS_ISA_SET_PREFETCH_NOP:
	case ZYDIS_ISA_SET_SHA:
	case ZYDIS_ISA_SET_SSE:
	case ZYDIS_ISA_SET_SSE2:
	case ZYDIS_ISA_SET_SSE2MMX:
	case ZYDIS_ISA_SET_SSE3:
	case ZYDIS_ISA_SET_SSE3X87:
	case ZYDIS_ISA_SET_SSE4:
	case ZYDIS_ISA_SET_SSE42:
	case ZYDIS_ISA_SET_SSEMXCSR:
	case ZYDIS_ISA_SET_SSE_PREFETCH:
	case ZYDIS_ISA_SET_SSSE3:
	case ZYDIS_ISA_SET_SSSE3MMX:
	case ZYDIS_ISA_SET_X87: return RUN;
	default: return DROP;
	}
}

static enum verdict judge(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *op)
{
	if (in->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return DROP;
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_SYSCALL:
	case ZYDIS_MNEMONIC_SYSENTER:
	case ZYDIS_MNEMONIC_CPUID:
	case ZYDIS_MNEMONIC_RDTSC:
	case ZYDIS_MNEMONIC_RDPMC:
	case ZYDIS_MNEMONIC_RSM:
	case ZYDIS_MNEMONIC_LFS:
	case ZYDIS_MNEMONIC_LGS:
	case ZYDIS_MNEMONIC_LSS:
	case ZYDIS_MNEMONIC_HLT: /* privileged ones: tests/cpu's system cases */
	case ZYDIS_MNEMONIC_CLI:
	case ZYDIS_MNEMONIC_STI:
	case ZYDIS_MNEMONIC_IN:
	case ZYDIS_MNEMONIC_OUT:
	case ZYDIS_MNEMONIC_UD0: /* length differs by vendor */ return DROP;
	case ZYDIS_MNEMONIC_NOP: /* 0F 0D with a register: AMD's PREFETCH has no such form */
		if (in->opcode == 0x0d && op[0].type == ZYDIS_OPERAND_TYPE_REGISTER)
			return DROP;
		break;
	case ZYDIS_MNEMONIC_LOOPE: /* AMD: a prefix turns the condition round */
	case ZYDIS_MNEMONIC_LOOPNE:
		for (unsigned k = 0; k < in->raw.prefix_count; k++)
			if ((in->raw.prefixes[k].value & 0xfe) == 0xf2)
				return DROP;
		break;
	case ZYDIS_MNEMONIC_MOVSXD: /* AMD reads 32 bits, Intel 16 */
		if (in->operand_width == 16)
			return DROP;
		break;
	case ZYDIS_MNEMONIC_PAUSE: /* AMD: with REX.B it is XCHG */
		if (in->raw.rex.B)
			return DROP;
		break;
	default: break;
	}
	for (unsigned k = 0; k < in->operand_count; k++)
		if (op[k].type == ZYDIS_OPERAND_TYPE_REGISTER &&
			ZydisRegisterGetClass(op[k].reg.value) == ZYDIS_REGCLASS_SEGMENT &&
			op[k].visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN)
			return DROP;
	if (in->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return DROP;
	/* An operand-size prefix on a near branch: vendors differ. */
	if (in->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE &&
		in->attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE)
		return DROP;
	/* Undefined results. */
	return judge_isa(in->meta.isa_set);
}

/* --- operands --- */

static uint64_t target(struct rng *r, unsigned size)
{
	uint64_t x = rnd(r), in = DIFF_RW + (x >> 8) % (DIFF_RW_SIZE - size);
	uint64_t align = size >= 16 ? 16 : size ? size : 1;

	switch (x & 31) {
	case 0 ... 17: return in & ~(align - 1);
	case 18 ... 23: return in;
	case 24:
	case 25: /* across the two writable pages */
		return DIFF_RW + 4096 - size + 1 + (x >> 8) % (size > 1 ? size - 1 : 1);
	case 26: /* into the read-only page */
		return DIFF_RO - size + 1 + (x >> 8) % (size > 1 ? size - 1 : 1);
	case 27: return DIFF_RO + ((x >> 8) % (DIFF_RO_SIZE - size) & ~(align - 1));
	case 28: /* out of it, into nothing */
		return DIFF_RO + DIFF_RO_SIZE - size + 1 + (x >> 8) % (size > 1 ? size - 1 : 1);
	case 29: /* from nothing into the first page */
		return DIFF_RW - size + 1 + (x >> 8) % (size > 1 ? size - 1 : 1);
	case 30: return one_in(r, 4) ? 0x8000000000000000ull + x : DIFF_RO + DIFF_RO_SIZE + 64;
	default: return in & ~(align - 1);
	}
}

/* Index in gpr[] of a 64- or 32-bit register, or -1. */
static int gpr_index(ZydisRegister reg)
{
	if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15)
		return reg - ZYDIS_REGISTER_RAX;
	if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D)
		return reg - ZYDIS_REGISTER_EAX;
	return -1;
}

static uint64_t inverse(uint64_t odd)
{
	uint64_t x = odd;

	for (int k = 0; k < 6; k++)
		x *= 2 - odd * x;
	return x;
}

/* Locked accesses across cache lines are throttled by some kernels: theirs are aligned. */
static bool is_locked(const ZydisDecodedInstruction *in)
{
	return in->attributes & ZYDIS_ATTRIB_HAS_LOCK || in->mnemonic == ZYDIS_MNEMONIC_XCHG;
}

/* Chooses the memory operand's address and makes it so, by registers or by the displacement's bytes. */
static void place(struct rng *r, struct diff_case *c, const ZydisDecodedInstruction *in,
	const ZydisDecodedOperand *op, bool tame)
{
	unsigned size = op->size / 8 ? op->size / 8 : 1;
	uint64_t t = target(r, size);
	int base = gpr_index(op->mem.base), index = gpr_index(op->mem.index);
	int64_t disp = op->mem.disp.has_displacement ? op->mem.disp.value : 0;
	uint64_t old;

	/*
	 * What processors do differently: which operand CMPS reads first, whether MASKMOV touches bytes that its mask
	 * leaves out, what a 32-bit address leaves of the registers when the first access faults.
	 */
	if (tame)
		t = DIFF_GS_BASE + below(r, DIFF_RW + DIFF_RW_SIZE - DIFF_GS_BASE - 64);
	if (is_locked(in))
		t &= ~(uint64_t)(size - 1);
	if (op->mem.segment == ZYDIS_REGISTER_GS)
		t -= DIFF_GS_BASE;
	if (op->mem.base == ZYDIS_REGISTER_RIP || op->mem.base == ZYDIS_REGISTER_EIP) {
		int32_t d = (int32_t)(t - c->rip - in->length);

		memcpy(c->code + in->raw.disp.offset, &d, 4);
		return;
	}
	if (base >= 0 && base == index) {
		uint64_t f = 1u + op->mem.scale;

		c->gpr[base] = f & 1 ? (t - (uint64_t)disp) * inverse(f) : (t - (uint64_t)disp) / 2;
	} else if (base >= 0) {
		old = c->gpr[base];
		c->gpr[base] =
			t - (uint64_t)disp - (index >= 0 ? c->gpr[index] * op->mem.scale : 0);
		if (op->mem.index == ZYDIS_REGISTER_AL)
			c->gpr[base] = t - (c->gpr[0] & 0xff);
		/* With 32-bit addresses the upper half does not matter. */
		if (in->address_width == 32 && base != 4)
			c->gpr[base] = (uint32_t)c->gpr[base] | old >> 32 << 32;
	} else if (index >= 0) {
		if (in->raw.disp.size == 32) {
			int32_t d = (int32_t)t;

			c->gpr[index] = (uint64_t)(int64_t)(int8_t)c->gpr[index];
			d -= (int32_t)(c->gpr[index] * op->mem.scale);
			memcpy(c->code + in->raw.disp.offset, &d, 4);
		}
	} else if (in->raw.disp.size == 32) {
		int32_t d = (int32_t)t;

		memcpy(c->code + in->raw.disp.offset, &d, 4);
	} else if (in->raw.disp.size == 64) {
		memcpy(c->code + in->raw.disp.offset, &t, 8);
	}
}

/* Bit-test instructions with a register offset reach far beyond the operand. */
static void fix_bit_offset(struct rng *r, struct diff_case *c, const ZydisDecodedOperand *op)
{
	int reg = -1;

	if (op[0].type != ZYDIS_OPERAND_TYPE_MEMORY || op[1].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return;
	if (op[1].reg.value >= ZYDIS_REGISTER_AX && op[1].reg.value <= ZYDIS_REGISTER_R15W)
		reg = op[1].reg.value - ZYDIS_REGISTER_AX;
	else
		reg = gpr_index(op[1].reg.value);
	if (reg >= 0 && !one_in(r, 8))
		c->gpr[reg] = (uint64_t)(int64_t)((int)below(r, 8192) - 4096);
}

static void fix_registers(struct rng *r, struct diff_case *c, const ZydisDecodedInstruction *in,
	const ZydisDecodedOperand *op)
{
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_DIV:
		if (!one_in(r, 6))
			c->gpr[2] = one_in(r, 2) ? 0 : below(r, 256);
		if (!one_in(r, 6) && op[0].size == 8)
			c->gpr[0] &= ~0xff00ull;
		break;
	case ZYDIS_MNEMONIC_IDIV:
		if (!one_in(r, 6))
			c->gpr[2] = (uint64_t)((int64_t)c->gpr[0] >> 63);
		if (!one_in(r, 6) && op[0].size == 8)
			c->gpr[0] = (uint64_t)(int64_t)(int8_t)c->gpr[0];
		if (!one_in(r, 6) && op[0].size == 32)
			c->gpr[2] = (uint64_t)((int64_t)(int32_t)c->gpr[0] >> 32);
		break;
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC: fix_bit_offset(r, c, op); break;
	case ZYDIS_MNEMONIC_ENTER:
		c->gpr[5] = DIFF_RW + 0x400 + (below(r, 0x1000) & ~7u);
		if (!one_in(r, 4)) {
			c->code[in->raw.imm[0].offset] &= 0x7f;
			c->code[in->raw.imm[0].offset + 1] = 0;
		}
		break;
	case ZYDIS_MNEMONIC_PCMPESTRI:
	case ZYDIS_MNEMONIC_PCMPESTRM:
		if (!one_in(r, 4)) {
			c->gpr[0] = (uint64_t)(int64_t)((int)below(r, 40) - 20);
			c->gpr[2] = (uint64_t)(int64_t)((int)below(r, 40) - 20);
		}
		break;
	case ZYDIS_MNEMONIC_CMPXCHG:
	case ZYDIS_MNEMONIC_CMPXCHG8B:
	case ZYDIS_MNEMONIC_CMPXCHG16B: break;
	default: break;
	}
}

/* After the addresses are known: a value in memory that makes the instruction interesting. */
static void fix_memory(struct rng *r, struct diff_case *c, const ZydisDecodedInstruction *in,
	const struct diff_batch *b, uint64_t addr)
{
	const uint8_t *p;

	if (addr - DIFF_RW > DIFF_DATA_SIZE - 16)
		return;
	p = b->data + (addr - DIFF_RW);
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_CMPXCHG: /* equal, half of the time */
		if (one_in(r, 2))
			memcpy(&c->gpr[0], p, 8);
		break;
	case ZYDIS_MNEMONIC_CMPXCHG8B:
		if (one_in(r, 2)) {
			memcpy(&c->gpr[0], p, 4);
			memcpy(&c->gpr[2], p + 4, 4);
		}
		break;
	case ZYDIS_MNEMONIC_CMPXCHG16B:
		if (one_in(r, 2)) {
			memcpy(&c->gpr[0], p, 8);
			memcpy(&c->gpr[2], p + 8, 8);
		}
		break;
	default: break;
	}
}

/* Relative branches land on padding of their own slot, or nowhere. */
static void fix_branch(struct rng *r, struct diff_case *c, const ZydisDecodedInstruction *in)
{
	uint64_t slot = (c->rip & ~(uint64_t)(DIFF_SLOT - 1));
	int64_t d;

	if (!in->raw.imm[0].is_relative)
		return;
	d = (int64_t)(slot + (one_in(r, 2) ? 26 + below(r, 20) : 80 + below(r, 40)) - c->rip -
		      in->length);
	if (in->raw.imm[0].size == 8) {
		c->code[in->raw.imm[0].offset] = (uint8_t)d;
	} else {
		int32_t d32 =
			one_in(r, 4) ? (int32_t)(0x20000000 + (rnd(r) & 0xffffff)) : (int32_t)d;

		memcpy(c->code + in->raw.imm[0].offset, &d32, 4);
	}
}

static bool is_tame(const ZydisDecodedInstruction *in)
{
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_CMPSB:
	case ZYDIS_MNEMONIC_CMPSW:
	case ZYDIS_MNEMONIC_CMPSD:
	case ZYDIS_MNEMONIC_CMPSQ:
	case ZYDIS_MNEMONIC_MASKMOVQ:
	case ZYDIS_MNEMONIC_MASKMOVDQU: return true;
	default: return false;
	}
}

static bool op_is_string(const ZydisDecodedInstruction *in)
{
	return in->meta.category == ZYDIS_CATEGORY_STRINGOP;
}

/* What is left after a fault that is no business of a program: it will run the instruction again. */
static unsigned loose_ends(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *op)
{
	unsigned l = 0;

	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_ENTER: /* stores several times */ l |= DIFF_LOOSE_MEMORY; break;
	case ZYDIS_MNEMONIC_FBSTP:
	case ZYDIS_MNEMONIC_FSTP: l |= DIFF_LOOSE_MEMORY | DIFF_AMD_ORDER; break;
	case ZYDIS_MNEMONIC_CALL:
	case ZYDIS_MNEMONIC_FIST:
	case ZYDIS_MNEMONIC_FISTP:
	case ZYDIS_MNEMONIC_FISTTP:
	case ZYDIS_MNEMONIC_FST: l |= DIFF_AMD_ORDER; break;
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
		l |= DIFF_LOOSE_MEMORY | DIFF_LOOSE_CR2 | DIFF_AMD_IMAGE;
		break;
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FNSAVE: l |= DIFF_LOOSE_MEMORY | DIFF_LOOSE_CR2; break;
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64: /* depends on how many address bits there are */
		l |= DIFF_LOOSE_FIP | DIFF_LOOSE_CR2;
		break;
	case ZYDIS_MNEMONIC_FLDENV:
	case ZYDIS_MNEMONIC_FRSTOR: l |= DIFF_LOOSE_CR2; break;
	case ZYDIS_MNEMONIC_DPPS: /* several roundings; see simd_fp_slow() for underflow */
	case ZYDIS_MNEMONIC_DPPD:
	case ZYDIS_MNEMONIC_HADDPS: l |= DIFF_LOOSE_MXCSR; break;
	default: break;
	}
	if (in->meta.isa_set == ZYDIS_ISA_SET_SHA)
		l |= DIFF_AMD_ORDER;
	if (in->attributes & ZYDIS_ATTRIB_HAS_ADDRESSSIZE && op_is_string(in))
		l |= DIFF_LOOSE_UPPER;
	if (in->attributes & (ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE))
		l |= DIFF_LOOSE_FLAGS;
	for (unsigned k = 0; k < in->operand_count; k++)
		if (op[k].type == ZYDIS_OPERAND_TYPE_REGISTER &&
			ZydisRegisterGetClass(op[k].reg.value) == ZYDIS_REGCLASS_MMX)
			l |= DIFF_LOOSE_X87;
	return l;
}

static ZydisDecoder decoder;

static bool try_case(struct rng *r, struct diff_batch *b, unsigned i, enum diff_class class)
{
	ZydisDecodedInstruction in;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	struct diff_case *c = &b->c[i];
	uint64_t slot = DIFF_CODE + (uint64_t)i * DIFF_SLOT;
	struct emit e;
	enum verdict v;
	unsigned seen = 0;
	bool tame;

	gen_bytes(r, class, &e);
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, e.b, 15, &in, op)))
		return false;
	v = judge(&in, op);
	if (v == DROP)
		return false;
	c->expect_ud = v == EXPECT_UD;
	c->class = (uint8_t) class;
	c->len = in.length;
	memset(c->code, 0, sizeof(c->code));
	memcpy(c->code, e.b, in.length);
	c->loose = loose_ends(&in, op);
	c->undef = in.cpu_flags ? in.cpu_flags->undefined : 0;
	c->rip = slot + DIFF_INSN_OFF;
	/* The last slot of a page: across into the next, where there is one. */
	if (i % (4096 / DIFF_SLOT) == 4096 / DIFF_SLOT - 1 && i + 1 < DIFF_BATCH && in.length > 1 &&
		one_in(r, 2))
		c->rip = slot + DIFF_SLOT - 1 - below(r, in.length - 1u);

	for (unsigned k = 0; k < 16; k++)
		c->gpr[k] = gen_value(r);
	c->gpr[4] = DIFF_RW + 0x200 + (below(r, 0x1c00) & ~7u);
	c->rflags = 0x202 | (rnd(r) & 0xcd5 & ~0x400ull);
	if (one_in(r, 8))
		c->rflags |= 0x400;
	gen_fx(r, &c->fx);
	if (in.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE))
		c->gpr[1] = below(r, 24);
	fix_registers(r, c, &in, op);
	tame = is_tame(&in);
	for (unsigned k = 0; k < in.operand_count; k++) {
		uint64_t addr;
		int base;

		if (op[k].type != ZYDIS_OPERAND_TYPE_MEMORY ||
			op[k].mem.type == ZYDIS_MEMOP_TYPE_AGEN)
			continue;
		base = gpr_index(op[k].mem.base);
		if (is_locked(&in) && base >= 0 && op[k].mem.base == op[k].mem.index &&
			op[k].mem.scale == 1)
			return false;
		place(r, c, &in, &op[k], tame && seen++ == 0);
		if (base == 0 || base == 2 || gpr_index(op[k].mem.index) == 0 ||
			gpr_index(op[k].mem.index) == 2)
			continue;
		addr = base >= 0 ? c->gpr[base] + (uint64_t)op[k].mem.disp.value : 0;
		fix_memory(r, c, &in, b, addr);
	}
	if (in.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE)
		fix_branch(r, c, &in);
	/* 16-bit double shifts by more than 16 are undefined. */
	if ((in.mnemonic == ZYDIS_MNEMONIC_SHLD || in.mnemonic == ZYDIS_MNEMONIC_SHRD) &&
		in.operand_width == 16) {
		if (in.raw.imm[0].size)
			c->code[in.raw.imm[0].offset] &= 0x0f;
		else
			c->gpr[1] &= ~0x10ull;
	}
	return true;
}

static void lay_code(struct diff_batch *b, unsigned i)
{
	static const uint8_t leave[] = {0xff, 0x24, 0x25, DIFF_VECTOR_CELL & 0xff,
		DIFF_VECTOR_CELL >> 8 & 0xff, DIFF_VECTOR_CELL >> 16 & 0xff,
		DIFF_VECTOR_CELL >> 24};
	const struct diff_case *c = &b->c[i];
	uint8_t *p = b->code + (c->rip - DIFF_CODE);

	memcpy(p, c->code, c->len);
	memcpy(p + c->len, leave, sizeof(leave));
}

void diff_generate(
	struct diff_batch *b, uint64_t seed, uint64_t first, unsigned n, unsigned classes)
{
	static const uint8_t weights[DIFF_CLASSES] = {6, 5, 2, 8, 2, 5};
	struct rng r = {mix(seed) ^ mix(first * 2 + 1)};
	unsigned total = 0;

	if (!decoder.machine_mode)
		ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	gen_data(&r, b->data);
	memset(b->code, 0xcc, sizeof(b->code));
	for (unsigned k = 0; k < DIFF_CLASSES; k++)
		total += classes >> k & 1 ? weights[k] : 0;
	b->n = n;
	for (unsigned i = 0; i < n; i++) {
		unsigned k, w;

		r.s = mix(seed) ^ mix((first + i) * 2);
		do {
			w = below(&r, total);
			for (k = 0; k < DIFF_CLASSES; k++) {
				unsigned own = classes >> k & 1 ? weights[k] : 0;

				if (w < own)
					break;
				w -= own;
			}
		} while (!try_case(&r, b, i, (enum diff_class)k));
		lay_code(b, i);
	}
}

void diff_disassemble(const struct diff_case *c, char *buf, size_t len)
{
	ZydisDisassembledInstruction in;

	if (ZYAN_SUCCESS(ZydisDisassembleIntel(
		    ZYDIS_MACHINE_MODE_LONG_64, c->rip, c->code, c->len, &in)))
		snprintf(buf, len, "%s", in.text);
	else
		snprintf(buf, len, "(not decodable)");
}
