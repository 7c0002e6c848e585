/* A disk that takes no more, a store that somebody has moved away, a clock that is set. What the
 * human is told is what is found by whoever opens the store after a crash of that moment. */
#include "desk_fixture.h"

#include "base/io.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#define SUPERVISE KEEPER_DESK_SUPERVISE
#define PIPELOCK  KEEPER_DESK_PIPELOCK

/* --- the clock --- */

static time_t set_s, passed_s; /* by how much the wall's clock was set; what has passed besides */

/* In libc's place. */
int clock_gettime(clockid_t id, struct timespec *t)
{
	int ret = (int)syscall(SYS_clock_gettime, id, t);

	if (id == CLOCK_REALTIME)
		t->tv_sec += set_s + passed_s;
	else if (id == CLOCK_BOOTTIME)
		t->tv_sec += passed_s;
	return ret;
}

static void test_clock_set_back(void **state)
{
	struct desk_fixture *f = *state;
	uint64_t id = desk_fixture_grant(f, "api.example.com", "once", 60);
	struct ask spend = {.op = ASK_SPEND, .id = 5, .life = 1, .number = id};
	struct ask again = desk_fixture_egress("api.example.com");

	set_s -= 3600;
	passed_s += 30;
	assert_int_equal(desk_fixture_ask(f, SUPERVISE, &again).state, ASK_GRANTED);
	passed_s += 31;
	assert_int_equal(desk_fixture_ask(f, PIPELOCK, &spend).state, ASK_UNKNOWN);
	assert_int_equal(desk_fixture_ask(f, SUPERVISE, &again).state, ASK_PENDING);
}

static void test_clock_set_forward(void **state)
{
	struct desk_fixture *f = *state;
	uint64_t id = desk_fixture_grant(f, "api.example.com", "once", 60);
	struct ask spend = {.op = ASK_SPEND, .id = 5, .life = 1, .number = id};

	set_s += 86400;
	assert_int_equal(desk_fixture_ask(f, PIPELOCK, &spend).state, ASK_UNKNOWN);
	/* And back: what has ended stays so. */
	set_s -= 86400;
	assert_int_equal(desk_fixture_ask(f, PIPELOCK, &spend).state, ASK_UNKNOWN);
}

/* --- after a crash of this moment --- */

static void copy(struct desk_fixture *f, const char *name, int to_dir)
{
	struct str bytes = STR_NULL;
	int fd = openat(to_dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (io_read_file(f->k.state_fd, name, 16u << 20, &bytes, NULL) < 0 ||
	    io_write_all(fd, bytes.p, bytes.n) < 0)
		_exit(100);
	free((void *)(uintptr_t)bytes.p);
	(void)close(fd);
}

struct crashed {
	uint64_t id;
	int state; /* of the request, or of the grant with GRANT added */
};
#define GRANT 10

static bool find_grant(const struct grant *g, void *ctx)
{
	struct crashed *c = ctx;

	if (g->id == c->id)
		c->state = GRANT + (int)g->state;
	return true;
}

/* In a child: to close a file gives up the locks that a process has on it. */
static _Noreturn void look_at_copy(struct desk_fixture *f, uint64_t id)
{
	char folder[] = "/tmp/desk-copy-XXXXXX";
	struct crashed c = {.id = id};
	struct store *s;
	struct request r;
	int dir;

	(void)signal(SIGXFSZ, SIG_IGN);
	(void)setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
	if (!mkdtemp(folder))
		_exit(101);
	dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	copy(f, STORE_FILE, dir);
	copy(f, STORE_FILE "-wal", dir);
	if (store_open(&s, dir, "shell-ab12", NULL) < 0 || store_get(s, id, &r, NULL) < 0)
		_exit(102);
	c.state = (int)r.state;
	if (store_each_grant(s, find_grant, &c, NULL) < 0)
		_exit(103);
	store_close(s);
	(void)!io_remove_tree(AT_FDCWD, folder, NULL);
	_exit(c.state);
}

/* REQUEST_*, or GRANT + GRANT_* of one that was granted. */
static int after_crash(struct desk_fixture *f, uint64_t id)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		look_at_copy(f, id);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* --- a full disk --- */

/* No file may grow beyond this: a disk that is full at that byte. */
static void disk_has(rlim_t bytes)
{
	struct rlimit l;

	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &l), 0);
	l.rlim_cur = bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &l), 0);
}

static rlim_t log_bytes(const struct desk_fixture *f)
{
	struct stat st;

	assert_int_equal(fstatat(f->k.state_fd, STORE_FILE "-wal", &st, 0), 0);
	return (rlim_t)st.st_size;
}

#define DISK_STEP 509 /* bytes: somewhere in each page and in each head of one */

static void test_disk_full_at_a_decision(void **state)
{
	struct desk_fixture *f = *state;
	struct ask a = desk_fixture_egress("api.example.com");
	uint64_t id = desk_fixture_ask(f, SUPERVISE, &a).number;
	rlim_t from = log_bytes(f);
	unsigned n_failed = 0;

	for (bool is_decided = false; !is_decided; from += DISK_STEP) {
		disk_has(from);
		desk_fixture_decide(f, id, true, "bottle", 0);
		disk_has(RLIM_INFINITY);
		is_decided = f->is_given;
		if (is_decided)
			break;
		n_failed++;
		assert_string_equal(f->verdict, "failed");
		assert_int_equal(after_crash(f, id), REQUEST_PENDING);
	}
	assert_true(n_failed > 10);
	assert_int_equal(after_crash(f, id), GRANT + GRANT_ACTIVE);
	desk_fixture_answer(f, true);
	assert_string_equal(f->verdict, "decided");
}

