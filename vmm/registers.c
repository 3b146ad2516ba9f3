/* SPDX-License-Identifier: MIT */
#include "vmm/registers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* As text: a number of 64 bits does not survive every JSON parser. */
static void set_hex(struct json_object *o, const char *name, uint64_t v, int digits)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%0*" PRIx64, digits, v);
	js_set_str(o, name, text);
}

static struct json_object *registers(const struct cpu_state *s)
{
	static const char *const gpr[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
	const struct {
		const char *name;
		uint64_t v;
	} other[] = {{"rip", s->rip}, {"rflags", s->rflags}, {"cr0", s->cr0}, {"cr2", s->cr2},
		{"cr3", s->cr3}, {"cr4", s->cr4}, {"cr8", s->cr8}, {"efer", s->efer},
		{"xcr0", s->xcr0}, {"dr6", s->dr[6]}, {"dr7", s->dr[7]}};
	struct json_object *o = js_object();

	for (unsigned i = 0; i < 16; i++)
		set_hex(o, gpr[i], s->gpr[i], 16);
	for (unsigned i = 0; i < ARRAY_LEN(other); i++)
		set_hex(o, other[i].name, other[i].v, 16);
	return o;
}

static void set_segment(struct json_object *segments, const char *name, const struct cpu_seg *s)
{
	struct json_object *o = js_object();

	set_hex(o, "selector", s->selector, 4);
	set_hex(o, "base", s->base, 16);
	set_hex(o, "limit", s->limit, 8);
	set_hex(o, "attributes", s->attr, 4);
	js_set(segments, name, o);
}

static struct json_object *table(uint64_t base, uint16_t limit)
{
	struct json_object *o = js_object();

	set_hex(o, "base", base, 16);
	set_hex(o, "limit", limit, 4);
	return o;
}

static struct json_object *vcpu_json(
	unsigned vcpu, const struct cpu_state *s, const struct cpu_msr *msrs, unsigned n)
{
	static const char *const states[] = {[CPU_RUNNABLE] = "running",
		[CPU_HALTED] = "halted",
		[CPU_WAIT_SIPI] = "not started"};
	static const char *const segs[CPU_NSEGS] = {"es", "cs", "ss", "ds", "fs", "gs"};
	struct json_object *o = js_set_u64(js_object(), "vcpu", vcpu), *seg = js_object(),
			   *msr = js_object();

	js_set_str(o, "state", states[s->run]);
	js_set(o, "registers", registers(s));
	for (unsigned i = 0; i < CPU_NSEGS; i++)
		set_segment(seg, segs[i], &s->seg[i]);
	set_segment(seg, "ldtr", &s->ldtr);
	set_segment(seg, "tr", &s->tr);
	js_set(o, "segments", seg);
	js_set(o, "tables",
		js_set(js_set(js_object(), "gdt", table(s->gdtr.base, s->gdtr.limit)), "idt",
			table(s->idtr.base, s->idtr.limit)));
	for (unsigned i = 0; i < n; i++) {
		char name[16];

		snprintf(name, sizeof(name), "0x%08" PRIx32, msrs[i].index);
		set_hex(msr, name, msrs[i].value, 16);
	}
	if (n)
		return js_set(o, "msrs", msr);
	js_free(msr);
	return o;
}

int registers_json(
	struct vm *vm, unsigned first, unsigned count, bool with_msrs, struct json_object **ret)
{
	cleanup_free struct cpu_state *s = calloc(1, sizeof(*s));
	cleanup_js struct json_object *list = js_array();
	struct cpu_msr msrs[CPU_MAX_MSRS];

	if (!s)
		return -ENOMEM;
	for (unsigned i = first; i < vm_vcpus(vm) && i - first < count; i++) {
		unsigned n = 0;
		int r = vm_vcpu_state(vm, i, s, msrs, &n);

		if (r < 0)
			return r;
		js_push(list, vcpu_json(i, s, msrs, with_msrs ? n : 0));
	}
	*ret = take_ptr(list);
	return 0;
}
