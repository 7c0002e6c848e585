/* What process 1 takes from the keeper: exactly what the contract says, and nothing besides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "guest/guest_host.h"
#include "guest/guest_int.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>

static int ends[2]; /* the keeper's, the guest's */
static struct orders o;

static int set_up(void **state)
{
	(void)state;
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
}

static int tear_down(void **state)
{
	(void)state;
	orders_free(&o);
	close_fd(&ends[0]);
	close_fd(&ends[1]);
	return 0;
}

static int say(const char *letters, struct str text, size_t n_fds, struct err *e)
{
	_cleanup_close_ int file = io_memfd_sealed("order", text, e);
	int fds[] = {file, file, file};

	*e = ERR_INIT;
	orders_free(&o);
	assert_true(io_send_fds(ends[0], letters, strlen(letters), fds, n_fds, 0) > 0);
	return orders_receive(ends[1], &o, e);
}

static void expect(const char *letter, const char *text)
{
	struct err e = ERR_INIT;

	if (say(letter, str_of(text), 1, &e) != 0 || o.letter != letter[0])
		fail_msg("%s: %s", text, e.text);
}

static void refuse(const char *letter, const char *text, const char *want)
{
	struct err e = ERR_INIT;

	if (say(letter, str_of(text), 1, &e) != -EPROTO || o.letter != 0 || !strstr(e.text, want))
		fail_msg("%s: \"%s\" instead of \"%s\"", text, e.text, want);
}

static void test_canary(void **state)
{
	(void)state;
	expect("c", "{\"pinned\":\"10.210.0.2\",\"answers\":[8888,1,65535],\"closed\":["
		    "{\"address\":\"1.1.1.1\",\"port\":443,\"what\":\"outside\"},"
		    "{\"port\":65535,\"address\":\"fd00::1\"}]}");
	assert_string_equal(o.canary.pinned, "10.210.0.2");
	assert_int_equal(o.canary.n_answers, 3);
	assert_int_equal(o.canary.answers[2], 65535);
	assert_int_equal(o.canary.n_closed, 2);
	assert_string_equal(o.canary.closed[0].what, "outside");
	assert_null(o.canary.closed[1].what);
	assert_string_equal(o.canary.closed[1].address, "fd00::1");
	expect("c", "{\"pinned\":\"10.210.0.2\",\"answers\":[],\"closed\":[]}");
}

