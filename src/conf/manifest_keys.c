/* The keys of a bottle's head and of an agent's head. */
#include "conf/manifest.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"
#include "conf/reference.h"

#include <errno.h>

#define CPU_MILLI_MAX 1024000u

/* --- bottle --- */

static int read_backend(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_bottle *b = out;
	const char *names[PLAN_BACKEND_COUNT];
	size_t i;
	int ret;

	for (i = PLAN_BACKEND_UNSET + 1; i < PLAN_BACKEND_COUNT; i++)
		names[i - 1] = plan_backend_name((enum plan_backend)i);
	ret = schema_choice(c, n, "backend", names, PLAN_BACKEND_COUNT - 1, &i);
	if (ret == 0)
		b->backend = (enum plan_backend)(i + 1);
	return ret;
}

static int read_provider(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	static const char *const names[] = {"claude", "codex", "shell"};
	struct manifest_bottle *b = out;
	size_t i;
	int ret = schema_choice(c, n, "provider", names, ARRAY_LEN(names), &i);

	if (ret < 0)
		return ret;
	free(b->provider);
	b->provider = mem_strdup(names[i]);
	return 0;
}

static int read_image(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_bottle *b = out;
	_cleanup_free_ char *path = NULL;
	struct reference parsed;
	struct str text;
	int ret = schema_text(c, n, "image", &text);

	if (ret < 0)
		return ret;
	/* No reference begins so. What lies there is for the backend to see. */
	if (text.p[0] == '/' || text.p[0] == '~')
		ret = manifest_read_tar(c, n, &path);
	else
		ret = schema_place(c, n, reference_parse(text, &parsed, c->e));
	if (ret < 0)
		return ret;
	free(b->image);
	b->image = path ? take_ptr(&path) : str_dup(text);
	return 0;
}

/* What the wall itself sets: another value could only break the bottle. */
static bool is_reserved_variable(struct str name)
{
	static const char *const reserved[] = {
		"HTTPS_PROXY",	  "HTTP_PROXY",	    "ALL_PROXY",
		"NO_PROXY",	  "FTP_PROXY",	    "NODE_EXTRA_CA_CERTS",
		"SSL_CERT_FILE",  "SSL_CERT_DIR",   "REQUESTS_CA_BUNDLE",
		"CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "CARGO_HTTP_CAINFO",
		"PIP_CERT",	  "AWS_CA_BUNDLE",  "DENO_CERT",
		"HOME",		  "USER",	    "LOGNAME",
		"SHELL",
	};

	for (size_t i = 0; i < ARRAY_LEN(reserved); i++)
		if (str_ieq(name, str_of(reserved[i])))
			return true;
	return false;
}

static void put_env(struct manifest_bottle *b, struct str name, struct str value)
{
	size_t at = 0;

	while (at < b->n_env && !str_eq(str_of(b->env[at].name), name))
		at++;
	b->env = mem_grow_array(b->env, &b->cap_env, at + 1, sizeof(*b->env));
	if (at == b->n_env) {
		b->env[at].name = str_dup(name);
		b->n_env++;
	}
	free(b->env[at].value);
	b->env[at].value = str_dup(value);
}

static int read_env(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_bottle *b = out;

	if (n->kind != YAML_KIND_MAPPING)
		return schema_refuse(c, n, "env must be \"NAME: value\" lines, not %s",
				     yaml_kind_name(n));
	for (size_t i = 0; i + 1 < n->n_children; i += 2) {
		const struct yaml_node *name = n->children[i], *value = n->children[i + 1];

		if (!schema_is_variable(name->text))
			return schema_refuse(c, name, "not the name of an environment variable");
		if (is_reserved_variable(name->text))
			return schema_refuse(c, name, STR_FMT " is set by the bottle itself",
					     STR_ARG(name->text));
		if (value->kind != YAML_KIND_SCALAR || yaml_is_null(value))
			return schema_refuse(c, value,
					     "the value of " STR_FMT " must be text, not %s",
					     STR_ARG(name->text), yaml_kind_name(value));
		if (value->text.n > MANIFEST_ENV_VALUE_MAX)
			return schema_refuse(c, value, "a value has at most %d bytes",
					     MANIFEST_ENV_VALUE_MAX);
		put_env(b, name->text, value->text);
		if (b->n_env > MANIFEST_ENV_MAX)
			return schema_refuse(c, name, "more than %d variables", MANIFEST_ENV_MAX);
	}
	return 0;
}

