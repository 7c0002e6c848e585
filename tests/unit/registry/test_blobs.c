/* What may be named to the registry, and what may be asked of it. */
#include "image.h"

#include "base/clean.h"
#include "base/mem.h"

static void takes_an_image(void **state)
{
	struct image i;
	struct blobs b;
	struct err e = ERR_INIT;

	(void)state;
	image_make(&i);
	assert_int_equal(blobs_parse(&b, 6, i.argv, &e), 0);
	assert_int_equal(b.n, 4);
	assert_int_equal(b.blobs[2].kind, BLOBS_LAYER);
	assert_int_equal(b.blobs[2].size, IMAGE_LARGE);
	assert_string_equal(b.blobs[2].digest, LARGE_DIGEST);
	for (int n = 0; n < 5; n++) /* without a layer, a configuration, … */
		assert_true(blobs_parse(&b, n, i.argv, &e) < 0);
	image_free(&i);
}

static void refuses_arguments(void **state)
{
	static const char *const formats[] = {
		"layer=%d," SMALL_DIGEST ",9",
		"layer=%d," SMALL_DIGEST ",11",
		"layer=%d," SMALL_DIGEST ",",
		"layer=%d," SMALL_DIGEST,
		"layer=%d," SMALL_DIGEST ",10,",
		"layer=%d," SMALL_DIGEST ",-10",
		"layer=%d," SMALL_DIGEST ", 10",
		"layer=%d,sha256:00,10",
		"layer=%d,sha512:00,10",
		"layer=%d,,10",
		"layers=%d," SMALL_DIGEST ",10",
		"=%d," SMALL_DIGEST ",10",
		"manifest=%d," SMALL_DIGEST ",10", /* a second one */
		"config=%d," SMALL_DIGEST ",10",
		"layer=x%d," SMALL_DIGEST ",10",
		"layer=99%d," SMALL_DIGEST ",10",
		"layer=-%d," SMALL_DIGEST ",10",
		"",
		"%d",
	};
	struct image i;
	struct blobs b;
	struct err e = ERR_INIT;

	(void)state;
	image_make(&i);
	for (size_t k = 0; k < ARRAY_LEN(formats); k++) {
		_cleanup_free_ char *whole = mem_strdup(i.argv[5]);

		free(i.argv[5]);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
		i.argv[5] = mem_printf(formats[k], i.fds[3]);
#pragma GCC diagnostic pop
		if (blobs_parse(&b, 6, i.argv, &e) == 0)
			fail_msg("\"%s\" was taken", i.argv[5]);
		free(i.argv[5]);
		i.argv[5] = take_ptr(&whole);
	}
	image_free(&i);
}

static void finds(void **state)
{
	static const struct {
		const char *path;
		enum blobs_answer answer;
		int blob; /* of the arguments' */
	} cases[] = {
		{"/v2/", BLOBS_BASE, -1},
		{"/v2/" IMAGE_NAME "/manifests/" IMAGE_TAG, BLOBS_FOUND, 0},
		{"/v2/" IMAGE_NAME "/manifests/" MANIFEST_DIGEST, BLOBS_FOUND, 0},
		{"/v2/" IMAGE_NAME "/blobs/" CONFIG_DIGEST, BLOBS_FOUND, 1},
		{"/v2/" IMAGE_NAME "/blobs/" LARGE_DIGEST, BLOBS_FOUND, 2},
		{"/v2/" IMAGE_NAME "/blobs/" SMALL_DIGEST, BLOBS_FOUND, 3},
		/* Each as what it is. */
		{"/v2/" IMAGE_NAME "/blobs/" MANIFEST_DIGEST, BLOBS_BLOB_UNKNOWN, -1},
		{"/v2/" IMAGE_NAME "/manifests/" CONFIG_DIGEST, BLOBS_MANIFEST_UNKNOWN, -1},
		{"/v2/" IMAGE_NAME "/blobs/" NO_DIGEST, BLOBS_BLOB_UNKNOWN, -1},
		{"/v2/" IMAGE_NAME "/manifests/latest", BLOBS_MANIFEST_UNKNOWN, -1},
		{"/v2/" IMAGE_NAME "/manifests/" IMAGE_TAG "x", BLOBS_MANIFEST_UNKNOWN, -1},
		{"/v2/" IMAGE_NAME "/manifests/sha256:00", BLOBS_DIGEST_INVALID, -1},
		{"/v2/" IMAGE_NAME "/blobs/" IMAGE_TAG, BLOBS_DIGEST_INVALID, -1},
		{"/v2/" IMAGE_NAME "/blobs/" LARGE_DIGEST "0", BLOBS_DIGEST_INVALID, -1},
		{"/v2/" IMAGE_NAME "/blobs/" DIGEST_OF("DDD4"), BLOBS_DIGEST_INVALID, -1},
		{"/v2/" IMAGE_NAME "/blobs/sha512" NO_DIGEST, BLOBS_DIGEST_INVALID, -1},
		/* Other names, and other ways to write this one. */
		{"/v2/claude-bottle/manifests/" IMAGE_TAG, BLOBS_NAME_UNKNOWN, -1},
		{"/v2/x/" IMAGE_NAME "/manifests/" IMAGE_TAG, BLOBS_NAME_UNKNOWN, -1},
		{"/v2/Claude-Bottle/agent/manifests/" IMAGE_TAG, BLOBS_NAME_UNKNOWN, -1},
		{"/v2/claude-bottle%2fagent/manifests/" IMAGE_TAG, BLOBS_NAME_UNKNOWN, -1},
		{"/v2/claude-bottle/./agent/manifests/" IMAGE_TAG, BLOBS_NAME_UNKNOWN, -1},
		{"/v2//manifests/" IMAGE_TAG, BLOBS_NAME_UNKNOWN, -1},
		{"/v2/manifests/" IMAGE_TAG, BLOBS_NOTHING, -1},
		{"/v2/" IMAGE_NAME "/manifests/x/manifests/" IMAGE_TAG, BLOBS_NAME_UNKNOWN, -1},
		/* What is no path of a registry's, or of one that takes. */
		{"/", BLOBS_NOTHING, -1},
		{"/v2", BLOBS_NOTHING, -1},
		{"/v1/", BLOBS_NOTHING, -1},
		{"//v2/", BLOBS_NOTHING, -1},
		{"/v2/_catalog", BLOBS_NOTHING, -1},
		{"/v2/" IMAGE_NAME "/tags/list", BLOBS_NOTHING, -1},
		{"/v2/" IMAGE_NAME "/referrers/" MANIFEST_DIGEST, BLOBS_NOTHING, -1},
		{"/v2/" IMAGE_NAME "/manifests/", BLOBS_NOTHING, -1},
		{"/v2/" IMAGE_NAME "/blobs/", BLOBS_NOTHING, -1},
		{"/v2/" IMAGE_NAME "/blobs/uploads/", BLOBS_NOTHING, -1},
		{"/v2/" IMAGE_NAME "/manifests/../../../etc/passwd", BLOBS_NOTHING, -1},
		{"/v2/" IMAGE_NAME "/blobs/../manifests/" IMAGE_TAG, BLOBS_NAME_UNKNOWN, -1},
		{"/v2/" IMAGE_NAME "/blobs/" LARGE_DIGEST "/", BLOBS_NOTHING, -1},
		{"/v2/../v2/", BLOBS_NOTHING, -1},
		{"/../etc/passwd", BLOBS_NOTHING, -1},
		{"/proc/self/fd/3", BLOBS_NOTHING, -1},
	};
	struct image i;
	struct blobs b;
	struct err e = ERR_INIT;

	(void)state;
	image_make(&i);
	assert_int_equal(blobs_parse(&b, 6, i.argv, &e), 0);
	for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
		const struct blobs_one *blob;
		enum blobs_answer answer = blobs_find(&b, str_of(cases[k].path), &blob);

		if (answer != cases[k].answer)
			fail_msg("%s: %d, not %d", cases[k].path, (int)answer,
				 (int)cases[k].answer);
		assert_ptr_equal(blob, cases[k].blob < 0 ? NULL : &b.blobs[cases[k].blob]);
	}
	image_free(&i);
}

