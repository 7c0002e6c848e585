/*
 * A5, F11 and G: a bottle with git remotes, whose upstream is the witness, and with a clone of a
 * scratch repository. What lands in that repository the canary does not see: its refs are looked at
 * from here. The control is the same pushes straight at the witness, which takes everything, from a
 * home that has a credential for it.
 */
#include "selftest/suite.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define GIT_REFS_MAX (4u << 20)

static const char *const ids[] = {"A5",	 "F11", "G01", "G02", "G03", "G04", "G05",
				  "G06", "G07", "G09", "G10", "G11", "G12"};

/* git in the scratch repository; words: separated by one space. */
static int call_git(struct suite *s, const char *words, struct buf *out, struct err *e)
{
	struct str rest = str_of(words), word;
	bool more = true;
	int status;

	suite_add(s, mem_strdup("/usr/bin/env"));
	suite_add(s, mem_strdup("GIT_CONFIG_NOSYSTEM=1"));
	suite_add(s, mem_strdup("git"));
	suite_add(s, mem_strdup("-c"));
	suite_add(s, mem_strdup("user.name=Selftest"));
	suite_add(s, mem_strdup("-c"));
	suite_add(s, mem_strdup("user.email=selftest@selftest.example"));
	while (more) {
		rest = str_cut(rest, ' ', &word, &more);
		suite_add(s, str_dup(word));
	}
	status = scratch_run(&s->scratch, s->args, "git-host", SUITE_GIT_S, out, e);
	suite_clear(s);
	return status <= 0 ? status : err_set(e, -EIO, "git %s: exit status %d", words, status);
}

static int write_work(const struct suite *s, const char *name, const char *text, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/work/%s", s->scratch.root, name);

	return io_write_file_atomic(AT_FDCWD, path, str_of(text), 0600, e);
}

/* Tracked, staged, untracked: of these the bottle may see the first. */
static int make_workspace(struct suite *s, struct err *e)
{
	static const char *const calls[] = {
		"init -q -b main .",
		"add README.md",
		"commit -q -m first",
	};
	_cleanup_(buf_free) struct buf out;
	int ret = write_work(s, "README.md", "a project\n", e);

	buf_init(&out, GIT_REFS_MAX);
	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(calls); i++)
		ret = call_git(s, calls[i], &out, e);
	if (ret == 0)
		ret = write_work(s, "staged.txt", "staged, and not committed\n", e);
	if (ret == 0)
		ret = call_git(s, "add staged.txt", &out, e);
	if (ret == 0)
		ret = write_work(s, ".env", "PASSWORD=nobody-else-s\n", e);
	return ret;
}

/* The home that a person has: it can push without being asked. */
static int make_credential(const struct suite *s, struct err *e)
{
	_cleanup_free_ char *config = mem_printf("%s/home/.gitconfig", s->scratch.root);
	_cleanup_free_ char *store = mem_printf("%s/home/.git-credentials", s->scratch.root);
	_cleanup_free_ char *line =
		mem_printf("https://x-access-token:%s@git.selftest.example\n", s->scratch.secret);
	int ret = io_write_file_atomic(AT_FDCWD, config,
				       STR_LIT("[credential]\n\thelper = store\n"), 0600, e);

	return ret < 0 ? ret : io_write_file_atomic(AT_FDCWD, store, str_of(line), 0600, e);
}

static void add_git(struct suite *s)
{
	suite_add(s, mem_strdup("git=1"));
	suite_add(s, mem_printf("workspace=%s/work", s->scratch.root));
}

static int run_inside(struct suite *s, bool is_root, struct err *e)
{
	suite_progress(is_root ? "attacking git-gate as root inside" : "attacking git-gate");
	suite_add_start(s, "git", is_root);
	suite_add_probe(s, "attack", is_root ? "root" : "agent", s->options->only);
	add_git(s);
	return suite_collect(s, is_root ? SELFTEST_RUN_ROOT : SELFTEST_RUN_AGENT,
			     is_root ? "git-root" : "git-agent", e);
}

/* What came into the host's repository. */
static int take_refs(struct suite *s, struct err *e)
{
	_cleanup_(buf_free) struct buf out;
	int ret;

	buf_init(&out, GIT_REFS_MAX);
	ret = call_git(s, "for-each-ref", &out, e);
	if (ret == 0 && buf_append_str(&s->witnessed, buf_str(&out)) < 0)
		ret = err_set(e, -ENOBUFS, "the workspace has too many refs");
	return ret;
}

static int run_outside(struct suite *s, struct err *e)
{
	int ret;

	suite_progress("the same without git-gate");
	ret = suite_add_control(s, s->options->only, e);
	if (ret < 0)
		return ret;
	add_git(s);
	return suite_collect(s, SELFTEST_RUN_CONTROL, "git-control", e);
}

int git_run(struct suite *s, struct err *e)
{
	char has_git[8];
	int ret;

	if (!suite_wants_any(s, ids, ARRAY_LEN(ids)))
		return 0;
	if (!scratch_target(&s->scratch, "git", has_git, sizeof(has_git))) {
		suite_skip_all(s, ids, ARRAY_LEN(ids), "git",
			       "this host has no git for the witness");
		return 0;
	}
	ret = make_workspace(s, e);
	if (ret == 0)
		ret = make_credential(s, e);
	if (ret == 0)
		ret = run_inside(s, false, e);
	if (ret == 0)
		ret = run_inside(s, true, e);
	if (ret == 0)
		ret = take_refs(s, e);
	return ret < 0 ? ret : run_outside(s, e);
}
