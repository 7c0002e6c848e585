/*
 * The table, and the comparison that takes one spelling for another as the most forgiving of the
 * file systems would. A name too many costs a human a glance; a name too few costs the host.
 *
 * What agents edit as their ordinary work (AGENTS.md, package.json, Makefile) is reported, never
 * refused: only RISKY_CI is, and nothing is there that runs on this side alone. ".gitattributes"
 * runs nothing by itself, but it chooses among the filters and merge drivers that the host's git
 * has been given, and hides changes from a diff: reported. A bare repository under a name of its
 * own cannot be told by one path; git's safe.bareRepository is for that.
 */
#include "conf/risky_path.h"

#include "base/clean.h"
#include "base/text.h"

#include <assert.h>

/* Case as the reader wants it. "/" first: at the top alone, else at any depth; "/" last: a folder
 * and all below it; "*": any run of bytes within a segment. */
static const struct risky_entry {
	const char *pattern;
	unsigned flags;
	const char *what;
} risky_table[] = {
	{"/.github/workflows/", RISKY_CI, "a CI workflow"},
	{"/.github/actions/", RISKY_CI, "an action of CI workflows"},
	{"/.github/dependabot.y*ml", RISKY_CI, "what a bot changes upstream"},
	{"/.github/settings.y*ml", RISKY_CI, "settings of the repository upstream"},
	{"/.gitea/workflows/", RISKY_CI, "a CI workflow"},
	{"/.forgejo/workflows/", RISKY_CI, "a CI workflow"},
	{"/.gitea/actions/", RISKY_CI, "an action of CI workflows"},
	{"/.forgejo/actions/", RISKY_CI, "an action of CI workflows"},
	{".gitlab-ci.y*ml", RISKY_CI, "a CI workflow"},
	{"*.gitlab-ci.y*ml", RISKY_CI, "a CI workflow"},
	{"/.gitlab/ci/", RISKY_CI, "a CI workflow"},
	{"/.gitlab/agents/", RISKY_CI, "settings of a CI agent"},
	{"/.circleci/", RISKY_CI, "a CI workflow"},
	{"Jenkinsfile", RISKY_CI, "a CI workflow"},
	{"Jenkinsfile.*", RISKY_CI, "a CI workflow"},
	{"*.Jenkinsfile", RISKY_CI, "a CI workflow"},
	{"/.travis.y*ml", RISKY_CI, "a CI workflow"},
	{"azure-pipelines*.y*ml", RISKY_CI, "a CI workflow"},
	{"/.azure-pipelines/", RISKY_CI, "a CI workflow"},
	{"/bitbucket-pipelines.y*ml", RISKY_CI, "a CI workflow"},
	{"/.drone.*", RISKY_CI, "a CI workflow"},
	{"/.woodpecker.y*ml", RISKY_CI, "a CI workflow"},
	{"/.woodpecker/", RISKY_CI, "a CI workflow"},
	{"/.buildkite/", RISKY_CI, "a CI workflow"},
	{"/appveyor.y*ml", RISKY_CI, "a CI workflow"},
	{"/.appveyor.y*ml", RISKY_CI, "a CI workflow"},
	{"/.cirrus.*", RISKY_CI, "a CI workflow"},
	{"/cloudbuild*.y*ml", RISKY_CI, "a CI workflow"},
	{"/cloudbuild*.json", RISKY_CI, "a CI workflow"},
	{"buildspec*.y*ml", RISKY_CI, "a CI workflow"},
	{"/.semaphore/", RISKY_CI, "a CI workflow"},
	{"/.teamcity/", RISKY_CI, "a CI workflow"},
	{"/.builds/", RISKY_CI, "a CI workflow"},
	{"/.build.y*ml", RISKY_CI, "a CI workflow"},
	{"/.tekton/", RISKY_CI, "a CI workflow"},
	{"/.harness/", RISKY_CI, "a CI workflow"},
	{"/codemagic.y*ml", RISKY_CI, "a CI workflow"},
	{"/wercker.y*ml", RISKY_CI, "a CI workflow"},
	{"/.gocd.y*ml", RISKY_CI, "a CI workflow"},
	{"*.gocd.y*ml", RISKY_CI, "a CI workflow"},
	{"/CODEOWNERS", RISKY_CI, "who must approve changes"},
	{"/docs/CODEOWNERS", RISKY_CI, "who must approve changes"},
	{"/.github/CODEOWNERS", RISKY_CI, "who must approve changes"},
	{"/.gitlab/CODEOWNERS", RISKY_CI, "who must approve changes"},
	{"/.gitea/CODEOWNERS", RISKY_CI, "who must approve changes"},
	{"/.forgejo/CODEOWNERS", RISKY_CI, "who must approve changes"},
	{"/.bitbucket/CODEOWNERS", RISKY_CI, "who must approve changes"},
	{"/.gitmodules", RISKY_CI | RISKY_HOST, "where submodules come from"},
	{".git/", RISKY_HOST, "git's own folder"},
	{"*.git/config", RISKY_HOST, "the configuration of a bare repository"},
	{"*.git/hooks/", RISKY_HOST, "hooks of a bare repository"},
	{".hg/", RISKY_HOST, "Mercurial's own folder"},
	{".svn/", RISKY_HOST, "Subversion's own folder"},
	{".jj/", RISKY_HOST, "Jujutsu's own folder"},
	{".husky/", RISKY_HOST | RISKY_MOUNT, "git hooks (husky)"},
	{".githooks/", RISKY_HOST | RISKY_MOUNT, "git hooks"},
	{".git-hooks/", RISKY_HOST, "git hooks"},
	{".pre-commit-config.yaml", RISKY_HOST | RISKY_MOUNT, "git hooks (pre-commit)"},
	{".pre-commit-config.yml", RISKY_HOST, "git hooks (pre-commit)"},
	{"lefthook.*", RISKY_HOST, "git hooks (lefthook)"},
	{".lefthook.*", RISKY_HOST, "git hooks (lefthook)"},
	{".lefthook/", RISKY_HOST, "git hooks (lefthook)"},
	{".overcommit.yml", RISKY_HOST, "git hooks (overcommit)"},
	{".vscode/", RISKY_HOST | RISKY_MOUNT, "editor settings and tasks"},
	{"*.code-workspace", RISKY_HOST, "editor settings and tasks"},
	{".idea/", RISKY_HOST | RISKY_MOUNT, "editor settings and tasks"},
	{".vs/", RISKY_HOST, "editor settings"},
	{".zed/", RISKY_HOST | RISKY_MOUNT, "editor settings and tasks"},
	{".fleet/", RISKY_HOST, "editor settings and tasks"},
	{".devcontainer/", RISKY_HOST | RISKY_MOUNT, "what a development container runs"},
	{".devcontainer.json", RISKY_HOST | RISKY_MOUNT, "what a development container runs"},
	{"*.sublime-project", RISKY_HOST, "editor settings"},
	{".nvim.lua", RISKY_HOST | RISKY_MOUNT, "editor settings"},
	{".nvimrc", RISKY_HOST, "editor settings"},
	{".exrc", RISKY_HOST | RISKY_MOUNT, "editor settings"},
	{".vimrc", RISKY_HOST, "editor settings"},
	{".dir-locals.el", RISKY_HOST | RISKY_MOUNT, "editor settings"},
	{".dir-locals-2.el", RISKY_HOST, "editor settings"},
	{".claude/", RISKY_HOST | RISKY_MOUNT, "settings of a coding agent"},
	{".mcp.json", RISKY_HOST | RISKY_MOUNT, "tools of a coding agent"},
	{".codex/", RISKY_HOST | RISKY_MOUNT, "settings of a coding agent"},
	{".cursor/", RISKY_HOST | RISKY_MOUNT, "settings of a coding agent"},
	{".gemini/", RISKY_HOST | RISKY_MOUNT, "settings of a coding agent"},
	{".cursorrules", RISKY_HOST, "instructions to a coding agent"},
	{".windsurf/", RISKY_HOST, "settings of a coding agent"},
	{".windsurfrules", RISKY_HOST, "instructions to a coding agent"},
	{".clinerules/", RISKY_HOST, "instructions to a coding agent"},
	{".roo/", RISKY_HOST, "settings of a coding agent"},
	{".roomodes", RISKY_HOST, "settings of a coding agent"},
	{".continue/", RISKY_HOST, "settings of a coding agent"},
	{".aider*", RISKY_HOST, "settings of a coding agent"},
	{".junie/", RISKY_HOST, "settings of a coding agent"},
	{".kiro/", RISKY_HOST, "settings of a coding agent"},
	{".opencode/", RISKY_HOST, "settings of a coding agent"},
	{"opencode.json*", RISKY_HOST, "settings of a coding agent"},
	{".amazonq/", RISKY_HOST, "settings of a coding agent"},
	{".augment/", RISKY_HOST, "settings of a coding agent"},
	{".trae/", RISKY_HOST, "settings of a coding agent"},
	{".goosehints", RISKY_HOST, "instructions to a coding agent"},
	{"CLAUDE.md", RISKY_HOST, "instructions to a coding agent"},
	{"CLAUDE.local.md", RISKY_HOST, "instructions to a coding agent"},
	{"AGENTS.md", RISKY_HOST, "instructions to a coding agent"},
	{"AGENTS.override.md", RISKY_HOST, "instructions to a coding agent"},
	{"GEMINI.md", RISKY_HOST, "instructions to a coding agent"},
	{"/.github/copilot-instructions.md", RISKY_HOST, "instructions to a coding agent"},
	{"/.github/instructions/", RISKY_HOST, "instructions to a coding agent"},
	{"/.github/prompts/", RISKY_HOST, "instructions to a coding agent"},
	{"/.github/chatmodes/", RISKY_HOST, "instructions to a coding agent"},
	{"/.github/agents/", RISKY_HOST, "instructions to a coding agent"},
	{".envrc", RISKY_HOST | RISKY_MOUNT, "what direnv runs at a cd"},
	{".direnv/", RISKY_HOST, "what direnv runs at a cd"},
	{".env", RISKY_HOST, "variables of the environment"},
	{".env.*", RISKY_HOST, "variables of the environment"},
	{"mise.toml", RISKY_HOST | RISKY_MOUNT, "what mise runs at a cd"},
	{".mise.toml", RISKY_HOST | RISKY_MOUNT, "what mise runs at a cd"},
	{"mise.*.toml", RISKY_HOST, "what mise runs at a cd"},
	{".mise.*.toml", RISKY_HOST, "what mise runs at a cd"},
	{".mise/", RISKY_HOST, "what mise runs at a cd"},
	{".config/mise/", RISKY_HOST, "what mise runs at a cd"},
	{".config/mise.toml", RISKY_HOST, "what mise runs at a cd"},
	{".rtx.toml", RISKY_HOST, "what mise runs at a cd"},
	{".tool-versions", RISKY_HOST, "which programs a shell takes"},
	{".autoenv*", RISKY_HOST, "what a shell runs at a cd"},
	{".cargo/", RISKY_HOST, "programs that cargo runs"},
	{".Rprofile", RISKY_HOST, "what R runs at its start"},
	{"/.git/config", RISKY_HOST | RISKY_MOUNT, "git's own folder"},
	{"/.git/config.worktree", RISKY_HOST | RISKY_MOUNT, "git's own folder"},
	{"/.git/hooks/", RISKY_HOST | RISKY_MOUNT, "git's own folder"},
	{"/.git/info/", RISKY_HOST | RISKY_MOUNT, "git's own folder"},
	{"/.git/modules/", RISKY_HOST | RISKY_MOUNT, "git's own folder"},
	{"/.git/worktrees/", RISKY_HOST | RISKY_MOUNT, "git's own folder"},
	{"/.git/commondir", RISKY_HOST | RISKY_MOUNT, "git's own folder"},
	{"package.json", RISKY_BUILD, "scripts of npm"},
	{".npmrc", RISKY_BUILD, "settings of npm"},
	{".yarnrc*", RISKY_BUILD, "settings of yarn"},
	{".yarn/", RISKY_BUILD, "programs of yarn"},
	{".pnp.*", RISKY_BUILD, "what Node loads at its start"},
	{"pnpm-workspace.y*ml", RISKY_BUILD, "settings of pnpm"},
	{".pnpmfile.*", RISKY_BUILD, "what pnpm runs"},
	{"bunfig.toml", RISKY_BUILD, "settings of bun"},
	{"deno.json*", RISKY_BUILD, "tasks of deno"},
	{"Makefile", RISKY_BUILD, "what make runs"},
	{"GNUmakefile", RISKY_BUILD, "what make runs"},
	{"*.mk", RISKY_BUILD, "what make runs"},
	{"Justfile", RISKY_BUILD, "what just runs"},
	{".justfile", RISKY_BUILD, "what just runs"},
	{"Taskfile.*", RISKY_BUILD, "what task runs"},
	{"Rakefile", RISKY_BUILD, "what rake runs"},
	{"Gemfile", RISKY_BUILD, "what bundler runs"},
	{"*.gemspec", RISKY_BUILD, "what bundler runs"},
	{".bundle/", RISKY_BUILD, "settings of bundler"},
	{".irbrc", RISKY_BUILD, "what Ruby runs"},
	{".pryrc", RISKY_BUILD, "what Ruby runs"},
	{".rspec", RISKY_BUILD, "settings of tests"},
	{"setup.py", RISKY_BUILD, "what a Python build runs"},
	{"setup.cfg", RISKY_BUILD, "what a Python build runs"},
	{"pyproject.toml", RISKY_BUILD, "what a Python build runs"},
	{"conftest.py", RISKY_BUILD, "what pytest runs"},
	{"pytest.ini", RISKY_BUILD, "settings of tests"},
	{"noxfile.py", RISKY_BUILD, "what a Python build runs"},
	{"tox.ini", RISKY_BUILD, "what a Python build runs"},
	{"sitecustomize.py", RISKY_BUILD, "what Python runs at its start"},
	{"usercustomize.py", RISKY_BUILD, "what Python runs at its start"},
	{"*.pth", RISKY_BUILD, "what Python runs at its start"},
	{".pdbrc", RISKY_BUILD, "what a debugger runs"},
	{".pylintrc", RISKY_BUILD, "what pylint runs"},
	{"build.rs", RISKY_BUILD, "what cargo runs"},
	{"Cargo.toml", RISKY_BUILD, "what cargo builds"},
	{"rust-toolchain*", RISKY_BUILD, "which compiler is run"},
	{"CMakeLists.txt", RISKY_BUILD, "what CMake runs"},
	{"*.cmake", RISKY_BUILD, "what CMake runs"},
	{"CMakePresets.json", RISKY_BUILD, "what CMake runs"},
	{"meson.build", RISKY_BUILD, "what Meson runs"},
	{"configure", RISKY_BUILD, "what a build runs"},
	{"configure.ac", RISKY_BUILD, "what a build runs"},
	{"build.ninja", RISKY_BUILD, "what a build runs"},
	{"BUILD", RISKY_BUILD, "what Bazel runs"},
	{"BUILD.bazel", RISKY_BUILD, "what Bazel runs"},
	{"WORKSPACE", RISKY_BUILD, "what Bazel runs"},
	{"WORKSPACE.bazel", RISKY_BUILD, "what Bazel runs"},
	{"MODULE.bazel", RISKY_BUILD, "what Bazel runs"},
	{".bazelrc", RISKY_BUILD, "what Bazel runs"},
	{"*.bzl", RISKY_BUILD, "what Bazel runs"},
	{"*.gradle", RISKY_BUILD, "what Gradle runs"},
	{"*.gradle.kts", RISKY_BUILD, "what Gradle runs"},
	{"gradlew*", RISKY_BUILD, "what Gradle runs"},
	{"gradle/wrapper/", RISKY_BUILD, "what Gradle runs"},
	{"gradle.properties", RISKY_BUILD, "settings of Gradle"},
	{"pom.xml", RISKY_BUILD, "what Maven runs"},
	{"mvnw*", RISKY_BUILD, "what Maven runs"},
	{".mvn/", RISKY_BUILD, "what Maven runs"},
	{"build.xml", RISKY_BUILD, "what Ant runs"},
	{"*.sbt", RISKY_BUILD, "what sbt runs"},
	{"Dockerfile", RISKY_BUILD, "what an image build runs"},
	{"Dockerfile.*", RISKY_BUILD, "what an image build runs"},
	{"*.Dockerfile", RISKY_BUILD, "what an image build runs"},
	{"Containerfile", RISKY_BUILD, "what an image build runs"},
	{"docker-compose*.y*ml", RISKY_BUILD, "what containers run"},
	{"compose*.y*ml", RISKY_BUILD, "what containers run"},
	{"Vagrantfile", RISKY_BUILD, "what Vagrant runs"},
	{"Tiltfile", RISKY_BUILD, "what Tilt runs"},
	{"Procfile", RISKY_BUILD, "what is started"},
	{"Brewfile", RISKY_BUILD, "what brew installs"},
	{"flake.nix", RISKY_BUILD, "what Nix runs"},
	{"default.nix", RISKY_BUILD, "what Nix runs"},
	{"shell.nix", RISKY_BUILD, "what Nix runs"},
	{"*.csproj", RISKY_BUILD, "what MSBuild runs"},
	{"*.vcxproj", RISKY_BUILD, "what MSBuild runs"},
	{"*.fsproj", RISKY_BUILD, "what MSBuild runs"},
	{"*.sln", RISKY_BUILD, "what MSBuild runs"},
	{"Directory.Build.*", RISKY_BUILD, "what MSBuild runs"},
	{"nuget.config", RISKY_BUILD, "settings of NuGet"},
	{"composer.json", RISKY_BUILD, "scripts of composer"},
	{"mix.exs", RISKY_BUILD, "what mix runs"},
	{"Package.swift", RISKY_BUILD, "what Swift runs"},
	{"Podfile", RISKY_BUILD, "what CocoaPods runs"},
	{"*.podspec", RISKY_BUILD, "what CocoaPods runs"},
	{"build.zig", RISKY_BUILD, "what Zig runs"},
	{"dune", RISKY_BUILD, "what dune runs"},
	{"Setup.hs", RISKY_BUILD, "what Cabal runs"},
	{".ghci", RISKY_BUILD, "what GHCi runs"},
	{"*.config.js", RISKY_BUILD, "what a tool of Node runs"},
	{"*.config.cjs", RISKY_BUILD, "what a tool of Node runs"},
	{"*.config.mjs", RISKY_BUILD, "what a tool of Node runs"},
	{"*.config.ts", RISKY_BUILD, "what a tool of Node runs"},
	{"*.config.mts", RISKY_BUILD, "what a tool of Node runs"},
	{"*.config.cts", RISKY_BUILD, "what a tool of Node runs"},
	{".eslintrc*", RISKY_BUILD, "what eslint runs"},
	{".babelrc*", RISKY_BUILD, "what babel runs"},
	{".prettierrc*", RISKY_BUILD, "what prettier runs"},
	{".mocharc*", RISKY_BUILD, "settings of tests"},
	{"gulpfile.*", RISKY_BUILD, "what gulp runs"},
	{"Gruntfile.*", RISKY_BUILD, "what grunt runs"},
	{"karma.conf.*", RISKY_BUILD, "settings of tests"},
	{".gdbinit", RISKY_BUILD, "what a debugger runs"},
	{".lldbinit", RISKY_BUILD, "what a debugger runs"},
	{".pre-commit-hooks.yaml", RISKY_BUILD, "git hooks for others"},
	{"netlify.toml", RISKY_BUILD, "what a host of web sites runs"},
	{"vercel.json", RISKY_BUILD, "what a host of web sites runs"},
	{".readthedocs.y*ml", RISKY_BUILD, "what a host of documentation runs"},
	{".gitattributes", RISKY_BUILD, "filters and merge drivers that git has been given"},
	{".gitconfig", RISKY_BUILD, "git settings"},
};

