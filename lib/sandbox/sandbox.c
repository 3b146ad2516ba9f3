/* SPDX-License-Identifier: MIT */
/* The stages of confinement, in the order in which each still allows the next. */
#include "lib/sandbox/sandbox.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/sandbox/profile.h"

const char *const sandbox_stage_names[SANDBOX_STAGES] = {
	[SANDBOX_FDS] = "descriptors",
	[SANDBOX_NO_NEW_PRIVS] = "no new privileges",
	[SANDBOX_CAPS] = "capabilities",
	[SANDBOX_LANDLOCK] = "Landlock",
	[SANDBOX_SECCOMP] = "seccomp",
};

const char *sandbox_profile_name(const struct sandbox_profile *p)
{
	return p->name;
}

bool sandbox_address_space_is_huge(void)
{
#if defined(__SANITIZE_ADDRESS__)
	return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
	return true;
#endif
#endif
	return false;
}

/* Closes the gaps between the descriptors to keep. */
int sandbox_close_others(const int *keep, unsigned n, struct err *e)
{
	unsigned from = 0;

	for (;;) {
		int next = -1; /* the lowest one to keep that is not below from */

		for (unsigned i = 0; i < n; i++)
			if (keep[i] >= (int)from && (next < 0 || keep[i] < next))
				next = keep[i];
		if ((next < 0 || (unsigned)next > from) &&
			close_range(from, next < 0 ? ~0u : (unsigned)next - 1, 0) < 0)
			return err_sys(e, -errno, "close stray descriptors");
		if (next < 0)
			return 0;
		from = (unsigned)next + 1;
	}
}

static int drop_caps(uint64_t keep, struct err *e)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2] = {{0}};

	/* From the bounding set, as far as we may: without the capability to do so there is nothing to lose. */
	for (int c = 0; prctl(PR_CAPBSET_READ, c) >= 0; c++)
		if (!(keep & BIT(c)))
			prctl(PR_CAPBSET_DROP, c);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (keep && syscall(SYS_capget, &h, caps) < 0)
		return err_sys(e, -errno, "ask for capabilities");
	for (unsigned i = 0; i < 2; i++) {
		caps[i].effective &= (uint32_t)(keep >> 32 * i);
		caps[i].permitted &= (uint32_t)(keep >> 32 * i);
		caps[i].inheritable = 0;
	}
	if (syscall(SYS_capset, &h, caps) < 0)
		return err_sys(e, -errno, "drop capabilities");
	return 0;
}

int sandbox_enter(const struct sandbox_profile *p, const struct sandbox_opts *o, struct err *e)
{
	struct sandbox_result dummy, *res = o->ret ? o->ret : &dummy;
	const char *why = "";
	int r;

	memset(res, 0, sizeof(*res));
	if (o->n_keep) {
		r = sandbox_close_others(o->keep_fds, o->n_keep, e);
		if (r < 0)
			return r;
		res->done |= 1u << SANDBOX_FDS;
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys(e, -errno, "give up new privileges");
	res->done |= 1u << SANDBOX_NO_NEW_PRIVS;
	r = drop_caps(p->caps, e);
	if (r < 0)
		return r;
	res->done |= 1u << SANDBOX_CAPS;
	r = sandbox_landlock(p, o, &why, e);
	if (r < 0)
		return r;
	if (r == 0)
		res->done |= 1u << SANDBOX_LANDLOCK;
	else
		snprintf(res->note, sizeof(res->note), "%s", why);
	r = sandbox_seccomp(p, o->debug, e);
	if (r < 0)
		return r;
	res->done |= 1u << SANDBOX_SECCOMP;
	return 0;
}
