#include "supervise/session.h"

#include "base/clean.h"
#include "base/text.h"

#include <sys/random.h>

static const char *const session_versions[] = {
	[SESSION_2024_11_05] = "2024-11-05",
	[SESSION_2025_03_26] = "2025-03-26",
	[SESSION_2025_06_18] = "2025-06-18",
	[SESSION_2025_11_25] = "2025-11-25",
};
_Static_assert(ARRAY_LEN(session_versions) == SESSION_VERSION_COUNT, "one name per version");

const char *session_version_name(enum session_version v)
{
	return session_versions[v];
}

bool session_version_parse(struct str name, enum session_version *out)
{
	for (size_t i = 0; i < ARRAY_LEN(session_versions); i++) {
		if (str_eq(name, str_of(session_versions[i]))) {
			*out = (enum session_version)i;
			return true;
		}
	}
	return false;
}

struct session *session_open(struct sessions *s, enum session_version v)
{
	struct session *place = &s->all[0];
	unsigned char random[16];

	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return NULL;
	for (size_t i = 1; i < SESSION_MAX; i++) {
		if (s->all[i].used < place->used)
			place = &s->all[i];
	}
	*place = (struct session){.version = v, .serial = ++s->n_opened, .used = ++s->clock};
	text_hex(place->id, random, sizeof(random));
	return place;
}

struct session *session_find(struct sessions *s, struct str id)
{
	struct session *found = NULL;

	if (id.n != SESSION_ID_SIZE - 1)
		return NULL;
	for (size_t i = 0; i < SESSION_MAX; i++) {
		if (str_eq_consttime(id, str_of(s->all[i].id)))
			found = &s->all[i];
	}
	if (found)
		found->used = ++s->clock;
	return found;
}

void session_end(struct session *s)
{
	memset(s, 0, sizeof(*s));
}