static void ranges(void **state)
{
	static const struct {
		const char *value;
		uint64_t size;
		enum blobs_range range;
		uint64_t from, to;
	} cases[] = {
		{"", 10, BLOBS_WHOLE, 0, 10},
		{"bytes=0-9", 10, BLOBS_PART, 0, 10},
		{"bytes=0-0", 10, BLOBS_PART, 0, 1},
		{"bytes=3-", 10, BLOBS_PART, 3, 10},
		{"Bytes=9-9", 10, BLOBS_PART, 9, 10},
		{"bytes=5-100", 10, BLOBS_PART, 5, 10},
		{"bytes=-3", 10, BLOBS_PART, 7, 10},
		{"bytes=-100", 10, BLOBS_PART, 0, 10},
		{"bytes=0-9223372036854775807", 10, BLOBS_PART, 0, 10},
		{"bytes=10-", 10, BLOBS_OUTSIDE, 0, 10},
		{"bytes=10-11", 10, BLOBS_OUTSIDE, 0, 10},
		{"bytes=-0", 10, BLOBS_OUTSIDE, 0, 10},
		{"bytes=0-", 0, BLOBS_OUTSIDE, 0, 0},
		{"bytes=-5", 0, BLOBS_OUTSIDE, 0, 0},
		/* Not understood, which is not an error. */
		{"bytes=5-3", 10, BLOBS_WHOLE, 0, 10},
		{"bytes=1-2,4-5", 10, BLOBS_WHOLE, 0, 10},
		{"bytes=-", 10, BLOBS_WHOLE, 0, 10},
		{"bytes=", 10, BLOBS_WHOLE, 0, 10},
		{"bytes", 10, BLOBS_WHOLE, 0, 10},
		{"lines=1-2", 10, BLOBS_WHOLE, 0, 10},
		{"bytes=a-b", 10, BLOBS_WHOLE, 0, 10},
		{"bytes= 1-2", 10, BLOBS_WHOLE, 0, 10},
		{"bytes=1--2", 10, BLOBS_WHOLE, 0, 10},
		{"bytes=+1-2", 10, BLOBS_WHOLE, 0, 10},
		{"bytes=18446744073709551616-", 10, BLOBS_WHOLE, 0, 10},
		{"bytes=9223372036854775808-", 10, BLOBS_WHOLE, 0, 10},
	};

	(void)state;
	for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
		uint64_t from, to;
		enum blobs_range range =
			blobs_range(str_of(cases[k].value), cases[k].size, &from, &to);

		if (range != cases[k].range || from != cases[k].from || to != cases[k].to)
			fail_msg("\"%s\" of %d: %d", cases[k].value, (int)cases[k].size,
				 (int)range);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_an_image),
		cmocka_unit_test(refuses_arguments),
		cmocka_unit_test(finds),
		cmocka_unit_test(ranges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
