/* What is asked of the engine, against one that answers by the book. The real one is in
 * tests/it/test_41_images.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "image/image_int.h"

#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#define ID     "sha256:00000000000000000000000000000000000000000000000000000000000000aa"
#define GONE   404, "{\"message\":\"No such image\"}"
#define SILENT 0 /* instead of a status: nothing for a second */
#define HERE   200, "{\"Id\":\"" ID "\",\"Size\":1234,\"RepoTags\":[\"x:1\"]}"

struct call {
	const char *request; /* how its first line begins */
	int status;
	const char *body;
};

struct stand_in {
	struct engine en;
	pid_t pid;
};

static void answer(int listener, const struct call *c)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	_cleanup_free_ char *out = NULL;
	char in[16384];
	size_t n = 0;

	while (n < sizeof(in) - 1) {
		ssize_t got = read(fd, in + n, sizeof(in) - 1 - n);

		if (got <= 0)
			_exit(3);
		n += (size_t)got;
		in[n] = '\0';
		if (strstr(in, "\r\n\r\n"))
			break;
	}
	if (strncmp(in, c->request, strlen(c->request)) != 0) {
		print_error("expected \"%s\", got: %s\n", c->request, in);
		_exit(4);
	}
	if (c->status == SILENT) {
		(void)usleep(1000000);
		(void)close(fd);
		return;
	}
	out = mem_printf("HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: "
			 "%zu\r\n\r\n%s",
			 c->status, strlen(c->body), c->body);
	if (io_write_all(fd, out, strlen(out)) < 0)
		_exit(5);
	(void)close(fd);
}

static void stand_in_start(struct stand_in *s, const struct call *calls, size_t n)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char folder[] = "/tmp/test_image_XXXXXX";
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_non_null(mkdtemp(folder));
	*s = (struct stand_in){.en = {.api = "1.41"}};
	(void)snprintf(s->en.socket, sizeof(s->en.socket), "%s/s", folder);
	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s/s", folder);
	assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(listener, 16), 0);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid == 0) {
		(void)alarm(20);
		for (size_t i = 0; i < n; i++)
			answer(listener, &calls[i]);
		_exit(0);
	}
	(void)close(listener);
}

/* All of its calls were made, and no other. */
static void stand_in_end(struct stand_in *s)
{
	int status = -1;

	assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	(void)unlink(s->en.socket);
	*strrchr(s->en.socket, '/') = '\0';
	(void)rmdir(s->en.socket);
}

#define START(s, ...)                                                                              \
	static const struct call calls[] = {__VA_ARGS__};                                          \
	stand_in_start(s, calls, ARRAY_LEN(calls))

static void test_one_that_is_there(void **state)
{
	struct image_info info;
	struct stand_in s;
	struct err e = ERR_INIT;

	(void)state;
	START(&s, {"GET /v1.41/images/h.example:5000/a/b:1/json HTTP/1.1", HERE},
	      {"GET /v1.41/images/plain:latest/json HTTP/1.1", HERE});
	assert_int_equal(
		image_ensure_agent(&s.en, "shell", "h.example:5000/a/b:1", NULL, &info, &e), 0);
	assert_string_equal(info.reference, "h.example:5000/a/b:1");
	assert_string_equal(info.id, ID);
	assert_int_equal(info.size_bytes, 1234);
	assert_int_equal(image_find_agent(&s.en, "shell", "plain", &info, &e), 0);
	assert_string_equal(info.reference, "plain");
	stand_in_end(&s);
}

static void test_one_that_is_pulled(void **state)
{
	struct image_info info;
	struct stand_in s;
	struct err e = ERR_INIT;

	(void)state;
	START(&s, {"GET /v1.41/images/a/b:latest/json", GONE},
	      {"POST /v1.41/images/create?fromImage=a%2Fb&tag=latest ", 200,
	       "{\"status\":\"Downloading\",\"id\":\"0123\",\"progressDetail\":{\"current\":1,"
	       "\"total\":2}}{\"status\":\"done\"}"},
	      {"GET /v1.41/images/a/b:latest/json", HERE});
	assert_int_equal(image_ensure_agent(&s.en, "shell", "a/b", NULL, &info, &e), 0);
	assert_string_equal(info.id, ID);
	stand_in_end(&s);
}

