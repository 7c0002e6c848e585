/* The store: what is asked, decided, spent and revoked, in the file and out of it again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "requests/store_int.h"
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static void test_same_is_one_line(void **state)
{
	_cleanup_(change_free) struct change c = {0}, other = {0};
	_cleanup_(request_free) struct request r = {0};
	struct store_asked first, again;
	size_t n = 0;

	(void)state;
	world_egress(&c, "api.example.com");
	world_egress(&other, "b.example.com");
	world_request(&c, NULL, 100, &first);
	assert_true(first.is_new);
	assert_int_equal(first.id, 1);
	for (int i = 0; i < 1000; i++) {
		world_request(&c, NULL, 101, &again);
		assert_false(again.is_new);
	}
	assert_int_equal(again.id, first.id);
	assert_memory_equal(again.hash, first.hash, sizeof(first.hash));
	assert_int_equal(store_count(world.store, 1u << REQUEST_PENDING, &n, NULL), 0);
	assert_int_equal(n, 1);
	assert_int_equal(store_get(world.store, first.id, &r, NULL), 0);
	assert_int_equal(r.asked, 1001);
	assert_int_equal(r.created, 100);
	assert_string_equal(r.reason, "it is needed");
	world_request(&other, NULL, 102, &again);
	assert_true(again.is_new);
	assert_int_equal(again.id, 2);
}

static void test_verdicts(void **state)
{
	_cleanup_(change_free) struct change c = {0};
	struct store_decision d = {.who = "uid 1", .face = "web", .answer = STR_LIT("no\x1b")};
	struct store_asked a;
	struct request r;

	(void)state;
	world_egress(&c, "api.example.com");
	world_request(&c, NULL, 100, &a);
	d.id = 7;
	assert_int_equal(world_decide(&d, NULL, 110), STORE_NO_SUCH);
	d.id = a.id;
	assert_int_equal(world_decide(&d, NULL, 110), STORE_STALE);
	memcpy(d.hash, a.hash, sizeof(d.hash));
	assert_int_equal(world_decide(&d, NULL, a.id + 1100), STORE_ALREADY); /* its time is over */
	assert_int_equal(world_state(a.id), REQUEST_PENDING);
	assert_int_equal(world_decide(&d, NULL, 110), STORE_DECIDED);
	assert_int_equal(world_decide(&d, NULL, 110), STORE_ALREADY);
	d.is_granted = true, d.scope = ASK_ONCE;
	assert_int_equal(world_decide(&d, NULL, 110), STORE_ALREADY);
	assert_int_equal(store_get(world.store, a.id, &r, NULL), 0);
	assert_int_equal(r.state, REQUEST_REFUSED);
	assert_string_equal(r.answer, "no\\x1b");
	assert_string_equal(r.who, "uid 1");
	request_free(&r);
	/* What a human has refused stands for a while. */
	world_request(&c, NULL, 110 + STORE_REFUSAL_S - 1, &a);
	assert_false(a.is_new);
	assert_int_equal(a.state, REQUEST_REFUSED);
	world_request(&c, NULL, 110 + STORE_REFUSAL_S, &a);
	assert_true(a.is_new);
}

/* What was found when it was asked is not what is found now: look again. */
static void test_danger_is_judged_again(void **state)
{
	_cleanup_(change_free) struct change c = {0};
	struct danger found = {
		.n = 1, .findings = {{DANGER_UPLOAD_RULE, DANGER_WARN, "\"a\" takes files."}}};
	struct danger never = {
		.n = 1, .findings = {{DANGER_INSIDE_RULE, DANGER_NEVER, "\"a\" lies inside."}}};
	struct store_decision d = {
		.is_granted = true, .scope = ASK_BOTTLE, .who = "uid 1", .face = "web"};
	struct store_asked a;
	struct request r;

	(void)state;
	world_egress(&c, "api.example.com");
	world_request(&c, NULL, 100, &a);
	d.id = a.id;
	memcpy(d.hash, a.hash, sizeof(d.hash));
	assert_int_equal(world_decide(&d, &found, 110), STORE_STALE);
	world_reopen();
	assert_int_equal(store_get(world.store, a.id, &r, NULL), 0);
	assert_int_equal(r.danger.n, 1);
	assert_string_equal(r.danger.findings[0].text, "\"a\" takes files.");
	assert_memory_not_equal(r.hash, a.hash, sizeof(a.hash));
	memcpy(d.hash, r.hash, sizeof(d.hash));
	request_free(&r);
	assert_int_equal(world_decide(&d, &found, 110), STORE_DECIDED);

	/* It has become one that no prompt may grant; a refusal is still one. */
	change_free(&c);
	world_egress(&c, "b.example.com");
	world_request(&c, &found, 100, &a);
	d.id = a.id;
	assert_int_equal(world_decide(&d, &never, 110), STORE_STALE);
	assert_int_equal(store_get(world.store, a.id, &r, NULL), 0);
	memcpy(d.hash, r.hash, sizeof(d.hash));
	request_free(&r);
	assert_int_equal(world_decide(&d, &never, 110), STORE_FORBIDDEN);
	d.is_granted = false;
	assert_int_equal(world_decide(&d, &never, 110), STORE_DECIDED);
	/* Asked for anew it is never pending. */
	change_free(&c);
	world_egress(&c, "c.example.com");
	world_request(&c, &never, 100, &a);
	assert_true(a.is_new);
	assert_int_equal(a.state, REQUEST_NEVER);
	world_request(&c, &never, 200, &a);
	assert_false(a.is_new);
}

