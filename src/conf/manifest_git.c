/*
 * git: who commits, which remotes there are, and which refs may be pushed where. A bottle that
 * extends another adds remotes to its base's; one of the same name replaces the whole of it. Of
 * git.user and git.workspace each key stands for itself.
 */
#include "conf/manifest.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>

#define USER_DEFAULT "x-access-token" /* any name does for a token; GitHub's own for its apps */

static void strings_free(char ***list, size_t *n)
{
	for (size_t i = 0; i < *n; i++)
		free((*list)[i]);
	free(*list);
	*list = NULL;
	*n = 0;
}

static char **strings_one(const char *text)
{
	char **list = mem_zalloc_array(1, sizeof(*list));

	list[0] = mem_strdup(text);
	return list;
}

/* It only ever touches the bottle's own branches of the host's repository. */
void manifest_git_init(struct manifest_git *g)
{
	*g = (struct manifest_git){.workspace = {
					   .name = mem_strdup("workspace"),
					   .transport = GIT_TRANSPORT_WORKSPACE,
					   .host = mem_strdup("workspace"),
					   .path = mem_strdup(""),
					   .branches = strings_one("**"),
					   .n_branches = 1,
					   .may_force = true,
					   .object_max_bytes = GIT_OBJECT_MAX_BYTES,
					   .pack_max_bytes = GIT_PACK_MAX_BYTES,
				   }};
}

static void remote_free_p(struct manifest_remote *r)
{
	git_remote_free(&r->remote);
	plan_secret_free(&r->secret);
}

void manifest_git_free(struct manifest_git *g)
{
	for (size_t i = 0; i < g->n_remotes; i++)
		remote_free_p(&g->remotes[i]);
	free(g->remotes);
	git_remote_free(&g->workspace);
	free(g->user_name);
	free(g->user_email);
	*g = (struct manifest_git){0};
}

/* --- git.user --- */

static int read_identity(struct schema_ctx *c, const struct yaml_node *n, const char *what,
			 char **out)
{
	struct str text;
	int ret = schema_text(c, n, what, &text);

	if (ret < 0)
		return ret;
	ret = git_identity_check(text, c->e);
	if (ret < 0)
		return schema_refuse(c, n, "%s %s", what, c->e ? c->e->text : "is not usable");
	free(*out);
	*out = str_dup(text);
	return 0;
}

static int read_user_name(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	return read_identity(c, n, "name", &((struct manifest_git *)out)->user_name);
}

static int read_user_email(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	return read_identity(c, n, "email", &((struct manifest_git *)out)->user_email);
}

static int read_enforce(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_git *g = out;

	g->says_enforce = true;
	return schema_bool(c, n, "enforce", &g->enforces_identity);
}

static int read_user(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	static const struct schema_field fields[] = {
		{"name", read_user_name}, {"email", read_user_email}, {"enforce", read_enforce}};
	struct manifest_git *g = out;
	int ret = schema_mapping(c, n, "git.user", fields, ARRAY_LEN(fields), out);

	if (ret < 0)
		return ret;
	if (g->says_enforce && g->enforces_identity && (!g->user_name || !g->user_email))
		return schema_refuse(c, n, "\"enforce: true\" needs \"name\" and \"email\"");
	if (!g->says_enforce)
		g->enforces_identity = g->user_name && g->user_email;
	return 0;
}

/* --- refs; out is the git_remote, which a reading begins with --- */

struct patterns {
	char ***list;
	size_t *n;
};

static int read_pattern(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct patterns *p = out;
	struct str text;
	int ret = schema_text(c, n, "a name", &text);

	if (ret == 0)
		ret = schema_place(c, n, git_ref_pattern_check(text, c->e));
	if (ret < 0)
		return ret;
	for (size_t i = 0; i < *p->n; i++)
		if (str_eq(text, str_of((*p->list)[i])))
			return 0;
	(*p->list)[(*p->n)++] = str_dup(text);
	return 0;
}

static int read_patterns(struct schema_ctx *c, const struct yaml_node *n, const char *what,
			 char ***list, size_t *n_list)
{
	struct patterns p = {list, n_list};

	strings_free(list, n_list);
	*list = mem_zalloc_array(GIT_PATTERNS_MAX, sizeof(**list));
	return schema_list(c, n, what, GIT_PATTERNS_MAX, read_pattern, &p);
}

