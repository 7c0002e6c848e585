/*
 * The terminal's face over the fake one, for a terminal that is a test:
 *
 *	terminal_driver LOG [N]
 *
 * What would go to a keeper is written into LOG. N requests, the first ones with a meaning: 1
 *plain, 2 with a warning, 3 held; 4 is as hostile as bytes can be, and nobody has made it visible.
 */
#include "fake_face.h"

#include "face/terminal.h"

#include "base/mem.h"

#include <stdlib.h>
#include <unistd.h>

#define HOSTILE                                                                                    \
	"\x1b]0;owned\x07\x1b]52;c;QQ==\x07\x1b[2J\x1b[10A\x9b"                                    \
	"31m\xc2\x9b"                                                                              \
	"31m\x1b[?1049l\r\n"                                                                       \
	"\x1b[201~\x0e\xe2\x80\xae\xe2\x80\x8b\x08\x08\x07"

static void make_hostile(struct request *r)
{
	struct change *c = &r->change;

	free(c->route.host);
	free(c->route.paths[0]);
	c->route.host = mem_strdup("xn--" HOSTILE);
	c->route.paths[0] = mem_strdup("/" HOSTILE);
	(void)snprintf(r->reason, sizeof(r->reason), "%s", "reason " HOSTILE);
	(void)snprintf(c->rule, sizeof(c->rule), "%.60s", HOSTILE);
	(void)snprintf(c->where, sizeof(c->where), "%.60s", HOSTILE);
	(void)snprintf(c->shown, sizeof(c->shown), "%s", HOSTILE);
	r->danger.n = 1;
	r->danger.findings[0] =
		(struct danger_finding){.rule = DANGER_DLP_RULE, .level = DANGER_WARN};
	(void)snprintf(r->danger.findings[0].text, DANGER_TEXT_MAX, "%s", HOSTILE);
}

int main(int argc, char **argv)
{
	const struct face_terminal_options o = {.rings = getenv("RINGS") != NULL};
	long n = argc > 2 ? strtol(argv[2], NULL, 10) : 4;
	struct err e = ERR_INIT;
	int ended_by;

	if (argc < 2)
		return 2;
	fake_reset();
	fake.out = fopen(argv[1], "ae");
	if (!fake.out)
		return 2;
	for (long i = 0; i < n; i++)
		(void)fake_add(i == 2 || i == 3 ? ASK_RELEASE : ASK_EGRESS,
			       i == 0 ? "plain.example" : "paste.example",
			       i == 1 ? DANGER_WARN : DANGER_NOTE, "because");
	if (n >= 4)
		make_hostile(&fake.requests[3]);
	if (getenv("CRASHES"))
		fake.on_refresh = abort;
	if (face_terminal(&o, &ended_by, &e) < 0) {
		(void)fprintf(stderr, "driver: %s\n", e.text);
		return 1;
	}
	(void)printf("left by %d\n", ended_by);
	(void)fclose(fake.out);
	return ended_by ? 128 + ended_by : 0;
}
