/*
 * Reads lines "PLACE<tab>HEX" and answers each with one line: "limit", rule ids, nothing when
 * clean. For the runner of public cases; linked as the bundle is, so that it also proves that the
 * library links statically.
 */
#include "base/log.h"
#include "base/text.h"
#include "scan/scan_int.h"

#include <stdio.h>

static bool print_finding(const struct scan_finding *f, void *ctx)
{
	(void)ctx;
	printf("%s ", f->rule);
	return true;
}

int main(void)
{
	static const char *const places[SCAN_PLACE_COUNT] = {"host",   "path", "query",
							     "header", "body", "response"};
	struct scan_engine *en;
	struct err e = ERR_INIT;
	char *line = NULL;
	size_t size = 0;
	ssize_t n;

	if (scan_engine_new(&en, STR_NULL, &e) < 0)
		die("%s", e.text);
	while ((n = getline(&line, &size, stdin)) > 0) {
		struct str rest = str_trim(str_slice(line, (size_t)n - 1)), place;
		bool found;
		unsigned i;

		rest = str_cut(rest, '\t', &place, &found);
		for (i = 0; i < SCAN_PLACE_COUNT && !str_eq(place, str_of(places[i])); i++)
			;
		if (!found || i == SCAN_PLACE_COUNT || !text_unhex(line, rest.n / 2, rest) ||
		    scan_text(en, (enum scan_place)i, str_slice(line, rest.n / 2), print_finding,
			      NULL) < 0)
			die("bad line");
		printf("\n");
		(void)fflush(stdout);
	}
	free(line);
	scan_engine_free(en);
	return 0;
}
