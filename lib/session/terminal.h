/* SPDX-License-Identifier: MIT */
/* The terminal we run on: raw while the other side's program has it, as it was at any exit. */
#ifndef WSLX_SESSION_TERMINAL_H
#define WSLX_SESSION_TERMINAL_H

#include <stdbool.h>

/* Are standard input and output a terminal? Then the program gets one too. */
bool terminal_present(void);
/* Every byte passes from now on, Ctrl-C included; undone at exit. */
void terminal_raw(void);
void terminal_restore(void);
void terminal_size(unsigned *rows, unsigned *cols);

#endif
