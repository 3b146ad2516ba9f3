/* SPDX-License-Identifier: MIT */
/* The VM's life over a fake CPU back end, whose vCPUs are scripts in C. */
#include "vmm/core/vm.h"

#include <errno.h>
#include <stdatomic.h>
#include "lib/base/test.h"
#include "lib/os/notifier.h"
#include "lib/os/thread.h"
#include "vmm/core/state.h"

struct cpu_vm {
	struct cpu_vm_config cfg;
	uint64_t clock;
	unsigned nvcpus;
};

struct cpu_vcpu {
	struct cpu_vm *vm;
	unsigned index;
	struct os_event kicked;
	struct cpu_state s;
	struct cpu_msr msr;
};

/* What a vCPU does when it runs: one step; the test sets it. */
static enum cpu_exit (*script)(struct cpu_vcpu *v, struct err *e);
static atomic_uint steps;
static int fail_vcpu = -1;

static int fake_vm_new(struct cpu_vm **ret, const struct cpu_vm_config *cfg, struct err *e)
{
	*ret = calloc(1, sizeof(**ret));
	(*ret)->cfg = *cfg;
	return 0;
}

static void fake_vm_free(struct cpu_vm *vm)
{
	CHECK_EQ(vm->nvcpus, 0);
	free(vm);
}

static int fake_vcpu_new(struct cpu_vcpu **ret, struct cpu_vm *vm, unsigned index, struct err *e)
{
	struct cpu_vcpu *v;

	if ((int)index == fail_vcpu)
		return err_set(e, -ENODEV, "no more CPUs");
	v = calloc(1, sizeof(*v));
	v->vm = vm;
	v->index = index;
	v->s.run = index ? CPU_WAIT_SIPI : CPU_RUNNABLE;
	v->msr = (struct cpu_msr){.index = 0x10 + index, .value = 100 + index};
	os_event_init(&v->kicked);
	vm->nvcpus++;
	*ret = v;
	return 0;
}

static void fake_vcpu_free(struct cpu_vcpu *v)
{
	v->vm->nvcpus--;
	os_event_done(&v->kicked);
	free(v);
}

static enum cpu_exit fake_run(struct cpu_vcpu *v, struct err *e)
{
	atomic_fetch_add(&steps, 1);
	return script(v, e);
}

static void fake_kick(struct cpu_vcpu *v)
{
	os_event_set(&v->kicked);
}

static int fake_get(struct cpu_vcpu *v, struct cpu_state *s, struct cpu_msr *msrs, unsigned *n)
{
	*s = v->s;
	msrs[0] = v->msr;
	*n = 1;
	return 0;
}

static int fake_set(
	struct cpu_vcpu *v, const struct cpu_state *s, const struct cpu_msr *msrs, unsigned n)
{
	v->s = *s;
	if (n)
		v->msr = msrs[0];
	return 0;
}

static void fake_save(struct cpu_vm *vm, struct state_w *w)
{
	state_put_u64(w, vm->clock);
}

static int fake_load(struct cpu_vm *vm, struct state_r *r)
{
	vm->clock = state_get_u64(r);
	return 0;
}

static const struct cpu_ops fake_ops = {
	.name = "fake",
	.vm_new = fake_vm_new,
	.vm_free = fake_vm_free,
	.vcpu_new = fake_vcpu_new,
	.vcpu_free = fake_vcpu_free,
	.run = fake_run,
	.kick = fake_kick,
	.get_state = fake_get,
	.set_state = fake_set,
	.vm_save = fake_save,
	.vm_load = fake_load,
};

struct box {
	struct loop *loop;
	struct vm *vm;
	unsigned ends;
	enum vm_end why;
};

static void on_end(void *ctx, enum vm_end why)
{
	struct box *b = ctx;

	b->ends++;
	b->why = why;
	loop_quit(b->loop, 0);
}

static bool box_new(struct box *b, unsigned vcpus)
{
	struct vm_config cfg = {
		.cpu = &fake_ops, .ram_size = 2 << 20, .vcpus = vcpus, .on_end = on_end, .ctx = b};
	struct err e = {0};

	memset(b, 0, sizeof(*b));
	atomic_store(&steps, 0);
	if (loop_new(&b->loop) < 0)
		return false;
	cfg.loop = b->loop;
	return vm_new(&b->vm, &cfg, &e) == 0 && vm_create_vcpus(b->vm, &e) == 0;
}

static void box_free(struct box *b)
{
	vm_free(b->vm);
	loop_free(b->loop);
}

/* Runs "guest code" until kicked. */
static enum cpu_exit until_kicked(struct cpu_vcpu *v, struct err *e)
{
	os_event_wait(&v->kicked, UINT64_MAX);
	return CPU_EXIT_KICK;
}

