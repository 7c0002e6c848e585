/* .gitmodules of any bytes: it ends, tells no value longer than its text, and judges each. */
#include "fuzz.h"

#include "gitgate/modules.h"

#include <stdlib.h>

struct seen {
	size_t n, text_n;
};

static bool on_value(void *ctx, struct str section, struct str name, struct str key,
		     struct str value, unsigned line)
{
	struct seen *s = ctx;
	const char *wrong = modules_wrong(name, key, value, 2);

	if (section.n == 0 || key.n == 0 || value.n > s->text_n || line == 0 || ++s->n > s->text_n)
		abort();
	/* What git would run, or read of this machine. */
	if (str_eq(key, STR_LIT("url")) && !wrong &&
	    (value.n == 0 || value.p[0] == '-' || str_starts(value, STR_LIT("ext::")) ||
	     str_istarts(value, STR_LIT("file:")) || memchr(value.p, '\n', value.n)))
		abort();
	if (str_eq(key, STR_LIT("update")) && !wrong && value.n && value.p[0] == '!')
		abort();
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct seen s = {0, n};
	struct err e = ERR_INIT;

	if (modules_parse(str_slice(data, n), on_value, &s, &e) < 0 && e.line == 0)
		abort();
	return 0;
}
