/* R01: the network attacks once more in a bottle's second life. */
#include "selftest/suite.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>

int again_attack(struct suite *s, const char *agent, const char *id, struct err *e)
{
	size_t from = s->n_tries;
	int ret;

	suite_add_start(s, agent, false);
	suite_add_probe(s, "attack", id, SUITE_NETWORK_IDS);
	ret = suite_collect(s, SELFTEST_RUN_AGENT, agent, e);
	if (ret == 0)
		suite_rename(s, from, id);
	return ret;
}

/* A first life that is stopped in the middle of what it does. */
static int live_once(struct suite *s, struct scratch_bottle *b, struct err *e)
{
	struct scratch_process p;
	int ret;

	suite_add_start(s, "again", false);
	suite_add_probe(s, "attack", "first", SUITE_NETWORK_IDS);
	suite_add(s, mem_strdup("ask=1"));
	ret = suite_spawn(s, "again", &p, e);
	if (ret < 0)
		return ret;
	if (!suite_await_line(s, &p, "ask", SUITE_START_MS) ||
	    !scratch_find_bottle(&s->scratch, "again", b)) {
		char last_words[400];

		scratch_end(&p);
		scratch_last_words(&s->scratch, "again", last_words, sizeof(last_words));
		return err_set(e, -EIO, "a bottle did not come up: %s", last_words);
	}
	suite_add(s, mem_strdup(s->scratch.self));
	suite_add(s, mem_strdup("stop"));
	suite_add(s, mem_strdup(b->slug));
	ret = suite_call(s, "stop", e);
	scratch_end(&p);
	return ret <= 0 ? ret : err_set(e, -EIO, "bottle %s cannot be stopped", b->slug);
}

int again_run(struct suite *s, struct err *e)
{
	struct scratch_bottle b;
	size_t from = s->n_tries;
	int ret;

	if (!suite_wants(s, "R01"))
		return 0;
	suite_progress("stopping a bottle and beginning again");
	ret = live_once(s, &b, e);
	if (ret < 0)
		return ret;
	suite_add(s, mem_strdup(s->scratch.self));
	suite_add(s, mem_strdup("resume"));
	suite_add(s, mem_strdup("--headless"));
	suite_add(s, mem_strdup(b.slug));
	suite_add(s, mem_strdup("--"));
	suite_add_probe(s, "attack", "again", SUITE_NETWORK_IDS);
	ret = suite_collect(s, SELFTEST_RUN_AGENT, "resume", e);
	if (ret == 0)
		suite_rename(s, from, "R01");
	return ret;
}
