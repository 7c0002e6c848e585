#include "scene.h"

#include "base/clean.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

static bool is_root;

static void check(bool is_ok, const char *what)
{
	if (is_ok)
		return;
	(void)fprintf(stderr, "scene: %s: %s\n", what, strerror(errno));
	abort();
}

static bool put(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

static bool become_root_inside(void)
{
	char uids[32], gids[32];

	(void)snprintf(uids, sizeof(uids), "0 %u 1", (unsigned)geteuid());
	(void)snprintf(gids, sizeof(gids), "0 %u 1", (unsigned)getegid());
	return unshare(CLONE_NEWUSER) == 0 && put("/proc/self/setgroups", "deny") &&
	       put("/proc/self/uid_map", uids) && put("/proc/self/gid_map", gids);
}

const char *scene_prepare(void)
{
	int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), status;
	pid_t pid;

	is_root = geteuid() == 0;
	if (!is_root && !become_root_inside())
		return "no root, and no user namespace can be made";
	if (unshare(CLONE_NEWNET) < 0)
		return "no network namespace can be made";
	if (is_root && setns(own, CLONE_NEWNET) < 0)
		return "the network namespace cannot be left again";
	(void)close(own);
	pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWNET) < 0)
			_exit(1);
		_exit(scene_ip(-1, "link add eth0 type veth peer name wall0") ? 0 : 2);
	}
	if (waitpid(pid, &status, 0) != pid || status != 0)
		return "ip (iproute2) or veth interfaces";
	return NULL;
}

bool scene_is_root(void)
{
	return is_root;
}

void scene_enter(int ns)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (ns >= 0 && setns(ns, CLONE_NEWNET) < 0)
		_exit(98);
}

int scene_run(int ns, int (*fn)(void *ctx), void *ctx)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		scene_enter(ns);
		_exit(fn(ctx));
	}
	check(waitpid(pid, &status, 0) == pid, "wait");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run_ip(void *arguments)
{
	char text[256], *argv[24] = {(char *)(uintptr_t) "ip"}, *save = NULL;
	int n = 1;

	(void)snprintf(text, sizeof(text), "%s", (const char *)arguments);
	for (char *word = strtok_r(text, " ", &save); word && n < 23;
	     word = strtok_r(NULL, " ", &save))
		argv[n++] = word;
	(void)execvp("ip", argv);
	(void)execv("/usr/sbin/ip", argv);
	(void)execv("/sbin/ip", argv);
	return 127;
}

bool scene_ip(int ns, const char *arguments)
{
	return scene_run(ns, run_ip, (void *)(uintptr_t)arguments) == 0;
}

static int scene_new_ns(void)
{
	_cleanup_close_ int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int ns;

	check(own >= 0 && unshare(CLONE_NEWNET) == 0, "make a network namespace");
	ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	check(ns >= 0 && setns(own, CLONE_NEWNET) == 0, "leave the network namespace");
	return ns;
}

/* Otherwise the kernel of the bundle's side soon falls silent where it should refuse datagrams. */
static int answer_always(void *ctx)
{
	(void)ctx;
	return put("/proc/sys/net/ipv4/icmp_ratelimit", "0") ? 0 : 1;
}

void scene_make(struct scene *s)
{
	char move[96];

	memset(s, 0, sizeof(*s));
	s->agent_ns = scene_new_ns();
	s->bundle_ns = scene_new_ns();
	(void)snprintf(move, sizeof(move), "link set wall0 netns /proc/%d/fd/%d", (int)getpid(),
		       s->bundle_ns);
	check(scene_ip(s->agent_ns, "link set lo up") && scene_ip(s->bundle_ns, "link set lo up") &&
		      scene_ip(s->agent_ns, "link add eth0 type veth peer name wall0") &&
		      scene_ip(s->agent_ns, move) &&
		      scene_ip(s->bundle_ns, "addr add " SCENE_PINNED "/24 dev wall0") &&
		      scene_ip(s->bundle_ns, "link set wall0 up") &&
		      scene_ip(s->agent_ns, "addr add " SCENE_OWN "/24 dev eth0") &&
		      scene_ip(s->agent_ns, "link set eth0 up") &&
		      scene_ip(s->agent_ns, "route add default via 10.210.0.1 dev eth0"),
	      "ip");
	check(scene_run(s->bundle_ns, answer_always, NULL) == 0, "icmp_ratelimit");
}

