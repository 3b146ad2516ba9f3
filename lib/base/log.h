/* SPDX-License-Identifier: MIT */
/*
 * Messages for the operator, on stderr, one line each: "wslx-vmm: scsi0: message". With a journal
 * behind stderr (JOURNAL_STREAM set) each line starts with its syslog(3) level as "<N>".
 * Thread-safe.
 *
 * Libraries do not log above debug. What a guest can cause again and again goes through
 * log_limited().
 */
#ifndef WSLX_BASE_LOG_H
#define WSLX_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/base/attr.h"

enum log_level { LOG_LVL_ERR = 3, LOG_LVL_WARN = 4, LOG_LVL_INFO = 6, LOG_LVL_DEBUG = 7 };

/* program: static string, printed first on each line. Levels above max are dropped (default: info).
 */
void log_init(const char *program, enum log_level max);
void log_set_level(enum log_level max);
bool log_wants(enum log_level lvl);
void log_msg(enum log_level lvl, const char *comp, const char *fmt, ...) PRINTF_LIKE(3, 4);

#define log_err(comp, ...)  log_msg(LOG_LVL_ERR, comp, __VA_ARGS__)
#define log_warn(comp, ...) log_msg(LOG_LVL_WARN, comp, __VA_ARGS__)
#define log_info(comp, ...) log_msg(LOG_LVL_INFO, comp, __VA_ARGS__)
#define log_debug(comp, ...)                                                                       \
	do {                                                                                       \
		if (log_wants(LOG_LVL_DEBUG))                                                      \
			log_msg(LOG_LVL_DEBUG, comp, __VA_ARGS__);                                 \
	} while (0)

/* At most one line a second from one place; the next one that passes says how many were dropped. */
struct log_limit {
	uint64_t next_ns;
	uint64_t dropped;
};
bool log_limit_pass(struct log_limit *l, uint64_t *ret_dropped);
#define log_limited(comp, ...)                                                                     \
	do {                                                                                       \
		static struct log_limit lim_;                                                      \
		uint64_t dropped_;                                                                 \
		if (log_limit_pass(&lim_, &dropped_)) {                                            \
			if (dropped_)                                                              \
				log_warn(comp, "(%llu similar messages dropped)",                  \
					(unsigned long long)dropped_);                             \
			log_warn(comp, __VA_ARGS__);                                               \
		}                                                                                  \
	} while (0)

#endif