static int read_expose_item(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_bottle *b = out;
	_cleanup_free_ char *path = NULL;
	int ret = manifest_read_expose(c, n, &path);

	if (ret < 0)
		return ret;
	for (size_t i = 0; i < b->n_expose; i++)
		if (strcmp(b->expose[i], path) == 0)
			return 0;
	if (b->n_expose == MANIFEST_EXPOSE_MAX)
		return schema_refuse(c, n, "more than %d exposed folders", MANIFEST_EXPOSE_MAX);
	b->expose = mem_grow_array(b->expose, &b->cap_expose, b->n_expose + 1, sizeof(*b->expose));
	b->expose[b->n_expose++] = take_ptr(&path);
	return 0;
}

static int read_expose(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	return schema_list(c, n, "expose", MANIFEST_EXPOSE_MAX, read_expose_item, out);
}

static int read_canary(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_bottle *b = out;

	return schema_bool(c, n, "canary", &b->wants_canary);
}

static int read_root(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	static const char *const names[] = {"read-only", "writable"};
	struct manifest_bottle *b = out;
	size_t i = 0;
	int ret = schema_choice(c, n, "root", names, ARRAY_LEN(names), &i);

	if (ret == 0)
		b->has_writable_root = i == 1;
	return ret;
}

static int read_workspace(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	static const char *const names[] = {
		[PLAN_WORKSPACE_NONE] = "none",
		[PLAN_WORKSPACE_CLONE] = "clone",
		[PLAN_WORKSPACE_MOUNT] = "mount",
	};
	struct manifest_bottle *b = out;
	size_t i = 0;
	int ret = schema_choice(c, n, "workspace", names, ARRAY_LEN(names), &i);

	b->workspace = (enum plan_workspace)i;
	b->says_workspace = true;
	return ret;
}

/* --- limits --- */

static int read_memory(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_bottle *b = out;

	return schema_size(c, n, "memory", &b->limits.memory_bytes);
}

static int read_file_size(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_bottle *b = out;

	return schema_size(c, n, "file_size", &b->limits.file_size_bytes);
}

static int read_processes(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_bottle *b = out;

	return schema_number(c, n, "processes", 8, 1u << 20, &b->limits.processes);
}

static int read_files(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_bottle *b = out;

	return schema_number(c, n, "files", 64, 1u << 20, &b->limits.files);
}

/* "1", "1.5", "0.25": cores, to a thousandth. */
static int read_cpu(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_bottle *b = out;
	struct str whole, part;
	uint64_t cores = 0, milli = 0;
	bool has_part;

	if (n->kind == YAML_KIND_SCALAR && str_eq(n->text, STR_LIT("none"))) {
		b->limits.cpu_milli = 0;
		return 0;
	}
	part = str_cut(n->text, '.', &whole, &has_part);
	if (n->kind != YAML_KIND_SCALAR || str_to_u64(whole, CPU_MILLI_MAX / 1000, &cores) < 0 ||
	    (has_part && (part.n > 3 || str_to_u64(part, 999, &milli) < 0)))
		return schema_refuse(c, n,
				     "cpu must be a number of cores like 2 or 1.5, or \"none\"");
	for (size_t i = part.n; has_part && i < 3; i++)
		milli *= 10;
	if (cores * 1000 + milli == 0)
		return schema_refuse(c, n, "cpu must be more than 0");
	b->limits.cpu_milli = cores * 1000 + milli;
	return 0;
}

