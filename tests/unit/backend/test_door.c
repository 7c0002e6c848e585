/*
 * The keeper's door to the host's repository, with a bundle that is played: git's own client at the
 * other end of the stream, and somebody who has taken over git-gate and says what it likes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "collect.h"
#include "repo_fixture.h"

#include "backend/keeper_door.c" /* NOLINT: the unit under test */

#include <poll.h>

#define SLUG	 "test-bottle"
#define OWN	 "refs/heads/bottle/" SLUG
#define RUN_MS	 20000
#define ZERO_OID "0000000000000000000000000000000000000000"

struct fixture {
	struct repo_fixture repo;
	struct loop *loop;
	struct loop_timer stop;
	struct keeper_door door;
	struct plan plan;
	struct git_remote remotes[2];
	char clone[128]; /* the played agent's repository, beside the host's */
	char self[4096];
	int theirs;
};

static void on_stop(struct loop_timer *t)
{
	loop_stop(DOOR_OF(t, struct fixture, stop)->loop, 0);
}

static void turn(struct fixture *f, unsigned ms)
{
	loop_timer_set(f->loop, &f->stop, ms);
	(void)loop_run(f->loop);
}

static void open_door(struct fixture *f)
{
	struct err e = ERR_INIT;

	if (keeper_door_prepare(&f->door, &f->plan, f->repo.top, &e) < 0 ||
	    keeper_door_open(&f->door, f->loop, &f->theirs, &e) < 0)
		fail_msg("%s", e.text);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err e = ERR_INIT;
	ssize_t n = readlink("/proc/self/exe", f->self, sizeof(f->self) - 1);

	(void)signal(SIGPIPE, SIG_IGN);
	if (n <= 0)
		return -1;
	repo_make(&f->repo);
	(void)snprintf(f->clone, sizeof(f->clone), "%s/clone", f->repo.top);
	f->remotes[0] =
		(struct git_remote){.name = (char *)"other", .transport = GIT_TRANSPORT_HTTPS};
	f->remotes[1] = (struct git_remote){.name = (char *)"workspace",
					    .transport = GIT_TRANSPORT_WORKSPACE,
					    .pack_max_bytes = 1u << 20};
	f->plan = (struct plan){.slug = (char *)SLUG,
				.workspace = PLAN_WORKSPACE_CLONE,
				.workspace_path = f->repo.path,
				.git = {.remotes = f->remotes, .n_remotes = 2}};
	f->stop.fn = on_stop;
	f->loop = loop_new(&e);
	keeper_door_init(&f->door);
	if (!f->loop)
		return -1;
	open_door(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	keeper_door_close(&f->door);
	loop_free(f->loop);
	close_fd(&f->theirs);
	repo_free(&f->repo);
	free(f);
	return 0;
}

/* --- who asks --- */

struct stream {
	int fd, why_fd;
};

static struct git_stream_request request(unsigned service)
{
	return (struct git_stream_request){.remote = 1, .service = (uint16_t)service};
}

static struct stream ask(struct fixture *f, struct git_stream_request q)
{
	int pair[2], why[2];
	struct stream s;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(pipe2(why, O_CLOEXEC), 0);
	s = (struct stream){pair[0], why[0]};
	assert_int_equal(
		io_send_fds(f->theirs, &q, sizeof(q), (const int[]){pair[1], why[1]}, 2, 0),
		sizeof(q));
	(void)close(pair[1]);
	(void)close(why[1]);
	return s;
}

/* What it says until it ends, with text said first; the reason is whatever came of one. */
static void talk(struct fixture *f, unsigned service, struct str text, struct buf *out,
		 char why[GIT_STREAM_WHY_MAX + 1])
{
	uint64_t until_ns = time_monotonic_ns() + RUN_MS * TIME_NS_PER_MS;
	struct stream s = ask(f, request(service));
	bool has_end = false;
	ssize_t n;

	(void)send(s.fd, text.p, text.n, MSG_NOSIGNAL);
	(void)shutdown(s.fd, SHUT_WR);
	(void)io_set_nonblock(s.fd, true);
	while (!has_end && time_monotonic_ns() < until_ns) {
		turn(f, 5);
		for (;;) {
			char *at = buf_reserve(out, 4096);

			assert_non_null(at);
			n = recv(s.fd, at, 4096, 0);
			has_end = n == 0 || (n < 0 && errno != EAGAIN);
			if (n <= 0)
				break;
			buf_commit(out, (size_t)n);
		}
	}
	turn(f, 100);
	n = io_wait(s.why_fd, POLLIN, 1000) == 1 ? read(s.why_fd, why, GIT_STREAM_WHY_MAX) : 0;
	why[n > 0 ? n : 0] = '\0';
	close_fd(&s.fd);
	close_fd(&s.why_fd);
	assert_true(has_end);
}

/* git's client with the door behind it: GIT in the script. Its status; what it says in out. */
static int client(struct fixture *f, unsigned service, char *out, size_t size, const char *script)
{
	uint64_t until_ns = time_monotonic_ns() + RUN_MS * TIME_NS_PER_MS;
	struct stream s = ask(f, request(service));
	struct collect c;
	size_t at = 0;
	ssize_t n = -1;

	if (collect_fork(&c)) {
		char number[16];

		(void)snprintf(number, sizeof(number), "%d", s.fd);
		(void)io_set_cloexec(s.fd, false);
		(void)setenv("JOIN", f->self, 1);
		(void)setenv("JOIN_FD", number, 1);
		(void)setenv("CLONE", f->clone, 1);
		(void)setenv("URL", "ext::%s", 1);
		if (chdir(f->repo.top) == 0)
			(void)execl("/bin/sh", "sh", "-c", script, NULL);
		_exit(99);
	}
	close_fd(&s.fd);
	(void)io_set_nonblock(c.fd, true);
	while (time_monotonic_ns() < until_ns && n != 0) {
		turn(f, 5);
		n = read(c.fd, out + at, size - 1 - at);
		at += n > 0 ? (size_t)n : 0;
		out[at] = '\0';
	}
	turn(f, 50);
	close_fd(&s.why_fd);
	if (n != 0)
		(void)kill(c.pid, SIGKILL);
	return collect_wait(&c);
}

#define GIT                                                                                        \
	"git -c protocol.ext.allow=always -c user.name=b -c user.email=b@example.test "            \
	"-c core.hooksPath=/dev/null "
#define URL "\"ext::$JOIN --join $JOIN_FD\" "

static void clone(struct fixture *f)
{
	char out[8192];

	if (client(f, GIT_UPLOAD_PACK, out, sizeof(out), GIT "clone -q " URL "$CLONE") != 0)
		fail_msg("%s", out);
}

/* A commit of the agent's, pushed as spec says. */
static int push(struct fixture *f, const char *spec, char *out, size_t size)
{
	_cleanup_free_ char *script =
		mem_printf("cd $CLONE && echo more >> file && " GIT "commit -qam more && " GIT
			   "push --porcelain " URL "%s",
			   spec);

	return client(f, GIT_RECEIVE_PACK, out, size, script);
}

/* --- what git-gate may --- */

static void test_clone_and_push(void **state)
{
	struct fixture *f = *state;
	const char *before = repo_digest(&f->repo);
	char out[8192];

	clone(f);
	assert_string_equal(repo_line(&f->repo, "git -C %s log -1 --format=%%s", f->clone), "two");
	if (push(f, "HEAD:" OWN "/work HEAD:" OWN "/deep/er", out, sizeof(out)) != 0)
		fail_msg("%s", out);
	/* git's own words, if there are any, tell no path of the host's. */
	assert_null(strstr(out, "remote:"));
	assert_string_equal(repo_line(&f->repo, "git rev-parse bottle/" SLUG "/work"),
			    repo_line(&f->repo, "git -C %s rev-parse HEAD", f->clone));
	assert_string_equal(repo_line(&f->repo, "git rev-parse bottle/" SLUG "/deep/er"),
			    repo_line(&f->repo, "git -C %s rev-parse HEAD", f->clone));
	/* Who moved it is in its log. */
	assert_non_null(strstr(repo_line(&f->repo, "cat .git/logs/" OWN "/work"), "bottle " SLUG));
	assert_string_equal(repo_digest(&f->repo), before);
	assert_int_equal(repo_sh(&f->repo, NULL, 0, "git fsck --strict"), 0);
	/* Forward, when the human's git has packed it meanwhile. */
	assert_int_equal(repo_sh(&f->repo, NULL, 0, "git gc -q"), 0);
	if (push(f, "HEAD:" OWN "/work", out, sizeof(out)) != 0)
		fail_msg("%s", out);
	/* Nothing that was made for it is left. */
	assert_string_equal(repo_line(&f->repo, "ls %s/door | wc -l", f->repo.top), "0");
	keeper_door_close(&f->door);
	assert_string_equal(repo_line(&f->repo, "ls %s | grep -c door || true", f->repo.top), "0");
	assert_int_equal(repo_sh(&f->repo, NULL, 0, "git rev-parse bottle/" SLUG "/work"), 0);
}

static void test_no_push_no_trace(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(repo_sh(&f->repo, NULL, 0, "git branch -qD bottle/other/secret"), 0);
	clone(f);
	keeper_door_close(&f->door);
	assert_int_equal(repo_sh(&f->repo, NULL, 0, "test ! -e .git/refs/heads/bottle"), 0);
}

static void test_what_is_shown(void **state)
{
	struct fixture *f = *state;
	_cleanup_(buf_free) struct buf out;
	char why[GIT_STREAM_WHY_MAX + 1];
	const char *stash = repo_line(&f->repo, "git rev-parse refs/stash");
	char text[8192];

	buf_init(&out, 1u << 20);
	assert_int_equal(client(f, GIT_UPLOAD_PACK, text, sizeof(text), GIT "ls-remote " URL), 0);
	assert_non_null(strstr(text, "HEAD\n"));
	assert_non_null(strstr(text, "refs/heads/main\n"));
	assert_non_null(strstr(text, "refs/heads/side\n"));
	assert_non_null(strstr(text, "refs/tags/v1\n"));
	assert_null(strstr(text, "stash"));
	assert_null(strstr(text, "remotes"));
	assert_null(strstr(text, "bottle"));
	/* Not even by their number: who knows that could make a branch of it, and fetch that. */
	for (unsigned service = GIT_UPLOAD_PACK; service <= GIT_RECEIVE_PACK; service++) {
		buf_reset(&out);
		talk(f, service, STR_LIT("0000"), &out, why);
		assert_string_equal(why, "");
		assert_true(str_find(buf_str(&out), str_of(stash)) == buf_len(&out));
	}
	/* What was there already is known, so that a push sends what is new alone. */
	assert_true(str_find(buf_str(&out), str_of(repo_line(&f->repo, "git rev-parse main"))) <
		    buf_len(&out));
}

/* --- what it may not --- */

static const struct {
	const char *what, *spec;
} refused[] = {
	{"a branch of the human's", "HEAD:refs/heads/main"},
	{"the same by force", "'+v1^0:refs/heads/main'"},
	{"a new branch", "HEAD:refs/heads/new"},
	{"another bottle's", "HEAD:refs/heads/bottle/other/secret"},
	{"a new one of another bottle's", "HEAD:refs/heads/bottle/other/x"},
	{"one whose name begins like ours", "HEAD:refs/heads/bottle/" SLUG "x/y"},
	{"in the place of the folder", "HEAD:" OWN},
	{"in the place of all bottles'", "HEAD:refs/heads/bottle"},
	{"a tag", "HEAD:refs/tags/v2"},
	{"a remote's", "HEAD:refs/remotes/origin/far"},
	{"the stash", "HEAD:refs/stash"},
	{"replacements", "HEAD:refs/replace/" ZERO_OID},
	{"a deletion", ":" OWN "/kept"},
	{"backwards", "'+v1^0:" OWN "/kept'"},
	{"what is checked out", "HEAD:" OWN "/out"},
};

static void test_refused(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *before = NULL, *kept = NULL, *outside = NULL;
	char out[8192];

	clone(f);
	if (push(f, "HEAD:" OWN "/kept HEAD:" OWN "/out", out, sizeof(out)) != 0)
		fail_msg("%s", out);
	assert_int_equal(
		repo_sh(&f->repo, NULL, 0, "git worktree add -q ../tree bottle/" SLUG "/out"), 0);
	before = mem_strdup(repo_digest(&f->repo));
	kept = mem_strdup(repo_line(&f->repo, "git rev-parse bottle/" SLUG "/kept"));
	outside = mem_strdup(repo_line(&f->repo, "git rev-parse bottle/" SLUG "/out"));
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		print_message("%s\n", refused[i].what);
		if (push(f, refused[i].spec, out, sizeof(out)) == 0)
			fail_msg("%s: %s", refused[i].what, out);
		assert_string_equal(repo_digest(&f->repo), before);
	}
	assert_string_equal(repo_line(&f->repo, "git rev-parse bottle/" SLUG "/kept"), kept);
	assert_string_equal(repo_line(&f->repo, "git rev-parse bottle/" SLUG "/out"), outside);
	assert_string_equal(repo_line(&f->repo, "git for-each-ref | wc -l"), "8");
}