static void test_disk_full_at_a_spending(void **state)
{
	struct desk_fixture *f = *state;
	uint64_t id = desk_fixture_grant(f, "api.example.com", "once", 0);
	struct ask spend = {.op = ASK_SPEND, .id = 5, .life = 1, .number = id};
	rlim_t from = log_bytes(f);
	unsigned n_failed = 0;

	for (;; from += DISK_STEP) {
		struct ask_answer out;

		disk_has(from);
		out = desk_fixture_ask(f, PIPELOCK, &spend);
		disk_has(RLIM_INFINITY);
		if (out.state == ASK_GRANTED)
			break;
		n_failed++;
	}
	assert_true(n_failed > 10);
	assert_int_equal(after_crash(f, id), GRANT + GRANT_SPENT);
	desk_fixture_answer(f, true);
}

static void test_disk_full_at_a_revocation(void **state)
{
	struct desk_fixture *f = *state;
	uint64_t id = desk_fixture_grant(f, "api.example.com", "bottle", 0);

	disk_has(log_bytes(f));
	desk_fixture_control(f, KEEPER_REVOKE,
			     json_pack("{s:I, s:s}", "id", (json_int_t)id, "face", "command"));
	disk_has(RLIM_INFINITY);
	assert_string_equal(f->verdict, "failed");
	assert_int_equal(after_crash(f, id), GRANT + GRANT_ACTIVE);
}

static void test_pause_that_is_not_written(void **state)
{
	struct desk_fixture *f = *state;

	assert_int_equal(mkdirat(f->k.state_fd, KEEPER_PAUSED_FILE, 0700), 0);
	desk_fixture_control(f, KEEPER_NETWORK,
			     json_pack("{s:b, s:s}", "paused", 1, "face", "command"));
	assert_true(f->is_door_paused && f->is_given_paused);
	desk_fixture_answer(f, true);
	assert_string_equal(f->verdict, "decided");
	assert_non_null(strstr(f->text, "could not be written down"));
	/* Nor is that it is over. */
	desk_fixture_control(f, KEEPER_NETWORK,
			     json_pack("{s:b, s:s}", "paused", 0, "face", "command"));
	desk_fixture_answer(f, true);
	assert_non_null(strstr(f->text, "still written down"));
}

/* --- a store that somebody else writes to --- */

/* In a process of its own, until it is killed. */
static pid_t lock_store(struct desk_fixture *f)
{
	int ready[2];
	char path[96], said;
	pid_t pid;

	(void)snprintf(path, sizeof(path), "%s/" STORE_FILE, f->dir);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		sqlite3 *db;

		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || sqlite3_open(path, &db) != SQLITE_OK ||
		    sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
			_exit(1);
		(void)!write(ready[1], "x", 1);
		for (;;)
			(void)pause();
	}
	(void)close(ready[1]);
	assert_int_equal(read(ready[0], &said, 1), 1);
	(void)close(ready[0]);
	return pid;
}

/* Nobody's terminal waits for it, and what is over by time ends once it is free. */
static void test_store_in_use(void **state)
{
	struct desk_fixture *f = *state;
	struct ask a = desk_fixture_egress("other.example.com");
	uint64_t from_ns;
	unsigned n;
	pid_t pid;

	(void)desk_fixture_grant(f, "api.example.com", "bottle", 1);
	n = f->n_given;
	pid = lock_store(f);
	from_ns = time_monotonic_ns();
	assert_int_equal(desk_fixture_ask(f, SUPERVISE, &a).state, ASK_LIMITED);
	assert_true(time_monotonic_ns() - from_ns < 3 * TIME_NS_PER_SEC);
	desk_fixture_turn(f, 1300);
	assert_int_equal(f->n_ended, 0);
	assert_int_equal(f->n_given, n);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	desk_fixture_turn(f, 700);
	assert_int_equal(f->n_given, n + 1);
	assert_int_equal(f->given.n_routes, 0);
	desk_fixture_answer(f, true);
}

/* --- a store that is not there any more --- */

static void test_store_moved_away(void **state)
{
	struct desk_fixture *f = *state;
	struct ask a = desk_fixture_egress("api.example.com");
	uint64_t id = desk_fixture_ask(f, SUPERVISE, &a).number;

	assert_int_equal(renameat(f->k.state_fd, STORE_FILE, f->k.state_fd, "moved.db"), 0);
	desk_fixture_decide(f, id, true, "bottle", 0);
	assert_string_equal(f->verdict, "failed");
	assert_false(f->is_given);
	/* It is back. */
	assert_int_equal(renameat(f->k.state_fd, "moved.db", f->k.state_fd, STORE_FILE), 0);
	desk_fixture_decide(f, id, true, "bottle", 0);
	desk_fixture_answer(f, true);
	assert_string_equal(f->verdict, "decided");
	desk_fixture_restart(f);
	assert_int_equal(f->k.policy.policy.n_routes, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DESK_TEST(test_clock_set_back),
		DESK_TEST(test_clock_set_forward),
		DESK_TEST(test_disk_full_at_a_decision),
		DESK_TEST(test_disk_full_at_a_spending),
		DESK_TEST(test_disk_full_at_a_revocation),
		DESK_TEST(test_pause_that_is_not_written),
		DESK_TEST(test_store_in_use),
		DESK_TEST(test_store_moved_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