static void test_canary_refused(void **state)
{
	static const struct {
		const char *text, *want;
	} table[] = {
		{"{}", "pinned"},
		{"{\"pinned\":\"x\",\"answers\":[],\"closed\":[]}", "pinned"},
		{"{\"pinned\":\"fd00::1\",\"answers\":[],\"closed\":[]}", "pinned"},
		{"{\"pinned\":\"10.0.0.1 \",\"answers\":[],\"closed\":[]}", "pinned"},
		{"{\"pinned\":1,\"answers\":[],\"closed\":[]}", "pinned"},
		{"{\"pinned\":\"10.0.0.1\",\"closed\":[]}", "answers"},
		{"{\"pinned\":\"10.0.0.1\",\"answers\":8888,\"closed\":[]}", "answers"},
		{"{\"pinned\":\"10.0.0.1\",\"answers\":[\"8888\"],\"closed\":[]}", "answers"},
		{"{\"pinned\":\"10.0.0.1\",\"answers\":[8888.0],\"closed\":[]}", "answers"},
		{"{\"pinned\":\"10.0.0.1\",\"answers\":[0],\"closed\":[]}", "answers"},
		{"{\"pinned\":\"10.0.0.1\",\"answers\":[65536],\"closed\":[]}", "answers"},
		{"{\"pinned\":\"10.0.0.1\",\"answers\":[-1],\"closed\":[]}", "answers"},
		{"{\"pinned\":\"10.0.0.1\",\"answers\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17],"
		 "\"closed\":[]}",
		 "answers"},
		{"{\"pinned\":\"10.0.0.1\",\"answers\":[]}", "closed"},
		{"{\"pinned\":\"10.0.0.1\",\"answers\":[],\"closed\":{}}", "closed"},
		{"{\"pinned\":\"10.0.0.1\",\"answers\":[],\"closed\":[1]}", "closed"},
		{"{\"pinned\":\"10.0.0.1\",\"answers\":[],\"closed\":[{\"address\":\"1.1.1.1\"}]}",
		 "closed"},
		{"{\"pinned\":\"10.0.0.1\",\"answers\":[],\"closed\":[{\"address\":\"1.1.1.1\","
		 "\"port\":0}]}",
		 "closed"},
		{"{\"pinned\":\"10.0.0.1\",\"answers\":[],\"closed\":[{\"address\":\"1.1.1.1\","
		 "\"port\":65536}]}",
		 "closed"},
		{"{\"pinned\":\"10.0.0.1\",\"answers\":[],\"closed\":[{\"address\":\"one.one\","
		 "\"port\":1}]}",
		 "closed"},
		{"{\"pinned\":\"10.0.0.1\",\"answers\":[],\"closed\":[{\"address\":\"1.1.1.1\","
		 "\"port\":1,\"what\":7}]}",
		 "closed"},
		{"{\"pinned\":\"10.0.0.1\",\"answers\":[],\"closed\":[{\"address\":\"1.1.1.1\","
		 "\"port\":1,\"who\":\"\"}]}",
		 "closed"},
		{"{\"pinned\":\"10.0.0.1\",\"answers\":[],\"closed\":[],\"open\":[]}",
		 "an unknown key"},
		{"{\"pinned\":\"10.0.0.1\",\"pinned\":\"10.0.0.2\",\"answers\":[],\"closed\":[]}",
		 "not a JSON object"},
		{"{\"pinned\":\"10.0.0.1\\u0000\",\"answers\":[],\"closed\":[]}",
		 "not a JSON object"},
		{"[]", "not a JSON object"},
		{"1", "not a JSON object"},
		{"", "not a JSON object"},
		{"{\"pinned\":\"10.0.0.1\",\"answers\":[],\"closed\":[]} x", "not a JSON object"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		refuse("c", table[i].text, table[i].want);
}

#define GO(argv, tty, files, limits) GO_ENV(argv, "[]", tty, files, limits)
#define GO_ENV(argv, env, tty, files, limits)                                                      \
	"{\"argv\":" argv ",\"env\":" env ",\"tty\":" tty ",\"files\":" files                      \
	",\"limits\":" limits "}"
#define LIMITS			"{\"files\":0,\"file_size_bytes\":0,\"processes\":0}"
#define FILE_(path, mode, text) "[{\"path\":" path ",\"mode\":" mode ",\"text\":" text "}]"

static void test_go(void **state)
{
	(void)state;
	expect("g", GO("[\"a\",\"\",\"\\u00e9\"]", "true",
		       FILE_("\".config/x..y/...\"", "511", "\"l\\n\""),
		       "{\"files\":9223372036854775807,\"file_size_bytes\":2,\"processes\":3}"));
	assert_string_equal(o.go.argv[0], "a");
	assert_string_equal(o.go.argv[1], "");
	assert_string_equal(o.go.argv[2], "\xc3\xa9");
	assert_null(o.go.argv[3]);
	assert_true(o.go.has_tty);
	assert_int_equal(o.go.n_files, 1);
	assert_string_equal(o.go.files[0].path, ".config/x..y/...");
	assert_int_equal(o.go.files[0].mode, 0777);
	assert_int_equal(o.go.files[0].text.n, 2);
	assert_true(o.go.limits.files == INT64_MAX);
	assert_int_equal(o.go.limits.processes, 3);
}

static void test_go_refused(void **state)
{
	static const struct {
		const char *text, *want;
	} table[] = {
		{GO("[]", "false", "[]", LIMITS), "argv"},
		{GO("\"sh\"", "false", "[]", LIMITS), "argv"},
		{GO("[1]", "false", "[]", LIMITS), "argv"},
		{GO("[\"sh\",null]", "false", "[]", LIMITS), "argv"},
		{GO("[\"\"]", "false", "[]", LIMITS), "argv"},
		{GO("[\"a\\u0000b\"]", "false", "[]", LIMITS), "not a JSON object"},
		{GO("[\"a\xff\"]", "false", "[]", LIMITS), "not a JSON object"},
		{GO("[\"a\"]", "0", "[]", LIMITS), "tty"},
		{GO("[\"a\"]", "\"false\"", "[]", LIMITS), "tty"},
		{GO("[\"a\"]", "false", "{}", LIMITS), "files"},
		{GO("[\"a\"]", "false", "[{}]", LIMITS), "files"},
		{GO("[\"a\"]", "false", FILE_("\"x\"", "512", "\"\""), LIMITS), "files"},
		{GO("[\"a\"]", "false", FILE_("\"x\"", "2048", "\"\""), LIMITS), "files"},
		{GO("[\"a\"]", "false", FILE_("\"x\"", "-1", "\"\""), LIMITS), "files"},
		{GO("[\"a\"]", "false", FILE_("\"x\"", "\"0600\"", "\"\""), LIMITS), "files"},
		{GO("[\"a\"]", "false", FILE_("\"x\"", "384", "null"), LIMITS), "files"},
		{GO("[\"a\"]", "false", FILE_("1", "384", "\"\""), LIMITS), "files"},
		{GO("[\"a\"]", "false", FILE_("\"\"", "384", "\"\""), LIMITS), "files"},
		{GO("[\"a\"]", "false", FILE_("\"/x\"", "384", "\"\""), LIMITS), "files"},
		{GO("[\"a\"]", "false", FILE_("\"x/\"", "384", "\"\""), LIMITS), "files"},
		{GO("[\"a\"]", "false", FILE_("\"x//y\"", "384", "\"\""), LIMITS), "files"},
		{GO("[\"a\"]", "false", FILE_("\".\"", "384", "\"\""), LIMITS), "files"},
		{GO("[\"a\"]", "false", FILE_("\"..\"", "384", "\"\""), LIMITS), "files"},
		{GO("[\"a\"]", "false", FILE_("\"x/../y\"", "384", "\"\""), LIMITS), "files"},
		{GO("[\"a\"]", "false", FILE_("\"x/.\"", "384", "\"\""), LIMITS), "files"},
		{GO("[\"a\"]", "false", FILE_("\"../x\"", "384", "\"\""), LIMITS), "files"},
		{GO("[\"a\"]", "false", "[{\"path\":\"x\",\"mode\":384,\"text\":\"\",\"uid\":0}]",
		    LIMITS),
		 "files"},
		{GO("[\"a\"]", "false", "[]", "[]"), "limits"},
		{GO("[\"a\"]", "false", "[]", "{}"), "files"},
		{GO("[\"a\"]", "false", "[]",
		    "{\"files\":-1,\"file_size_bytes\":0,\"processes\":0}"),
		 "files"},
		{GO("[\"a\"]", "false", "[]",
		    "{\"files\":1.5,\"file_size_bytes\":0,\"processes\":0}"),
		 "files"},
		{GO("[\"a\"]", "false", "[]",
		    "{\"files\":9223372036854775808,\"file_size_bytes\":0,\"processes\":0}"),
		 "not a JSON object"},
		{GO("[\"a\"]", "false", "[]",
		    "{\"files\":0,\"file_size_bytes\":0,\"processes\":0,\"memory\":0}"),
		 "an unknown key"},
		{"{\"argv\":[\"a\"],\"env\":[],\"tty\":false,\"files\":[],\"limits\":" LIMITS
		 ",\"cwd\":\"/\"}",
		 "an unknown key"},
		{GO_ENV("[\"a\"]", "{}", "false", "[]", LIMITS), "env"},
		{GO_ENV("[\"a\"]", "[1]", "false", "[]", LIMITS), "env"},
		{GO_ENV("[\"a\"]", "[\"A\"]", "false", "[]", LIMITS), "env"},
		{GO_ENV("[\"a\"]", "[\"=A\"]", "false", "[]", LIMITS), "env"},
		{"{\"argv\":[\"a\"],\"tty\":false,\"files\":[],\"limits\":" LIMITS "}", "env"},
		{"{\"pinned\":\"10.0.0.1\",\"answers\":[],\"closed\":[]}", "an unknown key"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		refuse("g", table[i].text, table[i].want);
}

/* list: n times item, with commas. */
static char *many(const char *before, const char *item, size_t n, const char *after)
{
	size_t size = strlen(before) + n * (strlen(item) + 1) + strlen(after) + 1, at;
	char *text = mem_zalloc(size);

	at = (size_t)snprintf(text, size, "%s", before);
	for (size_t i = 0; i < n; i++)
		at += (size_t)snprintf(text + at, size - at, "%s%s", i ? "," : "", item);
	(void)snprintf(text + at, size - at, "%s", after);
	return text;
}

static void test_caps(void **state)
{
	static const struct {
		const char *letter, *before, *item, *after, *want;
		size_t max;
	} table[] = {
		{"g", "{\"argv\":[\"a\"],\"env\":[", "\"A=\"",
		 "],\"tty\":false,\"files\":[],\"limits\":" LIMITS "}", "env", GUEST_ENV_MAX},
		{"g", "{\"env\":[],\"argv\":[", "\"a\"",
		 "],\"tty\":false,\"files\":[],\"limits\":" LIMITS "}", "argv", GUEST_ARGV_MAX},
		{"g", "{\"argv\":[\"a\"],\"env\":[],\"tty\":false,\"files\":[",
		 "{\"path\":\"x\",\"mode\":384,\"text\":\"\"}", "],\"limits\":" LIMITS "}", "files",
		 GUEST_FILES_MAX},
		{"c", "{\"pinned\":\"10.0.0.1\",\"closed\":[],\"answers\":[", "80", "]}", "answers",
		 GUEST_ANSWERS_MAX},
		{"c", "{\"pinned\":\"10.0.0.1\",\"answers\":[],\"closed\":[",
		 "{\"address\":\"::1\",\"port\":1}", "]}", "closed", GUEST_CLOSED_MAX},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		_cleanup_free_ char *most =
			many(table[i].before, table[i].item, table[i].max, table[i].after);
		_cleanup_free_ char *more =
			many(table[i].before, table[i].item, table[i].max + 1, table[i].after);

		expect(table[i].letter, most);
		refuse(table[i].letter, more, table[i].want);
	}
}

static void test_path_cap(void **state)
{
	char path[GUEST_PATH_MAX + 2];
	_cleanup_free_ char *most = NULL;
	_cleanup_free_ char *more = NULL;

	(void)state;
	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	most = mem_printf(GO("[\"a\"]", "false", FILE_("\"%s\"", "384", "\"\""), LIMITS), path + 1);
	more = mem_printf(GO("[\"a\"]", "false", FILE_("\"%s\"", "384", "\"\""), LIMITS), path);
	expect("g", most);
	refuse("g", more, "files");
}

static void test_length(void **state)
{
	static const char go[] = GO("[\"a\"]", "false", "[]", LIMITS);
	_cleanup_free_ char *text = mem_zalloc(GUEST_JSON_MAX + 2);
	struct err e;

	(void)state;
	memset(text, ' ', GUEST_JSON_MAX + 1);
	memcpy(text, go, sizeof(go) - 1);
	assert_int_equal(say("g", str_slice(text, GUEST_JSON_MAX), 1, &e), 0);
	assert_int_equal(say("g", str_slice(text, GUEST_JSON_MAX + 1), 1, &e), -EPROTO);
	assert_non_null(strstr(e.text, "it is too long"));
}

static void test_message(void **state)
{
	static const char good[] = "{\"pinned\":\"10.210.0.2\",\"answers\":[],\"closed\":[]}";
	static const struct {
		const char *letters;
		size_t n_fds;
		int code;
	} table[] = {
		{"c", 0, -EPROTO},  {"c", 2, -EPROTO},	{"c", 3, -EPROTO},
		{"cc", 1, -EPROTO}, {"cc", 0, -EPROTO}, {"ccc", 1, -EMSGSIZE},
		{"h", 1, -EPROTO},  {"p", 1, -EPROTO},	{"C", 1, -EPROTO},
	};
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		int before = dup(0), after;

		if (say(table[i].letters, str_of(good), table[i].n_fds, &e) != table[i].code)
			fail_msg("%zu: %s", i, e.text);
		(void)close(before);
		after = dup(0);
		assert_int_equal(after, before); /* nothing is left open */
		(void)close(after);
	}
	close_fd(&ends[0]);
	assert_int_equal(orders_receive(ends[1], &o, &e), 0);
	assert_int_equal(o.letter, 0);
}

static void test_seals(void **state)
{
	static const char good[] = "{\"pinned\":\"10.210.0.2\",\"answers\":[],\"closed\":[]}";
	static const int seals[] = {0, F_SEAL_WRITE, F_SEAL_SHRINK | F_SEAL_GROW,
				    F_SEAL_WRITE | F_SEAL_GROW, F_SEAL_WRITE | F_SEAL_SHRINK};
	int pipe_fds[2];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(seals); i++) {
		_cleanup_close_ int file = memfd_create("order", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		struct err e = ERR_INIT;

		assert_int_equal(io_write_all(file, good, sizeof(good) - 1), 0);
		assert_int_equal(fcntl(file, F_ADD_SEALS, seals[i]), 0);
		assert_int_equal(io_send_fds(ends[0], "c", 1, &file, 1, 0), 1);
		assert_int_equal(orders_receive(ends[1], &o, &e), -EPROTO);
		assert_non_null(strstr(e.text, "not sealed"));
	}
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	assert_int_equal(io_send_fds(ends[0], "c", 1, pipe_fds, 1, 0), 1);
	assert_int_equal(orders_receive(ends[1], &o, NULL), -EPROTO);
	(void)close(pipe_fds[0]);
	(void)close(pipe_fds[1]);
}

/* --- a signal to pass on --- */

static void test_pass(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
	} bad[] = {
		{"p\x0f\0\0\0", 5},	{"p\x0f\0\0\0\0\0", 7},	    {"q\x0f\0\0\0\0", 6},
		{"p\0\0\0\0\0", 6},	{"p\x41\0\0\0\0", 6},	    {"p\xff\0\0\0\0", 6},
		{"p\x0f\xff\0\0\0", 6}, {"p\x0f\x3b\x9a\xca\0", 6}, {"p", 1},
	};
	_cleanup_close_ int file = io_memfd_sealed("more", STR_LIT("x"), NULL);
	struct orders_pass p;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(guest_signal(ends[0], 0, SIGTERM, &e), 0);
	assert_int_equal(orders_receive_pass(ends[1], &p, &e), 1);
	assert_int_equal(p.exec, 0);
	assert_int_equal(p.signo, SIGTERM);
	assert_int_equal(guest_signal(ends[0], GUEST_EXEC_MAX, SIGRTMAX, &e), 0);
	assert_int_equal(orders_receive_pass(ends[1], &p, &e), 1);
	assert_int_equal(p.exec, GUEST_EXEC_MAX);
	assert_int_equal(p.signo, SIGRTMAX);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_true(io_send_fds(ends[0], bad[i].bytes, bad[i].n, NULL, 0, 0) > 0);
		if (orders_receive_pass(ends[1], &p, &e) >= 0 || p.signo != 0)
			fail_msg("%zu was taken", i);
	}
	assert_true(io_send_fds(ends[0], "p\x0f\0\0\0\0", 6, &file, 1, 0) > 0);
	assert_true(orders_receive_pass(ends[1], &p, &e) < 0);
	assert_int_equal(guest_signal(ends[0], 0, 0, &e), -EINVAL);
	assert_int_equal(guest_signal(ends[0], 0, SIGRTMAX + 1, &e), -EINVAL);
	assert_int_equal(guest_signal(ends[0], 0, -1, &e), -EINVAL);
	assert_int_equal(guest_signal(ends[0], GUEST_EXEC_MAX + 1, SIGTERM, &e), -EINVAL);
}

static void test_pass_never_blocks(void **state)
{
	struct orders_pass p;
	struct err e = ERR_INIT;
	int ret = 0;

	(void)state;
	for (int i = 0; i < 100000 && ret == 0; i++)
		ret = guest_signal(ends[0], 1, SIGTERM, &e);
	assert_int_equal(ret, -EAGAIN);
	close_fd(&ends[1]);
	assert_int_equal(guest_signal(ends[0], 1, SIGTERM, &e), -EPIPE);
	(void)tear_down(NULL);
	(void)set_up(NULL);
	close_fd(&ends[0]);
	assert_int_equal(orders_receive_pass(ends[1], &p, &e), 0);
}

/* --- what the keeper's half refuses to say --- */

static void test_host_caps(void **state)
{
	static struct guest_file files[GUEST_FILES_MAX + 1];
	static char *argv[GUEST_ARGV_MAX + 2];
	char *one[] = {(char *)(uintptr_t) "a", NULL}, *bad[] = {(char *)(uintptr_t) "\xff", NULL};
	_cleanup_free_ char *text = mem_zalloc(GUEST_JSON_MAX + 1);
	struct guest_go go = {.argv = one, .files = files};
	struct guest_canary c = {.pinned = "10.0.0.1", .n_answers = GUEST_ANSWERS_MAX + 1};
	struct err e = ERR_INIT;

	(void)state;
	go.n_files = GUEST_FILES_MAX + 1;
	assert_int_equal(guest_go(ends[0], &go, 0, -1, &e), -E2BIG);
	go.n_files = 1;
	files[0] = (struct guest_file){.path = "x", .mode = 0600, .text = {"a\0b", 3}};
	assert_int_equal(guest_go(ends[0], &go, 0, -1, &e), -EILSEQ);
	memset(text, 'x', GUEST_JSON_MAX);
	files[0].text = str_slice(text, GUEST_JSON_MAX);
	assert_int_equal(guest_go(ends[0], &go, 0, -1, &e), -E2BIG);
	go.n_files = 0;
	go.argv = one + 1;
	assert_int_equal(guest_go(ends[0], &go, 0, -1, &e), -E2BIG);
	for (size_t i = 0; i <= GUEST_ARGV_MAX; i++)
		argv[i] = one[0];
	go.argv = argv;
	assert_int_equal(guest_go(ends[0], &go, 0, -1, &e), -E2BIG);
	go.argv = bad;
	assert_int_equal(guest_go(ends[0], &go, 0, -1, &e), -EILSEQ);
	assert_int_equal(guest_canary(ends[0], &c, 0, -1, &e), -E2BIG);
	c = (struct guest_canary){.pinned = "10.0.0.1", .n_closed = GUEST_CLOSED_MAX + 1};
	assert_int_equal(guest_canary(ends[0], &c, 0, -1, &e), -E2BIG);
	/* None of it was said. */
	assert_int_equal(recv(ends[1], text, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

/* --- numbers of commands --- */

static void test_numbers(void **state)
{
	static const char *const bad[] = {"",
					  "0",
					  "01",
					  "-1",
					  "+1",
					  " 1",
					  "1 ",
					  "1x",
					  "x",
					  "1000000000",
					  "99999999999999999999"};
	unsigned number;

	(void)state;
	assert_true(exec_parse_number("1", &number));
	assert_int_equal(number, 1);
	assert_true(exec_parse_number("999999999", &number));
	assert_int_equal(number, GUEST_EXEC_MAX);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(exec_parse_number(bad[i], &number));
}

static void test_mark(void **state)
{
	static char *some[] = {(char *)(uintptr_t) "A=1", (char *)(uintptr_t)GUEST_EXEC_MARK "=9",
			       (char *)(uintptr_t)GUEST_EXEC_MARK "X=2", NULL};
	char **before = environ;

	(void)state;
	environ = some;
	exec_mark(42);
	assert_string_equal(environ[0], GUEST_EXEC_MARK "=42");
	assert_string_equal(environ[1], "A=1");
	assert_string_equal(environ[2], GUEST_EXEC_MARK "X=2");
	assert_null(environ[3]);
	free(environ[0]);
	free(environ);
	environ = before;
}

#define TEST_(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_(canary),
		TEST_(canary_refused),
		TEST_(go),
		TEST_(go_refused),
		TEST_(caps),
		TEST_(path_cap),
		TEST_(length),
		TEST_(message),
		TEST_(seals),
		TEST_(pass),
		TEST_(pass_never_blocks),
		TEST_(host_caps),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_mark),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
