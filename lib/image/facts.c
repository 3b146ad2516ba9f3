/* SPDX-License-Identifier: MIT */
#include "lib/image/facts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/conf/conf.h"
#include "lib/image/ext4-read.h"

/* A value of os-release: plain, or in quotes of one kind, with backslashes before " $ ` \ in double ones. */
static void take_value(const char *p, size_t len, char *out, size_t cap)
{
	char quote = len && (*p == '"' || *p == '\'') ? *p : 0;
	size_t n = 0;

	for (size_t i = quote != 0; i < len && n < cap - 1 && p[i] != quote; i++) {
		if (p[i] == '\\' && quote != '\'' && i + 1 < len)
			i++;
		if ((unsigned char)p[i] < ' ' || p[i] == 0x7f)
			break;
		out[n++] = p[i];
	}
	while (!quote && n && out[n - 1] == ' ')
		n--;
	out[n] = '\0';
}

void facts_parse_os_release(const char *text, size_t len, struct image_facts *ret)
{
	while (len) {
		const char *end = memchr(text, '\n', len);
		size_t line = end ? (size_t)(end - text) : len;

		if (line > 3 && !memcmp(text, "ID=", 3))
			take_value(text + 3, line - 3, ret->flavor, sizeof(ret->flavor));
		else if (line > 11 && !memcmp(text, "VERSION_ID=", 11))
			take_value(text + 11, line - 11, ret->version, sizeof(ret->version));
		line += end != NULL;
		text += line;
		len -= line;
	}
}

static void on_setting(
	void *ctx, const char *section, const char *key, const char *value, unsigned line)
{
	struct image_facts *f = ctx;
	int64_t n;

	if (strcasecmp(section, "oobe") != 0)
		return;
	if (!strcasecmp(key, "command"))
		f->oobe = *value != '\0';
	else if (!strcasecmp(key, "defaultName") && strlen(value) < sizeof(f->name))
		strcpy(f->name, value);
	else if (!strcasecmp(key, "defaultUid") && conf_int(value, &n) == 0 && n >= 0 &&
		 n < UINT32_MAX) {
		f->uid = (uint32_t)n;
		f->has_uid = true;
	}
}

static void ignore_warning(void *ctx, unsigned line, const char *text)
{
}

void facts_parse_distribution(const char *text, size_t len, struct image_facts *ret)
{
	conf_parse(text, len, on_setting, ignore_warning, ret);
}

int facts_check_root(bool has_etc, bool has_sh, struct err *e)
{
	if (has_etc || has_sh)
		return 0;
	return err_set(e, -EINVAL, "not a root file system: there is neither /etc nor /bin/sh");
}

/* 0: there; -ENOENT: not there. A damaged disk is for e2fsck and the kernel to complain of, once it is asked for. */
static int find(
	struct ext4_reader *x, const char *path, unsigned type, struct ext4_file *f, struct err *e)
{
	int r = ext4_reader_find(x, path, f, e);

	if (r == 0 && type && (f->attr.mode & S_IFMT) != type)
		return -ENOENT;
	return r;
}

static int parse(struct ext4_reader *x, const char *const *paths,
	void (*fn)(const char *, size_t, struct image_facts *), struct image_facts *ret,
	struct err *e)
{
	cleanup_free char *text = NULL;
	struct ext4_file f;
	size_t len;
	int r = -ENOENT;

	for (; *paths && r == -ENOENT; paths++)
		r = find(x, *paths, S_IFREG, &f, e);
	if (r == 0)
		r = ext4_reader_load(x, &f, FACTS_FILE_MAX, &text, &len, e);
	if (r == 0)
		fn(text, len, ret);
	return r == -ENOENT ? 0 : r;
}

int facts_of_disk(const struct disk_read *disk, struct image_facts *ret, struct err *e)
{
	static const char *const release[] = {"etc/os-release", "usr/lib/os-release", NULL};
	static const char *const distribution[] = {"etc/wsl-distribution.conf", NULL};
	static const char *const sh[] = {"bin/sh", "usr/bin/sh"};
	struct ext4_reader *x = NULL;
	struct ext4_file f;
	struct image_info info;
	bool has_etc = false, has_sh = false;
	int r = disk_read_probe(disk, &info);

	if (r == 0 && info.kind == IMAGE_EXT4 && info.needs_recovery)
		return 0;
	if (r == 0)
		r = ext4_reader_open(&x, disk, e);
	else
		err_sys(e, r, "read the disk");
	if (r == 0) {
		r = find(x, "etc", S_IFDIR, &f, e);
		has_etc = r == 0;
	}
	for (unsigned i = 0; i < ARRAY_LEN(sh) && (r == 0 || r == -ENOENT) && !has_sh; i++) {
		r = find(x, sh[i], 0, &f, e);
		has_sh = r == 0;
	}
	if (r == 0 || r == -ENOENT)
		r = facts_check_root(has_etc, has_sh, e);
	if (r == 0)
		r = parse(x, release, facts_parse_os_release, ret, e);
	if (r == 0)
		r = parse(x, distribution, facts_parse_distribution, ret, e);
	ext4_reader_free(x);
	return r;
}
