/* Connections that become streams, and the frames in them. */
#include "fake_engine.h"

#include "base/mem.h"

/* --- frames --- */

/* What came out: per run its stream's digit and its bytes, a run of the same stream continued. */
static ssize_t demux(struct str in, size_t cut, size_t step, struct buf *out)
{
	struct engine_demux d = {0};
	int last = -1;

	buf_reset(out);
	for (size_t at = 0; at < in.n; at += cut, cut = step) {
		struct str piece = str_sub(in, at, at + cut);

		while (piece.n > 0) {
			enum engine_stream_id id;
			struct str data;
			ssize_t used = engine_demux_next(&d, piece, &id, &data);

			if (used < 0)
				return used;
			assert_true(used > 0 && (size_t)used <= piece.n);
			assert_true(data.n <= (size_t)used);
			/* The relay counts on data being the end of what was used. */
			if (data.n > 0) {
				assert_ptr_equal(data.p + data.n, piece.p + used);
				if ((int)id != last)
					assert_int_equal(buf_printf(out, "%d", id), 0);
				last = (int)id;
				assert_int_equal(buf_append_str(out, data), 0);
			}
			piece = str_sub(piece, (size_t)used, piece.n);
		}
	}
	return 0;
}

static void check_demux(struct str in, ssize_t ret, const char *expected)
{
	struct buf out;

	buf_init(&out, 4096);
	for (size_t cut = 0; cut <= in.n; cut++) {
		assert_int_equal(demux(in, cut ? cut : 1, cut ? SIZE_MAX / 4 : 1, &out), ret);
		assert_true(str_eq(buf_str(&out), str_of(expected)));
	}
	buf_free(&out);
}

static void test_demux(void **state)
{
	(void)state;
	check_demux(STR_LIT(""), 0, "");
	check_demux(STR_LIT("\1\0\0\0\0\0\0\3abc"), 0, "1abc");
	check_demux(STR_LIT("\1\0\0\0\0\0\0\3abc\2\0\0\0\0\0\0\2xy\1\0\0\0\0\0\0\1d"), 0,
		    "1abc2xy1d");
	check_demux(STR_LIT("\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\2\0\0\0\0\0\0\1z"), 0, "2z");
	check_demux(STR_LIT("\0\0\0\0\0\0\0\1i"), 0, "0i");
	/* Lengths up to 4 GiB are allowed and nothing is held for them. */
	check_demux(STR_LIT("\1\0\0\0\xff\xff\xff\xff"
			    "abc"),
		    0, "1abc");
	/* A frame that is not whole is told as far as it goes. */
	check_demux(STR_LIT("\1\0\0\0\0\0\1\0abc"), 0, "1abc");
	check_demux(STR_LIT("\1\0\0\0\0\0"), 0, "");
}

static void test_demux_bogus(void **state)
{
	struct engine_demux d = {0};
	enum engine_stream_id id;
	struct str data;

	(void)state;
	check_demux(STR_LIT("\1\0\0\0\0\0\0\1a\3\0\0\0\0\0\0\1b"), -EPROTO, "1a");
	check_demux(STR_LIT("\xff\0\0\0\0\0\0\1b"), -EPROTO, "");
	check_demux(STR_LIT("\1\1\0\0\0\0\0\1b"), -EPROTO, "");
	check_demux(STR_LIT("\1\0\1\0\0\0\0\1b"), -EPROTO, "");
	check_demux(STR_LIT("\1\0\0\1\0\0\0\1b"), -EPROTO, "");
	check_demux(STR_LIT("plain text of a terminal"), -EPROTO, "");
	/* It stays refused. */
	assert_int_equal(engine_demux_next(&d, STR_LIT("\7\0\0\0\0\0\0\1"), &id, &data), -EPROTO);
	assert_int_equal(engine_demux_next(&d, STR_LIT("\1\0\0\0\0\0\0\1a"), &id, &data), -EPROTO);
	assert_int_equal(data.n, 0);
}

/* --- the hand-over --- */

