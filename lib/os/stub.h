/* SPDX-License-Identifier: MIT */
/*
 * A stub: a process in which a guest's user program executes natively, at its own addresses, in pages of the guest's memory. It
 * can do nothing else: every system call, fault, trap and signal ends in the handler of stub-code.S, which parks the thread. One
 * monitor thread at a time uses a stub; only stub_interrupt() is for any thread.
 *
 * The processor's isolation of processes keeps the program away from the monitor and from guest memory that was not mapped for it.
 * The kernel enforces the rest: the program's thread may only park and return from a signal (seccomp(2)), and only by the code of
 * its own pages; what is mapped is changed by another thread, whose registers the program cannot reach and whose orders it cannot write.
 */
#ifndef WSLX_OS_STUB_H
#define WSLX_OS_STUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/base/attr.h"
#include "lib/os/stub-layout.h"

struct stub;
struct os_memobj;

/* ram: what will be mapped in it; it must outlive the stub. To be called before the process has threads or a system call filter. -errno when the
 * host lacks something (FSGSBASE, filters with listeners, executable shared memory): *why says what. */
int stub_new(struct stub **ret, const struct os_memobj *ram, const char **why);
/* Waits for it to be ready: several stubs are best made first and waited for then. -errno as above. */
int stub_ready(struct stub *s, const char **why) MUST_CHECK;
void stub_free(struct stub *s);
/* Where every stub of this process has STUB_LEN bytes of its own, once there has been one. They are within the same 2 MiB. */
uint64_t stub_base(void);

/*
 * Whether CPUID, RDTSC and RDTSCP raise #GP in a stub. Where the processor cannot do that for CPUID (arch_prctl(2), ARCH_SET_CPUID; few of
 * AMD's can) none does: they tell of the host, and code that has them must not be mapped executable. That RDTSC alone faulted would be of
 * little use, and in a virtual machine on AMD's processors changing CR4 for it is half of the time that a stub_run() takes. After the first
 * stub_new().
 */
bool stub_hides_host(void);

/*
 * Mappings: collected, executed by the next stub_run(), or by stub_apply(). prot: enum os_prot. mappings: how many the range of a
 * stub_unmap() holds at most, as pages that lie apart in RAM are one each: unmapping takes the host half a microsecond for each of them.
 */
void stub_map(struct stub *s, uint64_t va, uint64_t len, unsigned prot, uint64_t off);
void stub_unmap(struct stub *s, uint64_t va, uint64_t len, unsigned mappings);
/* Pages of the stub that the program may read and execute instead of RAM; n: below STUB_COPIES. What is in them is the caller's business. */
enum { STUB_COPIES = 32 };
uint8_t *stub_copy(struct stub *s, unsigned n);
void stub_map_copy(struct stub *s, uint64_t va, unsigned n);
/* All but the stub's own pages. */
void stub_unmap_all(struct stub *s);
/* -errno: some may not have been done, and the process is of no use any more. */
int stub_apply(struct stub *s) MUST_CHECK;
/* A part of it, which takes less than a millisecond; 1: there is more. */
int stub_apply_part(struct stub *s) MUST_CHECK;

/*
 * The program's registers while it is parked; gpr in the order of their encoding. The selectors must be null, or Linux's of data (0x2b). What
 * comes back is the program's to say, selectors too.
 */
enum stub_selector { STUB_DS, STUB_ES, STUB_FS, STUB_GS, STUB_SELECTORS };
struct stub_regs {
	uint64_t gpr[16];
	uint64_t rip, rflags;
	uint64_t fs_base, gs_base;
	uint16_t cs, ss; /* to begin with: those of 64-bit code */
	uint16_t sel[STUB_SELECTORS];
};
enum { STUB_FX_LEN = 416 };

struct stub_exit {
	enum {
		STUB_INTERRUPTED, /* by stub_interrupt() */
		STUB_SYSCALL, /* rip is behind the instruction; or a call into the vsyscall page: see call */
		STUB_DEBUG, /* INT3, or a single step: rip is behind it */
		STUB_EXCEPTION
	} kind;
	unsigned vector; /* of the exception, or of the last one */
	uint64_t err, cr2;
	uint64_t
		call; /* STUB_SYSCALL: rip as it was; the host has taken the return address of a call into its vsyscall page off the stack */
	uint64_t ticks; /* of the TSC: from letting the program go to its being parked */
};

/* The first STUB_FX_LEN bytes of the FXSAVE64 image: to be read and written in place. */
uint8_t *stub_fx(struct stub *s);
/*
 * Executes the program with these registers until a signal; they are replaced. -errno: the stub died or misbehaved, and r is as it was;
 * x->ticks is 0 if it had not begun with the program.
 */
int stub_run(struct stub *s, struct stub_regs *r, struct stub_exit *x) MUST_CHECK;
/* Why it is of no use any more: -errno; 0: it is. */
int stub_error(const struct stub *s);
/* Makes stub_run() return soon, or the next one. Any thread, while the stub exists. */
void stub_interrupt(struct stub *s);

#endif
