/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "lib/base/checked.h"
#include "lib/base/crc32c.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/base/io.h"
#include "lib/base/le.h"

TEST(err_chain_reads_from_outside_in)
{
	struct err e = {0};

	CHECK_EQ(err_sys(&e, -ENOSPC, "write %s", "disk"), -ENOSPC);
	CHECK_EQ(err_wrap(&e, -ENOSPC, "import %s", "debian"), -ENOSPC);
	CHECK_STR(e.text, "import debian: write disk: No space left on device");
	CHECK_EQ(e.code, -ENOSPC);
}

TEST(err_wrap_without_inner_text_uses_strerror)
{
	struct err e = {0};

	err_wrap(&e, -ENOENT, "open");
	CHECK_STR(e.text, "open: No such file or directory");
	CHECK_EQ(err_set(NULL, -EIO, "ignored"), -EIO);
	e.code = 0;
	err_wrap(&e, -EUCLEAN, "mount");
	CHECK_STR(e.text, "mount: the file system is damaged");
}

TEST(range_ok_catches_wraps)
{
	CHECK(range_ok(0, 10, 10));
	CHECK(range_ok(10, 0, 10));
	CHECK(!range_ok(11, 0, 10));
	CHECK(!range_ok(5, UINT64_MAX, 10));
	CHECK(!range_ok(UINT64_MAX, 2, 10));
}

TEST(iov_copies_across_pieces)
{
	char a[3] = "abc", b[4] = "defg", out[8] = "";
	struct iovec iov[] = {{a, 3}, {b, 4}}, *p = iov;
	unsigned n = 2;

	CHECK_EQ(iov_size(iov, 2), 7);
	CHECK_EQ(iov_to_buf(iov, 2, 2, out, 3), 3);
	CHECK_STR(out, "cde");
	CHECK_EQ(iov_to_buf(iov, 2, 6, out, 8), 1);
	CHECK_EQ(iov_from_buf(iov, 2, 2, "XY", 2), 2);
	CHECK(a[2] == 'X' && b[0] == 'Y');
	iov_advance(&p, &n, 4);
	CHECK_EQ(n, 1);
	CHECK_EQ(p->iov_len, 3);
}

TEST(replace_file_keeps_mode_and_leaves_no_temporary)
{
	char dir[] = "/tmp/wslx-test.XXXXXX", path[64], cmd[96];
	cleanup_free char *text = NULL;
	struct stat st;
	size_t len;

	REQUIRE(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/f", dir);
	CHECK_EQ(io_replace_file(path, "one", 3, 0640), 0);
	CHECK_EQ(io_replace_file(path, "second", 6, 0600), 0);
	CHECK_EQ(io_read_file(path, 100, &text, &len), 0);
	CHECK_EQ(len, 6);
	CHECK_STR(text, "second");
	REQUIRE(stat(path, &st) == 0);
	CHECK_EQ(st.st_mode & 0777, 0600);
	char *none = NULL;
	CHECK_EQ(io_read_file(path, 3, &none, NULL), -EFBIG);
	snprintf(cmd, sizeof(cmd), "test $(ls -A %s | wc -l) = 1 && rm -r %s", dir, dir);
	CHECK_EQ(system(cmd), 0);
}

TEST(descriptors_travel_over_a_socket)
{
	int sv[2], fds[2] = {-1, -1}, p[2];
	unsigned n = 2;
	char c = 0;

	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0 && pipe(p) == 0);
	CHECK_EQ(io_send_fds(sv[0], "x", 1, p, 2), 1);
	CHECK_EQ(io_recv_fds(sv[1], &c, 1, fds, &n), 1);
	REQUIRE(n == 2);
	CHECK(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
	CHECK_EQ(io_write_full(fds[1], "q", 1), 0);
	CHECK_EQ(io_read_full(p[0], &c, 1), 0);
	CHECK(c == 'q');
	/* One more than asked for is closed, not leaked into the array. */
	CHECK_EQ(io_send_fds(sv[0], "y", 1, p, 2), 1);
	n = 1;
	CHECK_EQ(io_recv_fds(sv[1], &c, 1, fds, &n), 1);
	CHECK_EQ(n, 1);
}

TEST(as_much_as_there_is_before_the_end)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	char buf[8];

	REQUIRE(fd >= 0 && pwrite(fd, "abcdef", 6, 0) == 6);
	CHECK_EQ(io_pread(fd, buf, 4, 1), 4);
	CHECK(memcmp(buf, "bcde", 4) == 0);
	CHECK_EQ(io_pread(fd, buf, sizeof(buf), 4), 2);
	CHECK_EQ(io_pread(fd, buf, sizeof(buf), 6), 0);
	close(fd);
	CHECK_EQ(io_pread(fd, buf, 1, 0), -EBADF);
}

TEST(unix_sockets_with_a_path_beyond_sun_path)
{
	char dir[] = "/tmp/wslx-test.XXXXXX", path[300], cmd[64];

	REQUIRE(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/%0120d", dir, 0);
	REQUIRE(io_mkdir_p(path, 0700) == 0);
	strcat(path, "/sock");
	cleanup_close int l = io_unix_listen(path, 1);
	CHECK(l >= 0);
	cleanup_close int c = io_unix_connect(path);
	CHECK(c >= 0);
	struct stat st;
	REQUIRE(stat(path, &st) == 0);
	CHECK_EQ(st.st_mode & 0777, 0600);
	snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	CHECK_EQ(system(cmd), 0);
}

TEST(big_and_little_endian)
{
	uint8_t b[8];

	le32_put(b, 0x11223344);
	CHECK_EQ(b[0], 0x44);
	CHECK_EQ(be32_get(b), 0x44332211);
	be64_put(b, 1);
	CHECK_EQ(b[7], 1);
	CHECK_EQ(le16_get(b + 6), 0x0100);
}

/* RFC 3720 appendix B.4, and that both ways agree at any length and alignment. */
TEST(crc32c)
{
	static uint8_t buf[300];

	CHECK_EQ(crc32c(0, "123456789", 9), 0xe3069283);
	CHECK_EQ(crc32c(0, buf, 32), 0x8a9136aa);
	CHECK_EQ(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 31 + i / 7);
	for (unsigned at = 0; at < 9; at++)
		for (unsigned len = 0; at + len <= sizeof(buf); len += 13)
			CHECK_EQ(crc32c(len, buf + at, len), crc32c_by_table(len, buf + at, len));
}

TEST_MAIN()
