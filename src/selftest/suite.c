#include "selftest/suite.h"

#include "probe/only.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

#define RUN_TIMEOUT_S	600 /* of an emulated machine on a busy host */
#define POLL_US		3000
#define HOSTS_TEXT_MAX	3072
#define SPACES_TEXT_MAX 512

bool suite_wants(const struct suite *s, const char *id)
{
	return probe_is_wanted(s->options->only, id);
}

bool suite_wants_any(const struct suite *s, const char *const *ids, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (suite_wants(s, ids[i]))
			return true;
	return false;
}

void suite_progress(const char *text)
{
	if (isatty(STDERR_FILENO))
		(void)fprintf(stderr, "selftest: %s\n", text);
}

/* --- a command line in the making --- */

void suite_add(struct suite *s, char *owned)
{
	if (s->n_args + 1 >= SUITE_ARGS_MAX)
		die("too many arguments");
	s->args[s->n_args++] = owned;
	s->args[s->n_args] = NULL;
}

void suite_clear(struct suite *s)
{
	while (s->n_args > 0)
		free(s->args[--s->n_args]);
	s->args[0] = NULL;
}

void suite_add_start(struct suite *s, const char *agent, bool is_root)
{
	suite_add(s, mem_strdup(s->scratch.self));
	suite_add(s, mem_strdup("start"));
	suite_add(s, mem_strdup("--headless"));
	if (s->options->backend)
		suite_add(s, mem_printf("--backend=%s", s->options->backend));
	if (is_root)
		suite_add(s, mem_strdup("--as-root"));
	suite_add(s, mem_strdup(agent));
	suite_add(s, mem_strdup("--"));
}

static void add_host(struct suite *s)
{
	char hosts[HOSTS_TEXT_MAX], spaces[SPACES_TEXT_MAX];

	host_addresses(hosts, sizeof(hosts));
	host_namespaces(spaces, sizeof(spaces));
	if (hosts[0])
		suite_add(s, mem_printf("hosts=%s", hosts));
	suite_add(s, mem_printf("namespaces=%s", spaces));
}

static void add_sibling(struct suite *s)
{
	const struct sibling *b = &s->sibling;

	if (!b->is_up)
		return;
	suite_add(s, mem_printf("sibling=%s", b->pinned));
	suite_add(s, mem_printf("sibling_agent=%s", b->addresses));
	suite_add(s, mem_printf("sibling_port=%u", b->port));
	suite_add(s, mem_printf("sibling_name=%s", b->bottle.slug));
	suite_add(s, mem_printf("sibling_net=%s", b->net));
	suite_add(s, mem_printf("sibling_ca=%s", b->ca));
}

static void add_program(struct suite *s, const char *mode, const char *uid, const char *only)
{
	static const char *const targets[] = {"tls",   "plain",	   "any",  "loop", "dns",
					      "vsock", "abstract", "path", "host"};
	char value[256];

	suite_add(s, mem_strdup(s->scratch.bundle));
	suite_add(s, mem_strdup("probe"));
	suite_add(s, mem_printf("mode=%s", mode));
	suite_add(s, mem_printf("uid=%s", uid));
	suite_add(s, mem_printf("nonce=%s", s->scratch.nonce));
	suite_add(s, mem_printf("secret_mask=%s", s->scratch.secret_mask));
	if (only)
		suite_add(s, mem_printf("only=%s", only));
	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		if (scratch_target(&s->scratch, targets[i], value, sizeof(value)))
			suite_add(s, mem_printf("%s=%s", targets[i], value));
	}
	add_host(s);
}

void suite_add_probe(struct suite *s, const char *mode, const char *uid, const char *only)
{
	add_program(s, mode, uid, only);
	add_sibling(s);
}

int suite_add_control(struct suite *s, const char *only, struct err *e)
{
	char port[16], net[SPACE_MAX] = "";

	if (!scratch_target(&s->scratch, "proxy", port, sizeof(port)))
		return err_set(e, -EPROTO, "the canary has no proxy");
	(void)host_net_of(getpid(), net);
	add_program(s, "control", "agent", only);
	suite_add(s, mem_printf("proxy=%s", port));
	suite_add(s, mem_strdup("pinned=127.0.0.1"));
	suite_add(s, mem_printf("ca=%s/canary/ca.pem", s->scratch.root));
	suite_add(s, mem_strdup("placeholder=cbph-control-control-control-control"));
	suite_add(s, mem_strdup("canary_secret=dpl_controlcontrolcontrolcontrolcontrolcontrol"));
	suite_add(s, mem_strdup("sibling=127.0.0.1"));
	suite_add(s, mem_strdup("sibling_agent=127.0.0.1"));
	suite_add(s, mem_strdup("sibling_name=sibling"));
	suite_add(s, mem_printf("sibling_net=%s", net));
	return 0;
}

/* --- running --- */

int suite_spawn(struct suite *s, const char *name, struct scratch_process *p, struct err *e)
{
	int ret = scratch_spawn(&s->scratch, s->args, name, p, e);

	suite_clear(s);
	return ret;
}

