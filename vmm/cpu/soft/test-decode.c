/* SPDX-License-Identifier: MIT */
/*
 * The decoder against Zydis, over enumerated encodings: for every instruction that Zydis knows and that is not
 * VEX-encoded or otherwise outside this CPU, the same length, memory operand and immediate.
 */
#include "vmm/cpu/soft/decode.h"

#include <Zydis/Zydis.h>
#define TEST_TIMEOUT_S 600
#include "lib/base/attr.h"
#include "lib/base/test.h"

struct seq {
	unsigned n;
	uint8_t b[4];
};

static const struct seq prefixes[] = {{0, {0}}, {1, {0x66}}, {1, {0x67}}, {1, {0xf2}}, {1, {0xf3}},
	{1, {0xf0}}, {1, {0x64}}, {1, {0x65}}, {1, {0x2e}}, {1, {0x36}}, {2, {0x66, 0xf2}},
	{2, {0xf3, 0x66}}, {2, {0x66, 0x67}}, {2, {0x64, 0x3e}}, {3, {0x66, 0x67, 0xf3}}};
static const struct seq rexes[] = {
	{0, {0}}, {1, {0x40}}, {1, {0x41}}, {1, {0x42}}, {1, {0x44}}, {1, {0x48}}, {1, {0x4f}}};
static const struct seq maps[] = {{0, {0}}, {1, {0x0f}}, {2, {0x0f, 0x38}}, {2, {0x0f, 0x3a}}};
static const uint8_t sibs[] = {0x00, 0x24, 0x25, 0x65, 0x8d, 0xe4, 0xfc};

static unsigned long checked, mismatches;

static void complain(const char *what, const uint8_t *b, enum soft_mode mode, long ours, long want)
{
	if (mismatches++ >= 20)
		return;
	printf("# mode %d:", mode);
	for (unsigned k = 0; k < 15; k++)
		printf(" %02x", b[k]);
	printf(": %s %#lx, Zydis says %#lx\n", what, (unsigned long)ours, (unsigned long)want);
}

static int reg_number(ZydisRegister r)
{
	if (r == ZYDIS_REGISTER_NONE)
		return DEC_REG_NONE;
	if (r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP)
		return DEC_REG_IP;
	return ZydisRegisterGetId(r);
}

static int seg_number(ZydisRegister r)
{
	switch (r) {
	case ZYDIS_REGISTER_ES: return SEG_ES;
	case ZYDIS_REGISTER_CS: return SEG_CS;
	case ZYDIS_REGISTER_SS: return SEG_SS;
	case ZYDIS_REGISTER_FS: return SEG_FS;
	case ZYDIS_REGISTER_GS: return SEG_GS;
	default: return SEG_DS;
	}
}

/* What is Intel's but not this CPU's, or where Zydis and processors differ. */
static bool skipped(const ZydisDecodedInstruction *z, const uint8_t *b)
{
	switch (z->encoding) {
	case ZYDIS_INSTRUCTION_ENCODING_LEGACY: break;
	default: return true; /* VEX, EVEX, XOP, MVEX, 3DNow! */
	}
	switch (z->meta.isa_ext) {
	case ZYDIS_ISA_EXT_KNC:
	case ZYDIS_ISA_EXT_KNCE:
	case ZYDIS_ISA_EXT_KNCV:
	case ZYDIS_ISA_EXT_MPX:
	case ZYDIS_ISA_EXT_VTX:
	case ZYDIS_ISA_EXT_SVM:
	case ZYDIS_ISA_EXT_PADLOCK:
	case ZYDIS_ISA_EXT_CET:
	case ZYDIS_ISA_EXT_AMD3DNOW: return true;
	default: break;
	}
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_MOV: /* MOV to and from test registers */
		return z->opcode_map == ZYDIS_OPCODE_MAP_0F &&
		       (z->opcode == 0x24 || z->opcode == 0x26);
	case ZYDIS_MNEMONIC_EXTRQ:
	case ZYDIS_MNEMONIC_INSERTQ: return true; /* SSE4a */
	case ZYDIS_MNEMONIC_GETSEC:
	case ZYDIS_MNEMONIC_RSM: return true;
	default: return false;
	}
}

