/* SPDX-License-Identifier: MIT */
/*
 * One virtual CPU of the KVM back end: creation, the run loop, kicks.
 *
 * A kick sets run->immediate_exit and sends a signal to the vCPU's thread: whichever way the two race with KVM_RUN,
 * that returns EINTR, after it has completed the port or memory access that the last exit was about. That is what
 * makes the state whole when run() returns.
 */
#include "vmm/cpu/kvm/kvm.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Beside lib/os's own kick signal, which starts at SIGRTMIN + 1. */
#define KICK_SIGNAL (SIGRTMIN + 2)

static void kick_handler(int signo)
{
}

/* The handler does nothing: that the signal arrives is the point. No SA_RESTART. */
static void accept_kicks(void)
{
	struct sigaction sa = {.sa_handler = kick_handler};
	sigset_t set;

	sigaction(KICK_SIGNAL, &sa, NULL);
	sigemptyset(&set);
	sigaddset(&set, KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* What firmware leaves: MTRRs on, write-back where nothing else is said (SDM vol. 3, 12.11.2.1). Off, Linux does without PAT. */
static int all_write_back(struct cpu_vcpu *v)
{
	_Alignas(struct kvm_msrs)
		uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)] = {0};
	struct kvm_msrs *m = (struct kvm_msrs *)room;
	int r;

	m->nmsrs = 1;
	m->entries[0] = (struct kvm_msr_entry){.index = 0x2ff, .data = 0xc06};
	r = kvm_ioctl_val(v->fd, KVM_SET_MSRS, (uintptr_t)m);
	return r < 0 ? r : r == 1 ? 0 : -EINVAL;
}

int kvm_vcpu_new(struct cpu_vcpu **ret, struct cpu_vm *vm, unsigned index, struct err *e)
{
	struct cpu_vcpu *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return err_sys(e, -ENOMEM, "KVM: vCPU %u", index);
	v->vm = vm;
	v->index = index;
	v->thread = pthread_self();
	v->run = MAP_FAILED;
	accept_kicks();
	v->fd = kvm_ioctl_val(vm->fd, KVM_CREATE_VCPU, index);
	if (v->fd < 0) {
		r = err_sys(e, v->fd, "KVM: create vCPU %u", index);
		goto fail;
	}
	v->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED) {
		r = err_sys(e, -errno, "KVM: map vCPU %u", index);
		goto fail;
	}
	r = kvm_cpuid_set(v, e);
	if (r < 0)
		goto fail;
	r = all_write_back(v);
	if (r < 0) {
		err_sys(e, r, "KVM: memory types of vCPU %u", index);
		goto fail;
	}
	if (index > 0) {
		/* As after INIT: a start-up IPI is all it waits for. */
		struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_INIT_RECEIVED};

		r = kvm_ioctl(v->fd, KVM_SET_MP_STATE, &mp);
		if (r < 0) {
			err_sys(e, r, "KVM: run state of vCPU %u", index);
			goto fail;
		}
	}
	*ret = v;
	return 0;
fail:
	kvm_vcpu_free(v);
	return r;
}

void kvm_vcpu_free(struct cpu_vcpu *v)
{
	if (!v)
		return;
	if (v->run != MAP_FAILED)
		munmap(v->run, v->vm->run_size);
	if (v->fd >= 0)
		close(v->fd);
	free(v);
}

void kvm_vcpu_kick(struct cpu_vcpu *v)
{
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_kill(v->thread, KICK_SIGNAL);
}

/* --- exits --- */

static uint64_t load(const void *p, unsigned len)
{
	uint64_t v = 0;

	memcpy(&v, p, len);
	return v;
}

static void exit_io(struct cpu_vcpu *v)
{
	const struct cpu_io *io = v->vm->io;
	struct kvm_run *run = v->run;
	uint8_t *p = (uint8_t *)run + run->io.data_offset;
	unsigned size = run->io.size;

	for (uint32_t i = 0; i < run->io.count; i++, p += size) {
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			io->port_out(io->ctx, run->io.port, size, load(p, size));
		} else {
			uint32_t val = io->port_in(io->ctx, run->io.port, size);

			memcpy(p, &val, size);
		}
	}
}

