/*
 * H01 to H10, G08. Theory of operation: the human's page is started, so that its port can be aimed
 * at. Then several bottles run at once, each with a part of the probes. A probe says "human <TAB>
 * …" when it is the human's turn, and waits; before it ends it says "look", and all that the faces
 * show of this bottle is kept. The control is the same against the canary, which grants and shows
 * whatever it is told. What was shown raw, or could be granted and should not, is then looked up in
 * all of that (look.c).
 */
#include "selftest/supervise.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define TURN_MS	  (180 * 1000)
#define TURN_US	  5000
#define SHOWN_MAX (16u << 20)

static const char *const all_ids[] = {"H01", "H02", "H03", "H04", "H05", "H06",
				      "H07", "H08", "H09", "H10", "G08", NULL};

static const char manifest_head[] =
	"---\n"
	"supervise: true\n"
	"provider: shell\n"
	"expose: [%s/expose]\n"
	"egress:\n"
	"  ca: %s/canary/ca.pem\n"
	"  dns: [127.0.0.1:%s]\n"
	"  resolve:\n"
	"    ok.selftest.example: 127.0.0.1:%s\n"
	"    bound.selftest.example: 127.0.0.1:%s\n"
	"    hold.selftest.example: 127.0.0.1:%s\n"
	"    git.selftest.example: 127.0.0.1:%s\n"
	"    face.selftest.example: %s:%u\n"
	"  routes:\n"
	"    - host: ok.selftest.example\n"
	"    - host: face.selftest.example\n"
	"      ports: [80, 443]\n"
	"    - host: hold.selftest.example\n"
	"      dlp: {on_match: supervise}\n"
	"    - host: bound.selftest.example\n"
	"      paths: [\"/api/**\"]\n"
	"      auth: {scheme: bearer, env: SELFTEST_TOKEN, token_ref: \"file:%s/secret/token\"}\n";

static const char manifest_git[] =
	"git:\n"
	"  user: {name: Selftest, email: selftest@selftest.example, enforce: true}\n"
	"  remotes:\n"
	"    - name: asked\n"
	"      upstream: https://git.selftest.example/git/asked.git\n"
	"      token_ref: \"file:%s/secret/token\"\n"
	"      branches: [\"**\"]\n";

/* --- the world --- */

static bool has_git(const struct suite *s)
{
	char text[8];

	return scratch_target(&s->scratch, "git", text, sizeof(text));
}

static int write_manifest(const struct supervise *v, const struct sitting *t, struct err *e)
{
	const struct scratch *c = &v->s->scratch;
	_cleanup_free_ char *head = NULL, *git = NULL, *text = NULL;
	char tls[16], dns[16];

	if (!scratch_target(c, "tls", tls, sizeof(tls)) ||
	    !scratch_target(c, "dns", dns, sizeof(dns)))
		return err_set(e, -EPROTO, "the canary named no targets");
	head = mem_printf(manifest_head, c->root, c->root, dns, tls, tls, tls, tls, v->page.at.host,
			  v->page.at.port, c->root);
	git = mem_printf(manifest_git, c->root);
	text = mem_printf("%s%s---\n", head, has_git(v->s) ? git : "");
	return scratch_write_bottle(c, t->name, text, e);
}

/* What the folder of a bottle would be if anybody could write in it. */
static int make_unguarded(const struct suite *s, struct err *e)
{
	static const char *const files[] = {"records.jsonl", "requests.db", "requests.db-wal",
					    "bottle.json", "runs"};
	_cleanup_free_ char *folder = mem_printf("%s/open", s->scratch.root),
			    *control = mem_printf("%s/open/control.sock", s->scratch.root),
			    *to = mem_printf("%s/canary/canary.sock", s->scratch.root);
	int ret = io_mkdir_p(folder, 0700, e);

	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(files); i++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", folder, files[i]);

		ret = io_write_file_atomic(AT_FDCWD, path, STR_LIT("\n"), 0600, e);
	}
	if (ret == 0 && symlink(to, control) < 0)
		ret = err_errno(e, "link \"%s\"", control);
	return ret;
}

