/*
 * Theory of operation. All that a resumed bottle takes over is names (agent, bottle, slug, backend)
 * and the agent's home. What it may do comes from the manifests alone, so that a state folder that
 * was tampered with can at most choose another agent of the user's own; what it may have done is in
 * records that are verified before the next run may add to them.
 */
#include "cli/resume.h"

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/logs.h"
#include "conf/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/stat.h>

#define BOTTLE_JSON_MAX (64u << 10)
#define PLAN_JSON_MAX	(16u << 20)
#define AGENTS_FOLDER	"/.claude-bottle/agents/"

static void clean_json_p(json_t **j)
{
	json_decref(*j);
}

/* --- the state folder --- */

static int check_owner(const struct stat *st, const char *what, struct err *e)
{
	if (st->st_uid != geteuid())
		return err_set(e, -EPERM, "%s belongs to uid %u, not to us (uid %u)", what,
			       (unsigned)st->st_uid, (unsigned)geteuid());
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return err_set(e, -EPERM, "%s may be changed by others (mode %03o)", what,
			       (unsigned)(st->st_mode & 0777));
	return 0;
}

/* A home that is not there is made anew; whose it may be, its backend knows. */
static int check_folder(int dir, struct err *e)
{
	struct stat st;
	int r;

	if (fstat(dir, &st) < 0)
		return err_errno(e, "its state folder");
	r = check_owner(&st, "its state folder", e);
	if (r < 0)
		return r;
	if (fstatat(dir, "home", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_errno(e, "its home");
	if (S_ISLNK(st.st_mode))
		return err_set(e, -ELOOP, "its home is a symbolic link");
	return S_ISDIR(st.st_mode) ? 0 : err_set(e, -ENOTDIR, "its home is not a folder");
}

/* The text of a file of the keeper's; the caller frees. */
static int read_own(int dir, const char *name, size_t max, struct str *out, struct err *e)
{
	_cleanup_close_ int fd =
		openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	int r;

	*out = STR_NULL;
	if (fd < 0 && errno == ENOENT)
		return err_set(e, -ENOENT, "%s is missing", name);
	if (fd < 0 && errno == ELOOP)
		return err_set(e, -ELOOP, "%s is a symbolic link", name);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, "open %s", name);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "%s is not a regular file", name);
	r = check_owner(&st, name, e);
	if (r < 0)
		return r;
	r = io_read_all(fd, max, out, e);
	return r < 0 ? err_prefix(e, "%s", name) : 0;
}

/* An object of the version that we know, with the bottle's own slug in it. */
static int read_object(int dir, const char *name, size_t max, const char *slug, json_t **out,
		       struct err *e)
{
	_cleanup_(clean_json_p) json_t *root = NULL;
	_cleanup_free_ char *text = NULL;
	const char *its_slug;
	struct str s;
	int r = read_own(dir, name, max, &s, e);

	*out = NULL;
	if (r < 0)
		return r;
	text = (char *)s.p;
	root = json_loadb(s.p, s.n, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(root))
		return err_set(e, -EBADMSG, "%s is damaged", name);
	if (json_integer_value(json_object_get(root, "version")) != 1)
		return err_set(e, -EBADMSG, "%s is not of this version", name);
	its_slug = json_string_value(json_object_get(root, "slug"));
	if (!its_slug || strcmp(its_slug, slug) != 0)
		return err_set(e, -EBADMSG, "%s is another bottle's", name);
	*out = take_ptr(&root);
	return 0;
}

static int damaged(const char *name, const char *key, struct err *e)
{
	return err_set(e, -EBADMSG, "%s is damaged: \"%s\" makes no sense", name, key);
}

static int read_backend(int dir, const char *slug, enum plan_backend *out, struct err *e)
{
	_cleanup_(clean_json_p) json_t *root = NULL;
	const char *name;
	int r = read_object(dir, "bottle.json", BOTTLE_JSON_MAX, slug, &root, e);

	if (r < 0)
		return r;
	name = json_string_value(json_object_get(root, "backend"));
	if (!name || plan_backend_parse(str_of(name), out, NULL) < 0)
		return damaged("bottle.json", "backend", e);
	return 0;
}

