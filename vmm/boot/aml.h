/* SPDX-License-Identifier: MIT */
/*
 * ACPI machine language, as much as our DSDT needs (ACPI 6.4 §20.2 encoding, §6.4 resource descriptors). Packages whose
 * length comes first are begun with aml_begin_*() and ended with aml_end(). The buffer is fixed; an overflow is
 * remembered and seen at the end.
 */
#ifndef WSLX_VMM_BOOT_AML_H
#define WSLX_VMM_BOOT_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AML_MAX = 4096, AML_DEPTH = 8 };

struct aml {
	uint8_t data[AML_MAX];
	size_t len;
	size_t open[AML_DEPTH]; /* where each open package's length field is */
	unsigned depth;
	bool overflow;
};

void aml_byte(struct aml *a, uint8_t v);
/* A name path: "\\_SB_", "PCI0", "^FOO_"; segments are four characters, separated by dots. */
void aml_path(struct aml *a, const char *path);
void aml_int(struct aml *a, uint64_t v);
void aml_string(struct aml *a, const char *s);
void aml_eisa_id(struct aml *a, const char id[8]); /* "PNP0A03" */

void aml_name(struct aml *a, const char *name); /* Name(name, ...): the object follows */
void aml_begin_scope(struct aml *a, const char *path);
void aml_begin_device(struct aml *a, const char *name);
void aml_begin_method(struct aml *a, const char *name, unsigned args, bool serialized);
void aml_begin_package(struct aml *a, unsigned n);
void aml_notify(struct aml *a, const char *object, uint8_t value);
void aml_end(struct aml *a);

/* Name(_CRS, ResourceTemplate() {...}): descriptors between these two. */
void aml_begin_crs(struct aml *a);
void aml_end_crs(struct aml *a);
void aml_res_io(struct aml *a, uint16_t port, uint8_t len);
void aml_res_irq(struct aml *a, uint32_t gsi); /* edge, active high, exclusive */
/* Address ranges that a bridge passes on; inclusive. */
void aml_res_bus_range(struct aml *a, uint16_t first, uint16_t last);
void aml_res_io_range(struct aml *a, uint16_t first, uint16_t last);
void aml_res_mem_range(struct aml *a, uint64_t first, uint64_t last);

#endif