static int read_branches(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct git_remote *r = out;

	return read_patterns(c, n, "branches", &r->branches, &r->n_branches);
}

static int read_protected(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct git_remote *r = out;

	return read_patterns(c, n, "protected", &r->protected_branches, &r->n_protected_branches);
}

static int read_tags(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct git_remote *r = out;

	return read_patterns(c, n, "tags", &r->tags, &r->n_tags);
}

static int read_protect_head(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	return schema_bool(c, n, "protect_head", &((struct git_remote *)out)->is_head_protected);
}

static int read_force(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	return schema_bool(c, n, "force", &((struct git_remote *)out)->may_force);
}

static int read_delete(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	return schema_bool(c, n, "delete", &((struct git_remote *)out)->may_delete);
}

static int read_stale(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	static const char *const names[] = {"refuse", "serve"};
	size_t i = 0;
	int ret = schema_choice(c, n, "stale", names, ARRAY_LEN(names), &i);

	((struct git_remote *)out)->may_serve_stale = i == 1;
	return ret;
}

static int read_oversize(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	static const char *const names[] = {"refuse", "allow"};
	size_t i = 0;
	int ret = schema_choice(c, n, "oversize", names, ARRAY_LEN(names), &i);

	((struct git_remote *)out)->may_oversize = i == 1;
	return ret;
}

static int read_size(struct schema_ctx *c, const struct yaml_node *n, const char *what,
		     uint64_t *out)
{
	uint64_t size = 0;

	if (schema_size(c, n, what, &size) < 0 || size == 0 || size > GIT_SIZE_MAX)
		return schema_refuse(c, n, "%s must be a size like \"50MiB\", at most 1TiB", what);
	*out = size;
	return 0;
}

static int read_max_object(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	return read_size(c, n, "max_object", &((struct git_remote *)out)->object_max_bytes);
}

static int read_max_pack(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	return read_size(c, n, "max_pack", &((struct git_remote *)out)->pack_max_bytes);
}

static int read_allow_one(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct git_remote *r = out;
	struct str text;
	int ret = schema_text(c, n, "a fingerprint", &text);

	if (ret == 0)
		ret = schema_place(c, n, git_fingerprint_check(text, c->e));
	if (ret < 0)
		return ret;
	for (size_t i = 0; i < r->n_allow; i++)
		if (str_eq(text, str_of(r->allow[i])))
			return 0;
	memcpy(r->allow[r->n_allow++], text.p, GIT_FINGERPRINT_SIZE - 1);
	return 0;
}

static int read_allow(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct git_remote *r = out;

	free(r->allow);
	r->allow = mem_zalloc_array(GIT_ALLOW_MAX, sizeof(*r->allow));
	r->n_allow = 0;
	return schema_list(c, n, "allow", GIT_ALLOW_MAX, read_allow_one, out);
}

/* --- one remote --- */

struct reading {
	struct git_remote remote; /* first: the readers of refs are given it */
	struct plan_secret token, key;
	char *user;
	const struct yaml_node *upstream, *token_at, *key_at, *user_at, *host_key_at;
};
_Static_assert(offsetof(struct reading, remote) == 0, "a reading is a remote to its readers");

static void reading_free_p(struct reading *r)
{
	git_remote_free(&r->remote);
	plan_secret_free(&r->token);
	plan_secret_free(&r->key);
	free(r->user);
}

static int read_name(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct reading *r = out;
	struct str text;
	int ret = schema_text(c, n, "name", &text);

	if (ret == 0)
		ret = schema_place(c, n, git_remote_name_check(text, c->e));
	if (ret < 0)
		return ret;
	if (str_eq(text, STR_LIT("workspace")))
		return schema_refuse(c, n,
				     "the name \"workspace\" is taken: it is your own repository "
				     "with \"workspace: clone\" (its refs: git.workspace)");
	r->remote.name = str_dup(text);
	return 0;
}

static int read_upstream(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct reading *r = out;
	struct str text;
	int ret = schema_text(c, n, "upstream", &text);

	r->upstream = n;
	return ret < 0 ? ret : schema_place(c, n, git_upstream_parse(text, &r->remote, c->e));
}

static int read_key(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct reading *r = out;

	r->key_at = n;
	r->key.is_key = true;
	return manifest_read_reference(c, n, "key", &r->key);
}

