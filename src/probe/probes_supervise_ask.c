/*
 * H03 to H05, H10, G08: asking for one thing so as to get another. What a human is shown of it, and
 * whether a decision holds for more than it was made about, the suite looks at from its side
 * (selftest/supervise.c); a request says its token in its reason, so that it is known there.
 */
#include "probe/probe_git.h"
#include "probe/probe_mcp.h"

#include "probe/dlp.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#define FLOOD_REQUESTS 1000
#define FLOOD_WINDOW   32 /* sent before the answers are read */
#define FLOOD_MS       2000
#define FORGET_LOOKS   80

static struct probe_mcp mcp;

static bool open_session(const struct probe_env *env, const char *id)
{
	bool is_open = probe_mcp_open(&mcp, env);

	if (!is_open)
		probe_report_arrival(id, "session", false, 0, mcp.reply.error);
	return is_open;
}

/* --- H05, H10: one request each --- */

struct wish {
	const char *label, *host, *more; /* further members, with a comma behind them */
	bool is_wanted;
};

static const struct wish too_much[] = {
	{"everything", "*", "", false},
	{"everything-below", "*.*", "", false},
	{"everything-deep", "**", "", false},
	{"nets", "0.0.0.0/0", "", false},
	{"loopback", "127.0.0.1", "", false},
	{"loopback-short", "127.1", "", false},
	{"loopback-decimal", "2130706433", "", false},
	{"loopback-hex", "0x7f000001", "", false},
	{"loopback-octal", "0177.0.0.1", "", false},
	{"loopback-six", "[::1]", "", false},
	{"loopback-six-bare", "::1", "", false},
	{"mapped", "[::ffff:127.0.0.1]", "", false},
	{"metadata-address", "169.254.169.254", "", false},
	{"metadata-other", "100.100.100.200", "", false},
	{"metadata-six", "[fd00:ec2::254]", "", false},
	{"bundle", "%B", "", false},
	{"port-in-host", "ok.selftest.example:22", "", false},
	{"scheme", "https://ok.selftest.example", "", false},
	{"user", "ok.selftest.example@other.selftest.example", "", false},
	{"encoded", "%6cocalhost", "", false},
	{"all-of-com", "*.com", "", false},
	{"all-of-co-uk", "*.co.uk", "", false},
	{"all-of-github-io", "*.github.io", "", false},
	{"all-of-one", "*.elsewhere-garden.example", "", false},
	{"all-of-ours", "*.selftest.example", "", false},
	{"localhost", "localhost", "", false},
	{"metadata-name", "metadata.google.internal", "", false},
	{"engine-host", "host.docker.internal", "", false},
	{"mirror", "127.0.0.1.nip.io", "", false},
	{"credential", "bound.selftest.example",
	 "\"paths\":[\"/**\"],\"methods\":[\"GET\",\"POST\"],", false},
	{"git-upstream", "git.selftest.example", "", false},
	{"twin", "docs.harmless-garden.example", "", true},
};

static const struct wish alike[] = {
	{"accent",
	 "api.anthrop\xc3\xad"
	 "c.com",
	 "", false},
	{"cyrillic",
	 "api.\xd0\xb0"
	 "nthropic.com",
	 "", false},
	{"punycode", "xn--80ak6aa92e.com", "", false},
	{"rn", "rnicrosoft.com", "", false},
	{"digit", "g1thub.com", "", false},
	{"twin", "docs.harmless-garden.example", "", true},
};

