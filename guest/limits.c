/* SPDX-License-Identifier: MIT */
/*
 * A distribution's cgroup and what it may use (Documentation/admin-guide/cgroup-v2.rst of Linux).
 * The supervisor sets this up, outside the distribution's own view of the tree: from inside its
 * cgroup namespace the limits of the namespace's root cannot be seen, let alone raised.
 */
#include "guest/guest.h"
#include "guest/cgroup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/log.h"

enum { PERIOD_US = 100000 };

static void set(const struct distro_spec *spec, const char *file, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

static void set(const struct distro_spec *spec, const char *file, const char *fmt, ...)
{
	char path[200], text[160];
	va_list ap;
	int r;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(path, sizeof(path), DISTRO_CGROUPS "/distro-%s/%s", spec->id, file);
	r = write_text(path, text);
	if (r < 0)
		log_warn(spec->name, "limit %s to %s: %s", file, text, strerror(-r));
}

/* "8:16 rbps=1048576 wbps=max riops=max wiops=max" */
static void set_io(const struct distro_spec *spec, const char *dev)
{
	const struct distro_limits *l = &spec->limits;
	const struct {
		const char *key;
		uint64_t value;
	} io[] = {{"rbps", l->read_bytes}, {"wbps", l->write_bytes}, {"riops", l->read_ops},
		{"wiops", l->write_ops}};
	struct stat st;

	for (size_t i = 0; i < ARRAY_LEN(io); i++) {
		if (!io[i].value)
			continue;
		if (stat(dev, &st) < 0) {
			log_warn(spec->name, "limit its disk: %s: %s", dev, strerror(errno));
			return;
		}
		set(spec, "io.max", "%u:%u %s=%" PRIu64, major(st.st_rdev), minor(st.st_rdev),
			io[i].key, io[i].value);
	}
}

/*
 * Of the memory of all distributions one takes seven eighths at most, unless told otherwise: what it fills in file systems in
 * memory, no end of a program frees, and its neighbours could not go on. 0: there is no limit of all.
 */
static uint64_t default_memory(void)
{
	cleanup_free char *text = NULL;

	if (io_read_file(DISTRO_CGROUPS "/memory.max", 64, &text, NULL) < 0)
		return 0;
	return strtoull(text, NULL, 10) / 8 * 7;
}

int limits_set(const struct distro_spec *spec, const char *dev, struct err *e)
{
	const struct distro_limits *l = &spec->limits;
	uint64_t mem = l->mem ? l->mem : default_memory();
	char path[160];

	snprintf(path, sizeof(path), DISTRO_CGROUPS "/distro-%s", spec->id);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return err_sys(e, -errno, "create %s", path);
	if (mem)
		set(spec, "memory.max", "%" PRIu64, mem);
	if (l->swap != UINT64_MAX)
		set(spec, "memory.swap.max", "%" PRIu64, l->swap);
	if (l->cpu)
		set(spec, "cpu.max", "%" PRIu64 " %d", (uint64_t)l->cpu * PERIOD_US / 100,
			PERIOD_US);
	if (l->tasks)
		set(spec, "pids.max", "%u", l->tasks);
	set_io(spec, dev);
	return 0;
}
