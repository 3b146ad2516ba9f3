/* SPDX-License-Identifier: MIT */
/* The process that samples the VM and does what guest/reclaim.h decides. It runs only when nothing else wants to. */
#include "guest/vm.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/times.h>
#include <time.h>
#include <unistd.h>
#include "guest/guest.h"
#include "guest/reclaim.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/log.h"

/* The first line of /proc/stat (proc(5)), in clock ticks of all processors together. What we ourselves took does not make
 * the VM busy. */
static int read_times(uint64_t *ret_busy, uint64_t *ret_total)
{
	cleanup_free char *text = NULL;
	uint64_t user, nice, system, idle, iowait, irq, softirq, steal, own;
	struct tms t;
	int r = io_read_file("/proc/stat", 1 << 20, &text, NULL);

	if (r < 0)
		return r;
	if (sscanf(text,
		    "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
		    " %" SCNu64 " %" SCNu64,
		    &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal) != 8)
		return -EINVAL;
	times(&t);
	own = (uint64_t)(t.tms_utime + t.tms_stime);
	*ret_busy = user + nice + system + irq + softirq;
	*ret_total = *ret_busy + idle + iowait + steal;
	*ret_busy -= MIN(*ret_busy, own);
	return 0;
}

/* Shared memory and tmpfs count as cache, but there is no other place for them. */
static uint64_t cache_size(void)
{
	uint64_t all =
		memory_info("Cached:") + memory_info("Buffers:") + memory_info("SReclaimable:");

	return all - MIN(all, memory_info("Shmem:"));
}

static int act(enum reclaim_act what, uint64_t bytes)
{
	char text[32];

	switch (what) {
	case RECLAIM_NOTHING: break;
	case RECLAIM_STEP:
		snprintf(text, sizeof(text), "%" PRIu64, bytes);
		return write_text("/sys/fs/cgroup/memory.reclaim", text);
	case RECLAIM_ALL: return write_text("/proc/sys/vm/drop_caches", "3");
	case RECLAIM_COMPACT: return write_text("/proc/sys/vm/compact_memory", "1");
	}
	return 0;
}

static void NORETURN run(enum vm_reclaim how)
{
	struct reclaim r = {.how = how, .ram = memory_info("MemTotal:")};
	struct sched_param none = {0};
	const struct timespec period = {.tv_sec = RECLAIM_SAMPLE_S};

	prctl(PR_SET_NAME, "wslx-reclaim");
	sched_setscheduler(0, SCHED_IDLE, &none);
	for (;;) {
		uint64_t busy, total, bytes = 0;
		enum reclaim_act what;
		int err;

		nanosleep(&period, NULL);
		if (read_times(&busy, &total) < 0)
			continue;
		what = reclaim_sample(&r, busy, total, cache_size(), &bytes);
		err = act(what, bytes);
		if (err < 0) {
			log_debug("reclaim", "%s", strerror(-err));
			reclaim_failed(&r);
		}
	}
}

void reclaim_start(enum vm_reclaim how)
{
	pid_t pid = fork();

	if (pid == 0)
		run(how);
	if (pid < 0)
		log_warn("reclaim", "%s", strerror(errno));
}

int reclaim_now(const void *unused)
{
	int r;

	sync(); /* what is not on its disk yet cannot go */
	r = act(RECLAIM_ALL, 0);
	return r < 0 ? r : act(RECLAIM_COMPACT, 0);
}
