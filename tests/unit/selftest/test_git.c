/* The objects that the git probes make by hand are those that git would have made; the witness
 * reads a body in chunks as it was sent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "probe/canary_git.h"
#include "probe/probe_git.h"

#include "base/clean.h"

#include <string.h>
#include <zlib.h>

static void inflate_at(const struct buf *pack, size_t from, char *out, size_t size)
{
	z_stream z = {.next_in = (unsigned char *)pack->p + pack->from + from,
		      .avail_in = (unsigned)(buf_len(pack) - from),
		      .next_out = (unsigned char *)out,
		      .avail_out = (unsigned)size};

	assert_int_equal(inflateInit(&z), Z_OK);
	assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
	out[z.total_out] = '\0';
	(void)inflateEnd(&z);
}

/* As `git hash-object` and `git mktree` say. */
static void test_names(void **state)
{
	_cleanup_(probe_pack_free) struct probe_pack p;
	_cleanup_(buf_free) struct buf tree;
	char oid[PROBE_OID_SIZE], text[64];

	(void)state;
	probe_pack_init(&p);
	probe_pack_add(&p, PROBE_BLOB, STR_LIT("hello\n"), oid);
	assert_string_equal(oid, "ce013625030ba8dba906f756967f9e9ca394464a");
	/* One byte of type and length, then the content. */
	assert_int_equal((unsigned char)p.objects.p[p.objects.from], PROBE_BLOB << 4 | 6);
	inflate_at(&p.objects, 1, text, sizeof(text) - 1);
	assert_string_equal(text, "hello\n");
	buf_init(&tree, 1024);
	probe_tree_add(&tree, "100644", STR_LIT("a"), oid);
	probe_pack_add(&p, PROBE_TREE, buf_str(&tree), oid);
	assert_string_equal(oid, "0976950c1fdbcb52435a433913017bf044b3a58f");
	probe_pack_add(&p, PROBE_TREE, STR_NULL, oid);
	assert_string_equal(oid, "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
	assert_int_equal(p.n, 3);
}

/* A delta's name is that of what it comes to. */
static void test_delta(void **state)
{
	_cleanup_(probe_pack_free) struct probe_pack p;
	char delta[PROBE_OID_SIZE], whole[PROBE_OID_SIZE];

	(void)state;
	probe_pack_init(&p);
	probe_pack_add_delta(&p, STR_LIT("one two three"), STR_LIT("two"), STR_LIT("2"), delta);
	probe_pack_add(&p, PROBE_BLOB, STR_LIT("one 2 three"), whole);
	assert_string_equal(delta, whole);
}

static void test_chunks(void **state)
{
	static const char whole[] = "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\nnext";

	(void)state;
	assert_int_equal(canary_git_chunked_length(STR_LIT(whole)), strlen(whole) - 4);
	for (size_t i = 0; i < strlen(whole) - 4; i++)
		assert_int_equal(canary_git_chunked_length(str_slice(whole, i)), SIZE_MAX);
	assert_int_equal(canary_git_chunked_length(STR_LIT("0\r\n\r\n")), 5);
}

/* Without repositories nothing is for it. */
static void test_not_open(void **state)
{
	(void)state;
	assert_false(canary_git_is_for(STR_LIT("GET /git/project.git/HEAD HTTP/1.1\r\n\r\n")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_delta),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_not_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
