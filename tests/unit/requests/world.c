#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "world.h"

#include "requests/store_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>

struct world world = {.fd = -1};

static void must(int ret, const struct err *e)
{
	if (ret < 0)
		print_error("%s\n", e->text);
	assert_true(ret >= 0);
}

void world_reopen(void)
{
	struct err e = ERR_INIT;

	store_close(world.store);
	world.store = NULL;
	must(store_open(&world.store, world.fd, WORLD_SLUG, &e), &e);
}

int world_folder(char path[WORLD_FOLDER_SIZE])
{
	const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	int fd;

	(void)snprintf(path, WORLD_FOLDER_SIZE, "%s/requests-XXXXXX", base);
	assert_non_null(mkdtemp(path));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

int world_setup(void **state)
{
	(void)state;
	world.fd = world_folder(world.path);
	world_reopen();
	return 0;
}

int world_teardown(void **state)
{
	(void)state;
	store_close(world.store);
	close_fd(&world.fd);
	(void)!io_remove_tree(AT_FDCWD, world.path, NULL);
	world = (struct world){.fd = -1};
	return 0;
}

void world_ask(struct ask *a, const char *host, uint32_t methods, const char *paths)
{
	struct str rest = str_of(paths);
	bool more = paths != NULL;

	*a = (struct ask){.op = ASK_REQUEST, .kind = ASK_EGRESS, .methods = methods};
	assert_true(str_to_cstr(a->host, sizeof(a->host), str_of(host)));
	while (more) {
		struct str one;

		rest = str_cut(rest, ' ', &one, &more);
		assert_true(str_to_cstr(a->paths[a->n_paths++], ASK_PATH_SIZE, one));
	}
}

void world_change(struct change *c, const struct ask *a)
{
	struct err e = ERR_INIT;

	must(change_from_ask(c, a, &e), &e);
}

void world_egress(struct change *c, const char *host)
{
	struct ask a;

	world_ask(&a, host, 0, NULL);
	world_change(c, &a);
}

void world_release(struct change *c, uint8_t content)
{
	struct ask a;

	world_ask(&a, "api.example.com", 1u << POLICY_METHOD_POST, "/upload");
	a.kind = ASK_RELEASE;
	memset(a.hash, content, sizeof(a.hash));
	memset(a.record, content, sizeof(a.record));
	memcpy(a.rule, "aws-key", sizeof("aws-key"));
	memcpy(a.where, "body", sizeof("body"));
	memcpy(a.shown, "key=****", sizeof("key=****"));
	world_change(c, &a);
}

void world_request(const struct change *c, const struct danger *d, uint64_t now,
		   struct store_asked *out)
{
	static const struct danger none;
	struct err e = ERR_INIT;

	must(store_ask(world.store, c, d ? d : &none, STR_LIT("it is needed"), now, now + 1000, out,
		       &e),
	     &e);
}

enum store_verdict world_decide(const struct store_decision *d, const struct danger *now_danger,
				uint64_t now)
{
	static const struct danger none;
	enum store_verdict verdict;
	struct err e = ERR_INIT;

	must(store_decide(world.store, d, now_danger ? now_danger : &none, now, &verdict, &e), &e);
	return verdict;
}

enum store_verdict world_grant(const struct store_asked *a, enum ask_scope scope, uint64_t now)
{
	struct store_decision d = {.id = a->id,
				   .is_granted = true,
				   .scope = scope,
				   .release = ASK_PASS,
				   .who = "uid 1000 (anna)",
				   .face = "command"};

	memcpy(d.hash, a->hash, sizeof(d.hash));
	memset(d.manifest, scope == ASK_ALWAYS, sizeof(d.manifest));
	return world_decide(&d, NULL, now);
}

enum request_state world_state(uint64_t id)
{
	_cleanup_(request_free) struct request r = {0};
	struct err e = ERR_INIT;

	must(store_get(world.store, id, &r, &e), &e);
	return r.state;
}

static uint64_t seed;

uint64_t world_seed(void)
{
	const char *given = getenv("PROPERTY_SEED");

	if (!given || str_to_u64(str_of(given), UINT64_MAX - 1, &seed) < 0)
		seed = (uint64_t)time(NULL);
	print_message("seed %llu (PROPERTY_SEED)\n", (unsigned long long)seed);
	return seed;
}

/* splitmix64 */
uint32_t world_random(uint32_t n)
{
	uint64_t z = seed += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (uint32_t)((z ^ z >> 31) >> 16) % n;
}

bool world_count_one(const struct request *r, void *ctx)
{
	(void)r;
	++*(size_t *)ctx;
	return true;
}

/* n pending ones, quicker than by asking, each a host of its own. */
void world_fill(size_t n)
{
	assert_int_equal(
		store_run(
			world.store,
			"WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<?) "
			"INSERT INTO requests(state,key,change,danger,reason,created,expires,hash) "
			"SELECT 1,CAST(printf('%032d',x) AS BLOB),"
			"'{\"kind\":\"egress\",\"host\":\"h'||x||'.example.com\",\"ports\":[443],'|"
			"|"
			"'\"methods\":[\"GET\"],\"paths\":[\"/**\"]}','[]','',1,2000,"
			"CAST(printf('%032d',x) AS BLOB) FROM c",
			STORE_VALUES(STORE_U64(n)), NULL),
		0);
}

void world_execute(const char *sql, int want)
{
	char *why = NULL;

	assert_int_equal(sqlite3_exec(world.store->db, sql, NULL, NULL, &why), want);
	sqlite3_free(why);
}
