/*
 * Names that are meant to be taken for others. What is compared is what was registered, label by
 * label, as its skeleton: letters of other scripts, and digits, become the ASCII letter that they
 * look like (the idea is that of Unicode's UTS 39; the table is a small one of our own, of the
 * scripts that are used for it). Whoever owns the name that is looked like owns what lies below it,
 * so that hosts under one registered name are never alike.
 */
#include "requests/danger_int.h"

#include "base/clean.h"
#include "base/text.h"

#include <idn2.h>
#include <stdio.h>

#define LABEL_SIZE 64
/* Short names are near to too many others. */
#define NAME_MIN      4
#define DISTANCE_MIN  5 /* with the same ending */
#define DISTANCE_WIDE 7 /* with another one */

/* A run of code points; "?" looks like no letter. */
static const struct {
	uint32_t first;
	const char *looks;
} confusables[] = {
	{0xdf, "baaaaaaaceeeeiiiidnooooo?ouuuuypy"},
	{0x100, "aaaaaaccccccccdddeeeeeeeeeeegggggggghhhhiiiiiiiiiiiijjkkklllllll"},
	{0x140, "lllnnnnnnnnnoooooooorrrrrrsssssssstttttt"},
	{0x168, "uuuuuuuuuuuuwwyyyzzzzzzf"},
	{0x192, "f"},
	{0x1a1, "o"},
	{0x1b0, "u"},
	{0x251, "a"},
	{0x261, "g"},
	{0x269, "ii"},
	{0x26f, "m"},
	{0x28b, "u"},
	{0x3ac, "aeniuaby?e?n?ik?uv?onpcotu?x?wiuouw"},
	{0x3f2, "cj"},
	{0x430, "abbr?e?euuk?mhonpcty?xu?wwb?be?r"},
	{0x450, "eehresiij??hkuyu"},
	{0x461, "w"},
	{0x475, "vv"},
	{0x491, "r"},
	{0x493, "f"},
	{0x49b, "k"},
	{0x49d, "k"},
	{0x4a3, "h"},
	{0x4ab, "c"},
	{0x4ad, "t"},
	{0x4af, "yy"},
	{0x4b3, "x"},
	{0x4bb, "h"},
	{0x4cf, "l"},
	{0x4d1, "aaaae"},
	{0x501, "d"},
	{0x51b, "q"},
	{0x51d, "w"},
	{0x563, "q"},
	{0x570, "h"},
	{0x578, "n"},
	{0x57d, "u"},
	{0x585, "o"},
	{0x1e00, "aabbbbbbccddddddddddeeeeeeeeeeffgghhhhhhhhhhiiiikkkkkkllllllllmm"},
	{0x1e40, "mmmmnnnnnnnnoooooooopppprrrrrrrrssssssssssttttttttuuuuuuuuuuvvvv"},
	{0x1e80, "wwwwwwwwwwxxxxyyzzzzzzhtwyas????aaaaaaaaaaaaaaaaaaaaaaaaeeeeeeee"},
	{0x1ec0, "eeeeeeeeiiiioooooooooooooooooooooooouuuuuuuuuuuuuuyyyyyyyy"},
};

static char looks_like(uint32_t cp)
{
	if (cp < 0x80)
		return ascii_lower((char)cp);
	for (size_t i = 0; i < ARRAY_LEN(confusables); i++)
		if (cp >= confusables[i].first &&
		    cp - confusables[i].first < strlen(confusables[i].looks))
			return confusables[i].looks[cp - confusables[i].first];
	return '?';
}

/* Digits, and letters that many typefaces show alike. */
static char fold(char c)
{
	static const char digits[] = "olzeas?bbg"; /* 0 to 9 */

	if (ascii_is_digit(c))
		return digits[c - '0'];
	return c == 'i' ? 'l' : c;
}

/* The letters of a label, in UTF-8; what is no A-label as it is. */
static char *letters_of(struct str label)
{
	_cleanup_free_ char *plain = str_dup(label);
	char *wide = NULL;
	char *out;

	if (!str_starts(label, STR_LIT("xn--")) ||
	    idn2_to_unicode_8z8z(plain, &wide, IDN2_NONTRANSITIONAL) != IDN2_OK)
		return take_ptr(&plain);
	out = str_dup(str_of(wide));
	idn2_free(wide);
	return out;
}

/* Two that look like one: "rn", "vv", "cl". */
static char digraph(char a, char b)
{
	if (a == 'r' && b == 'n')
		return 'm';
	if (a == 'v' && b == 'v')
		return 'w';
	return a == 'c' && b == 'l' ? 'd' : 0;
}

static struct str skeleton(struct str label, char out[LABEL_SIZE])
{
	_cleanup_free_ char *letters = letters_of(label);
	struct str rest = str_of(letters);
	size_t n = 0;

