/*
 * Finding manifests and reading them whole. Two kinds of place, two rules:
 *
 * - The home's files decide what an agent may reach. Each, and each folder on the way from the
 *   home, must belong to the user or to root and be writable by nobody else. Links are followed
 *   (people keep their settings in a repository); the rule holds for what they lead to.
 * - The current folder may hold anything. No link is followed there, only a regular file is read,
 *   and all that it can say is which bottle of the home, and what to say to the agent.
 */
#include "conf/manifest.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define MANIFEST_FOLDER ".claude-bottle"
#define NAMES_MAX	256

bool manifest_name_is_valid(struct str name)
{
	if (name.n == 0 || name.n > MANIFEST_NAME_MAX || name.p[0] < 'a' || name.p[0] > 'z')
		return false;
	for (size_t i = 0; i < name.n; i++)
		if (!ascii_is_digit(name.p[i]) && name.p[i] != '-' &&
		    (name.p[i] < 'a' || name.p[i] > 'z'))
			return false;
	return true;
}

/* Nobody but the user and root may have written it. */
static int check_owner(int fd, const char *path, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno(e, "\"%s\"", path);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return err_set(
			e, -EPERM,
			"\"%s\" belongs to another user (uid %u); manifests must be your own", path,
			(unsigned)st.st_uid);
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return err_set(
			e, -EPERM,
			"\"%s\" may be changed by others (mode %04o); run: chmod go-w \"%s\"", path,
			(unsigned)(st.st_mode & 07777), path);
	return 0;
}

/* The folder base/.claude-bottle/kind, or -ENOENT without an error when there is none. */
static int open_folder(const char *base, const char *kind, bool is_home, int *out, struct err *e)
{
	const char *const parts[] = {MANIFEST_FOLDER, kind};
	_cleanup_close_ int at = open(base, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *path = mem_strdup(base);

	*out = -1;
	if (at < 0)
		return errno == ENOENT ? -ENOENT : err_errno(e, "open \"%s\"", base);
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		_cleanup_free_ char *next_path = mem_printf("%s/%s", path, parts[i]);
		int next = openat(at, parts[i],
				  O_RDONLY | O_DIRECTORY | O_CLOEXEC | (is_home ? 0 : O_NOFOLLOW));
		int ret;

		if (next < 0 &&
		    (errno == ENOENT || (!is_home && (errno == ELOOP || errno == ENOTDIR))))
			return -ENOENT;
		if (next < 0)
			return err_errno(e, "open \"%s\"", next_path);
		close_fd(&at);
		at = next;
		free(path);
		path = take_ptr(&next_path);
		ret = is_home ? check_owner(at, path, e) : 0;
		if (ret < 0)
			return ret;
	}
	*out = take_fd(&at);
	return 0;
}

/* The file's text; -ENOENT without an error when there is none. path is for errors. */
static int read_file(int folder, const char *name, const char *path, bool is_home, struct str *out,
		     struct err *e)
{
	_cleanup_free_ char *file = mem_printf("%s.md", name);
	_cleanup_close_ int fd =
		openat(folder, file,
		       O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (is_home ? 0 : O_NOFOLLOW));
	struct stat st;
	int ret;

	*out = STR_NULL;
	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0)
		return err_errno(e, "open \"%s\"", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "\"%s\" is not a regular file", path);
	ret = is_home ? check_owner(fd, path, e) : 0;
	if (ret == 0)
		ret = io_read_all(fd, YAML_FILE_MAX_BYTES, out, e);
	if (ret < 0 && ret == -EFBIG)
		return err_set(e, ret, "\"%s\" is larger than %u bytes", path, YAML_FILE_MAX_BYTES);
	return ret;
}

struct name_list {
	char *names[NAMES_MAX];
	size_t n;
};

static void name_list_free(struct name_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->names[i]);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The valid names of a folder, sorted; a folder that is not there has none. */
static void list_names(const char *base, const char *kind, bool is_home, struct name_list *out)
{
	_cleanup_closedir_ DIR *dir = NULL;
	struct dirent *entry;
	int fd;

	*out = (struct name_list){0};
	if (open_folder(base, kind, is_home, &fd, NULL) < 0)
		return;
	dir = fdopendir(fd);
	if (!dir) {
		(void)close(fd);
		return;
	}
	while (out->n < NAMES_MAX && (entry = readdir(dir))) {
		struct str name = str_of(entry->d_name);

		if (!str_ends(name, STR_LIT(".md")))
			continue;
		name.n -= 3;
		if (manifest_name_is_valid(name))
			out->names[out->n++] = str_dup(name);
	}
	if (out->n > 1)
		qsort(out->names, out->n, sizeof(out->names[0]), compare_names);
}

