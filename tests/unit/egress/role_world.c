#include "role_world.h"

static void *keyd_run(void *arg)
{
	struct world *w = arg;
	struct keyd_request q;

	while (recv(w->keyd_fds[0], &q, sizeof(q), 0) == (ssize_t)sizeof(q)) {
		struct keyd_reply r = {.id = q.id, .status = KEYD_OK};
		const char *value =
			q.index == 1 ? "Basic " GIT_CREDENTIAL : "Bearer " UPSTREAM_CREDENTIAL;
		size_t n = strlen(value);

		memcpy(r.data, value, n);
		r.data_n = (uint32_t)n;
		(void)send(w->keyd_fds[0], &r, offsetof(struct keyd_reply, data) + n, 0);
	}
	return NULL;
}

/* --- the keeper --- */

static void keeper_on_quit(struct loop_watch *watch, uint32_t events)
{
	struct world *w = (struct world *)((char *)watch - offsetof(struct world, quit));

	(void)events;
	keeper_reach_close(&w->reach);
	loop_stop(w->loop, 0);
}

static void *keeper_run(void *arg)
{
	(void)loop_run(((struct world *)arg)->loop);
	return NULL;
}

void world_keeper_start(struct world *w)
{
	struct err e = ERR_INIT;

	w->loop = loop_new(&e);
	w->quit.fn = keeper_on_quit;
	if (!w->loop || loop_add(w->loop, &w->quit, eventfd(0, EFD_CLOEXEC), EPOLLIN, &e) < 0 ||
	    keeper_reach_open(&w->reach, w->loop, &w->policy, &w->git, &w->reach_fd, &e) < 0 ||
	    pthread_create(&w->keeper, NULL, keeper_run, w) != 0)
		fail_msg("%s", e.text);
}

void world_keeper_stop(struct world *w)
{
	if (!w->loop)
		return;
	assert_int_equal(eventfd_write(w->quit.fd, 1), 0);
	(void)pthread_join(w->keeper, NULL);
	(void)close(w->quit.fd);
	loop_free(w->loop);
	w->loop = NULL;
}

/* --- the role --- */

/* 0: https, with a token; 1: ssh, where the test listens; 2: ssh, at an address inside. */
static void fill_git(struct world *w)
{
	w->remotes[0] = (struct git_remote){.name = (char *)"origin",
					    .transport = GIT_TRANSPORT_HTTPS,
					    .host = (char *)"bound.test",
					    .port = 443,
					    .path = (char *)"/team/app.git",
					    .user = (char *)"me",
					    .has_credential = true,
					    .credential = 1,
					    .placeholder = (char *)GIT_PLACEHOLDER};
	w->remotes[1] = (struct git_remote){.name = (char *)"far",
					    .transport = GIT_TRANSPORT_SSH,
					    .host = (char *)"ssh.test",
					    .port = w->ssh_port,
					    .path = (char *)"team/app.git",
					    .user = (char *)"git",
					    .has_credential = true,
					    .credential = 2,
					    .host_key = (char *)HOST_KEY};
	w->remotes[2] = w->remotes[1];
	w->remotes[2].name = (char *)"inside";
	w->remotes[2].host = (char *)"mixed.dns.test";
	for (size_t i = 0; i < ARRAY_LEN(w->remotes); i++)
		w->remotes[i].object_max_bytes = w->remotes[i].pack_max_bytes = 1;
	w->git = (struct git_policy){.remotes = w->remotes, .n_remotes = ARRAY_LEN(w->remotes)};
}

static int put_git(struct world *w, struct buf *out, struct err *e)
{
	fill_git(w);
	return git_policy_to_json(&w->git, out, e);
}