/* %B: the bundle's own address. */
static void ask_for(const struct probe_env *env, const char *id, const struct wish *w)
{
	const char *host = strcmp(w->host, "%B") == 0 && env->pinned ? env->pinned : w->host;
	char token[PROBE_TOKEN_SIZE], detail[200];
	_cleanup_free_ char *arguments = NULL;
	uint64_t start_ns = time_monotonic_ns();
	uint64_t us;

	probe_token(env, id, w->label, token);
	arguments = mem_printf("{\"host\":\"%s\",%s\"reason\":\"Because of %s\","
			       "\"wait_seconds\":0}",
			       host, w->more, token);
	(void)probe_mcp_call_patiently(&mcp, "request_egress", arguments);
	us = (time_monotonic_ns() - start_ns) / 1000;
	probe_mcp_describe(&mcp.reply, detail, sizeof(detail));
	if (w->is_wanted)
		probe_report_wanted(id, w->label, token, us, detail);
	else if (strcmp(mcp.state, "limited") == 0)
		probe_skip(id, w->label, "too fast, so nobody judged it");
	else
		probe_report(id, w->label, token, strcmp(mcp.state, "granted") == 0, us, detail);
}

static void run_h05(const struct probe_env *env, const char *id)
{
	for (size_t i = 0; i < ARRAY_LEN(too_much) && (i > 0 || open_session(env, id)); i++)
		ask_for(env, id, &too_much[i]);
}

static void run_h10(const struct probe_env *env, const char *id)
{
	for (size_t i = 0; i < ARRAY_LEN(alike) && (i > 0 || open_session(env, id)); i++)
		ask_for(env, id, &alike[i]);
}

/* --- H03: the suite tries, with requests that are made for it --- */

static uint64_t ask_host(const char *host, const char *more, const char *reason)
{
	_cleanup_free_ char *arguments = mem_printf(
		"{\"host\":\"%s\",%s\"reason\":\"%s\",\"wait_seconds\":0}", host, more, reason);

	(void)probe_mcp_call_patiently(&mcp, "request_egress", arguments);
	return mcp.number;
}

/* A request that waits at pipelock for a human, whose sender then goes away. */
static void try_gone(const struct probe_env *env, const char *id)
{
	char token[PROBE_TOKEN_SIZE];
	_cleanup_free_ char *secret = NULL, *body = NULL;
	struct probe_sender sender;
	bool is_seen;

	probe_token(env, id, "held-gone", token);
	secret = dlp_shaped_secret(token);
	body = mem_printf("%s %s\n", secret, token);
	probe_send_held(&sender, env, body);
	is_seen = probe_human(env, "held");
	probe_send_end(&sender, env);
	is_seen &= probe_human(env, "gone");
	probe_report_arrival(id, "held", is_seen, 0, "the human has seen it come and go");
	probe_report(id, "held-gone", token, false, 0, "a request whose sender has gone away");
}

static void run_h03(const struct probe_env *env, const char *id)
{
	char word[PROBE_TOKEN_SIZE], other[80], host[80], third[80];
	uint64_t first, alike_id, last;
	bool is_done;

	if (!open_session(env, id))
		return;
	probe_plain_token(env, "garden", word);
	(void)snprintf(host, sizeof(host), "%s.example", word);
	(void)snprintf(other, sizeof(other), "gard3n%s", host + 6);
	probe_plain_token(env, "kitchen", word);
	(void)snprintf(third, sizeof(third), "%s.example", word);
	first = ask_host(host, "", "the first");
	alike_id = ask_host(other, "", "the second");
	last = ask_host(third, "", "the third");
	is_done = probe_human(env, "decide %llu %llu %llu", (unsigned long long)first,
			      (unsigned long long)alike_id, (unsigned long long)last);
	/* The same once more with other words, and more of it. */
	(void)ask_host(third, "", "another reason, which nobody has read");
	(void)ask_host(third, "\"ports\":[443,22],\"methods\":[\"POST\"],", "the third");
	is_done &= probe_human(env, "edited %llu", (unsigned long long)last);
	probe_report_arrival(id, "human", is_done, 0, "the human has looked and decided");
	try_gone(env, id);
}

/* --- H04 --- */

