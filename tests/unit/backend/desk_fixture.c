#include "desk_fixture.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

static struct desk_fixture *fixture; /* of the played parts, which are given no more than k */

/* --- the played parts --- */

int keeper_policy_apply(struct keeper *k, const struct policy *p, bool is_paused,
			keeper_policy_fn *done, void *ctx, struct err *e)
{
	struct desk_fixture *f = fixture;
	_cleanup_(buf_free) struct buf json = BUF_INIT(POLICY_JSON_MAX_BYTES);

	(void)k;
	assert_null(ctx);
	assert_false(f->is_given);
	policy_free(&f->given);
	assert_int_equal(policy_to_json(p, &json, e), 0);
	assert_int_equal(policy_from_json(&f->given, buf_str(&json), e), 0);
	/* Of the marks the JSON may know nothing. */
	for (size_t i = 0; i < p->n_routes; i++)
		f->given.routes[i].grant = p->routes[i].grant;
	f->is_given_paused = is_paused;
	f->is_given = true;
	f->n_given++;
	f->done = done;
	return 0;
}

void keeper_end_bundle(struct keeper *k, const char *why)
{
	(void)why;
	fixture->n_ended++;
	k->bundle.is_started = false;
}

void keeper_stop_now(struct keeper *k, const char *why)
{
	(void)why;
	(void)k;
	fixture->n_stopped++;
}

void keeper_door_pause(struct keeper_door *d, bool is_paused)
{
	(void)d;
	fixture->is_door_paused = is_paused;
}

struct keeper_client *client_find(struct keeper *k, uint64_t serial)
{
	(void)k;
	return serial == fixture->client->serial ? fixture->client : NULL;
}

void client_send_json(struct keeper_client *c, char type, json_t *body)
{
	struct desk_fixture *f = fixture;

	assert_ptr_equal(c, f->client);
	assert_int_equal(type, KEEPER_DECIDED);
	assert_non_null(body);
	(void)snprintf(f->verdict, sizeof(f->verdict), "%s",
		       json_string_value(json_object_get(body, "verdict")));
	(void)snprintf(f->text, sizeof(f->text), "%s",
		       json_string_value(json_object_get(body, "text")));
	f->is_in_force = json_is_true(json_object_get(body, "in_force"));
	f->n_replies++;
	json_decref(body);
}

/* --- life --- */

static void start(struct desk_fixture *f)
{
	struct err e = ERR_INIT;

	f->k.plan = &f->plan;
	f->k.loop = loop_new(&e);
	assert_non_null(f->k.loop);
	f->k.bundle.is_started = true;
	keeper_desk_init(&f->k);
	if (keeper_desk_open(&f->k, f->theirs, &e) < 0)
		fail_msg("%s", e.text);
}

static void stop(struct desk_fixture *f)
{
	keeper_desk_close(&f->k);
	for (size_t i = 0; i < KEEPER_DESK_COUNT; i++)
		close_fd(&f->theirs[i]);
	loop_free(f->k.loop);
	policy_free(&f->k.policy.policy);
	f->k.policy.policy = (struct policy){0};
	f->is_given = false;
}

int desk_fixture_setup(void **state)
{
	struct desk_fixture *f = mem_zalloc(sizeof(*f));
	int pair[2];

	fixture = f;
	/* In memory where there is such a place: each transaction is synced. */
	(void)snprintf(f->dir, sizeof(f->dir), "%s/desk-XXXXXX",
		       access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(f->dir));
	f->k.state_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->k.state_fd >= 0);
	f->remote = (struct git_remote){.name = (char *)(uintptr_t) "origin",
					.host = (char *)(uintptr_t) "git.example.com",
					.path = (char *)(uintptr_t) "a/b.git",
					.port = 443};
	f->plan.slug = mem_strdup("shell-ab12");
	f->plan.is_supervised = true;
	f->plan.git.n_remotes = 1;
	f->plan.git.remotes = &f->remote;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	f->client = &f->k.clients[0];
	*f->client = (struct keeper_client){
		.k = &f->k, .is_used = true, .serial = 7, .watch.fd = pair[0]};
	f->client_fd = pair[1];
	start(f);
	*state = f;
	return 0;
}

int desk_fixture_teardown(void **state)
{
	struct desk_fixture *f = *state;

	stop(f);
	policy_free(&f->given);
	close_fd(&f->client->watch.fd);
	close_fd(&f->client_fd);
	close_fd(&f->k.state_fd);
	free(f->plan.slug);
	free(f->plan.notify);
	free(f->plan.manifest_file);
	(void)!io_remove_tree(AT_FDCWD, f->dir, NULL);
	free(f);
	return 0;
}

void desk_fixture_restart(struct desk_fixture *f)
{
	stop(f);
	start(f);
}

/* --- the roles --- */

struct turn {
	struct loop_timer timer;
	struct loop *loop;
};

static void turn_on_timer(struct loop_timer *t)
{
	loop_stop(((struct turn *)(void *)t)->loop, 0);
}

void desk_fixture_turn(struct desk_fixture *f, unsigned ms)
{
	struct turn t = {.timer.fn = turn_on_timer, .loop = f->k.loop};

	loop_timer_set(f->k.loop, &t.timer, ms);
	(void)loop_run(f->k.loop);
	loop_timer_del(f->k.loop, &t.timer);
}

