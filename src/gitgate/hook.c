/*
 * Theory of operation: git runs this as pre-receive in the push's quarantine, with the updates on
 * standard input. It decides nothing. The worker, which stands outside of git, does; what it says
 * goes to standard error, from where git takes it to the client as "remote: ...".
 */
#include "gitgate/hook.h"

#include "base/clean.h"
#include "base/io.h"
#include "gitgate/commands.h"
#include "gitgate/gitgate.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define HOOK_FAILED  1
#define HOOK_OID_HEX 40
#ifndef HOOK_SEND_MS /* a test is less patient */
#define HOOK_SEND_MS 30000
#endif
#define HOOK_PATH_MARKER "/objects/"

/* --- the hook --- */

static int hook_fail(const char *why)
{
	char line[256];
	int n = snprintf(line, sizeof(line), "git-gate: refused: %s; nothing was forwarded\n", why);

	if (io_write_all(STDERR_FILENO, line, (size_t)n) < 0)
		return HOOK_FAILED + 1; /* nobody reads; the same to git */
	return HOOK_FAILED;
}

static int hook_fd(void)
{
	const char *text = getenv(HOOK_ENV);
	uint64_t fd;

	if (!text || str_to_u64(str_of(text), 4096, &fd) < 0 || fd <= STDERR_FILENO)
		return -1;
	return (int)fd;
}

static bool read_exactly(int fd, void *to, size_t n)
{
	for (char *p = to; n > 0;) {
		ssize_t got = read(fd, p, n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		p += got;
		n -= (size_t)got;
	}
	return true;
}

static int hook_relay(int fd)
{
	char words[HOOK_WORDS_MAX];
	struct hook_frame frame;
	bool is_heard = true;

	while (read_exactly(fd, &frame, sizeof(frame))) {
		if (frame.kind == HOOK_VERDICT)
			return frame.value == 0 ? 0 : HOOK_FAILED;
		if (frame.kind != HOOK_WORDS || frame.value > sizeof(words) ||
		    !read_exactly(fd, words, frame.value))
			break;
		/* The client may be gone; the verdict counts all the same. */
		if (is_heard)
			is_heard = io_write_all(STDERR_FILENO, words, frame.value) == 0;
	}
	return hook_fail("git-gate has failed");
}

int git_hook_main(int argc, char **argv)
{
	const char *path = getenv("GIT_QUARANTINE_PATH");
	struct hook_head head = {.magic = HOOK_MAGIC};
	_cleanup_free_ char *text = NULL;
	struct str list = STR_NULL;
	struct err e = ERR_INIT;
	int fd = hook_fd();

	(void)argc;
	(void)argv;
	(void)signal(SIGPIPE, SIG_IGN);
	/* As all of ours; starting a program has undone it. */
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (fd < 0)
		return hook_fail("git-gate's worker is not there");
	if (io_read_all(STDIN_FILENO, HOOK_LIST_MAX, &list, &e) < 0)
		return hook_fail("the list of refs is too long");
	text = (char *)(uintptr_t)list.p;
	head.list_bytes = (uint32_t)list.n;
	head.path_bytes = path ? (uint32_t)strnlen(path, HOOK_PATH_MAX) : 0;
	if (io_write_all(fd, &head, sizeof(head)) < 0 ||
	    io_write_all(fd, path ? path : "", head.path_bytes) < 0 ||
	    io_write_all(fd, list.p, list.n) < 0)
		return hook_fail("git-gate's worker does not listen");
	return hook_relay(fd);
}

/* --- the worker's side --- */

void hook_request_init(struct hook_request *r)
{
	memset(r, 0, sizeof(*r));
	buf_init(&r->raw, sizeof(struct hook_head) + HOOK_PATH_MAX + HOOK_LIST_MAX);
}

void hook_request_free(struct hook_request *r)
{
	buf_free(&r->raw);
}

static bool hook_oid(char out[GIT_OID_SIZE], struct str hex)
{
	for (size_t i = 0; i < hex.n; i++) {
		if (ascii_hex_value(hex.p[i]) < 0)
			return false;
	}
	return hex.n == HOOK_OID_HEX && str_to_cstr(out, GIT_OID_SIZE, hex);
}

/* "old new ref" */
static int hook_update(struct hook_request *r, struct str line, struct err *e)
{
	struct check_update *u = &r->updates[r->n_updates];
	struct str old_oid, new_oid, ref;
	bool found;

	if (r->n_updates == CHECK_UPDATES_MAX)
		return err_set(e, -E2BIG, "more than %d refs in one push", CHECK_UPDATES_MAX);
	ref = str_cut(line, ' ', &old_oid, &found);
	ref = str_cut(ref, ' ', &new_oid, &found);
	if (!hook_oid(u->old_oid, old_oid) || !hook_oid(u->new_oid, new_oid) ||
	    !str_to_cstr(u->ref, sizeof(u->ref), ref) || ref.n == 0)
		return err_set(e, -EPROTO, "git's list of updates cannot be read");
	r->n_updates++;
	return 0;
}

static int hook_path(struct hook_request *r, struct str path, struct err *e)
{
	if (path.n == 0) {
		r->quarantine[0] = '\0';
		return 0;
	}
	if (!str_to_cstr(r->quarantine, sizeof(r->quarantine), path) || path.p[0] != '/' ||
	    str_find(path, STR_LIT(HOOK_PATH_MARKER)) == path.n ||
	    str_find(path, STR_LIT("/../")) < path.n)
		return err_set(e, -EPROTO, "git's quarantine is not where it should be");
	return 0;
}

/* 1: complete and parsed; 0: more is to come. */
static int hook_parse(struct hook_request *r, struct str raw, struct err *e)
{
	struct hook_head head;
	struct str list, line;
	bool more = true;
	int ret;

	if (raw.n < sizeof(head))
		return 0;
	memcpy(&head, raw.p, sizeof(head));
	if (head.magic != HOOK_MAGIC || head.path_bytes >= HOOK_PATH_MAX ||
	    head.list_bytes > HOOK_LIST_MAX)
		return err_set(e, -EPROTO, "the hook's request cannot be read");
	raw = str_sub(raw, sizeof(head), raw.n);
	if (raw.n < (size_t)head.path_bytes + head.list_bytes)
		return 0;
	if (raw.n > (size_t)head.path_bytes + head.list_bytes)
		return err_set(e, -EPROTO, "the hook has sent too much");
	list = str_sub(raw, head.path_bytes, raw.n);
	ret = hook_path(r, str_sub(raw, 0, head.path_bytes), e);
	for (r->n_updates = 0; ret == 0 && more;) {
		list = str_cut(list, '\n', &line, &more);
		if (line.n > 0)
			ret = hook_update(r, line, e);
	}
	return ret < 0 ? ret : 1;
}

int hook_request_parse(struct hook_request *r, struct str raw, struct err *e)
{
	int ret = hook_parse(r, raw, e);

	if (ret == 0)
		return err_set(e, -EPROTO, "the hook's request is cut short");
	r->is_complete = ret == 1;
	return ret < 0 ? ret : 0;
}

int hook_request_read(struct hook_request *r, int fd, struct err *e)
{
	size_t room = buf_room(&r->raw);
	char *to = buf_reserve(&r->raw, room < 65536 ? room : 65536);
	ssize_t n;
	int ret;

	if (!to || room == 0)
		return err_set(e, -EPROTO, "the hook has sent too much");
	n = read(fd, to, room < 65536 ? room : 65536);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0)
		return err_set(e, -EPIPE, "the hook is gone");
	buf_commit(&r->raw, (size_t)n);
	ret = hook_parse(r, buf_str(&r->raw), e);
	r->is_complete = ret == 1;
	return ret < 0 ? ret : 0;
}

