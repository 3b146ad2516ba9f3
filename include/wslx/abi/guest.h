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
	/* Where a distribution's init asks for programs of the host: this and the LUN of its disk. */
	WSLX_PORT_INTEROP = 50100,
	/* Core dumps of the guest's programs: a WSLX_CRASH, then the dump up to the end. No answer. */
	WSLX_PORT_CRASH = 50005,
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
		16, /* DISTRO, NAME, LUN, FSTYPE, OPTIONS, HOSTNAME, UID, TIMEOUT_MS, DISK_TIMEOUT_MS, limits (MEM_MAX ..), TIMEZONE,
		       HOST_LINE.., NAMESERVER.., SECRET, INTEROP_PORT, WSL_COMPAT, HOST_ROOT, VM, HOST_FILES -> PORT, WARNING..;
		       running: PORT alone */
	WSLX_STOP =
		17, /* DISTRO, TIMEOUT_MS: TERM and HUP, after the time KILL; replies when unmounted */
	WSLX_SHUTDOWN = 18, /* TIMEOUT_MS: stops all distributions, syncs, replies, powers off */
	WSLX_STAT = 19,	    /* -> MEM_TOTAL, MEM_FREE, UPTIME_MS, TIME_NS */
	WSLX_SET_TIME = 20, /* TIME_NS: sets CLOCK_REALTIME; or OFFSET_NS: moves it by that */

	/*
	 * The distribution's file system takes no more writes and is whole on its disk, until THAW, or until the time is
	 * over. With a COOKIE: that freeze lasts on, the time begins anew.
	 */
	WSLX_FREEZE =
		120, /* DISTRO, TIMEOUT_MS, [COOKIE] -> COOKIE; ETIMEDOUT: that freeze is over */
	WSLX_THAW = 121, /* DISTRO, COOKIE; ETIMEDOUT: it was over before */

	/*
	 * A disk of no distribution, at LUN. Without NAME it is only attached: its device is to be seen in distributions. With
	 * NAME its file system, or that of its PARTITION (absent: the whole disk), is mounted at /mnt/wsl/NAME in all of them.
	 */
	WSLX_MOUNT =
		113, /* LUN, DISK_TIMEOUT_MS, [NAME, PARTITION, FSTYPE, OPTIONS] -> DEVICE, FSTYPE */
	/*
	 * Or, with FOLDER instead of LUN, a folder of the host's: NAME, [OPTIONS] of mount(8) and of the share. EEXIST: something
	 * is mounted under that name.
	 */
	/* EBUSY: TEXT says who uses it; what could be unmounted is, and the disk has to stay. */
	WSLX_UNMOUNT = 114, /* [LUN], NAME..: replies when the host may detach the disk */

	/* A shell in the VM itself, with the programs of this running distribution. */
	WSLX_SHELL = 122, /* DISTRO -> PORT, for one session */

	/*
	 * Work on file systems that no distribution uses meanwhile, one at a time. It tells how far it is with PROGRESS
	 * and replies when nothing is mounted any more; the disk stays.
	 */
	WSLX_COPY_TREE =
		115, /* LUN, FSTYPE, TO_LUN, TO_FSTYPE: all files, to a file system that is empty */
	WSLX_FS_RESIZE = 116, /* LUN, FSTYPE, SIZE: of the file system; the disk is large enough */
	WSLX_FS_TRIM = 117,   /* LUN, FSTYPE: what it does not use is discarded */
	WSLX_FS_EXAMINE =
		118, /* LUN, FSTYPE -> OS_RELEASE, DISTRIBUTION_CONF: of the root file system there */
	WSLX_PROGRESS = 119, /* event: DONE, TOTAL */

	/* Control connection, guest to host, events. */
	WSLX_BUSY =
		32, /* DISTRO, COUNT: 1 when sessions' processes live, 0 when the last one ended; SERVICES: 1
		       when services live */
	WSLX_EXITED =
		33, /* DISTRO, TEXT, ORDERLY: the distribution's init ended without a STOP; error EBUSY: its disk is in use yet */
	WSLX_OOBE_RESULT =
		64, /* DISTRO, UID: its first-run set-up has succeeded; no UID: the default user stays */

	/* Session connection (the host connects to the distribution's PORT). First message: one of these. */
	WSLX_EXEC =
		48, /* ARG.., ENV.., USER or UID, CWD, FLAGS, FD0, FD1, FD2, ROWS, COLS -> COOKIE, TEXT: a warning */
	WSLX_ATTACH =
		49, /* COOKIE, STREAM: no reply; what follows on this connection is the stream's bytes */

	WSLX_FIND_USER = 112, /* USER -> UID: who is this? */
	/* From the reply on, the connection speaks 9P2000.L: the distribution's files, as this user sees them. */
	WSLX_FILES = 58, /* USER or UID -> UID, GID, CWD: its home */

	/* Session connection, guest to host, events. */
	WSLX_STARTED = 50, /* PID: all streams are attached and the program runs */
	WSLX_EXIT =
		51, /* STATUS (0-255) or SIGNAL: after the last byte of output went to the streams */
	WSLX_FAILED = 52, /* ERRNO, TEXT: the program could not be started after all */

	/* Session connection, host to guest, events. */
	WSLX_SIGNAL_SEND = 56, /* SIGNAL: to the session's foreground process group */
	WSLX_RESIZE = 57,      /* ROWS, COLS */

	/*
	 * Interop connection (a distribution's init connects to the host, port INTEROP_PORT of its START). First
	 * message, an event: SECRET, FLAGS (enum wslx_interop_flag). Then it is a session connection whose server is the
	 * host; with WSLX_INTEROP_STAY it is that init's own, and programs may run while it lives.
	 */
	WSLX_INTEROP = 80,
	WSLX_PROGRAMS =
		81, /* on the STAY connection: -> NAME..: what the host's search path holds */

	/* In the distribution, on the unix socket WSLX_INTEROP_SOCKET, from a program to init. */
	WSLX_CONNECT = 82, /* COUNT -> as many new session connections, their descriptors passed */

	/* Control connection, host to guest: what belongs to the VM as a whole. */
	WSLX_SWAP_ON = 96, /* LUN: the disk is formatted and used as swap */
	WSLX_RECLAIM =
		97, /* gives up the page cache now and makes large free pages -> MEM_TOTAL, MEM_FREE */

	/*
	 * The machine's network, host to guest after each HELLO and whenever it changes. Listeners are told from then on if
	 * FORWARD is 1. FORWARD_PORT is the guest's vsock port for FORWARDs.
	 */
	WSLX_NETWORK =
		144, /* ADDRESS.., GATEWAY.., MTU, FORWARD, NAMESERVER.., SEARCH.. -> FORWARD_PORT */
	WSLX_LISTENERS = 145, /* event, guest to host: LISTENER..: all there are now */

	/* Connection to FORWARD_PORT, the first message; after the reply the bytes of a connection to that listener. */
	WSLX_FORWARD = 146, /* LISTENER: of the last LISTENERS; error: nobody listens there */

	/* Connection to WSLX_PORT_CRASH, the first message. Any process of the guest can send it. */
	WSLX_CRASH = 98, /* PID, SIGNAL, TIME_NS, NAME: of the program */
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
	WSLX_A_UID =
		11, /* u32: default user where wsl.conf names none; in EXEC, that of START otherwise */
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
	WSLX_A_GID = 35,    /* u32 */

	WSLX_A_WARNING = 48,   /* bytes, repeated: what its user should know of the start */
	WSLX_A_SERVICES = 49,  /* u32 */
	WSLX_A_TIMEZONE = 50,  /* bytes: the host's, as in tzdata: "Europe/Paris" */
	WSLX_A_HOST_LINE = 51, /* bytes, repeated: for /etc/hosts: "ADDRESS NAME..." */
	WSLX_A_NAMESERVER =
		52,	     /* bytes, repeated: an address; none: /etc/resolv.conf is left alone */
	WSLX_A_SEARCH = 144, /* bytes, repeated: a domain that names are looked for in */
	WSLX_A_ADDRESS = 145,	    /* bytes, repeated: of its device, "10.0.2.2/24" */
	WSLX_A_GATEWAY = 146,	    /* bytes, repeated: one a family */
	WSLX_A_MTU = 147,	    /* u32 */
	WSLX_A_FORWARD = 148,	    /* u32: 1 */
	WSLX_A_FORWARD_PORT = 149,  /* u32 */
	WSLX_A_LISTENER = 150,	    /* bytes: "tcp 127.0.0.1 8080", "udp :: 53" */
	WSLX_A_AUTOCONF = 151,	    /* u32: 1: IPv6 addresses as routers say */
	WSLX_A_IGNORED_PORTS = 153, /* bytes: "80,443": with MIRRORED */
	WSLX_A_MIRRORED = 154, /* u32: 1: where nobody listens at localhost, the gateway does */
	WSLX_A_INWARD =
		155, /* bytes: the address by which the host's localhost comes to listeners */
	WSLX_A_NETWORKING = 152, /* bytes: networkingMode: "nat" */
	WSLX_A_ORDERLY = 53,	 /* u32: 1: it was powered off or rebooted from inside */

	WSLX_A_OFFSET_NS = 80,	     /* u64: two's complement */
	WSLX_A_DISK_TIMEOUT_MS = 81, /* u32: how long its disk may take to appear */
	/* Limits of a distribution; absent: none. */
	WSLX_A_MEM_MAX = 96,	 /* u64, bytes */
	WSLX_A_SWAP_MAX = 97,	 /* u64, bytes */
	WSLX_A_CPU_PERCENT = 98, /* u32, hundredths of a processor */
	WSLX_A_TASKS_MAX = 99,	 /* u32, processes and threads */
	WSLX_A_READ_BYTES = 100, /* u64, from its disk per second; then written */
	WSLX_A_WRITE_BYTES = 101,
	WSLX_A_READ_OPS = 102, /* u32, requests per second; then writes */
	WSLX_A_WRITE_OPS = 103,

	WSLX_A_PARTITION = 108, /* u32: its number, from 1 on */
	WSLX_A_DEVICE = 109,	/* bytes: its name in /dev */
	WSLX_A_FOLDER = 110, /* bytes: path below the root of the share "host"; empty: all of it */

	WSLX_A_TO_LUN = 116,		/* u32 */
	WSLX_A_TO_FSTYPE = 117,		/* bytes */
	WSLX_A_SIZE = 118,		/* u64, bytes */
	WSLX_A_DONE = 119,		/* u64, bytes */
	WSLX_A_TOTAL = 120,		/* u64, bytes */
	WSLX_A_OS_RELEASE = 121,	/* bytes: the file etc/os-release, as it is */
	WSLX_A_DISTRIBUTION_CONF = 122, /* bytes: the file etc/wsl-distribution.conf */

	/* Of START; without SECRET and INTEROP_PORT programs of the host cannot be run. */
	WSLX_A_SECRET = 64,	  /* WSLX_SECRET_SIZE random bytes */
	WSLX_A_INTEROP_PORT = 65, /* u32 */
	WSLX_A_WSL_COMPAT = 66,	  /* u32: 1: the distribution is to look like one of WSL's */
	WSLX_A_HOST_ROOT = 67,	  /* bytes: where the host sees the distribution's files */
	WSLX_A_VM = 68,		  /* bytes: the virtual machine's id */
	WSLX_A_HOST_FILES = 70, /* u32: 1: the host's files can be mounted (virtio-fs, tag wslx) */
};

