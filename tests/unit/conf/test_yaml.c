/* The YAML head: places of nodes, and everything that is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/clean.h"
#include "base/mem.h"
#include "conf/yaml_tree.h"

static void test_tree(void **state)
{
	static const char text[] = "---\n"
				   "a: one\n"
				   "b:\n"
				   "  - x: 'true'\n"
				   "    y: true\n"
				   "  - {z: 1}\n"
				   "c:\n"
				   "---\r\n"
				   "body\n---\nmore";
	_cleanup_(yaml_doc_free) struct yaml_doc d;
	const struct yaml_node *b, *n;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(yaml_doc_parse(&d, "f.md", str_of(text), &e), 0);
	assert_true(str_eq(d.body, STR_LIT("body\n---\nmore")));
	assert_int_equal(d.body_line, 9);
	assert_true(str_eq(yaml_get(d.root, "a")->text, STR_LIT("one")));
	b = yaml_get(d.root, "b");
	assert_int_equal(b->kind, YAML_KIND_SEQUENCE);
	assert_int_equal(b->n_children, 2);
	n = yaml_get(b->children[0], "x");
	assert_false(n->is_plain);
	assert_int_equal(n->line, 4);
	assert_int_equal(n->column, 8);
	assert_true(yaml_get(b->children[0], "y")->is_plain);
	n = yaml_get(b->children[1], "z");
	assert_int_equal(n->line, 6);
	assert_int_equal(n->column, 9);
	assert_true(b->children[1]->is_flow);
	assert_false(b->children[0]->is_flow || b->is_flow);
	assert_int_equal(b->children[0]->end_line, 5);
	assert_int_equal(b->end_line, 6);
	assert_true(yaml_is_null(yaml_get(d.root, "c")));
	assert_null(yaml_get(d.root, "d"));
}

/* Behind which line something can be put. */
static void test_end_lines(void **state)
{
	static const char text[] = "---\n"
				   "a: |\n"
				   "  text\n"
				   "  more\n"
				   "b: 'one\n"
				   "  two' # why\n"
				   "c: [1,\n"
				   "  2\n"
				   "  ]\n"
				   "\n"
				   "# end\n"
				   "---\n";
	_cleanup_(yaml_doc_free) struct yaml_doc d;

	(void)state;
	assert_int_equal(yaml_doc_parse(&d, "f.md", str_of(text), NULL), 0);
	assert_int_equal(yaml_get(d.root, "a")->end_line, 4);
	assert_int_equal(yaml_get(d.root, "b")->end_line, 6);
	assert_int_equal(yaml_get(d.root, "c")->end_line, 9);
	assert_int_equal(d.root->end_line, 9);
}

static void test_empty_heads(void **state)
{
	static const char *const texts[] = {"---\n---\n", "---\n\n# nothing\n---", "---\n~\n---\n"};
	struct yaml_doc d;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		assert_int_equal(yaml_doc_parse(&d, "f", str_of(texts[i]), NULL), 0);
		assert_null(d.root);
		assert_int_equal(d.body.n, 0);
		yaml_doc_free(&d);
	}
}