/* The texts of a list, or of one member (key not NULL) of its objects. */
static int copy_texts(const json_t *list, const char *key, char ***out, size_t *n)
{
	json_t *item;
	size_t i;

	if (!json_is_array(list))
		return -EBADMSG;
	*out = mem_zalloc_array(json_array_size(list) + 1, sizeof(**out));
	json_array_foreach(list, i, item)
	{
		const char *text = json_string_value(key ? json_object_get(item, key) : item);

		if (!text)
			return -EBADMSG;
		(*out)[(*n)++] = mem_strdup(text);
	}
	return 0;
}

/* Absent from plans that were made before there was one. */
static int read_workspace(const json_t *root, struct resume_was *w, struct err *e)
{
	const json_t *kind = json_object_get(root, "workspace");
	const char *name = json_string_value(kind);
	const char *path = json_string_value(json_object_get(root, "workspace_path"));

	if (!kind)
		return 0;
	if (!name || !plan_workspace_parse(str_of(name), &w->workspace) ||
	    (w->workspace != PLAN_WORKSPACE_NONE && (!path || path[0] != '/')))
		return damaged("plan.json", "workspace", e);
	w->workspace_path = path ? mem_strdup(path) : NULL;
	return 0;
}

static int read_plan(int dir, const char *slug, struct resume_was *w, struct err *e)
{
	_cleanup_(clean_json_p) json_t *root = NULL;
	const char *agent, *bottle, *backend;
	const json_t *file, *uid;
	int r = read_object(dir, "plan.json", PLAN_JSON_MAX, slug, &root, e);

	if (r < 0)
		return r;
	agent = json_string_value(json_object_get(root, "agent"));
	bottle = json_string_value(json_object_get(root, "bottle"));
	backend = json_string_value(json_object_get(root, "backend"));
	file = json_object_get(root, "agent_file");
	uid = json_object_get(root, "agent_uid");
	if (!agent || !manifest_name_is_valid(str_of(agent)))
		return damaged("plan.json", "agent", e);
	if (!bottle || !manifest_name_is_valid(str_of(bottle)))
		return damaged("plan.json", "bottle", e);
	if (!backend || strcmp(backend, plan_backend_name(w->backend)) != 0)
		return err_set(e, -EBADMSG, "bottle.json and plan.json name different backends");
	if (!json_is_null(file) && !json_is_string(file))
		return damaged("plan.json", "agent_file", e);
	if (!json_is_integer(uid))
		return damaged("plan.json", "agent_uid", e);
	w->agent = mem_strdup(agent);
	w->bottle = mem_strdup(bottle);
	w->agent_file = json_is_string(file) ? mem_strdup(json_string_value(file)) : NULL;
	w->is_as_root = json_integer_value(uid) == 0;
	if (copy_texts(json_object_get(root, "expose"), NULL, &w->expose, &w->n_expose) < 0)
		return damaged("plan.json", "expose", e);
	if (copy_texts(json_object_get(root, "secrets"), "token_ref", &w->token_refs,
		       &w->n_token_refs) < 0)
		return damaged("plan.json", "secrets", e);
	return read_workspace(root, w, e);
}

/* Absent from bottles that were made before there was one. */
static int read_git(int dir, struct resume_was *w, struct err *e)
{
	_cleanup_free_ char *text = NULL;
	struct str s;
	int r;

	if (faccessat(dir, "git.json", F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return 0;
	r = read_own(dir, "git.json", GIT_JSON_MAX_BYTES, &s, e);
	text = (char *)s.p;
	return r < 0 ? r : git_policy_from_json(&w->git, s, e);
}

static void read_policy(int dir, struct resume_was *w)
{
	_cleanup_free_ char *text = NULL;
	struct err e = ERR_INIT;
	struct str s;
	int r = read_own(dir, "policy.json", POLICY_JSON_MAX_BYTES, &s, &e);

	text = (char *)s.p;
	if (r == 0)
		r = policy_from_json(&w->policy, s, &e);
	if (r == 0)
		r = read_git(dir, w, &e);
	if (r < 0)
		text_visible_cstr(w->policy_error, sizeof(w->policy_error), str_of(e.text));
}

int resume_read(int dir, const char *slug, struct resume_was *out, struct err *e)
{
	int r;

	*out = (struct resume_was){.backend = PLAN_BACKEND_UNSET};
	r = check_folder(dir, e);
	if (r == 0)
		r = read_backend(dir, slug, &out->backend, e);
	if (r == 0)
		r = read_plan(dir, slug, out, e);
	if (r < 0) {
		resume_free(out);
		return r;
	}
	read_policy(dir, out);
	return 0;
}

static void texts_free(char **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i]);
	free(list);
}