enum wslx_cap { WSLX_CAP_EXEC = 1 };

enum wslx_exec_flag {
	/* Through the user's shell with -c: one ARG is the script itself; several are quoted so
	   that each stays a word. */
	WSLX_EXEC_SHELL = 1,
	WSLX_EXEC_LOGIN = 2, /* the shell is a login shell (its argv[0] starts with '-') */
	WSLX_EXEC_CWD_MUST =
		4, /* a missing CWD fails the EXEC; else the program starts in "/" with a warning */
	/* Before the program, on its terminal and as root: the distribution's first-run set-up. It counts as STARTED
	   with that; without success the program is not run and EXIT is 125. */
	WSLX_EXEC_OOBE = 64,
};

/*
 * What a standard descriptor of the program is: nothing (/dev/null), a pipe to the stream of the
 * same number, or the session's terminal. A session with any TTY has one terminal, both directions
 * of which are stream 3. The program starts when every stream so named has been attached.
 */
enum wslx_fd_kind { WSLX_FD_NULL, WSLX_FD_PIPE, WSLX_FD_TTY };
enum { WSLX_STREAM_TTY = 3, WSLX_STREAMS = 4 };

/* A distribution proves with its secret that programs run on the host are run for it. */
enum { WSLX_SECRET_SIZE = 32 };
enum wslx_interop_flag { WSLX_INTEROP_STAY = 1 };
#define WSLX_INTEROP_SOCKET "/run/wslx/interop"

#endif