static int refuse_missing(const char *what, const char *name, const char *path,
			  const struct name_list *known, struct err *e)
{
	_cleanup_(buf_free) struct buf list;
	const char *near = text_nearest(str_of(name), (const char *const *)known->names, known->n);

	buf_init(&list, 512);
	for (size_t i = 0; i < known->n; i++)
		if (buf_printf(&list, "%s%s", i ? ", " : "", known->names[i]) < 0)
			break;
	if (near)
		return err_set(e, -ENOENT, "there is no %s \"%s\" (%s); did you mean \"%s\"?", what,
			       name, path, near);
	if (known->n > 0)
		return err_set(e, -ENOENT, "there is no %s \"%s\" (%s); there are: " STR_FMT, what,
			       name, path, STR_ARG(buf_str(&list)));
	return err_set(e, -ENOENT,
		       "there is no %s \"%s\" (%s); \"claude-bottle init\" writes examples", what,
		       name, path);
}

/* --- bottles --- */

static const struct plan_limits limits_default = {
	.processes = 1024,
	.files = 8192,
};

void manifest_bottle_free(struct manifest_bottle *b)
{
	for (size_t i = 0; i < b->n_env; i++) {
		free(b->env[i].name);
		free(b->env[i].value);
	}
	for (size_t i = 0; i < b->n_expose; i++)
		free(b->expose[i]);
	for (size_t i = 0; i < b->n_routes; i++)
		manifest_route_free(&b->routes[i]);
	for (size_t i = 0; i < b->n_resolve; i++)
		free(b->resolve[i].host);
	for (size_t i = 0; i < b->n_sources; i++)
		free(b->sources[i]);
	manifest_git_free(&b->git);
	manifest_supervise_free(&b->supervise);
	free(b->provider);
	free(b->image);
	free(b->env);
	free(b->expose);
	free(b->routes);
	free(b->resolve);
	free(b->ca_pem);
	free(b->sources);
	*b = (struct manifest_bottle){0};
}

/* The bottles being read, from the one that was asked for to its base. */
struct chain {
	const char *names[MANIFEST_EXTENDS_MAX];
	size_t n;
};

/* Refuses a cycle, naming it, and a chain that is too long. */
static int check_chain(struct schema_ctx *c, const struct yaml_node *extends,
		       const struct chain *chain)
{
	_cleanup_(buf_free) struct buf way;

	buf_init(&way, ERR_TEXT_MAX);
	for (size_t i = 0; i < chain->n; i++) {
		if (!str_eq(str_of(chain->names[i]), extends->text))
			continue;
		for (size_t k = i; k < chain->n; k++)
			(void)!buf_printf(&way, "%s -> ", chain->names[k]);
		return schema_refuse(c, extends, "extends goes in a circle: " STR_FMT STR_FMT,
				     STR_ARG(buf_str(&way)), STR_ARG(extends->text));
	}
	if (chain->n == MANIFEST_EXTENDS_MAX)
		return schema_refuse(c, extends, "extends goes over more than %d bottles",
				     MANIFEST_EXTENDS_MAX);
	return 0;
}

static int load_bottle(struct manifest_bottle *out, const char *home, struct chain *chain,
		       struct err *e);

/* Bases first, so that what the file itself says comes last and wins. */
static int read_doc(struct manifest_bottle *out, const struct yaml_doc *doc, const char *home,
		    struct chain *chain, struct err *e)
{
	struct schema_ctx c = {.file = doc->file, .home = home, .e = e};
	const struct yaml_node *extends = yaml_get(doc->root, "extends");
	int ret = 0;

	if (extends) {
		_cleanup_free_ char *base = NULL;

		if (extends->kind != YAML_KIND_SCALAR || !manifest_name_is_valid(extends->text))
			return schema_refuse(&c, extends, "extends must be the name of a bottle");
		ret = check_chain(&c, extends, chain);
		if (ret < 0)
			return ret;
		base = str_dup(extends->text);
		chain->names[chain->n++] = base;
		ret = load_bottle(out, home, chain, e);
		chain->n--;
		ret = ret < 0 ? schema_place(&c, extends, ret) : 0;
	}
	if (ret == 0)
		ret = manifest_read_bottle(&c, doc->root, out);
	if (ret < 0)
		return ret;
	out->sources = mem_grow_array(out->sources, &out->cap_sources, out->n_sources + 1,
				      sizeof(*out->sources));
	out->sources[out->n_sources++] = mem_strdup(doc->file);
	return 0;
}

