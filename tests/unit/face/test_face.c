/* The faces' one view over all bottles, and their one way to decide. The folders are real, the
 * keeper at the other end of the control socket is played by a child. */
#include "face/face.h"

#include "backend/keeper.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <cmocka.h>

#define PENDING (1u << REQUEST_PENDING)
#define ALL	(~0u)

struct world {
	char root[64];
	int lock; /* of the bottle that lives */
	struct store *live, *dead;
	struct face *f;
};

/* --- the folders --- */

static int make_bottle(const struct world *w, const char *slug, const char *started)
{
	_cleanup_free_ char *path = mem_printf("%s/claude-bottle/bottles/%s", w->root, slug);
	_cleanup_free_ char *json = mem_printf("{\"agent\":\"worker\",\"state\":\"running\","
					       "\"started\":\"%s\",\"supervised\":true,"
					       "\"manifest\":\"/home/box.md\"}",
					       started);
	int dir;

	assert_int_equal(io_mkdir_p(path, 0700, NULL), 0);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir >= 0);
	assert_int_equal(io_write_file_atomic(dir, "bottle.json", str_of(json), 0600, NULL), 0);
	return dir;
}

static uint64_t ask(struct store *s, const char *host, uint64_t now)
{
	struct ask a = {.op = ASK_REQUEST, .kind = ASK_EGRESS};
	struct danger danger = {0};
	struct store_asked asked;
	struct err e = ERR_INIT;
	struct change c;

	(void)snprintf(a.host, sizeof(a.host), "%s", host);
	assert_int_equal(change_from_ask(&c, &a, &e), 0);
	assert_int_equal(
		store_ask(s, &c, &danger, STR_LIT("why \x1b[2J not"), now, now + 1000, &asked, &e),
		0);
	change_free(&c);
	return asked.id;
}

