#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

__attribute__((format(printf, 3, 0))) static int err_vset(struct err *e, int code, const char *fmt,
							  va_list ap)
{
	if (code > 0)
		code = -code;
	if (code == 0)
		code = -EINVAL;
	if (!e)
		return code;
	*e = ERR_INIT;
	e->code = code;
	(void)vsnprintf(e->text, sizeof(e->text), fmt, ap);
	return code;
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;
	int ret;

	va_start(ap, fmt);
	ret = err_vset(e, code, fmt, ap);
	va_end(ap);
	return ret;
}

int err_errno(struct err *e, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;
	int ret;

	va_start(ap, fmt);
	ret = err_vset(e, -saved, fmt, ap);
	va_end(ap);
	if (e) {
		size_t n = strlen(e->text);

		(void)snprintf(e->text + n, sizeof(e->text) - n, ": %s", strerror(saved));
	}
	errno = saved;
	return ret;
}

int err_at(struct err *e, const char *file, unsigned line, unsigned column, const char *fmt, ...)
{
	va_list ap;
	int ret;

	va_start(ap, fmt);
	ret = err_vset(e, -EINVAL, fmt, ap);
	va_end(ap);
	if (e) {
		(void)snprintf(e->file, sizeof(e->file), "%s", file ? file : "");
		e->line = line;
		e->column = column;
	}
	return ret;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
	char old[ERR_TEXT_MAX];
	va_list ap;
	size_t n;

	if (!e)
		return -EINVAL;
	memcpy(old, e->text, sizeof(old));
	va_start(ap, fmt);
	(void)vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	n = strlen(e->text);
	(void)snprintf(e->text + n, sizeof(e->text) - n, ": %s", old);
	return e->code;
}

void err_format(const struct err *e, char *out, size_t size)
{
	if (e->file[0] && e->line)
		(void)snprintf(out, size, "%s:%u:%u: %s", e->file, e->line, e->column, e->text);
	else if (e->file[0])
		(void)snprintf(out, size, "%s: %s", e->file, e->text);
	else
		(void)snprintf(out, size, "%s", e->text);
}
