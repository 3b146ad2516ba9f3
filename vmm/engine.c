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
	const struct cpu_ops *kvm = NULL, *soft = NULL;
	struct err why = {0};
	int r;

#ifdef WSLX_HAVE_KVM
	kvm = &cpu_kvm_ops;
#endif
#ifdef WSLX_HAVE_SOFT
	soft = &cpu_soft_ops;
#endif
	if (kind != ENGINE_SOFT) {
		if (!kvm)
			r = err_set(&why, -ENOSYS, "this build has no KVM engine");
		else
			r = probe(kvm, &why);
		if (r == 0) {
			*ret = kvm;
			err_set(reason, 0, "%s",
				kind == ENGINE_AUTO ? "KVM works here" : "asked for");
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
	if (!soft)
		return err_set(e, -ENOSYS, "engine soft: this build has none (%s)", reason->text);
	r = probe(soft, e);
	if (r < 0)
		return err_wrap(e, r, "engine soft");
	*ret = soft;
	return 0;
}
