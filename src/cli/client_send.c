/* The first messages of a connection to the keeper. */
#include "cli/client.h"

#include "backend/keeper.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

static int send_message(int sock, const void *data, size_t n, struct err *e)
{
	ssize_t sent;

	do {
		sent = send(sock, data, n, MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	return sent < 0 ? err_errno(e, "send to the bottle's keeper") : 0;
}

int client_send_attach(int sock, bool has_tty, bool owns, struct err *e)
{
	unsigned short rows, columns;
	char message[128];
	int n;

	client_window(&rows, &columns);
	n = snprintf(message, sizeof(message),
		     "%c{\"tty\":%s,\"rows\":%u,\"columns\":%u,\"own\":%s}", KEEPER_ATTACH,
		     has_tty ? "true" : "false", rows, columns, owns ? "true" : "false");
	return send_message(sock, message, (size_t)n, e);
}

int client_send_exec(int sock, char *const *argv, bool has_tty, struct err *e)
{
	unsigned short rows, columns;
	struct buf message;
	int r;

	client_window(&rows, &columns);
	buf_init(&message, KEEPER_MESSAGE_MAX);
	r = buf_printf(&message, "%c{\"tty\":%s,\"rows\":%u,\"columns\":%u,\"argv\":[", KEEPER_EXEC,
		       has_tty ? "true" : "false", rows, columns);
	for (size_t i = 0; r == 0 && argv[i]; i++) {
		if (i)
			r = buf_append(&message, ",", 1);
		if (r == 0)
			r = text_json(&message, str_of(argv[i]));
	}
	if (r == 0)
		r = buf_append(&message, "]}", 2);
	if (r < 0)
		(void)err_set(e, -E2BIG, "the command is too long");
	else
		r = send_message(sock, buf_str(&message).p, buf_len(&message), e);
	buf_free(&message);
	return r;
}

int client_send_stop(int sock, unsigned grace_ms, struct err *e)
{
	char message[64];
	int n = snprintf(message, sizeof(message), "%c{\"grace_ms\":%u,\"now\":%s}", KEEPER_STOP,
			 grace_ms, grace_ms == 0 ? "true" : "false");

	return send_message(sock, message, (size_t)n, e);
}