/* An access that crosses an alignment boundary may come with an odd length: it is made in the sizes a bus knows. */
static void exit_mmio(struct cpu_vcpu *v)
{
	const struct cpu_io *io = v->vm->io;
	struct kvm_run *run = v->run;
	gpa_t gpa = run->mmio.phys_addr;
	uint8_t *p = run->mmio.data;
	unsigned left = MIN(run->mmio.len, (uint32_t)sizeof(run->mmio.data));

	while (left > 0) {
		unsigned len = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;

		if (run->mmio.is_write) {
			io->mmio_write(io->ctx, gpa, len, load(p, len));
		} else {
			uint64_t val = io->mmio_read(io->ctx, gpa, len);

			memcpy(p, &val, len);
		}
		gpa += len;
		p += len;
		left -= len;
	}
}

static enum cpu_exit exit_fail(struct cpu_vcpu *v, struct err *e)
{
	struct kvm_run *run = v->run;
	struct kvm_regs regs = {0};
	char code[64] = "";

	kvm_ioctl(v->fd, KVM_GET_REGS, &regs);
	switch (run->exit_reason) {
	case KVM_EXIT_INTERNAL_ERROR:
		if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION &&
			run->emulation_failure.ndata >= 3 &&
			run->emulation_failure.flags &
				KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) {
			unsigned n = MIN(run->emulation_failure.insn_size, 15);

			strcpy(code, ", code");
			for (unsigned i = 0; i < n; i++)
				sprintf(code + strlen(code), " %02x",
					run->emulation_failure.insn_bytes[i]);
		}
		err_set(e, -EIO, "KVM: internal error %u at rip 0x%llx%s", run->internal.suberror,
			(unsigned long long)regs.rip, code);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		err_set(e, -EIO, "KVM: the CPU refuses to enter the guest: reason 0x%llx",
			(unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_UNKNOWN:
		err_set(e, -EIO, "KVM: unknown hardware exit 0x%llx at rip 0x%llx",
			(unsigned long long)run->hw.hardware_exit_reason,
			(unsigned long long)regs.rip);
		break;
	default:
		err_set(e, -EIO, "KVM: unexpected exit %u at rip 0x%llx", run->exit_reason,
			(unsigned long long)regs.rip);
		break;
	}
	return CPU_EXIT_FAIL;
}

/*
 * KVM could not reach memory: if a file in a window has become shorter, there are zeroes now. Another vCPU may have been first, and the
 * file may go on changing; it does not say so many times in a row.
 */
static bool try_again(struct cpu_vcpu *v, unsigned *failed)
{
	enum { TRIES = 64, GENTLY = 8 };
	const struct gmem_region *w;

	if (!gmem_windows(v->vm->gm, &w) || (*failed)++ == TRIES)
		return false;
	/* What is cut is zeroes for a moment, even if its file grows at once: no more than has to. */
	gmem_cut_windows(v->vm->gm, *failed > GENTLY);
	return true;
}

enum cpu_exit kvm_vcpu_run(struct cpu_vcpu *v, struct err *e)
{
	for (unsigned failed = 0;;) {
		if (ioctl(v->fd, KVM_RUN, 0) < 0) {
			if (errno == EINTR) {
				__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
				return CPU_EXIT_KICK;
			}
			/* EAGAIN: the vCPU waited for a start-up IPI and was woken for something else. */
			if (errno == EAGAIN)
				continue;
			if (errno == EFAULT && try_again(v, &failed))
				continue;
			if (errno == EFAULT)
				err_set(e, -EFAULT,
					"KVM: guest memory cannot be reached (is the host out of memory?)");
			else
				err_sys(e, -errno, "KVM: run");
			return CPU_EXIT_FAIL;
		}
		failed = 0;
		switch (v->run->exit_reason) {
		case KVM_EXIT_IO: exit_io(v); break;
		case KVM_EXIT_MMIO: exit_mmio(v); break;
		case KVM_EXIT_IOAPIC_EOI:
			if (v->vm->io->eoi)
				v->vm->io->eoi(v->vm->io->ctx, v->run->eoi.vector);
			break;
		case KVM_EXIT_INTR:
		case KVM_EXIT_IRQ_WINDOW_OPEN:
		case KVM_EXIT_SET_TPR: break;
		case KVM_EXIT_HLT: return CPU_EXIT_HALT;
		case KVM_EXIT_SHUTDOWN: return CPU_EXIT_TRIPLE_FAULT;
		default: return exit_fail(v, e);
		}
	}
}