static void test_one_that_is_nowhere(void **state)
{
	struct image_info info;
	struct stand_in s;
	struct err e = ERR_INIT;

	(void)state;
	START(&s, {"GET /v1.41/images/a:1/json", GONE},
	      {"POST /v1.41/images/create?fromImage=a&tag=1 ", 200,
	       "{\"status\":\"Pulling\"}{\"error\":\"manifest unknown\"}"},
	      {"GET /v1.41/images/a:1/json", GONE});
	assert_int_equal(image_ensure_agent(&s.en, "shell", "a:1", NULL, &info, &e), -ENOENT);
	assert_non_null(strstr(e.text, "\"a:1\" is not in the engine and could not be pulled"));
	assert_non_null(strstr(e.text, "docker pull a:1"));
	assert_non_null(strstr(e.text, "manifest unknown"));
	/* A keeper makes nothing. */
	e = ERR_INIT;
	assert_int_equal(image_find_agent(&s.en, "shell", "a:1", &info, &e), -ENOENT);
	assert_string_equal(info.reference, "a:1");
	stand_in_end(&s);
}

static void test_nothing_is_asked_for_a_bad_name(void **state)
{
	struct engine en = {.socket = "/nonexistent/s", .api = "1.41"};
	struct image_info info;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(image_ensure_agent(&en, "shell", "-x", NULL, &info, &e), -EINVAL);
	assert_int_equal(image_find_agent(&en, "shell", "a/../../containers", &info, &e), -EINVAL);
	e = ERR_INIT;
	assert_int_equal(image_ensure_agent(&en, "bundle", NULL, NULL, &info, &e), -EINVAL);
	assert_non_null(strstr(e.text, "bundle"));
	assert_int_equal(image_find_agent(&en, "vim", NULL, &info, &e), -EINVAL);
}

static void test_an_engine_that_fails_is_not_an_image_that_is_missing(void **state)
{
	struct image_info info;
	struct stand_in s;
	struct err e = ERR_INIT;

	(void)state;
	START(&s, {"GET /v1.41/images/a:1/json", 500, "{\"message\":\"broken\"}"},
	      {"GET /v1.41/images/claude-bottle/shell:", 500, "{\"message\":\"broken\"}"});
	assert_int_equal(image_ensure_agent(&s.en, "shell", "a:1", NULL, &info, &e), -EIO);
	assert_non_null(strstr(e.text, "broken"));
	e = ERR_INIT;
	assert_int_equal(image_find_agent(&s.en, "shell", NULL, &info, &e), -EIO);
	assert_non_null(strstr(e.text, "broken"));
	stand_in_end(&s);
}

static void test_what_would_be_made_is_named(void **state)
{
	struct image_info info;
	struct stand_in s;
	struct err e = ERR_INIT;

	(void)state;
	START(&s, {"GET /v1.41/images/claude-bottle/claude:", GONE});
	assert_int_equal(image_find_agent(&s.en, "claude", NULL, &info, &e), -ENOENT);
	assert_true(str_starts(str_of(info.reference), STR_LIT("claude-bottle/claude:")));
	assert_non_null(strstr(e.text, "claude-bottle image build claude"));
	stand_in_end(&s);
}

static void test_what_has_a_name_is_not_dropped(void **state)
{
	struct stand_in s;

	(void)state;
	START(&s, {"GET /v1.41/images/0123456789ab/json", HERE},
	      {"GET /v1.41/images/0123456789ac/json", 200, "{\"Id\":\"" ID "\"}"},
	      {"DELETE /v1.41/images/0123456789ac ", 409, "{\"message\":\"in use\"}"});
	image_drop(&s.en, "0123456789ab");
	image_drop(&s.en, "0123456789ac");
	stand_in_end(&s);
}

static void test_a_pull_that_says_nothing_ends(void **state)
{
	struct stand_in s;
	struct err e = ERR_INIT;

	(void)state;
	START(&s, {"POST /v1.41/images/create?fromImage=debian&tag=x ", SILENT, ""});
	s.en.silence_ms = 100;
	assert_int_equal(image_pull(&s.en, STR_LIT("debian"), STR_LIT("x"), NULL, &e), -ETIMEDOUT);
	assert_non_null(strstr(e.text, "pull image"));
	stand_in_end(&s);
}