static void test_may_force(void **state)
{
	struct fixture *f = *state;
	char out[8192];

	keeper_door_close(&f->door);
	close_fd(&f->theirs);
	f->remotes[1].may_force = true;
	keeper_door_init(&f->door);
	open_door(f);
	clone(f);
	assert_int_equal(push(f, "HEAD:" OWN "/a", out, sizeof(out)), 0);
	assert_int_equal(push(f, "'+v1^0:" OWN "/a'", out, sizeof(out)), 0);
	assert_string_equal(repo_line(&f->repo, "git log -1 --format=%%s bottle/" SLUG "/a"),
			    "one");
}

static void test_too_much(void **state)
{
	struct fixture *f = *state;
	char out[8192];

	clone(f);
	assert_int_not_equal(
		client(f, GIT_RECEIVE_PACK, out, sizeof(out),
		       "cd $CLONE && head -c 3000000 /dev/urandom > big && git add big && " GIT
		       "commit -qm big && " GIT "push " URL "HEAD:" OWN "/big"),
		0);
	assert_int_not_equal(repo_sh(&f->repo, NULL, 0, "git rev-parse bottle/" SLUG "/big"), 0);
	/* What came of it is gone. */
	assert_string_equal(repo_line(&f->repo,
				      "find .git/objects -name 'incoming*' -o -name 'tmp_*' | "
				      "wc -l"),
			    "0");
}

