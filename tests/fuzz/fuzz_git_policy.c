/* The git policy's JSON: refused with nothing left behind, or written out again the same. And the
 * small parsers beside it, on the same bytes: what each takes keeps what it promises. */
#include "fuzz.h"

#include "conf/git_policy.h"

#include <stdlib.h>

static void check_round_trip(const struct git_policy *g)
{
	struct git_policy again;
	struct policy routes;
	struct buf one, two;

	buf_init(&one, 2 * GIT_JSON_MAX_BYTES);
	buf_init(&two, 2 * GIT_JSON_MAX_BYTES);
	if (git_policy_to_json(g, &one, NULL) < 0)
		abort();
	if (buf_len(&one) <= GIT_JSON_MAX_BYTES) {
		if (git_policy_from_json(&again, buf_str(&one), NULL) < 0 ||
		    git_policy_to_json(&again, &two, NULL) < 0 ||
		    !str_eq(buf_str(&one), buf_str(&two)))
			abort();
		git_policy_free(&again);
	}
	buf_reset(&two);
	if (git_agent_config(g, "10.209.0.2", &two, NULL) < 0)
		abort();
	if (git_policy_routes(g, &(struct policy){0}, &routes, NULL) < 0)
		abort();
	policy_free(&routes);
	/* Each remote is found where it says it is. */
	for (size_t i = 0; i < g->n_remotes; i++) {
		char path[GIT_GATE_PATH_SIZE + 16];
		struct str rest;

		git_gate_path(&g->remotes[i], path);
		memcpy(path + strlen(path), "/info/refs", 11);
		if (git_gate_find(g, str_of(path), &rest) != &g->remotes[i] ||
		    !str_eq(rest, STR_LIT("/info/refs")))
			abort();
	}
	buf_free(&one);
	buf_free(&two);
}

static void check_upstream(struct str text)
{
	struct git_remote r = {0};

	if (git_upstream_parse(text, &r, NULL) < 0) {
		if (r.host || r.user || r.path)
			abort();
		return;
	}
	if (r.path[0] == '-' || strstr(r.path, "..") == r.path ||
	    strpbrk(r.path, " '\"\\%?#;$`\n") || r.port == 0 || !r.host[0] ||
	    (r.transport == GIT_TRANSPORT_SSH && !r.user))
		abort();
	free(r.host);
	free(r.user);
	free(r.path);
}

/* A name that a pattern takes is one when it is valid itself; "**" takes all. */
static void check_ref(struct str text, struct str other)
{
	char pattern[GIT_REF_MAX + 1];
	char *one[] = {pattern}, all[] = "**", *any[] = {all};

	if (git_ref_is_valid(text) &&
	    (!str_starts(text, STR_LIT("refs/")) || str_find(text, STR_LIT("..")) < text.n ||
	     str_find(text, STR_LIT("/-")) < text.n || str_chr(text, ' ') < text.n))
		abort();
	if (git_ref_pattern_check(text, NULL) < 0 || !str_to_cstr(pattern, sizeof(pattern), text))
		return;
	if (git_ref_matches(other, one, 1) && !git_ref_matches(other, any, 1))
		abort();
	if (str_chr(text, '*') == text.n && !git_ref_matches(text, one, 1))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct str all = str_slice(data, n), head, tail;
	struct git_policy g;
	bool found;

	if (git_policy_from_json(&g, all, NULL) == 0) {
		check_round_trip(&g);
		git_policy_free(&g);
	} else if (g.remotes || g.n_remotes || g.user_name) {
		abort();
	}
	tail = str_cut(all, '\n', &head, &found);
	check_upstream(head);
	check_ref(head, tail);
	(void)!git_host_key_check(head, NULL);
	(void)!git_identity_check(head, NULL);
	return 0;
}
