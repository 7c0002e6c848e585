#include "home.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct home home;

int home_setup(void **state)
{
	static const char *const folders[] = {"home/.claude-bottle/bottles",
					      "home/.claude-bottle/agents",
					      "work/.claude-bottle/agents", "home/src"};
	char root[] = "/tmp/conf-test-XXXXXX";

	(void)state;
	assert_non_null(mkdtemp(root));
	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", root, folders[i]);

		assert_int_equal(io_mkdir_p(path, 0700, NULL), 0);
	}
	(void)snprintf(home.path, sizeof(home.path), "%s/home", root);
	(void)snprintf(home.cwd, sizeof(home.cwd), "%s/work", root);
	return 0;
}

int home_teardown(void **state)
{
	(void)state;
	home.path[strlen(home.path) - strlen("/home")] = '\0';
	return io_remove_tree(AT_FDCWD, home.path, NULL);
}

void home_write(const char *root, const char *path, const char *text)
{
	_cleanup_free_ char *full = mem_printf("%s/%s", root, path);
	_cleanup_close_ int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, text, strlen(text)), 0);
	assert_int_equal(fchmod(fd, 0600), 0);
}

void home_bottle(const struct home *h, const char *name, const char *head)
{
	_cleanup_free_ char *path = mem_printf(".claude-bottle/bottles/%s.md", name);
	_cleanup_free_ char *text = mem_printf("---\n%s---\n", head);

	home_write(h->path, path, text);
}

void home_agent(const char *root, const char *name, const char *head, const char *body)
{
	_cleanup_free_ char *path = mem_printf(".claude-bottle/agents/%s.md", name);
	_cleanup_free_ char *text = mem_printf("---\n%s---\n%s", head, body);

	home_write(root, path, text);
}

void home_refuses(const struct home_refused *rows, size_t n)
{
	unsigned n_failed = 0;

	for (const struct home_refused *row = rows; row < rows + n; row++) {
		struct manifest_bottle b;
		struct err e = ERR_INIT;
		int ret;

		home_bottle(&home, "b", row->head);
		ret = manifest_load_bottle(&b, home.path, "b", &e);
		if (ret >= 0 || e.line != row->line || e.column != row->column ||
		    !strstr(e.text, row->why) || !strstr(e.file, "/bottles/b.md"))
			n_failed++, print_error("%s -> %d %s:%u:%u \"%s\"\n", row->head, ret,
						e.file, e.line, e.column, e.text);
		/* A password in an address is not repeated. */
		assert_null(strstr(e.text, "u:p"));
		assert_int_equal(b.n_routes, 0);
		assert_int_equal(b.git.n_remotes, 0);
		manifest_bottle_free(&b);
	}
	assert_int_equal(n_failed, 0);
}

void home_load(struct manifest_bottle *b, const char *name)
{
	struct err e = ERR_INIT;

	if (manifest_load_bottle(b, home.path, name, &e) < 0)
		fail_msg("%s:%u:%u: %s", e.file, e.line, e.column, e.text);
}

void home_plan(struct plan *p, const struct plan_options *o)
{
	struct err e = ERR_INIT;

	if (plan_make(p, o, &e) < 0)
		fail_msg("%s:%u:%u: %s", e.file, e.line, e.column, e.text);
}

bool home_warns(const struct plan *p, const char *part)
{
	for (size_t i = 0; i < p->n_warnings; i++)
		if (strstr(p->warnings[i], part))
			return true;
	return false;
}