TEST(pause_resume_stop)
{
	struct box b;

	script = until_kicked;
	REQUIRE(box_new(&b, 3));
	CHECK_EQ(vm_pause(b.vm), -EINVAL);
	REQUIRE(vm_start(b.vm, NULL) == 0);
	CHECK_EQ(vm_state(b.vm), VM_RUNNING);
	CHECK(vm_start(b.vm, NULL) < 0);
	for (int i = 0; i < 200; i++) {
		CHECK_EQ(vm_pause(b.vm), 0);
		unsigned n = atomic_load(&steps);

		CHECK_EQ(vm_state(b.vm), VM_PAUSED);
		CHECK_EQ(vm_pause(b.vm), 0);
		CHECK_EQ(atomic_load(&steps), n); /* nobody runs while it is paused */
		CHECK_EQ(vm_resume(b.vm), 0);
	}
	vm_stop(b.vm, VM_END_KILLED);
	vm_stop(b.vm, VM_END_RESET); /* the first reason stands */
	CHECK_EQ(loop_run(b.loop), 0);
	CHECK_EQ(b.ends, 1);
	CHECK_EQ(b.why, VM_END_KILLED);
	CHECK_EQ(vm_state(b.vm), VM_STOPPED);
	CHECK_EQ(vm_resume(b.vm), -EINVAL);
	box_free(&b);
}

TEST(stop_while_paused)
{
	struct box b;

	script = until_kicked;
	REQUIRE(box_new(&b, 2));
	REQUIRE(vm_start(b.vm, NULL) == 0);
	CHECK_EQ(vm_pause(b.vm), 0);
	vm_stop(b.vm, VM_END_KILLED);
	CHECK_EQ(loop_run(b.loop), 0);
	CHECK_EQ(b.ends, 1);
	box_free(&b);
}

/* A power device: a write to port 0x600 ends the VM, from the vCPU's own thread. */
static struct vm *power_vm;

static void power_write(struct dev *d, unsigned region, uint64_t off, unsigned len, uint64_t val)
{
	vm_stop(power_vm, VM_END_POWEROFF);
}

static void power_save(struct dev *d, struct state_w *w)
{
	state_put_u32(w, 0x50574552);
}

static uint32_t power_loaded;

static int power_load(struct dev *d, struct state_r *r)
{
	power_loaded = state_get_u32(r);
	return 0;
}

static const struct dev_ops power_ops = {
	.name = "power", .write = power_write, .save = power_save, .load = power_load};
static struct dev power;

static enum cpu_exit power_off(struct cpu_vcpu *v, struct err *e)
{
	const struct cpu_io *io = v->vm->cfg.io;

	CHECK_EQ(io->port_in(io->ctx, 0x604, 4), 0xffffffff);
	io->port_out(io->ctx, 0x600, 1, 0x34);
	return until_kicked(v, e);
}

TEST(a_device_stops_the_vm)
{
	struct box b;

	script = power_off;
	REQUIRE(box_new(&b, 1));
	power_vm = b.vm;
	dev_init(&power, &power_ops, "power0");
	REQUIRE(bus_add(vm_bus(b.vm), BUS_PORT, 0x600, 1, &power, 0) == 0);
	vm_add_dev(b.vm, &power);
	REQUIRE(vm_start(b.vm, NULL) == 0);
	CHECK_EQ(loop_run(b.loop), 0);
	CHECK_EQ(b.why, VM_END_POWEROFF);
	box_free(&b);
}

static enum cpu_exit fault(struct cpu_vcpu *v, struct err *e)
{
	return v->index == 1 ? CPU_EXIT_TRIPLE_FAULT : until_kicked(v, e);
}

static enum cpu_exit give_up(struct cpu_vcpu *v, struct err *e)
{
	err_set(e, -EIO, "cannot go on");
	return CPU_EXIT_FAIL;
}

static enum cpu_exit halt(struct cpu_vcpu *v, struct err *e)
{
	return CPU_EXIT_HALT;
}

TEST(ends)
{
	static const struct {
		enum cpu_exit (*script)(struct cpu_vcpu *v, struct err *e);
		enum vm_end why;
		const char *text;
	} t[] = {{fault, VM_END_CRASH, "vCPU 1: triple fault"}, {halt, VM_END_HALT, ""},
		{give_up, VM_END_CRASH, "cannot go on"}};

	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		struct box b;

		script = t[i].script;
		REQUIRE(box_new(&b, 2));
		REQUIRE(vm_start(b.vm, NULL) == 0);
		CHECK_EQ(loop_run(b.loop), 0);
		CHECK_EQ(b.why, t[i].why);
		CHECK(strstr(vm_end_text(b.vm), t[i].text) != NULL);
		box_free(&b);
	}
}

TEST(freed_while_running)
{
	struct box b;

	script = until_kicked;
	REQUIRE(box_new(&b, 4));
	REQUIRE(vm_start(b.vm, NULL) == 0);
	box_free(&b);
}

