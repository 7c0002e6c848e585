/*
 * upstream_fetch() and upstream_push() as a program, for tests in Python that play the upstream:
 *
 *   upstream_driver fetch|push KEY=VALUE… [ref old new]…
 *
 * and, called by the name git-connect, what git starts as its ssh. Prints one JSON object.
 */
#include "gitgate/upstream.h"

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "priv/priv.h"

#include <stdio.h>
#include <stdlib.h>

static struct git_remote remotes[2]; /* the one that is driven is not the first */
static struct git_policy policy = {.remotes = remotes, .n_remotes = 2};
static struct upstream_place place = {
	.egress_fd = -1, .ssh_fd = -1, .door_fd = -1, .policy = &policy};
static struct git_run_env env;

static int number(const char *value)
{
	uint64_t n;

	if (str_to_u64(str_of(value), 65535, &n) < 0)
		die("\"%s\" is no number", value);
	return (int)n;
}

static void set_transport(struct git_remote *r, const char *value)
{
	r->transport = strcmp(value, "https") == 0 ? GIT_TRANSPORT_HTTPS
		       : strcmp(value, "ssh") == 0 ? GIT_TRANSPORT_SSH
						   : GIT_TRANSPORT_WORKSPACE;
}

static void set(char *key, const char *value)
{
	struct git_remote *r = &remotes[1];
	const struct {
		const char *name;
		const char **text;
	} texts[] = {{"tools", &place.tool_path},
		     {"slug", &place.slug},
		     {"mirror", &env.repo},
		     {"quarantine", &env.quarantine},
		     {"name", (const char **)&r->name},
		     {"host", (const char **)&r->host},
		     {"user", (const char **)&r->user},
		     {"path", (const char **)&r->path},
		     {"placeholder", (const char **)&r->placeholder}};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (strcmp(key, texts[i].name) == 0) {
			*texts[i].text = value;
			return;
		}
	}
	if (strcmp(key, "egress") == 0)
		place.egress_fd = number(value);
	else if (strcmp(key, "ssh") == 0)
		place.ssh_fd = number(value);
	else if (strcmp(key, "door") == 0)
		place.door_fd = number(value);
	else if (strcmp(key, "port") == 0)
		r->port = (uint16_t)number(value);
	else if (strcmp(key, "force") == 0)
		r->may_force = number(value);
	else if (strcmp(key, "transport") == 0)
		set_transport(r, value);
	else
		die("what is \"%s\"?", key);
}

static int print(int ret, const struct err *e, const struct check_update *updates,
		 const struct upstream_ref_result *results, size_t n, struct buf *said)
{
	_cleanup_json_ json_t *whole = NULL;
	json_t *refs = json_array();
	struct str text = buf_str(said);

	for (size_t i = 0; i < n; i++)
		json_array_append_new(refs,
				      json_pack("{s:s, s:b, s:s}", "ref", updates[i].ref, "ok",
						results[i].is_ok, "reason", results[i].reason));
	whole = json_pack("{s:i, s:s, s:o, s:s%}", "code", ret, "error", e->text, "refs", refs,
			  "said", text.p ? text.p : "", (size_t)text.n);
	return whole && json_dumpf(whole, stdout, 0) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	static struct check_update updates[CHECK_UPDATES_MAX];
	static struct upstream_ref_result results[CHECK_UPDATES_MAX];
	const char *base = strrchr(argv[0], '/');
	struct err e = ERR_INIT;
	struct buf said;
	size_t n = 0;
	int i = 2, ret;

	if (strcmp(base ? base + 1 : argv[0], "git-connect") == 0)
		return git_connect_main(argc, argv);
	if (argc < 2)
		die("fetch or push");
	for (; i < argc && strchr(argv[i], '='); i++) {
		char *value = strchr(argv[i], '=');

		*value = 0;
		set(argv[i], value + 1);
	}
	for (; i + 2 < argc && n < CHECK_UPDATES_MAX; i += 3, n++) {
		if (!str_to_cstr(updates[n].ref, sizeof(updates[n].ref), str_of(argv[i])) ||
		    !str_to_cstr(updates[n].old_oid, GIT_OID_SIZE, str_of(argv[i + 1])) ||
		    !str_to_cstr(updates[n].new_oid, GIT_OID_SIZE, str_of(argv[i + 2])))
			die("no update");
	}
	/* As the role is sealed, but for its folders and its memory. */
	if (priv_basics(&e) < 0 || priv_seccomp(PRIV_SECCOMP_PASS_FD | PRIV_SECCOMP_ACCEPT |
							PRIV_SECCOMP_FORK | PRIV_SECCOMP_EXEC,
						&e) < 0)
		die("%s", e.text);
	remotes[1].has_credential = remotes[1].placeholder != NULL;
	buf_init(&said, 65536);
	ret = strcmp(argv[1], "fetch") == 0
		      ? upstream_fetch(&place, &remotes[1], &env, &e)
		      : upstream_push(&place, &remotes[1], &env, updates, n, results, &said, &e);
	ret = print(ret, &e, updates, results, n, &said);
	buf_free(&said);
	return ret;
}
