/*
 * How this host reaches the network, for builds: a container on it stands behind the same proxies
 * and must trust the same authorities, or no package can be fetched. Nothing of it stays: Docker
 * keeps the arguments that are named after proxies in no image, and the rest is in a stage that is
 * thrown away.
 */
#include "image/host.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>

#define HOST_NPMRC_MAX (1u << 20)

static const char *env(const char *name)
{
	const char *value = getenv(name);

	return value && value[0] ? value : NULL;
}

/* The host's loopback is not a container's: a proxy there would only be refused, and without it
 * the build may have a way of its own. */
static bool is_on_loopback(const char *url)
{
	const char *host = strstr(url, "://");
	struct str s = str_of(host ? host + 3 : url);
	size_t at = str_chr(s, '@');

	if (at < s.n)
		s = str_sub(s, at + 1, s.n);
	return str_istarts(s, STR_LIT("localhost")) || str_starts(s, STR_LIT("127.")) ||
	       str_starts(s, STR_LIT("[::1]"));
}

void image_host_proxies(json_t *args)
{
	/* Of the names that every engine knows as its own. */
	static const char *const names[] = {"http_proxy", "https_proxy", "HTTP_PROXY",
					    "HTTPS_PROXY"};
	static const char *const except[] = {"no_proxy", "NO_PROXY"};
	bool has_proxy = false;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *value = env(names[i]);

		if (!value || is_on_loopback(value))
			continue;
		(void)json_object_set_new(args, names[i], json_string(value));
		has_proxy = true;
	}
	for (size_t i = 0; has_proxy && i < ARRAY_LEN(except); i++) {
		const char *value = env(except[i]);

		if (value)
			(void)json_object_set_new(args, except[i], json_string(value));
	}
}

/* A plain address, without a name and a password in it. */
static bool registry_is_good(struct str url)
{
	if (!str_starts(url, STR_LIT("https://")) && !str_starts(url, STR_LIT("http://")))
		return false;
	for (size_t i = 0; i < url.n; i++) {
		char c = url.p[i];

		if (!ascii_is_alnum(c) && !(c && strchr("-._~:/[]%", c)))
			return false;
	}
	return true;
}

static bool registry_of_file(const char *path, char out[IMAGE_URL_MAX])
{
	struct str text, rest, line;
	bool found = true, is_good = false;

	if (io_read_file(AT_FDCWD, path, HOST_NPMRC_MAX, &text, NULL) < 0)
		return false;
	for (rest = text; found;) {
		struct str name, value;
		bool has_value;

		rest = str_cut(rest, '\n', &line, &found);
		value = str_trim(str_cut(line, '=', &name, &has_value));
		if (has_value && str_eq(str_trim(name), STR_LIT("registry")))
			is_good = registry_is_good(value) && str_to_cstr(out, IMAGE_URL_MAX, value);
	}
	free((char *)text.p);
	return is_good;
}

bool image_host_registry(char out[IMAGE_URL_MAX])
{
	const char *named = env("npm_config_registry"), *home = env("HOME");
	const char *file = env("npm_config_userconfig");
	_cleanup_free_ char *own = home ? mem_printf("%s/.npmrc", home) : NULL;

	if (!named)
		named = env("NPM_CONFIG_REGISTRY");
	if (!file)
		file = env("NPM_CONFIG_USERCONFIG");
	if (named)
		return registry_is_good(str_of(named)) &&
		       str_to_cstr(out, IMAGE_URL_MAX, str_of(named));
	return (file && registry_of_file(file, out)) || (own && registry_of_file(own, out)) ||
	       registry_of_file("/etc/npmrc", out);
}

static int append_file(struct buf *b, const char *path, struct err *e)
{
	struct str text;
	int ret = io_read_file(AT_FDCWD, path, IMAGE_CA_MAX, &text, e);

	if (ret < 0)
		return ret;
	ret = buf_append_str(b, text);
	if (ret == 0)
		ret = buf_append(b, "\n", 1);
	free((char *)text.p);
	return ret < 0 ? err_set(e, -EFBIG, "\"%s\": more than %u bytes of certificates", path,
				 IMAGE_CA_MAX)
		       : 0;
}

int image_host_ca(struct buf *out, struct err *e)
{
	const char *const trusted[] = {env("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt",
				       "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
				       "/etc/ssl/cert.pem"};
	const char *more = env("NODE_EXTRA_CA_CERTS");
	size_t i;
	int ret;

	buf_init(out, IMAGE_CA_MAX);
	for (i = 0; i < ARRAY_LEN(trusted); i++) {
		if (!trusted[i] || access(trusted[i], R_OK) < 0)
			continue;
		ret = append_file(out, trusted[i], e);
		if (ret < 0)
			return ret;
		break;
	}
	if (!more || access(more, R_OK) < 0 ||
	    (i < ARRAY_LEN(trusted) && strcmp(more, trusted[i]) == 0))
		return 0;
	return append_file(out, more, e);
}