/* --- the bottles --- */

/* What is wanted of these ids, as a list. */
static void choose(const struct suite *s, const char *const *ids, char out[64])
{
	size_t n = 0;

	out[0] = '\0';
	for (size_t i = 0; ids[i]; i++) {
		bool is_there =
			suite_wants(s, ids[i]) && (strcmp(ids[i], "G08") != 0 || has_git(s));

		if (is_there)
			n += (size_t)snprintf(out + n, 64 - n, "%s%s", n ? "," : "", ids[i]);
	}
}

static int add_inside(struct supervise *v, const struct sitting *t, struct err *e)
{
	struct suite *s = v->s;
	bool is_root = t->run == SELFTEST_RUN_ROOT;
	int ret = write_manifest(v, t, e);

	if (ret < 0)
		return ret;
	suite_add_start(s, t->name, is_root);
	suite_add_probe(s, "attack", is_root ? "root" : "agent", t->only);
	suite_add(s, mem_strdup("ask=1"));
	return 0;
}

static int add_outside(struct supervise *v, const struct sitting *t, struct err *e)
{
	struct suite *s = v->s;
	char port[16];
	int ret;

	if (!scratch_target(&s->scratch, "mcp", port, sizeof(port)))
		return err_set(e, -EPROTO, "the canary does not speak MCP");
	ret = suite_add_control(s, t->only, e);
	if (ret < 0)
		return ret;
	suite_add(s, mem_printf("mcp=%s", port));
	suite_add(s, mem_strdup("face_host=127.0.0.1"));
	suite_add(s, mem_printf("face=%s", port));
	suite_add(s, mem_printf("state=%s/open", s->scratch.root));
	return 0;
}

static int start(struct supervise *v, struct sitting *t, struct err *e)
{
	int ret = t->run == SELFTEST_RUN_CONTROL ? add_outside(v, t, e) : add_inside(v, t, e);

	if (ret < 0)
		return ret;
	suite_add(v->s, mem_strdup("supervise=1"));
	return suite_spawn(v->s, t->name, &t->process, e);
}

static void say(struct sitting *t, const char *text)
{
	if (t->process.stdin_fd >= 0)
		(void)!io_write_all(t->process.stdin_fd, text, strlen(text));
}

/* The probe asks what it may aim at; by now its bottle has a name. */
static void answer(struct supervise *v, struct sitting *t)
{
	char hosts[3072];
	_cleanup_free_ char *line = NULL;

	t->has_asked = true;
	(void)scratch_find_bottle(&v->s->scratch, t->name, &t->bottle);
	host_addresses(hosts, sizeof(hosts));
	line = mem_printf("face_host=%s face=%u state=%s/state/claude-bottle/bottles/%s%s%s\n",
			  v->page.at.host, v->page.at.port, v->s->scratch.root, t->bottle.slug,
			  hosts[0] ? " hosts=" : "", hosts);
	say(t, line);
}

/* Takes what it has said since; true when there was something. */
static bool hear(struct supervise *v, struct sitting *t)
{
	struct str text, rest, line;
	bool more, found = false;
	size_t n = 0;

	if (scratch_output(&v->s->scratch, t->name, &text, NULL) < 0)
		return false;
	rest = text;
	more = text.n > 0;
	while (more && !found) {
		rest = str_cut(rest, '\n', &line, &more);
		if (more && !t->has_asked && str_eq(line, STR_LIT("ask"))) {
			answer(v, t);
			found = true;
		} else if (more && str_starts(line, STR_LIT("human\t")) && n++ == t->n_heard) {
			t->n_heard++;
			found = true;
			say(t, human_do(v, t, str_sub(line, 6, line.n)) ? "done\n" : "failed\n");
		}
	}
	free((char *)(uintptr_t)text.p);
	return found;
}

