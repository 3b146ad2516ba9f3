/* SPDX-License-Identifier: MIT */
/* The file behind a VM's swap disk. */
#ifndef WSLX_DAEMON_SWAP_H
#define WSLX_DAEMON_SWAP_H

#include <stdint.h>
#include "lib/base/err.h"

/*
 * The file's descriptor, locked, for a swap disk of so many bytes. Without a path, a file without a name in data_dir, gone
 * when nobody has it open any more. A file at path that exists is used as it is, if it is empty or held swap before; one
 * that does not is made and at once loses its name. Sparse.
 */
int swap_file_open(const char *path, const char *data_dir, uint64_t size, struct err *e);

#endif