#define SEGMENTS_MAX 256
#define SHORT_BASE   6
#define SHORT_EXT    3
#define CHAIN_END    0xffff

static_assert(ARRAY_LEN(risky_table) < CHAIN_END, "numbered by 16 bits");

/* --- one form for all spellings --- */

struct risky_path {
	char text[RISKY_PATH_MAX + 1]; /* segments in their form, one after the other */
	struct str segments[SEGMENTS_MAX];
	size_t n_segments;
	bool is_climbing, is_deep, has_tilde;
};

/* Letters past ASCII that fold to one of it: long s, Kelvin, the Turkish i's. */
static uint32_t fold(uint32_t cp)
{
	if (cp < 0x80)
		return (unsigned char)ascii_lower((char)cp);
	if (cp == 0x17f)
		return 's';
	if (cp == 0x212a)
		return 'k';
	return cp == 0x130 || cp == 0x131 ? 'i' : 0;
}

/* Up to the separator; folded, without what HFS+ does not see. A "\\" separates as well, for git
 * on Windows. */
static size_t take_raw(struct str path, char *out, size_t *n)
{
	size_t at = 0;

	*n = 0;
	while (at < path.n && path.p[at] != '/' && path.p[at] != '\\') {
		struct str rest = str_sub(path, at, path.n);
		uint32_t cp = 0;
		size_t used = text_utf8_next(rest, &cp), kept = *n;

		if (used == 0) { /* no UTF-8: itself */
			out[(*n)++] = path.p[at++];
			continue;
		}
		at += used;
		if (cp >= 0x80 && text_is_deceptive(cp))
			continue;
		if (fold(cp))
			out[(*n)++] = (char)fold(cp);
		else
			for (size_t i = 0; i < used; i++)
				out[kept + i] = rest.p[i];
		if (!fold(cp))
			*n = kept + used;
	}
	return at;
}