/* Whoever takes nothing for so long is told nothing more, rather than the rest out of its frame:
 * the hook finds its end, which refuses the push. Attack: a client that does not read holds the
 * mirror's lock for as long for each line. */
static int hook_send(int fd, const void *data, size_t n)
{
	for (const char *p = data; n > 0;) {
		ssize_t put = send(fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (put < 0 && errno == EAGAIN && io_wait(fd, POLLOUT, HOOK_SEND_MS) == 1)
			continue;
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0) {
			(void)shutdown(fd, SHUT_RDWR);
			return -EPIPE;
		}
		p += put;
		n -= (size_t)put;
	}
	return 0;
}

void hook_say(int fd, const char *fmt, ...)
{
	char words[HOOK_WORDS_MAX];
	struct hook_frame frame = {.kind = HOOK_WORDS};
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(words, sizeof(words) - 1, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	n = (size_t)n < sizeof(words) - 1 ? n : (int)sizeof(words) - 2;
	words[n++] = '\n';
	frame.value = (uint32_t)n;
	if (hook_send(fd, &frame, sizeof(frame)) == 0)
		(void)hook_send(fd, words, (size_t)n);
}

int hook_answer(int fd, unsigned status)
{
	const struct hook_frame frame = {.kind = HOOK_VERDICT, .value = status};

	return hook_send(fd, &frame, sizeof(frame));
}
