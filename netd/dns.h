/* SPDX-License-Identifier: MIT */
/*
 * The guest's name server: passes questions on to this host's own name servers, whatever family they are of, in turn while
 * one does not answer. It listens on the loopback interface, where redirect.h brings the guest's questions. It knows one
 * name itself, DNS_HOST_NAME: this host.
 */
#ifndef WSLX_NETD_DNS_H
#define WSLX_NETD_DNS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/base/loop.h"

#define DNS_HOST_NAME "host.wslx.internal"

enum { DNS_SERVERS_MAX = 8, DNS_ANSWER_MAX = 512 };

struct dns;

struct dns_ports {
	uint16_t udp4, tcp4, udp6, tcp6; /* 0: that family is not there */
};

/* host, host6: the addresses of DNS_HOST_NAME; host6 NULL: none. */
int dns_new(struct dns **ret, struct loop *l, const struct in_addr *host,
	const struct in6_addr *host6, struct dns_ports *ret_ports);
void dns_free(struct dns *d);
DEFINE_CLEANUP(struct dns, dns_free)

/* From now on questions go to these; those under way are not asked again. */
void dns_set_servers(struct dns *d, const struct sockaddr_storage *servers, unsigned n);

/* "ADDRESS", "ADDRESS%INTERFACE" (its number), with port 53, or "#PORT" behind it. False: it is none. */
bool dns_parse_server(const char *text, struct sockaddr_storage *ret);

/* dns-local.c: the answer to a question about DNS_HOST_NAME, in buf (DNS_ANSWER_MAX); 0: it is about something else. */
size_t dns_answer(const uint8_t *q, size_t len, const struct in_addr *host,
	const struct in6_addr *host6, uint8_t *buf);
/* The answer "server failure" to it; 0: it is no question. */
size_t dns_failure(const uint8_t *q, size_t len, uint8_t *buf);

/* dns-tcp.c: questions over TCP. */
struct dns_tcp;
int dns_tcp_new(struct dns_tcp **ret, struct loop *l, struct dns_ports *ret_ports);
struct dns_tcp *dns_tcp_free(struct dns_tcp *t);
void dns_tcp_set_servers(struct dns_tcp *t, const struct sockaddr_storage *servers, unsigned n);

/* A socket on a port of the kernel's choosing on the loopback interface, not blocking; negative errno. */
int dns_bind_loopback(int family, int type, uint16_t *ret_port);
socklen_t dns_addr_len(const struct sockaddr_storage *a);

#endif
