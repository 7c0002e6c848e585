/* A push in the making: what most of the git probes have in common. */
#include "probe/probe_git.h"

#include "base/clean.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/timeutil.h"

#define TREE_MAX  65536
#define DEPTH_MAX 8

static struct probe_reply reply;

static void must(int ret)
{
	if (ret < 0)
		die("a commit grew too large");
}

/* main of a repository is asked for once: in the control a try may move it. */
static bool find_main(const struct probe_env *env, const char *repository, char oid[PROBE_OID_SIZE])
{
	static struct {
		char repository[32], oid[PROBE_OID_SIZE];
	} known[8];
	size_t i = 0;

	while (i < ARRAY_LEN(known) && known[i].oid[0] &&
	       strcmp(known[i].repository, repository) != 0)
		i++;
	if (i == ARRAY_LEN(known))
		return false;
	if (!known[i].oid[0]) {
		(void)snprintf(known[i].repository, sizeof(known[i].repository), "%s", repository);
		if (!probe_git_ref(env, repository, "refs/heads/main", known[i].oid))
			return false;
	}
	memcpy(oid, known[i].oid, PROBE_OID_SIZE);
	return true;
}

bool probe_attempt_begin(struct probe_attempt *a, const struct probe_env *env, const char *id,
			 const char *label, const char *repository)
{
	*a = (struct probe_attempt){.env = env,
				    .id = id,
				    .label = label,
				    .author = PROBE_GIT_AUTHOR,
				    .committer = PROBE_GIT_AUTHOR,
				    .start_ns = time_monotonic_ns()};
	a->push.repository = repository;
	probe_plain_token(env, "garden", a->word);
	if (!find_main(env, repository, a->parent)) {
		/* Not skipped: a gate that does not answer is no gate that holds. */
		probe_report_wanted(id, label, "(the repository does not answer)", 0,
				    "git-gate does not serve the repository");
		return false;
	}
	(void)snprintf(a->push.ref, sizeof(a->push.ref), "refs/heads/try-%s-%s-%s", id, label,
		       a->word);
	probe_pack_init(&a->push.pack);
	buf_init(&a->tree, TREE_MAX);
	return true;
}

void probe_attempt_file(struct probe_attempt *a, const char *path, const char *mode,
			struct str content)
{
	const char *names[DEPTH_MAX];
	size_t lengths[DEPTH_MAX], n = 0;
	char oid[PROBE_OID_SIZE];
	const char *slash;

	for (; (slash = strchr(path, '/')) && n + 1 < DEPTH_MAX; path = slash + 1) {
		names[n] = path;
		lengths[n++] = (size_t)(slash - path);
	}
	names[n] = path;
	lengths[n] = strlen(path);
	probe_pack_add(&a->push.pack, PROBE_BLOB, content, oid);
	for (size_t i = n; i > 0; i--) {
		_cleanup_(buf_free) struct buf tree;

		buf_init(&tree, TREE_MAX);
		probe_tree_add(&tree, i == n ? mode : "40000", str_slice(names[i], lengths[i]),
			       oid);
		probe_pack_add(&a->push.pack, PROBE_TREE, buf_str(&tree), oid);
	}
	probe_tree_add(&a->tree, n == 0 ? mode : "40000", str_slice(names[0], lengths[0]), oid);
}

void probe_attempt_text(struct probe_attempt *a, const char *path, const char *content)
{
	probe_attempt_file(a, path, "100644", str_of(content));
}

void probe_attempt_commit(struct probe_attempt *a, const char *message)
{
	_cleanup_(buf_free) struct buf commit;
	char tree[PROBE_OID_SIZE];

	buf_init(&commit, TREE_MAX);
	probe_pack_add(&a->push.pack, PROBE_TREE, buf_str(&a->tree), tree);
	must(buf_printf(&commit, "tree %s\nparent %s\nauthor %s\ncommitter %s\n\n%s\n\n%s %s %s\n",
			tree, a->parent, a->author, a->committer, message, a->id, a->label,
			a->word));
	probe_pack_add(&a->push.pack, PROBE_COMMIT, buf_str(&commit), a->push.new_oid);
	memcpy(a->parent, a->push.new_oid, sizeof(a->parent));
	buf_reset(&a->tree);
}

static const struct probe_reply *finish(struct probe_attempt *a, bool is_wanted)
{
	bool is_taken = probe_git_push(a->env, &a->push, &reply);
	/* Where nothing new is pushed, the name of what goes is what the witness sees. */
	const char *token = a->push.new_oid[0] ? a->push.new_oid : a->push.ref;
	uint64_t us = (time_monotonic_ns() - a->start_ns) / 1000;
	char short_token[PROBE_TOKEN_SIZE], detail[200];

	(void)snprintf(short_token, sizeof(short_token), "%.63s", token);
	probe_git_describe(&reply, detail, sizeof(detail));
	if (is_wanted)
		probe_report_wanted(a->id, a->label, short_token, us, detail);
	else
		probe_report(a->id, a->label, short_token, is_taken, us, detail);
	probe_pack_free(&a->push.pack);
	buf_free(&a->tree);
	return &reply;
}

const struct probe_reply *probe_attempt_push(struct probe_attempt *a)
{
	return finish(a, false);
}

const struct probe_reply *probe_attempt_want(struct probe_attempt *a)
{
	return finish(a, true);
}