static int read_token_ref(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct reading *r = out;

	r->token_at = n;
	return manifest_read_reference(c, n, "token_ref", &r->token);
}

static int read_remote_user(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct reading *r = out;
	struct str text;
	int ret = schema_text(c, n, "user", &text);

	r->user_at = n;
	if (ret == 0)
		ret = schema_place(c, n, policy_user_check(text, c->e));
	if (ret == 0)
		r->user = str_dup(text);
	return ret;
}

static int read_host_key(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct reading *r = out;
	struct str text;
	int ret = schema_text(c, n, "known_host_key", &text);

	r->host_key_at = n;
	if (ret == 0)
		ret = schema_place(c, n, git_host_key_check(text, c->e));
	if (ret == 0)
		r->remote.host_key = str_dup(text);
	return ret;
}

/* Did the upstream itself name a user? The parser has an answer of its own for ssh. */
static bool upstream_has_user(const struct yaml_node *upstream)
{
	struct str text = upstream->text;
	size_t scheme = str_find(text, STR_LIT("://"));

	if (scheme < text.n)
		text = str_sub(text, scheme + 3, text.n);
	return str_chr(text, '@') < str_chr(text, '/') && str_chr(text, '@') < str_chr(text, ':');
}

static int set_user(struct schema_ctx *c, struct reading *r)
{
	if (!r->user)
		return 0;
	if (upstream_has_user(r->upstream) && strcmp(r->user, r->remote.user) != 0)
		return schema_refuse(c, r->user_at, "the upstream names another user, \"%s\"",
				     r->remote.user);
	free(r->remote.user);
	r->remote.user = take_ptr(&r->user);
	return 0;
}

static int check_ssh(struct schema_ctx *c, const struct yaml_node *n, struct reading *r)
{
	char port[24] = "";

	if (r->token_at)
		return schema_refuse(c, r->token_at,
				     "token_ref belongs to https; an ssh remote takes \"key\"");
	if (!r->key_at)
		return schema_refuse(c, n,
				     "an ssh remote needs \"key\": env:NAME, file:PATH or "
				     "command:LINE of a private key");
	if (r->remote.port != 22)
		(void)snprintf(port, sizeof(port), "-p %u ", r->remote.port);
	if (!r->host_key_at)
		return schema_refuse(
			c, n,
			"an ssh remote needs \"known_host_key\": without a pin it is "
			"refused; get it with: ssh-keyscan -t ed25519 %s%s, compare its "
			"fingerprint with the one that the forge publishes, and write "
			"the last two fields",
			port, r->remote.host);
	if (git_ssh_user_check(str_of(r->remote.user), c->e) < 0)
		return schema_place(c, r->user_at, -EINVAL);
	return 0;
}

static int check_https(struct schema_ctx *c, struct reading *r)
{
	if (r->key_at)
		return schema_refuse(c, r->key_at,
				     "key belongs to ssh; an https remote takes \"token_ref\"");
	if (r->host_key_at)
		return schema_refuse(c, r->host_key_at,
				     "known_host_key belongs to ssh; https is verified by its "
				     "certificate");
	if (r->token_at && !r->remote.user)
		r->remote.user = mem_strdup(USER_DEFAULT);
	if (!r->token_at && r->remote.user)
		return schema_refuse(
			c, r->user_at ? r->user_at : r->upstream,
			"a user without a secret; add \"token_ref\", or leave the user "
			"away");
	return 0;
}

static int check_remote(struct schema_ctx *c, const struct yaml_node *n, struct reading *r)
{
	int ret;

	if (!r->remote.name)
		return schema_refuse(c, n, "a remote needs \"name\"");
	if (!r->upstream)
		return schema_refuse(c, n,
				     "a remote needs \"upstream\": https://HOST/PATH, "
				     "ssh://USER@HOST/PATH or USER@HOST:PATH");
	ret = set_user(c, r);
	if (ret < 0)
		return ret;
	ret = r->remote.transport == GIT_TRANSPORT_SSH ? check_ssh(c, n, r) : check_https(c, r);
	r->remote.has_credential = r->token_at || r->key_at;
	return ret;
}

/* Appends, or, where a bottle repeats a remote of one that it extends, replaces. */
static int add_remote(struct schema_ctx *c, const struct yaml_node *n, struct manifest_git *g,
		      struct manifest_remote *r)
{
	char own[GIT_GATE_PATH_SIZE], path[GIT_GATE_PATH_SIZE];
	size_t at = g->n_remotes;

