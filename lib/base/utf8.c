/* SPDX-License-Identifier: MIT */
#include "lib/base/utf8.h"

size_t utf8_len(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t n = *s < 0x80   ? 1
		   : *s < 0xc2 ? 0
		   : *s < 0xe0 ? 2
		   : *s < 0xf0 ? 3
		   : *s < 0xf5 ? 4
			       : 0;

	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* longer than need be, surrogates, beyond the last one */
	if (n == 3 && ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)))
		return 0;
	if (n == 4 && ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)))
		return 0;
	return n;
}

bool utf8_is_valid(const char *s)
{
	while (*s && utf8_len(s))
		s += utf8_len(s);
	return !*s;
}

static void mend(char *s, bool control)
{
	while (*s) {
		size_t n = utf8_len(s);

		if (n == 0 || (control && ((unsigned char)*s < ' ' || *s == 0x7f))) {
			*s = '?';
			n = 1;
		}
		s += n;
	}
}

void utf8_mend(char *s)
{
	mend(s, false);
}

void utf8_make_printable(char *s)
{
	mend(s, true);
}