/* A hash is of one bottle and one number: nothing that was shown elsewhere decides here. */
static void test_hash_is_bound(void **state)
{
	_cleanup_(change_free) struct change c = {0};
	struct store_asked a, b;
	struct store *other = NULL;
	char path[WORLD_FOLDER_SIZE];
	_cleanup_close_ int fd = -1;
	static const struct danger none;

	(void)state;
	world_egress(&c, "api.example.com");
	world_request(&c, NULL, 100, &a);
	fd = world_folder(path);
	assert_int_equal(store_open(&other, fd, "other", NULL), 0);
	assert_int_equal(store_ask(other, &c, &none, STR_NULL, 100, 200, &b, NULL), 0);
	assert_int_equal(a.id, b.id);
	assert_memory_not_equal(a.hash, b.hash, sizeof(a.hash));
	store_close(other);
	/* And the file is of that bottle. */
	assert_int_equal(store_open(&other, fd, "third", NULL), -EBADMSG);
	assert_int_equal(io_remove_tree(AT_FDCWD, path, NULL), 0);
	/* The same asked again, after the first has expired: another number, another hash. */
	world_request(&c, NULL, 2000, &b);
	assert_int_equal(b.id, 2);
	assert_memory_not_equal(a.hash, b.hash, sizeof(a.hash));
	assert_int_equal(world_state(a.id), REQUEST_EXPIRED);
}

static void test_what_may_be_granted(void **state)
{
	_cleanup_(change_free) struct change release = {0}, words = {0}, egress = {0};
	struct ask ask = {.kind = ASK_CAPABILITY, .reason = "jq"};
	struct store_decision d = {
		.is_granted = true, .scope = ASK_BOTTLE, .who = "uid 1", .face = "web"};
	enum store_verdict v;
	struct store_asked a;

	(void)state;
	world_release(&release, 1);
	world_change(&words, &ask);
	world_egress(&egress, "api.example.com");
	world_request(&release, NULL, 100, &a);
	d.id = a.id, memcpy(d.hash, a.hash, sizeof(d.hash));
	assert_int_equal(store_decide(world.store, &d, &(struct danger){0}, 110, &v, NULL),
			 -EINVAL);
	d.scope = ASK_ONCE;
	assert_int_equal(store_decide(world.store, &d, &(struct danger){0}, 110, &v, NULL),
			 -EINVAL);
	assert_int_equal(world_state(a.id), REQUEST_PENDING);
	d.release = ASK_REDACT;
	assert_int_equal(world_decide(&d, NULL, 110), STORE_DECIDED);

	world_request(&egress, NULL, 100, &a);
	d = (struct store_decision){
		.id = a.id, .is_granted = true, .scope = ASK_ALWAYS, .who = "uid 1", .face = "web"};
	memcpy(d.hash, a.hash, sizeof(d.hash));
	assert_int_equal(store_decide(world.store, &d, &(struct danger){0}, 110, &v, NULL),
			 -EINVAL); /* without the manifest */
	memset(d.manifest, 1, sizeof(d.manifest));
	d.until = 110;
	assert_int_equal(store_decide(world.store, &d, &(struct danger){0}, 110, &v, NULL),
			 -EINVAL); /* over already */
	d.until = 0;
	assert_int_equal(world_decide(&d, NULL, 110), STORE_DECIDED);

	world_request(&words, NULL, 100, &a);
	assert_int_equal(world_grant(&a, ASK_ONCE, 110), STORE_DECIDED);
	/* There is nothing to spend. */
	assert_int_equal(store_spend(world.store, a.id, a.hash, 120, NULL), -ENOENT);
}

