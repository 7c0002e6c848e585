#include "repo_fixture.h"

#include "collect.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static int sh(const char *folder, char *out, size_t size, const char *script)
{
	char *env[] = {(char *)(uintptr_t) "PATH=/usr/bin:/bin",
		       (char *)(uintptr_t) "HOME=/nonexistent",
		       (char *)(uintptr_t) "GIT_CONFIG_NOSYSTEM=1",
		       (char *)(uintptr_t) "GIT_AUTHOR_NAME=a",
		       (char *)(uintptr_t) "GIT_AUTHOR_EMAIL=a@example.test",
		       (char *)(uintptr_t) "GIT_COMMITTER_NAME=a",
		       (char *)(uintptr_t) "GIT_COMMITTER_EMAIL=a@example.test",
		       NULL};
	char ignored[65536];
	struct collect c;

	if (collect_fork(&c)) {
		if (chdir(folder) == 0)
			(void)execle("/bin/sh", "sh", "-c", script, NULL, env);
		_exit(99);
	}
	return collect_end(&c, out ? out : ignored, out ? size : sizeof(ignored));
}

__attribute__((format(printf, 1, 0))) static char *format(const char *fmt, va_list ap)
{
	char *text = NULL;

	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	return text;
}

int repo_sh(const struct repo_fixture *r, char *out, size_t size, const char *fmt, ...)
{
	_cleanup_free_ char *script = NULL;
	va_list ap;

	va_start(ap, fmt);
	script = format(fmt, ap);
	va_end(ap);
	return sh(r->path, out, size, script);
}

const char *repo_line(const struct repo_fixture *r, const char *fmt, ...)
{
	static char lines[8][512];
	static unsigned next;
	char *line = lines[next++ % 8];
	_cleanup_free_ char *script = NULL;
	va_list ap;

	va_start(ap, fmt);
	script = format(fmt, ap);
	va_end(ap);
	if (sh(r->path, line, sizeof(lines[0]), script) != 0) {
		(void)fprintf(stderr, "%s: %s\n", script, line);
		abort();
	}
	line[strcspn(line, "\n")] = '\0';
	return line;
}

const char *repo_digest(const struct repo_fixture *r)
{
	return repo_line(
		r, "find . -path ./.git/objects -prune -o -path '*/bottle/test-bottle*' -prune "
		   "-o -path '*/bottle' -prune -o \\( -type f -o -type l \\) -print | sort | "
		   "xargs sha256sum | sha256sum");
}

void repo_make(struct repo_fixture *r)
{
	static const char script[] = "set -e; git init -q -b main .\n"
				     "echo one > file; git add file; git commit -qm one\n"
				     "git tag -a -m tag v1; echo two >> file; git commit -qam two\n"
				     "git branch side; git branch bottle/other/secret\n"
				     "git update-ref refs/remotes/origin/far HEAD\n"
				     "echo hidden > file; git stash -q; echo untracked > .env\n";

	(void)snprintf(r->top, sizeof(r->top), "/tmp/repo-test-XXXXXX");
	if (!mkdtemp(r->top))
		abort();
	(void)snprintf(r->path, sizeof(r->path), "%s/project", r->top);
	if (io_mkdir_p(r->path, 0755, NULL) < 0 || repo_sh(r, NULL, 0, "%s", script) != 0)
		abort();
}

void repo_free(struct repo_fixture *r)
{
	(void)!io_remove_tree(AT_FDCWD, r->top, NULL);
}
