/* SPDX-License-Identifier: MIT */
#include "cli/proxy.h"
#include "lib/base/test.h"

static const char *translated(const char *value, const char *host)
{
	static char buf[200];

	return proxy_translate(value, host, buf, sizeof(buf)) ? buf : "(none)";
}

TEST(a_proxy_at_localhost_is_the_hosts)
{
	static const char *const hosts[] = {
		"localhost", "LocalHost", "127.0.0.1", "127.1.2.3", "[::1]"};
	char value[100], want[100];

	for (size_t i = 0; i < sizeof(hosts) / sizeof(*hosts); i++) {
		snprintf(value, sizeof(value), "http://%s:3128/", hosts[i]);
		CHECK_STR(translated(value, "h.internal"), "http://h.internal:3128/");
		snprintf(value, sizeof(value), "socks5h://me:a:b@%s", hosts[i]);
		CHECK_STR(translated(value, "h.internal"), "socks5h://me:a:b@h.internal");
		snprintf(value, sizeof(value), "%s:8080", hosts[i]);
		snprintf(want, sizeof(want), "%s", value);
		CHECK_STR(translated(value, "h.internal"), "h.internal:8080");
		CHECK_STR(translated(value, "localhost"), want);
		CHECK_STR(translated(value, ""), "(none)");
	}
}

TEST(others_stay_as_they_are)
{
	static const char *const values[] = {"http://proxy.example:3128",
		"http://localhost.example:1", "127.0.0.1.example:80", "http://[2001:db8::1]:80",
		"http://localhost@proxy.example/", "http://proxy.example/localhost", "", "http://",
		"[::1", "http://[", "12"};

	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
		CHECK_STR(translated(values[i], "h.internal"), values[i]);
		CHECK_STR(translated(values[i], ""), values[i]);
	}
}

static char got[2000];

static void add(void *ctx, const char *var)
{
	strcat(strcat(got, var), "\n");
}

TEST(both_spellings_of_the_users_or_else_the_services)
{
	char *user[] = {(char[]){"A=1"}, (char[]){"HTTP_PROXY=http://p.example:1"},
		(char[]){"no_proxy=localhost,.example"}, NULL};
	char *service[] = {(char[]){"https_proxy=http://127.0.0.1:2"}, NULL}, *none[] = {NULL};

	got[0] = '\0';
	CHECK(!proxy_env(user, service, "h", add, NULL));
	CHECK_STR(got, "http_proxy=http://p.example:1\nHTTP_PROXY=http://p.example:1\n"
		       "no_proxy=localhost,.example\nNO_PROXY=localhost,.example\n");
	got[0] = '\0';
	CHECK(!proxy_env(none, service, "h", add, NULL));
	CHECK_STR(got, "https_proxy=http://h:2\nHTTPS_PROXY=http://h:2\n");
	got[0] = '\0';
	CHECK(proxy_env(none, service, "", add, NULL));
	CHECK(!proxy_env(none, NULL, "h", add, NULL));
	CHECK_STR(got, "");
}

TEST_MAIN()
