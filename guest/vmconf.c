/* SPDX-License-Identifier: MIT */
#include "guest/vmconf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/attr.h"

static void set_bool(bool *b, const char *v)
{
	if (!strcmp(v, "0") || !strcmp(v, "1"))
		*b = *v == '1';
}

static void set(struct vmconf *c, const char *name, const char *v)
{
	static const char *const reclaims[] = {[VM_RECLAIM_GRADUAL] = "gradual",
		[VM_RECLAIM_DROP] = "drop",
		[VM_RECLAIM_OFF] = "off"};
	char *end;

	if (!strcmp(name, "isolate")) {
		set_bool(&c->isolate, v);
	} else if (!strcmp(name, "crash")) {
		set_bool(&c->crash, v);
	} else if (!strcmp(name, "reclaim")) {
		for (unsigned i = 0; i < ARRAY_LEN(reclaims); i++)
			if (!strcmp(v, reclaims[i]))
				c->reclaim = (enum vm_reclaim)i;
	} else if (!strcmp(name, "modules")) {
		unsigned long lun = strtoul(v, &end, 10);

		if (end != v && !*end && lun < 256)
			c->modules_lun = (uint32_t)lun;
	} else if (!strcmp(name, "load") && strlen(v) < sizeof(c->load)) {
		strcpy(c->load, v);
	}
}

void vmconf_parse(const char *cmdline, struct vmconf *ret)
{
	static const char prefix[] = "wslx.";
	char word[1100];

	*ret = (struct vmconf){.isolate = true, .crash = true, .modules_lun = VMCONF_NO_LUN};
	for (const char *p = cmdline; *p;) {
		size_t n = strcspn(p, " \t\n");
		char *eq;

		if (n > strlen(prefix) && n < sizeof(word) && !strncmp(p, prefix, strlen(prefix))) {
			memcpy(word, p, n);
			word[n] = '\0';
			eq = strchr(word, '=');
			if (eq) {
				*eq = '\0';
				set(ret, word + strlen(prefix), eq + 1);
			}
		}
		p += n;
		p += strspn(p, " \t\n");
	}
}
