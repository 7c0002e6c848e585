/*
 * The sibling: a second bottle that runs while the others are attacked. It listens inside, writes
 * down what it hears, and its bundle keeps its records as any bundle does; both are read when the
 * attacks are over. So it says from its own side whether anybody reached it, which no client can.
 *
 * N10 (its half), N15, N16 and C12 are decided here.
 */
#include "selftest/processes.h"
#include "selftest/suite.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

static const char *const ids[] = {"N10", "N15", "N16", "C11", "C12", "C14", "K11", "K12"};

/* A value of the line "hello <TAB> KEY=VALUE …". */
static bool hello_value(struct str text, const char *key, char *out, size_t size)
{
	struct str line = str_sub(text, 0, str_chr(text, '\n')), field, name;
	bool more = str_starts(line, STR_LIT("hello\t")), found;

	out[0] = '\0';
	while (more) {
		line = str_cut(line, '\t', &field, &more);
		field = str_cut(field, '=', &name, &found);
		if (found && str_eq(name, str_of(key)))
			return str_to_cstr(out, size, field);
	}
	return false;
}

static int take_hello(struct sibling *b, struct str text, struct err *e)
{
	char port[8];
	uint64_t number;

	if (!hello_value(text, "pinned", b->pinned, sizeof(b->pinned)) ||
	    !hello_value(text, "addresses", b->addresses, sizeof(b->addresses)) ||
	    !hello_value(text, "mark", b->mark, sizeof(b->mark)) ||
	    !hello_value(text, "net", b->net, sizeof(b->net)) ||
	    !hello_value(text, "ca", b->ca, sizeof(b->ca)) ||
	    !hello_value(text, "port", port, sizeof(port)) ||
	    str_to_u64(str_of(port), 65535, &number) < 0 || b->pinned[0] == '\0')
		return err_set(e, -EPROTO, "the sibling bottle does not say where it is");
	b->port = (uint16_t)number;
	return 0;
}

int sibling_start(struct suite *s, struct err *e)
{
	struct sibling *b = &s->sibling;
	char last_words[400];
	struct str text;
	int ret;

	if (!suite_wants_any(s, ids, ARRAY_LEN(ids)))
		return 0;
	suite_progress("starting a sibling");
	suite_add_start(s, "sibling", false);
	suite_add_probe(s, "attack", "sibling", NULL);
	suite_add(s, mem_strdup("role=listen"));
	ret = suite_spawn(s, "sibling", &b->process, e);
	if (ret < 0)
		return ret;
	if (!suite_await_line(s, &b->process, "N10\tsibling-records", SUITE_START_MS) ||
	    !scratch_find_bottle(&s->scratch, "sibling", &b->bottle)) {
		scratch_last_words(&s->scratch, "sibling", last_words, sizeof(last_words));
		return err_set(e, -EIO, "the sibling bottle did not come up: %s", last_words);
	}
	ret = scratch_output(&s->scratch, "sibling", &text, e);
	if (ret < 0)
		return ret;
	ret = take_hello(b, text, e);
	free((char *)(uintptr_t)text.p);
	b->is_up = ret == 0;
	return ret;
}

/* --- N15: from the host to the agent --- */

static void dial_list(struct suite *s, const char *label, const char *list, bool needs_link)
{
	char token[SUITE_TOKEN_MAX], address[46];
	struct str rest = str_of(list), one;
	bool more = rest.n > 0, dialled = false, connected = false;
	struct selftest_try *t = suite_try(s, SELFTEST_RUN_AGENT, "N15", label);

	suite_make_token(token);
	while (more) {
		rest = str_cut(rest, ',', &one, &more);
		if (!str_to_cstr(address, sizeof(address), one) || one.n == 0 ||
		    (needs_link && !host_is_on_link(address)))
			continue;
		dialled = true;
		connected |= host_dial(address, s->sibling.port, token);
	}
	/* Who answers may be anybody on this host: the sibling's own words decide. */
	(void)snprintf(t->token, sizeof(t->token), "%s", token);
	(void)snprintf(t->detail, sizeof(t->detail), "%.100s port %u: %s", list, s->sibling.port,
		       connected ? "connected, to whomever"
		       : dialled ? "no connection"
				 : "this host has no network with it");
}

