/* What the keeper says, as a command: one message to a process of the machine, and its answer as a
 * line, because bytes do not get through the monitor's tool reliably, and lines do. */
#include "guest/guest_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#define TELL_MS 20000 /* the canary's longest look */

/* The file's content in memory, sealed; the file is gone. */
static int tell_read(const char *path, struct err *e)
{
	struct str text;
	int fd, ret = io_read_file(AT_FDCWD, path, GUEST_JSON_MAX, &text, e);

	(void)unlink(path);
	if (ret < 0)
		return ret;
	fd = io_memfd_sealed("order", text, e);
	free((void *)(uintptr_t)text.p);
	return fd;
}

static int tell_number(const char *text, uint64_t max, uint64_t *out, struct err *e)
{
	return str_to_u64(str_of(text), max, out) < 0
		       ? err_set(e, -EINVAL, "\"%s\" is no number up to %llu", text,
				 (unsigned long long)max)
		       : 0;
}

static int tell_make(struct handle_message *m, int argc, char **argv, struct err *e)
{
	char letter = argc > 0 && strlen(argv[0]) == 1 ? argv[0][0] : '\0';
	uint64_t a = 0, b = 0;
	int ret = 0;

	m->letter = letter;
	if (letter == 'h' && argc == 1)
		return 0;
	if ((letter == 'c' || letter == 'g') && argc == 2) {
		m->fds[0] = tell_read(argv[1], e);
		m->n_fds = m->fds[0] < 0 ? 0 : 1;
		return m->fds[0] < 0 ? m->fds[0] : 0;
	}
	if (letter == 'p' && argc == 2)
		ret = tell_number(argv[1], (uint64_t)SIGRTMAX, &a, e);
	else if (letter == 'w' && argc == 3)
		ret = tell_number(argv[1], UINT16_MAX, &a, e);
	else
		return err_set(e, -EINVAL,
			       "guest tell N h | c FILE | g FILE | p SIGNAL | w ROWS "
			       "COLUMNS");
	if (ret == 0 && letter == 'w')
		ret = tell_number(argv[2], UINT16_MAX, &b, e);
	m->a = (uint32_t)a;
	m->b = (uint32_t)b;
	return ret;
}

int tell_main(const char *run, unsigned number, int argc, char **argv, struct err *e)
{
	struct handle_message m = HANDLE_MESSAGE_INIT;
	char text[GUEST_TEXT_MAX];
	int ret = tell_make(&m, argc, argv, e);

	m.number = number;
	if (ret == 0)
		ret = handle_ask(run, &m, TELL_MS, e);
	handle_message_free(&m);
	if (ret < 0)
		return ret;
	text_visible_once_cstr(text, sizeof(text), str_of(m.text));
	return printf("%c%s\n", m.letter, text) > 0 ? 0 : err_errno(e, "write");
}

int tell_place(const char *root, const char *path, struct err *e)
{
	static struct orders o;
	_cleanup_close_ int file = tell_read(path, e);
	int ret;

	if (file < 0)
		return file;
	ret = orders_take(file, 'f', &o, e);
	if (ret == 0)
		ret = files_write(root, 0755, o.go.files, o.go.n_files, e);
	orders_free(&o);
	return ret;
}