static void test_arguments_that_are_too_long(void **state)
{
	struct engine en = {.socket = "/nonexistent/s", .api = "1.41"};
	struct image_job job = {.en = &en};
	char id[IMAGE_ID_MAX], proxy[5000];
	struct err e = ERR_INIT;

	(void)state;
	memset(proxy, 'a', sizeof(proxy) - 1);
	proxy[sizeof(proxy) - 1] = '\0';
	assert_int_equal(setenv("https_proxy", proxy, 1), 0);
	assert_int_equal(image_build_one(&job, IMAGE_SHELL, ID, id, &e), -ENOBUFS);
	assert_non_null(strstr(e.text, "longer than"));
	assert_int_equal(unsetenv("https_proxy"), 0);
}

static void test_a_program_that_is_too_large(void **state)
{
	char path[] = "/tmp/test_image_XXXXXX";
	_cleanup_close_ int fd = mkostemp(path, O_CLOEXEC);
	struct image_program program;
	struct err e = ERR_INIT;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, 0755), 0);
	assert_int_equal(setenv("CLAUDE_BOTTLE_BUNDLE", path, 1), 0);
	assert_int_equal(ftruncate(fd, (off_t)IMAGE_PROGRAM_MAX + 1), 0);
	assert_int_equal(image_program_load(&program, &e), -EFBIG);
	assert_null(program.data);
	assert_int_equal(ftruncate(fd, 5), 0);
	assert_int_equal(image_program_load(&program, &e), 0);
	assert_int_equal(program.n, 5);
	image_program_free(&program);
	(void)unlink(path);
	assert_int_equal(unsetenv("CLAUDE_BOTTLE_BUNDLE"), 0);
}

static void list_of(unsigned n, struct image_entry **list, size_t *n_list)
{
	_cleanup_(buf_free) struct buf b;
	struct stand_in s;
	struct err e = ERR_INIT;

	buf_init(&b, 1u << 20);
	assert_int_equal(buf_append(&b, "[", 1), 0);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(
			buf_printf(&b,
				   "%s{\"Id\":\"sha256:%04u\",\"Created\":%u,\"Labels\":{"
				   "\"claude-bottle.image\":\"shell\"},\"RepoTags\":[\"claude-"
				   "bottle/shell:%u\",\"mine:1\"]}",
				   i ? "," : "", i, i, i),
			0);
	assert_int_equal(buf_append(&b, "]", 2), 0);
	{
		const struct call calls[] = {
			{"GET /v1.41/images/json?filters=", 200, buf_str(&b).p},
			{"GET /v1.41/containers/json?all=1 ", 200,
			 "[{\"ImageID\":\"sha256:0001\"}]"}};

		stand_in_start(&s, calls, ARRAY_LEN(calls));
	}
	assert_int_equal(setenv("CLAUDE_BOTTLE_BUNDLE", "/proc/self/exe", 1), 0);
	assert_int_equal(image_list(&s.en, list, n_list, &e), 0);
	assert_int_equal(unsetenv("CLAUDE_BOTTLE_BUNDLE"), 0);
	stand_in_end(&s);
}

static void test_a_list_and_its_cap(void **state)
{
	struct image_entry *list;
	size_t n;

	(void)state;
	list_of(0, &list, &n);
	assert_int_equal(n, 0);
	free(list);
	list_of(3, &list, &n);
	assert_int_equal(n, 3);
	assert_string_equal(list[0].reference, "claude-bottle/shell:2");
	assert_string_equal(list[0].kind, "shell");
	assert_false(list[0].is_used || list[0].is_current);
	assert_true(list[1].is_used);
	free(list);
	list_of(IMAGE_LIST_MAX + 3, &list, &n);
	assert_int_equal(n, IMAGE_LIST_MAX);
	free(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_that_is_there),
		cmocka_unit_test(test_one_that_is_pulled),
		cmocka_unit_test(test_one_that_is_nowhere),
		cmocka_unit_test(test_nothing_is_asked_for_a_bad_name),
		cmocka_unit_test(test_an_engine_that_fails_is_not_an_image_that_is_missing),
		cmocka_unit_test(test_what_would_be_made_is_named),
		cmocka_unit_test(test_what_has_a_name_is_not_dropped),
		cmocka_unit_test(test_a_pull_that_says_nothing_ends),
		cmocka_unit_test(test_arguments_that_are_too_long),
		cmocka_unit_test(test_a_program_that_is_too_large),
		cmocka_unit_test(test_a_list_and_its_cap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
