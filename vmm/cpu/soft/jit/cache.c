/* SPDX-License-Identifier: MIT */
/* See cache.h. It is emptied as a whole, together with the decoded blocks that point into it. */
#include "vmm/cpu/soft/jit/cache.h"
#include <errno.h>
#include <stdlib.h>
#include "lib/os/mem.h"
#include "vmm/cpu/soft/jit/check.h"
#include "vmm/cpu/soft/jit/jit.h"
#include "vmm/cpu/soft/jit/trans.h"

enum { CACHE_SIZE = 64 << 20, THRESHOLD = 8 };

static enum jit_mode mode;
static unsigned threshold = THRESHOLD;
static size_t limit = CACHE_SIZE;

void soft_jit_configure(enum jit_mode m, unsigned n)
{
	mode = m;
	threshold = n ? n - 1 : THRESHOLD;
}

void soft_jit_limit(size_t bytes)
{
	limit = bytes ? bytes : CACHE_SIZE;
}

static int map_cache(struct soft_jit *j)
{
	void *p;
	int r = os_memobj_new(&j->obj, "translated code", j->size);

	if (r < 0)
		return r;
	r = os_memobj_map(j->obj, 0, j->size, OS_PROT_R | OS_PROT_W, &p);
	if (r < 0)
		return r;
	j->rw = p;
	r = os_memobj_map(j->obj, 0, j->size, OS_PROT_R | OS_PROT_X, &p);
	if (r < 0)
		return r;
	j->rx = p;
	j->to_rx = j->rx - j->rw;
	soft_jit_common(j);
	return 0;
}

int soft_jit_new(struct soft_vcpu *c)
{
	struct soft_jit *j;
	int r;

	if (mode == JIT_OFF)
		return 0;
	j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	c->jit = j;
	j->size = limit;
	j->threshold = threshold;
	j->bmi2 = __builtin_cpu_supports("bmi2");
	j->trans = malloc(sizeof(*j->trans));
	if (!j->trans) {
		soft_jit_free(c);
		return -ENOMEM;
	}
	r = mode == JIT_CHECK ? jit_check_new(j) : 0;
	if (r < 0) {
		soft_jit_free(c);
		return r;
	}
	/* Some hosts forbid executable shared memory: the interpreter needs none. */
	r = map_cache(j);
	if (r < 0)
		soft_jit_free(c);
	return r == -ENOMEM ? r : 0;
}

void soft_jit_free(struct soft_vcpu *c)
{
	struct soft_jit *j = c->jit;

	if (!j)
		return;
	if (j->rx)
		os_mem_unmap(j->rx, j->size);
	if (j->rw)
		os_mem_unmap(j->rw, j->size);
	if (j->obj)
		os_memobj_free(j->obj);
	free(j->trans);
	jit_check_free(j);
	free(j);
	c->jit = NULL;
}
