/* SPDX-License-Identifier: MIT */
/* CRC-32C (Castagnoli), as in iSCSI (RFC 7143 section 13.1), ext4 and VHDX. Portable. */
#ifndef WSLX_BASE_CRC32C_H
#define WSLX_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum as it is stored, of what came before (0: nothing) followed by len bytes. ext4 stores
 * its complement. */
uint32_t crc32c(uint32_t before, const void *data, size_t len);

/* The same, without the processor's instruction: for processors that lack it, and tests. */
uint32_t crc32c_by_table(uint32_t before, const void *data, size_t len);

#endif