static void control_dial(struct suite *s, const char *label)
{
	struct selftest_try *t = suite_try(s, SELFTEST_RUN_CONTROL, "N15", label);
	char token[SUITE_TOKEN_MAX], text[8];
	uint64_t port = 0;

	suite_make_token(token);
	(void)snprintf(t->token, sizeof(t->token), "%s", token);
	(void)snprintf(t->detail, sizeof(t->detail), "a listener without a wall");
	if (scratch_target(&s->scratch, "any", text, sizeof(text)) &&
	    str_to_u64(str_of(text), 65535, &port) == 0)
		(void)host_dial("127.0.0.1", (uint16_t)port, token);
}

static void run_n15(struct suite *s)
{
	static const char *const labels[] = {"agent-address", "loopback", "host-addresses"};
	char hosts[3072];

	if (!suite_wants(s, "N15"))
		return;
	host_addresses(hosts, sizeof(hosts));
	dial_list(s, labels[0], s->sibling.addresses, true);
	dial_list(s, labels[1], "127.0.0.1", false);
	dial_list(s, labels[2], hosts, false);
	for (size_t i = 0; i < ARRAY_LEN(labels); i++)
		control_dial(s, labels[i]);
}

/* --- N16, C12: the sibling's bundle, from the host --- */

static void run_n16(struct suite *s, const struct process *init)
{
	struct selftest_try *t;
	char net[SPACE_MAX], own[SPACE_MAX];

	if (!suite_wants(s, "N16"))
		return;
	if (!init || !host_net_of(init->pid, net) || !host_net_of(getpid(), own)) {
		suite_skip(s, "N16", "bundle", "this user cannot see the bundle's processes here");
		return;
	}
	t = suite_try(s, SELFTEST_RUN_AGENT, "N16", "bundle");
	t->is_through = strcmp(net, s->sibling.net) == 0;
	(void)snprintf(t->detail, sizeof(t->detail), "the bundle's %.60s, the agent's %.60s", net,
		       s->sibling.net);
	suite_try(s, SELFTEST_RUN_CONTROL, "N16", "bundle")->is_through = true;
}

/* The same looks at this process, which has a marked file open and runs several libraries. */
static void control_c12(struct suite *s)
{
	const char *mark = s->sibling.mark;
	_cleanup_free_ char *path = mem_printf("%s/canary/%s", s->scratch.root, mark);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
	struct selftest_try *t = suite_try(s, SELFTEST_RUN_CONTROL, "C12", "files");

	t->is_through =
		fd >= 0 && processes_has_marked(getpid(), mark, t->detail, sizeof(t->detail)) == 1;
	t = suite_try(s, SELFTEST_RUN_CONTROL, "C12", "code");
	/* The host's executable is no static one. An instrumented build may not say. */
	t->is_through = processes_has_foreign_code(getpid(), t->detail, sizeof(t->detail)) == 1;
}

static void run_c12(struct suite *s, const struct process *list, size_t n)
{
	struct selftest_try *files, *code;
	int is_bad = n > 0 ? 0 : -1;

	if (!suite_wants(s, "C12"))
		return;
	files = suite_try(s, SELFTEST_RUN_AGENT, "C12", "files");
	code = suite_try(s, SELFTEST_RUN_AGENT, "C12", "code");
	for (size_t i = 0; is_bad >= 0 && i < n; i++) {
		is_bad = processes_has_marked(list[i].pid, s->sibling.mark, files->detail,
					      sizeof(files->detail));
		files->is_through |= is_bad == 1;
		if (is_bad < 0)
			break;
		is_bad =
			processes_has_foreign_code(list[i].pid, code->detail, sizeof(code->detail));
		code->is_through |= is_bad == 1;
	}
	if (is_bad < 0) {
		files->is_skipped = code->is_skipped = true;
		(void)snprintf(files->detail, sizeof(files->detail),
			       "this user cannot look into the bundle's processes here");
		memcpy(code->detail, files->detail, sizeof(code->detail));
	}
	control_c12(s);
}

