/*
 * Reads lines "REPO<tab>OPTIONS<tab>REF<tab>OLD<tab>NEW…" and answers each with what check_push()
 * found, one JSON object a line, then one with the figures and the first REF as it is shown. For
 * the tests that are written in Python; the bottle's secret, canary and placeholder that it looks
 * for are below.
 *
 * OPTIONS, separated by ";": workspace, identity=NAME <EMAIL>, object_max=BYTES, may_oversize,
 * allow=FINGERPRINT (several), objects_max=N, deadline_ms=N, git=PROGRAM.
 */
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timeutil.h"
#include "gitgate/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static const char secret[] = "Tr0ub4dor-and-3-horses-staple";
static const char canary[] = "canary-q8Zt5Lw2Nn7Rb4Xc";
static const char placeholder[] = "cb-placeholder-4f9d2b7a6c5e8031";

static void prints_set(struct scan_engine *en)
{
	struct scan_print_key key = {.multiplier = 0x9e3779b97f4a7c15, .mac_key = {7}};
	struct scan_print p[3];
	struct err e = ERR_INIT;

	if (scan_print_make(&p[0], &key, SCAN_KIND_SECRET, 0, str_of(secret), &e) < 0 ||
	    scan_print_make(&p[1], &key, SCAN_KIND_CANARY, 1, str_of(canary), &e) < 0 ||
	    scan_print_make(&p[2], &key, SCAN_KIND_PLACEHOLDER, 2, str_of(placeholder), &e) < 0 ||
	    scan_engine_set_prints(en, &key, p, 3, &e) < 0)
		die("%s", e.text);
}

static struct str cut(struct str *rest, char c)
{
	struct str head;
	bool found;

	*rest = str_cut(*rest, c, &head, &found);
	return head;
}

struct order {
	char *repo, *program;
	struct git_remote remote;
	struct git_policy policy;
	struct check_update updates[CHECK_UPDATES_MAX];
	size_t n_updates;
	uint64_t objects_max, deadline_ms;
};

static void option_read(struct order *o, struct str s)
{
	struct str name = cut(&s, '=');
	uint64_t n = 0;

	if (str_eq(name, STR_LIT("workspace"))) {
		o->remote.transport = GIT_TRANSPORT_WORKSPACE;
	} else if (str_eq(name, STR_LIT("identity"))) {
		struct str who = cut(&s, '<');

		o->policy.enforces_identity = true;
		o->policy.user_name = str_dup(str_trim(who));
		o->policy.user_email = str_dup(cut(&s, '>'));
	} else if (str_eq(name, STR_LIT("git"))) {
		o->program = str_dup(s);
	} else if (str_eq(name, STR_LIT("may_oversize"))) {
		o->remote.may_oversize = true;
	} else if (str_eq(name, STR_LIT("allow"))) {
		o->remote.allow = realloc(o->remote.allow,
					  (o->remote.n_allow + 1) * sizeof(*o->remote.allow));
		if (!o->remote.allow ||
		    !str_to_cstr(o->remote.allow[o->remote.n_allow++], GIT_FINGERPRINT_SIZE, s))
			die("bad fingerprint");
	} else if (str_to_u64(s, UINT64_MAX, &n) == 0) {
		if (str_eq(name, STR_LIT("object_max")))
			o->remote.object_max_bytes = n;
		else if (str_eq(name, STR_LIT("objects_max")))
			o->objects_max = n;
		else if (str_eq(name, STR_LIT("deadline_ms")))
			o->deadline_ms = n;
	} else if (name.n) {
		die("bad option");
	}
}

static void order_read(struct order *o, struct str line)
{
	struct str options;

	o->remote.transport = GIT_TRANSPORT_HTTPS;
	o->remote.path = (char *)(uintptr_t) "team/project.git";
	o->remote.object_max_bytes = GIT_OBJECT_MAX_BYTES;
	o->objects_max = CHECK_OBJECTS_MAX;
	o->deadline_ms = 600000;
	o->repo = str_dup(cut(&line, '\t'));
	options = cut(&line, '\t');
	while (options.n)
		option_read(o, cut(&options, ';'));
	while (line.n && o->n_updates < CHECK_UPDATES_MAX) {
		struct check_update *u = &o->updates[o->n_updates++];

		if (!str_to_cstr(u->ref, sizeof(u->ref), cut(&line, '\t')) ||
		    !str_to_cstr(u->old_oid, sizeof(u->old_oid), cut(&line, '\t')) ||
		    !str_to_cstr(u->new_oid, sizeof(u->new_oid), cut(&line, '\t')))
			die("bad update");
	}
}

static void order_free(struct order *o)
{
	free(o->repo);
	free(o->program);
	free(o->remote.allow);
	free(o->policy.user_name);
	free(o->policy.user_email);
}

static void print_str(const char *name, const char *value)
{
	struct buf b;

	buf_init(&b, 65536);
	if (text_json(&b, str_of(value)) < 0)
		die("too long");
	printf(",\"%s\":" STR_FMT, name, STR_ARG(buf_str(&b)));
	buf_free(&b);
}

static void report_print(const struct check_report *r)
{
	for (size_t i = 0; i < r->n_findings; i++) {
		const struct check_finding *f = &r->findings[i];

		printf("{\"line\":%llu", (unsigned long long)f->line);
		print_str("kind", check_kind_name(f->kind));
		print_str("rule", f->rule);
		print_str("commit", f->commit);
		print_str("path", f->path);
		print_str("what", f->what);
		print_str("fingerprint", f->fingerprint);
		print_str("decoders", f->decoders);
		printf("}\n");
	}
}

int main(void)
{
	static struct check_report report;
	struct scan_engine *en;
	struct err e = ERR_INIT;
	char *line = NULL;
	size_t size = 0;
	ssize_t n;

	if (scan_engine_new(&en, STR_NULL, &e) < 0)
		die("%s", e.text);
	prints_set(en);
	while ((n = getline(&line, &size, stdin)) > 0) {
		struct order *o = mem_zalloc(sizeof(*o));
		struct git_run_env env = {.repo = NULL};
		struct check_input in = {
			.policy = &o->policy, .remote = &o->remote, .git = &env, .engine = en};
		struct rusage use;
		char ref[300];
		int r;

		order_read(o, str_slice(line, (size_t)n - 1));
		env.repo = o->repo;
		env.program = o->program;
		in.updates = o->updates;
		in.n_updates = o->n_updates;
		in.objects_max = o->objects_max;
		in.deadline_ns = time_monotonic_ns() + o->deadline_ms * TIME_NS_PER_MS;
		e = ERR_INIT;
		r = check_push(&in, &report, &e);
		report_print(&report);
		(void)getrusage(RUSAGE_SELF, &use);
		printf("{\"end\":%d,\"more\":%zu,\"objects\":%llu,\"bytes\":%llu,\"us\":%llu,"
		       "\"rss_kib\":%ld",
		       r, report.n_more, (unsigned long long)report.n_objects,
		       (unsigned long long)report.n_bytes, (unsigned long long)report.duration_us,
		       use.ru_maxrss);
		print_str("error", r < 0 ? e.text : "");
		check_name_show(en, ref, sizeof(ref), str_of(o->updates[0].ref));
		print_str("ref", ref);
		printf("}\n");
		(void)fflush(stdout);
		order_free(o);
		free(o);
	}
	free(line);
	scan_engine_free(en);
	return 0;
}