/* The bottle at the end of the chain. */
static int load_bottle(struct manifest_bottle *out, const char *home, struct chain *chain,
		       struct err *e)
{
	const char *name = chain->names[chain->n - 1];
	_cleanup_free_ char *path = mem_printf("%s/" MANIFEST_FOLDER "/bottles/%s.md", home, name);
	_cleanup_(yaml_doc_free) struct yaml_doc doc = {0};
	_cleanup_(name_list_free) struct name_list known = {0};
	_cleanup_close_ int folder = -1;
	_cleanup_free_ char *text_p = NULL;
	struct str text = STR_NULL;
	int ret = open_folder(home, "bottles", true, &folder, e);

	if (ret == 0)
		ret = read_file(folder, name, path, true, &text, e);
	if (ret == -ENOENT) {
		list_names(home, "bottles", true, &known);
		return refuse_missing("bottle", name, path, &known, e);
	}
	if (ret < 0)
		return ret;
	text_p = (char *)text.p;
	ret = yaml_doc_parse(&doc, path, text, e);
	return ret < 0 ? ret : read_doc(out, &doc, home, chain, e);
}

int manifest_load_bottle(struct manifest_bottle *out, const char *home, const char *name,
			 struct err *e)
{
	struct chain chain = {.names = {name}, .n = 1};
	int ret;

	*out = (struct manifest_bottle){.limits = limits_default, .wants_canary = true};
	if (!manifest_name_is_valid(str_of(name))) {
		char shown[96];

		text_visible_cstr(shown, sizeof(shown), str_of(name));
		return err_set(e, -EINVAL,
			       "\"%s\" is not a bottle's name: a lower-case letter, then letters, "
			       "digits and \"-\", at most %d",
			       shown, MANIFEST_NAME_MAX);
	}
	manifest_git_init(&out->git);
	ret = load_bottle(out, home, &chain, e);
	if (ret == 0)
		ret = manifest_check_supervise(out, e);
	if (ret < 0)
		manifest_bottle_free(out);
	return ret;
}

/* --- agents --- */

void manifest_agent_free(struct manifest_agent *a)
{
	free(a->name);
	free(a->bottle);
	free(a->description);
	free(a->file);
	free(a->model);
	free(a->tools);
	free(a->disallowed_tools);
	free(a->permission_mode);
	free(a->prompt);
	free(a->note);
	*a = (struct manifest_agent){0};
}

static bool same_folder(const char *a, const char *b)
{
	struct stat sa, sb;

	return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
	       sa.st_ino == sb.st_ino;
}

static int read_agent_text(struct manifest_agent *out, const char *home, struct str text,
			   struct err *e)
{
	_cleanup_(yaml_doc_free) struct yaml_doc doc = {0};
	struct schema_ctx c = {.file = out->file, .home = home, .e = e};
	struct str body;
	int ret = yaml_doc_parse(&doc, out->file, text, e);

	if (ret == 0)
		ret = manifest_read_agent(&c, doc.root, out);
	if (ret < 0)
		return ret;
	body = doc.body;
	while (body.n > 0 && (body.p[0] == '\n' || body.p[0] == '\r' || body.p[0] == ' '))
		body = str_sub(body, 1, body.n);
	while (body.n > 0 && (body.p[body.n - 1] == '\n' || body.p[body.n - 1] == '\r' ||
			      body.p[body.n - 1] == ' '))
		body.n--;
	if (body.n > 0 && memchr(body.p, '\0', body.n))
		return err_at(e, out->file, doc.body_line, 1, "the prompt holds a NUL character");
	if (body.n > 0)
		out->prompt = str_dup(body);
	return 0;
}

/* From one place; -ENOENT without an error when it has no such agent. */
static int load_agent_from(struct manifest_agent *out, const char *base, bool is_home,
			   const char *home, const char *name, struct err *e)
{
	_cleanup_close_ int folder = -1;
	_cleanup_free_ char *text_p = NULL;
	struct str text = STR_NULL;
	int ret;

	*out = (struct manifest_agent){
		.name = mem_strdup(name),
		.file = mem_printf("%s/" MANIFEST_FOLDER "/agents/%s.md", base, name),
	};
	ret = open_folder(base, "agents", is_home, &folder, e);
	if (ret == 0)
		ret = read_file(folder, name, out->file, is_home, &text, e);
	text_p = (char *)text.p;
	if (ret == 0)
		ret = read_agent_text(out, home, text, e);
	if (ret < 0)
		manifest_agent_free(out);
	return ret;
}

