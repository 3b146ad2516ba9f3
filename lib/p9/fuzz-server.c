/* SPDX-License-Identifier: MIT */
/* A client says anything: the server answers or ends, and stays in its folder and in its memory. */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/le.h"
#include "lib/fs/host.h"
#include "lib/p9/server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int root = -1;
static char dir[64] = "/tmp/wslx-fuzz-p9.XXXXXX";

static void remove_dir(void)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (system(cmd) != 0)
		abort();
}

static void set_up(void)
{
	const struct rlimit small = {1 << 20, 1 << 20};

	if (!mkdtemp(dir) || atexit(remove_dir))
		abort();
	root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	signal(SIGXFSZ, SIG_IGN);
	if (root < 0 || setrlimit(RLIMIT_FSIZE, &small) < 0 || mkdirat(root, "d", 0700) < 0)
		abort();
	close(openat(root, "f", O_WRONLY | O_CREAT, 0600));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t out[P9_MSIZE_MAX];
	const struct fs_cred cred = {.uid = geteuid(), .gid = getegid()};
	struct p9_server *s;
	struct fs *fs;

	if (root < 0)
		set_up();
	if (fs_host_new(&fs, root, NULL, NULL) < 0 || p9_server_new(&s, fs, &cred, fs_host_fd) < 0)
		abort();
	while (size >= P9_HEADER) {
		int n = p9_size(data, size), r;

		if (n < 0)
			break;
		r = p9_server_handle(s, data, (size_t)n, out);
		if (r < 0)
			break;
		/* What it says is a message, for the request. */
		if (r < P9_HEADER || p9_size(out, sizeof(out)) != r ||
			le16_get(out + 5) != le16_get(data + 5))
			abort();
		data += n;
		size -= (size_t)n;
	}
	p9_server_free(s);
	fs->ops->free(fs);
	return 0;
}
