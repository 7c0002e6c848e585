/* A state folder, changes and stores, for the tests of this folder. What cannot be made fails the
 * test, with the reason. */
#pragma once

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "requests/grants.h"
#include "requests/store.h"

#define WORLD_SLUG	  "demo-1"
#define WORLD_FOLDER_SIZE 64
struct world {
	char path[WORLD_FOLDER_SIZE];
	int fd;
	struct store *store;
};
extern struct world world; /* of the test at hand */

/* A new folder, open; in memory where there is such a place: each transaction is synced, which a
 * disk takes its time for. The caller removes it. */
int world_folder(char path[WORLD_FOLDER_SIZE]);
int world_setup(void **state); /* a folder with a store */
int world_teardown(void **state);
void world_reopen(void);

/* Asked for like an agent would; paths: a space between each, NULL for none. */
void world_ask(struct ask *a, const char *host, uint32_t methods, const char *paths);
void world_egress(struct change *c, const char *host);
void world_change(struct change *c, const struct ask *a);
/* A release, whose content is this byte. */
void world_release(struct change *c, uint8_t content);

/* Asks for it at this time, for 1000 s; what comes is given out. */
void world_request(const struct change *c, const struct danger *d, uint64_t now,
		   struct store_asked *out);
/* Grants it for this scope, as it was asked. */
enum store_verdict world_grant(const struct store_asked *a, enum ask_scope scope, uint64_t now);
enum store_verdict world_decide(const struct store_decision *d, const struct danger *now_danger,
				uint64_t now);
/* The state in which it stands. */
enum request_state world_state(uint64_t id);

/* A number below n of a sequence that a seed fixes; world_seed() says which (PROPERTY_SEED). */
uint64_t world_seed(void);
uint32_t world_random(uint32_t n);
/* Counts what store_each() gives; ctx is a size_t. */
bool world_count_one(const struct request *r, void *ctx);
void world_fill(size_t n);
void world_execute(const char *sql, int want);
