/* SPDX-License-Identifier: MIT */
/*
 * The KVM back end where it can be tested without a KVM that works: what is said when there is none. What needs one is
 * in test-kvm-guest.c.
 */
#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "lib/base/test.h"
#include "vmm/cpu/kvm/kvm.h"

TEST(no_such_device)
{
	struct err e = {0};
	int fd = -1;

	CHECK_EQ(kvm_open(&fd, "/nonexistent/kvm", &e), -ENOENT);
	CHECK(strstr(e.text, "no hardware virtualization"));
	CHECK_EQ(fd, -1);
}

TEST(another_device)
{
	struct err e = {0};
	int fd = -1;

	CHECK_EQ(kvm_open(&fd, "/dev/null", &e), -EOPNOTSUPP);
	CHECK(strstr(e.text, "does not speak KVM"));
	CHECK_EQ(fd, -1);
}

TEST(no_permission)
{
	char path[] = "/tmp/wslx-test-kvm.XXXXXX";
	int f = mkstemp(path), status;
	pid_t pid;

	REQUIRE(f >= 0 && fchmod(f, 0) == 0);
	close(f);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		struct err e = {0};
		int fd = -1;

		if (getuid() == 0 && setresuid(65534, 65534, 65534) < 0)
			_exit(1);
		_exit(kvm_open(&fd, path, &e) == -EACCES && strstr(e.text, "permission denied") &&
					strstr(e.text, "group")
				? 0
				: 2);
	}
	REQUIRE(pid > 0 && waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
	unlink(path);
}

/* Whatever this machine's KVM is: an answer, with a reason when it is no. */
TEST(probe_answers)
{
	struct err e = {0};
	int r = cpu_kvm_ops.probe(&e);

	printf("# probe: %s\n", r == 0 ? "usable" : e.text);
	CHECK(r <= 0);
	CHECK((r == 0) == (e.text[0] == '\0'));
	CHECK_EQ(e.code, r);
}

TEST_MAIN()
