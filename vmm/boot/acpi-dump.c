/* SPDX-License-Identifier: MIT */
/* Writes the machine's ACPI tables to files, one a table, for iasl: acpi-dump DIR. Used by test-acpi.sh. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "lib/base/le.h"
#include "vmm/boot/acpi.h"

static const gpa_t base = 0xe0000;

static bool dump(const struct gmem *gm, const char *dir, gpa_t at)
{
	const uint8_t *t = gmem_ptr(gm, at, 36);
	uint32_t len = t ? le32_get(t + 4) : 0;
	char path[4096];
	FILE *f;

	if (!t || !gmem_ptr(gm, at, len))
		return false;
	snprintf(path, sizeof(path), "%s/%.4s.aml", dir, (const char *)t);
	f = fopen(path, "w");
	if (!f || fwrite(t, len, 1, f) != 1 || fclose(f) != 0)
		return false;
	return true;
}

int main(int argc, char **argv)
{
	struct acpi_config cfg = {.vcpus = 3, .mp_mailbox = 0xf0000};
	const uint8_t *rsdp, *xsdt, *fadt;
	struct gmem *gm;

	if (argc != 2 || gmem_new(&gm, 2 << 20) < 0 || acpi_build(gm, base, 0x10000, &cfg) < 0)
		return 1;
	rsdp = gmem_ptr(gm, base, 36);
	xsdt = gmem_ptr(gm, le64_get(rsdp + 24), 36);
	if (!xsdt || memcmp(rsdp, "RSD PTR ", 8) != 0 || !dump(gm, argv[1], le64_get(rsdp + 24)))
		return 1;
	for (uint32_t off = 36; off < le32_get(xsdt + 4); off += 8)
		if (!dump(gm, argv[1], le64_get(xsdt + off)))
			return 1;
	fadt = gmem_ptr(gm, le64_get(xsdt + 36), 276);
	if (!fadt || !dump(gm, argv[1], le64_get(fadt + 140)))
		return 1;
	gmem_free(gm);
	return 0;
}
