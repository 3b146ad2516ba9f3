/* SPDX-License-Identifier: MIT */
/* The terminal wslx runs on: raw while the guest's program has it, as it was at any exit. */
#ifndef WSLX_CLI_TERMINAL_H
#define WSLX_CLI_TERMINAL_H

#include <stdbool.h>

/* Are standard input and output a terminal? Then the program gets one too. */
bool terminal_present(void);
/* Every byte passes from now on, Ctrl-C included; undone at exit. */
void terminal_raw(void);
void terminal_restore(void);
void terminal_size(unsigned *rows, unsigned *cols);

#endif
