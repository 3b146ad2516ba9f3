/* SPDX-License-Identifier: MIT */
#include "vmm/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/test.h"
#include "vmm/dump.h"

enum { CODE = 0x1000 };

static void on_end(void *ctx, enum vm_end why)
{
}

/* Paused; its guest only loops. */
static struct vm *paused(struct loop *l)
{
	struct vm_config cfg = {
		.cpu = &cpu_soft_ops, .ram_size = 2 << 20, .vcpus = 1, .loop = l, .on_end = on_end};
	struct cpu_state s;
	struct vm *vm;

	if (vm_new(&vm, &cfg, NULL) < 0 || vm_create_vcpus(vm, NULL) < 0 ||
		vm_get_boot_state(vm, &s) < 0)
		abort();
	memcpy(gmem_ptr(vm_gmem(vm), CODE, 2), "\xeb\xfe", 2);
	s.seg[CPU_CS].selector = 0;
	s.seg[CPU_CS].base = 0;
	s.rip = CODE;
	if (vm_set_boot_state(vm, &s) < 0 || vm_start(vm, NULL) < 0 || vm_pause(vm) < 0)
		abort();
	return vm;
}

TEST(an_image_is_not_mixed_with_what_the_file_held)
{
	static int (*const write_image[])(struct vm *, int, struct err *) = {
		snapshot_save, dump_write};
	struct loop *l;
	struct vm *vm;

	REQUIRE(loop_new(&l) == 0);
	vm = paused(l);
	for (unsigned i = 0; i < ARRAY_LEN(write_image); i++) {
		int fresh = memfd_create("fresh", MFD_CLOEXEC),
		    used = memfd_create("used", MFD_CLOEXEC);
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);
		struct err e = {0};
		struct stat st;
		char buf[4] = "";

		REQUIRE(fresh >= 0 && null >= 0 && pwrite(used, "old", 3, 0) == 3);
		CHECK_EQ(write_image[i](vm, used, &e), -EINVAL);
		CHECK(strstr(e.text, "empty regular file"));
		CHECK(fstat(used, &st) == 0 && st.st_size == 3);
		CHECK_EQ(pread(used, buf, 3, 0), 3);
		CHECK_STR(buf, "old");
		CHECK_EQ(write_image[i](vm, null, &e), -EINVAL);
		CHECK(strstr(e.text, "empty regular file"));
		CHECK_EQ(write_image[i](vm, fresh, &e), 0);
		close(fresh);
		close(used);
		close(null);
	}
	vm_free(vm);
	loop_free(l);
}

TEST_MAIN()
