/* SPDX-License-Identifier: MIT */
/*
 * Our test harness: TAP on stdout, one file a test program, no dependency (runs in a guest under
 *musl too).
 *
 *	TEST(queue_wraps) { CHECK_EQ(f(), 3); }
 *	TEST_MAIN()
 *
 * A failed CHECK prints where and what, fails its test and goes on; REQUIRE leaves the test. Each
 *test has a time limit (60 s, or TEST_TIMEOUT_S) after which the program is killed: a test cannot
 *hang.
 */
#ifndef WSLX_BASE_TEST_H
#define WSLX_BASE_TEST_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef TEST_TIMEOUT_S
#define TEST_TIMEOUT_S 60
#endif

struct test_case {
	const char *name;
	void (*fn)(void);
	struct test_case *next;
};

static struct test_case *test_list, **test_tail = &test_list;
static int test_failed_checks;

#define TEST(id)                                                                                   \
	static void test_fn_##id(void);                                                            \
	static struct test_case test_case_##id = {#id, test_fn_##id, NULL};                        \
	__attribute__((constructor)) static void test_reg_##id(void)                               \
	{                                                                                          \
		*test_tail = &test_case_##id;                                                      \
		test_tail = &test_case_##id.next;                                                  \
	}                                                                                          \
	static void test_fn_##id(void)

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			printf("# %s:%d: failed: %s\n", __FILE__, __LINE__, #cond);                \
			test_failed_checks++;                                                      \
		}                                                                                  \
	} while (0)

#define REQUIRE(cond)                                                                              \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			printf("# %s:%d: failed: %s\n", __FILE__, __LINE__, #cond);                \
			test_failed_checks++;                                                      \
			return;                                                                    \
		}                                                                                  \
	} while (0)

#define CHECK_EQ(a, b)                                                                             \
	do {                                                                                       \
		long long a_ = (long long)(a), b_ = (long long)(b);                                \
		if (a_ != b_) {                                                                    \
			printf("# %s:%d: %s is %lld (0x%llx), want %s = %lld (0x%llx)\n",          \
				__FILE__, __LINE__, #a, a_, (unsigned long long)a_, #b, b_,        \
				(unsigned long long)b_);                                           \
			test_failed_checks++;                                                      \
		}                                                                                  \
	} while (0)

#define CHECK_STR(a, b)                                                                            \
	do {                                                                                       \
		const char *a_ = (a), *b_ = (b);                                                   \
		if (!a_ || !b_ || strcmp(a_, b_) != 0) {                                           \
			printf("# %s:%d: %s is \"%s\", want \"%s\"\n", __FILE__, __LINE__, #a,     \
				a_ ? a_ : "(null)", b_ ? b_ : "(null)");                           \
			test_failed_checks++;                                                      \
		}                                                                                  \
	} while (0)

/* With an argument, only the tests whose name contains it run. */
static inline int test_main(int argc, char **argv)
{
	int n = 0, bad = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (struct test_case *t = test_list; t; t = t->next) {
		if (argc > 1 && !strstr(t->name, argv[1]))
			continue;
		test_failed_checks = 0;
		alarm(TEST_TIMEOUT_S);
		t->fn();
		alarm(0);
		printf("%sok %d - %s\n", test_failed_checks ? "not " : "", ++n, t->name);
		bad += test_failed_checks != 0;
	}
	printf("1..%d\n", n);
	return bad != 0;
}

#define TEST_MAIN()                                                                                \
	int main(int argc, char **argv)                                                            \
	{                                                                                          \
		return test_main(argc, argv);                                                      \
	}

#endif
