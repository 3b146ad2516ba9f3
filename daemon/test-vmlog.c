/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include "daemon/vmlog.h"

static const char *panic(const char *text, size_t len)
{
	static char buf[400];

	return vmlog_panic(text, len, buf, sizeof(buf)) ? buf : "none";
}
#define PANIC(text) panic(text, sizeof(text) - 1)

TEST(a_panic_is_found)
{
	CHECK_STR(PANIC("[    1.0] sysrq: Trigger a crash\r\n"
			"[    1.1] Kernel panic - not syncing: sysrq triggered crash\r\n"
			"[    1.1] CPU: 0 PID: 1\r\n"),
		"kernel panic: sysrq triggered crash");
	CHECK_STR(PANIC("Kernel panic - not syncing: first\nKernel panic - not syncing: second\n"),
		"kernel panic: second");
}

TEST(what_led_to_it_is_told_too)
{
	CHECK_STR(PANIC("[ 1] BUG: kernel NULL pointer dereference, address: 0000000000000010\n"
			"[ 1] Oops: 0000 [#1] SMP\n"
			"[ 2] Kernel panic - not syncing: Fatal exception\n"
			"[ 3] BUG: after it\n"),
		"kernel panic: Fatal exception (BUG: kernel NULL pointer dereference, address: 0000000000000010)");
}

TEST(a_console_without_one_has_none)
{
	CHECK_STR(PANIC(""), "none");
	CHECK_STR(PANIC("[ 0.1] Linux version\nreboot: Restarting system\n"), "none");
	CHECK_STR(PANIC("Kernel panic - not sync"), "none");
}

TEST(what_a_guest_writes_stays_one_short_printable_line)
{
	char text[8000];
	const char *p;

	CHECK_STR(PANIC("Kernel panic - not syncing: a\x1b[31mb\0c\n"), "kernel panic: a?[31mb");
	memset(text, 'x', sizeof(text));
	memcpy(text, "Kernel panic - not syncing: ", 28);
	p = panic(text, sizeof(text));
	CHECK_EQ(strlen(p), 14 + 120);
}

TEST_MAIN()
