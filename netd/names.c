/* SPDX-License-Identifier: MIT */
#include "netd/names.h"

#include "lib/base/log.h"

const struct js_field names_fields[1] = {
	{"servers", JS_ARRAY, .required = true, .max = DNS_SERVERS_MAX}};

void names_servers(struct names *n, struct ctl_call *call, struct json_object *params)
{
	struct json_object *list = js_get(params, "servers");
	struct sockaddr_storage servers[DNS_SERVERS_MAX];
	unsigned count = 0;

	for (size_t i = 0; i < json_object_array_length(list) && count < DNS_SERVERS_MAX; i++) {
		const char *text = json_object_get_string(json_object_array_get_idx(list, i));

		if (text && dns_parse_server(text, &servers[count]))
			count++;
		else
			log_warn("net", "name server '%s': no address", text ? text : "");
	}
	dns_set_servers(n->dns, servers, count);
	ctl_reply(call, js_set_u64(js_object(), "servers", count), NULL);
}

int names_begin(struct names *n, struct loop *l, const struct stack_config *net)
{
	struct dns_ports ports = {0};
	int r = dns_new(&n->dns, l, &net->host, net->ipv6 ? &net->host6 : NULL, &ports);

	if (r < 0)
		return r;
	n->redirect = (struct redirect){.host = net->host,
		.dns = net->dns,
		.host6 = net->host6,
		.guest6 = net->guest6,
		.dns6 = net->dns6,
		.udp4 = ports.udp4,
		.tcp4 = ports.tcp4,
		.udp6 = ports.udp6,
		.tcp6 = ports.tcp6};
	return 0;
}

void names_end(struct names *n)
{
	dns_free(n->dns);
}
