/*
 * Theory of operation. To the keeper this is the connection to guest init of guest_host.h, with its
 * letters and their order. A child of the keeper's does with the tool what is said there: it copies
 * the order into the guest, has it told to guest hold (guest tell) and says what comes back. So the
 * keeper never waits for a tool that hangs, but where it would wait for a guest.
 *
 * It has sealed itself before it hears anything. It cannot be left with its descriptors alone, as
 * qemu's wire is: each call of the tool is an order to the cell, with pipes that are made for it,
 * and a child that stands for it (cell_run()). So it keeps forking, without programs and without
 * signals; pipes and memory files; /dev/null, of all paths; and what it was given: its
 * conversation, the cell, one file for orders.
 */
#include "backend/smolmachines/smol_int.h"

#include "base/child.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timeutil.h"
#include "guest/guest.h"
#include "priv/priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BRIDGE_ORDER	  "order.json"
#define BRIDGE_ORDER_MS	  30000
#define BRIDGE_TELL_MS	  25000
#define BRIDGE_GREET_MS	  20000
#define BRIDGE_PAUSE_MS	  50
#define BRIDGE_TRIES	  20 /* for a command that is about to be there */
#define BRIDGE_LATE_MS	  100
#define BRIDGE_SIZE_BYTES 9 /* 'w', exec, rows, columns */
#define BRIDGE_WORDS	  8

struct bridge {
	const struct smol_cli *cli;
	int conn;
	int order_fd; /* of the file of that name, which the cell reads */
};

static void bridge_say(const struct bridge *b, char letter, struct str text)
{
	char message[1 + GUEST_TEXT_MAX] = {letter};

	text_visible_once_cstr(message + 1, sizeof(message) - 1, text);
	(void)io_send_fds(b->conn, message, 1 + strlen(message + 1), NULL, 0, 0);
}

/* guest tell's answer: a letter, and a text of *said, which is the caller's. */
static int bridge_tell(const struct bridge *b, const char *const *words, char *letter,
		       struct str *said, struct err *e)
{
	const char *argv[BRIDGE_WORDS] = {GUEST_BUNDLE, "guest", "tell"};
	size_t n = 3;
	int ret;

	while (*words && n < BRIDGE_WORDS - 1)
		argv[n++] = *words++;
	argv[n] = NULL;
	ret = smol_exec(b->cli, argv, BRIDGE_TELL_MS, said, e);
	if (ret == 0 && said->n == 0)
		ret = err_set(e, -EPROTO, "the guest says nothing");
	*letter = ret == 0 ? said->p[0] : '\0';
	return ret;
}

static bool bridge_greet(const struct bridge *b)
{
	static const char *const words[] = {"0", "h", NULL};
	uint64_t until_ns = time_monotonic_ns() + BRIDGE_GREET_MS * TIME_NS_PER_MS;

	for (;;) {
		struct err e = ERR_INIT;
		struct str said = STR_NULL;
		char letter;
		int ret = bridge_tell(b, words, &letter, &said, &e);

		free((void *)(uintptr_t)said.p);
		if (ret == 0 && letter == 'h') {
			bridge_say(b, 'h', STR_NULL);
			return true;
		}
		if (time_monotonic_ns() >= until_ns) {
			bridge_say(b, 'n', str_of(e.text));
			return false;
		}
		if (io_wait(b->conn, POLLIN, BRIDGE_PAUSE_MS) != 0)
			return false;
	}
}

static int bridge_write(const struct bridge *b, struct str text, struct err *e)
{
	if (ftruncate(b->order_fd, 0) < 0 || lseek(b->order_fd, 0, SEEK_SET) < 0 ||
	    io_write_all(b->order_fd, text.p, text.n) < 0)
		return err_errno(e, "write an order");
	return 0;
}

/* 'c', 'g': file is the order. */
static int bridge_order(const struct bridge *b, char order, int file, char *letter,
			struct str *said, struct err *e)
{
	static const char path[] = GUEST_FOLDER "/run/" BRIDGE_ORDER;
	const char word[] = {order, '\0'};
	const char *const words[] = {"0", word, path, NULL};
	struct str text;
	int ret = lseek(file, 0, SEEK_SET) < 0 ? err_errno(e, "rewind")
					       : io_read_all(file, GUEST_JSON_MAX, &text, e);

	if (ret < 0)
		return ret;
	ret = bridge_write(b, text, e);
	free((void *)(uintptr_t)text.p);
	if (ret == 0)
		ret = smol_copy_in(b->cli, BRIDGE_ORDER, path, BRIDGE_ORDER_MS, e);
	(void)bridge_write(b, STR_NULL, NULL);
	return ret < 0 ? ret : bridge_tell(b, words, letter, said, e);
}

/* Nothing comes back; whom it is for may not be there yet. */
static void bridge_pass(const struct bridge *b, const char *const *words)
{
	for (int i = 0; i < BRIDGE_TRIES; i++) {
		struct str said = STR_NULL;
		char letter = '\0';
		int ret = bridge_tell(b, words, &letter, &said, NULL);

		free((void *)(uintptr_t)said.p);
		if (ret < 0 || letter == 'y' || io_wait(b->conn, POLLIN, BRIDGE_LATE_MS) < 0)
			return;
	}
}

