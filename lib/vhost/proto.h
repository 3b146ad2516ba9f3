/* SPDX-License-Identifier: MIT */
/*
 * The wire format of vhost-user, as QEMU's documentation defines it (docs/interop/vhost-user.rst): a unix stream socket,
 * messages of a header and a payload in the host's byte order, descriptors beside the header. The front end owns the
 * machine, the back end serves its queues.
 */
#ifndef WSLX_VHOST_PROTO_H
#define WSLX_VHOST_PROTO_H

#include <assert.h>
#include <stdint.h>
#include "lib/base/attr.h"

enum vu_request {
	VU_GET_FEATURES = 1,
	VU_SET_FEATURES = 2,
	VU_SET_OWNER = 3,
	VU_RESET_OWNER = 4,
	VU_SET_MEM_TABLE = 5,
	VU_SET_VRING_NUM = 8,
	VU_SET_VRING_ADDR = 9,
	VU_SET_VRING_BASE = 10,
	VU_GET_VRING_BASE = 11,
	VU_SET_VRING_KICK = 12,
	VU_SET_VRING_CALL = 13,
	VU_SET_VRING_ERR = 14,
	VU_GET_PROTOCOL_FEATURES = 15,
	VU_SET_PROTOCOL_FEATURES = 16,
	VU_GET_QUEUE_NUM = 17,
	VU_SET_VRING_ENABLE = 18,
	VU_SET_BACKEND_REQ_FD = 21,
	VU_GET_CONFIG = 24,
	VU_SET_CONFIG = 25,
	VU_RESET_DEVICE = 34,
	VU_GET_MAX_MEM_SLOTS = 36,
	VU_ADD_MEM_REG = 37,
	VU_REM_MEM_REG = 38,
	VU_SET_DEVICE_STATE_FD = 42,
	VU_CHECK_DEVICE_STATE = 43,
};

/* What the back end asks, on the channel of VU_SET_BACKEND_REQ_FD. */
enum vu_backend_request {
	VU_BACKEND_CONFIG_CHANGE = 2,
	VU_BACKEND_SHMEM_MAP = 9,
	VU_BACKEND_SHMEM_UNMAP = 10,
};

/* Among the virtio features: protocol features can be asked for. */
#define VU_F_PROTOCOL_FEATURES BIT(30)

#define VU_PROTO_MQ		     BIT(0)
#define VU_PROTO_REPLY_ACK	     BIT(3)
#define VU_PROTO_BACKEND_REQ	     BIT(5)
#define VU_PROTO_CONFIG		     BIT(9)
#define VU_PROTO_BACKEND_SEND_FD     BIT(10)
#define VU_PROTO_RESET_DEVICE	     BIT(13)
#define VU_PROTO_CONFIGURE_MEM_SLOTS BIT(15)
#define VU_PROTO_DEVICE_STATE	     BIT(19)
#define VU_PROTO_SHMEM		     BIT(20)

enum {
	VU_VERSION = 1,
	VU_VERSION_MASK = 3,
	VU_REPLY = 4,
	VU_NEED_REPLY = 8,
};

enum {
	VU_TABLE_REGIONS = 8, /* in one VU_SET_MEM_TABLE */
	VU_CONFIG_MAX = 256,
	VU_PAYLOAD_MAX = 512,
	VU_MAX_FDS = 8,
};

/* In a u64 that goes with a descriptor: the queue, and that there is no descriptor. */
enum { VU_VRING_INDEX = 0xff, VU_NO_FD = 0x100 };

struct vu_header {
	uint32_t request, flags, size;
};
static_assert(sizeof(struct vu_header) == 12, "as on the wire");

struct vu_region {
	uint64_t gpa, size, user_addr, mmap_offset;
};

struct vu_mem_table {
	uint32_t n, padding;
	struct vu_region region[VU_TABLE_REGIONS];
};

struct vu_mem_reg {
	uint64_t padding;
	struct vu_region region;
};

struct vu_vring_state {
	uint32_t index, num;
};

struct vu_vring_addr {
	uint32_t index, flags;
	uint64_t desc, used, avail, log;
};

struct vu_config {
	uint32_t offset, size, flags;
	uint8_t data[VU_CONFIG_MAX];
};
enum { VU_CONFIG_HEAD = 12 };

struct vu_device_state {
	uint32_t direction, phase;
};
enum { VU_STATE_SAVE = 0, VU_STATE_LOAD = 1, VU_PHASE_STOPPED = 0 };

/* Part of a file in the device's shared memory. The answer is 0, or (ours) a positive errno. */
struct vu_shmem {
	uint8_t id, padding[7];
	uint64_t fd_offset, shm_offset, len, flags;
};
enum { VU_SHMEM_WRITABLE = 1 };

struct vu_msg {
	struct vu_header h;
	union {
		uint64_t u64;
		struct vu_mem_table table;
		struct vu_mem_reg reg;
		struct vu_vring_state state;
		struct vu_vring_addr addr;
		struct vu_config config;
		struct vu_device_state device;
		struct vu_shmem shmem;
		uint8_t raw[VU_PAYLOAD_MAX];
	} p;
};
static_assert(offsetof(struct vu_msg, p) == 16, "header and payload are sent apart");

#endif
