/* SPDX-License-Identifier: MIT */
/* File systems (virtio 1.2 §5.11) and networks (§5.1) as the monitor sees them. See vhost-kinds.h. */
#include "vmm/virtio/vhost-kinds.h"

#include <string.h>
#include "lib/base/le.h"

/* --- file systems --- */

/* struct virtio_fs_config, §5.11.4 */
enum { FS_TAG = 0, FS_QUEUES = 36, FS_LEN = 40 };

/* struct fuse_in_header and fuse_out_header, and what a FUSE mount says whose server is gone. */
enum { IN_LEN = 40, IN_UNIQUE = 8, OUT_LEN = 16, OUT_ERROR = 4, OUT_UNIQUE = 8 };
enum { GUEST_ENOTCONN = 107 };

static size_t fs_config(const struct vhost_config *c, bool up, uint8_t *buf)
{
	size_t n = strlen(c->tag);

	memset(buf, 0, FS_LEN);
	memcpy(buf + FS_TAG, c->tag, MIN(n, (size_t)VHOST_TAG_MAX));
	le32_put(buf + FS_QUEUES, c->requests);
	return FS_LEN;
}

static bool fs_orphan(const struct vhost_config *c, unsigned q, const struct vring_chain *chain,
	uint32_t *written)
{
	uint8_t in[IN_LEN], out[OUT_LEN] = {0};

	*written = 0;
	/* FORGET has no answer, and what is no request gets none. */
	if (chain->wr_len < OUT_LEN || vring_read(chain, 0, in, sizeof(in)) < sizeof(in))
		return true;
	le32_put(out, OUT_LEN);
	le32_put(out + OUT_ERROR, (uint32_t)-GUEST_ENOTCONN);
	memcpy(out + OUT_UNIQUE, in + IN_UNIQUE, 8);
	*written = (uint32_t)vring_write(chain, 0, out, sizeof(out));
	return true;
}

const struct vhost_kind_ops vhost_fs_kind = {
	.queue_size = VQ_MAX_SIZE,
	.keeps_state = true,
	.config = fs_config,
	.orphan = fs_orphan,
};

/* --- file systems by 9P: the tag, with its length before it, and one queue of requests --- */

#define P9_F_MOUNT_TAG BIT(0)
enum { P9_TAG_LEN = 0, P9_TAG = 2 };
/* size[4] type[1] tag[2], and Rlerror's ecode[4] */
enum { P9_HEAD = 7, P9_TYPE = 4, P9_RLERROR = 7, P9_ERROR_LEN = 11 };

static size_t p9_config(const struct vhost_config *c, bool up, uint8_t *buf)
{
	size_t n = MIN(strlen(c->tag), (size_t)VHOST_TAG_MAX);

	le16_put(buf + P9_TAG_LEN, (uint16_t)n);
	memcpy(buf + P9_TAG, c->tag, n);
	return P9_TAG + n;
}

static bool p9_orphan(const struct vhost_config *c, unsigned q, const struct vring_chain *chain,
	uint32_t *written)
{
	uint8_t msg[P9_ERROR_LEN];

	*written = 0;
	if (chain->wr_len < sizeof(msg) || vring_read(chain, 0, msg, P9_HEAD) < P9_HEAD)
		return true;
	le32_put(msg, P9_ERROR_LEN);
	msg[P9_TYPE] = P9_RLERROR;
	le32_put(msg + P9_HEAD, GUEST_ENOTCONN);
	*written = (uint32_t)vring_write(chain, 0, msg, sizeof(msg));
	return true;
}

const struct vhost_kind_ops vhost_p9_kind = {
	.own = P9_F_MOUNT_TAG,
	.queue_size = VQ_MAX_SIZE,
	.keeps_state = true,
	.config = p9_config,
	.orphan = p9_orphan,
};

/* --- networks --- */

#define NET_F_CSUM	 BIT(0)
#define NET_F_GUEST_CSUM BIT(1)
#define NET_F_MTU	 BIT(3)
#define NET_F_MAC	 BIT(5)
#define NET_F_GUEST_TSO4 BIT(7)
#define NET_F_GUEST_TSO6 BIT(8)
#define NET_F_GUEST_ECN	 BIT(9)
#define NET_F_GUEST_UFO	 BIT(10)
#define NET_F_HOST_TSO4	 BIT(11)
#define NET_F_HOST_TSO6	 BIT(12)
#define NET_F_HOST_ECN	 BIT(13)
#define NET_F_HOST_UFO	 BIT(14)
#define NET_F_MRG_RXBUF	 BIT(15)
#define NET_F_STATUS	 BIT(16)

/* struct virtio_net_config, §5.1.4 */
enum { NET_MAC = 0, NET_STATUS = 6, NET_PAIRS = 8, NET_MTU = 10, NET_LEN = 12 };
enum { NET_LINK_UP = 1, NET_RX = 0 };

static size_t net_config(const struct vhost_config *c, bool up, uint8_t *buf)
{
	memcpy(buf + NET_MAC, c->mac, sizeof(c->mac));
	le16_put(buf + NET_STATUS, up ? NET_LINK_UP : 0);
	le16_put(buf + NET_PAIRS, 1);
	le16_put(buf + NET_MTU, c->mtu);
	return NET_LEN;
}

static bool net_orphan(const struct vhost_config *c, unsigned q, const struct vring_chain *chain,
	uint32_t *written)
{
	*written = 0;
	return q != NET_RX;
}

const struct vhost_kind_ops vhost_net_kind = {
	.own = NET_F_MAC | NET_F_STATUS | NET_F_MTU,
	.mtu = NET_F_MTU,
	.server = NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 |
		  NET_F_GUEST_ECN | NET_F_GUEST_UFO | NET_F_HOST_TSO4 | NET_F_HOST_TSO6 |
		  NET_F_HOST_ECN | NET_F_HOST_UFO | NET_F_MRG_RXBUF,
	.queue_size = VQ_MAX_SIZE,
	.direct = true,
	.config = net_config,
	.orphan = net_orphan,
};
