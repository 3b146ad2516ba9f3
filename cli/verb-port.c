/* SPDX-License-Identifier: MIT */
/* wslx port: ports of this host that lead into a virtual machine; wslx network: how machines reach the network. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "lib/base/cleanup.h"

static int print_json(struct json_object *o)
{
	printf("%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY));
	return finish_output();
}

/* "tcp ADDRESS PORT" as people write it. */
static const char *pretty(const char *text, char *buf, size_t cap)
{
	char proto[8] = "", addr[64] = "", port[8] = "";

	if (sscanf(text, "%7s %63s %7s", proto, addr, port) != 3)
		return text;
	snprintf(buf, cap, strchr(addr, ':') ? "[%s]:%s" : "%s:%s", addr, port);
	return buf;
}

static int do_list(bool json)
{
	cleanup_js struct json_object *o = NULL;
	struct json_object *list;
	int r = service_call("list forwarded ports", "port-list", NULL, &o);

	if (r)
		return r;
	list = js_get(o, "ports");
	if (json)
		return print_json(list);
	if (json_object_array_length(list))
		printf("%-5s %-24s %-24s %s\n", "PROTO", "HOST", "GUEST", "STATE");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *p = json_object_array_get_idx(list, i);
		const char *listen = js_str(p, "listen", ""), *error = js_str(p, "error", NULL);
		char here[80], there[80];

		printf("%-5.3s %-24s %-24s %s\n", listen, pretty(listen, here, sizeof(here)),
			pretty(js_str(p, "to", ""), there, sizeof(there)),
			error			     ? error
			: js_bool(p, "added", false) ? "added"
						     : "listening");
	}
	return finish_output();
}

static bool number(const char *text, unsigned *ret)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	*ret = (unsigned)n;
	return *text >= '0' && *text <= '9' && !*end && n >= 1 && n <= 65535;
}

struct mapping {
	char addr[64];
	unsigned port, guest;
};

/* [ADDRESS:]PORT[:GUEST PORT], an IPv6 address in brackets. */
static bool parse(const char *text, struct mapping *m)
{
	char buf[128], *rest = buf, *colon, *second;
	struct in6_addr bin;

	if (snprintf(buf, sizeof(buf), "%s", text) >= (int)sizeof(buf))
		return false;
	strcpy(m->addr, "127.0.0.1");
	if (*buf == '[') {
		char *close = strchr(buf, ']');

		if (!close || close[1] != ':')
			return false;
		*close = '\0';
		rest = close + 2;
		if (snprintf(m->addr, sizeof(m->addr), "%s", buf + 1) >= (int)sizeof(m->addr) ||
			inet_pton(AF_INET6, m->addr, &bin) != 1)
			return false;
	} else if (strchr(buf, '.')) {
		colon = strchr(buf, ':');
		if (!colon)
			return false;
		*colon = '\0';
		rest = colon + 1;
		if (snprintf(m->addr, sizeof(m->addr), "%s", buf) >= (int)sizeof(m->addr) ||
			inet_pton(AF_INET, m->addr, &bin) != 1)
			return false;
	}
	second = strchr(rest, ':');
	if (second)
		*second++ = '\0';
	if (!number(rest, &m->port))
		return false;
	m->guest = m->port;
	return !second || number(second, &m->guest);
}

