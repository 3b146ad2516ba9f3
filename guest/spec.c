/* SPDX-License-Identifier: MIT */
/* START, checked and copied. */
#include "guest/guest.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "guest/files.h"

static bool name_ok(const char *s)
{
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("-_.", *s))
			return false;
	return true;
}

static void append_line(char *text, size_t cap, const char *line)
{
	size_t n = strlen(text);

	/* Whole or not at all. */
	if (n + strlen(line) + 2 <= cap)
		snprintf(text + n, cap - n, "%s\n", line);
}

static bool address_ok(const char *s)
{
	struct in6_addr bin;

	return inet_pton(AF_INET, s, &bin) == 1 || inet_pton(AF_INET6, s, &bin) == 1;
}

static bool text_of(const struct wire_attr *a, char *buf, size_t cap)
{
	if (a->len >= cap || memchr(a->data, 0, a->len))
		return false;
	memcpy(buf, a->data, a->len);
	buf[a->len] = '\0';
	return true;
}

void distro_dns_parse(
	const struct wire_msg *m, char *nameservers, size_t n_cap, char *search, size_t s_cap)
{
	struct wire_attr a;
	char line[256];

	for (size_t pos = 0; wire_next(m, &pos, &a);) {
		if (!text_of(&a, line, sizeof(line)))
			continue;
		if (a.tag == WSLX_A_NAMESERVER && address_ok(line))
			append_line(nameservers, n_cap, line);
		else if (a.tag == WSLX_A_SEARCH && *line && name_ok(line))
			append_line(search, s_cap, line);
	}
}

/* What the distribution's files are generated from; what is not as it should be is left out. */
static void parse_host_facts(const struct wire_msg *m, struct distro_spec *ret)
{
	struct wire_attr a;
	char line[512];

	if (wire_get_str(m, WSLX_A_TIMEZONE, ret->timezone, sizeof(ret->timezone)) <= 0 ||
		!timezone_ok(ret->timezone))
		ret->timezone[0] = '\0';
	for (size_t pos = 0; wire_next(m, &pos, &a);)
		if (a.tag == WSLX_A_HOST_LINE && text_of(&a, line, sizeof(line)) &&
			host_line_ok(line))
			append_line(ret->hosts, sizeof(ret->hosts), line);
	distro_dns_parse(
		m, ret->nameservers, sizeof(ret->nameservers), ret->search, sizeof(ret->search));
}

int distro_spec_parse(const struct wire_msg *m, struct distro_spec *ret, struct err *e)
{
	struct wire_attr secret;

	*ret = (struct distro_spec){.lun = wire_get_u32(m, WSLX_A_LUN, UINT32_MAX),
		.uid = wire_get_u32(m, WSLX_A_UID, 0),
		.timeout_ms = wire_get_u32(m, WSLX_A_TIMEOUT_MS, 0),
		.disk_timeout_ms = MIN(wire_get_u32(m, WSLX_A_DISK_TIMEOUT_MS, 10000), 3600000u),
		.slow = 1,
		.request_id = m->id,
		.limits = {.mem = wire_get_u64(m, WSLX_A_MEM_MAX, 0),
			.swap = wire_get_u64(m, WSLX_A_SWAP_MAX, UINT64_MAX),
			.cpu = wire_get_u32(m, WSLX_A_CPU_PERCENT, 0),
			.tasks = wire_get_u32(m, WSLX_A_TASKS_MAX, 0),
			.read_bytes = wire_get_u64(m, WSLX_A_READ_BYTES, 0),
			.write_bytes = wire_get_u64(m, WSLX_A_WRITE_BYTES, 0),
			.read_ops = wire_get_u32(m, WSLX_A_READ_OPS, 0),
			.write_ops = wire_get_u32(m, WSLX_A_WRITE_OPS, 0)}};
	if (wire_get_str(m, WSLX_A_DISTRO, ret->id, sizeof(ret->id)) <= 0 || !name_ok(ret->id) ||
		ret->id[0] == '.')
		return err_set(e, -EINVAL, "START without a proper distribution id");
	if (wire_get_str(m, WSLX_A_NAME, ret->name, sizeof(ret->name)) <= 0)
		strcpy(ret->name, ret->id);
	if (wire_get_str(m, WSLX_A_FSTYPE, ret->fstype, sizeof(ret->fstype)) <= 0)
		strcpy(ret->fstype, "ext4");
	if (wire_get_str(m, WSLX_A_OPTIONS, ret->options, sizeof(ret->options)) < 0)
		strcpy(ret->options, "discard,errors=remount-ro");
	if (wire_get_str(m, WSLX_A_HOSTNAME, ret->hostname, sizeof(ret->hostname)) <= 0 ||
		!name_ok(ret->hostname))
		strcpy(ret->hostname, "wslx");
	if (ret->lun == UINT32_MAX)
		return err_set(e, -EINVAL, "START without a LUN");
	if (wire_find(m, WSLX_A_SECRET, &secret) && secret.len == sizeof(ret->secret)) {
		memcpy(ret->secret, secret.data, sizeof(ret->secret));
		ret->interop_port = wire_get_u32(m, WSLX_A_INTEROP_PORT, 0);
	}
	if (wire_get_str(m, WSLX_A_HOST_ROOT, ret->host_root, sizeof(ret->host_root)) < 0 ||
		ret->host_root[0] != '/')
		ret->host_root[0] = '\0';
	if (wire_get_str(m, WSLX_A_VM, ret->vm, sizeof(ret->vm)) < 0)
		ret->vm[0] = '\0';
	ret->host_files = wire_get_u32(m, WSLX_A_HOST_FILES, 0) == 1;
	if (net_plan_parse(m, &ret->own_net, NULL) < 0)
		ret->own_net = (struct net_plan){0};
	if (wire_get_str(m, WSLX_A_NETWORKING, ret->networking, sizeof(ret->networking)) <= 0 ||
		!name_ok(ret->networking))
		strcpy(ret->networking, "none");
	ret->wsl_compat = wire_get_u32(m, WSLX_A_WSL_COMPAT, 0) == 1;
	parse_host_facts(m, ret);
	return 0;
}