/* --- what it has seen --- */

static int witness(struct suite *s, struct str text, struct err *e)
{
	int ret = buf_append_str(&s->witnessed, text);

	return ret < 0 ? err_set(e, ret, "the sibling heard too much") : 0;
}

/* A try that must arrive stands for the witness itself, inside as outside. */
static int take_own_words(struct suite *s, struct str line, struct err *e)
{
	_cleanup_free_ char *one = mem_printf(STR_FMT "\nend\n", STR_ARG(line));
	char id[8];
	int ret;

	if (!str_to_cstr(id, sizeof(id), str_sub(line, 0, str_chr(line, '\t'))) ||
	    !suite_wants(s, id))
		return 0;
	ret = selftest_parse_tries(str_of(one), SELFTEST_RUN_AGENT, s->tries, &s->n_tries, e);
	return ret < 0 ? ret
		       : selftest_parse_tries(str_of(one), SELFTEST_RUN_CONTROL, s->tries,
					      &s->n_tries, e);
}

static int take_witness(struct suite *s, struct str text, struct err *e)
{
	bool more = text.n > 0;
	int ret = 0;

	while (ret == 0 && more) {
		struct str line;

		text = str_cut(text, '\n', &line, &more);
		if (str_starts(line, STR_LIT("heard\t")))
			ret = witness(s, line, e);
		else if (str_starts(line, STR_LIT("N1")))
			ret = take_own_words(s, line, e);
	}
	return ret;
}

/* What its bundle wrote down, as its owner would read it. */
static int take_records(struct suite *s, struct err *e)
{
	struct str text;
	int ret;

	suite_add(s, mem_strdup(s->scratch.self));
	suite_add(s, mem_strdup("logs"));
	suite_add(s, mem_strdup("--json"));
	suite_add(s, mem_strdup(s->sibling.bottle.slug));
	ret = suite_call(s, "records", e);
	if (ret != 0)
		return ret < 0 ? ret : err_set(e, -EIO, "the sibling's records cannot be read");
	ret = scratch_output(&s->scratch, "records", &text, e);
	if (ret < 0)
		return ret;
	ret = witness(s, text, e);
	free((char *)(uintptr_t)text.p);
	return ret;
}

int sibling_finish(struct suite *s, struct err *e)
{
	struct sibling *b = &s->sibling;
	struct process list[PROCESSES_MAX];
	struct str text;
	size_t n;
	int ret;

	if (!b->is_up)
		return 0;
	b->is_up = false;
	if (!scratch_is_running(&b->process))
		return err_set(e, -EIO, "the sibling bottle ended while others were attacked");
	run_n15(s);
	n = processes_find(b->bottle.keeper, b->bottle.slug, list);
	run_n16(s, n > 0 ? &list[0] : NULL);
	run_c12(s, list, n);
	ret = monitor_run(s, b->bottle.keeper, n > 0, e);
	if (ret < 0)
		return ret;
	suite_add(s, mem_strdup(s->scratch.self));
	suite_add(s, mem_strdup("stop"));
	suite_add(s, mem_strdup(b->bottle.slug));
	ret = suite_call(s, "stop", e);
	if (ret != 0)
		return ret < 0 ? ret : err_set(e, -EIO, "the sibling bottle cannot be stopped");
	scratch_end(&b->process);
	ret = scratch_output(&s->scratch, "sibling", &text, e);
	if (ret < 0)
		return ret;
	ret = take_witness(s, text, e);
	free((char *)(uintptr_t)text.p);
	return ret < 0 ? ret : take_records(s, e);
}
