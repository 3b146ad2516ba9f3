/* SPDX-License-Identifier: MIT */
/* For tests: frames made and checked by hand. */
#ifndef WSLX_NETD_FRAME_RIG_H
#define WSLX_NETD_FRAME_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* UDP or TCP (SYN, then, without data), of the family of its addresses, with all checksums; its length. */
size_t rig_frame(uint8_t *f, const char *src, unsigned sport, const char *dst, unsigned dport,
	unsigned proto, const void *data, size_t len);
/* Are all checksums in it right? */
bool rig_sums_ok(const uint8_t *f, size_t len);
/* Leaves the transport's checksum to the device: the pseudo header's sum alone. */
void rig_partial_sum(uint8_t *f, size_t len);

/* Of TCP: sequence numbers and flags, checksum anew. */
enum { RIG_FIN = 1, RIG_SYN = 2, RIG_RST = 4, RIG_PSH = 8, RIG_ACK = 16 };
void rig_tcp(uint8_t *f, size_t len, uint32_t seq, uint32_t ack, unsigned flags);

#endif
