/* SPDX-License-Identifier: MIT */
/* Whatever a distribution says about itself: what is taken from it is in range, and warnings are printable. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "guest/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct warnings *w)
{
	if (w->n > WARN_MAX)
		abort();
	for (unsigned i = 0; i < w->n; i++) {
		if (strlen(w->text[i]) >= WARN_LEN)
			abort();
		for (const char *p = w->text[i]; *p; p++)
			if ((unsigned char)*p < 0x20 || *p == 0x7f)
				abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct warnings w;
	struct wsl_conf c;
	struct oobe_conf o;

	memset(&w, 0, sizeof(w));
	wsl_conf_parse((const char *)data, size, &c, &w);
	if (c.umask < 0 || c.umask > 0777 || c.init_timeout_ms < 0 || (c.user && !*c.user) ||
		(c.command && !*c.command) ||
		(c.hostname && (!*c.hostname || strlen(c.hostname) > 64)))
		abort();
	wsl_conf_done(&c);
	oobe_conf_parse((const char *)data, size, &o, &w);
	if (o.uid < -1 || o.uid >= UINT32_MAX)
		abort();
	oobe_conf_done(&o);
	check(&w);
	return 0;
}
