/* Upstreams in every spelling, and the host keys that pin them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "conf/git_policy.h"

#include <string.h>

#define ED25519 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMmU8yM+uuBXAyfm3ocI9cptRnR8lyOdEZ3jfSEhHDZt"
#define P256                                                                                       \
	"ecdsa-sha2-nistp256 "                                                                     \
	"AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBCnSB6Fbn3Pu+HPaUOYBaHs6Iul+"         \
	"2G3qnjBydIgPsv0QF8W4ZCjEeJ50n8z8FsKlgyNNaoP+DpoZgyfOfBkQnoI="
#define P384                                                                                       \
	"ecdsa-sha2-nistp384 "                                                                     \
	"AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBIkWzHR2JQ9EmCPEpH8658qU8hH464W4HsHK" \
	"4pTo/"                                                                                    \
	"YAZNJvNEeWSqbegK3cTMO+"                                                                   \
	"tYObFD5LYeH7bGZ3NkVirAQvXAJahtul5aCo9A0Kw7gX8HJCILDTOxfyHsz9LeokaSw=="
#define P521                                                                                       \
	"ecdsa-sha2-nistp521 "                                                                     \
	"AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAHmWUZPHhhmD9g9gJTMNoRklBsCDx/"      \
	"LGOHGLYShNOm3bOrteJ9+HYHZWz3OAAr3UH3JehKmuDxFVZT+"                                        \
	"czsWDQt6GQBO9AgG4EgcP3UyrAuyCu0yaRXUAa4CaKT9xpkOCSeJAIfy2h69pj1RULaUXL9y/"                \
	"EPwK8wyDXV5tjux/fykjlE5tg=="
#define RSA2048                                                                                    \
	"ssh-rsa "                                                                                 \
	"AAAAB3NzaC1yc2EAAAADAQABAAABAQCgZelbwX/"                                                  \
	"uue7OZY+fSHmRW2zPkiytoylAx85GPecszhiS0ahycyNspoorvOqV14f4/oN/"                            \
	"rTUvtoiNr1CV6j3P+4WBi3+O8Us+advG0Prf0eBH/YUR1+Iu65DX1NHGqalQeIRd/"                        \
	"N3PJ78vFgXZhLkOagpfCD8yRfkQ3VbtwQEvko93J/7FhqFoH0fd2Aa6ZQwBhRdg8N47Jtb6pGX5Ffof/"         \
	"xwphhlIqywRkAQAZjDlY9r8/"                                                                 \
	"D38SN5dtf4+REDjHCgBdswkHY+25JOA6dypOEFk9jYMxXbhiV91vXx6V3wHDtXJUGWq1sQEvq1J4gyl/"         \
	"yjyQPsKsE7slCl9q8zmcts3"
#define RSA1024                                                                                    \
	"ssh-rsa "                                                                                 \
	"AAAAB3NzaC1yc2EAAAADAQABAAAAgQDNiZia18cq4A98uf3z/0Kmpjf1FT6IfZZn3xmBi/"                   \
	"4S0TQiwTRguj8MJgzjwHXgjGcsIor27jKXqiVDq0xHk/"                                             \
	"pAEbXvQ1aukSb1OBZ2iooB938j4CMYarCHyp8NhHnz5gsodVfPFj5ZwycUmcR4ezw8W7JNL4RAFHb2/"          \
	"irk7vzAfQ=="
#define DSA                                                                                        \
	"ssh-dss "                                                                                 \
	"AAAAB3NzaC1kc3MAAACBALFcbrIXMv7T9602HqP6YhpP3ebSqz7zOPi04/"                               \
	"ZymzTBSFgcmiFWjJ9hUtTvsolQkjagYz4tCMLsLPeT0ikg+78tOSe/g85m8ITS589u/"                      \
	"iOyj+ot7U0RA5fKVIQVaxIZMsCixOjG4/YcQYdwPhq0r74M/Mcq72h2v5xF1LxILdybAAAAFQC5/"             \
	"0hNsRfgAV5TeWsZ7Q1jvda9LwAAAIEAifDylWm+pnKjKFyal2zKXj8Qd1q43UA3tNN/"                      \
	"ihoMTRdBi+uMgmm1oGmMEpRE0gPBPhFCtARGv/paCEAHm9tZ+A4TmO68m/"                               \
	"++InREymC18U5MKVJb1BvmM5WInyr1RGiWAlJB3JKm25+3j5/GWXsRjIDpYgqAze9SOIGuxWuyUJYAAACBAIxs/"  \
	"hUnZ6QpAfXQR0/1tqG8/F8rhj5IlsSOrhRTRJici+5dH/"                                            \
	"aIz9gT9xiOxvHWlqpkzP7ni0t2g3OYfkKaGQQK68LQsLHrpdJ9aKEAZa0EkeWNgdrXgwTF9ir0TZ2jujcQpGWAU2" \
	"cwx3Oe6G8BrXv8HLcx0Jpbc6s9pjOLFW9p"

static void remote_drop(struct git_remote *r)
{
	free(r->host);
	free(r->user);
	free(r->path);
	*r = (struct git_remote){0};
}

static void test_taken(void **state)
{
	static const struct {
		const char *text;
		enum git_transport transport;
		const char *user, *host;
		unsigned port;
		const char *path, *gate;
	} rows[] = {
		{"https://github.com/org/repo.git", GIT_TRANSPORT_HTTPS, NULL, "github.com", 443,
		 "/org/repo.git", "/github.com/org/repo"},
		{"https://GitHub.com/Org/Repo", GIT_TRANSPORT_HTTPS, NULL, "github.com", 443,
		 "/Org/Repo", "/github.com/Org/Repo"},
		{"https://me@git.example:8443/a/b/c", GIT_TRANSPORT_HTTPS, "me", "git.example",
		 8443, "/a/b/c", "/git.example/a/b/c"},
		{"https://git.example./a", GIT_TRANSPORT_HTTPS, NULL, "git.example", 443, "/a",
		 "/git.example/a"},
		{"https://git.sr.ht/~who/what", GIT_TRANSPORT_HTTPS, NULL, "git.sr.ht", 443,
		 "/~who/what", "/git.sr.ht/~who/what"},
		{"ssh://git@git.example/org/repo.git", GIT_TRANSPORT_SSH, "git", "git.example", 22,
		 "/org/repo.git", "/git.example/org/repo"},
		{"ssh://git.example:2222/srv/repo", GIT_TRANSPORT_SSH, "git", "git.example", 2222,
		 "/srv/repo", "/git.example/srv/repo"},
		{"git@github.com:org/repo.git", GIT_TRANSPORT_SSH, "git", "github.com", 22,
		 "org/repo.git", "/github.com/org/repo"},
		{"me@host.example:/srv/repo.git", GIT_TRANSPORT_SSH, "me", "host.example", 22,
		 "/srv/repo.git", "/host.example/srv/repo"},
		{"host.example:repo", GIT_TRANSPORT_SSH, "git", "host.example", 22, "repo",
		 "/host.example/repo"},
		{"git@host.example:a.git/b+c@d_e", GIT_TRANSPORT_SSH, "git", "host.example", 22,
		 "a.git/b+c@d_e", "/host.example/a.git/b+c@d_e"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_(remote_drop) struct git_remote r = {0};
		char gate[GIT_GATE_PATH_SIZE];
		struct err e = ERR_INIT;

		if (git_upstream_parse(str_of(rows[i].text), &r, &e) < 0)
			fail_msg("%s: %s", rows[i].text, e.text);
		assert_int_equal(r.transport, rows[i].transport);
		assert_string_equal(r.host, rows[i].host);
		assert_int_equal(r.port, rows[i].port);
		assert_string_equal(r.path, rows[i].path);
		if (rows[i].user)
			assert_string_equal(r.user, rows[i].user);
		else
			assert_null(r.user);
		git_gate_path(&r, gate);
		assert_string_equal(gate, rows[i].gate);
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
		{"", "1 to"},
		{"http://github.com/a/b", "in clear"},
		{"git://github.com/a/b", "in clear"},
		{"HTTPS://github.com/a/b", "scheme"},
		{"ftp://github.com/a/b", "scheme"},
		{"file:///srv/repo", "scheme"},
		{"git+ssh://github.com/a/b", "scheme"},
		{"ext::sh -c id", "no address"},
		{"https::https://github.com/a", "no address"},
		{"fd::17", "no address"},
		{"-oProxyCommand=id:a/b", "no address"},
		{"ssh://-oProxyCommand=id/a", "host"},
		{"ssh://-l@host.example/a", "not begin"},
		{"git@-host.example:a", "host"},
		{"/srv/repo", "path on this host"},
		{"../repo", "path on this host"},
		{"repo", "path on this host"},
		{"./a:b", "path on this host"},
		{"~/repo", "path on this host"},
		{"https://github.com", "no path"},
		{"https://github.com/", "no path"},
		{"https://github.com//a", "empty part"},
		{"https://github.com/a/", "empty part"},
		{"https://github.com/a//b", "empty part"},
		{"https://github.com/../a", "\"..\""},
		{"https://github.com/a/./b", "\"..\""},
		{"https://github.com/a/..", "\"..\""},
		{"https://github.com/a/-b", "begins with \"-\""},
		{"git@host.example:-a", "begins with \"-\""},
		{"https://github.com/a?b=c", "character"},
		{"https://github.com/a#b", "character"},
		{"https://github.com/a%2fb", "character"},
		{"https://github.com/a b", "character"},
		{"https://github.com/a\\b", "character"},
		{"https://github.com/a'b", "character"},
		{"https://github.com/grün", "character"},
		{"git@host.example:a;id", "character"},
		{"git@host.example:$(id)", "character"},
		{"git@host.example:~me/a", "\"~\""},
		{"ssh://host.example/~me/a", "\"~\""},
		{"https://github.com/.git", "\".git\""},
		{"https://github.com/a/.git", "\".git\""},
		{"https://github.com/a.git.git", "\".git\""},
		{"https://me:secret@github.com/a", "password"},
		{"https://a@b@github.com/a", "password"},
		{"ssh://git:secret@github.com/a", "password"},
		{"https://@github.com/a", "1 to"},
		{"https://a!b@github.com/a", "letters"},
		{"https://github.com:0/a", "port"},
		{"https://github.com:65536/a", "port"},
		{"https://github.com:/a", "port"},
		{"https://github.com:80/a", "clear"},
		{"https://127.0.0.1/a", "address"},
		{"https://2130706433/a", "address"},
		{"ssh://[::1]/a", "no address"},
		{"https://*.github.com/a", "exact host"},
		{"https://gith\u00fcb.com/a", "ASCII"},
		{"https://workspace/a", "workspace"},
		{"workspace:a", "workspace"},
		{"https:///a", "empty"},
	};
	char longest[GIT_PATH_MAX + 64] = "https://a.example/";

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct git_remote r = {0};
		struct err e = ERR_INIT;

		if (git_upstream_parse(str_of(rows[i].text), &r, &e) == 0)
			fail_msg("taken: %s", rows[i].text);
		if (!strstr(e.text, rows[i].why))
			fail_msg("%s: \"%s\" does not say \"%s\"", rows[i].text, e.text,
				 rows[i].why);
		assert_null(strstr(e.text, "secret@"));
		assert_null(r.host);
		assert_null(r.user);
		assert_null(r.path);
	}
	memset(longest + 18, 'a', sizeof(longest) - 18);
	assert_int_not_equal(git_upstream_parse(str_slice(longest, 17 + GIT_PATH_MAX + 1),
						&(struct git_remote){0}, NULL),
			     0);
	assert_int_not_equal(git_upstream_parse(str_slice("https://a.example/a\0b", 21),
						&(struct git_remote){0}, NULL),
			     0);
}

static void test_host_key(void **state)
{
	static const char *const good[] = {ED25519, P256, P384, P521, RSA2048};
	static const struct {
		const char *text, *why;
	} bad[] = {
		{"", "TYPE BASE64"},
		{"ssh-ed25519", "TYPE BASE64"},
		{"ssh-ed25519 ", "TYPE BASE64"},
		{ED25519 " me@here", "TYPE BASE64"},
		{"github.com " ED25519, "TYPE BASE64"},
		{"ssh-ed25519  AAAA", "TYPE BASE64"},
		{DSA, "type"},
		{"ssh-ed25519-cert-v01@openssh.com AAAA", "type"},
		{RSA1024, "2048"},
		{"ssh-ed25519 AAAA", "damaged"},
		{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==", "damaged"},
		{"ssh-ed25519 !!!!", "damaged"},
	};
	char text[1024];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct err e = ERR_INIT;
		size_t n = strlen(good[i]);

		if (git_host_key_check(str_of(good[i]), &e) < 0)
			fail_msg("%.40s: %s", good[i], e.text);
		/* Every shorter text, and one more group, is damaged. */
		for (size_t k = 0; k < n; k++)
			assert_int_not_equal(git_host_key_check(str_slice(good[i], k), NULL), 0);
		assert_true(n + 4 < sizeof(text));
		memcpy(text, good[i], n);
		memcpy(text + n, "AAAA", 4);
		assert_int_not_equal(git_host_key_check(str_slice(text, n + 4), NULL), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = ERR_INIT;

		if (git_host_key_check(str_of(bad[i].text), &e) == 0)
			fail_msg("taken: %s", bad[i].text);
		if (!strstr(e.text, bad[i].why))
			fail_msg("%s: \"%s\"", bad[i].text, e.text);
	}
	/* One key under another's name. */
	(void)memcpy(text, "ssh-rsa ", 8);
	(void)memcpy(text + 8, &ED25519[12], sizeof(ED25519) - 12);
	assert_int_not_equal(git_host_key_check(str_of(text), NULL), 0);
	(void)memcpy(text, P256, sizeof(P256));
	text[16] = '3';
	text[17] = '8';
	text[18] = '4';
	assert_int_not_equal(git_host_key_check(str_of(text), NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taken),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_host_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
