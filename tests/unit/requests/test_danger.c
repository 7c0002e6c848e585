/* What each rule finds, and what it leaves alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/text.h"
#include "requests/danger_int.h"
#include "world.h"

#include <stdio.h>

#define GET  (1u << POLICY_METHOD_GET)
#define POST (1u << POLICY_METHOD_POST)

/* A bottle with a credential for one API and one git remote, and a plain route. */
static struct policy_route routes[] = {
	{.host = (char *)"api.bound.example",
	 .ports = {443, 8443},
	 .n_ports = 2,
	 .methods = GET,
	 .auth = {.scheme = POLICY_AUTH_BEARER}},
	{.host = (char *)"files.plain.example", .ports = {443}, .n_ports = 1, .methods = GET},
};
static struct git_remote remotes[] = {
	{.name = (char *)"origin",
	 .transport = GIT_TRANSPORT_SSH,
	 .host = (char *)"git.forge.example",
	 .port = 22,
	 .has_credential = true},
	{.name = (char *)"workspace",
	 .transport = GIT_TRANSPORT_WORKSPACE,
	 .host = (char *)"workspace"},
};
static const struct policy bound = {.routes = routes, .n_routes = ARRAY_LEN(routes)};
static const struct policy plain = {.routes = routes + 1, .n_routes = 1};
static const struct git_policy git = {.remotes = remotes, .n_remotes = ARRAY_LEN(remotes)};
static const struct danger_context with_credential = {.policy = &bound, .git = &git};
static const struct danger_context without = {.policy = &plain};

static void judge(struct danger *d, const char *host, uint32_t methods, uint16_t port,
		  const struct danger_context *ctx)
{
	/* By hand: some of these hosts no change would have. */
	struct change c = {
		.kind = ASK_EGRESS,
		.route = {.host = (char *)host, .ports = {port}, .n_ports = 1, .methods = methods}};

	danger_judge(d, &c, ctx);
}

static const struct danger_finding *finding(const struct danger *d, enum danger_rule rule)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->findings[i].rule == rule)
			return &d->findings[i];
	return NULL;
}

static void show(const char *host, const struct danger *d)
{
	print_error("%s\n", host);
	for (size_t i = 0; i < d->n; i++)
		print_error("  %s %s: %s\n", danger_level_name(d->findings[i].level),
			    danger_rule_name(d->findings[i].rule), d->findings[i].text);
}

/* Each of these hosts, with these methods on 443, has the finding or has it not. */
static void expect(enum danger_rule rule, bool wanted, uint32_t methods,
		   const struct danger_context *ctx, const char *hosts)
{
	struct str rest = str_of(hosts);
	bool more = true;

	while (more) {
		char host[POLICY_HOST_MAX + 3];
		struct danger d;
		struct str one;

		rest = str_cut(rest, ' ', &one, &more);
		assert_true(str_to_cstr(host, sizeof(host), one));
		judge(&d, host, methods, 443, ctx);
		if ((finding(&d, rule) != NULL) != wanted)
			show(host, &d);
		assert_int_equal(finding(&d, rule) != NULL, wanted);
	}
}

static void test_inside(void **state)
{
	(void)state;
	expect(DANGER_INSIDE_RULE, true, GET, &without,
	       "localhost a.localhost printer.local db.internal nas.lan router.home.arpa wiki "
	       "metadata.google.internal metadata.goog x.metadata.azure.com 10.0.0.1.nip.io "
	       "app.192-168-1-1.sslip.io x.xip.io lvh.me localtest.me 7f000001.c0a80001.rbndr.us "
	       "ip-10-0-0-7.ec2.example.com 127.0.0.1.example.com a-192-168-1-9.example.com "
	       "169-254-169-254.example.org kubernetes.default.svc.cluster.local git-gate "
	       "host.docker.internal 4.3.2.10.in-addr.arpa fritz.box *.internal *.nip.io");
	expect(DANGER_INSIDE_RULE, false, GET, &without,
	       "example.com api.example.com local.example.com internal.example.com "
	       "54-12-3-4.example.com v1-2-3-4.example.com 310-0-0-1.example.com "
	       "10-0-0.example.com lan.example localhost.example.com nip.io.example.com");
}

