/* The table of risky paths: each kind, its variants in other spellings, and their innocent twins.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "conf/risky_path.h"

#include <stdio.h>
#include <string.h>

#define KINDS (RISKY_CI | RISKY_HOST | RISKY_BUILD)

static void expect(const char *path, unsigned kinds)
{
	const char *what;
	unsigned got = risky_path_find(str_of(path), &what);

	if ((got & KINDS) != kinds)
		fail_msg("\"%s\": %u (%s), expected %u", path, got & KINDS, what ? what : "-",
			 kinds);
	assert_true(!!what == !!got);
	assert_int_equal(risky_path_find(str_of(path), NULL), got);
}

static void test_ci(void **state)
{
	static const char *const paths[] = {
		".github/workflows/ci.yml",
		".github/workflows/deep/er.yaml",
		".github/workflows",
		".github/actions/build/action.yml",
		".github/dependabot.yml",
		".gitea/workflows/a.yaml",
		".forgejo/workflows/a.yaml",
		".gitlab-ci.yml",
		"sub/.gitlab-ci.yml",
		"ci/build.gitlab-ci.yml",
		".circleci/config.yml",
		"Jenkinsfile",
		"deploy/Jenkinsfile",
		"Jenkinsfile.release",
		".travis.yml",
		"azure-pipelines.yml",
		"azure-pipelines-nightly.yml",
		"bitbucket-pipelines.yml",
		".drone.yml",
		".drone.star",
		".woodpecker/test.yml",
		".buildkite/pipeline.yml",
		"cloudbuild.yaml",
		".builds/alpine.yml",
		".tekton/push.yaml",
		"CODEOWNERS",
		"docs/CODEOWNERS",
		".github/CODEOWNERS",
		".gitlab/CODEOWNERS",
		".forgejo/CODEOWNERS",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		expect(paths[i], RISKY_CI);
	expect(".gitmodules", RISKY_CI | RISKY_HOST);
}

static void test_host(void **state)
{
	static const char *const paths[] = {
		".git",
		".git/config",
		".git/hooks/post-checkout",
		"vendor/lib/.git/config",
		"vendor/lib/.git",
		"fixtures/bare.git/config",
		"fixtures/bare.git/hooks/update",
		".husky/pre-commit",
		".githooks/pre-push",
		".pre-commit-config.yaml",
		"lefthook.yml",
		".vscode/tasks.json",
		"sub/.vscode/settings.json",
		"project.code-workspace",
		".idea/workspace.xml",
		".devcontainer/devcontainer.json",
		".devcontainer.json",
		".claude/settings.json",
		".claude/settings.local.json",
		".claude/hooks/a.sh",
		".claude",
		".mcp.json",
		".codex/config.toml",
		".cursor/mcp.json",
		".cursorrules",
		".gemini/settings.json",
		"AGENTS.md",
		"CLAUDE.md",
		"src/CLAUDE.md",
		".github/copilot-instructions.md",
		".envrc",
		"a/b/.envrc",
		".env",
		".env.local",
		"mise.toml",
		".mise.toml",
		".config/mise/config.toml",
		".tool-versions",
		".cargo/config.toml",
		".exrc",
		".dir-locals.el",
		".hg/hgrc",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		expect(paths[i], RISKY_HOST);
}

static void test_build(void **state)
{
	static const char *const paths[] = {
		"package.json",
		"packages/a/package.json",
		".npmrc",
		".yarnrc",
		".yarnrc.yml",
		"Makefile",
		"sub/Makefile",
		"rules.mk",
		"conftest.py",
		"tests/conftest.py",
		"build.rs",
		"setup.py",
		"pyproject.toml",
		"CMakeLists.txt",
		"meson.build",
		"build.gradle",
		"build.gradle.kts",
		"pom.xml",
		"Dockerfile",
		"Dockerfile.dev",
		"compose.yaml",
		"docker-compose.dev.yml",
		"vite.config.ts",
		".eslintrc.json",
		".gitattributes",
		"a/.gitattributes",
		"flake.nix",
		"x.csproj",
		".yarn/releases/y.cjs",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		expect(paths[i], RISKY_BUILD);
}

/* Other names for the same on one file system or another. */
static void test_variants(void **state)
{
	static const struct {
		const char *path;
		unsigned kinds;
	} rows[] = {
		/* case */
		{".GIT/config", RISKY_HOST},
		{".Git/Hooks/post-merge", RISKY_HOST},
		{".VSCODE/tasks.json", RISKY_HOST},
		{"claude.md", RISKY_HOST},
		{"makefile", RISKY_BUILD},
		{".GitHub/Workflows/ci.yml", RISKY_CI},
		{"codeowners", RISKY_CI},
		{"jenkinsFILE", RISKY_CI},
		{".GITMODULES", RISKY_CI | RISKY_HOST},
		/* letters that fold */
		{".v\u017fcode/tasks.json", RISKY_HOST},
		{".hu\u017f\u212ay/pre-commit", RISKY_HOST},
		{".g\u0130t/config", RISKY_HOST},
		/* what HFS+ does not see */
		{".g\u200cit/config", RISKY_HOST},
		{"\u200d.git/config", RISKY_HOST},
		{".git\ufeff/config", RISKY_HOST},
		{".\u202egithub/workflows/ci.yml", RISKY_CI},
		{".github/work\u2066flows/ci.yml", RISKY_CI},
		/* NTFS: dots, spaces, streams, short names, the other separator */
		{".git./config", RISKY_HOST},
		{".git /config", RISKY_HOST},
		{".git . ./config", RISKY_HOST},
		{".git::$INDEX_ALLOCATION/config", RISKY_HOST},
		{".git:$I30:$INDEX_ALLOCATION/config", RISKY_HOST},
		{".envrc::$DATA", RISKY_HOST},
		{".envrc. ", RISKY_HOST},
		{"Makefile:stream", RISKY_BUILD},
		{"git~1/config", RISKY_HOST},
		{"GIT~1", RISKY_HOST},
		{"sub/Git~2/hooks/update", RISKY_HOST},
		{"gitmod~1", RISKY_CI | RISKY_HOST},
		{"GI7EBA~1", RISKY_CI | RISKY_HOST},
		{"vscode~1/tasks.json", RISKY_HOST},
		{"packag~1.jso", RISKY_BUILD},
		{"mcp~1.jso", RISKY_HOST},
		{"github~1/workfl~1/ci.yml", RISKY_CI},
		{".git\\config", RISKY_HOST},
		{"a\\.git\\config", RISKY_HOST},
		{".github\\workflows\\ci.yml", RISKY_CI},
		/* other ways to write a path */
		{"./.envrc", RISKY_HOST},
		{"/.envrc", RISKY_HOST},
		{".github//workflows/ci.yml", RISKY_CI},
		{".github/./workflows/ci.yml", RISKY_CI},
		{"a/../.envrc", RISKY_HOST},
		{"../x", RISKY_HOST},
		{"a/.. /x", RISKY_HOST},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		expect(rows[i].path, rows[i].kinds);
}

static void test_innocent(void **state)
{
	static const char *const paths[] = {
		"",
		"/",
		".",
		"README.md",
		"src/main.c",
		".gitignore",
		".gitkeep",
		".github/ISSUE_TEMPLATE/bug.md",
		".github/pull_request_template.md",
		".github",
		"workflows/ci.yml",
		"docs/workflows/ci.yml",
		"src/.github/workflows/ci.yml",
		".github/workflows.md",
		"CODEOWNERS.md",
		"src/CODEOWNERS",
		"sub/.gitmodules",
		"gitmodules",
		"githooks.c",
		"husky/pre-commit",
		"git/config",
		"xgit~1/config",
		"git~/config",
		"git~x/config",
		"git~1x/config",
		"git~1.txt/config",
		"vscode/tasks.json",
		".vscodex/tasks.json",
		"Makefile.md",
		"Makefile/a",
		"mypackage.json",
		"package.json.bak",
		"package-lock.json",
		"packag~1.txt",
		"claude.mdx",
		"claude/settings.json",
		"agents/AGENTS.txt",
		".environment",
		"env",
		"envrc",
		"build/rs",
		"build.rss",
		"conftest.pyc",
		"code-workspace",
		".git-blame-ignore-revs",
		".gitx/config",
		"x.gitx/config",
		"x.git/description",
		"docs/jenkins.md",
		"Jenkinsfiles",
		"gr\u00fcn.md",
		"\xff\xfe",
		"a~b",
		"...",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		expect(paths[i], 0);
}

/* What agents edit as their ordinary work is never refused, at any depth, in any spelling. */
static void test_ordinary_work(void **state)
{
	static const char *const names[] = {
		"AGENTS.md",  "CLAUDE.md", "package.json", "Makefile",	 "build.rs", "conftest.py",
		"Dockerfile", ".env",	   "README.md",	   "Cargo.toml", "setup.py", "compose.yml"};
	static const char *const folders[] = {"", "src/", "a/b/c/", "docs/"};
	char path[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		for (size_t k = 0; k < ARRAY_LEN(folders); k++) {
			(void)snprintf(path, sizeof(path), "%s%s", folders[k], names[i]);
			assert_int_equal(risky_path_find(str_of(path), NULL) & RISKY_CI, 0);
		}
}

static void test_caps(void **state)
{
	static char path[RISKY_PATH_MAX + 2];

	(void)state;
	memset(path, 'a', sizeof(path));
	assert_int_equal(risky_path_find(str_slice(path, RISKY_PATH_MAX), NULL), 0);
	assert_int_equal(risky_path_find(str_slice(path, RISKY_PATH_MAX + 1), NULL), RISKY_HOST);
	for (size_t i = 1; i < sizeof(path); i += 2)
		path[i] = '/';
	assert_int_equal(risky_path_find(str_slice(path, 511), NULL), 0);
	assert_int_equal(risky_path_find(str_slice(path, 513), NULL), RISKY_HOST);
	assert_int_equal(risky_path_find(str_slice(".envrc\0", 7), NULL), 0);
	memcpy(path, ".envrc/", 7);
	assert_int_equal(risky_path_find(STR_NULL, NULL), 0);
}

static void test_mount(void **state)
{
	static const char *const wanted[] = {".git/config", ".git/hooks/", ".vscode/", ".claude/",
					     ".envrc",	    ".mcp.json",   ".husky/",  ".idea/"};
	const char *path;
	bool seen[ARRAY_LEN(wanted)] = {0};

	(void)state;
	for (size_t i = 0; (path = risky_path_mount(i)); i++) {
		assert_null(strpbrk(path, "*"));
		assert_true(path[0] != '/' && path[0] != '\0');
		assert_true(risky_path_find(str_of(path), NULL) & RISKY_MOUNT);
		assert_true(risky_path_find(str_of(path), NULL) & RISKY_HOST);
		for (size_t k = 0; k < ARRAY_LEN(wanted); k++)
			seen[k] |= strcmp(path, wanted[k]) == 0;
		assert_true(i < 100);
	}
	for (size_t k = 0; k < ARRAY_LEN(wanted); k++)
		assert_true(seen[k]);
	/* Agents work on these. */
	assert_false(risky_path_find(STR_LIT("AGENTS.md"), NULL) & RISKY_MOUNT);
	assert_false(risky_path_find(STR_LIT("package.json"), NULL) & RISKY_MOUNT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ci),	 cmocka_unit_test(test_host),
		cmocka_unit_test(test_build),	 cmocka_unit_test(test_variants),
		cmocka_unit_test(test_innocent), cmocka_unit_test(test_ordinary_work),
		cmocka_unit_test(test_caps),	 cmocka_unit_test(test_mount),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