static int change(bool add, int argc, char **argv)
{
	const char *distro = NULL, *what = NULL, *proto = "tcp";
	struct json_object *params;
	struct mapping m;
	char text[100];

	for (int i = 2; i < argc; i++) {
		if (!strcmp(argv[i], "-d") || !strcmp(argv[i], "--distribution")) {
			if (++i == argc)
				return usage_error("port: -d needs a distribution");
			distro = argv[i];
		} else if (!strcmp(argv[i], "--udp")) {
			proto = "udp";
		} else if (argv[i][0] == '-' || what) {
			return usage_error("port: unknown argument '%s'", argv[i]);
		} else {
			what = argv[i];
		}
	}
	if (!what || !parse(what, &m))
		return usage_error(
			"port %s needs [ADDRESS:]PORT%s", argv[1], add ? "[:GUEST PORT]" : "");
	snprintf(text, sizeof(text), "%s %s %u", proto, m.addr, m.port);
	params = js_set_str(js_object(), "listen", text);
	if (distro)
		js_set_str(params, "distribution", distro);
	if (add) {
		snprintf(text, sizeof(text), "%s %s %u", proto,
			strchr(m.addr, ':') ? "::" : "0.0.0.0", m.guest);
		js_set_str(params, "to", text);
	}
	return service_call(add ? "forward a port" : "stop forwarding a port",
		add ? "port-add" : "port-remove", params, NULL);
}

int verb_port(int argc, char **argv)
{
	const char *sub = argc > 1 ? argv[1] : "list";
	bool json = argc > 1 && !strcmp(argv[argc - 1], "--json");

	if (!strcmp(sub, "list") && argc <= 2 + json)
		return do_list(json);
	if (!strcmp(sub, "--json") && argc == 2)
		return do_list(true);
	if (!strcmp(sub, "add") || !strcmp(sub, "remove"))
		return change(!strcmp(sub, "add"), argc, argv);
	return usage_error("port: list, add or remove");
}

static void print_words(const char *label, struct json_object *list)
{
	if (!list || !json_object_array_length(list))
		return;
	printf("  %-16s", label);
	for (size_t i = 0; i < json_object_array_length(list); i++)
		printf("%s%s", i ? ", " : "",
			json_object_get_string(json_object_array_get_idx(list, i)));
	putchar('\n');
}

static void print_machine(struct json_object *m)
{
	static const char *const families[] = {"ipv4", "ipv6"};
	const char *owner = js_str(m, "owner", "");

	printf("virtual machine %s%s%s%s: %s\n", js_str(m, "vm", "?"), *owner ? " (" : "", owner,
		*owner ? ")" : "", js_str(m, "mode", "?"));
	print_words("distributions", js_get(m, "distributions"));
	for (size_t i = 0; i < ARRAY_LEN(families); i++) {
		struct json_object *f = js_get(m, families[i]);

		if (f && js_str(f, "host", NULL))
			printf("  %-16s%s, this host is %s, name server %s\n", families[i],
				js_str(f, "guest", ""), js_str(f, "host", ""),
				js_str(f, "nameserver", ""));
		else if (f)
			printf("  %-16s%s%s%s\n", families[i], js_str(f, "guest", ""),
				*js_str(f, "gateway", "") ? ", gateway " : "",
				js_str(f, "gateway", ""));
	}
	if (js_str(m, "device", NULL))
		printf("  %-16s%s (%s)\n", "on the device", js_str(m, "device", ""),
			js_str(m, "mac", ""));
	if (js_str(m, "host_name", NULL))
		printf("  %-16s%s\n", "this host's name", js_str(m, "host_name", ""));
	if (!strcmp(js_str(m, "backend", ""), "passt"))
		printf("  %-16s%s\n", "connections by", "passt");
	print_words("which asks", js_get(m, "nameservers"));
	print_words("search", js_get(m, "search"));
}

int verb_network(int argc, char **argv)
{
	cleanup_js struct json_object *o = NULL;
	bool json = argc == 2 && !strcmp(argv[1], "--json");
	struct json_object *list;
	int r;

	if (argc > 1 && !json)
		return usage_error("network: unknown argument '%s'", argv[1]);
	r = service_call("ask about the network", "network", NULL, &o);
	if (r)
		return r;
	list = js_get(o, "machines");
	if (json)
		return print_json(list);
	for (size_t i = 0; i < json_object_array_length(list); i++)
		print_machine(json_object_array_get_idx(list, i));
	return finish_output();
}