static void path_form(struct risky_path *p, struct str path)
{
	char *out = p->text;

	while (path.n > 0) {
		size_t n, used = take_raw(path, out, &n);
		struct str seg = str_slice(out, n), name;
		bool found;

		path = str_sub(path, used + 1, path.n);
		(void)str_cut(seg, ':', &name, &found); /* a stream of NTFS */
		while (name.n > 0 && name.p[name.n - 1] == ' ')
			name.n--;
		if (str_eq(name, STR_LIT("..")))
			p->is_climbing = true;
		while (name.n > 0 && (name.p[name.n - 1] == ' ' || name.p[name.n - 1] == '.'))
			name.n--;
		if (name.n == 0)
			continue;
		if (p->n_segments == SEGMENTS_MAX) {
			p->is_deep = true;
			return;
		}
		p->segments[p->n_segments++] = name;
		out += n;
	}
}

/* --- one name against one --- */

static bool segment_match(struct str pattern, struct str seg)
{
	char last = pattern.n ? pattern.p[pattern.n - 1] : '\0';

	/* Nearly all of "*.gradle" ends here. */
	if (last != '*' && (seg.n == 0 || ascii_lower(last) != seg.p[seg.n - 1]))
		return false;
	return text_star_match(pattern, seg, true);
}

/* What Windows makes of a long name when it also keeps a short one: the first six characters
 * without dots and spaces, "~", a number, and three characters of the extension. */