int suite_call(struct suite *s, const char *name, struct err *e)
{
	struct buf out;
	int status;

	buf_init(&out, 1u << 20);
	status = scratch_run(&s->scratch, s->args, name, RUN_TIMEOUT_S, &out, e);
	buf_free(&out);
	suite_clear(s);
	return status;
}

static bool has_line(struct str text, struct str wanted)
{
	bool more = text.n > 0;

	while (more) {
		struct str line;

		text = str_cut(text, '\n', &line, &more);
		if (more && str_starts(line, wanted))
			return true;
	}
	return false;
}

bool suite_await_line(struct suite *s, struct scratch_process *p, const char *line, unsigned ms)
{
	uint64_t end_ns = time_monotonic_ns() + ms * TIME_NS_PER_MS;
	bool is_last = false, found = false;

	while (!found && !is_last) {
		struct str text;

		/* Looked at once more after its end: that is when it says most. */
		is_last = !scratch_is_running(p) || time_monotonic_ns() >= end_ns;
		if (scratch_output(&s->scratch, p->name, &text, NULL) < 0)
			return false;
		found = has_line(text, str_of(line));
		free((char *)(uintptr_t)text.p);
		if (!found && !is_last)
			(void)usleep(POLL_US);
	}
	return found;
}

/* Now that the bottle is up, the host may have addresses that it had not before. */
void suite_answer(struct scratch_process *p)
{
	char hosts[HOSTS_TEXT_MAX];
	_cleanup_free_ char *line = NULL;

	host_addresses(hosts, sizeof(hosts));
	line = mem_printf("%s%s\n", hosts[0] ? "hosts=" : "", hosts);
	if (p->stdin_fd >= 0)
		(void)!io_write_all(p->stdin_fd, line, strlen(line));
}

int suite_finish(struct suite *s, enum selftest_run run, struct scratch_process *p, struct err *e)
{
	int status = scratch_wait(p, RUN_TIMEOUT_S, e);
	char last_words[400];
	struct str text;
	int ret;

	if (status < 0)
		return status;
	if (status > 0) {
		scratch_last_words(&s->scratch, p->name, last_words, sizeof(last_words));
		return err_set(e, -EIO, "%s: exit status %d: %s", p->name, status, last_words);
	}
	ret = scratch_output(&s->scratch, p->name, &text, e);
	if (ret < 0)
		return ret;
	ret = selftest_parse_tries(text, run, s->tries, &s->n_tries, e);
	free((char *)(uintptr_t)text.p);
	return ret < 0 ? err_prefix(e, "%s", p->name) : 0;
}

int suite_collect(struct suite *s, enum selftest_run run, const char *name, struct err *e)
{
	struct scratch_process p;
	int ret;

	if (run != SELFTEST_RUN_CONTROL)
		suite_add(s, mem_strdup("ask=1"));
	ret = suite_spawn(s, name, &p, e);
	if (ret < 0)
		return ret;
	if (run != SELFTEST_RUN_CONTROL && suite_await_line(s, &p, "ask", SUITE_START_MS))
		suite_answer(&p);
	return suite_finish(s, run, &p, e);
}

/* --- tries that the suite makes itself --- */

struct selftest_try *suite_try(struct suite *s, enum selftest_run run, const char *id,
			       const char *label)
{
	struct selftest_try *t;

	if (s->n_tries == SELFTEST_TRIES_MAX)
		die("more than %d tries", SELFTEST_TRIES_MAX);
	t = &s->tries[s->n_tries++];
	*t = (struct selftest_try){.run = run};
	(void)snprintf(t->id, sizeof(t->id), "%s", id);
	(void)snprintf(t->label, sizeof(t->label), "%s", label);
	return t;
}

void suite_skip(struct suite *s, const char *id, const char *label, const char *why)
{
	static const enum selftest_run runs[] = {SELFTEST_RUN_AGENT, SELFTEST_RUN_CONTROL};

	for (size_t i = 0; suite_wants(s, id) && i < ARRAY_LEN(runs); i++) {
		struct selftest_try *t = suite_try(s, runs[i], id, label);

		t->is_skipped = true;
		(void)snprintf(t->detail, sizeof(t->detail), "%s", why);
	}
}

void suite_skip_all(struct suite *s, const char *const *ids, size_t n, const char *label,
		    const char *why)
{
	for (size_t i = 0; i < n; i++)
		suite_skip(s, ids[i], label, why);
}

void suite_make_token(char out[SUITE_TOKEN_MAX])
{
	unsigned char random[12];

	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		die("getrandom");
	memcpy(out, "cbt", 3);
	text_hex(out + 3, random, sizeof(random));
}

void suite_rename(struct suite *s, size_t from, const char *id)
{
	for (size_t i = from; i < s->n_tries; i++) {
		memcpy(s->tries[i].origin, s->tries[i].id, sizeof(s->tries[i].origin));
		(void)snprintf(s->tries[i].id, sizeof(s->tries[i].id), "%s", id);
	}
}
