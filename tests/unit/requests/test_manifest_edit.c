/* Routes put into manifests: where, with what difference, and when it is left to the human. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "conf/manifest.h"
#include "requests/manifest_edit.h"
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define BOTTLES "/.claude-bottle/bottles"

static char path[128];

static void put(const char *name, const char *text)
{
	_cleanup_close_ int dir = open(world.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *folder = mem_printf("%s" BOTTLES, world.path);
	_cleanup_free_ char *file = mem_printf(".%s/%s", BOTTLES, name);

	assert_int_equal(io_mkdir_p(folder, 0700, NULL), 0);
	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	assert_int_equal(io_write_file_atomic(dir, file + 2, str_of(text), 0640, NULL), 0);
}

static void assert_text(struct str have, const char *want)
{
	if (!str_eq(have, str_of(want)))
		print_error("have:\n" STR_FMT "\nwant:\n%s\n", STR_ARG(have), want);
	assert_true(str_eq(have, str_of(want)));
}

/* The change that most of these add. */
static void small(struct change *c)
{
	struct ask a;

	world_ask(&a, "*.new.example.com", 1u << POLICY_METHOD_GET, "/it's/** /v1");
	world_change(c, &a);
}

#define SMALL(in)                                                                                  \
	in "- host: '*.new.example.com'\n" in "  ports: [443]\n" in "  methods: [GET]\n" in        \
	   "  paths: ['/it''s/**', '/v1']\n"

