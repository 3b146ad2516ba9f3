/* SPDX-License-Identifier: MIT */
#include "netd/quota.h"

#include <sys/resource.h>
#include "lib/base/attr.h"
#include "lib/sandbox/sandbox.h"

enum { DESCRIPTORS = 20000 };
/* libslirp's two buffers; and for all of them together, what is under way. */
#define OF_CONNECTION (256ull << 10)
#define OF_ALL	      (1ull << 30)

uint64_t quota_memory(uint64_t descriptors)
{
	return OF_ALL + descriptors * OF_CONNECTION;
}

void quota_set(void)
{
	struct rlimit files, data;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return;
	files.rlim_max = files.rlim_cur = MIN(files.rlim_max, (rlim_t)DESCRIPTORS);
	setrlimit(RLIMIT_NOFILE, &files);
	/*
	 * libslirp keeps fragments for half a minute, and segments that come before others for as long as the connection
	 * lasts, as many as there are, each in a buffer for the largest frame. The guest's memory is no data of ours.
	 */
	if (sandbox_address_space_is_huge() || getrlimit(RLIMIT_DATA, &data) < 0)
		return;
	data.rlim_max = data.rlim_cur = MIN(data.rlim_max, (rlim_t)quota_memory(files.rlim_max));
	setrlimit(RLIMIT_DATA, &data);
}