void desk_fixture_say(struct desk_fixture *f, enum keeper_desk_role role, const struct ask *a)
{
	(void)send(f->theirs[role], a, sizeof(*a), MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool desk_fixture_hear(struct desk_fixture *f, enum keeper_desk_role role, struct ask_answer *out)
{
	return recv(f->theirs[role], out, sizeof(*out), MSG_DONTWAIT) == (ssize_t)sizeof(*out);
}

struct ask_answer desk_fixture_ask(struct desk_fixture *f, enum keeper_desk_role role,
				   const struct ask *a)
{
	struct ask_answer out = {0};

	desk_fixture_say(f, role, a);
	desk_fixture_turn(f, 1);
	if (!desk_fixture_hear(f, role, &out))
		fail_msg("no answer");
	assert_int_equal(out.id, a->id);
	assert_int_equal(out.life, a->life);
	return out;
}

bool desk_fixture_is_open(struct desk_fixture *f, enum keeper_desk_role role)
{
	return f->k.desk.channels[role].fd >= 0;
}

struct ask desk_fixture_egress(const char *host)
{
	static uint64_t id;
	struct ask a = {.op = ASK_REQUEST, .kind = ASK_EGRESS, .id = ++id, .life = 1};

	(void)snprintf(a.host, sizeof(a.host), "%s", host);
	(void)snprintf(a.reason, sizeof(a.reason), "the build wants it");
	return a;
}

void desk_fixture_answer(struct desk_fixture *f, bool ok)
{
	assert_true(f->is_given);
	f->is_given = false;
	if (ok) {
		f->k.policy.is_paused = f->is_given_paused;
		policy_free(&f->k.policy.policy);
		f->k.policy.policy = f->given;
		f->given = (struct policy){0};
	}
	f->done(&f->k, ok, NULL);
}

/* --- the human --- */

void desk_fixture_control(struct desk_fixture *f, char type, json_t *body)
{
	assert_non_null(body);
	f->verdict[0] = f->text[0] = '\0';
	keeper_desk_control(&f->k, f->client, type, body);
	json_decref(body);
}

void desk_fixture_decide(struct desk_fixture *f, uint64_t id, bool is_granted, const char *scope,
			 unsigned seconds)
{
	static const uint8_t none[CHANGE_HASH_BYTES];
	char hex[CHANGE_HASH_HEX], zeroes[CHANGE_HASH_HEX];
	struct err e = ERR_INIT;
	struct request r;

	assert_int_equal(store_get(f->k.desk.store, id, &r, &e), 0);
	text_hex(hex, r.hash, sizeof(r.hash));
	text_hex(zeroes, none, sizeof(none));
	request_free(&r);
	desk_fixture_control(f, KEEPER_DECIDE,
			     json_pack("{s:I, s:s, s:b, s:s, s:s, s:i, s:s, s:s, s:s}", "id",
				       (json_int_t)id, "hash", hex, "grant", (int)is_granted,
				       "scope", scope, "release", "pass", "seconds", (int)seconds,
				       "manifest", zeroes, "answer", "as you like", "face",
				       "command"));
}

uint64_t desk_fixture_grant(struct desk_fixture *f, const char *host, const char *scope,
			    unsigned seconds)
{
	struct ask a = desk_fixture_egress(host);
	struct ask_answer out = desk_fixture_ask(f, KEEPER_DESK_SUPERVISE, &a);
	uint64_t id = out.number;

	desk_fixture_decide(f, id, true, scope, seconds);
	desk_fixture_answer(f, true);
	assert_string_equal(f->verdict, "decided");
	assert_true(desk_fixture_hear(f, KEEPER_DESK_SUPERVISE, &out));
	return id;
}

/* --- the store --- */

size_t desk_fixture_count(struct desk_fixture *f, unsigned states)
{
	struct err e = ERR_INIT;
	size_t n = 0;

	assert_int_equal(store_count(f->k.desk.store, states, &n, &e), 0);
	return n;
}

struct looking {
	const char *what;
	bool is_found;
};

static bool look(const struct audit_line *l, void *ctx)
{
	struct looking *k = ctx;

	k->is_found = strcmp(l->what, k->what) == 0;
	return !k->is_found;
}

bool desk_fixture_is_audited(struct desk_fixture *f, const char *what)
{
	struct looking k = {.what = what};
	struct err e = ERR_INIT;

	assert_int_equal(store_each_audit(f->k.desk.store, 1000, look, &k, &e), 0);
	return k.is_found;
}

struct one {
	uint64_t id;
	uint8_t *hash;
};

static bool take_one(const struct request *r, void *ctx)
{
	struct one *o = ctx;

	o->id = r->id;
	if (o->hash)
		memcpy(o->hash, r->hash, CHANGE_HASH_BYTES);
	return false;
}

uint64_t desk_fixture_pending(struct desk_fixture *f, uint8_t hash[CHANGE_HASH_BYTES])
{
	struct one o = {.hash = hash};
	struct err e = ERR_INIT;

	assert_int_equal(desk_fixture_count(f, 1u << REQUEST_PENDING), 1);
	assert_int_equal(store_each(f->k.desk.store, 1u << REQUEST_PENDING, 0, 1, take_one, &o, &e),
			 0);
	return o.id;
}