static int read_limits(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	static const struct schema_field fields[] = {
		{"memory", read_memory}, {"processes", read_processes}, {"files", read_files},
		{"cpu", read_cpu},	 {"file_size", read_file_size},
	};

	return schema_mapping(c, n, "limits", fields, ARRAY_LEN(fields), out);
}

/* --- egress --- */

static int read_routes(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_bottle *b = out;

	return schema_list(c, n, "routes", POLICY_ROUTES_MAX, manifest_read_route, b);
}

static int read_resolve_one(struct schema_ctx *c, const struct yaml_node *name,
			    const struct yaml_node *value, struct manifest_bottle *b)
{
	struct policy_resolve v = {0};
	char canonical[POLICY_HOST_MAX + 1];
	struct str text;
	size_t at = 0;
	int ret = schema_place(c, name, policy_host_pattern_check(name->text, c->e));

	if (ret < 0)
		return ret;
	if (policy_host_canonical(name->text, canonical) != POLICY_OK)
		return schema_refuse(c, name, "resolve needs one exact host");
	ret = schema_text(c, value, "an address", &text);
	if (ret == 0)
		ret = schema_place(c, value, policy_address_parse(text, &v.address, c->e));
	if (ret < 0)
		return ret;
	while (at < b->n_resolve && strcmp(b->resolve[at].host, canonical) != 0)
		at++;
	if (at == POLICY_RESOLVE_MAX)
		return schema_refuse(c, name, "more than %d names", POLICY_RESOLVE_MAX);
	b->resolve = mem_grow_array(b->resolve, &b->cap_resolve, at + 1, sizeof(*b->resolve));
	if (at == b->n_resolve) {
		v.host = mem_strdup(canonical);
		b->n_resolve++;
	} else {
		v.host = b->resolve[at].host;
	}
	b->resolve[at] = v;
	return 0;
}

static int read_resolve(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_bottle *b = out;

	if (n->kind != YAML_KIND_MAPPING)
		return schema_refuse(c, n, "resolve must be \"host: address\" lines, not %s",
				     yaml_kind_name(n));
	for (size_t i = 0; i + 1 < n->n_children; i += 2) {
		int ret = read_resolve_one(c, n->children[i], n->children[i + 1], b);

		if (ret < 0)
			return ret;
	}
	return 0;
}

static int read_dns_one(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_bottle *b = out;
	struct str text;
	int ret = schema_text(c, n, "an address", &text);

	if (ret == 0)
		ret = schema_place(c, n, policy_address_parse(text, &b->dns[b->n_dns], c->e));
	if (ret == 0)
		b->n_dns++;
	return ret;
}

/* Replaces what an extended bottle said: resolvers are asked in turn, not merged. */
static int read_dns(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_bottle *b = out;

	b->n_dns = 0;
	return schema_list(c, n, "dns", POLICY_DNS_MAX, read_dns_one, b);
}

static int read_ca(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_bottle *b = out;
	char *pem;
	int ret = manifest_read_ca(c, n, &pem);

	if (ret < 0)
		return ret;
	free(b->ca_pem);
	b->ca_pem = pem;
	return 0;
}

static int read_egress(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	static const struct schema_field fields[] = {
		{"routes", read_routes},
		{"resolve", read_resolve},
		{"dns", read_dns},
		{"ca", read_ca},
	};

	if (yaml_is_null(n))
		return 0;
	return schema_mapping(c, n, "egress", fields, ARRAY_LEN(fields), out);
}

