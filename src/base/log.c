#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *current_role;
static enum log_level threshold = LOG_LEVEL_INFO;

void log_set_role(const char *role)
{
	current_role = role;
}

void log_set_level(enum log_level level)
{
	threshold = level;
}

__attribute__((format(printf, 2, 0))) static void log_vwrite(const char *level, const char *fmt,
							     va_list ap)
{
	char line[1024];
	int n;

	if (current_role)
		n = snprintf(line, sizeof(line), "claude-bottle[%s]: %s", current_role, level);
	else
		n = snprintf(line, sizeof(line), "claude-bottle: %s", level);
	(void)vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	(void)strcat(line, "\n");
	/* One write, so that lines of several roles do not mix. */
	if (write(STDERR_FILENO, line, strlen(line)) < 0)
		return;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	static const char *const names[] = {"error: ", "warning: ", "", "debug: "};
	va_list ap;

	if (level > threshold)
		return;
	va_start(ap, fmt);
	log_vwrite(names[level], fmt, ap);
	va_end(ap);
}

void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vwrite("", fmt, ap);
	va_end(ap);
	exit(EXIT_FAILURE);
}