void scene_silence(struct scene *s)
{
	for (size_t i = 0; i < s->n_listeners; i++) {
		(void)kill(s->listeners[i], SIGKILL);
		(void)waitpid(s->listeners[i], NULL, 0);
	}
	s->n_listeners = 0;
}

void scene_free(struct scene *s)
{
	scene_silence(s);
	close_fd(&s->agent_ns);
	close_fd(&s->bundle_ns);
}

static int listener_open(const char *address, unsigned port, int type)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), yes = 1;

	(void)inet_pton(AF_INET, address, &sa.sin_addr);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		_exit(97);
	if (type == SOCK_STREAM && listen(fd, 0) < 0)
		_exit(97);
	return fd;
}

static _Noreturn void listener_serve(int fd, const char *answer)
{
	for (;;) {
		int c = accept(fd, NULL, NULL);
		char request[256];

		if (answer[0]) {
			(void)!read(c, request, sizeof(request));
			(void)!write(c, answer, strlen(answer));
		}
		(void)close(c);
	}
}

/* Nothing is accepted and the queue is full: what comes now is dropped in silence. */
static _Noreturn void listener_stuff(int fd, int ready)
{
	struct sockaddr_in sa;
	socklen_t size = sizeof(sa);

	(void)getsockname(fd, (struct sockaddr *)&sa, &size);
	for (int i = 0; i < 4; i++) {
		int c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

		(void)connect(c, (struct sockaddr *)&sa, sizeof(sa));
	}
	(void)poll(NULL, 0, 50);
	(void)!write(ready, "", 1);
	for (;;)
		(void)pause();
}

/* Forks, and returns in the parent once the child has written a byte. */
static pid_t listener_fork(struct scene *s, int ns, int ready[2])
{
	pid_t pid;
	char byte;

	check(s->n_listeners < ARRAY_LEN(s->listeners), "too many listeners");
	check(pipe2(ready, O_CLOEXEC) == 0, "pipe");
	pid = fork();
	if (pid == 0) {
		scene_enter(ns);
		return 0;
	}
	(void)close(ready[1]);
	check(read(ready[0], &byte, 1) == 1, "a listener");
	(void)close(ready[0]);
	s->listeners[s->n_listeners++] = pid;
	return pid;
}

void scene_listen(struct scene *s, int ns, const char *address, unsigned port, const char *answer,
		  unsigned delay_ms)
{
	int ready[2], fd;

	if (listener_fork(s, ns, ready) != 0)
		return;
	if (delay_ms > 0) {
		(void)!write(ready[1], "", 1);
		(void)poll(NULL, 0, (int)delay_ms);
	}
	fd = listener_open(address, port, SOCK_STREAM);
	if (!answer)
		listener_stuff(fd, ready[1]);
	(void)!write(ready[1], "", 1);
	listener_serve(fd, answer);
}

void scene_answer_udp(struct scene *s, int ns, const char *address, unsigned port)
{
	struct sockaddr_in from;
	char question[64];
	int ready[2], fd;

	if (listener_fork(s, ns, ready) != 0)
		return;
	fd = listener_open(address, port, SOCK_DGRAM);
	(void)!write(ready[1], "", 1);
	for (;;) {
		socklen_t size = sizeof(from);
		ssize_t got = recvfrom(fd, question, sizeof(question), 0, (struct sockaddr *)&from,
				       &size);

		if (got > 0)
			(void)sendto(fd, question, (size_t)got, 0, (struct sockaddr *)&from, size);
	}
}