/* What the repository's own configuration and hooks would execute. */
static void test_executes_nothing(void **state)
{
	static const char plant[] =
		"P=$PWD/planted; printf '#!/bin/sh\\necho $0 >> %%s/marker\\n' \"$PWD\" > $P; "
		"chmod +x $P\n"
		"for h in pre-receive update post-receive post-update reference-transaction "
		"proc-receive push-to-checkout pre-auto-gc post-index-change; do cp $P "
		".git/hooks/$h; done\n"
		"for k in core.fsmonitor core.sshCommand core.alternateRefsCommand core.pager "
		"core.editor core.gitProxy uploadpack.packObjectsHook gpg.program gpg.ssh.program "
		"receive.certNonceSeed diff.external credential.helper filter.x.smudge "
		"filter.x.clean "
		"sequence.editor interactive.diffFilter; do git config $k $P; done\n"
		"git config receive.procReceiveRefs refs; git config receive.updateServerInfo "
		"true\n"
		"git config receive.autogc true; git config gc.auto 1; git config gc.autoDetach "
		"false\n"
		"git config core.hooksPath $PWD/.git/hooks; git config include.path $PWD/more\n"
		"printf '[uploadpack]\\n\\tpackObjectsHook = %%s\\n[core]\\n\\tfsmonitor = %%s\\n' "
		"$P $P > more\n"
		"git config alias.pack-objects \"!$P\"; git config alias.index-pack \"!$P\"\n"
		"rm -f marker\n";
	struct fixture *f = *state;
	char out[8192];

	assert_int_equal(repo_sh(&f->repo, out, sizeof(out), plant), 0);
	clone(f);
	if (push(f, "HEAD:" OWN "/work", out, sizeof(out)) != 0)
		fail_msg("%s", out);
	assert_int_equal(repo_sh(&f->repo, out, sizeof(out),
				 "test ! -e marker || cat marker; test ! -e marker"),
			 0);
	/* The plants work: the human's own receive-pack obeys them. */
	assert_int_equal(repo_sh(&f->repo, out, sizeof(out),
				 "git -c core.hooksPath=/dev/null push -q . HEAD:refs/heads/x; "
				 "test -e marker"),
			 0);
}