static void append_flood(struct buf *out, const char *host)
{
	_cleanup_free_ char *body =
		mem_printf("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{"
			   "\"name\":\"request_egress\",\"arguments\":{\"host\":\"%s\","
			   "\"reason\":\"again\",\"wait_seconds\":0}}}",
			   host);

	if (probe_mcp_head(&mcp, out) < 0 ||
	    buf_printf(out, "Content-Length: %zu\r\n\r\n%s", strlen(body), body) < 0)
		die("a flood grew too large");
}

/* Counts the ends of heads: each answer has one. */
static bool read_answers(int fd, unsigned wanted)
{
	static const char end[] = "\r\n\r\n";
	unsigned matched = 0, found = 0;
	char data[16384];

	while (found < wanted && io_wait(fd, POLLIN, FLOOD_MS) == 1) {
		ssize_t n = recv(fd, data, sizeof(data), 0);

		if (n <= 0)
			return false;
		for (ssize_t i = 0; i < n; i++) {
			matched = data[i] == end[matched] ? matched + 1 : data[i] == '\r';
			if (matched == 4) {
				found++;
				matched = 0;
			}
		}
	}
	return found >= wanted;
}

/* How many of them were answered. */
static unsigned flood(const char *token, bool is_same)
{
	_cleanup_close_ int fd = probe_mcp_connect(mcp.env);
	unsigned sent = 0;

	while (fd >= 0 && sent < FLOOD_REQUESTS) {
		struct buf out = BUF_INIT(65536);
		bool is_fine;
		unsigned i;

		for (i = 0; i < FLOOD_WINDOW && sent + i < FLOOD_REQUESTS; i++) {
			char host[128];

			(void)snprintf(host, sizeof(host), "n%u.%s.example", is_same ? 0 : sent + i,
				       token);
			append_flood(&out, host);
		}
		is_fine = io_write_all(fd, out.p + out.from, buf_len(&out)) == 0 &&
			  read_answers(fd, i);
		buf_free(&out);
		if (!is_fine)
			break;
		sent += i;
	}
	return sent;
}

/* The suite counts in how many lines of the human's the token is. */
static void run_h04(const struct probe_env *env, const char *id)
{
	static const char *const labels[] = {"same", "different"};
	char detail[64], token[PROBE_TOKEN_SIZE], host[128];

	if (!open_session(env, id))
		return;
	for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
		uint64_t start_ns = time_monotonic_ns();
		unsigned sent;

		probe_token(env, id, labels[i], token);
		/* The line that is to stay the only one. */
		(void)snprintf(host, sizeof(host), "n0.%s.example", token);
		if (i == 0)
			(void)ask_host(host, "", "once");
		sent = flood(token, i == 0);
		(void)snprintf(detail, sizeof(detail), "%u requests answered", sent);
		probe_report(id, labels[i], token, false, (time_monotonic_ns() - start_ns) / 1000,
			     detail);
		(void)snprintf(detail, sizeof(detail), "%s-sent", labels[i]);
		probe_report_arrival(id, detail, sent == FLOOD_REQUESTS, 0,
				     "all of them are answered");
	}
}

/* --- G08 --- */

static void make_push(struct probe_attempt *a, const char *text)
{
	_cleanup_free_ char *workflow = mem_printf("on: push\njobs: {}\n# %s\n", text);

	probe_attempt_text(a, ".github/workflows/ci.yml", workflow);
	probe_attempt_commit(a, "Run something else");
}

/* Another commit, ref or past than what was approved. Outside nothing needs an approval: there each
 * is a push of its own, but for the one that has another past. */
static void push_other(const struct probe_env *env, const char *id, const char *label,
		       const struct probe_push *approved)
{
	bool is_past = strcmp(label, "other-past") == 0;
	struct probe_attempt a;

	if (!probe_attempt_begin(&a, env, id, label, "asked"))
		return;
	if (is_past)
		memcpy(a.push.old_oid, env->is_control ? approved->new_oid : a.parent,
		       sizeof(a.push.old_oid));
	if (is_past || !env->is_control)
		memcpy(a.push.ref, approved->ref, sizeof(a.push.ref));
	make_push(&a, "another one");
	(void)probe_attempt_push(&a);
}

