/* A scratch home with manifests, for the tests of this folder. */
#pragma once

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

struct home {
	char path[64], cwd[96];
};

static inline void home_make(struct home *h)
{
	static const char *const folders[] = {"home/.claude-bottle/bottles",
					      "home/.claude-bottle/agents",
					      "work/.claude-bottle/agents", "home/src"};
	char root[] = "/tmp/conf-test-XXXXXX";

	assert_non_null(mkdtemp(root));
	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", root, folders[i]);

		assert_int_equal(io_mkdir_p(path, 0700, NULL), 0);
	}
	(void)snprintf(h->path, sizeof(h->path), "%s/home", root);
	(void)snprintf(h->cwd, sizeof(h->cwd), "%s/work", root);
}

static inline void home_remove(struct home *h)
{
	h->path[strlen(h->path) - 5] = '\0';
	assert_int_equal(io_remove_tree(AT_FDCWD, h->path, NULL), 0);
}

/* path is under the home's or the work folder's root. */
static inline void home_write(const char *root, const char *path, const char *text)
{
	_cleanup_free_ char *full = mem_printf("%s/%s", root, path);
	_cleanup_close_ int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, text, strlen(text)), 0);
	assert_int_equal(fchmod(fd, 0600), 0);
}

static inline void home_bottle(const struct home *h, const char *name, const char *head)
{
	_cleanup_free_ char *path = mem_printf(".claude-bottle/bottles/%s.md", name);
	_cleanup_free_ char *text = mem_printf("---\n%s---\n", head);

	home_write(h->path, path, text);
}

static inline void home_agent(const char *root, const char *name, const char *head,
			      const char *body)
{
	_cleanup_free_ char *path = mem_printf(".claude-bottle/agents/%s.md", name);
	_cleanup_free_ char *text = mem_printf("---\n%s---\n%s", head, body);

	home_write(root, path, text);
}
