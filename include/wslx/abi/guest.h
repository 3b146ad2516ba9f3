/* SPDX-License-Identifier: MIT */
/*
 * The host-guest protocol, version 1, over vsock (virtio 1.2 §5.10). docs/protocol.md tells the
 * story; this is the wire format. All integers are little-endian.
 *
 * A message is a header and a payload of attributes. A request carries an id chosen by its sender;
 * its reply repeats type and id, sets WSLX_MSG_REPLY and, in error, 0 or a positive Linux errno, in
 * which case a WSLX_A_TEXT says more. An event has id 0 and no reply. Unknown attributes are
 * skipped, unknown requests answered with ENOSYS, unknown events ignored.
 */
#ifndef WSLX_ABI_GUEST_H
#define WSLX_ABI_GUEST_H

#include <stdint.h>

#define WSLX_PROTOCOL_VERSION 1

enum {
	WSLX_CID_HOST = 2,
	WSLX_CID_GUEST = 3,
	/* The guest's init connects here; one control connection at a time. */
	WSLX_PORT_CONTROL = 50000,
};

struct wslx_msg {
	uint32_t size; /* of the whole message: sizeof(struct wslx_msg) .. WSLX_MSG_MAX */
	uint16_t type; /* enum wslx_type */
	uint16_t flags;
	uint32_t id;
	uint32_t error;
};
_Static_assert(sizeof(struct wslx_msg) == 16, "wire format");

enum { WSLX_MSG_MAX = 256 * 1024, WSLX_MSG_REPLY = 1 };

/* Followed by len bytes of value and by zeroes up to the next multiple of 4. Integers are 4 or 8
 * bytes. */
struct wslx_attr {
	uint32_t len;
	uint16_t tag; /* enum wslx_tag */
	uint16_t reserved;
};
_Static_assert(sizeof(struct wslx_attr) == 8, "wire format");

/* In comments: attributes of the request -> attributes of the reply. */
enum wslx_type {
	/*
	 * Control connection (the guest connects to the host). First message: the guest's request. TEXT is the kernel's
	 * release; then come DISTRO, PORT and COUNT (as in BUSY) of each running distribution.
	 */
	WSLX_HELLO = 1, /* VERSION, CAPS, TEXT, BOOT_US, {DISTRO, PORT, COUNT}.. -> VERSION, CAPS */

	/* Control connection, host to guest. */
	WSLX_START =
		16, /* DISTRO, NAME, LUN, FSTYPE, OPTIONS, HOSTNAME, UID -> PORT; running: PORT too */
	WSLX_STOP =
		17, /* DISTRO, TIMEOUT_MS: TERM and HUP, after the time KILL; replies when unmounted */
	WSLX_SHUTDOWN = 18, /* TIMEOUT_MS: stops all distributions, syncs, replies, powers off */
	WSLX_STAT = 19,	    /* -> MEM_TOTAL, MEM_FREE, UPTIME_MS */
	WSLX_SET_TIME = 20, /* TIME_NS: sets CLOCK_REALTIME, after the VM was paused or restored */

	/* Control connection, guest to host, events. */
	WSLX_BUSY =
		32, /* DISTRO, COUNT: 1 when processes besides its init live, 0 when the last one ended */
	WSLX_EXITED =
		33, /* DISTRO, TEXT: the distribution's init ended without a STOP; error EBUSY: its disk is in use yet */

	/* Session connection (the host connects to the distribution's PORT). First message: EXEC or ATTACH. */
	WSLX_EXEC =
		48, /* ARG.., ENV.., USER, CWD, FLAGS, FD0, FD1, FD2, ROWS, COLS -> COOKIE, TEXT: a warning */
	WSLX_ATTACH =
		49, /* COOKIE, STREAM: no reply; what follows on this connection is the stream's bytes */

	/* Session connection, guest to host, events. */
	WSLX_STARTED = 50, /* PID: all streams are attached and the program runs */
	WSLX_EXIT =
		51, /* STATUS (0-255) or SIGNAL: after the last byte of output went to the streams */
	WSLX_FAILED = 52, /* ERRNO, TEXT: the program could not be started after all */