static void test_public_suffix(void **state)
{
	(void)state;
	expect(DANGER_PUBLIC_SUFFIX_RULE, true, GET, &without,
	       "*.com *.co.uk *.github.io *.kawasaki.jp *.s3.amazonaws.com *.amazonaws.com "
	       "*.vercel.app *.blob.core.windows.net *.nosuchtld *.googleapis.com");
	expect(DANGER_PUBLIC_SUFFIX_RULE, false, GET, &without,
	       "*.example.com example.com github.io *.somebody.github.io *.bucket.s3.amazonaws.com "
	       "*.city.kawasaki.jp");
	expect(DANGER_WILDCARD_RULE, true, GET, &without, "*.example.com *.com");
	expect(DANGER_WILDCARD_RULE, false, GET, &without, "example.com");
}

static void test_credentials(void **state)
{
	struct danger d;

	(void)state;
	expect(DANGER_CREDENTIAL_REACH_RULE, true, GET, &with_credential,
	       "api.bound.example *.bound.example git.forge.example *.forge.example");
	expect(DANGER_CREDENTIAL_REACH_RULE, false, GET, &with_credential,
	       "bound.example other.bound.example *.api.bound.example files.plain.example "
	       "workspace.example forge.example");
	expect(DANGER_CREDENTIAL_REACH_RULE, false, GET, &without, "api.bound.example");
	expect(DANGER_CREDENTIAL_NEAR_RULE, true, GET, &with_credential,
	       "bound.example other.bound.example forge.example www.forge.example");
	expect(DANGER_CREDENTIAL_NEAR_RULE, false, GET, &with_credential, "other.example");
	/* What was read with a credential could be written anywhere. */
	expect(DANGER_CREDENTIAL_NEAR_RULE, true, POST, &with_credential, "other.example");
	expect(DANGER_CREDENTIAL_NEAR_RULE, false, POST, &without, "other.example");
	/* Another port of the host is not what the credential is bound to. */
	judge(&d, "api.bound.example", GET, 9000, &with_credential);
	assert_null(finding(&d, DANGER_CREDENTIAL_REACH_RULE));
	assert_non_null(finding(&d, DANGER_CREDENTIAL_NEAR_RULE));
	/* Of a remote's host every port is around git-gate. */
	judge(&d, "git.forge.example", GET, 9000, &with_credential);
	assert_non_null(danger_forbids(&d));
	assert_non_null(strstr(danger_forbids(&d)->text, "git-gate"));
}

static void test_uploads(void **state)
{
	(void)state;
	expect(DANGER_UPLOAD_RULE, true, POST, &without,
	       "pastebin.com gist.github.com transfer.sh bucket.s3.eu-west-1.amazonaws.com "
	       "s3-us-west-2.amazonaws.com x.blob.core.windows.net storage.googleapis.com "
	       "discord.com hooks.slack.com api.telegram.org webhook.site api.sendgrid.com "
	       "somebody.vercel.app registry.example.org upload.example.org ipfs.io "
	       "*.googleapis.com a.ngrok-free.app");
	/* These take something in an address alone. */
	expect(DANGER_UPLOAD_RULE, true, GET, &without,
	       "webhook.site x.oast.fun a.trycloudflare.com dns.google cloudflare-dns.com "
	       "doh.example.org translate.google.com example-com.translate.goog web.archive.org "
	       "r.jina.ai api.telegram.org hooks.slack.com bafy.ipfs.dweb.link "
	       "www.google-analytics.com");
	expect(DANGER_UPLOAD_RULE, false, GET, &without,
	       "pastebin.com gist.github.com bucket.s3.amazonaws.com storage.googleapis.com "
	       "registry.example.org somebody.github.io docs.example.com docker.io");
	expect(DANGER_UPLOAD_RULE, false, POST, &without,
	       "api.example.com mypastebin.com pastebin.com.example uploader.example.com "
	       "uploads");
}

