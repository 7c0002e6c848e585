#include "guest/machine_int.h"

#include "base/clean.h"
#include "base/io.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define STDIO_TERMINAL_MODE 0620

static int stdio_pipe(int *child, int *own, bool is_input, struct err *e)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	*child = ends[is_input ? 0 : 1];
	*own = ends[is_input ? 1 : 0];
	return 0;
}

static int stdio_terminal(struct machine_stdio *io, int terminals, unsigned uid, struct err *e)
{
	int unlock = 0;

	io->in = openat(terminals, "ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (io->in < 0 || ioctl(io->in, TIOCSPTLCK, &unlock) < 0)
		return err_errno(e, "make a terminal");
	io->child[0] = ioctl(io->in, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	io->out = fcntl(io->in, F_DUPFD_CLOEXEC, 0);
	if (io->child[0] < 0 || io->out < 0)
		return err_errno(e, "open a terminal");
	if (fchown(io->child[0], uid, (gid_t)-1) < 0 ||
	    fchmod(io->child[0], STDIO_TERMINAL_MODE) < 0)
		return err_errno(e, "hand a terminal over");
	return 0;
}

int machine_stdio_open(struct machine_stdio *io, int terminals, unsigned uid, struct err *e)
{
	int ret;

	*io = MACHINE_STDIO_INIT;
	if (terminals >= 0) {
		ret = stdio_terminal(io, terminals, uid, e);
	} else {
		ret = stdio_pipe(&io->child[0], &io->in, true, e);
		if (ret == 0)
			ret = stdio_pipe(&io->child[1], &io->out, false, e);
		if (ret == 0)
			ret = stdio_pipe(&io->child[2], &io->err, false, e);
	}
	if (ret == 0 && (io_set_nonblock(io->in, true) < 0 || io_set_nonblock(io->out, true) < 0 ||
			 (io->err >= 0 && io_set_nonblock(io->err, true) < 0)))
		ret = err_errno(e, "do not block");
	if (ret < 0)
		machine_stdio_close(io);
	return ret;
}

void machine_stdio_size(int terminal, unsigned rows, unsigned columns)
{
	const struct winsize size = {.ws_row = (unsigned short)rows,
				     .ws_col = (unsigned short)columns};

	(void)ioctl(terminal, TIOCSWINSZ, &size);
}

int machine_stdio_take(const struct machine_stdio *io, bool has_tty, struct err *e)
{
	for (int i = 0; i <= STDERR_FILENO; i++) {
		if (dup2(io->child[has_tty ? 0 : i], i) < 0)
			return err_errno(e, "standard descriptors");
	}
	return agent_take_session(has_tty, e);
}

void machine_stdio_close_child(struct machine_stdio *io)
{
	for (int i = 0; i <= STDERR_FILENO; i++)
		close_fd(&io->child[i]);
}

void machine_stdio_close(struct machine_stdio *io)
{
	machine_stdio_close_child(io);
	close_fd(&io->in);
	close_fd(&io->out);
	close_fd(&io->err);
}
