#include "probe/probe_mcp.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>

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

void probe_send_held(struct probe_sender *s, const struct probe_env *env, const char *body)
{
	_cleanup_free_ char *request =
		mem_printf("POST /upload HTTP/1.1\r\nHost: hold.selftest.example\r\n"
			   "Content-Type: text/plain\r\nConnection: close\r\n"
			   "Content-Length: %zu\r\n\r\n%s",
			   strlen(body), body);

	s->pid = fork();
	if (s->pid == 0) {
		static struct probe_reply r;

		probe_ask_tunnel(env, "hold.selftest.example:443", "hold.selftest.example",
				 str_of(request), &r);
		_exit(0);
	}
}

void probe_send_end(struct probe_sender *s, const struct probe_env *env)
{
	if (s->pid <= 0)
		return;
	if (!env->is_control)
		(void)kill(s->pid, SIGKILL);
	(void)waitpid(s->pid, NULL, 0);
}