	git_gate_path(&r->remote, own);
	for (size_t i = 0; i < g->n_remotes; i++) {
		const struct git_remote *other = &g->remotes[i].remote;

		git_gate_path(other, path);
		if (strcmp(other->name, r->remote.name) == 0) {
			if (strcmp(other->origin_file, c->file) == 0)
				return schema_refuse(c, n, "the same name as the remote in line %u",
						     other->origin_line);
			at = i;
		} else if (strcmp(own, path) == 0) {
			return schema_refuse(c, n,
					     "the same repository as remote \"%s\" (%s:%u): at "
					     "git-gate both would be %s",
					     other->name, other->origin_file, other->origin_line,
					     own);
		}
	}
	if (at == g->n_remotes && at == GIT_REMOTES_MAX)
		return schema_refuse(c, n, "more than %d remotes", GIT_REMOTES_MAX);
	g->remotes = mem_grow_array(g->remotes, &g->cap_remotes, at + 1, sizeof(*g->remotes));
	if (at < g->n_remotes)
		remote_free_p(&g->remotes[at]);
	else
		g->n_remotes++;
	g->remotes[at] = *r;
	*r = (struct manifest_remote){0};
	return 0;
}

static int read_remote(struct schema_ctx *c, const struct yaml_node *n, void *git)
{
	static const struct schema_field fields[] = {
		{"name", read_name},	     {"upstream", read_upstream},
		{"key", read_key},	     {"token_ref", read_token_ref},
		{"user", read_remote_user},  {"known_host_key", read_host_key},
		{"branches", read_branches}, {"protected", read_protected},
		{"tags", read_tags},	     {"protect_head", read_protect_head},
		{"force", read_force},	     {"delete", read_delete},
		{"stale", read_stale},	     {"max_object", read_max_object},
		{"oversize", read_oversize}, {"max_pack", read_max_pack},
		{"allow", read_allow},
	};
	_cleanup_(reading_free_p) struct reading r = {
		.remote = {.is_head_protected = true,
			   .object_max_bytes = GIT_OBJECT_MAX_BYTES,
			   .pack_max_bytes = GIT_PACK_MAX_BYTES}};
	_cleanup_(remote_free_p) struct manifest_remote one = {.line = n->line,
							       .column = n->column};
	int ret = schema_mapping(c, n, "a remote", fields, ARRAY_LEN(fields), &r);

	if (ret == 0)
		ret = check_remote(c, n, &r);
	if (ret < 0)
		return ret;
	one.remote = r.remote;
	r.remote = (struct git_remote){0};
	one.remote.origin_file = mem_strdup(c->file);
	one.remote.origin_line = n->line;
	if (r.key_at) {
		one.secret = r.key;
		r.key = (struct plan_secret){0};
	} else {
		one.secret = r.token;
		r.token = (struct plan_secret){0};
	}
	return add_remote(c, n, git, &one);
}

/* --- git --- */

static int read_remotes(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	return schema_list(c, n, "remotes", GIT_REMOTES_MAX, read_remote, out);
}

/* As the keeper's door takes neither tags nor deletions, there is no key for them. */
static int read_workspace(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	static const struct schema_field fields[] = {
		{"branches", read_branches},	     {"protected", read_protected},
		{"protect_head", read_protect_head}, {"force", read_force},
		{"max_object", read_max_object},     {"oversize", read_oversize},
		{"max_pack", read_max_pack},	     {"allow", read_allow},
	};
	struct manifest_git *g = out;
	int ret = schema_mapping(c, n, "git.workspace", fields, ARRAY_LEN(fields), &g->workspace);

	if (ret < 0)
		return ret;
	g->says_workspace = true;
	free(g->workspace.origin_file);
	g->workspace.origin_file = mem_strdup(c->file);
	g->workspace.origin_line = n->line;
	return 0;
}

int manifest_read_git(struct schema_ctx *c, const struct yaml_node *n, void *bottle)
{
	static const struct schema_field fields[] = {
		{"user", read_user}, {"remotes", read_remotes}, {"workspace", read_workspace}};
	struct manifest_bottle *b = bottle;

	if (yaml_is_null(n))
		return 0;
	return schema_mapping(c, n, "git", fields, ARRAY_LEN(fields), &b->git);
}