void resume_free(struct resume_was *w)
{
	texts_free(w->expose, w->n_expose);
	texts_free(w->token_refs, w->n_token_refs);
	policy_free(&w->policy);
	git_policy_free(&w->git);
	free(w->agent);
	free(w->agent_file);
	free(w->bottle);
	free(w->workspace_path);
	*w = (struct resume_was){.backend = PLAN_BACKEND_UNSET};
}

/* --- the plan --- */

/* The folder whose .claude-bottle/agents the agent was read from; NULL when the file's name is no
 * such one. The caller frees. */
static char *agent_folder(const struct resume_was *w)
{
	_cleanup_free_ char *tail = mem_printf(AGENTS_FOLDER "%s.md", w->agent);
	struct str file = str_of(w->agent_file);

	if (file.n <= strlen(tail) || file.p[0] != '/' || !str_ends(file, str_of(tail)))
		return NULL;
	return str_dup(str_sub(file, 0, file.n - strlen(tail)));
}

int resume_plan(const struct resume_was *w, const char *slug, struct plan_options *o,
		struct plan *out, struct err *e)
{
	_cleanup_free_ char *folder = NULL;
	char home[PLACES_PATH_MAX];
	int r = places_home(home, e);

	if (r < 0)
		return r;
	/* Not the current directory, which may be another repository with an agent of this name. */
	if (w->agent_file) {
		folder = agent_folder(w);
		if (!folder)
			return damaged("plan.json", "agent_file", e);
	}
	o->home = home;
	o->cwd = folder;
	o->agent = w->agent_file ? w->agent : NULL;
	o->bottle = w->bottle;
	o->slug = slug;
	/* One that had no workspace gets none; else the manifest's word goes before the last run's.
	 * Its folder is the last run's. */
	if (w->workspace == PLAN_WORKSPACE_NONE)
		o->workspace = plan_workspace_name(w->workspace);
	else
		o->workspace_default = plan_workspace_name(w->workspace);
	o->workspace_folder = w->workspace_path;
	r = plan_make(out, o, e);
	o->home = o->cwd = o->workspace_folder = NULL;
	if (r < 0)
		return r;
	if (w->agent_file && strcmp(out->agent_file, w->agent_file) != 0) {
		r = err_set(e, -EEXIST,
			    "its agent was %s, and the name now means %s: rename one of them",
			    w->agent_file, out->agent_file);
		plan_free(out);
		return r;
	}
	if (w->is_as_root)
		out->agent_uid = 0;
	out->backend = w->backend;
	return 0;
}

/* --- the records --- */

int resume_mark(int dir, struct err *e)
{
	_cleanup_(runs_free) struct runs runs = {0};
	_cleanup_close_ int fd = -1;
	struct runs_end end;
	struct logs_chain c;
	size_t n_cut;
	int r = runs_load(dir, &runs, e);

	if (r < 0)
		return r;
	logs_chain_start(&c, &runs);
	fd = openat(dir, "records.jsonl", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 && errno != ENOENT)
		return err_errno(e, "open records.jsonl");
	/* A last line that is cut is the record role's to take away. */
	r = fd >= 0 ? logs_chain_file(&c, fd, &n_cut, e) : logs_chain_end(&c, e);
	if (r < 0)
		return err_prefix(e, "nothing can be added to its records");
	end.after = c.seq;
	memcpy(end.hash_hex, c.hash_hex, sizeof(end.hash_hex));
	return runs_add(dir, &runs, &end, e);
}
