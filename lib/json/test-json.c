/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <errno.h>
#include "lib/json/json.h"

static int parse(const char *s, struct json_object **ret)
{
	return js_parse(s, strlen(s), ret);
}

TEST(values_are_read_with_their_type)
{
	cleanup_js struct json_object *o = NULL;

	REQUIRE(parse("{\"s\":\"x\\u00e9\",\"n\":18446744073709551615,\"b\":true,\"neg\":-1,"
		      "\"nul\":\"a\\u0000b\"}",
			&o) == 0);
	CHECK_STR(js_str(o, "s", "-"), "x\xc3\xa9");
	CHECK(js_u64(o, "n", 7) == UINT64_MAX);
	CHECK_EQ(js_u64(o, "neg", 7), 7);
	CHECK_EQ(js_u64(o, "s", 7), 7);
	CHECK(js_bool(o, "b", false));
	CHECK(!js_bool(o, "n", false));
	CHECK_STR(js_str(o, "nul", "-"), "-");
	CHECK_STR(js_str(o, "gone", "-"), "-");
	CHECK_STR(js_str(NULL, "gone", "-"), "-");
}

TEST(bad_text_is_refused)
{
	static const char *const bad[] = {"", "{", "{}x", "{} {}", "[1,]", "\"\xff\"", "nul",
		"{\"a\":01}", "[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]"};
	struct json_object *o = NULL;

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		if (parse(bad[i], &o) != -EBADMSG) {
			printf("# accepted: %s\n", bad[i]);
			CHECK(false);
			js_free(o);
			o = NULL;
		}
	CHECK_EQ(parse("12", &o), 0);
	js_free(o);
}

TEST(text_comes_back)
{
	cleanup_js struct json_object *o = js_object(), *back = NULL;

	js_set_str(o, "name", "a\"b\n");
	js_set_u64(o, "n", 5);
	js_set_bool(o, "t", true);
	CHECK(strchr(js_text(o), '\n') == NULL);
	REQUIRE(parse(js_text(o), &back) == 0);
	CHECK_STR(js_str(back, "name", ""), "a\"b\n");
}

TEST(fields_are_checked)
{
	static const struct js_field f[] = {{"lun", JS_U64, .required = true, .max = 255},
		{"ro", JS_BOOL}, {"name", JS_STR, .max = 3}};
	static const struct {
		const char *text;
		int want;
		const char *about;
	} t[] = {{"{\"lun\":3}", 0, ""}, {"{\"lun\":3,\"ro\":false,\"name\":\"abc\"}", 0, ""},
		{"{}", -EINVAL, "'lun' is missing"}, {"[]", -EINVAL, "object"},
		{"{\"lun\":256}", -EINVAL, "'lun'"}, {"{\"lun\":-1}", -EINVAL, "'lun'"},
		{"{\"lun\":\"3\"}", -EINVAL, "'lun'"}, {"{\"lun\":1,\"ro\":1}", -EINVAL, "'ro'"},
		{"{\"lun\":1,\"name\":\"abcd\"}", -EINVAL, "'name'"},
		{"{\"lun\":1,\"name\":\"a\\u0000\"}", -EINVAL, "'name'"},
		{"{\"lun\":1,\"more\":1}", -EINVAL, "unknown argument 'more'"}};

	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		cleanup_js struct json_object *o = NULL;
		struct err e = {0};

		REQUIRE(parse(t[i].text, &o) == 0);
		CHECK_EQ(js_check(o, f, ARRAY_LEN(f), &e), t[i].want);
		CHECK(strstr(e.text, t[i].about) != NULL);
	}
}

TEST_MAIN()
