/* SPDX-License-Identifier: MIT */
/* qemu-img, as an independent judge of VHDX files in memory. For tests. */
#ifndef WSLX_VHDX_FAKE_QEMU_H
#define WSLX_VHDX_FAKE_QEMU_H

#include <stdbool.h>
#include <stdint.h>

/* It is part of ./dev test's packages; says so when it is missing. */
bool fake_qemu_present(void);
/* Runs qemu-img with these arguments, quietly. */
bool fake_qemu_img(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A folder for the test program's files, removed at its end. */
const char *fake_qemu_dir(void);
/* Finds no fault with the file, once it has replayed its log. */
bool fake_qemu_check(const uint8_t *file, uint64_t size);
/* The disk in it as a raw one; the caller closes the descriptor. -1: failed. */
int fake_qemu_raw(const uint8_t *file, uint64_t size);

#endif