TEST(a_vcpu_that_cannot_be_created)
{
	struct vm_config cfg = {.cpu = &fake_ops, .ram_size = 2 << 20, .vcpus = 3};
	struct err e = {0};
	struct vm *vm;

	REQUIRE(loop_new(&cfg.loop) == 0);
	fail_vcpu = 2;
	REQUIRE(vm_new(&vm, &cfg, &e) == 0);
	CHECK_EQ(vm_create_vcpus(vm, &e), -ENODEV);
	CHECK_STR(e.text, "create vCPU 2: no more CPUs");
	fail_vcpu = -1;
	vm_free(vm);
	cfg.vcpus = 0;
	CHECK_EQ(vm_new(&vm, &cfg, &e), -EINVAL);
	loop_free(cfg.loop);
}

static void add_power(struct box *b)
{
	dev_init(&power, &power_ops, "power0");
	vm_add_dev(b->vm, &power);
}

TEST(save_and_load)
{
	struct box b, c;
	struct cpu_state s, *got = calloc(1, sizeof(*got));
	struct state_w *w = state_w_new();
	struct err e = {0};
	size_t len;
	const void *p;

	script = until_kicked;
	REQUIRE(box_new(&b, 2));
	add_power(&b);
	CHECK_EQ(vm_get_boot_state(b.vm, &s), 0);
	for (unsigned i = 0; i < 16; i++)
		s.gpr[i] = 0x1111111111111111ull * i;
	s.rip = 0x1000000;
	s.seg[CPU_CS] = (struct cpu_seg){.selector = 0x10, .limit = 0xffffffff, .attr = 0xa09b};
	s.xsave[4095] = 0x5a;
	s.exc_pending = true;
	s.exc_error = 0xdeadbeef;
	s.lapic[1023] = 0xa5;
	CHECK_EQ(vm_set_boot_state(b.vm, &s), 0);
	vm_cpu(b.vm)->clock = 123456789;
	CHECK_EQ(vm_save(b.vm, w, &e), -EINVAL); /* not started */
	REQUIRE(vm_start(b.vm, NULL) == 0);
	CHECK_EQ(vm_pause(b.vm), 0);
	REQUIRE(vm_save(b.vm, w, &e) == 0);
	p = state_w_data(w, &len);
	box_free(&b);

	REQUIRE(box_new(&c, 2));
	add_power(&c);
	struct state_r *r = state_r_new(p, len);

	CHECK_EQ(vm_load(c.vm, r, &e), 0);
	CHECK_EQ(vm_get_boot_state(c.vm, got), 0);
	CHECK(memcmp(got, &s, sizeof(s)) == 0);
	CHECK_EQ(vm_cpu(c.vm)->clock, 123456789);
	CHECK_EQ(power_loaded, 0x50574552);
	state_r_free(r);
	box_free(&c);

	/* A machine of another shape refuses it, and so does one that gets half of it. */
	REQUIRE(box_new(&c, 3));
	add_power(&c);
	r = state_r_new(p, len);
	CHECK_EQ(vm_load(c.vm, r, &e), -EINVAL);
	state_r_free(r);
	box_free(&c);
	REQUIRE(box_new(&c, 2));
	add_power(&c);
	r = state_r_new(p, len / 2);
	CHECK_EQ(vm_load(c.vm, r, &e), -EBADMSG);
	state_r_free(r);
	box_free(&c);
	free(got);
	state_w_free(w);
}

TEST(the_state_of_a_vcpu_is_told_while_it_is_paused)
{
	struct cpu_state *s = calloc(1, sizeof(*s));
	struct cpu_msr msrs[CPU_MAX_MSRS];
	unsigned n = 0;
	struct box b;

	script = until_kicked;
	REQUIRE(box_new(&b, 2));
	CHECK_EQ(vm_get_boot_state(b.vm, s), 0);
	s->rip = 0x1234;
	CHECK_EQ(vm_set_boot_state(b.vm, s), 0);
	REQUIRE(vm_start(b.vm, NULL) == 0);
	CHECK_EQ(vm_vcpu_state(b.vm, 0, s, msrs, &n), -EINVAL);
	CHECK_EQ(vm_pause(b.vm), 0);
	s->rip = 0;
	CHECK_EQ(vm_vcpu_state(b.vm, 0, s, msrs, &n), 0);
	CHECK_EQ(s->rip, 0x1234);
	CHECK_EQ(vm_vcpu_state(b.vm, 1, s, msrs, &n), 0);
	CHECK_EQ(s->run, CPU_WAIT_SIPI);
	CHECK_EQ(n, 1);
	CHECK_EQ(msrs[0].index, 0x11);
	CHECK_EQ(vm_vcpu_state(b.vm, 2, s, msrs, &n), -EINVAL);
	box_free(&b);
	free(s);
}

static void bell(void *ctx)
{
}

TEST(an_ioevent_falls_back_to_the_bus)
{
	struct box b;
	struct vm_ioevent *ev;

	script = until_kicked;
	REQUIRE(box_new(&b, 1));
	REQUIRE(vm_ioevent_new(&ev, b.vm, bell, NULL) == 0);
	CHECK_EQ(vm_ioevent_place(ev, BUS_MMIO, 0xc0000000, 4, UINT64_MAX), -EOPNOTSUPP);
	vm_ioevent_unplace(ev);
	vm_ioevent_free(ev);
	box_free(&b);
}

TEST_MAIN()