	while (rest.n > 0 && n < LABEL_SIZE) {
		uint32_t cp;
		size_t used = text_utf8_next(rest, &cp);
		char c = fold(looks_like(used ? cp : 0xfffd));
		char both = n > 0 ? digraph(out[n - 1], c) : 0;

		if (both)
			out[n - 1] = both;
		else
			out[n++] = c;
		rest = str_sub(rest, used ? used : 1, rest.n);
	}
	return str_slice(out, n);
}

static struct str without_hyphens(struct str s, char out[LABEL_SIZE])
{
	size_t n = 0;

	for (size_t i = 0; i < s.n && n < LABEL_SIZE; i++)
		if (s.p[i] != '-')
			out[n++] = s.p[i];
	return str_slice(out, n);
}

/* --- scripts --- */

#define SCRIPT_LATIN	1u
#define SCRIPT_GREEK	2u
#define SCRIPT_CYRILLIC 4u

static unsigned script_of(uint32_t cp)
{
	if ((cp < 0x80 && ascii_is_alpha((char)cp)) || (cp >= 0xc0 && cp <= 0x2af) ||
	    (cp >= 0x1e00 && cp <= 0x1eff))
		return SCRIPT_LATIN;
	if ((cp >= 0x370 && cp <= 0x3ff) || (cp >= 0x1f00 && cp <= 0x1fff))
		return SCRIPT_GREEK;
	return cp >= 0x400 && cp <= 0x52f ? SCRIPT_CYRILLIC : 0;
}

static unsigned scripts_of(struct str label)
{
	_cleanup_free_ char *letters = letters_of(label);
	struct str rest = str_of(letters);
	unsigned scripts = 0;

	while (rest.n > 0) {
		uint32_t cp;
		size_t used = text_utf8_next(rest, &cp);

		scripts |= used ? script_of(cp) : 0;
		rest = str_sub(rest, used ? used : 1, rest.n);
	}
	return scripts;
}

const char *danger_scripts(struct str host)
{
	static const char *const texts[] = {
		[SCRIPT_GREEK] = "is written in Greek letters",
		[SCRIPT_CYRILLIC] = "is written in Cyrillic letters",
		[SCRIPT_LATIN | SCRIPT_GREEK] = "mixes Latin and Greek letters",
		[SCRIPT_LATIN | SCRIPT_CYRILLIC] = "mixes Latin and Cyrillic letters",
		[SCRIPT_GREEK | SCRIPT_CYRILLIC] = "mixes Greek and Cyrillic letters",
		[SCRIPT_LATIN | SCRIPT_GREEK | SCRIPT_CYRILLIC] =
			"mixes Latin, Greek and Cyrillic letters",
	};
	const char *found = NULL;
	bool more = true;

	while (more) {
		struct str label;
		const char *text;

		host = str_cut(host, '.', &label, &more);
		text = texts[scripts_of(label)];
		if (text && (!found || strncmp(text, "mixes", 5) == 0))
			found = text;
	}
	return found;
}

/* --- alike --- */

/* known, or known with hyphens for its dots, stands somewhere in host but not at its end. */
static bool carries(struct str host, struct str known)
{
	for (size_t at = 0; at + known.n < host.n; at++) {
		size_t k = 0;

		if (at > 0 && ascii_is_alnum(host.p[at - 1]))
			continue;
		while (k < known.n &&
		       (host.p[at + k] == known.p[k] ||
			(known.p[k] == '.' && (host.p[at + k] == '-' || host.p[at + k] == '.'))))
			k++;
		if (k == known.n && !ascii_is_alnum(host.p[at + k]))
			return true;
	}
	return false;
}

/* "github-login", "my-github": one of its words is the name. */
static bool has_word(struct str skeleton_, struct str known)
{
	bool more = true, first = true;

	while (more) {
		struct str word;

		skeleton_ = str_cut(skeleton_, '-', &word, &more);
		if ((!first || more) && str_eq(word, known))
			return true;
		first = false;
	}
	return false;
}

struct registered {
	struct str label, ending;
	struct str skeleton, bare; /* bare: its skeleton without hyphens */
	char skeleton_bytes[LABEL_SIZE], bare_bytes[LABEL_SIZE];
};

static void registered_of(struct registered *out, struct str registrable)
{
	bool more;

	out->ending = str_cut(registrable, '.', &out->label, &more);
	out->skeleton = skeleton(out->label, out->skeleton_bytes);
	out->bare = without_hyphens(out->skeleton, out->bare_bytes);
}