static void test_alike(void **state)
{
	(void)state;
	expect(DANGER_LOOKALIKE_RULE, true, GET, &without,
	       "githud.com g1thub.com gitlub.com github.co git-hub.com github-login.com "
	       "api-github.com github.com.evil.example github-com.evil.example "
	       /* A Cyrillic letter each. */
	       "xn--gthub-n2e.com xn--plin-63d.example pla1n.example plain.test "
	       "plaim.example my-plain.example pyp1.org rnicrosoft.com goog1e.com "
	       "vvikipedia.org files.plain.example.evil.test");
	expect(DANGER_LOOKALIKE_RULE, false, GET, &without,
	       "github.com api.github.com github.io plain.example other.plain.example "
	       "example.com debian.net pypi.org python.org cdn.example.net go.dev bun.sh");
}

static void test_letters_and_ports(void **state)
{
	struct danger d;

	(void)state;
	expect(DANGER_PUNYCODE_RULE, true, GET, &without, "xn--bcher-kva.example a.xn--p1ai");
	expect(DANGER_PUNYCODE_RULE, false, GET, &without, "buecher.example axn--b.example");
	judge(&d, "xn--plin-63d.example", GET, 443, &without);
	assert_non_null(
		strstr(finding(&d, DANGER_PUNYCODE_RULE)->text, "mixes Latin and Cyrillic"));
	judge(&d, "a.example.com", GET, 80, &without);
	assert_non_null(finding(&d, DANGER_PLAIN_HTTP_RULE));
	assert_null(finding(&d, DANGER_ODD_PORT_RULE));
	judge(&d, "a.example.com", GET, 8443, &without);
	assert_null(finding(&d, DANGER_PLAIN_HTTP_RULE));
	assert_non_null(strstr(finding(&d, DANGER_ODD_PORT_RULE)->text, "8443"));
	judge(&d, "a.example.com", GET, 443, &without);
	assert_int_equal(d.n, 0);
	judge(&d, "a.example.com", GET | POST | 1u << POLICY_METHOD_DELETE, 443, &without);
	assert_int_equal(d.n, 1);
	assert_string_equal(d.findings[0].text, "POST, DELETE can send what the bottle has read, "
						"and change things there.");
}

/* The worst first, and the same each time; all of it comes back from its JSON. */
static void test_order_and_json(void **state)
{
	static const char *const strange[] = {
		"[{\"rule\":\"other\",\"level\":\"note\",\"text\":\"\"}]",
		"[{\"rule\":\"writes\",\"level\":\"other\",\"text\":\"\"}]",
		"[{\"rule\":\"writes\",\"text\":\"\"}]",
	};
	struct danger_context ctx = with_credential;
	_cleanup_(buf_free) struct buf json = BUF_INIT(CHANGE_JSON_MAX_BYTES);
	_cleanup_(buf_free) struct buf again = BUF_INIT(CHANGE_JSON_MAX_BYTES);
	struct danger d, e;
	struct err why = ERR_INIT;

	(void)state;
	ctx.canary_seen = true;
	judge(&d, "*.xn--bcher-kva.localhost", GET | POST, 80, &ctx);
	assert_true(d.n >= 6);
	assert_int_equal(d.findings[0].level, DANGER_NEVER);
	for (size_t i = 1; i < d.n; i++)
		assert_true(d.findings[i - 1].level > d.findings[i].level ||
			    (d.findings[i - 1].level == d.findings[i].level &&
			     d.findings[i - 1].rule < d.findings[i].rule));
	assert_int_equal(danger_to_json(&d, &json), 0);
	assert_int_equal(danger_from_json(&e, buf_str(&json), &why), 0);
	assert_int_equal(danger_to_json(&e, &again), 0);
	assert_true(str_eq(buf_str(&json), buf_str(&again)));
	assert_int_equal(e.findings[0].level, DANGER_NEVER);
	/* As it was found, whatever the rule says by now. */
	assert_int_equal(danger_from_json(&e,
					  STR_LIT("[{\"rule\":\"writes\",\"level\":\"warning\","
						  "\"text\":\"\"}]"),
					  &why),
			 0);
	assert_int_equal(e.findings[0].level, DANGER_WARN);
	for (size_t i = 0; i < ARRAY_LEN(strange); i++)
		assert_true(danger_from_json(&e, str_of(strange[i]), NULL) < 0);
	assert_true(danger_from_json(&e, STR_LIT("{}"), NULL) < 0);
}

