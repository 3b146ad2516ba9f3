/* SPDX-License-Identifier: MIT */
/* Unaligned little- and big-endian loads and stores: how every wire and guest structure is read. */
#ifndef WSLX_BASE_LE_H
#define WSLX_BASE_LE_H

#include <stdint.h>
#include <string.h>
#include <endian.h>

#define LE_DEFINE(bits)                                                                            \
	static inline uint##bits##_t le##bits##_get(const void *p)                                 \
	{                                                                                          \
		uint##bits##_t v;                                                                  \
		memcpy(&v, p, sizeof(v));                                                          \
		return le##bits##toh(v);                                                           \
	}                                                                                          \
	static inline void le##bits##_put(void *p, uint##bits##_t v)                               \
	{                                                                                          \
		v = htole##bits(v);                                                                \
		memcpy(p, &v, sizeof(v));                                                          \
	}                                                                                          \
	static inline uint##bits##_t be##bits##_get(const void *p)                                 \
	{                                                                                          \
		uint##bits##_t v;                                                                  \
		memcpy(&v, p, sizeof(v));                                                          \
		return be##bits##toh(v);                                                           \
	}                                                                                          \
	static inline void be##bits##_put(void *p, uint##bits##_t v)                               \
	{                                                                                          \
		v = htobe##bits(v);                                                                \
		memcpy(p, &v, sizeof(v));                                                          \
	}

LE_DEFINE(16)
LE_DEFINE(32)
LE_DEFINE(64)

#endif