static bool short_match(struct str name, struct str seg)
{
	size_t tilde = str_chr(seg, '~'), dot, at = tilde + 1, n = 0, last;
	struct str ext, want;

	if (tilde == seg.n || tilde == 0 || str_chr(name, '*') < name.n)
		return false;
	while (at < seg.n && ascii_is_digit(seg.p[at]))
		at++;
	if (at == tilde + 1 || (at < seg.n && seg.p[at] != '.'))
		return false;
	/* The one short name that git itself knows by its hash form. */
	if (str_eq(name, STR_LIT(".gitmodules")) && str_starts(seg, STR_LIT("gi7eba")))
		return true;
	ext = str_sub(seg, at + 1, seg.n);
	while (name.n > 0 && name.p[0] == '.')
		name = str_sub(name, 1, name.n);
	for (last = name.n; last > 0 && name.p[last - 1] != '.'; last--)
		;
	dot = last > 0 ? last - 1 : name.n;
	want = str_sub(name, dot + 1, dot + 1 + SHORT_EXT);
	if (!str_ieq(want, ext))
		return false;
	for (size_t i = 0; i < dot && n < SHORT_BASE; i++) {
		if (name.p[i] == '.' || name.p[i] == ' ')
			continue;
		if (n >= tilde || ascii_lower(name.p[i]) != seg.p[n])
			return false;
		n++;
	}
	return n == tilde;
}

