/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <errno.h>
#include "lib/conf/conf.h"

static char out[4096];

static void put(void *ctx, const char *section, const char *key, const char *value, unsigned line)
{
	size_t n = strlen(out);

	snprintf(out + n, sizeof(out) - n, "%u:%s.%s=<%s>;", line, section, key, value);
}

static void warn(void *ctx, unsigned line, const char *text)
{
	size_t n = strlen(out);

	snprintf(out + n, sizeof(out) - n, "%u!%s;", line, text);
}

static const char *parse(const char *s)
{
	out[0] = '\0';
	conf_parse(s, strlen(s), put, warn, NULL);
	return out;
}

TEST(plain_files)
{
	CHECK_STR(parse(""), "");
	CHECK_STR(parse("[wsl2]\nmemory=4GB\n  processors = 2  \n"),
		"2:wsl2.memory=<4GB>;3:wsl2.processors=<2>;");
	CHECK_STR(parse("\xef\xbb\xbf[a]\r\nk=v\r\n\r\nl=w"), "2:a.k=<v>;4:a.l=<w>;");
	CHECK_STR(parse("k=v"), "1:.k=<v>;");
	CHECK_STR(parse("[ boot ] # why\ncommand = a b  c # not this"), "2:boot.command=<a b  c>;");
	CHECK_STR(parse("[a]\nk=\nl= # c\n"), "2:a.k=<>;3:a.l=<>;");
}

TEST(quotes_escapes_and_continuation)
{
	CHECK_STR(parse("k=\"a # b \" # c"), "1:.k=<a # b >;");
	CHECK_STR(parse("k=C:\\\\temp\\\\x"), "1:.k=<C:\\temp\\x>;");
	CHECK_STR(parse("k=a\\tb\\\"c\\n"), "1:.k=<a\tb\"c\n>;");
	CHECK_STR(parse("k=one \\\n two\nl=x\n"), "1:.k=<one  two>;3:.l=<x>;");
	CHECK_STR(parse("k=a\" b \"c "), "1:.k=<a b c>;");
	CHECK_STR(parse("k=one\\\r\ntwo"), "1:.k=<onetwo>;");
}

TEST(bad_lines_are_reported_and_skipped)
{
	CHECK(strstr(parse("[a\nk=v\n"), "1!']' expected") && strstr(out, "2:.k=<v>;"));
	CHECK(strstr(parse("novalue\nk=v\n"), "1!'=' expected") && strstr(out, "2:.k=<v>;"));
	CHECK(strstr(parse("k=\"open\nl=v\n"), "1!quote not closed") && strstr(out, "2:.l=<v>;"));
	CHECK(strstr(parse("k=C:\\temp\nl=v"), "1:.k=<C:\temp>") != NULL);
	CHECK(strstr(parse("k=C:\\Users\nl=v"), "1!unknown escape") && strstr(out, "2:.l=<v>;"));
	CHECK(strstr(parse("=x\n"), "1!a key") != NULL);
	CHECK(strstr(parse("[]\n"), "1!bad section") != NULL);
	CHECK(strstr(parse("[a] b\nk=v"), "1!text after") && strstr(out, "2:a.k=<v>;"));
	CHECK(strstr(parse("k=\\"), "1!unknown escape") != NULL);

	char big[6000] = "k=";
	memset(big + 2, 'x', 5000);
	strcpy(big + 5002, "\nl=v");
	CHECK_STR(parse(big), "1!value too long;2:.l=<v>;");
}

TEST(values)
{
	bool b = false;
	int64_t i = 5;
	uint64_t u = 5;

	CHECK(conf_bool("TRUE", &b) == 0 && b);
	CHECK(conf_bool("0", &b) == 0 && !b);
	CHECK_EQ(conf_bool("yes", &b), -EINVAL);
	CHECK(conf_int("-1", &i) == 0 && i == -1);
	CHECK(conf_int("0x10", &i) == 0 && i == 16);
	CHECK(conf_int("010", &i) == 0 && i == 8);
	CHECK_EQ(conf_int("", &i), -EINVAL);
	CHECK_EQ(conf_int(" 1", &i), -EINVAL);
	CHECK_EQ(conf_int("1x", &i), -EINVAL);
	CHECK_EQ(conf_int("99999999999999999999", &i), -EINVAL);
	CHECK(conf_octal("0022", &i) == 0 && i == 18);
	CHECK(conf_octal("77", &i) == 0 && i == 63);
	CHECK_EQ(conf_octal("", &i), -EINVAL);
	CHECK_EQ(conf_octal("8", &i), -EINVAL);
	CHECK_EQ(conf_octal("-1", &i), -EINVAL);
	CHECK_EQ(conf_octal("0x1", &i), -EINVAL);
	CHECK(conf_size("8GB", &u) == 0 && u == 8ull << 30);
	CHECK(conf_size("512m", &u) == 0 && u == 512ull << 20);
	CHECK(conf_size("1TiB", &u) == 0 && u == 1ull << 40);
	CHECK(conf_size("4096", &u) == 0 && u == 4096);
	CHECK(conf_size("7B", &u) == 0 && u == 7);
	CHECK_EQ(conf_size("1.5GB", &u), -EINVAL);
	CHECK_EQ(conf_size("-1", &u), -EINVAL);
	CHECK_EQ(conf_size("GB", &u), -EINVAL);
	CHECK_EQ(conf_size("8GBx", &u), -EINVAL);
	CHECK_EQ(conf_size("99999999999TB", &u), -EINVAL);
}

struct target {
	bool on;
	int64_t n;
	uint64_t size;
	char *name;
	int mode;
};

TEST(a_table_takes_settings_and_reports_the_rest)
{
	static const char *const modes[] = {"auto", "kvm", "soft", NULL};
	static const struct conf_key keys[] = {
		{"a", "on", CONF_BOOL, offsetof(struct target, on)},
		{"a", "n", CONF_INT, offsetof(struct target, n), .min = -1, .max = 10},
		{"a", "size", CONF_SIZE, offsetof(struct target, size)},
		{"a", "name", CONF_STR, offsetof(struct target, name)},
		{"a", "mode", CONF_CHOICE, offsetof(struct target, mode), .choices = modes},
	};
	static const char text[] = "[A]\nON=true\nn=7\nn=11\nsize=1K\nname=x\nname=y\nmode=Soft\n"
				   "mode=what\nother=1\n[b]\nn=1\n";
	struct target t = {0};

	out[0] = '\0';
	conf_apply(text, strlen(text), keys, ARRAY_LEN(keys), &t, warn, NULL);
	CHECK(t.on);
	CHECK_EQ(t.n, 7);
	CHECK_EQ(t.size, 1024);
	CHECK_STR(t.name, "y");
	CHECK_EQ(t.mode, 2);
	CHECK_STR(out, "4!bad value for a.n: '11';9!bad value for a.mode: 'what';"
		       "10!unknown key 'A.other';"
		       "12!unknown key 'b.n';");
	free(t.name);
}

TEST_MAIN()