static void test_release_and_push(void **state)
{
	struct danger d;
	struct change c = {.kind = ASK_PUSH,
			   .remote = "origin",
			   .ref = "refs/heads/x",
			   .new_oid = "0000000000000000000000000000000000000000",
			   .shown = "src/a\\\\nb\\n.github/workflows/ci.yml\\nMakefile\\n"};

	(void)state;
	danger_judge(&d, &c, &without);
	assert_string_equal(finding(&d, DANGER_RUNS_ON_HOST_RULE)->text,
			    "It changes \".github/workflows/ci.yml\": a CI workflow, and 2 more.");
	assert_non_null(finding(&d, DANGER_WRITES_RULE));
	memset(c.shown, 0, sizeof(c.shown));
	memset(c.new_oid, 'a', 40);
	danger_judge(&d, &c, &without);
	assert_int_equal(d.n, 0);

	world_release(&c, 1);
	danger_judge(&d, &c, &without);
	assert_string_equal(finding(&d, DANGER_DLP_RULE)->text,
			    "The scanner found aws-key in the body of what would be sent.");
	assert_null(danger_forbids(&d));
	memcpy(c.rule, "canary", 7);
	danger_judge(&d, &c, &without);
	assert_non_null(finding(&d, DANGER_CANARY_RULE));
	change_free(&c);
}

/* Whatever the host is made of, there is an answer, and it can be shown and written down. */
static void test_random_hosts(void **state)
{
	static const char *const labels[] = {"xn--",   "xn--80ak6aa92e", "10",	"0",  "github",
					     "com",    "example",	 "-a-", "s3", "nip",
					     "io",     "localhost",	 "co",	"uk", "xn--a-ecp",
					     "1-2-3-4"};

	(void)state;
	(void)world_seed();
	for (int i = 0; i < 3000; i++) {
		_cleanup_(buf_free) struct buf json = BUF_INIT(CHANGE_JSON_MAX_BYTES);
		char host[POLICY_HOST_MAX + 3];
		size_t n = 0;
		struct danger d;

		if (world_random(3) == 0)
			n += (size_t)snprintf(host, sizeof(host), "*.");
		for (size_t k = 1 + world_random(6); k > 0; k--)
			n += (size_t)snprintf(host + n, sizeof(host) - n, "%s%s",
					      labels[world_random(ARRAY_LEN(labels))],
					      k > 1 ? "." : "");
		judge(&d, host, world_random(128), (uint16_t)(1 + world_random(65535)),
		      world_random(2) ? &with_credential : &without);
		assert_int_equal(danger_to_json(&d, &json), 0);
		assert_false(text_has_deceptive(buf_str(&json)));
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inside),	       cmocka_unit_test(test_public_suffix),
		cmocka_unit_test(test_credentials),    cmocka_unit_test(test_uploads),
		cmocka_unit_test(test_alike),	       cmocka_unit_test(test_letters_and_ports),
		cmocka_unit_test(test_order_and_json), cmocka_unit_test(test_release_and_push),
		cmocka_unit_test(test_random_hosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