/* Until all of them have ended. */
static void attend(struct supervise *v, struct sitting *sittings, size_t n)
{
	uint64_t end_ns = time_monotonic_ns() + (SUITE_START_MS + TURN_MS) * TIME_NS_PER_MS;
	bool is_any = true;

	while (is_any && time_monotonic_ns() < end_ns) {
		bool has_heard = false;

		is_any = false;
		for (size_t i = 0; i < n; i++) {
			if (!scratch_is_running(&sittings[i].process))
				continue;
			is_any = true;
			has_heard |= hear(v, &sittings[i]);
		}
		if (!has_heard)
			(void)usleep(TURN_US);
	}
}

static int run_sittings(struct supervise *v, struct sitting *sittings, size_t n, struct err *e)
{
	int ret = 0;

	suite_progress("asking, in several bottles and where everything is granted");
	for (size_t i = 0; ret == 0 && i < n; i++)
		if (sittings[i].only[0])
			ret = start(v, &sittings[i], e);
	if (ret == 0)
		attend(v, sittings, n);
	for (size_t i = 0; i < n; i++) {
		struct sitting *t = &sittings[i];

		if (ret == 0 && t->only[0])
			ret = suite_finish(v->s, t->run, &t->process, e);
		scratch_end(&t->process);
		free(t->shown_hash);
		free(t->shown_reason);
		free(t->held_hash);
	}
	return ret;
}

/* --- what was seen --- */

static int judge(struct supervise *v, struct err *e)
{
	struct suite *s = v->s;
	_cleanup_free_ char *path = mem_printf("%s/canary/shown", s->scratch.root);
	struct str shown;
	int ret = io_read_file(AT_FDCWD, path, SHOWN_MAX, &shown, e);

	if (ret < 0)
		return ret;
	look_add(&v->faces, LOOK_NAIVE, shown);
	free((char *)(uintptr_t)shown.p);
	if (v->faces.n_broken > 0)
		return err_set(e, -EPROTO, "%u faces showed what is no JSON, or nothing",
			       v->faces.n_broken);
	ret = look_judge(&v->faces, s->tries, s->n_tries, &s->witnessed);
	return ret < 0 ? err_set(e, ret, "too much was seen") : 0;
}

static int run_all(struct supervise *v, struct err *e)
{
	/* Ten requests of one bottle's at once are heard, so that each has no more to ask. */
	static const char *const speaking[] = {"H01", "H02", "H06", "H07", "H08", "H09", NULL};
	static const char *const flooding[] = {"H04", NULL};
	static const char *const asking[] = {"H05", "G08", NULL};
	static const char *const pretending[] = {"H03", "H10", NULL};
	static const char *const as_root[] = {"H01", "H02", "H06", "H08", "H09", NULL};
	struct sitting sittings[] = {
		{.name = "supervise"},
		{.name = "supervise-ask"},
		{.name = "supervise-alike"},
		{.name = "supervise-flood"},
		{.name = "supervise-root", .run = SELFTEST_RUN_ROOT},
		{.name = "supervise-control", .run = SELFTEST_RUN_CONTROL},
	};
	const char *const *ids[] = {speaking, asking, pretending, flooding, as_root, all_ids};
	int ret;

	for (size_t i = 0; i < ARRAY_LEN(sittings); i++)
		choose(v->s, ids[i], sittings[i].only);
	ret = page_open(&v->page, v->s, e);
	if (ret == 0)
		ret = make_unguarded(v->s, e);
	if (ret == 0)
		ret = run_sittings(v, sittings, ARRAY_LEN(sittings), e);
	if (ret == 0 && suite_wants(v->s, "H02"))
		page_attack(&v->page, v->s);
	if (ret == 0 && suite_wants(v->s, "H08"))
		ret = tamper_run(v->s, sittings[0].bottle.slug, e);
	return ret == 0 ? judge(v, e) : ret;
}

int supervise_run(struct suite *s, struct err *e)
{
	struct supervise v = {.s = s};
	int ret;

	if (!suite_wants_any(s, all_ids, ARRAY_LEN(all_ids) - 1))
		return 0;
	if (!has_git(s))
		suite_skip(s, "G08", "git", "this host has no git for the witness");
	look_init(&v.faces);
	ret = run_all(&v, e);
	scratch_end(&v.page.process);
	look_free(&v.faces);
	return ret;
}