int manifest_read_bottle(struct schema_ctx *c, const struct yaml_node *root,
			 struct manifest_bottle *out)
{
	static const struct schema_field fields[] = {
		{"extends", schema_ignore} /* followed by manifest.c */,
		{"backend", read_backend},
		{"provider", read_provider},
		{"image", read_image},
		{"env", read_env},
		{"expose", read_expose},
		{"limits", read_limits},
		{"root", read_root},
		{"egress", read_egress},
		{"canary", read_canary},
		{"workspace", read_workspace},
		{"git", manifest_read_git},
		{"description", schema_ignore},
		{"supervise", manifest_read_supervise},
		{"skills", schema_unsupported},
	};

	return root ? schema_mapping(c, root, "a bottle", fields, ARRAY_LEN(fields), out) : 0;
}

/* --- agent --- */

static int read_agent_bottle(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_agent *a = out;
	struct str text;
	int ret = schema_text(c, n, "bottle", &text);

	if (ret < 0)
		return ret;
	if (!manifest_name_is_valid(text))
		return schema_refuse(c, n,
				     "bottle must be the name of a bottle in "
				     "~/.claude-bottle/bottles");
	a->bottle = str_dup(text);
	return 0;
}

/* An option of the agent's own program: it must not be able to look like another option. */
static int read_word(struct schema_ctx *c, const struct yaml_node *n, const char *what, char **out)
{
	struct str text;
	int ret = schema_text(c, n, what, &text);

	if (ret < 0)
		return ret;
	if (text.p[0] == '-')
		return schema_refuse(c, n, "%s must not start with \"-\"", what);
	*out = str_dup(text);
	return 0;
}

/* "Read, Bash" or a list of the same: joined by commas. */
static int read_words(struct schema_ctx *c, const struct yaml_node *n, const char *what, char **out)
{
	_cleanup_free_ char *joined = NULL;

	if (n->kind == YAML_KIND_SCALAR)
		return yaml_is_null(n) ? 0 : read_word(c, n, what, out);
	if (n->kind != YAML_KIND_SEQUENCE)
		return schema_refuse(c, n, "%s must be text or a list", what);
	for (size_t i = 0; i < n->n_children; i++) {
		_cleanup_free_ char *word = NULL, *longer = NULL;
		int ret = read_word(c, n->children[i], what, &word);

		if (ret < 0)
			return ret;
		longer = joined ? mem_printf("%s,%s", joined, word) : mem_strdup(word);
		free(joined);
		joined = take_ptr(&longer);
	}
	*out = take_ptr(&joined);
	return 0;
}

static int read_description(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_agent *a = out;
	struct str text;
	int ret = schema_text(c, n, "description", &text);

	if (ret == 0)
		a->description = str_dup(text);
	return ret;
}

static int read_model(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	return read_word(c, n, "model", &((struct manifest_agent *)out)->model);
}

static int read_tools(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	return read_words(c, n, "tools", &((struct manifest_agent *)out)->tools);
}

static int read_disallowed(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	return read_words(c, n, "disallowedTools",
			  &((struct manifest_agent *)out)->disallowed_tools);
}

static int read_permission_mode(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	return read_word(c, n, "permissionMode", &((struct manifest_agent *)out)->permission_mode);
}

int manifest_read_agent(struct schema_ctx *c, const struct yaml_node *root,
			struct manifest_agent *out)
{
	static const struct schema_field fields[] = {
		{"bottle", read_agent_bottle},
		{"description", read_description},
		{"model", read_model},
		{"tools", read_tools},
		{"disallowedTools", read_disallowed},
		{"permissionMode", read_permission_mode},
		/* Of Claude Code's subagent files; they say nothing about the bottle. */
		{"name", schema_ignore},
		{"color", schema_ignore},
		{"skills", schema_ignore},
		{"hooks", schema_ignore},
		{"mcpServers", schema_ignore},
		{"maxTurns", schema_ignore},
		{"memory", schema_ignore},
		{"background", schema_ignore},
		{"effort", schema_ignore},
		{"isolation", schema_ignore},
		{"initialPrompt", schema_ignore},
	};

	return root ? schema_mapping(c, root, "an agent", fields, ARRAY_LEN(fields), out) : 0;
}