static void bridge_signal(const struct bridge *b, const unsigned char *message)
{
	char number[16], signo[8];
	const char *const words[] = {number, "p", signo, NULL};
	uint32_t exec;

	memcpy(&exec, message + 2, sizeof(exec));
	(void)snprintf(number, sizeof(number), "%u", ntohl(exec));
	(void)snprintf(signo, sizeof(signo), "%u", message[1]);
	bridge_pass(b, words);
}

static void bridge_size(const struct bridge *b, const unsigned char *message)
{
	char number[16], rows[8], columns[8];
	const char *const words[] = {number, "w", rows, columns, NULL};
	uint32_t exec;
	uint16_t half[2];

	memcpy(&exec, message + 1, sizeof(exec));
	memcpy(half, message + 1 + sizeof(exec), sizeof(half));
	(void)snprintf(number, sizeof(number), "%u", ntohl(exec));
	(void)snprintf(rows, sizeof(rows), "%u", ntohs(half[0]));
	(void)snprintf(columns, sizeof(columns), "%u", ntohs(half[1]));
	bridge_pass(b, words);
}

static void bridge_answer(const struct bridge *b, char order, int file)
{
	struct err e = ERR_INIT;
	struct str said = STR_NULL, line;
	char letter = 'n';
	bool found;
	int ret = file < 0 ? err_set(&e, -EPROTO, "an order without its file")
			   : bridge_order(b, order, file, &letter, &said, &e);

	(void)str_cut(said, '\n', &line, &found);
	if (ret < 0)
		bridge_say(b, 'n', str_of(e.text));
	else
		bridge_say(b, letter, str_sub(line, 1, line.n));
	free((void *)(uintptr_t)said.p);
}

/* One message of the keeper's. False: it has hung up. */
static bool bridge_hear(const struct bridge *b)
{
	unsigned char message[BRIDGE_SIZE_BYTES + 1];
	_cleanup_close_ int file = -1;
	size_t n_fds = 1;
	ssize_t got = io_recv_fds(b->conn, message, sizeof(message), &file, &n_fds, 0);

	if (got <= 0)
		return false;
	if (n_fds == 0)
		file = -1;
	switch (message[0]) {
	case 'c':
	case 'g':
		bridge_answer(b, (char)message[0], file);
		break;
	case 'p':
		if (got == GUEST_PASS_BYTES)
			bridge_signal(b, message);
		break;
	case 'w':
		if (got == BRIDGE_SIZE_BYTES)
			bridge_size(b, message);
		break;
	default:
		return false;
	}
	return true;
}

static _Noreturn void bridge_run(const struct bridge *b)
{
	static const struct priv_path null = {"/dev/null", PRIV_READ | PRIV_WRITE};
	static const struct priv_seal seal = {.sets = PRIV_SECCOMP_BASE | PRIV_SECCOMP_PASS_FD |
						      PRIV_SECCOMP_OPEN | PRIV_SECCOMP_FILE |
						      PRIV_SECCOMP_FORK | PRIV_SECCOMP_MAKE,
					      .paths = &null,
					      .n_paths = 1};
	struct err e = ERR_INIT;
	bool goes_on = priv_seal(&seal, &e) == 0;

	if (goes_on)
		goes_on = bridge_greet(b);
	else
		bridge_say(b, 'n', str_of(e.text));
	while (goes_on)
		goes_on = bridge_hear(b);
	_exit(0);
}

int bridge_start(struct bottle *b, struct err *e)
{
	_cleanup_close_ int ours = -1, theirs = -1, order = smol_open(&b->cli, BRIDGE_ORDER, e);
	struct bridge bridge = {.cli = &b->cli, .order_fd = order};
	int pair[2], ret;

	if (order < 0)
		return order;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	ours = pair[0];
	bridge.conn = theirs = pair[1];
	ret = child_fork("smol-bridge", GUEST_NOT_RUN,
			 (const int[]){theirs, order, b->cell.conn_fd}, 3, &b->bridge, e);
	if (ret < 0) {
		b->bridge = 0;
		return ret;
	}
	if (b->bridge == 0)
		bridge_run(&bridge);
	b->guest_fd = take_fd(&ours);
	return 0;
}

void bridge_end(struct bottle *b)
{
	close_fd(&b->guest_fd);
	child_end(&b->bridge);
}

const char *bridge_why(const struct bottle *b)
{
	siginfo_t how = {.si_pid = 0};

	if (b->bridge <= 0 || waitid(P_PID, (id_t)b->bridge, &how, WEXITED | WNOHANG | WNOWAIT) < 0)
		return "";
	return how.si_code == CLD_KILLED ? priv_seal_why(how.si_status) : "";
}

int bridge_resize(int guest_fd, unsigned exec, unsigned rows, unsigned columns)
{
	unsigned char message[BRIDGE_SIZE_BYTES] = {'w'};
	uint32_t number = htonl(exec);
	uint16_t half[2] = {htons((uint16_t)rows), htons((uint16_t)columns)};

	memcpy(message + 1, &number, sizeof(number));
	memcpy(message + 1 + sizeof(number), half, sizeof(half));
	return io_send_fds(guest_fd, message, sizeof(message), NULL, 0, MSG_DONTWAIT) ==
			       (ssize_t)sizeof(message)
		       ? 0
		       : -EPIPE;
}
