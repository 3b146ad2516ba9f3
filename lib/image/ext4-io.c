/* SPDX-License-Identifier: MIT */
/* libext2fs's way to the disk file: plain pread and pwrite on a descriptor that is open already. */
#include "lib/image/ext4-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/image/disk-read.h"
#include "lib/base/io.h"

struct channel {
	struct struct_io_channel io;
	char name[24];
	int fd;
	const struct disk_read *disk; /* NULL: fd */
};

static errcode_t io_open(const char *name, int flags, io_channel *ret)
{
	struct channel *c = calloc(1, sizeof(*c));

	if (!c)
		return EXT2_ET_NO_MEMORY;
	snprintf(c->name, sizeof(c->name), "%s", name);
	if (name[0] == '@')
		c->disk = (const struct disk_read *)strtoull(name + 1, NULL, 16);
	else
		c->fd = atoi(name);
	c->io.magic = EXT2_ET_MAGIC_IO_CHANNEL;
	c->io.manager = &ext4_io_manager;
	c->io.name = c->name;
	c->io.block_size = 1024;
	c->io.refcount = 1;
	*ret = &c->io;
	return 0;
}

static errcode_t io_close(io_channel io)
{
	if (--io->refcount == 0)
		free(io);
	return 0;
}

static errcode_t io_set_blksize(io_channel io, int size)
{
	io->block_size = size;
	return 0;
}

/* A negative count is in bytes. */
static size_t bytes(io_channel io, int count)
{
	return count < 0 ? (size_t)-count : (size_t)count * io->block_size;
}

static errcode_t io_read64(io_channel io, unsigned long long block, int count, void *data)
{
	struct channel *c = (struct channel *)io;
	size_t len = bytes(io, count);
	ssize_t n;

	if (c->disk) {
		int r = disk_read_at(c->disk, data, len, block * io->block_size);

		return r == -ENODATA ? EXT2_ET_SHORT_READ : -r;
	}
	n = io_pread(c->fd, data, len, (off_t)(block * io->block_size));
	if (n < 0)
		return -n;
	return (size_t)n < len ? EXT2_ET_SHORT_READ : 0;
}

static errcode_t write_at(struct channel *c, const void *data, size_t len, uint64_t off)
{
	if (c->disk)
		return EROFS;
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(c->fd, (const char *)data + done, len - done, off + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		done += n;
	}
	return 0;
}

static errcode_t io_write64(io_channel io, unsigned long long block, int count, const void *data)
{
	return write_at((struct channel *)io, data, bytes(io, count), block * io->block_size);
}

static errcode_t io_read(io_channel io, unsigned long block, int count, void *data)
{
	return io_read64(io, block, count, data);
}

static errcode_t io_write(io_channel io, unsigned long block, int count, const void *data)
{
	return io_write64(io, block, count, data);
}

static errcode_t io_write_byte(io_channel io, unsigned long off, int count, const void *data)
{
	return write_at((struct channel *)io, data, count, off);
}

static errcode_t io_flush(io_channel io)
{
	return 0; /* ext4_finish() syncs once, at the end */
}

struct struct_io_manager ext4_io_manager = {
	.magic = EXT2_ET_MAGIC_IO_MANAGER,
	.name = "descriptor",
	.open = io_open,
	.close = io_close,
	.set_blksize = io_set_blksize,
	.read_blk = io_read,
	.write_blk = io_write,
	.flush = io_flush,
	.write_byte = io_write_byte,
	.read_blk64 = io_read64,
	.write_blk64 = io_write64,
};
