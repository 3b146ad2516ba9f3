/* SPDX-License-Identifier: MIT */
#include "lib/session/terminal.h"

#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static struct termios saved;
static bool have_saved, is_raw;

bool terminal_present(void)
{
	return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
}

void terminal_restore(void)
{
	if (!is_raw)
		return;
	is_raw = false;
	/* Output still on its way is shown first; input typed ahead belongs to the shell. */
	tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
}

void terminal_raw(void)
{
	struct termios t;

	if (!have_saved) {
		if (tcgetattr(STDIN_FILENO, &saved) < 0)
			return;
		have_saved = true;
		atexit(terminal_restore);
	}
	t = saved;
	cfmakeraw(&t);
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &t) == 0)
		is_raw = true;
}

void terminal_size(unsigned *rows, unsigned *cols)
{
	struct winsize ws;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) < 0 || !ws.ws_row || !ws.ws_col)
		ws = (struct winsize){.ws_row = 24, .ws_col = 80};
	*rows = ws.ws_row;
	*cols = ws.ws_col;
}
