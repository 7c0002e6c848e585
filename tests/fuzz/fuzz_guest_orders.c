/* What process 1 of a container takes from its keeper, over a real socket: the first byte is the
 * letter, the rest what its memory file holds; after 'p' the whole is one message. What is accepted
 * keeps the promises of guest_int.h. */
#include "fuzz.h"

#include "base/clean.h"
#include "base/io.h"
#include "guest/guest_int.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>

static void check_address(const char *text)
{
	struct in6_addr ignored;

	if (!text ||
	    (inet_pton(AF_INET, text, &ignored) != 1 && inet_pton(AF_INET6, text, &ignored) != 1))
		abort();
}

static void check_canary(const struct guest_canary *c)
{
	check_address(c->pinned);
	if (c->n_answers > GUEST_ANSWERS_MAX || c->n_closed > GUEST_CLOSED_MAX)
		abort();
	for (size_t i = 0; i < c->n_answers; i++)
		if (c->answers[i] < 1 || c->answers[i] > 65535)
			abort();
	for (size_t i = 0; i < c->n_closed; i++) {
		check_address(c->closed[i].address);
		if (c->closed[i].port < 1 || c->closed[i].port > 65535)
			abort();
	}
}

/* Below a home, whatever is in it. */
static void check_path(const char *path)
{
	struct str all = str_of(path);

	if (all.n == 0 || all.n > GUEST_PATH_MAX || path[0] == '/' || str_eq(all, STR_LIT("..")) ||
	    str_starts(all, STR_LIT("../")) || str_ends(all, STR_LIT("/..")) ||
	    str_ends(all, STR_LIT("/")) || str_find(all, STR_LIT("/../")) < all.n ||
	    str_find(all, STR_LIT("//")) < all.n)
		abort();
}

static void check_go(const struct guest_go *g)
{
	size_t n = 0;

	while (g->argv[n])
		n++;
	if (n == 0 || n > GUEST_ARGV_MAX || g->argv[0][0] == '\0' || g->n_files > GUEST_FILES_MAX)
		abort();
	for (size_t i = 0; i < g->n_files; i++) {
		check_path(g->files[i].path);
		if (g->files[i].mode > 0777 || !g->files[i].text.p)
			abort();
	}
	if (g->limits.files > INT64_MAX || g->limits.file_size_bytes > INT64_MAX ||
	    g->limits.processes > INT64_MAX)
		abort();
}

static void take_pass(int sock)
{
	struct orders_pass p;

	if (orders_receive_pass(sock, &p, NULL) == 1
		    ? p.signo < 1 || p.signo > SIGRTMAX || p.exec > GUEST_EXEC_MAX
		    : p.signo != 0)
		abort();
}

static void take_order(int sock)
{
	static struct orders o;
	int ret = orders_receive(sock, &o, NULL);

	if (ret < 0 ? o.letter != 0 : o.letter != 'c' && o.letter != 'g')
		abort();
	if (ret == 0 && o.letter == 'c')
		check_canary(&o.canary);
	if (ret == 0 && o.letter == 'g')
		check_go(&o.go);
	orders_free(&o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	_cleanup_close_ int file = -1, keeper = -1, guest = -1;
	int ends[2];

	if (n == 0 || n > 4096 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return 0;
	keeper = ends[0];
	guest = ends[1];
	if (data[0] == 'p') {
		if (io_send_fds(keeper, data, n, NULL, 0, 0) > 0)
			take_pass(guest);
		return 0;
	}
	file = io_memfd_sealed("order", str_slice(data + 1, n - 1), NULL);
	if (file >= 0 && io_send_fds(keeper, data, 1, &file, 1, 0) == 1)
		take_order(guest);
	return 0;
}
