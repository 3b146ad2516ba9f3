/* SPDX-License-Identifier: MIT */
#include "lib/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const char *program_name = "wslx";
static atomic_int max_level = LOG_LVL_INFO;
static bool with_prefix;

void log_init(const char *program, enum log_level max)
{
	program_name = program;
	atomic_store(&max_level, max);
	with_prefix = getenv("JOURNAL_STREAM") != NULL;
}

void log_set_level(enum log_level max)
{
	atomic_store(&max_level, max);
}

bool log_wants(enum log_level lvl)
{
	return (int)lvl <= atomic_load_explicit(&max_level, memory_order_relaxed);
}

void log_msg(enum log_level lvl, const char *comp, const char *fmt, ...)
{
	char line[1200];
	int n = 0, saved = errno;
	va_list ap;

	if (!log_wants(lvl))
		return;
	if (with_prefix)
		n = snprintf(line, sizeof(line), "<%d>", lvl);
	n += snprintf(line + n, sizeof(line) - n, comp ? "%s: %s: " : "%s: ", program_name, comp);
	va_start(ap, fmt);
	int m = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	if (m > 0)
		n = MIN((size_t)(n + m), sizeof(line) - 2);
	line[n++] = '\n';
	/* One write a line keeps lines of several threads and processes whole. */
	if (write(STDERR_FILENO, line, n) < 0)
		n = 0;
	errno = saved;
}

bool log_limit_pass(struct log_limit *l, uint64_t *ret_dropped)
{
	struct timespec ts;
	uint64_t now, next = __atomic_load_n(&l->next_ns, __ATOMIC_RELAXED);

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (uint64_t)ts.tv_sec * 1000000000u + ts.tv_nsec;
	if (now < next || !__atomic_compare_exchange_n(&l->next_ns, &next, now + 1000000000u, false,
				  __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
		__atomic_fetch_add(&l->dropped, 1, __ATOMIC_RELAXED);
		return false;
	}
	*ret_dropped = __atomic_exchange_n(&l->dropped, 0, __ATOMIC_RELAXED);
	return true;
}