static void test_places(void **state)
{
	static const struct {
		const char *before, *after;
	} rows[] = {
		/* At the end of a list, whatever its last item ends with. */
		{"---\n# mine\negress:\n  routes:\n    # the first\n    - host: a.example.com # "
		 "why\n"
		 "      paths:\n        - /x\n        - /y   # y\n\n  # about dns\n  dns: "
		 "[1.1.1.1]\n"
		 "---\nbody\n",
		 "---\n# mine\negress:\n  routes:\n    # the first\n    - host: a.example.com # "
		 "why\n"
		 "      paths:\n        - /x\n        - /y   # y\n" SMALL(
			 "    ") "\n  # about dns\n  dns: [1.1.1.1]\n---\nbody\n"},
		/* Not further in than its key, items in braces. */
		{"---\negress:\n  routes:\n  - {host: a.example.com,\n     methods: [GET]}\nenv:\n"
		 "  A: b\n---\n",
		 "---\negress:\n  routes:\n  - {host: a.example.com,\n     methods: [GET]}\n" SMALL(
			 "  ") "env:\n  A: b\n---\n"},
		/* Without routes, without a value, without egress, without anything. */
		{"---\negress:\n  dns: [1.1.1.1]\n  resolve:\n    x.example.com: 10.0.0.1\n---\n",
		 "---\negress:\n  dns: [1.1.1.1]\n  resolve:\n    x.example.com: 10.0.0.1\n"
		 "  routes:\n" SMALL("    ") "---\n"},
		{"---\nenv:\n  A: b\n\n# end\n---\nbody",
		 "---\nenv:\n  A: b\n\n# end\negress:\n  routes:\n" SMALL("    ") "---\nbody"},
		{"---\n---\n", "---\negress:\n  routes:\n" SMALL("    ") "---\n"},
		{"---\nenv:\n  A: |\n    text\n    more\n---\n",
		 "---\nenv:\n  A: |\n    text\n    more\negress:\n  routes:\n" SMALL(
			 "    ") "---\n"},
		/* The whole head is further in. */
		{"---\n  egress:\n    routes:\n    - host: a.example.com\n---\n",
		 "---\n  egress:\n    routes:\n    - host: a.example.com\n" SMALL("    ") "---\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_(manifest_edit_free) struct manifest_edit m = {0};
		_cleanup_(manifest_bottle_free) struct manifest_bottle b = {0};
		_cleanup_(change_free) struct change c = {0};
		struct err e = ERR_INIT;
		int ret;

		small(&c);
		put("web.md", rows[i].before);
		ret = manifest_edit_make(&m, path, &c, &e);
		if (ret < 0)
			print_error("row %zu: %s\n", i, e.text);
		assert_int_equal(ret, 0);
		assert_text(buf_str(&m.before), rows[i].before);
		assert_text(buf_str(&m.after), rows[i].after);
		assert_int_equal(manifest_edit_write(&m, path, &e), 0);
		/* The loader sees it, and asked for again it is there. */
		assert_int_equal(manifest_load_bottle(&b, world.path, "web", &e), 0);
		assert_string_equal(b.routes[b.n_routes - 1].route.host, "*.new.example.com");
		manifest_edit_free(&m);
		assert_int_equal(manifest_edit_make(&m, path, &c, &e), -EINVAL);
		assert_non_null(strstr(e.text, "there already"));
	}
}

static void test_carriage_returns(void **state)
{
	_cleanup_(manifest_edit_free) struct manifest_edit m = {0};
	_cleanup_(change_free) struct change c = {0};
	struct err e = ERR_INIT;

	(void)state;
	world_egress(&c, "new.example.com");
	put("web.md", "---\r\negress:\r\n  routes:\r\n    - host: a.example.com\r\n---\r\n");
	assert_int_equal(manifest_edit_make(&m, path, &c, &e), 0);
	assert_text(buf_str(&m.after),
		    "---\r\negress:\r\n  routes:\r\n    - host: a.example.com\r\n"
		    "    - host: new.example.com\r\n      ports: [443]\r\n"
		    "      methods: [GET, HEAD]\r\n---\r\n");
}

static void test_diff(void **state)
{
	_cleanup_(manifest_edit_free) struct manifest_edit m = {0};
	_cleanup_(buf_free) struct buf diff = BUF_INIT(65536);
	_cleanup_(change_free) struct change c = {0};

	(void)state;
	world_egress(&c, "new.example.com");
	put("web.md", "---\nenv:\n  A: b\negress:\n  routes:\n    - host: a.example.com\nimage: x\n"
		      "---\none\ntwo \xe2\x80\xae\nthree\n");
	assert_int_equal(manifest_edit_make(&m, path, &c, NULL), 0);
	assert_int_equal(manifest_edit_diff(&m, "/x/web.md", &diff), 0);
	assert_text(buf_str(&diff), "--- /x/web.md\n+++ /x/web.md\n@@ -4,6 +4,9 @@\n"
				    " egress:\n   routes:\n     - host: a.example.com\n"
				    "+    - host: new.example.com\n+      ports: [443]\n"
				    "+      methods: [GET, HEAD]\n image: x\n ---\n one\n");
}

static void test_by_hand(void **state)
{
	static const char *const rows[] = {
		"---\negress:\n  routes: []\n---\n",
		"---\negress:\n  routes: [{host: a.example.com}]\n---\n",
		"---\negress: {routes: [{host: a.example.com}]}\n---\n",
		"---\n{egress: {dns: [1.1.1.1]}}\n---\n",
	};
	static const char *const broken[] = {
		"no head\n",
		"---\negress:\n  routes:\n\t- host: a.example.com\n---\n",
		"---\nx: &a 1\negress:\n  routes:\n    - host: a.example.com\n---\n",
		"---\negress:\n  routes:\n    - hots: a.example.com\n---\n",
		"---\negress: 12\n---\n",
	};
	_cleanup_(change_free) struct change c = {0};
	struct manifest_edit m;
	struct err e = ERR_INIT;

	(void)state;
	small(&c);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		put("web.md", rows[i]);
		assert_int_equal(manifest_edit_make(&m, path, &c, &e), -EINVAL);
		if (!strstr(e.text, "by hand: - {host: '*.new.example.com', ports: [443], "
				    "methods: [GET], paths: ['/it''s/**', '/v1']}"))
			print_error("%s\n", e.text);
		assert_non_null(strstr(e.text, "by hand: - {host: '*.new.example.com', ports: "
					       "[443], methods: [GET], paths: ['/it''s/**', "
					       "'/v1']}"));
	}
	for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
		put("web.md", broken[i]);
		assert_int_equal(manifest_edit_make(&m, path, &c, &e), -EINVAL);
		assert_int_equal(m.after.to, 0);
	}
}

/* What stands in a base counts, and the base is left alone. */
static void test_extends(void **state)
{
	_cleanup_(manifest_edit_free) struct manifest_edit m = {0};
	_cleanup_(change_free) struct change there = {0}, new = {0};
	struct err e = ERR_INIT;

	(void)state;
	world_egress(&there, "base.example.com");
	world_egress(&new, "new.example.com");
	put("base.md",
	    "---\negress:\n  routes:\n    - host: base.example.com\n      methods: [GET, "
	    "HEAD]\n---\n");
	put("web.md", "---\nextends: base\n---\n");
	assert_int_equal(manifest_edit_make(&m, path, &there, &e), -EINVAL);
	assert_non_null(strstr(e.file, "base.md"));
	assert_int_equal(manifest_edit_make(&m, path, &new, &e), 0);
	assert_text(buf_str(&m.after), "---\nextends: base\negress:\n  routes:\n"
				       "    - host: new.example.com\n      ports: [443]\n"
				       "      methods: [GET, HEAD]\n---\n");
}