static int make_config(struct world *w, const struct policy_route *grants, size_t n_grants,
		       bool is_paused)
{
	struct policy_route routes[8] = {
		{.host = (char *)"bound.test",
		 .ports = {443},
		 .n_ports = 1,
		 .methods = 1u << POLICY_METHOD_GET,
		 .auth = {.scheme = POLICY_AUTH_BEARER,
			  .header = (char *)"authorization",
			  .placeholder = (char *)PLACEHOLDER}},
		{.host = (char *)"*.dns.test",
		 .ports = {443},
		 .n_ports = 1,
		 .methods = 1u << POLICY_METHOD_GET},
	};
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons(w->up.port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct policy p = {.routes = routes,
			   .n_routes = 2 + n_grants,
			   .resolve = w->resolve,
			   .n_resolve = 2,
			   .dns = &w->dns.address,
			   .n_dns = 1,
			   .ca_pem = w->up.ca_pem};
	struct err e = ERR_INIT;
	struct buf out;
	int fd;

	assert_true(p.n_routes <= ARRAY_LEN(routes));
	if (n_grants > 0)
		memcpy(routes + 2, grants, n_grants * sizeof(*grants));
	w->resolve[0].host = (char *)"bound.test";
	memcpy(&w->resolve[0].address, &a, sizeof(a));
	a.sin_port = 0; /* the remote's */
	w->resolve[1].host = (char *)"ssh.test";
	memcpy(&w->resolve[1].address, &a, sizeof(a));
	w->policy = (struct policy){.resolve = p.resolve, .n_resolve = 2, .dns = p.dns, .n_dns = 1};
	buf_init(&out, 1u << 20);
	if (buf_printf(&out,
		       "{\"version\":1,\"slug\":\"test\",\"pinned\":\"10.209.0.2\","
		       "%s\"supervised\":false,\"paused\":%s,\"uid_base\":0,\"policy\":",
		       w->is_apart ? "\"inside\":[\"44.1.1.9\"]," : "",
		       is_paused ? "true" : "false") < 0 ||
	    policy_to_json(&p, &out, &e) < 0 ||
	    buf_printf(&out, ",\"git_folder\":\"/nowhere\",\"git\":") < 0 ||
	    put_git(w, &out, &e) < 0 || buf_printf(&out, "}") < 0)
		fail_msg("%s", e.text);
	fd = io_memfd_sealed("config", buf_str(&out), &e);
	buf_free(&out);
	return fd;
}

/* The role's whole life, in a process that was executed anew: the test's threads were running when
 * it was forked, and one of them may have held the allocator's lock. */
int world_role_life(char **fds)
{
	struct bundle_role_env env;
	struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP};

	if (strcmp(fds[10], "apart") == 0 &&
	    (unshare(geteuid() == 0 ? CLONE_NEWNET : CLONE_NEWNET | CLONE_NEWUSER) < 0 ||
	     ioctl(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), SIOCSIFFLAGS, &up) < 0))
		return ROLE_SKIPPED;
	memset(&env, 0xff, sizeof(env));
	env.role = BUNDLE_ROLE_EGRESS;
	env.uid = getuid() == 0 ? 65534 : 0;
	env.config_fd = (int)strtol(fds[0], NULL, 10);
	env.ready_fd = (int)strtol(fds[1], NULL, 10);
	env.record_fd = (int)strtol(fds[2], NULL, 10);
	env.keyd_fd = (int)strtol(fds[3], NULL, 10);
	env.egress_fd = (int)strtol(fds[4], NULL, 10);
	env.reach_fd = (int)strtol(fds[5], NULL, 10);
	env.git_egress_fd = (int)strtol(fds[6], NULL, 10);
	env.dial_fd = (int)strtol(fds[7], NULL, 10);
	env.news_fd = (int)strtol(fds[8], NULL, 10);
	env.life = (unsigned)strtoul(fds[9], NULL, 10);
	return egress_role_main(&env);
}

bool world_start_role(struct world *w, const char *where)
{
	int fds[] = {w->config_fd,   w->ready_fds[1],  w->record_fds[1],
		     w->keyd_fds[1], w->egress_fds[1], w->reach_fd,
		     w->git_fds[1],  w->dial_fds[1],   w->news_fds[1]};
	char text[ARRAY_LEN(fds)][16], life[16];
	char *argv[ARRAY_LEN(fds) + 5] = {(char *)"test_egress_role", (char *)"role"};
	char byte;

	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		(void)snprintf(text[i], sizeof(text[i]), "%d", fds[i]);
		argv[i + 2] = text[i];
	}
	(void)snprintf(life, sizeof(life), "%u", ++w->life);
	argv[ARRAY_LEN(fds) + 2] = life;
	argv[ARRAY_LEN(fds) + 3] = (char *)(uintptr_t)where;
	w->pid = fork();
	assert_true(w->pid >= 0);
	if (w->pid == 0) {
		for (size_t i = 0; i < ARRAY_LEN(fds); i++)
			(void)(fds[i] >= 0 && fcntl(fds[i], F_SETFD, 0));
		(void)execv("/proc/self/exe", argv);
		_exit(127);
	}
	close_fd(&w->ready_fds[1]);
	close_fd(&w->news_fds[1]);
	return read(w->ready_fds[0], &byte, 1) == 1;
}

static void listen_for_ssh(struct world *w)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);

	w->ssh_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(w->ssh_fd, (struct sockaddr *)&a, n) < 0 || listen(w->ssh_fd, 16) < 0 ||
	    getsockname(w->ssh_fd, (struct sockaddr *)&a, &n) < 0)
		abort();
	w->ssh_port = ntohs(a.sin_port);
}

struct world *world_make(bool is_apart)
{
	struct world *w = calloc(1, sizeof(*w));