struct grants {
	struct grant list[8];
	size_t n;
};

static bool keep_grant(const struct grant *g, void *ctx)
{
	struct grants *all = ctx;

	all->list[all->n] = *g;
	all->list[all->n++].change = (struct change){0};
	return true;
}

static void grants_now(struct grants *out)
{
	*out = (struct grants){0};
	assert_int_equal(store_each_grant(world.store, keep_grant, out, NULL), 0);
}

static void test_spend_revoke_expire(void **state)
{
	_cleanup_(change_free) struct change release = {0}, a = {0}, b = {0}, c = {0};
	struct store_asked one, two, three, four;
	struct store_decision d = {
		.is_granted = true, .scope = ASK_BOTTLE, .until = 500, .who = "u", .face = "f"};
	struct grants g;
	size_t n_requests, n_grants;

	(void)state;
	world_release(&release, 1);
	world_egress(&a, "a.example.com");
	world_egress(&b, "b.example.com");
	world_egress(&c, "c.example.com");
	world_request(&release, NULL, 100, &one);
	world_request(&a, NULL, 100, &two);
	world_request(&b, NULL, 100, &three);
	world_request(&c, NULL, 100, &four);
	assert_int_equal(world_grant(&one, ASK_ONCE, 110), STORE_DECIDED);
	assert_int_equal(world_grant(&two, ASK_BOTTLE, 110), STORE_DECIDED);
	d.id = three.id, memcpy(d.hash, three.hash, sizeof(d.hash));
	assert_int_equal(world_decide(&d, NULL, 110), STORE_DECIDED);
	assert_int_equal(store_next_expiry(world.store), 500);

	/* Once, by its content and nothing else's. */
	assert_int_equal(store_spend(world.store, one.id, one.hash, 120, NULL), -ENOENT);
	assert_int_equal(store_spend(world.store, two.id, a.hash, 120, NULL), -ENOENT);
	assert_int_equal(store_spend(world.store, one.id, release.hash, 120, NULL), 0);
	assert_int_equal(store_spend(world.store, one.id, release.hash, 120, NULL), -ENOENT);
	world_request(&a, NULL, 120, &two);
	assert_int_equal(two.state, REQUEST_GRANTED);
	assert_false(two.is_new);
	assert_int_equal(store_revoke(world.store, two.id, "u", "f", 130, NULL), 0);
	assert_int_equal(store_revoke(world.store, two.id, "u", "f", 130, NULL), -ENOENT);
	world_request(&a, NULL, 131, &two);
	assert_true(two.is_new);

	assert_int_equal(store_expire(world.store, 499, &n_requests, &n_grants, NULL), 0);
	assert_int_equal(n_requests + n_grants, 0);
	assert_int_equal(store_expire(world.store, 500, &n_requests, &n_grants, NULL), 0);
	assert_int_equal(n_requests, 0);
	assert_int_equal(n_grants, 1);
	assert_int_equal(store_next_expiry(world.store), 1100);
	assert_int_equal(store_expire_one(world.store, four.id, 600, NULL), 0);
	assert_int_equal(store_expire_one(world.store, four.id, 600, NULL), -ENOENT);
	assert_int_equal(store_end(world.store, 700, NULL), 0);
	assert_int_equal(world_state(two.id), REQUEST_EXPIRED);
	grants_now(&g);
	assert_int_equal(g.n, 3);
	assert_int_equal(g.list[0].state, GRANT_SPENT);
	assert_int_equal(g.list[1].state, GRANT_REVOKED);
	assert_int_equal(g.list[2].state, GRANT_EXPIRED);
	assert_int_equal(store_next_expiry(world.store), 0);
}

static void test_always_is_written_once(void **state)
{
	_cleanup_(change_free) struct change c = {0};
	struct store_asked a;
	struct grants g;

	(void)state;
	world_egress(&c, "a.example.com");
	world_request(&c, NULL, 100, &a);
	assert_int_equal(world_grant(&a, ASK_ALWAYS, 110), STORE_DECIDED);
	grants_now(&g);
	assert_false(g.list[0].is_written);
	assert_int_equal(g.list[0].manifest[31], 1);
	assert_int_equal(store_written(world.store, a.id, 120, NULL), 0);
	assert_int_equal(store_written(world.store, a.id, 120, NULL), -ENOENT);
	world_reopen();
	grants_now(&g);
	assert_true(g.list[0].is_written);
}

/* --- the audit --- */

struct audit {
	char text[2048];
	size_t n;
};