static void takes(const char *answer, const char *early_text)
{
	struct err e = ERR_INIT;
	struct fake f = {.holds_open = true};
	struct buf early;
	int fd;

	fake_one(&f, answer);
	if (engine_hijack(&f.en, "/containers/x/attach", NULL, "attach", &fd, &early, &e) < 0)
		fail_msg("%s", e.text);
	/* What was not behind the head in the same read follows. */
	while (buf_len(&early) < strlen(early_text)) {
		assert_int_equal(engine_await(fd, engine_deadline(5000)), 0);
		assert_true(engine_receive(fd, &early) > 0);
	}
	assert_true(str_eq(buf_str(&early), str_of(early_text)));
	assert_int_equal(engine_receive(fd, &early), -EAGAIN);
	assert_true(fake_saw(&f, "POST /v1.41/containers/x/attach HTTP/1.1\r\n"));
	assert_false(fake_saw(&f, "Upgrade"));
	buf_free(&early);
	close(fd);
	fake_stop(&f);
}

static void test_hijack(void **state)
{
	(void)state;
	takes(FAKE_STREAM, "");
	takes(FAKE_STREAM "early bytes\r\n\r\n", "early bytes\r\n\r\n");
	takes("HTTP/1.1 200 OK\r\nContent-Type: "
	      "application/vnd.docker.multiplexed-stream\r\n\r\n\1",
	      "\1");
	takes("HTTP/1.1 100 Continue\r\n\r\n" FAKE_STREAM "x", "x");
	fake_receive_max = 1;
	takes(FAKE_STREAM "early", "early");
	fake_receive_max = 0;
}

static void fails(const char *answer, int code, const char *text)
{
	json_t *body = json_pack("{s:b}", "Tty", 1);
	struct err e = ERR_INIT;
	struct fake f = {0};
	struct buf early;
	int fd = 99, ret;

	fake_one(&f, answer);
	ret = engine_hijack(&f.en, "/exec/x/start", body, "start exec", &fd, &early, &e);
	CHECK_ERROR(&e, ret, code, "the Docker engine: start exec: ", text);
	assert_int_equal(fd, -1);
	assert_int_equal(buf_len(&early), 0);
	assert_true(fake_saw(&f, "{\"Tty\":true}"));
	json_decref(body);
	fake_stop(&f);
}

static void test_refused(void **state)
{
	(void)state;
	fails("HTTP/1.1 404 No\r\n\r\n{\"message\":\"no such exec\"}", -ENOENT, "no such exec");
	fails("HTTP/1.1 409 No\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nbusy",
	      -EEXIST, "busy");
	fails("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}", -EPROTO,
	      "does not hand over a stream");
	fails("HTTP/1.1 200 OK\r\n\r\n", -EPROTO, "does not hand over a stream");
	fails("HTTP/1.1 201 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n", -EPROTO,
	      "does not hand over a stream");
	fails("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
	      "Content-Length: 5\r\n\r\nabcde",
	      -EPROTO, "does not hand over a stream");
	fails("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
	      "Transfer-Encoding: chunked\r\n\r\n",
	      -EPROTO, "does not hand over a stream");
	fails("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", -EPROTO,
	      "upgrade-refused");
	fails("", -EPIPE, "it hung up");
}

static void serve_silence(struct fake *f, int fd, unsigned n)
{
	(void)f;
	(void)n;
	fake_wait_end(fd);
}

static void test_time(void **state)
{
	struct err e = ERR_INIT;
	struct fake f = {0};
	struct buf early;
	int fd, ret;

	(void)state;
	fake_start(&f, serve_silence);
	fake_hurry(true);
	ret = engine_hijack(&f.en, "/a", NULL, "attach", &fd, &early, &e);
	CHECK_ERROR(&e, ret, -ETIMEDOUT, "attach: no answer in time");
	fake_hurry(false);
	fake_stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_demux),  cmocka_unit_test(test_demux_bogus),
		cmocka_unit_test(test_hijack), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_time),
	};

	return cmocka_run_group_tests_name("engine-hijack", tests, NULL, NULL);
}
