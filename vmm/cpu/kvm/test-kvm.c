/* SPDX-License-Identifier: MIT */
/*
 * The KVM back end where it can be tested without a KVM that works: what is said when there is none. What needs one is
 * in test-kvm-guest.c.
 */
#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <stdlib.h>
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

static struct kvm_cpuid_entry2 *leaf(struct kvm_cpuid2 *c, uint32_t function)
{
	for (unsigned i = 0; i < c->nent; i++)
		if (c->entries[i].function == function)
			return &c->entries[i];
	return NULL;
}

static struct kvm_cpuid2 *everything(uint32_t leaf1_ecx)
{
	const uint32_t functions[] = {0x1, 0x7, 0x80000001};
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + ARRAY_LEN(functions) * sizeof(c->entries[0]));

	if (!c)
		abort();
	for (unsigned i = 0; i < ARRAY_LEN(functions); i++)
		c->entries[c->nent++] = (struct kvm_cpuid_entry2){
			.function = functions[i], .eax = ~0u, .ebx = ~0u, .ecx = ~0u, .edx = ~0u};
	c->entries[0].ecx = leaf1_ecx;
	return c;
}

/* cksum looks at AVX's bit alone, and died where the host named AVX without XSAVE. */
TEST(illegal_instruction_on_a_host_with_avx_but_no_xsave)
{
	cleanup_free struct kvm_cpuid2 *with = everything(~0u);
	cleanup_free struct kvm_cpuid2 *without = everything(~(UINT32_C(1) << 26));
	const uint32_t avx = 1u << 12 | 1u << 28 | 1u << 29, pclmulqdq = 1u << 1;

	kvm_cpuid_filter(with, 1);
	kvm_cpuid_filter(without, 1);
	CHECK_EQ(leaf(with, 0x1)->ecx & avx, avx);
	CHECK_EQ(leaf(without, 0x1)->ecx & avx, 0);
	CHECK_EQ(leaf(without, 0x1)->ecx & pclmulqdq, pclmulqdq);
	CHECK(leaf(with, 0x7)->ebx & 1u << 5);
	CHECK_EQ(leaf(without, 0x7)->ebx & (1u << 5 | 1u << 16), 0);
	CHECK(leaf(without, 0x7)->ebx & 1u << 8); /* BMI2 needs no state of its own */
	CHECK_EQ(leaf(without, 0x7)->ecx & (1u << 9 | 1u << 10), 0);
	CHECK_EQ(leaf(without, 0x80000001)->ecx & (1u << 11 | 1u << 16), 0);
}

TEST_MAIN()
