/* SPDX-License-Identifier: MIT */
/*
 * A container image: the input is {u8 form, u16 length of the JSON, JSON, a layer}. The JSON is manifest.json's or
 * index.json's; the layer's name is "l", the configuration's "c". It is imported into a small disk in memory, or refused.
 */
#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>
#include "lib/base/attr.h"
#include "lib/base/le.h"
#include "lib/image/fuzz-rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put(struct archive *a, const char *path, const void *data, size_t len)
{
	struct archive_entry *n = archive_entry_new();

	archive_entry_set_pathname(n, path);
	archive_entry_set_mode(n, S_IFREG | 0644);
	archive_entry_set_size(n, (int64_t)len);
	if (archive_write_header(a, n) != ARCHIVE_OK ||
		archive_write_data(a, data, len) != (la_ssize_t)len)
		abort();
	archive_entry_free(n);
}

static void pack(int fd, const uint8_t *data, size_t size)
{
	struct archive *a = archive_write_new();
	size_t json = MIN(le16_get(data + 1), size - 3);

	archive_write_set_format_ustar(a);
	if (archive_write_open_fd(a, fd) != ARCHIVE_OK)
		abort();
	put(a, data[0] & 1 ? "index.json" : "manifest.json", data + 3, json);
	put(a, "c", "{\"rootfs\":{}}", 13);
	put(a, "l", data + 3 + json, size - 3 - json);
	archive_write_close(a);
	archive_write_free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int in = fuzz_archive();

	if (size < 3)
		return 0;
	pack(in, data, size);
	fuzz_import(in);
	return 0;
}
