#include "supervise/answer.h"

#include "base/clean.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <inttypes.h>

/* What the state means, and whether the call came to nothing by it. */
static const struct {
	const char *name, *message;
	bool is_error;
} answer_states[] = {
	[ASK_PENDING] = {"pending",
			 "A human has not decided yet. Go on with something else, and "
			 "call request_status with this id later; asking again for the "
			 "same adds nothing.",
			 false},
	[ASK_GRANTED] = {"granted", NULL, false},
	[ASK_REFUSED] = {"refused",
			 "A human has refused it. Do without it, or ask for something "
			 "else; do not try another way to the same.",
			 false},
	[ASK_EXPIRED] = {"expired",
			 "It is over: nobody decided in time, which means no, or what was "
			 "granted has had its end. Ask again only if it is still needed.",
			 false},
	[ASK_NEVER] = {"never",
		       "No human can grant it from here: a rule forbids it. Do without "
		       "it.",
		       false},
	[ASK_INVALID] = {"invalid", "The request was not understood; nothing was asked.", true},
	[ASK_LIMITED] = {"limited", "Too many requests, or too fast; nothing was asked.", true},
	[ASK_UNKNOWN] = {"unknown", "There is no such request or record.", true},
	[ASK_TAKEN] = {"taken", "The human will see it. There is no answer to wait for.", false},
};

static const char *const answer_scopes[] = {
	[ASK_ONCE] = "once", [ASK_BOTTLE] = "bottle", [ASK_ALWAYS] = "always"};

static const char *answer_granted(const struct ask_answer *a, enum ask_kind kind)
{
	switch (kind) {
	case ASK_EGRESS:
		return a->scope == ASK_ONCE ? "Granted for one request. Retry it now: the first "
					      "one that matches uses the grant up."
					    : "Granted. Retry the request now.";
	case ASK_RELEASE:
		return a->release == ASK_REDACT
			       ? "Granted, with what the scanner found cut out. Where the request "
				 "was held it goes on now; else retry exactly the same one, once."
			       : "Granted. Where the request was held it goes on now; else retry "
				 "exactly the same one, once.";
	case ASK_PUSH:
		return "Granted for this commit to this ref, once. Push again now.";
	case ASK_CAPABILITY:
		return "Agreed to, in words: nothing has changed by itself. \"reason\" is what the "
		       "human says.";
	default:
		return "Granted. Retry what was refused now.";
	}
}

static void answer_until(json_t *out, uint64_t until)
{
	char text[TIME_RFC3339_SIZE] = "the end of this bottle";

	if (until > 0 && until < UINT64_MAX / TIME_NS_PER_SEC)
		time_format_rfc3339(until * TIME_NS_PER_SEC, text);
	(void)json_object_set_new(out, "until", json_string(text));
}

json_t *answer_make(const struct ask_answer *a, enum ask_kind kind, bool *is_error)
{
	char reason[4 * sizeof(a->text)];
	bool is_granted = a->state == ASK_GRANTED;
	json_t *out;

	if (a->state < ASK_PENDING || a->state > ASK_TAKEN) {
		*is_error = true;
		return answer_error("unavailable", "The answer was not understood.");
	}
	*is_error = answer_states[a->state].is_error;
	out = json_pack("{s:s}", "state", answer_states[a->state].name);
	if (a->number > 0 && a->number <= INT64_MAX)
		(void)json_object_set_new(out, "id", json_integer((json_int_t)a->number));
	if (is_granted && a->scope >= ASK_ONCE && a->scope <= ASK_ALWAYS)
		(void)json_object_set_new(out, "scope", json_string(answer_scopes[a->scope]));
	if (is_granted && (a->until > 0 || a->scope >= ASK_BOTTLE))
		answer_until(out, a->until);
	if (a->text[0]) {
		text_visible_once_cstr(reason, sizeof(reason), str_of(a->text));
		(void)json_object_set_new(out, "reason", json_string(reason));
	}
	(void)json_object_set_new(out, "message",
				  json_string(is_granted ? answer_granted(a, kind)
							 : answer_states[a->state].message));
	return out;
}

json_t *answer_error(const char *state, const char *message)
{
	return json_pack("{s:s, s:s}", "state", state, "message", message);
}