static bool keep_line(const struct audit_line *l, void *ctx)
{
	struct audit *a = ctx;
	size_t at = strlen(a->text);

	(void)snprintf(a->text + at, sizeof(a->text) - at, "%llu %s %s %s: %s\n",
		       (unsigned long long)l->request, l->what, l->who, l->face, l->detail);
	a->n++;
	return true;
}

static void test_audit(void **state)
{
	_cleanup_(change_free) struct change c = {0};
	struct audit a = {0};
	struct store_asked asked;
	struct err e = ERR_INIT;
	size_t n;

	(void)state;
	world_egress(&c, "a.example.com");
	world_request(&c, NULL, 100, &asked);
	assert_int_equal(world_grant(&asked, ASK_BOTTLE, 110), STORE_DECIDED);
	assert_int_equal(
		store_audit(world.store, "paused", "uid 1", "web", STR_LIT("x\n"), 120, NULL), 0);
	assert_int_equal(store_each_audit(world.store, 10, keep_line, &a, NULL), 0);
	assert_string_equal(a.text, "0 paused uid 1 web: x\\n\n"
				    "1 granted-bottle uid 1000 (anna) command: GET, HEAD "
				    "https://a.example.com/**\n");
	assert_int_equal(store_verify_audit(world.store, &n, &e), 0);
	assert_int_equal(n, 2);
	world_execute("UPDATE audit SET who='x'", SQLITE_CONSTRAINT_TRIGGER);
	world_execute("DELETE FROM audit", SQLITE_CONSTRAINT_TRIGGER);
	world_execute("UPDATE requests SET state=1", SQLITE_CONSTRAINT_TRIGGER);
	world_execute("UPDATE grants SET state=2", SQLITE_OK);
	world_execute("UPDATE grants SET state=1", SQLITE_CONSTRAINT_TRIGGER);
	/* Whoever takes the trigger away is seen. */
	world_execute("DROP TRIGGER audit_no_update", SQLITE_OK);
	world_execute("UPDATE audit SET who='uid 2' WHERE id=1", SQLITE_OK);
	assert_int_equal(store_verify_audit(world.store, &n, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "line 1"));
	world_execute("UPDATE audit SET who='uid 1000 (anna)' WHERE id=1", SQLITE_OK);
	assert_int_equal(store_verify_audit(world.store, &n, &e), 0);
	world_execute("DROP TRIGGER audit_no_delete;DELETE FROM audit WHERE id=1", SQLITE_OK);
	assert_int_equal(store_verify_audit(world.store, &n, &e), -EBADMSG);
}

static bool keep_told(uint64_t time, const char *text, void *ctx)
{
	char *out = ctx;

	(void)snprintf(out, 64, "%llu %s", (unsigned long long)time, text);
	return false;
}

static void test_told(void **state)
{
	char last[64] = "";
	uint64_t n;

	(void)state;
	for (uint64_t i = 1; i <= 3; i++)
		assert_int_equal(store_tell(world.store, STR_LIT("done \xe2\x80\xae!"), i, NULL),
				 0);
	assert_int_equal(store_each_told(world.store, 5, keep_told, last, NULL), 0);
	assert_string_equal(last, "3 done \\u{202e}!");
	world_execute("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<2000) "
		      "INSERT INTO told(time,text) SELECT x,'' FROM c",
		      SQLITE_OK);
	assert_int_equal(store_tell(world.store, STR_LIT("x"), 9, NULL), 0);
	assert_int_equal(
		store_number(world.store, "SELECT count(*) FROM told", NULL, 0, 0, &n, NULL), 0);
	assert_int_equal(n, STORE_TELLS_MAX);
}

/* --- many --- */

/* A row that somebody has edited in place. */
static void test_edited_rows(void **state)
{
	_cleanup_(change_free) struct change c = {0};
	const struct danger none = {0};
	struct store_decision d = {
		.is_granted = true, .scope = ASK_BOTTLE, .who = "uid 1", .face = "web"};
	struct store_asked a, b;
	enum store_verdict v;
	struct grants g = {0};
	struct err e = ERR_INIT;

	(void)state;
	world_egress(&c, "a.example.com");
	world_request(&c, NULL, 100, &a);
	assert_int_equal(world_grant(&a, ASK_BOTTLE, 110), STORE_DECIDED);
	change_free(&c);
	world_egress(&c, "b.example.com");
	world_request(&c, NULL, 100, &b);
	world_execute("UPDATE requests SET change=replace(change,'b.example','evil')", SQLITE_OK);
	d.id = b.id, memcpy(d.hash, b.hash, sizeof(d.hash));
	assert_int_equal(store_decide(world.store, &d, &none, 110, &v, &e), -EBADMSG);
	assert_int_equal(world_state(b.id), REQUEST_PENDING);
	assert_int_equal(store_each_grant(world.store, keep_grant, &g, &e), 0);
	world_execute("UPDATE grants SET change=replace(change,'a.example','evil')", SQLITE_OK);
	assert_int_equal(store_each_grant(world.store, keep_grant, &g, &e), -EBADMSG);
	assert_int_equal(g.n, 1);
	assert_int_equal(store_revoke(world.store, a.id, "u", "f", 120, &e), 0);
	/* And one that is no change at all. */
	world_execute("UPDATE requests SET change='{}'", SQLITE_OK);
	assert_int_equal(store_each(world.store, ~0u, 0, 0, world_count_one, &g.n, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "nothing is granted"));
}

