/* SPDX-License-Identifier: MIT */
/*
 * Bytes from a peer, cut into pieces wherever a byte 0xfe stands (each piece after the first comes
 * with one descriptor): no descriptor may be lost or invented, and no message may be longer than
 * the limit.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/ctl/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int lowest_fd(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(fd);
	return fd;
}

static const struct js_field fields[] = {{"lun", JS_U64, .required = true, .max = 255},
	{"ro", JS_BOOL}, {"name", JS_STR, .max = 64}, {"list", JS_ARRAY, .max = 4}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ctl_in in = {0};
	const uint8_t *end = data + size;
	int before = lowest_fd();
	bool first = true;

	while (data < end) {
		const uint8_t *cut = memchr(data, 0xfe, (size_t)(end - data));
		size_t n = (size_t)((cut ? cut : end) - data);
		int fd = first ? -1 : open("/dev/null", O_RDONLY | O_CLOEXEC);
		int r = ctl_in_feed(&in, data, n, &fd, first ? 0 : 1);

		first = false;
		data = cut ? cut + 1 : end;
		while (r >= 0) {
			struct json_object *o;
			struct ctl_fds fds;
			struct err e = {0};

			r = ctl_in_next(&in, &o, &fds);
			if (r <= 0)
				break;
			js_check(js_get(o, "params"), fields, ARRAY_LEN(fields), &e);
			js_str(o, "method", "");
			ctl_reply_error(o, &e);
			ctl_fds_close(&fds);
			js_free(o);
		}
		if (r < 0)
			break;
	}
	ctl_in_done(&in);
	if (lowest_fd() != before)
		abort();
	return 0;
}