static void compare_mem(
	const struct dec *d, const ZydisDecodedOperand *o, const uint8_t *b, enum soft_mode mode)
{
	uint64_t mask = d->addrsize == 8 ? ~0ull : (1ull << 8 * d->addrsize) - 1;

	/* Zydis 4.0.0 takes REX.B for a base where there is none, with a 32-bit address size. */
	if (mode == MODE_64 && d->addrsize == 4 && d->rex & 1 && d->base == DEC_REG_NONE)
		return;
	if (o->mem.base != ZYDIS_REGISTER_NONE || o->mem.index != ZYDIS_REGISTER_NONE ||
		d->has_modrm) {
		if (d->base != reg_number(o->mem.base))
			complain("base", b, mode, d->base, reg_number(o->mem.base));
		if (d->index != reg_number(o->mem.index))
			complain("index", b, mode, d->index, reg_number(o->mem.index));
		if (d->index != DEC_REG_NONE && d->addrsize != 2 && 1 << d->scale != o->mem.scale)
			complain("scale", b, mode, 1 << d->scale, o->mem.scale);
	}
	/* Signed or not is a matter of taste. */
	if (((uint64_t)d->disp ^ (uint64_t)o->mem.disp.value) & mask)
		complain("displacement", b, mode, d->disp, o->mem.disp.value);
	/* 3E before an indirect branch: to Zydis that is NOTRACK, and no segment override. */
	if (d->map == MAP_1 && d->op == 0xff && memchr(b, 0x3e, 4))
		return;
	if (d->seg != seg_number(o->mem.segment))
		complain("segment", b, mode, d->seg, seg_number(o->mem.segment));
}

static void check_one(const ZydisDecoder *z, const uint8_t *b, enum soft_mode mode)
{
	ZydisDecodedInstruction zi;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	struct dec d;
	int len = soft_decode(&d, b, 15, mode);

	if (len > 15)
		complain("length over the limit", b, mode, len, 15);
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(z, b, 15, &zi, op)) || skipped(&zi, b))
		return;
	checked++;
	if (len < 0) {
		/* REX before VEX and such do not get here; what is left has to be known. */
		complain(ZydisMnemonicGetString(zi.mnemonic), b, mode, len, zi.length);
		return;
	}
	if (len != zi.length) {
		complain(ZydisMnemonicGetString(zi.mnemonic), b, mode, len, zi.length);
		return;
	}
	for (unsigned k = 0; k < zi.operand_count; k++) {
		const ZydisDecodedOperand *o = &op[k];

		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && o->mem.type != ZYDIS_MEMOP_TYPE_AGEN &&
			o->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT && d.mem)
			compare_mem(&d, o, b, mode);
	}
	if (zi.raw.imm[0].size && d.imm_size && zi.raw.imm[0].size / 8 == d.imm_size &&
		d.imm != (int64_t)(zi.raw.imm[0].is_signed ? (uint64_t)zi.raw.imm[0].value.s
							   : zi.raw.imm[0].value.u) &&
		(uint64_t)d.imm << (64 - 8 * d.imm_size) != zi.raw.imm[0].value.u
								    << (64 - 8 * d.imm_size))
		complain("immediate", b, mode, d.imm, (long)zi.raw.imm[0].value.u);
}

static void fill(uint8_t b[16], const struct seq *p, const struct seq *r, const struct seq *m,
	unsigned op, unsigned *at)
{
	unsigned n = 0;

	for (unsigned k = 0; k < 16; k++)
		b[k] = (uint8_t)(0x91 + 13 * k);
	memcpy(b + n, p->b, p->n);
	n += p->n;
	memcpy(b + n, r->b, r->n);
	n += r->n;
	memcpy(b + n, m->b, m->n);
	n += m->n;
	b[n++] = (uint8_t)op;
	*at = n;
}

