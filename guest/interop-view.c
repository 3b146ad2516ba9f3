/* SPDX-License-Identifier: MIT */
/* What a distribution sees of interop in its file system. Nothing here is on its disk but links in /usr/bin. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>
#include "guest/interop.h"
#include "guest/tools.h"
#include "lib/base/io.h"
#include "lib/base/log.h"

#define PROGRAM TOOLS_DIR "/wslx-init"

/* A copy for each distribution: the pages are its own, as is the damage its root can do to them. */
static int copy_program(void)
{
	cleanup_close int in = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	cleanup_close int out =
		open(PROGRAM, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0755);
	ssize_t n;

	if (in < 0 || out < 0)
		return -errno;
	do
		n = sendfile(out, in, NULL, 1 << 20);
	while (n > 0);
	return n < 0 ? -errno : fchmod(out, 0555) < 0 ? -errno : 0;
}

/*
 * /usr/bin has the names too, as in WSL, so that programs with a search path of their own find them; a distribution whose
 * root is read-only, or that has something else there, does without.
 */
static void link_tools(void)
{
	char at[64], to[64], old[64];

	for (const char *const *name = tools_names; *name; name++) {
		snprintf(at, sizeof(at), TOOLS_DIR "/%s", *name);
		if (symlink("wslx-init", at) < 0)
			log_warn("interop", "create %s: %s", at, strerror(errno));
		snprintf(to, sizeof(to), "/usr/bin/%s", *name);
		if (symlink(at, to) < 0 && errno == EEXIST) {
			ssize_t n = readlink(to, old, sizeof(old));

			if (n != (ssize_t)strlen(at) || memcmp(old, at, (size_t)n) != 0)
				log_info("interop", "%s is the distribution's own", to);
		}
	}
}

/* Puts a text over a file of proc. */
static void cover(const char *path, const char *name, const char *text)
{
	char at[64];
	int r;

	snprintf(at, sizeof(at), INFO_DIR "/%s", name);
	r = io_replace_file(at, text, strlen(text), 0444);
	if (r == 0 && mount(at, path, NULL, MS_BIND, NULL) < 0)
		r = -errno;
	if (r < 0)
		log_warn("interop", "cover %s: %s", path, strerror(-r));
}

/* Programs that look for WSL find "microsoft" and "WSL2" in these. */
static void look_like_wsl(void)
{
	static const char mark[] = "-microsoft-standard-WSL2";
	cleanup_free char *version = NULL, *release = NULL;
	char text[1024];
	size_t n;
	char *p;

	if (io_read_file("/proc/sys/kernel/osrelease", 256, &release, NULL) < 0 ||
		io_read_file("/proc/version", 800, &version, NULL) < 0)
		return;
	release[strcspn(release, "\n")] = '\0';
	p = strstr(version, release);
	if (p) {
		n = (size_t)(p - version) + strlen(release);
		snprintf(text, sizeof(text), "%.*s%s%s", (int)n, version, mark, version + n);
		cover("/proc/version", "version", text);
	}
	snprintf(text, sizeof(text), "%s%s\n", release, mark);
	cover("/proc/sys/kernel/osrelease", "osrelease", text);
}

void interop_view(const struct distro_spec *spec, const struct info *info)
{
	int r = io_mkdir_p(TOOLS_DIR, 0755);

	if (r == 0)
		r = copy_program();
	if (r < 0)
		log_warn(spec->name, "create %s: %s", PROGRAM, strerror(-r));
	else
		link_tools();
	r = info_write(info);
	if (r < 0)
		log_warn(spec->name, "write %s: %s", INFO_FILE, strerror(-r));
	if (spec->wsl_compat)
		look_like_wsl();
}

void interop_protect_binfmt(void)
{
	static const char status[] = BINFMT_DIR "/status";
	struct err e = {0};

	if (mount_at("binfmt_misc", BINFMT_DIR, "binfmt_misc", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		    NULL, &e) < 0)
		log_warn("interop", "%s", e.text);
	else if (mount(status, status, NULL, MS_BIND, NULL) < 0 ||
		 mount(NULL, status, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) < 0)
		log_warn("interop", "make %s read-only: %s", status, strerror(errno));
}

/* A file name that may stand in a folder of ours. */
static bool name_ok(const char *name)
{
	if (!*name || *name == '.')
		return false;
	for (; *name; name++)
		if (*name == '/' || (unsigned char)*name < ' ' || *name == 127)
			return false;
	return true;
}

int interop_stubs(const char *dir, const struct wire_msg *m)
{
	static const char stub[] = WSLX_STUB_MAGIC "\nA program of the host: wslx-run(1).\n";
	struct wire_attr a;
	char path[512], name[256];
	int r, n = 0;

	/* A file system of its own: what the host has is not to stay on the distribution's disk. */
	r = mount_at("programs", dir, "tmpfs", MS_NOSUID | MS_NODEV,
		"mode=755,size=1m,nr_inodes=8k", NULL);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%.256s/.stub", dir);
	r = io_replace_file(path, stub, sizeof(stub) - 1, 0555);
	if (r < 0)
		return r;
	for (size_t pos = 0; wire_next(m, &pos, &a);) {
		if (a.tag != WSLX_A_NAME || a.len >= sizeof(name) || memchr(a.data, 0, a.len))
			continue;
		memcpy(name, a.data, a.len);
		name[a.len] = '\0';
		if (!name_ok(name))
			continue;
		snprintf(path, sizeof(path), "%.200s/%s", dir, name);
		n += symlink(".stub", path) == 0;
	}
	return n;
}
