/* The native canary, with the wall and with the wall taken away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "backend/walled/wall.h"

static bool is_wall_away;

static int enter_or_not(const struct wall *w, struct err *e)
{
	return is_wall_away ? 0 : wall_enter(w, e);
}

#define wall_enter enter_or_not
#include "backend/walled/canary.c" /* NOLINT: the unit under test */
#undef wall_enter

/* Answers requests on a listening socket as pipelock would. */
static pid_t fake_pipelock(int fd, const char *answer)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)io_set_nonblock(fd, false);
	for (;;) {
		int c = accept(fd, NULL, NULL);
		char request[256];

		(void)!read(c, request, sizeof(request));
		(void)!write(c, answer, strlen(answer));
		(void)close(c);
	}
}

/* Of git-gate and of supervise; NULL: the wall has it not. "": it has, and nobody serves it. */
static const char *gate_answer, *supervise_answer;

/* 0: nobody serves it, and it is closed. */
static pid_t fake_service(int *fd, const char *answer)
{
	if (answer && answer[0])
		return fake_pipelock(*fd, answer);
	close_fd(fd);
	return 0;
}

static int run_canary(const char *answer, bool is_dead, struct err *e)
{
	struct wall w;
	pid_t pids[3] = {0};
	int ret;

	assert_int_equal(
		wall_make(&w, "10.209.0.2", NULL,
			  (gate_answer ? WALL_GIT : 0) | (supervise_answer ? WALL_SUPERVISE : 0),
			  e),
		0);
	assert_true((w.gitgate_fd >= 0) == (gate_answer != NULL));
	assert_true((w.supervise_fd >= 0) == (supervise_answer != NULL));
	pids[0] = fake_service(&w.gitgate_fd, gate_answer);
	pids[1] = fake_service(&w.supervise_fd, supervise_answer);
	if (answer)
		pids[2] = fake_pipelock(w.pipelock_fd, answer);
	if (is_dead)
		close_fd(&w.pipelock_fd);
	/* Long where an answer is waited for that comes, short where none does. */
	ret = wall_canary(&w, answer ? 10000 : 200, e);
	for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
		if (pids[i] > 0) {
			(void)kill(pids[i], SIGKILL);
			(void)waitpid(pids[i], NULL, 0);
		}
	}
	wall_free(&w);
	return ret;
}

static void test_canary(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	if (run_canary("HTTP/1.1 403 Forbidden\r\n\r\n", false, &e) < 0)
		fail_msg("%s", e.text);
	assert_true(run_canary("SSH-2.0-nonsense\r\n", false, &e) < 0);
	assert_int_equal(run_canary(NULL, false, &e), -ETIMEDOUT); /* nobody accepts */
	assert_int_equal(run_canary(NULL, true, &e), -ECONNREFUSED);
}

static void test_canary_git(void **state)
{
	static const char refused[] = "HTTP/1.1 403 Forbidden\r\n\r\n";
	static const char *const wrong[] = {"", refused, "HTTP/1.1 404 Not Found\r\n\r\n{}",
					    "HTTP/1.1 200 OK\r\n\r\n{\"scanner\":\"git-gate\"}"};
	struct err e = ERR_INIT;

	(void)state;
	gate_answer = "HTTP/1.1 404 Not Found\r\n\r\n{\"blocked\":true,\"scanner\":\"git-gate\"}";
	if (run_canary(refused, false, &e) < 0)
		fail_msg("%s", e.text);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		gate_answer = wrong[i];
		e = ERR_INIT;
		assert_true(run_canary(refused, false, &e) < 0);
		assert_non_null(strstr(e.text, ":9418"));
	}
	gate_answer = NULL;
}

static void test_canary_supervise(void **state)
{
	static const char refused[] = "HTTP/1.1 403 Forbidden\r\n\r\n";
	struct err e = ERR_INIT;

	(void)state;
	supervise_answer = "HTTP/1.1 404 Not Found\r\n\r\n";
	if (run_canary(refused, false, &e) < 0)
		fail_msg("%s", e.text);
	supervise_answer = "";
	assert_true(run_canary(refused, false, &e) < 0);
	assert_non_null(strstr(e.text, ":9100"));
	supervise_answer = NULL;
}

/* The same canary in the host's own network must raise the alarm, for the right reason. */
static void test_canary_control(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	is_wall_away = true;
	assert_int_equal(run_canary("HTTP/1.1 403 Forbidden\r\n\r\n", false, &e), -ENOTUNIQ);
	assert_non_null(strstr(e.text, "a listener of the host was reached"));
	is_wall_away = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_canary),
		cmocka_unit_test(test_canary_git),
		cmocka_unit_test(test_canary_supervise),
		cmocka_unit_test(test_canary_control),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