static void test_writing(void **state)
{
	static const char text[] = "---\negress:\n  routes:\n    - host: a.example.com\n---\n";
	_cleanup_(manifest_edit_free) struct manifest_edit m = {0};
	_cleanup_(change_free) struct change c = {0};
	_cleanup_free_ char *link = NULL, *chain = NULL, *got_p = NULL;
	struct str got;
	struct stat st;
	struct err e = ERR_INIT;

	(void)state;
	world_egress(&c, "new.example.com");
	put("web.md", text);
	link = mem_printf("%s" BOTTLES "/link.md", world.path);
	chain = mem_printf("%s" BOTTLES "/chain.md", world.path);
	assert_int_equal(symlink("web.md", link), 0);
	assert_int_equal(symlink("link.md", chain), 0);
	assert_int_equal(manifest_edit_make(&m, link, &c, &e), 0);
	/* Twice is once too often. */
	assert_true(manifest_edit_write(&m, chain, &e) < 0);
	assert_int_equal(chmod(path, 0662), 0);
	assert_int_equal(manifest_edit_write(&m, link, &e), -EPERM);
	assert_int_equal(chmod(path, 0640), 0);
	assert_int_equal(manifest_edit_write(&m, link, &e), 0);
	assert_int_equal(lstat(link, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(io_read_file(AT_FDCWD, path, 65536, &got, NULL), 0);
	got_p = (char *)got.p;
	assert_true(str_eq(got, buf_str(&m.after)));
	/* The file is another now. */
	assert_int_equal(manifest_edit_write(&m, path, &e), -ESTALE);
}

static void test_grants_policy(void **state)
{
	struct policy_route route = {.host = (char *)"base.example.com",
				     .ports = {443},
				     .n_ports = 1,
				     .methods = 1u << POLICY_METHOD_GET};
	const struct policy base = {.routes = &route, .n_routes = 1};
	struct grant grants[4] = {
		{.id = 3, .state = GRANT_ACTIVE, .scope = ASK_BOTTLE},
		{.id = 4, .state = GRANT_REVOKED, .scope = ASK_BOTTLE},
		{.id = 5, .state = GRANT_ACTIVE, .scope = ASK_ONCE},
		{.id = 6, .state = GRANT_ACTIVE, .scope = ASK_ONCE},
	};
	_cleanup_(policy_free) struct policy p = {0};
	struct err e = ERR_INIT;
	struct policy_decision d;

	(void)state;
	world_egress(&grants[0].change, "a.example.com");
	world_egress(&grants[1].change, "b.example.com");
	small(&grants[2].change);
	world_release(&grants[3].change, 1);
	assert_int_equal(grants_policy(&p, &base, grants, ARRAY_LEN(grants), &e), 0);
	assert_int_equal(p.n_routes, 3);
	assert_int_equal(p.routes[0].grant, 0);
	assert_int_equal(p.routes[1].grant, 3);
	assert_false(p.routes[1].is_once);
	assert_int_equal(p.routes[1].n_paths, 0);
	assert_int_equal(p.routes[2].grant, 5);
	assert_true(p.routes[2].is_once);
	assert_int_equal(p.routes[2].n_paths, 2);
	/* The index knows them. */
	d = policy_decide(&p, STR_LIT("a.example.com"), 443, POLICY_METHOD_GET, STR_LIT("/x"));
	assert_int_equal(d.reason, POLICY_OK);
	assert_ptr_equal(d.route, &p.routes[1]);
	d = policy_decide(&p, STR_LIT("b.example.com"), 443, POLICY_METHOD_GET, STR_LIT("/x"));
	assert_int_equal(d.reason, POLICY_DENY_HOST);
	policy_free(&p);
	assert_int_equal(grants_policy(&p, &(struct policy){0}, NULL, 0, &e), 0);
	assert_int_equal(p.n_routes, 0);
	for (size_t i = 0; i < ARRAY_LEN(grants); i++)
		change_free(&grants[i].change);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		WORLD(test_places),
		WORLD(test_carriage_returns),
		WORLD(test_diff),
		WORLD(test_by_hand),
		WORLD(test_extends),
		WORLD(test_writing),
		cmocka_unit_test(test_grants_policy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
