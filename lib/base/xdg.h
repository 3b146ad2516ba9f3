/* SPDX-License-Identifier: MIT */
/* Where a user's files of ours live (XDG Base Directory Specification), and our socket. */
#ifndef WSLX_BASE_XDG_H
#define WSLX_BASE_XDG_H

#include <stddef.h>
#include "lib/base/err.h"

/*
 * The folder for sockets and state that ends with the login: $XDG_RUNTIME_DIR/wslx; without that
 * variable /run/user/UID/wslx, or /tmp/wslx-UID where no such folder is ours. Made if missing, and
 * refused unless it is a real folder of ours that nobody else may enter.
 */
int xdg_runtime(char *buf, size_t cap, struct err *e);
/* $XDG_DATA_HOME/wslx, by default ~/.local/share/wslx; made if missing. */
int xdg_data(char *buf, size_t cap, struct err *e);
/* $XDG_CONFIG_HOME/wslx/wslx.conf, by default ~/.config/wslx/wslx.conf; it need not exist. */
int xdg_config(char *buf, size_t cap, struct err *e);

#define XDG_SOCKET_NAME "wslxd.sock"

#endif
