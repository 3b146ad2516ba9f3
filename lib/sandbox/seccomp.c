/* SPDX-License-Identifier: MIT */
/* The system-call filter, built from a profile's table with libseccomp and put on every thread. */
#include "lib/sandbox/profile.h"

#include <errno.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>
#include "lib/base/attr.h"

static const char *profile_name;

/* Debugging only: says what was asked for, and lets it fail. */
static void report(int signo, siginfo_t *si, void *ctx)
{
	ucontext_t *uc = ctx;
	char line[160], *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, si->si_syscall);
	int saved = errno,
	    n = snprintf(line, sizeof(line), "sandbox: %s: system call %d (%s) is not allowed\n",
		    profile_name, si->si_syscall, name ? name : "?");

	if (write(STDERR_FILENO, line, n) < 0)
		n = 0;
#ifdef __x86_64__
	uc->uc_mcontext.gregs[REG_RAX] = -ENOSYS;
#endif
	errno = saved;
}

static int add_rule(scmp_filter_ctx f, const struct sandbox_rule *r)
{
	uint32_t action = r->error ? SCMP_ACT_ERRNO((unsigned)r->error) : SCMP_ACT_ALLOW;
	int nr = seccomp_syscall_resolve_name(r->name);

	if (nr == __NR_SCMP_ERROR)
		return r->error
			       ? 0
			       : -ENOSYS; /* newer than the library: a typing error, or nothing to forbid */
	switch (r->check) {
	case SB_EQUAL:
		return seccomp_rule_add(
			f, action, nr, 1, SCMP_CMP64(r->arg, SCMP_CMP_EQ, r->value));
	case SB_MASKED:
		return seccomp_rule_add(f, action, nr, 1,
			SCMP_CMP64(r->arg, SCMP_CMP_MASKED_EQ, r->mask, r->value));
	case SB_SELF:
		return seccomp_rule_add(
			f, action, nr, 1, SCMP_CMP64(r->arg, SCMP_CMP_EQ, (uint64_t)getpid()));
	default: return seccomp_rule_add(f, action, nr, 0);
	}
}

static int build(scmp_filter_ctx f, const struct sandbox_profile *p, struct err *e)
{
	for (const struct sandbox_rule *r = p->rules; r->name; r++) {
		int res = add_rule(f, r);

		if (res < 0 && res != -EDOM)
			return err_sys(e, res, "allow system call %s", r->name);
	}
	return 0;
}

int sandbox_seccomp(const struct sandbox_profile *p, bool debug, struct err *e)
{
	scmp_filter_ctx f = seccomp_init(debug	    ? SCMP_ACT_TRAP
					 : p->fails ? SCMP_ACT_ERRNO(EPERM)
						    : SCMP_ACT_KILL_PROCESS);
	int r;

	if (!f)
		return err_set(e, -ENOMEM, "make a system call filter");
	if (debug) {
		struct sigaction sa = {.sa_sigaction = report, .sa_flags = SA_SIGINFO | SA_NODEFER};

		profile_name = p->name;
		sigaction(SIGSYS, &sa, NULL);
	}
	seccomp_attr_set(f, SCMP_FLTATR_CTL_TSYNC, 1);
	seccomp_attr_set(
		f, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree: rows are many, calls are often */
	r = build(f, p, e);
	if (r == 0 && (r = seccomp_load(f)) < 0)
		err_sys(e, r, "enter the system call filter");
	seccomp_release(f);
	return r;
}