static bool name_match(const struct risky_path *p, struct str pattern, struct str seg)
{
	return segment_match(pattern, seg) || (p->has_tilde && short_match(pattern, seg));
}

/* The pattern, without its leading "/", from the segment on. */
static bool match_at(struct str pattern, const struct risky_path *p, size_t at)
{
	bool more = true;

	while (more) {
		struct str want;

		pattern = str_cut(pattern, '/', &want, &more);
		if (want.n == 0) /* the end of a folder's: whatever follows */
			return true;
		if (at == p->n_segments || !name_match(p, want, p->segments[at++]))
			return false;
		/* The folder's own name for a file or a link: it stands for the folder. */
		if (more && pattern.n == 0)
			return true;
	}
	return at == p->n_segments;
}

/* --- the table by first byte --- */

static struct {
	bool is_made;
	uint16_t first[256], next[ARRAY_LEN(risky_table)];
} chains;

static struct str entry_pattern(const struct risky_entry *entry, bool *is_top)
{
	struct str pattern = str_of(entry->pattern);

	*is_top = pattern.p[0] == '/';
	return *is_top ? str_sub(pattern, 1, pattern.n) : pattern;
}

/* Most names begin like very few of the entries. */
static void chains_make(void)
{
	bool is_top;

	for (size_t i = 0; i < ARRAY_LEN(chains.first); i++)
		chains.first[i] = CHAIN_END;
	for (size_t i = ARRAY_LEN(risky_table); i-- > 0;) {
		struct str pattern = entry_pattern(&risky_table[i], &is_top);
		unsigned char c = (unsigned char)ascii_lower(pattern.p[0]);

		chains.next[i] = chains.first[c];
		chains.first[c] = (uint16_t)i;
	}
	chains.is_made = true;
}