static void test_refused(void **state)
{
	static const struct {
		struct str text;
		unsigned line, column;
		const char *why;
	} rows[] = {
		{STR_LIT(""), 1, 1, "first line"},
		{STR_LIT("a: 1\n"), 1, 1, "first line"},
		{STR_LIT(" ---\na: 1\n---\n"), 1, 1, "first line"},
		{STR_LIT("\357\273\277---\na: 1\n---\n"), 1, 1, "first line"},
		{STR_LIT("---\na: 1\n"), 3, 1, "no closing"},
		{STR_LIT("---"), 2, 1, "no closing"},
		{STR_LIT("---\na: &x 1\n---\n"), 2, 4, "anchors"},
		{STR_LIT("---\na: &x [1]\n---\n"), 2, 4, "anchors"},
		{STR_LIT("---\na: &x {b: 1}\n---\n"), 2, 4, "anchors"},
		{STR_LIT("---\na: 1\nb: *a\n---\n"), 3, 4, "aliases"},
		{STR_LIT("---\n*a : 1\n---\n"), 2, 1, "aliases"},
		{STR_LIT("---\nhost: *.example.com\n---\n"), 2, 8, "needs quotes"},
		{STR_LIT("---\na: !!str 1\n---\n"), 2, 4, "tags"},
		{STR_LIT("---\na: !x {}\n---\n"), 2, 4, "tags"},
		{STR_LIT("---\na: ! 1\n---\n"), 2, 4, "tags"},
		{STR_LIT("---\na: 1\nb: 2\na: 3\n---\n"), 4, 1,
		 "\"a\" stands twice; the first is in line 2"},
		{STR_LIT("---\na: 1\n'a': 3\n---\n"), 3, 1, "stands twice"},
		{STR_LIT("---\n<<: {a: 1}\n---\n"), 2, 1, "merge keys"},
		{STR_LIT("---\n[a, b]: 1\n---\n"), 2, 1, "a key must be text, not a list"},
		{STR_LIT("---\n? {a: 1}\n: 1\n---\n"), 2, 3, "a key must be text, not a mapping"},
		{STR_LIT("---\n- a\n- b\n---\n"), 2, 1, "not a list"},
		{STR_LIT("---\njust text\n---\n"), 2, 1, "not text"},
		{STR_LIT("---\na: 1\n...\nb: 2\n---\n"), 4, 1, ""},
		{STR_LIT("---\n%YAML 1.1\na: 1\n---\n"), 3, 1, ""},
		{STR_LIT("---\na: [1, 2\n---\n"), 3, 1, "not YAML"},
		{STR_LIT("---\na: b: c\n---\n"), 2, 5, "not YAML"},
		{STR_LIT("---\n\ta: 1\n---\n"), 2, 1, "not YAML"},
		{STR_LIT("---\na: \"x\\0y\"\n---\n"), 2, 4, "NUL"},
		{STR_LIT("---\na: \377\n---\n"), 2, 1, "UTF-8"},
		{STR_LIT("---\na: \0\n---\n"), 2, 1, "UTF-8"},
		{STR_LIT("---\na: \"\\ud800\"\n---\n"), 2, 0, "not YAML"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = ERR_INIT;
		struct yaml_doc d;
		int ret = yaml_doc_parse(&d, "f.md", rows[i].text, &e);

		if (ret >= 0 || e.line != rows[i].line ||
		    (rows[i].column && e.column != rows[i].column) || !strstr(e.text, rows[i].why))
			fail_msg("row %zu: %d %u:%u \"%s\"", i, ret, e.line, e.column, e.text);
		assert_null(d.root);
		assert_string_equal(e.file, "f.md");
	}
}

static void test_caps(void **state)
{
	_cleanup_(buf_free) struct buf b;
	struct yaml_doc d;
	struct err e = ERR_INIT;

	(void)state;
	buf_init(&b, 4u << 20);
	/* depth: the root is the first level */
	for (unsigned depth = YAML_DEPTH_MAX - 1; depth <= YAML_DEPTH_MAX; depth++) {
		buf_reset(&b);
		assert_int_equal(buf_printf(&b, "---\na: "), 0);
		for (unsigned i = 0; i < depth; i++)
			assert_int_equal(buf_append(&b, "[", 1), 0);
		for (unsigned i = 0; i < depth; i++)
			assert_int_equal(buf_append(&b, "]", 1), 0);
		assert_int_equal(buf_printf(&b, "\n---\n"), 0);
		if (depth < YAML_DEPTH_MAX) {
			assert_int_equal(yaml_doc_parse(&d, "f", buf_str(&b), &e), 0);
			yaml_doc_free(&d);
		} else {
			assert_true(yaml_doc_parse(&d, "f", buf_str(&b), &e) < 0);
			assert_non_null(strstr(e.text, "nested too deeply"));
		}
	}
	/* nodes: root, key, list, items */
	for (unsigned over = 0; over <= 1; over++) {
		buf_reset(&b);
		assert_int_equal(buf_printf(&b, "---\na: [0"), 0);
		for (unsigned i = 1; i < YAML_NODES_MAX - 3 + over; i++)
			assert_int_equal(buf_append(&b, ",1", 2), 0);
		assert_int_equal(buf_printf(&b, "]\n---\n"), 0);
		assert_int_equal(yaml_doc_parse(&d, "f", buf_str(&b), &e) < 0, over);
		if (over)
			assert_non_null(strstr(e.text, "too many values"));
		yaml_doc_free(&d);
	}
	/* bytes of the head, and of the file */
	buf_reset(&b);
	assert_int_equal(buf_printf(&b, "---\n#"), 0);
	for (unsigned i = 0; i < YAML_HEAD_MAX_BYTES; i++)
		assert_int_equal(buf_append(&b, "x", 1), 0);
	assert_int_equal(buf_printf(&b, "\n---\n"), 0);
	assert_true(yaml_doc_parse(&d, "f", buf_str(&b), &e) < 0);
	assert_non_null(strstr(e.text, "head is larger"));
	buf_reset(&b);
	assert_int_equal(buf_printf(&b, "---\n---\n"), 0);
	while (buf_len(&b) <= YAML_FILE_MAX_BYTES)
		assert_int_equal(buf_append(&b, "0123456789abcdef", 16), 0);
	assert_true(yaml_doc_parse(&d, "f", buf_str(&b), &e) < 0);
	assert_non_null(strstr(e.text, "larger than"));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tree),	    cmocka_unit_test(test_end_lines),
		cmocka_unit_test(test_empty_heads), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_caps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
