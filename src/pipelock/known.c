#include "pipelock/known.h"

#include "base/log.h"
#include "base/siphash.h"

#include <unistd.h>

void known_init(struct known *k)
{
	memset(k, 0, sizeof(*k));
	if (getentropy(k->key, sizeof(k->key)) < 0)
		die("no randomness");
}

uint64_t known_name(const struct known *k, uint64_t salt, struct str text)
{
	uint64_t name = siphash(k->key, salt, text);

	return name ? name : 1;
}
