/* SPDX-License-Identifier: MIT */
/* The parts of fs-escape: names and numbers they have in common. */
#ifndef WSLX_TESTS_FS_ESCAPE_H
#define WSLX_TESTS_FS_ESCAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* What is in a canary, and nowhere else. */
#define SONG "song of the canary"

struct rng {
	uint64_t s;
};

static inline uint32_t rnd(struct rng *r, uint32_t n)
{
	r->s ^= r->s << 13;
	r->s ^= r->s >> 7;
	r->s ^= r->s << 17;
	return (uint32_t)(r->s >> 33) % n;
}

static inline bool time_is_up(const struct timespec *end)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > end->tv_sec ||
	       (now.tv_sec == end->tv_sec && now.tv_nsec >= end->tv_nsec);
}

/* A name that may be in the share: "a" .. "h", or "m0", "m1" where there are mounts. */
const char *plain_name(struct rng *r);
/* Where links point to that want out; outside: the folder with the canaries, by its full path. */
void target(struct rng *r, const char *outside, char *buf, size_t cap);

/* The three attackers; each returns when time is up. How much of what they tried went through is added to done[]. */
enum {
	DID_LOOKUP,
	DID_OPEN,
	DID_READ,
	DID_WRITE,
	DID_MAKE,
	DID_RENAME,
	DID_REMOVE,
	DID_LINK,
	DID_SETATTR,
	DID_XATTR,
	DID_LIST,
	DID_SWAP,
	DID_MOUNT,
	DIDS
};
extern const char *const did_names[DIDS];

/* Requests as no kernel would send them, handed right to the server in this process, by four threads. false: it sang. */
bool attack_raw(const char *share, const char *outside, uint64_t seed, const struct timespec *end,
	uint64_t done[DIDS]);
/* System calls on the mounted share, as the guest's root. */
bool attack_mounted(const char *mnt, const char *outside, uint64_t seed, const struct timespec *end,
	uint64_t done[DIDS]);
/* On the host beside: names in the share are exchanged, moved out and back in; with mounts. */
void attack_host(const char *share, const char *beside, const char *outside, bool mounts,
	uint64_t seed, const struct timespec *end, uint64_t done[DIDS]);

#endif
