/*
 * The sibling: a bottle that other bottles and the host try to reach. It says where it can be
 * found, leaves a mark in each folder that it may write to, listens on every address of its own and
 * writes down what comes. Its own words through its own proxy and to its own port must show up
 * where the suite looks for other people's, else nothing that is not seen there means anything.
 *
 * Output: "hello <TAB> KEY=VALUE <TAB> …", two tries that must arrive, then "heard <TAB> bytes" for
 * each connection and datagram.
 */
#include "probe/probe.h"
#include "probe/space.h"

#include "probe/probe_ca.h"

#include "base/clean.h"
#include "base/err.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define LISTEN_READ_MAX 4096
#define LISTEN_READ_MS	300
/* The suite ends it; should nobody, it ends by itself. */
#define LISTEN_LIFE_S 600

static int listen_bind(int type, uint16_t *port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(*port)};
	socklen_t n = sizeof(sa);
	_cleanup_close_ int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    (type == SOCK_STREAM && listen(fd, 64) < 0) ||
	    getsockname(fd, (struct sockaddr *)&sa, &n) < 0)
		return -errno;
	*port = ntohs(sa.sin_port);
	return take_fd(&fd);
}

/* Not 127.0.0.0/8, which everybody has of his own. */
static void listen_print_addresses(void)
{
	struct ifaddrs *all = NULL;
	char text[INET_ADDRSTRLEN];
	const char *comma = "";

	(void)printf("\taddresses=");
	if (getifaddrs(&all) < 0)
		return;
	for (struct ifaddrs *i = all; i; i = i->ifa_next) {
		const struct sockaddr_in *sa =
			(const struct sockaddr_in *)(const void *)i->ifa_addr;

		if (!sa || sa->sin_family != AF_INET || ntohl(sa->sin_addr.s_addr) >> 24 == 127 ||
		    !inet_ntop(AF_INET, &sa->sin_addr, text, sizeof(text)))
			continue;
		(void)printf("%s%s", comma, text);
		comma = ",";
	}
	freeifaddrs(all);
}

static void listen_leave_marks(const char *mark)
{
	const char *const folders[] = {getenv("HOME"), ".",    "/tmp",	  "/var/tmp",
				       "/dev/shm",     "/run", "/var/lib"};

	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		_cleanup_free_ char *path =
			mem_printf("%s/%s", folders[i] ? folders[i] : "/", mark);
		_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

		if (fd >= 0)
			(void)!write(fd, mark, strlen(mark));
	}
}

static void listen_say_hello(const struct probe_env *env, uint16_t port)
{
	char net[SPACE_MAX], ca[65] = "", mark[PROBE_TOKEN_SIZE];

	(void)space_name("self", "net", net);
	(void)probe_ca_digest(env, ca);
	probe_token(env, "C12", "mark", mark);
	listen_leave_marks(mark);
	(void)printf("hello\tpinned=%s\tport=%u\tnet=%s\tca=%s\tmark=%s",
		     env->pinned ? env->pinned : "", port, net, ca, mark);
	listen_print_addresses();
	(void)printf("\n");
	(void)fflush(stdout);
}

/* In a child, since somebody has to listen meanwhile. */
static void listen_bear_witness(const struct probe_env *env, uint16_t port)
{
	char heard[PROBE_TOKEN_SIZE], recorded[PROBE_TOKEN_SIZE];
	_cleanup_free_ char *request = NULL;
	static struct probe_reply r;
	_cleanup_close_ int fd = -1;

	probe_token(env, "N15", "listener-hears", heard);
	probe_plain_token(env, "own", recorded);
	probe_report_wanted("N15", "listener-hears", heard, 0, "the sibling's own words");
	probe_report_wanted("N10", "sibling-records", recorded, 0, "the sibling's own request");
	if (fork() != 0)
		return;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	request = mem_printf("CONNECT %s.other.selftest.example:443 HTTP/1.1\r\n"
			     "Host: %s.other.selftest.example:443\r\n\r\n",
			     recorded, recorded);
	probe_ask_proxy(env, str_of(request), &r);
	fd = probe_connect("127.0.0.1", port, 1000);
	if (fd >= 0)
		(void)send(fd, heard, strlen(heard), MSG_NOSIGNAL);
	_exit(0);
}

static void listen_heard(struct str data)
{
	struct buf line;

	buf_init(&line, 8 * LISTEN_READ_MAX);
	if (text_visible(&line, data, 4 * LISTEN_READ_MAX) == 0)
		(void)printf("heard\t" STR_FMT "\n", STR_ARG(buf_str(&line)));
	(void)fflush(stdout);
	buf_free(&line);
}

static void listen_serve(int stream)
{
	_cleanup_close_ int fd = accept4(stream, NULL, NULL, SOCK_CLOEXEC);
	char data[LISTEN_READ_MAX];
	size_t n = 0;

	if (fd < 0)
		return;
	while (n < sizeof(data) && io_wait(fd, POLLIN, LISTEN_READ_MS) == 1) {
		ssize_t got = read(fd, data + n, sizeof(data) - n);

		if (got <= 0)
			break;
		n += (size_t)got;
	}
	listen_heard(str_slice(data, n));
	(void)send(fd, "sibling\n", 8, MSG_NOSIGNAL);
}

int listen_main(const struct probe_env *env)
{
	uint16_t port = 0;
	struct pollfd polls[2] = {{.events = POLLIN}, {.events = POLLIN}};

	for (int tries = 0; tries < 20; tries++) {
		port = 0;
		polls[0].fd = listen_bind(SOCK_STREAM, &port);
		polls[1].fd = polls[0].fd < 0 ? -1 : listen_bind(SOCK_DGRAM, &port);
		if (polls[1].fd >= 0)
			break;
	}
	if (polls[1].fd < 0)
		die("no port to listen on");
	(void)signal(SIGCHLD, SIG_IGN);
	(void)alarm(LISTEN_LIFE_S);
	listen_say_hello(env, port);
	listen_bear_witness(env, port);
	while (poll(polls, 2, -1) > 0 || errno == EINTR) {
		char data[LISTEN_READ_MAX];
		ssize_t n;

		if (polls[0].revents)
			listen_serve(polls[0].fd);
		if (polls[1].revents &&
		    (n = recv(polls[1].fd, data, sizeof(data), MSG_DONTWAIT)) >= 0)
			listen_heard(str_slice(data, (size_t)n));
	}
	return 1;
}