	w->is_apart = is_apart;
	w->reach_fd = -1;
	upstream_start(&w->up, "bound.test,DNS:ssh.test");
	dns_stub_start(&w->dns);
	listen_for_ssh(w);
	w->config_fd = make_config(w, NULL, 0, false);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, w->git_fds) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, w->news_fds) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, w->dial_fds) < 0)
		abort();
	if (w->config_fd < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, w->keyd_fds) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, w->record_fds) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, w->egress_fds) < 0 ||
	    pipe2(w->ready_fds, O_CLOEXEC) < 0 || pthread_create(&w->keyd, NULL, keyd_run, w) != 0)
		abort();
	return w;
}

int world_setup(void **state)
{
	struct world *w = world_make(false);

	*state = w;
	return world_start_role(w, "here") ? 0 : -1;
}

/* init's end: the role goes by itself, in order. */
int world_teardown(void **state)
{
	struct world *w = *state;
	int status = -1;

	close_fd(&w->egress_fds[0]);
	close_fd(&w->egress_fds[1]);
	if (w->pid > 0 && (waitpid(w->pid, &status, 0) != w->pid || !WIFEXITED(status) ||
			   WEXITSTATUS(status) != 0)) {
		print_error("status %x\n", (unsigned)status);
		return -1;
	}
	world_keeper_stop(w);
	close_fd(&w->reach_fd);
	(void)shutdown(w->keyd_fds[0], SHUT_RDWR);
	(void)pthread_join(w->keyd, NULL);
	for (int i = 0; i < 2; i++) {
		close_fd(&w->keyd_fds[i]);
		close_fd(&w->record_fds[i]);
		close_fd(&w->git_fds[i]);
		close_fd(&w->dial_fds[i]);
		close_fd(&w->news_fds[i]);
	}
	close_fd(&w->ready_fds[0]);
	close_fd(&w->config_fd);
	close_fd(&w->ssh_fd);
	upstream_stop(&w->up);
	dns_stub_stop(&w->dns);
	free(w);
	return 0;
}

bool world_renew(struct world *w, const struct policy_route *grants, size_t n, bool is_paused)
{
	_cleanup_close_ int fd = make_config(w, grants, n, is_paused);
	struct news news = {.generation = ++w->generation}, answer = {0};

	assert_int_equal(io_send_fds(w->news_fds[0], &news, sizeof(news), &fd, 1, 0), sizeof(news));
	assert_int_equal(io_wait(w->news_fds[0], POLLIN, 10000), 1);
	return recv(w->news_fds[0], &answer, sizeof(answer), 0) == (ssize_t)sizeof(answer) &&
	       answer.generation == news.generation;
}

bool world_dial(struct world *w, const void *q, size_t n, struct git_dial_reply *reply, int *fd,
		int *asker)
{
	_cleanup_close_ int ours = -1, theirs = -1;
	size_t n_fds = 1;
	ssize_t got;
	int pair[2];

	*fd = -1;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	ours = pair[0];
	theirs = pair[1];
	assert_int_equal(io_send_fds(w->dial_fds[0], q, n, &theirs, 1, 0), (ssize_t)n);
	close_fd(&theirs);
	assert_int_equal(io_wait(ours, POLLIN, 10000), 1);
	got = io_recv_fds(ours, reply, sizeof(*reply), fd, &n_fds, MSG_DONTWAIT);
	if (got == 0)
		return false;
	assert_int_equal(got, (ssize_t)sizeof(*reply));
	assert_int_equal(n_fds, reply->status == 0);
	if (asker)
		*asker = take_fd(&ours);
	return true;
}

unsigned world_ask_over(int channel, const char *request, char *answer, size_t size)
{
	struct timeval limit = {.tv_sec = 10};
	unsigned status = 0;
	size_t n = 0;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(io_send_fds(channel, "c", 1, &pair[1], 1, 0), 1);
	(void)close(pair[1]);
	(void)setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	assert_int_equal(io_write_all(pair[0], request, strlen(request)), 0);
	while (n + 1 < size) {
		ssize_t got = read(pair[0], answer + n, size - 1 - n);
		const char *end;

		if (got <= 0)
			break;
		n += (size_t)got;
		answer[n] = '\0';
		end = strstr(answer, "\r\n\r\n");
		if (end && strstr(answer, "Content-Length: ") &&
		    n >= (size_t)(end + 4 - answer) +
				    strtoul(strstr(answer, "Content-Length: ") + 16, NULL, 10))
			break;
	}
	answer[n] = '\0';
	(void)close(pair[0]);
	(void)sscanf(answer, "HTTP/1.1 %u", &status);
	return status;
}

unsigned world_ask(struct world *w, const char *request, char *answer, size_t size)
{
	return world_ask_over(w->egress_fds[0], request, answer, size);
}