/* The newest first, as store_get() has them. */
static bool expect_key(const struct store_key *k, void *ctx)
{
	size_t *id = ctx;
	struct request r;

	assert_int_equal(k->id, (*id)--);
	assert_int_equal(store_get(world.store, k->id, &r, NULL), 0);
	assert_true(k->state == r.state && k->created == r.created && k->expires == r.expires &&
		    k->decided == r.decided);
	request_free(&r);
	return true;
}

static void test_many(void **state)
{
	_cleanup_(change_free) struct change c = {0};
	struct danger none = {0};
	struct store_asked a;
	size_t n = 0, n_grants;

	(void)state;
	world_fill(STORE_PENDING_MAX);
	assert_int_equal(
		store_each(world.store, 1u << REQUEST_PENDING, 0, 0, world_count_one, &n, NULL), 0);
	assert_int_equal(n, STORE_PENDING_MAX);
	n = STORE_PENDING_MAX;
	assert_int_equal(
		store_each_key(world.store, 1u << REQUEST_PENDING, 30, expect_key, &n, NULL), 0);
	assert_int_equal(n, STORE_PENDING_MAX - 30);
	assert_int_equal(
		store_each_key(world.store, 1u << REQUEST_GRANTED, 0, expect_key, &n, NULL), 0);
	assert_int_equal(n, STORE_PENDING_MAX - 30);
	n = 0;
	assert_int_equal(store_each(world.store, ~0u, 101, 30, world_count_one, &n, NULL), 0);
	assert_int_equal(n, 30);
	world_egress(&c, "new.example.com");
	assert_int_equal(store_ask(world.store, &c, &none, STR_NULL, 100, 200, &a, NULL), -ENOSPC);
	world_execute("DELETE FROM requests WHERE id>100", SQLITE_OK);
	assert_int_equal(store_expire(world.store, 2000, &n, &n_grants, NULL), 0);
	assert_int_equal(n, 100);
	world_request(&c, NULL, 2000, &a);
	assert_true(a.is_new);
}

static void test_old_ones_go(void **state)
{
	_cleanup_(change_free) struct change c = {0};
	struct store_asked a;
	uint64_t n = 0, least = 0;

	(void)state;
	world_egress(&c, "kept.example.com");
	world_request(&c, NULL, 100, &a);
	assert_int_equal(world_grant(&a, ASK_BOTTLE, 100), STORE_DECIDED);
	world_fill(1);
	world_execute("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<50100) "
		      "INSERT INTO requests(state,key,change,danger,reason,created,expires,hash) "
		      "SELECT 4,key,change,danger,'',1,1,hash FROM requests,c WHERE id=2",
		      SQLITE_OK);
	for (unsigned i = 0; i < 64; i++) {
		char host[64];

		change_free(&c);
		(void)snprintf(host, sizeof(host), "n%u.example.com", i);
		world_egress(&c, host);
		world_request(&c, NULL, 100, &a);
	}
	assert_int_equal(store_number(world.store, "SELECT count(*) FROM requests WHERE state<>1",
				      NULL, 0, 0, &n, NULL),
			 0);
	assert_int_equal(n, STORE_KEPT_MAX);
	/* The one whose grant is in force stays, the pending one too. */
	assert_int_equal(store_number(world.store, "SELECT count(*) FROM requests WHERE id<3", NULL,
				      0, 0, &least, NULL),
			 0);
	assert_int_equal(least, 2);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		WORLD(test_same_is_one_line),
		WORLD(test_verdicts),
		WORLD(test_danger_is_judged_again),
		WORLD(test_hash_is_bound),
		WORLD(test_what_may_be_granted),
		WORLD(test_spend_revoke_expire),
		WORLD(test_always_is_written_once),
		WORLD(test_audit),
		WORLD(test_told),
		WORLD(test_edited_rows),
		WORLD(test_many),
		WORLD(test_old_ones_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
