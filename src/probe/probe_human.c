#include "probe/probe_mcp.h"

#include "base/io.h"

#include <poll.h>
#include <stdarg.h>
#include <unistd.h>

/* A human has one bottle after the other to look at. */
#define HUMAN_MS 60000

bool probe_human(const struct probe_env *env, const char *format, ...)
{
	char line[16];
	size_t n = 0;
	va_list ap;

	if (env->is_control)
		return true;
	(void)printf("human\t");
	va_start(ap, format);
	(void)vprintf(format, ap);
	va_end(ap);
	(void)printf("\n");
	(void)fflush(stdout);
	while (n < sizeof(line) && io_wait(STDIN_FILENO, POLLIN, HUMAN_MS) == 1 &&
	       read(STDIN_FILENO, line + n, 1) == 1 && line[n] != '\n')
		n++;
	return str_eq(str_slice(line, n), STR_LIT("done"));
}