static const char *alike(const struct registered *h, const struct registered *k)
{
	bool same_ending = str_eq(h->ending, k->ending);
	size_t near_min = same_ending ? DISTANCE_MIN : DISTANCE_WIDE;

	if (k->label.n < NAME_MIN)
		return str_eq(h->skeleton, k->skeleton) && same_ending
			       ? "it is written with letters that look like that one's"
			       : NULL;
	if (str_eq(h->label, k->label))
		return "it has another ending";
	if (str_eq(h->skeleton, k->skeleton))
		return "it is written with letters that look like that one's";
	if (str_eq(h->bare, k->bare))
		return "it differs in a hyphen";
	if (k->label.n >= DISTANCE_MIN && has_word(h->skeleton, k->skeleton))
		return "it puts that name beside other words";
	if (k->label.n >= near_min && text_distance(h->skeleton, k->skeleton) <= 1)
		return "it differs in one letter";
	return NULL;
}

const char *danger_alike(struct str host, struct str known)
{
	struct str hr = danger_registrable(host), kr = danger_registrable(known);
	struct registered h, k;

	if (str_eq(hr, kr) || str_chr(kr, '.') == kr.n)
		return NULL;
	if (kr.n > NAME_MIN && carries(host, kr))
		return "it carries that whole name, but ends in another";
	registered_of(&h, hr);
	registered_of(&k, kr);
	return alike(&h, &k);
}

/* Registered labels and the endings under which they are the ones that are meant. */
static const struct {
	const char *label, *endings;
} developer_names[] = {
	{"anthropic", "com"},
	{"apache", "org"},
	{"archlinux", "org"},
	{"atlassian", "com net"},
	{"azure", "com"},
	{"bitbucket", "org"},
	{"claude", "ai com"},
	{"cloudflare", "com"},
	{"codeberg", "org"},
	{"crates", "io"},
	{"debian", "org net"},
	{"docker", "com io"},
	{"dockerhub", "com"},
	{"fedoraproject", "org"},
	{"freedesktop", "org"},
	{"gitea", "com io"},
	{"github", "com io dev"},
	{"githubassets", "com"},
	{"githubusercontent", "com"},
	{"gitlab", "com io net"},
	{"gnome", "org"},
	{"golang", "org"},
	{"google", "com"},
	{"googleapis", "com"},
	{"gradle", "org com"},
	{"gstatic", "com"},
	{"hashicorp", "com"},
	{"huggingface", "co"},
	{"jetbrains", "com"},
	{"jsdelivr", "net com"},
	{"kernel", "org"},
	{"kubernetes", "io"},
	{"launchpad", "net"},
	{"microsoft", "com"},
	{"mozilla", "org com net"},
	{"mozaws", "net"},
	{"netlify", "com app"},
	{"nodejs", "org"},
	{"nodesource", "com"},
	{"npmjs", "org com"},
	{"nuget", "org"},
	{"openai", "com"},
	{"packagist", "org com"},
	{"pypi", "org"},
	{"python", "org"},
	{"pythonhosted", "org"},
	{"pytorch", "org"},
	{"readthedocs", "io org"},
	{"rubygems", "org"},
	{"rustup", "rs"},
	{"rust-lang", "org"},
	{"sentry", "io"},
	{"sourceforge", "net"},
	{"stackoverflow", "com"},
	{"stackexchange", "com"},
	{"tensorflow", "org"},
	{"ubuntu", "com"},
	{"unpkg", "com"},
	{"vercel", "com app"},
	{"visualstudio", "com"},
	{"wikipedia", "org"},
	{"yarnpkg", "com"},
};

static bool is_one_of(struct str word, const char *words)
{
	struct str rest = str_of(words), one;
	bool more = true;

	while (more) {
		rest = str_cut(rest, ' ', &one, &more);
		if (str_eq(one, word))
			return true;
	}
	return false;
}

/* "github" "com": the first of the endings. */
static struct str known_name(size_t i, char out[POLICY_HOST_MAX + 1])
{
	struct str ending;
	bool more;

	(void)str_cut(str_of(developer_names[i].endings), ' ', &ending, &more);
	(void)snprintf(out, POLICY_HOST_MAX + 1, "%s." STR_FMT, developer_names[i].label,
		       STR_ARG(ending));
	return str_of(out);
}

const char *danger_alike_known(struct str host, char known[POLICY_HOST_MAX + 1])
{
	struct registered h;

	registered_of(&h, danger_registrable(host));
	for (size_t i = 0; i < ARRAY_LEN(developer_names); i++)
		if (str_eq(h.label, str_of(developer_names[i].label)) &&
		    is_one_of(h.ending, developer_names[i].endings))
			return NULL;
	for (size_t i = 0; i < ARRAY_LEN(developer_names); i++) {
		const char *how = danger_alike(host, known_name(i, known));

		if (how)
			return how;
	}
	known[0] = '\0';
	return NULL;
}
