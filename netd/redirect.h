/* SPDX-License-Identifier: MIT */
/*
 * The guest's name server is an address of its own network. What goes there, UDP and TCP to port 53, is redirected to
 * netd's own resolver (dns.h) on this host's loopback interface, which the guest's frames reach as "host": one address and
 * one port are rewritten, and on the way back the other ones. What is redirected depends on addresses and ports alone, so
 * nothing needs to be remembered, but for the ports that questions came from, where those are rewritten, too.
 *
 * Frames with nothing of ours in them pass as they are. Frames for addresses of this host's loopback interface proper are
 * dropped: no guest has business with them, and the stack would connect.
 */
#ifndef WSLX_NETD_REDIRECT_H
#define WSLX_NETD_REDIRECT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { REDIRECT_PORTS = 512 };

/*
 * Whose questions by UDP have which of a few ports of ours in place of their own: a resolver asks each question from a port of its own, and
 * the stack keeps a socket for each for minutes, since it does not see that they are questions. The one that has not asked for
 * longest gives its port up.
 */
struct redirect_ports {
	struct redirect_asker {
		uint8_t addr[16]; /* IPv4: the first 4, and zeros */
		bool v6;
		uint16_t port; /* as on the wire */
		uint64_t used; /* 0: nobody's */
	} asker[REDIRECT_PORTS];
	uint64_t now; /* counts questions */
};

struct redirect {
	struct in_addr host, dns;
	struct in6_addr host6, guest6, dns6;
	/* Where netd's resolver listens; 0: nothing is redirected. Host byte order. */
	uint16_t udp4, tcp4, udp6, tcp6;
	struct redirect_ports *ports; /* NULL: a question keeps the port that it came from */
};

/* Of the guest; false: to be dropped. The frame is changed in place. */
bool redirect_out(const struct redirect *r, uint8_t *frame, size_t len);
/* For the guest. */
void redirect_in(const struct redirect *r, uint8_t *frame, size_t len);

/*
 * For the guest, from passt, before redirect_in(). Versions of early 2023 leave the flag ACK out of a reset that does
 * acknowledge, so that it is no answer to a guest that connects, and send what an IPv6 service of this host answers by
 * UDP from one link-local address to another.
 */
void redirect_mend(const struct redirect *r, uint8_t *frame, size_t len);

/* Completes a checksum that the guest left to us: over the bytes from start on, at start + offset (virtio 1.2 §5.1.6.2).
 * False: that is not in the frame. */
bool redirect_checksum(uint8_t *frame, size_t len, size_t start, size_t offset);

#endif
