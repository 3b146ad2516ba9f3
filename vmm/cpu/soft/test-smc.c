/* SPDX-License-Identifier: MIT */
/* Code that one vCPU changes while another executes it, step by step in the orders that went wrong or might. */
#include "vmm/cpu/soft/test-rig.h"

#include "lib/base/test.h"
#include "vmm/cpu/soft/block.h"
#include "vmm/cpu/soft/mem.h"

CODE(one, "mov $1, %eax; hlt")
CODE(two, "mov $2, %eax; hlt")

/* vCPU 0 executes, vCPU 1 writes; both with the rig's page tables. */
struct pair {
	struct rig *r;
	struct soft_vcpu *exec, *writer;
};

static struct pair setup(void)
{
	struct pair p = {.r = rig_new(2)};

	RIG_LOAD(p.r, one);
	for (unsigned i = 0; i < 2; i++)
		if (cpu_soft_ops.set_state(p.r->cpu[i], &p.r->s, p.r->msrs, p.r->nmsrs) < 0)
			abort();
	p.exec = (struct soft_vcpu *)p.r->cpu[0];
	p.writer = (struct soft_vcpu *)p.r->cpu[1];
	return p;
}

/* What vCPU 0 would load into EAX if it jumped to the code now. */
static int executes(struct pair *p)
{
	if (atomic_fetch_and(&p->exec->events, ~(uint32_t)EV_CODE) & EV_CODE)
		soft_code_requests(p->exec);
	p->exec->rip = RIG_CODE;
	return (int)soft_block_get(p->exec)->imm;
}

static void attend(struct soft_vcpu *c)
{
	if (atomic_fetch_and(&c->events, ~(uint32_t)EV_CODE) & EV_CODE)
		soft_code_requests(c);
}

static void store(struct pair *p)
{
	memcpy(rig_ptr(p->r, RIG_CODE), two, (size_t)(two_end - two));
}

TEST(smc_plain)
{
	struct pair p = setup();

	CHECK_EQ(executes(&p), 1);
	mem_write_bytes(p.writer, RIG_CODE, two, (unsigned)(two_end - two));
	CHECK_EQ(executes(&p), 2);
	rig_free(p.r);
}

/* The other decodes again between the writer's check and its write. */
TEST(smc_decoded_meanwhile)
{
	struct pair p = setup();

	CHECK_EQ(executes(&p), 1);
	mem_probe_write(p.writer, RIG_CODE, 8);
	CHECK_EQ(executes(&p), 1);
	store(&p);
	attend(p.writer);
	CHECK_EQ(executes(&p), 2);
	rig_free(p.r);
}

/* As a kernel patches code: the writer changes CR3 before it looks at its events. */
TEST(smc_flushed_meanwhile)
{
	struct pair p = setup();

	CHECK_EQ(executes(&p), 1);
	mem_probe_write(p.writer, RIG_CODE, 8);
	CHECK_EQ(executes(&p), 1);
	store(&p);
	tlb_flush_all(p.writer);
	attend(p.writer);
	CHECK_EQ(executes(&p), 2);
	rig_free(p.r);
}

/* The writer sleeps, and more pages are executed for the first time than its list of requests holds. */
/* vCPU 1 forgets the page, as it does when it is told of code where it has written; vCPU 0 writes before it looks at requests. */
TEST(smc_own_write_to_a_page_that_another_forgot)
{
	struct pair p = setup();

	CHECK_EQ(executes(&p), 1);
	soft_code_written(p.writer, RIG_CODE);
	mem_write_bytes(p.exec, RIG_CODE, two, (unsigned)(two_end - two));
	p.exec->rip = RIG_CODE;
	CHECK_EQ((int)soft_block_get(p.exec)->imm, 2);
	rig_free(p.r);
}

/* A third one is between clearing the mark and telling vCPU 0. */
TEST(smc_write_while_another_forgets)
{
	struct pair p = setup();

	CHECK_EQ(executes(&p), 1);
	atomic_store(&p.writer->vm->code_posting, 1);
	gmem_clear_code(p.r->gm, RIG_CODE);
	mem_write_bytes(p.writer, RIG_CODE, two, (unsigned)(two_end - two));
	CHECK_EQ(executes(&p), 2);
	atomic_store(&p.writer->vm->code_posting, 0);
	rig_free(p.r);
}

TEST(smc_many_requests)
{
	struct pair p = setup();

	mem_probe_write(p.writer, RIG_CODE, 8);
	CHECK_EQ(executes(&p), 1);
	for (uint64_t page = 0x50000; page < 0x1f0000; page += 4096) {
		p.exec->rip = page;
		soft_block_get(p.exec);
	}
	store(&p);
	attend(p.writer);
	CHECK_EQ(executes(&p), 2);
	/* Its right to write past the slow path is gone: the next write is seen at once. */
	mem_write_bytes(p.writer, RIG_CODE, one, (unsigned)(one_end - one));
	CHECK_EQ(executes(&p), 1);
	rig_free(p.r);
}

TEST_MAIN()