static bool has_agent(const char *base, const char *name)
{
	_cleanup_(name_list_free) struct name_list l = {0};

	list_names(base, "agents", false, &l);
	for (size_t i = 0; i < l.n; i++)
		if (strcmp(l.names[i], name) == 0)
			return true;
	return false;
}

int manifest_load_agent(struct manifest_agent *out, const char *home, const char *cwd,
			const char *name, struct err *e)
{
	_cleanup_(name_list_free) struct name_list known = {0};
	_cleanup_free_ char *path = NULL;
	bool has_cwd = cwd && !same_folder(home, cwd);
	int ret;

	*out = (struct manifest_agent){0};
	if (!manifest_name_is_valid(str_of(name))) {
		char shown[96];

		text_visible_cstr(shown, sizeof(shown), str_of(name));
		return err_set(e, -EINVAL,
			       "\"%s\" is not an agent's name: a lower-case letter, then letters, "
			       "digits and \"-\", at most %d",
			       shown, MANIFEST_NAME_MAX);
	}
	ret = load_agent_from(out, home, true, home, name, e);
	if (ret == 0 && has_cwd && has_agent(cwd, name))
		out->note = mem_printf("agent \"%s\" is the home's (%s); the one of the current "
				       "folder is not used",
				       name, out->file);
	if (ret == -ENOENT && has_cwd)
		ret = load_agent_from(out, cwd, false, home, name, e);
	if (ret != -ENOENT)
		return ret;
	path = mem_printf("%s/" MANIFEST_FOLDER "/agents/%s.md", home, name);
	list_names(home, "agents", true, &known);
	return refuse_missing("agent", name, path, &known, e);
}

/* --- the picker's list --- */

static void add_agent(struct plan_agent_info **list, size_t *n, size_t *cap, const char *base,
		      bool is_home, const char *home, const char *name)
{
	_cleanup_(manifest_agent_free) struct manifest_agent a = {0};
	struct err e = ERR_INIT;
	struct plan_agent_info *info;
	char why[ERR_TEXT_MAX + ERR_FILE_MAX];

	for (size_t i = 0; i < *n; i++)
		if (strcmp((*list)[i].name, name) == 0)
			return;
	*list = mem_grow_array(*list, cap, *n + 1, sizeof(**list));
	info = &(*list)[(*n)++];
	info->name = mem_strdup(name);
	if (load_agent_from(&a, base, is_home, home, name, &e) < 0) {
		/* Shown, not hidden: otherwise nobody would know why it is missing. */
		err_format(&e, why, sizeof(why));
		info->description = mem_printf("cannot be used: %s", why);
		info->file = mem_printf("%s/" MANIFEST_FOLDER "/agents/%s.md", base, name);
		return;
	}
	info->bottle = take_ptr(&a.bottle);
	info->description = take_ptr(&a.description);
	info->file = take_ptr(&a.file);
}

int plan_list_agents(const char *home, const char *cwd, struct plan_agent_info **out, size_t *n,
		     struct err *e)
{
	const char *const bases[] = {home, cwd && !same_folder(home, cwd) ? cwd : NULL};
	size_t cap = 0;
	int fd, ret;

	*out = NULL;
	*n = 0;
	/* A folder of the home that others may write into is an error, not an empty list. */
	ret = open_folder(home, "agents", true, &fd, e);
	if (ret < 0 && ret != -ENOENT)
		return ret;
	close_fd(&fd);
	for (size_t b = 0; b < ARRAY_LEN(bases); b++) {
		_cleanup_(name_list_free) struct name_list names = {0};

		if (!bases[b])
			continue;
		list_names(bases[b], "agents", b == 0, &names);
		for (size_t i = 0; i < names.n; i++)
			add_agent(out, n, &cap, bases[b], b == 0, home, names.names[i]);
	}
	return 0;
}

void plan_agents_free(struct plan_agent_info *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(list[i].name);
		free(list[i].bottle);
		free(list[i].description);
		free(list[i].file);
	}
	free(list);
}