static unsigned gravity(unsigned flags)
{
	return flags & RISKY_CI ? 3 : flags & RISKY_HOST ? 2 : flags & RISKY_BUILD ? 1 : 0;
}

static void try_entry(const struct risky_entry *entry, const struct risky_path *p, size_t at,
		      unsigned *flags, const char **what)
{
	bool is_top;
	struct str pattern = entry_pattern(entry, &is_top);

	if ((is_top && at > 0) || !match_at(pattern, p, at))
		return;
	if (gravity(entry->flags) > gravity(*flags))
		*what = entry->what;
	*flags |= entry->flags;
}

static void try_chain(unsigned char c, const struct risky_path *p, size_t at, unsigned *flags,
		      const char **what)
{
	for (size_t i = chains.first[c]; i != CHAIN_END; i = chains.next[i])
		try_entry(&risky_table[i], p, at, flags, what);
}

unsigned risky_path_find(struct str path, const char **what)
{
	struct risky_path p;
	const char *why = NULL;
	unsigned flags = 0;

	if (what)
		*what = NULL;
	if (!chains.is_made)
		chains_make();
	p.n_segments = 0;
	p.is_climbing = false;
	p.has_tilde = path.n > 0 && memchr(path.p, '~', path.n);
	p.is_deep = path.n > RISKY_PATH_MAX;
	if (!p.is_deep)
		path_form(&p, path);
	if (p.is_climbing || p.is_deep) {
		why = p.is_deep ? "a path too long to be looked at" : "a path that climbs";
		flags = RISKY_HOST;
	}
	for (size_t at = 0; at < p.n_segments; at++) {
		struct str seg = p.segments[at];

		if (p.has_tilde && str_chr(seg, '~') < seg.n) {
			for (size_t i = 0; i < ARRAY_LEN(risky_table); i++)
				try_entry(&risky_table[i], &p, at, &flags, &why);
			continue;
		}
		try_chain((unsigned char)seg.p[0], &p, at, &flags, &why);
		try_chain('*', &p, at, &flags, &why);
	}
	if (what)
		*what = why;
	return flags;
}

const char *risky_path_mount(size_t i)
{
	for (size_t k = 0; k < ARRAY_LEN(risky_table); k++) {
		const char *pattern = risky_table[k].pattern;

		if (!(risky_table[k].flags & RISKY_MOUNT) || i-- > 0)
			continue;
		return pattern[0] == '/' ? pattern + 1 : pattern;
	}
	return NULL;
}