static void check_opcode(const ZydisDecoder *z, enum soft_mode mode, const struct seq *p,
	const struct seq *r, const struct seq *m, unsigned op)
{
	uint8_t b[16];
	unsigned at;

	fill(b, p, r, m, op, &at);
	/* All ModRM bytes; of the forms without a displacement or SIB, all opcode extensions. */
	for (unsigned modrm = 0; modrm < 256; modrm++) {
		if ((modrm & 7) != 4 && (modrm & 7) != 5 && (modrm & 7) != (op & 7))
			continue;
		b[at] = (uint8_t)modrm;
		if ((modrm & 7) != 4 || modrm >= 0xc0) {
			check_one(z, b, mode);
			continue;
		}
		for (unsigned s = 0; s < ARRAY_LEN(sibs); s++) {
			b[at + 1] = sibs[s];
			check_one(z, b, mode);
		}
		b[at + 1] = 0x9e;
	}
}

static void check_mode(enum soft_mode mode, ZydisMachineMode zm, ZydisStackWidth zs)
{
	ZydisDecoder z;
	unsigned nrex = mode == MODE_64 ? ARRAY_LEN(rexes) : 1;

	checked = mismatches = 0;
	REQUIRE(ZYAN_SUCCESS(ZydisDecoderInit(&z, zm, zs)));
	for (unsigned p = 0; p < ARRAY_LEN(prefixes); p++)
		for (unsigned r = 0; r < nrex; r++)
			for (unsigned m = 0; m < ARRAY_LEN(maps); m++)
				for (unsigned op = 0; op < 256; op++)
					check_opcode(
						&z, mode, &prefixes[p], &rexes[r], &maps[m], op);
	printf("# %lu instructions compared\n", checked);
	CHECK_EQ(mismatches, 0);
	CHECK(checked > 100000);
}

TEST(decode_64)
{
	check_mode(MODE_64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
}

TEST(decode_32)
{
	check_mode(MODE_32, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
}

TEST(decode_16)
{
	check_mode(MODE_16, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
}

/* Every proper prefix of an instruction asks for more bytes; too many prefixes are an error of their own. */
TEST(decode_truncated)
{
	static const uint8_t movabs[] = {0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8};
	static const uint8_t lea[] = {0x48, 0x8d, 0x84, 0x8b, 0x10, 0, 0, 0};
	uint8_t longest[15];
	struct dec d;

	for (unsigned n = 0; n < sizeof(movabs); n++)
		CHECK_EQ(soft_decode(&d, movabs, n, MODE_64), DEC_MORE);
	CHECK_EQ(soft_decode(&d, movabs, sizeof(movabs), MODE_64), 10);
	CHECK_EQ(d.imm, 0x0807060504030201);
	for (unsigned n = 0; n < sizeof(lea); n++)
		CHECK_EQ(soft_decode(&d, lea, n, MODE_64), DEC_MORE);
	CHECK_EQ(soft_decode(&d, lea, sizeof(lea), MODE_64), 8);
	memset(longest, 0x66, sizeof(longest));
	CHECK_EQ(soft_decode(&d, longest, 15, MODE_64), DEC_LONG);
	CHECK_EQ(soft_decode(&d, longest, 14, MODE_64), DEC_MORE);
	longest[14] = 0x90;
	CHECK_EQ(soft_decode(&d, longest, 15, MODE_64), 15);
}

/* F7 /6 after 13 prefixes; if its last byte were 0 there would be an immediate, and too many bytes. */
TEST(longest_instruction_across_two_pages_is_no_fault)
{
	uint8_t longest[15];
	struct dec d;

	memset(longest, 0x66, sizeof(longest));
	longest[13] = longest[14] = 0xf7;
	CHECK_EQ(soft_decode(&d, longest, 14, MODE_64), DEC_MORE);
	CHECK_EQ(soft_decode(&d, longest, 15, MODE_64), 15);
}

TEST_MAIN()
