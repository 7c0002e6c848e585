#include "backend/smolmachines/smolfile.h"

#include "base/text.h"

#include <errno.h>
#include <string.h>

#define ASCII_DELETE 0x7f

/* A basic string (TOML 1.0): all but quotation mark, backslash and control characters as it is. */
static int put_codepoint(struct buf *out, struct str bytes, uint32_t codepoint)
{
	switch (codepoint) {
	case '\b':
		return buf_append(out, "\\b", 2);
	case '\t':
		return buf_append(out, "\\t", 2);
	case '\n':
		return buf_append(out, "\\n", 2);
	case '\f':
		return buf_append(out, "\\f", 2);
	case '\r':
		return buf_append(out, "\\r", 2);
	case '"':
		return buf_append(out, "\\\"", 2);
	case '\\':
		return buf_append(out, "\\\\", 2);
	default:
		break;
	}
	/* With those of U+0080 to U+009F, which TOML allows and nobody wants to see. */
	if (codepoint < ' ' || (codepoint >= ASCII_DELETE && codepoint < 0xa0))
		return buf_printf(out, "\\u%04X", (unsigned)codepoint);
	return buf_append_str(out, bytes);
}

static int put_string(struct buf *out, const char *text)
{
	struct str rest = str_of(text);
	int ret = buf_append(out, "\"", 1);

	while (ret == 0 && rest.n > 0) {
		uint32_t codepoint;
		size_t n = text_utf8_next(rest, &codepoint);

		if (n == 0)
			return -EILSEQ;
		ret = put_codepoint(out, str_sub(rest, 0, n), codepoint);
		rest = str_sub(rest, n, rest.n);
	}
	return ret < 0 ? ret : buf_append(out, "\"", 1);
}

static int put_text(struct buf *out, const char *key, const char *value)
{
	int ret;

	if (!value)
		return 0;
	ret = buf_printf(out, "%s = ", key);
	if (ret == 0)
		ret = put_string(out, value);
	return ret < 0 ? ret : buf_append(out, "\n", 1);
}

static int put_list(struct buf *out, const char *key, const char *const *list)
{
	int ret;

	if (!list)
		return 0;
	ret = buf_printf(out, "%s = [", key);
	for (size_t i = 0; ret == 0 && list[i]; i++) {
		if (i > 0)
			ret = buf_append(out, ", ", 2);
		if (ret == 0)
			ret = put_string(out, list[i]);
	}
	return ret < 0 ? ret : buf_append(out, "]\n", 2);
}

static int put_number(struct buf *out, const char *key, unsigned value)
{
	return value > 0 ? buf_printf(out, "%s = %u\n", key, value) : 0;
}

static int put_all(const struct smolfile *f, struct buf *out)
{
	int ret = put_text(out, "image", f->image);

	if (ret == 0)
		ret = put_list(out, "entrypoint", f->entrypoint);
	if (ret == 0)
		ret = put_list(out, "cmd", f->cmd);
	if (ret == 0)
		ret = put_list(out, "env", f->env);
	if (ret == 0)
		ret = put_text(out, "workdir", f->workdir);
	if (ret == 0)
		ret = put_number(out, "cpus", f->cpus);
	if (ret == 0)
		ret = put_number(out, "memory", f->memory_mib);
	if (ret == 0)
		ret = put_list(out, "volumes", f->volumes);
	/* A table takes every key that follows: it is the last. */
	if (ret == 0 && f->allow_cidrs)
		ret = buf_append_str(out, STR_LIT("\n[network]\n"));
	return ret < 0 ? ret : put_list(out, "allow_cidrs", f->allow_cidrs);
}

int smolfile_render(const struct smolfile *f, struct buf *out, struct err *e)
{
	int ret = put_all(f, out);

	if (ret == -EILSEQ)
		return err_set(e, ret, "a Smolfile holds nothing that is not UTF-8");
	return ret < 0 ? err_set(e, ret, "the Smolfile is too long") : 0;
}