/* --- requests --- */

static unsigned n_children(const struct fixture *f)
{
	unsigned n = 0;

	for (size_t i = 0; i < KEEPER_DOOR_CHILDREN; i++)
		n += f->door.children[i].pid > 0;
	return n;
}

static bool has_ended(int fd, unsigned ms)
{
	char byte;

	return io_wait(fd, POLLIN, (int)ms) == 1 && read(fd, &byte, 1) == 0;
}

static void test_malformed_costs_the_request(void **state)
{
	const struct git_stream_request bad[] = {
		{.remote = 0, .service = GIT_UPLOAD_PACK},
		{.remote = 2, .service = GIT_UPLOAD_PACK},
		{.remote = 65535, .service = GIT_RECEIVE_PACK},
		{.remote = 1, .service = 0},
		{.remote = 1, .service = 3},
		{.remote = 1, .service = GIT_UPLOAD_PACK, .zero = 1},
	};
	struct fixture *f = *state;
	struct git_stream_request good = request(GIT_UPLOAD_PACK);
	char bytes[4096] = {0};
	int pair[2], why[2];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct stream s = ask(f, bad[i]);

		turn(f, 20);
		assert_true(has_ended(s.fd, 0));
		assert_true(has_ended(s.why_fd, 0));
		assert_int_equal(n_children(f), 0);
		close_fd(&s.fd);
		close_fd(&s.why_fd);
	}
	memcpy(bytes, &good, sizeof(good));
	for (size_t n = 1; n <= 9; n += 4)
		assert_int_equal(send(f->theirs, bytes, n, 0), n);
	assert_int_equal(send(f->theirs, &good, sizeof(good), 0), sizeof(good));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(pipe2(why, O_CLOEXEC), 0);
	{
		const int wrong[][3] = {{pair[1], pair[1], -1}, /* no pipe */
					{why[1], why[1], -1},	/* no stream */
					{pair[1], why[1], why[1]},
					{pair[1], -1, -1}};
		const size_t n[] = {2, 2, 3, 1};

		for (size_t i = 0; i < ARRAY_LEN(n); i++)
			assert_int_equal(
				io_send_fds(f->theirs, &good, sizeof(good), wrong[i], n[i], 0),
				sizeof(good));
	}
	close_fd(&pair[1]);
	close_fd(&why[1]);
	turn(f, 100);
	assert_true(has_ended(pair[0], 0));
	assert_true(has_ended(why[0], 0));
	close_fd(&pair[0]);
	close_fd(&why[0]);
	assert_int_equal(n_children(f), 0);
	/* It goes on. */
	turn(f, 1500);
	clone(f);
}

