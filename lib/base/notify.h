/* SPDX-License-Identifier: MIT */
/* Telling the service manager (sd_notify(3)'s protocol). */
#ifndef WSLX_BASE_NOTIFY_H
#define WSLX_BASE_NOTIFY_H

/* "READY=1", "STATUS=text", ... Nothing happens where nobody asked ($NOTIFY_SOCKET). */
void notify_state(const char *state);

#endif
