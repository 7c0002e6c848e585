/* What is started beside the agent in a machine. The process that the monitor's tool has started
 * hands its streams to guest hold and stands for the command that is made there. */
#include "guest/guest_int.h"

#include "base/buf.h"
#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>

#define BESIDE_WORDS_MAX (4u << 20)

static int beside_words(char *const *argv, struct err *e)
{
	_cleanup_(buf_free) struct buf words = BUF_INIT(BESIDE_WORDS_MAX);

	for (; *argv; argv++) {
		if (buf_append(&words, *argv, strlen(*argv) + 1) < 0)
			return err_set(e, -E2BIG, "the command is too long");
	}
	return io_memfd_sealed("words", buf_str(&words), e);
}

static int beside_ask(const char *run, unsigned number, char *const *argv, struct handle_message *m,
		      struct err *e)
{
	int words = beside_words(argv, e);

	if (words < 0)
		return words;
	m->letter = 'b';
	m->number = number;
	m->fds[m->n_fds++] = words;
	for (int fd = 0; fd <= 2; fd++) {
		m->fds[m->n_fds] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (m->fds[m->n_fds] < 0)
			return err_errno(e, "hand on the standard streams");
		m->n_fds++;
	}
	return handle_ask(run, m, -1, e);
}

int beside_main(const char *run, unsigned number, char *const *argv)
{
	struct handle_message m = HANDLE_MESSAGE_INIT;
	struct err e = ERR_INIT;
	int ret = agent_isolate(&e);

	agent_release_terminal();
	if (ret == 0)
		ret = beside_ask(run, number, argv, &m, &e);
	if (ret == 0 && m.letter != 'x')
		ret = err_set(&e, -EPROTO, "%s", m.text);
	handle_message_free(&m);
	if (ret == 0)
		return (int)m.a;
	agent_complain(&e);
	return GUEST_NOT_RUN;
}
