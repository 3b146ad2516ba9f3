/* SPDX-License-Identifier: MIT */
#include "lib/session/files.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "lib/wire/msg.h"

int files_ask(int fd, const char *user, uid_t uid, struct files_user *ret, struct err *e)
{
	uint8_t buf[1024];
	struct wire_msg m;
	struct wire_w w;
	char text[400];
	int r;

	wire_begin(&w, buf, sizeof(buf), WSLX_FILES, 0, 1, 0);
	if (user)
		wire_str(&w, WSLX_A_USER, user);
	else
		wire_u32(&w, WSLX_A_UID, uid);
	r = wire_send(&w, fd);
	if (r == 0)
		r = wire_recv(fd, buf, sizeof(buf), &m);
	if (r < 0)
		return err_sys(e, r, "ask for its files");
	if (m.type != WSLX_FILES || !(m.flags & WSLX_MSG_REPLY))
		return err_set(e, -EPROTO, "the answer was nonsense");
	if (wire_get_str(&m, WSLX_A_TEXT, text, sizeof(text)) <= 0)
		snprintf(text, sizeof(text), "%s", strerror((int)(m.error & 4095)));
	if (m.error)
		return err_set(e, -(int)(m.error & 4095), "%s", text);
	ret->uid = wire_get_u32(&m, WSLX_A_UID, uid);
	ret->gid = wire_get_u32(&m, WSLX_A_GID, ret->uid);
	if (wire_get_str(&m, WSLX_A_CWD, ret->home, sizeof(ret->home)) <= 0)
		strcpy(ret->home, "/");
	return 0;
}