static void test_as_many_as_may_be(void **state)
{
	struct fixture *f = *state;
	struct stream s[KEEPER_DOOR_CHILDREN + 2];

	for (size_t i = 0; i < ARRAY_LEN(s); i++)
		s[i] = ask(f, request(GIT_UPLOAD_PACK));
	turn(f, 1000);
	assert_int_equal(n_children(f), KEEPER_DOOR_CHILDREN);
	for (size_t i = 0; i < ARRAY_LEN(s); i++)
		assert_int_equal(io_wait(s[i].fd, POLLIN, 0), i < KEEPER_DOOR_CHILDREN);
	/* The others' turn comes. */
	for (size_t i = 0; i < KEEPER_DOOR_CHILDREN; i++)
		close_fd(&s[i].fd);
	turn(f, 1000);
	assert_int_equal(n_children(f), 2);
	for (size_t i = KEEPER_DOOR_CHILDREN; i < ARRAY_LEN(s); i++)
		assert_int_equal(io_wait(s[i].fd, POLLIN, 0), 1);
	/* Those that still run end with the door. */
	keeper_door_close(&f->door);
	assert_true(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
	for (size_t i = 0; i < ARRAY_LEN(s); i++) {
		close_fd(&s[i].fd);
		close_fd(&s[i].why_fd);
	}
}

static void test_flood_is_held_back(void **state)
{
	struct fixture *f = *state;

	/* On a busy host it earns meanwhile: ten are asked for one that is earned. */
	for (int i = 0; i < 1000 && f->door.may_read.left > 1; i++) {
		struct stream s = ask(f, request(9));

		close_fd(&s.fd);
		close_fd(&s.why_fd);
		if (i % 10 == 9)
			turn(f, 5);
	}
	assert_true(f->door.may_read.left <= 1);
	assert_true(f->door.fd >= 0);
	close_fd(&f->theirs);
	/* What was sent before is still to be read, then it has ended. */
	for (int i = 0; i < 100 && f->door.fd >= 0; i++)
		turn(f, 100);
	assert_int_equal(f->door.fd, -1);
}

static void test_time_is_limited(void **state)
{
	struct fixture *f = *state;
	struct stream s = ask(f, request(GIT_UPLOAD_PACK));
	char why[GIT_STREAM_WHY_MAX + 1] = "";
	char rest[65536];

	turn(f, 500);
	assert_int_equal(n_children(f), 1);
	child_on_timeout(&f->door.children[0].timer);
	turn(f, 200);
	assert_int_equal(n_children(f), 0);
	assert_true(read(s.fd, rest, sizeof(rest)) > 0);
	assert_true(has_ended(s.fd, 0));
	assert_true(read(s.why_fd, why, GIT_STREAM_WHY_MAX) > 0);
	assert_string_equal(why, "git took too long on the host");
	close_fd(&s.fd);
	close_fd(&s.why_fd);
}

/* Why is said, without a path of the host's. */
static void test_failure_is_told(void **state)
{
	struct fixture *f = *state;
	_cleanup_(buf_free) struct buf out;
	char why[GIT_STREAM_WHY_MAX + 1];

	buf_init(&out, 1u << 20);
	talk(f, GIT_UPLOAD_PACK, STR_LIT("zzzz"), &out, why);
	assert_true(str_starts(str_of(why), STR_LIT("fatal: ")));
	assert_null(strstr(why, f->repo.top));
	assert_int_equal(repo_sh(&f->repo, NULL, 0, "mv .git/HEAD .git/old"), 0);
	talk(f, GIT_UPLOAD_PACK, STR_LIT("0000"), &out, why);
	assert_true(why[0] != '\0');
	assert_null(strstr(why, f->repo.top));
}

/* Nor one of those from which it borrows, nor the beginning of one. */
static void test_path_is_not_told(void **state)
{
	struct fixture *f = *state;
	char *borrowed = (char *)(uintptr_t) "/srv/pool/objects";
	struct door_child *c = &f->door.children[0];
	struct str line;

	f->door.repo.alternates[f->door.repo.n_alternates++] = borrowed;
	assert_false(tells_path(c, STR_LIT("fatal: the remote end hung up")));
	assert_true(tells_path(c, STR_LIT("error: /srv/pool/objects/ab/cd is empty")));
	f->door.repo.n_alternates--;
	memset(c->said, 'x', sizeof(c->said));
	line = str_slice(c->said, sizeof(c->said));
	assert_true(tells_path(c, line));
	assert_false(tells_path(c, str_sub(line, 0, line.n - 1)));
}

static void test_prepare_fails(void **state)
{
	struct fixture *f = *state;
	struct keeper_door d;
	struct err e = ERR_INIT;

	keeper_door_init(&d);
	f->plan.workspace_path = f->repo.top;
	assert_int_equal(keeper_door_prepare(&d, &f->plan, f->repo.top, &e), -ENOENT);
	keeper_door_close(&d);
	f->plan.workspace_path = f->repo.path;
	assert_int_equal(
		repo_sh(&f->repo, NULL, 0, "git branch -qD bottle/other/secret; git branch bottle"),
		0);
	e = ERR_INIT;
	assert_int_equal(keeper_door_prepare(&d, &f->plan, f->repo.top, &e), -EEXIST);
	keeper_door_close(&d);
	/* No workspace: no door, and nothing to close. */
	f->plan.git.n_remotes = 1;
	assert_int_equal(keeper_door_prepare(&d, &f->plan, f->repo.top, &e), 0);
	assert_int_equal(keeper_door_open(&d, f->loop, &f->door.children[0].why_fd, &e), 0);
	assert_int_equal(d.fd, -1);
	assert_int_equal(f->door.children[0].why_fd, -1);
	keeper_door_close(&d);
}

/* --- git's client calls this as its transport --- */

static int join_stream(int fd)
{
	struct pollfd p[] = {{.fd = 0, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
	char data[65536];

	while (p[1].fd >= 0 && poll(p, 2, RUN_MS) > 0) {
		ssize_t n;

		if (p[0].fd >= 0 && p[0].revents) {
			n = read(0, data, sizeof(data));
			if (n <= 0) {
				(void)shutdown(fd, SHUT_WR);
				p[0].fd = -1;
			} else if (io_write_all(fd, data, (size_t)n) < 0) {
				return 1;
			}
		}
		if (p[1].revents) {
			n = read(fd, data, sizeof(data));
			if (n <= 0)
				p[1].fd = -1;
			else if (io_write_all(1, data, (size_t)n) < 0)
				return 1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_clone_and_push, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_push_no_trace, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_shown, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_may_force, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_much, setup, teardown),
		cmocka_unit_test_setup_teardown(test_executes_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_malformed_costs_the_request, setup, teardown),
		cmocka_unit_test_setup_teardown(test_as_many_as_may_be, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flood_is_held_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_time_is_limited, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failure_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_path_is_not_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_prepare_fails, setup, teardown),
	};

	if (argc > 2 && strcmp(argv[1], "--join") == 0) {
		uint64_t fd;

		return str_to_u64(str_of(argv[2]), 65535, &fd) == 0 ? join_stream((int)fd) : 2;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
