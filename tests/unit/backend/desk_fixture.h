/* A keeper that is nothing but its desk: the store is real, in a folder that is removed; the
 * bundle, the door and the control socket's clients are played. */
#pragma once

#include "backend/keeper_int.h"

struct desk_fixture {
	struct keeper k;
	struct plan plan;
	struct git_remote remote;
	char dir[64];
	int theirs[KEEPER_DESK_COUNT]; /* the roles' ends */
	struct keeper_client *client;
	int client_fd; /* its other end */
	/* What was said to the client last. */
	char verdict[32], text[512];
	bool is_in_force;
	unsigned n_replies;
	/* The policy that the bundle was given last, until desk_fixture_answer(). */
	struct policy given;
	bool is_given, is_given_paused;
	unsigned n_given;
	keeper_policy_fn *done;
	/* What else the desk has called for. */
	unsigned n_ended, n_stopped;
	bool is_door_paused;
};

int desk_fixture_setup(void **state);
int desk_fixture_teardown(void **state);
/* The bottle ends and is resumed. */
void desk_fixture_restart(struct desk_fixture *f);

/* Lets the loop run until nothing more happens, at most ms. */
void desk_fixture_turn(struct desk_fixture *f, unsigned ms);
void desk_fixture_say(struct desk_fixture *f, enum keeper_desk_role role, const struct ask *a);
/* False when nothing is there. */
bool desk_fixture_hear(struct desk_fixture *f, enum keeper_desk_role role, struct ask_answer *out);
/* Says it and hears one answer. */
struct ask_answer desk_fixture_ask(struct desk_fixture *f, enum keeper_desk_role role,
				   const struct ask *a);
bool desk_fixture_is_open(struct desk_fixture *f, enum keeper_desk_role role);
struct ask desk_fixture_egress(const char *host);
/* The bundle says that what it was given is in force, or that it is not. */
void desk_fixture_answer(struct desk_fixture *f, bool ok);
/* As a face does, with the hash of what the store shows. */
void desk_fixture_decide(struct desk_fixture *f, uint64_t id, bool is_granted, const char *scope,
			 unsigned seconds);
/* Asked for, granted and in force; its number. */
uint64_t desk_fixture_grant(struct desk_fixture *f, const char *host, const char *scope,
			    unsigned seconds);
void desk_fixture_control(struct desk_fixture *f, char type, json_t *body); /* takes body */
/* How many requests are in these states. */
size_t desk_fixture_count(struct desk_fixture *f, unsigned states);
bool desk_fixture_is_audited(struct desk_fixture *f, const char *what);
/* The one pending request. */
uint64_t desk_fixture_pending(struct desk_fixture *f, uint8_t hash[CHANGE_HASH_BYTES]);

#define DESK_TEST(name)                                                                            \
	cmocka_unit_test_setup_teardown(name, desk_fixture_setup, desk_fixture_teardown)
