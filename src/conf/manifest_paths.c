/* The keys that name files of the host: what the agent may see, what its root is made from, and
 * whom egress may trust. */
#include "conf/manifest.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#define TAR_END ".tar"

/* Never shown, and neither anything inside: secrets, the host's own settings and its sockets (a
 * read-only mount does not keep anybody from connecting to a socket). "~/" is the user's home. */
static const char *const hidden_whole[] = {
	"/etc",
	"/proc",
	"/sys",
	"/dev",
	"/run",
	"/var/run",
	"/boot",
	"/root/.ssh",
	"~/.ssh",
	"~/.claude-bottle",
	"~/.gnupg",
	"~/.aws",
	"~/.azure",
	"~/.kube",
	"~/.docker",
	"~/.netrc",
	"~/.config/gh",
	"~/.config/gcloud",
	"~/.claude",
	"~/.password-store",
	"~/.mozilla",
	"~/.local/share/keyrings",
	"~/.local/state/claude-bottle",
	"/tmp/.X11-unix",
	"/var/lib/docker",
};
/* Not shown themselves, but a folder inside may be. */
static const char *const hidden_top[] = {"/", "/home", "/root", "/tmp", "/var/tmp", "~"};

/* True if path is dir or lies inside it. */
static bool is_within(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	if (strcmp(dir, "/") == 0)
		return true;
	return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static char *expand_home(const char *name, const char *home)
{
	return name[0] == '~' ? mem_printf("%s%s", home, name + 1) : mem_strdup(name);
}

/* The hidden place that showing this path would show, or NULL. The caller frees. */
static char *find_hidden(const char *path, const char *home)
{
	for (size_t i = 0; i < ARRAY_LEN(hidden_whole); i++) {
		_cleanup_free_ char *dir = expand_home(hidden_whole[i], home);

		if (is_within(path, dir) || is_within(dir, path))
			return take_ptr(&dir);
	}
	for (size_t i = 0; i < ARRAY_LEN(hidden_top); i++) {
		_cleanup_free_ char *dir = expand_home(hidden_top[i], home);

		if (is_within(dir, path))
			return take_ptr(&dir);
	}
	return NULL;
}

int manifest_read_expose(struct schema_ctx *c, const struct yaml_node *n, char **out)
{
	_cleanup_free_ char *path = NULL, *real = NULL, *hidden = NULL, *real_home = NULL;
	struct stat st;
	int ret = schema_path(c, n, "an exposed folder", &path);

	*out = NULL;
	if (ret < 0)
		return ret;
	/* Of the place itself: a link must not lead to what may not be named. */
	real = realpath(path, NULL);
	if (!real)
		return schema_refuse(c, n, "cannot expose \"%s\": %s", path, strerror(errno));
	if (stat(real, &st) < 0 || !S_ISDIR(st.st_mode))
		return schema_refuse(c, n, "cannot expose \"%s\": not a folder", path);
	real_home = realpath(c->home, NULL);
	hidden = find_hidden(real, real_home ? real_home : c->home);
	if (!hidden)
		hidden = find_hidden(real, c->home);
	if (hidden && strcmp(hidden, real) == 0)
		return schema_refuse(c, n, "\"%s\" is never exposed to an agent", hidden);
	if (hidden)
		return schema_refuse(c, n, "\"%s\" is never exposed to an agent: \"%s\" %s it",
				     path, hidden,
				     is_within(real, hidden) ? "contains" : "lies inside");
	*out = take_ptr(&real);
	return 0;
}

/* --- image --- */

int manifest_read_tar(struct schema_ctx *c, const struct yaml_node *n, char **out)
{
	_cleanup_free_ char *path = NULL;
	int ret = schema_path(c, n, "image", &path);

	*out = NULL;
	if (ret < 0)
		return ret;
	if (!str_ends(str_of(path), STR_LIT(TAR_END)))
		return schema_refuse(c, n,
				     "image: a file must be a root file system's \"" TAR_END
				     "\" archive, uncompressed; anything else is an image's "
				     "reference, and none begins with \"%c\"",
				     n->text.p[0]);
	*out = take_ptr(&path);
	return 0;
}

/* --- egress.ca --- */

#define PEM_BEGIN "-----BEGIN "
#define PEM_CERT  "-----BEGIN CERTIFICATE-----"
#define PEM_END	  "-----END CERTIFICATE-----"

static int base64_value(char ch)
{
	if (ch >= 'A' && ch <= 'Z')
		return ch - 'A';
	if (ch >= 'a' && ch <= 'z')
		return ch - 'a' + 26;
	if (ascii_is_digit(ch))
		return ch - '0' + 52;
	return ch == '+' ? 62 : ch == '/' ? 63 : -1;
}

/* Base64 of one DER SEQUENCE of exactly its length (X.690 section 8.1): enough to tell a
 * certificate from a cut or foreign file; egress parses the certificate itself. */
static bool is_der_sequence(struct str block)
{
	unsigned char head[4] = {0};
	size_t n_chars = 0, n_pads = 0, n_bytes;

	for (size_t i = 0; i < block.n; i++) {
		int v = base64_value(block.p[i]);

		if (block.p[i] == '\n' || block.p[i] == '\r')
			continue;
		if (block.p[i] == '=')
			n_pads++;
		else if (v < 0 || n_pads > 0)
			return false;
		for (unsigned bit = 0; v > 0 && bit < 6; bit++) {
			size_t at = n_chars * 6 + bit;

			if (at / 8 < sizeof(head) && (v >> (5 - bit) & 1))
				head[at / 8] |= (unsigned char)(0x80 >> at % 8);
		}
		n_chars++;
	}
	if (n_chars % 4 != 0 || n_pads > 2 || n_chars < 8)
		return false;
	n_bytes = n_chars / 4 * 3 - n_pads;
	/* A certificate is longer than 127 bytes: the length has one or two bytes of its own. */
	if (head[0] != 0x30)
		return false;
	if (head[1] == 0x81)
		return n_bytes == head[2] + 3u;
	return head[1] == 0x82 && n_bytes == (size_t)(head[2] << 8 | head[3]) + 4;
}

/* Copies the certificates of a PEM file, dropping the text around them. */
static int copy_certificates(struct str pem, struct buf *out, const char **why)
{
	size_t n = 0;

	for (;;) {
		size_t begin = str_find(pem, STR_LIT(PEM_BEGIN)), end;
		struct str block, line;

		if (begin == pem.n)
			break;
		pem = str_sub(pem, begin, pem.n);
		if (!str_starts(pem, STR_LIT(PEM_CERT))) {
			bool found;

			(void)str_cut(pem, '\n', &line, &found);
			*why = str_find(line, STR_LIT("PRIVATE KEY")) < line.n
				       ? "holds a private key; it must hold certificates only"
				       : "holds something other than certificates";
			return -EINVAL;
		}
		end = str_find(pem, STR_LIT(PEM_END));
		block = str_sub(pem, sizeof(PEM_CERT) - 1, end);
		if (end == pem.n || !is_der_sequence(block)) {
			*why = "holds a damaged certificate";
			return -EINVAL;
		}
		if (buf_printf(out, PEM_CERT) < 0 || buf_append_str(out, block) < 0 ||
		    buf_printf(out, PEM_END "\n") < 0) {
			*why = "is too large";
			return -EFBIG;
		}
		n++;
		pem = str_sub(pem, end + sizeof(PEM_END) - 1, pem.n);
	}
	*why = "holds no certificate (PEM is expected: \"" PEM_CERT "\")";
	return n > 0 ? 0 : -EINVAL;
}

int manifest_read_ca(struct schema_ctx *c, const struct yaml_node *n, char **out)
{
	_cleanup_free_ char *path = NULL, *pem_p = NULL;
	_cleanup_(buf_free) struct buf certificates;
	struct str pem;
	const char *why;
	int ret = schema_path(c, n, "ca", &path);

	*out = NULL;
	buf_init(&certificates, POLICY_CA_MAX_BYTES);
	if (ret < 0)
		return ret;
	ret = schema_place(c, n, io_read_file(AT_FDCWD, path, POLICY_CA_MAX_BYTES, &pem, c->e));
	if (ret < 0)
		return ret;
	pem_p = (char *)pem.p;
	if (memchr(pem.p, '\0', pem.n))
		return schema_refuse(c, n, "ca: \"%s\" is not a text file", path);
	if (copy_certificates(pem, &certificates, &why) < 0)
		return schema_refuse(c, n, "ca: \"%s\" %s", path, why);
	*out = str_dup(buf_str(&certificates));
	return 0;
}