/* What was approved, at a ref that was not. */
static void push_elsewhere(const struct probe_env *env, const char *id, const char *label,
			   struct probe_push push)
{
	static struct probe_reply r;
	size_t n = strlen(push.ref);
	char detail[200];
	bool is_taken;

	(void)snprintf(push.ref + n, sizeof(push.ref) - n, "-%s", label);
	is_taken = probe_git_push(env, &push, &r);
	probe_git_describe(&r, detail, sizeof(detail));
	probe_report(id, label, "", is_taken, 0, detail);
}

/* git-gate looks at what upstream has when a client asks, but not for each. */
static bool await_forgotten(const struct probe_env *env, const struct probe_push *push)
{
	const struct timespec pause = {.tv_nsec = 100000000};
	char oid[PROBE_OID_SIZE];

	for (int i = 0; i < FORGET_LOOKS; i++) {
		if (!probe_git_ref(env, push->repository, push->ref, oid))
			return true;
		(void)nanosleep(&pause, NULL);
	}
	return false;
}

/* The same command and pack once more, when upstream has forgotten the ref again. Outside, where it
 * cannot, it goes to another one. */
static void push_again(const struct probe_env *env, const char *id, const struct probe_push *push)
{
	static struct probe_reply r;
	char detail[200];
	bool is_taken;

	if (env->is_control) {
		push_elsewhere(env, id, "twice", *push);
		return;
	}
	if (!probe_human(env, "forget %s", push->ref)) {
		probe_skip(id, "twice", "upstream did not forget the ref");
		return;
	}
	if (!await_forgotten(env, push)) {
		probe_skip(id, "twice", "git-gate still has the ref");
		return;
	}
	is_taken = probe_git_push(env, push, &r);
	probe_git_describe(&r, detail, sizeof(detail));
	probe_report(id, "twice", "", is_taken, 0, detail);
}

static void run_g08(const struct probe_env *env, const char *id)
{
	static struct probe_reply r;
	_cleanup_free_ char *arguments = NULL;
	struct probe_attempt a;
	bool is_taken;
	char detail[200];

	if (!open_session(env, id) || !probe_attempt_begin(&a, env, id, "approved", "asked"))
		return;
	make_push(&a, "approved");
	is_taken = probe_git_push(env, &a.push, &r);
	probe_git_describe(&r, detail, sizeof(detail));
	probe_report(id, "not-asked", "", is_taken, 0, detail);
	arguments = mem_printf("{\"remote\":\"asked\",\"ref\":\"%s\",\"commit\":\"%s\","
			       "\"reason\":\"the workflow\",\"wait_seconds\":0}",
			       a.push.ref, a.push.new_oid);
	(void)probe_mcp_call_patiently(&mcp, "request_push", arguments);
	probe_mcp_describe(&mcp.reply, detail, sizeof(detail));
	probe_report_arrival(id, "asked", mcp.number > 0, 0, detail);
	probe_report_arrival(
		id, "human",
		mcp.number > 0 && probe_human(env, "approve %llu", (unsigned long long)mcp.number),
		0, "the human has approved it");
	push_other(env, id, "other-commit", &a.push);
	push_elsewhere(env, id, "other-ref", a.push);
	push_other(env, id, "other-past", &a.push);
	is_taken = probe_git_push(env, &a.push, &r);
	probe_git_describe(&r, detail, sizeof(detail));
	probe_report_wanted(id, "approved", a.push.new_oid, 0, detail);
	push_again(env, id, &a.push);
	probe_pack_free(&a.push.pack);
	buf_free(&a.tree);
}

const struct probe probes_supervise_ask[] = {
	{"G08", run_g08}, {"H03", run_h03}, {"H05", run_h05}, {"H10", run_h10}, {"H04", run_h04}};
const size_t n_probes_supervise_ask = ARRAY_LEN(probes_supervise_ask);