	/* Session connection, host to guest, events. */
	WSLX_SIGNAL_SEND = 56, /* SIGNAL: to the session's foreground process group */
	WSLX_RESIZE = 57,      /* ROWS, COLS */
};

enum wslx_tag {
	WSLX_A_VERSION = 1,   /* u32 */
	WSLX_A_CAPS = 2,      /* u64, bits of enum wslx_cap */
	WSLX_A_TEXT = 3,      /* bytes, UTF-8, no NUL */
	WSLX_A_BOOT_US = 4,   /* u64: microseconds from kernel start to init's first instruction */
	WSLX_A_DISTRO = 5,    /* bytes: the distribution's id, [0-9a-f-]{1,64} */
	WSLX_A_PORT = 6,      /* u32 */
	WSLX_A_LUN = 7,	      /* u32 */
	WSLX_A_FSTYPE = 8,    /* bytes */
	WSLX_A_OPTIONS = 9,   /* bytes: mount options */
	WSLX_A_HOSTNAME = 10, /* bytes */
	WSLX_A_UID = 11,      /* u32: default user where wsl.conf names none */
	WSLX_A_TIMEOUT_MS = 12, /* u32 */
	WSLX_A_MEM_TOTAL = 13,	/* u64, KiB */
	WSLX_A_MEM_FREE = 14,	/* u64, KiB */
	WSLX_A_UPTIME_MS = 15,	/* u64 */
	WSLX_A_TIME_NS = 16,	/* u64 */
	WSLX_A_COUNT = 17,	/* u32 */
	WSLX_A_ARG = 18,  /* bytes, repeated in order; none: the user's shell as a login shell */
	WSLX_A_ENV = 19,  /* bytes "NAME=value", repeated; added to the session's own environment */
	WSLX_A_USER = 20, /* bytes: name or number; absent: the distribution's default user */
	WSLX_A_CWD = 21,  /* bytes: absolute, or "~" or "~/..."; absent: the user's home */
	WSLX_A_FLAGS = 22, /* u32, bits of enum wslx_exec_flag */
	WSLX_A_FD0 = 23,   /* u32, enum wslx_fd_kind; then FD1, FD2 */
	WSLX_A_FD1 = 24,
	WSLX_A_FD2 = 25,
	WSLX_A_ROWS = 26,   /* u32 */
	WSLX_A_COLS = 27,   /* u32 */
	WSLX_A_COOKIE = 28, /* u64: names the session to its ATTACHes */
	WSLX_A_STREAM = 29, /* u32: 0 .. WSLX_STREAMS - 1 */
	WSLX_A_PID = 30,    /* u32, in the distribution's PID namespace */
	WSLX_A_STATUS = 31, /* u32 */
	WSLX_A_SIGNAL = 32, /* u32 */
	WSLX_A_ERRNO = 33,  /* u32 */
	WSLX_A_NAME = 34,   /* bytes: the distribution's name */
};

enum wslx_cap { WSLX_CAP_EXEC = 1 };

enum wslx_exec_flag {
	/* Through the user's shell with -c: one ARG is the script itself; several are quoted so
	   that each stays a word. */
	WSLX_EXEC_SHELL = 1,
	WSLX_EXEC_LOGIN = 2, /* the shell is a login shell (its argv[0] starts with '-') */
	WSLX_EXEC_CWD_MUST =
		4, /* a missing CWD fails the EXEC; else the program starts in "/" with a warning */
};

/*
 * What a standard descriptor of the program is: nothing (/dev/null), a pipe to the stream of the
 * same number, or the session's terminal. A session with any TTY has one terminal, both directions
 * of which are stream 3. The program starts when every stream so named has been attached.
 */
enum wslx_fd_kind { WSLX_FD_NULL, WSLX_FD_PIPE, WSLX_FD_TTY };
enum { WSLX_STREAM_TTY = 3, WSLX_STREAMS = 4 };

#endif
