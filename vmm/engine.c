/* SPDX-License-Identifier: MIT */
#include "vmm/engine.h"

#include <errno.h>

static int probe(const struct cpu_ops *ops, struct err *e)
{
	return ops->probe ? ops->probe(e) : 0;
}

int engine_choose(
	enum engine_kind kind, const struct cpu_ops **ret, struct err *reason, struct err *e)
{
	struct err why = {0};
	int r;

	if (kind != ENGINE_SOFT) {
		r = probe(&cpu_kvm_ops, &why);
		if (r == 0) {
			*ret = &cpu_kvm_ops;
			err_set(reason, 0, "%s",
				kind == ENGINE_AUTO ? "KVM works here" : "asked for");
			return 0;
		}
		/* Correct but slow is the user's to choose. */
		if (r == -ETIME && kind == ENGINE_KVM) {
			*ret = &cpu_kvm_ops;
			err_set(reason, 0, "asked for, although %s", why.text);
			return 0;
		}
		if (kind == ENGINE_KVM) {
			if (e)
				*e = why;
			return err_wrap(e, r, "engine kvm");
		}
		err_set(reason, 0, "%s", why.text);
	} else {
		err_set(reason, 0, "asked for");
	}
	r = probe(&cpu_soft_ops, e);
	if (r < 0)
		return err_wrap(e, r, "engine soft");
	*ret = &cpu_soft_ops;
	return 0;
}
