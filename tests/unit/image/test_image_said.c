#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "image/image_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static char told[1024];

static void on_progress(void *ctx, const char *step, const char *text, uint64_t done,
			uint64_t total)
{
	(void)ctx;
	(void)done;
	(void)total;
	(void)snprintf(told, sizeof(told), "%s|%s", step, text);
}
static const struct progress watcher = {.fn = on_progress};

static void say(struct image_said *s, const char *text)
{
	json_t *event = json_pack("{s:s}", "stream", text);

	assert_int_equal(image_said_event(s, event), 0);
	json_decref(event);
}

static const char *fails(const struct image_said *s, int code, const char *text, struct err *e)
{
	*e = ERR_INIT;
	(void)err_set(e, code, "%s", text);
	image_said_fail(s, e);
	return e->text;
}

static void test_steps_and_lines(void **state)
{
	struct image_said s;
	json_t *aux = json_pack("{s:{s:s}}", "aux", "ID", "sha256:0123");

	(void)state;
	image_said_init(&s, "shell", &watcher, NULL);
	say(&s, "Step 2/7 : RUN apt");
	say(&s, "-get\n");
	assert_string_equal(told, "image shell|step 2/7: RUN apt-get");
	say(&s, "\n ---> Running in 0123456789ab\nGet:1 http://x\n");
	assert_string_equal(told, "image shell|step 2/7: Get:1 http://x");
	say(&s, "Removing intermediate container 0123456789ab\n ---> abcdef012345\n");
	assert_int_equal(s.n_ids, 1);
	assert_string_equal(s.ids[0], "abcdef012345");
	assert_int_equal(image_said_event(&s, aux), 0);
	assert_string_equal(s.id, "sha256:0123");
	json_decref(aux);
}

static void test_why_it_failed(void **state)
{
	static const char code[] = "the Docker engine: build image shell: The command '/bin/sh -c "
				   "x' returned a non-zero code: 100";
	struct image_said s;
	struct err e;

	(void)state;
	image_said_init(&s, "shell", NULL, NULL);
	say(&s, "Step 3/7 : RUN x\n ---> Running in 0123456789ab\n");
	assert_string_equal(fails(&s, -EIO, code, &e),
			    "the image shell, step 3/7 could not be built: its command failed "
			    "without a word");
	say(&s, "made it half\n");
	assert_string_equal(fails(&s, -EIO, code, &e),
			    "the image shell, step 3/7 could not be built: made it half");
	/* What complains first tells more than what comes last. Errors come in red. */
	say(&s, "\x1b[91mE: Failed to fetch http://x\n\x1b[0m\x1b[91mE: Some failed\n\x1b[0m"
		"try again\n");
	assert_string_equal(fails(&s, -EIO, code, &e),
			    "the image shell, step 3/7 could not be built: E: Failed to fetch "
			    "http://x");
	assert_int_equal(e.code, -EIO);
	say(&s, "Step 4/7 : RUN y\ntar: write: No space left on device\n");
	assert_non_null(strstr(fails(&s, -EIO, code, &e), "step 4/7 could not be built: tar:"));
	assert_int_equal(e.code, -ENOSPC);
	/* A long command: the engine's line was cut before its end. */
	assert_null(strstr(fails(&s, -EIO, "build: The command '/bin/sh -c x…", &e), "/bin/sh"));
	/* Not a command's: the engine's own words. */
	assert_string_equal(fails(&s, -EPIPE, "the Docker engine: build: it hung up", &e),
			    "the image shell, step 4/7 could not be built: the Docker engine: "
			    "build: it hung up");
	assert_int_equal(e.code, -EPIPE);
}

static void test_hostile_words_stay_on_one_line(void **state)
{
	struct image_said s;
	char *long_line = calloc(1, 3 * SAID_LINE_MAX);
	struct err e;

	(void)state;
	image_said_init(&s, "shell", &watcher, NULL);
	say(&s, "Step 1/0x : RUN\nStep 9999/1 : x\nStep : x\nStep\n");
	assert_int_equal(s.n_step, 0);
	say(&s, "Step 1/2 : RUN\n\x1b]0;title\x07\x1b[2J\n");
	assert_null(strchr(told, '\x1b'));
	memset(long_line, 'a', 3 * SAID_LINE_MAX - 1);
	say(&s, long_line);
	say(&s, "\n");
	assert_true(strlen(s.last) < SAID_LINE_MAX);
	assert_null(
		strchr(fails(&s, -EIO, "The command 'x' returned a non-zero code: 1", &e), '\n'));
	free(long_line);
}

static void test_caps(void **state)
{
	struct image_said s;
	struct buf log;
	char line[64];

	(void)state;
	buf_init(&log, 256);
	image_said_init(&s, "shell", NULL, &log);
	for (unsigned i = 0; i < 2 * SAID_IDS_MAX; i++) {
		(void)snprintf(line, sizeof(line), " ---> %012x\n", i);
		say(&s, line);
	}
	assert_int_equal(s.n_ids, SAID_IDS_MAX);
	say(&s, " ---> ../../x\n ---> 0123456789abcdef0123456789abcdef\n");
	assert_int_equal(s.n_ids, SAID_IDS_MAX);
	for (unsigned i = 0; i < 100; i++) {
		(void)snprintf(line, sizeof(line), "line %u\n", i);
		say(&s, line);
	}
	assert_true(buf_len(&log) <= 256);
	assert_true(str_ends(buf_str(&log), STR_LIT("line 98\nline 99\n")));
	assert_true(str_starts(buf_str(&log), STR_LIT("line ")));
	buf_free(&log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_steps_and_lines),
		cmocka_unit_test(test_why_it_failed),
		cmocka_unit_test(test_hostile_words_stay_on_one_line),
		cmocka_unit_test(test_caps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
