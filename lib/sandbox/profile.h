/* SPDX-License-Identifier: MIT */
/* The tables behind the profiles. */
#ifndef WSLX_SANDBOX_PROFILE_H
#define WSLX_SANDBOX_PROFILE_H

#include <stdint.h>
#include "lib/sandbox/sandbox.h"

/* What an argument must be for the call to be allowed. */
enum sandbox_check {
	SB_ANY,
	SB_EQUAL,  /* argument == value */
	SB_MASKED, /* (argument & mask) == value */
	SB_SELF,   /* argument == our process id */
};

/*
 * One allowed call, or form of a call. Several rows with one name are alternatives; their conditions must not overlap
 * unless they say the same, and an unconditional row excludes others.
 */
struct sandbox_rule {
	const char *name;
	int error; /* not 0: the call fails with this errno instead */
	enum sandbox_check check;
	unsigned arg;
	uint64_t mask, value;
};

struct sandbox_profile {
	const char *name;
	const struct sandbox_rule *rules;
	/* Landlock would forbid signals to processes started before; the rules see to it which ones there can be. */
	bool signals;
	bool tcp; /* Landlock leaves TCP alone */
	/* What is not listed fails with EPERM: another's program, of whatever version, may try this and that. */
	bool fails;
	/* Capabilities, a bit each, that it keeps if it has them. */
	uint64_t caps;
};

int sandbox_seccomp(const struct sandbox_profile *p, bool debug, struct err *e);
/* 0: done; 1: not in this kernel, *ret_why says so. */
int sandbox_landlock(const struct sandbox_profile *p, const struct sandbox_opts *o,
	const char **ret_why, struct err *e);

#endif