static int setup(void **state)
{
	struct world *w = mem_zalloc(sizeof(*w));
	struct err e = ERR_INIT;
	_cleanup_close_ int live = -1, dead = -1;

	(void)snprintf(w->root, sizeof(w->root), "/tmp/face-XXXXXX");
	assert_non_null(mkdtemp(w->root));
	assert_int_equal(setenv("XDG_STATE_HOME", w->root, 1), 0);
	live = make_bottle(w, "live-1", "2026-01-02T00:00:00.000Z");
	dead = make_bottle(w, "dead-1", "2026-01-01T00:00:00.000Z");
	w->lock = openat(live, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(flock(w->lock, LOCK_EX), 0);
	assert_int_equal(store_open(&w->live, live, "live-1", &e), 0);
	assert_int_equal(store_open(&w->dead, dead, "dead-1", &e), 0);
	(void)ask(w->live, "one.example.com", 100);
	(void)ask(w->live, "two.example.com", 90);
	(void)ask(w->dead, "three.example.com", 80);
	if (face_open(&w->f, &e) < 0)
		fail_msg("%s", e.text);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	face_close(w->f);
	store_close(w->live);
	store_close(w->dead);
	close_fd(&w->lock);
	(void)!io_remove_tree(AT_FDCWD, w->root, NULL);
	free(w);
	return 0;
}

/* --- looking --- */

static bool put_host(const char *slug, const struct request *r, void *ctx)
{
	struct buf *out = ctx;

	return buf_printf(out, "%s %s %s;", slug, face_state_name(r->state),
			  r->change.route.host) == 0;
}

static void expect_each(struct face *f, const char *slug, unsigned states, size_t limit,
			const char *wanted)
{
	_cleanup_(buf_free) struct buf out = BUF_INIT(4096);
	struct err e = ERR_INIT;

	assert_int_equal(face_each(f, slug, states, limit, put_host, &out, &e), 0);
	assert_int_equal(buf_append(&out, "", 1), 0);
	assert_string_equal(buf_str(&out).p, wanted);
}

static void test_bottles(void **state)
{
	struct world *w = *state;
	size_t n;
	const struct face_bottle *b = face_bottles(w->f, &n);

	assert_int_equal(n, 2);
	assert_string_equal(b[0].entry.slug, "live-1");
	assert_true(b[0].is_supervised);
	assert_false(b[0].is_paused);
	assert_int_equal(b[0].n_pending, 2);
	assert_string_equal(b[0].manifest, "/home/box.md");
	assert_string_equal(b[1].entry.slug, "dead-1");
	assert_int_equal(b[1].n_pending, 0);
	assert_string_equal(face_trouble(w->f), "");
}

static void test_each(void **state)
{
	struct world *w = *state;

	/* The one that waits longest first; what nobody can decide any more is not pending. */
	expect_each(w->f, NULL, PENDING, 10,
		    "live-1 pending two.example.com;live-1 pending one.example.com;");
	expect_each(w->f, NULL, PENDING, 1, "live-1 pending two.example.com;");
	expect_each(w->f, "dead-1", PENDING, 10, "");
	expect_each(w->f, NULL, ALL, 10,
		    "live-1 pending two.example.com;live-1 pending one.example.com;"
		    "dead-1 expired three.example.com;");
}

static void test_refresh(void **state)
{
	struct world *w = *state;
	struct err e = ERR_INIT;
	bool changed = true;

	assert_int_equal(face_refresh(w->f, &changed, &e), 0);
	assert_false(changed);
	(void)ask(w->live, "four.example.com", 110);
	assert_int_equal(face_refresh(w->f, &changed, &e), 0);
	assert_true(changed);
	assert_int_equal(face_refresh(w->f, &changed, &e), 0);
	assert_false(changed);
	expect_each(w->f, "live-1", PENDING, 10,
		    "live-1 pending two.example.com;live-1 pending one.example.com;"
		    "live-1 pending four.example.com;");
}

static void test_broken_store(void **state)
{
	struct world *w = *state;
	_cleanup_close_ int dir = make_bottle(w, "odd-1", "2026-01-03T00:00:00.000Z");
	_cleanup_close_ int lock = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct err e = ERR_INIT;

	assert_int_equal(flock(lock, LOCK_EX), 0);
	assert_int_equal(io_write_file_atomic(dir, STORE_FILE, STR_LIT("no database"), 0600, NULL),
			 0);
	face_close(w->f);
	assert_int_equal(face_open(&w->f, &e), 0);
	assert_non_null(strstr(face_trouble(w->f), "odd-1"));
	expect_each(w->f, NULL, PENDING, 1, "live-1 pending two.example.com;");
}

static void test_json(void **state)
{
	struct world *w = *state;
	_cleanup_(buf_free) struct buf out = BUF_INIT(65536);
	_cleanup_json_ json_t *j = NULL;
	char hex[CHANGE_HASH_HEX];
	struct err e = ERR_INIT;
	struct request r;

	assert_int_equal(face_get(w->f, "live-1", 1, &r, &e), 0);
	assert_int_equal(face_request_json(&out, "live-1", &r), 0);
	text_hex(hex, r.hash, sizeof(r.hash));
	request_free(&r);
	j = json_loadb(buf_str(&out).p, buf_len(&out), JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(j);
	assert_string_equal(json_string_value(json_object_get(j, "hash")), hex);
	assert_string_equal(json_string_value(json_object_get(j, "state")), "pending");
	/* What would move the cursor is shown instead. */
	assert_string_equal(json_string_value(json_object_get(j, "reason")), "why \\x1b[2J not");
	assert_int_equal(face_get(w->f, "live-1", 99, &r, &e), -ENOENT);
	assert_int_equal(face_get(w->f, "none-1", 1, &r, &e), -ENOENT);
}

static bool put_line(const char *line, void *ctx)
{
	return buf_printf(ctx, "%s\n", line) == 0;
}

static void test_records(void **state)
{
	static const char records[] =
		"{\"time\":\"2026-01-02T10:00:00.000Z\",\"verdict\":\"allow\",\"reason\":\"ok\","
		"\"host\":\"old.example.com\",\"method\":\"GET\",\"path\":\"/\"}\n"
		"{\"time\":\"2026-01-02T12:00:01.000Z\",\"verdict\":\"block\",\"reason\":\"host-"
		"not-"
		"allowed\",\"host\":\"a.example.com\",\"port\":8443,\"method\":\"GET\",\"path\":\"/"
		"x\"}\n"
		"no record\n"
		"{\"time\":\"2026-01-02T12:0"; /* is being written */
	struct world *w = *state;
	_cleanup_(buf_free) struct buf out = BUF_INIT(4096);
	_cleanup_close_ int dir = -1;
	struct err e = ERR_INIT;

	assert_int_equal(bottles_open("live-1", &dir, &e), 0);
	assert_int_equal(io_write_file_atomic(dir, "records.jsonl", STR_LIT(records), 0600, NULL),
			 0);
	assert_int_equal(face_each_record(w->f, "live-1", 2, put_line, &out, &e), 0);
	assert_int_equal(buf_append(&out, "", 1), 0);
	assert_string_equal(
		buf_str(&out).p,
		"12:00:01 block GET a.example.com:8443/x host-not-allowed\nno record\n");
}

/* --- deciding --- */

/* A keeper that takes one message and gives one answer; NULL: it goes away. What it took is read
 * from the pipe. */
static int play_keeper(const char *answer, pid_t *pid)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int dir = -1, sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct err e = ERR_INIT;
	int pair[2];

	assert_int_equal(bottles_open("live-1", &dir, &e), 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/control.sock",
		       dir);
	(void)unlinkat(dir, "control.sock", 0);
	assert_int_equal(bind(sock, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(sock, 1), 0);
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	*pid = fork();
	if (*pid == 0) {
		int c = accept(sock, NULL, NULL);
		char message[8192];
		ssize_t n = recv(c, message, sizeof(message), 0);

		(void)!write(pair[1], message, n > 0 ? (size_t)n : 0);
		if (answer)
			(void)send(c, answer, strlen(answer), 0);
		_exit(0);
	}
	close_fd(&pair[1]);
	return pair[0];
}

static json_t *heard(int fd, pid_t pid, char type)
{
	struct str text = STR_NULL;
	json_t *j;

	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(io_read_all(fd, 8192, &text, NULL), 0);
	close_fd(&fd);
	assert_true(text.n > 1);
	assert_int_equal(text.p[0], type);
	j = json_loadb(text.p + 1, text.n - 1, JSON_REJECT_DUPLICATES, NULL);
	free((void *)(uintptr_t)text.p);
	assert_non_null(j);
	return j;
}

static int decide(const char *answer, enum store_verdict *verdict, struct buf *said, json_t **asked,
		  struct err *e)
{
	const struct face_decision d = {.slug = "live-1",
					.id = 1,
					.hash = {0xab},
					.is_granted = true,
					.scope = ASK_BOTTLE,
					.release = ASK_PASS,
					.seconds = 60,
					.answer = "well \"then\"",
					.face = "terminal"};
	pid_t pid;
	int fd = play_keeper(answer, &pid);
	int ret = face_decide(&d, verdict, said, e);

	*asked = heard(fd, pid, KEEPER_DECIDE);
	return ret;
}

static void test_decide(void **state)
{
	_cleanup_(buf_free) struct buf said = BUF_INIT(1024);
	_cleanup_json_ json_t *j = NULL;
	enum store_verdict verdict;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(decide("={\"verdict\":\"stale\",\"in_force\":true,\"text\":\"look\"}",
				&verdict, &said, &j, &e),
			 0);
	assert_int_equal(verdict, STORE_STALE);
	assert_true(str_eq(buf_str(&said), STR_LIT("look")));
	assert_int_equal(json_integer_value(json_object_get(j, "id")), 1);
	assert_string_equal(json_string_value(json_object_get(j, "scope")), "bottle");
	assert_string_equal(json_string_value(json_object_get(j, "answer")), "well \"then\"");
	assert_int_equal(strncmp(json_string_value(json_object_get(j, "hash")), "ab00", 4), 0);
	assert_true(json_is_true(json_object_get(j, "grant")));
}

static void expect_trouble(const char *answer, int wanted)
{
	_cleanup_(buf_free) struct buf said = BUF_INIT(1024);
	_cleanup_json_ json_t *j = NULL;
	enum store_verdict verdict;
	struct err e = ERR_INIT;

	assert_int_equal(decide(answer, &verdict, &said, &j, &e), wanted);
	assert_true(e.text[0] != '\0');
}

static void test_decide_trouble(void **state)
{
	(void)state;
	expect_trouble(NULL, -EIO);
	expect_trouble("={\"verdict\":\"decided\",\"in_force\":false,\"text\":\"ended\"}", -EIO);
	expect_trouble("={\"verdict\":\"perhaps\",\"in_force\":true,\"text\":\"?\"}", -EIO);
	expect_trouble("=[]", -EIO);
	expect_trouble("={\"verdict\":\"failed\",\"in_force\":false,\"text\":\"no\"}", -EINVAL);
	expect_trouble("f{\"text\":\"unknown message\"}", -EPROTO);
}

static void test_nobody_there(void **state)
{
	const struct face_decision d = {.slug = "dead-1", .id = 1, .face = "web"};
	_cleanup_(buf_free) struct buf said = BUF_INIT(1024);
	enum store_verdict verdict;
	struct err e = ERR_INIT;

	(void)state;
	assert_true(face_decide(&d, &verdict, &said, &e) < 0);
	assert_int_not_equal(e.code, -EIO);
	assert_non_null(strstr(e.text, "not running"));
	assert_int_equal(face_stop_now("dead-1", &said, &e), 0);
}

int main(void)
{
#define FACE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		FACE_TEST(test_bottles),      FACE_TEST(test_each),
		FACE_TEST(test_refresh),      FACE_TEST(test_broken_store),
		FACE_TEST(test_json),	      FACE_TEST(test_records),
		FACE_TEST(test_decide),	      FACE_TEST(test_decide_trouble),
		FACE_TEST(test_nobody_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
