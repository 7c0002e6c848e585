#include "cli/client.h"

/* Ctrl-\ as a byte, and as the kitty keyboard protocol writes it. */
static const struct str prefixes[] = {{"\x1c", 1}, {"\x1b[92;5u", 7}};

/* 1 + the index of the prefix key that in starts with, or 0. Terminals write a sequence at once, so
 * one that is cut between two reads is not looked for. */
static unsigned find_prefix(struct str in)
{
	for (unsigned i = 0; i < 2; i++) {
		if (str_starts(in, prefixes[i]))
			return i + 1;
	}
	return 0;
}

size_t client_keys_filter(struct client_keys *k, struct str in, char *out)
{
	size_t to = 0;

	while (in.n && !k->wants_detach) {
		unsigned prefix = find_prefix(in);
		size_t used = prefix ? prefixes[prefix - 1].n : 1;

		if (!k->held && prefix) {
			k->held = prefix;
		} else if (k->held && !prefix && ascii_lower(in.p[0]) == 'd') {
			k->wants_detach = true;
		} else {
			/* The prefix twice is the key once; before any other key it was no prefix.
			 */
			if (k->held && !prefix) {
				memcpy(out + to, prefixes[k->held - 1].p, prefixes[k->held - 1].n);
				to += prefixes[k->held - 1].n;
			}
			memcpy(out + to, in.p, used);
			to += used;
			k->held = 0;
		}
		in = str_sub(in, used, in.n);
	}
	return to;
}
