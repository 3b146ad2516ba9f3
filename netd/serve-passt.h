/* SPDX-License-Identifier: MIT */
/*
 * wslx-netd's other way to make the guest's connections: frames go to passt and come from it. The name server is ours
 * (dns.h). On the control socket: "device", "nameservers" and "status", as in serve.h.
 */
#ifndef WSLX_NETD_SERVE_PASST_H
#define WSLX_NETD_SERVE_PASST_H

#include "netd/device.h"
#include "netd/stack.h"

struct serve_passt;

/*
 * control: a socket that listens, passt: passt_start()'s; both taken over, also on failure. The loop ends when passt does, as
 * an error: nobody here may start another one, wslxd starts us both anew.
 */
int serve_passt_new(struct serve_passt **ret, struct loop *l, int control, int passt,
	const struct stack_config *net, const struct device_config *dev, struct err *e);
void serve_passt_free(struct serve_passt *s);

#endif
