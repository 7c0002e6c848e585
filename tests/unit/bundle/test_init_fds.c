/*
 * How init gets its descriptors: by name on the command line, or passed over a socket by whoever
 * made it. What is missing, unknown, repeated or cut must stop it with a line that says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"
#include "bundle/init_fds.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

struct message {
	const char *text;
	unsigned n_fds;
};

static struct sockaddr_un address;

static int keeper_listen(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	(void)unlink(address.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

/* A keeper that says this, up to a NULL, and goes. Each descriptor is a file that holds its
 * message's text. */
static pid_t keeper_start(const struct message *messages, unsigned delay_ms)
{
	int listener = delay_ms ? -1 : keeper_listen(), c;
	pid_t pid = fork();

	if (pid != 0) {
		if (listener >= 0)
			close(listener);
		return pid;
	}
	if (delay_ms) {
		(void)poll(NULL, 0, (int)delay_ms);
		listener = keeper_listen();
	}
	c = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	for (size_t i = 0; messages[i].text; i++) {
		int fds[IO_FDS_MAX];

		for (unsigned k = 0; k < messages[i].n_fds; k++) {
			fds[k] = memfd_create("given", MFD_CLOEXEC);
			(void)!write(fds[k], messages[i].text, strlen(messages[i].text));
		}
		(void)io_send_fds(c, messages[i].text, strlen(messages[i].text), fds,
				  messages[i].n_fds, 0);
	}
	_exit(0);
}

static int take_over_socket(struct init_fds *f, const struct message *messages, bool has_listen,
			    unsigned delay_ms, struct err *e)
{
	char fds[128], listen[] = "listen=10.209.0.2";
	char *argv[] = {fds, has_listen ? listen : NULL, NULL};
	const char *listen_text = NULL;
	pid_t keeper = keeper_start(messages, delay_ms);
	int ret;

	*e = ERR_INIT;
	(void)snprintf(fds, sizeof(fds), "fds=%s", address.sun_path);
	ret = init_fds_take(f, argv, &listen_text, e);
	if (has_listen)
		assert_string_equal(listen_text, "10.209.0.2");
	else
		assert_null(listen_text);
	(void)kill(keeper, SIGKILL);
	assert_int_equal(waitpid(keeper, NULL, 0), keeper);
	(void)unlink(address.sun_path);
	return ret;
}

static void close_all(struct init_fds *f)
{
	int *all[] = {&f->config,	  &f->secrets,	     &f->control,     &f->records,
		      &f->rules,	  &f->reach,	     &f->door,	      &f->pipelock,
		      &f->gitgate,	  &f->dns_udp,	     &f->dns_tcp,     &f->supervise,
		      &f->desk_supervise, &f->desk_pipelock, &f->desk_gitgate};

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		close_fd(all[i]);
}

static void expect_file(int fd, const char *text)
{
	char got[32] = "";

	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(pread(fd, got, sizeof(got) - 1, 0), strlen(text));
	assert_string_equal(got, text);
}

static void test_all_over_socket(void **state)
{
	static const struct message messages[] = {
		{"rules", 1},	       {"reach", 1},   {"control", 1},
		{"config", 1},	       {"records", 1}, {"secrets", 1},
		{"desk_supervise", 1}, {"end", 0},     {NULL, 0}};
	struct init_fds f;
	struct err e;

	(void)state;
	/* Also where the keeper is late. */
	for (unsigned delay_ms = 0; delay_ms <= 300; delay_ms += 300) {
		assert_int_equal(take_over_socket(&f, messages, true, delay_ms, &e), 0);
		expect_file(f.config, "config");
		expect_file(f.secrets, "secrets");
		expect_file(f.control, "control");
		expect_file(f.records, "records");
		expect_file(f.rules, "rules");
		expect_file(f.reach, "reach");
		expect_file(f.desk_supervise, "desk_supervise");
		assert_int_equal(f.pipelock, -1);
		assert_int_equal(f.dns_udp, -1);
		assert_int_equal(f.dns_tcp, -1);
		close_all(&f);
	}
}

static void test_least_over_socket(void **state)
{
	static const struct message messages[] = {
		{"config", 1}, {"control", 1}, {"records", 1}, {"end", 0}, {NULL, 0}};
	struct init_fds f;
	struct err e;

	(void)state;
	assert_int_equal(take_over_socket(&f, messages, true, 0, &e), 0);
	assert_int_equal(f.reach, -1);
	assert_int_equal(f.rules, -1);
	close_all(&f);
	/* Who is to listen nowhere must be given a socket. */
	assert_int_equal(take_over_socket(&f, messages, false, 0, &e), -ENOENT);
	assert_non_null(strstr(e.text, "no descriptor named pipelock"));
	close_all(&f);
}

static void test_listeners_over_socket(void **state)
{
	static const struct message messages[] = {
		{"config", 1},	{"control", 1},	  {"records", 1}, {"pipelock", 1}, {"gitgate", 1},
		{"dns_udp", 1}, {"supervise", 1}, {"dns_tcp", 1}, {"end", 0},	   {NULL, 0}};
	struct init_fds f;
	struct err e;

	(void)state;
	assert_int_equal(take_over_socket(&f, messages, false, 0, &e), 0);
	expect_file(f.pipelock, "pipelock");
	expect_file(f.gitgate, "gitgate");
	expect_file(f.supervise, "supervise");
	expect_file(f.dns_udp, "dns_udp");
	expect_file(f.dns_tcp, "dns_tcp");
	close_all(&f);
}

static void test_refused_over_socket(void **state)
{
#define NEEDED                                                                                     \
	{"config", 1}, {"control", 1},                                                             \
	{                                                                                          \
		"records", 1                                                                       \
	}
#define END                                                                                        \
	{"end", 0},                                                                                \
	{                                                                                          \
		NULL, 0                                                                            \
	}
	static const struct {
		struct message messages[10];
		const char *want;
	} table[] = {
		{{{"config", 1}, {"control", 1}, END}, "no descriptor named records"},
		{{{"control", 1}, {"records", 1}, END}, "no descriptor named config"},
		{{{"config", 1}, {"records", 1}, END}, "no descriptor named control"},
		{{END}, "no descriptor named config"},
		{{NEEDED, {NULL, 0}}, "went away"},
		{{{NULL, 0}}, "went away"},
		{{NEEDED, {"config", 1}, END}, "config came twice"},
		{{NEEDED, {"log", 1}, {"log", 1}, END}, "log came twice"},
		{{NEEDED, {"shell", 1}, END}, "unknown name"},
		{{NEEDED, {"", 1}, END}, "went away"}, /* an empty message is an end of file */
		{{NEEDED, {"pipelock", 1}, END}, "pipelock came beside listen="},
		{{NEEDED, {"dns_udp", 1}, END}, "dns_udp came beside listen="},
		{{NEEDED, {"dns_tcp", 1}, END}, "dns_tcp came beside listen="},
		{{NEEDED, {"secrets", 0}, END}, "without its descriptor"},
		{{NEEDED, {"secrets", 2}, END}, "was cut"},
		{{NEEDED, {"end", 1}, END}, "unknown name"},
		{{NEEDED, {"a-name-that-is-too-long-for-any", 1}, END}, "was cut"},
	};
#undef NEEDED
#undef END

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		_cleanup_close_ int out = dup(1), err = dup(2);
		struct init_fds f;
		struct err e;
		int ret = take_over_socket(&f, table[i].messages, true, 0, &e);

		(void)dup2(out, 1);
		(void)dup2(err, 2);
		if (ret >= 0 || !strstr(e.text, table[i].want))
			fail_msg("%zu: %d %s", i, ret, e.text);
		close_all(&f);
	}
}

static void test_log_becomes_output(void **state)
{
	static const struct message messages[] = {{"log", 1},	  {"config", 1}, {"control", 1},
						  {"records", 1}, {"end", 0},	 {NULL, 0}};
	int status = -1;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		struct init_fds f;
		struct err e;
		char got[32] = "";

		if (take_over_socket(&f, messages, true, 0, &e) < 0 || write(1, "-out", 4) != 4 ||
		    write(2, "-err", 4) != 4 || pread(2, got, sizeof(got) - 1, 0) != 11)
			_exit(1);
		_exit(strcmp(got, "log-out-err") == 0 ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static int take(struct init_fds *f, struct err *e, const char *a, const char *b, const char *c)
{
	char config[] = "config=0", control[] = "control=0", records[] = "records=0";
	char *argv[8] = {config, control, records}, more[3][64];
	const char *const given[] = {a, b, c};
	const char *listen_text;

	*e = ERR_INIT;
	for (size_t i = 0; i < 3 && given[i]; i++) {
		(void)snprintf(more[i], sizeof(more[i]), "%s", given[i]);
		argv[3 + i] = more[i];
	}
	return init_fds_take(f, argv, &listen_text, e);
}

static void test_arguments(void **state)
{
	struct init_fds f;
	struct err e;
	/* Not close-on-exec for cmocka's own, which the last of these tests needs no more. */
	int flags = fcntl(0, F_GETFD);

	(void)state;
	assert_int_equal(take(&f, &e, "pipelock=1", "dns_udp=2", "reach=2"), 0);
	assert_int_equal(f.pipelock, 1);
	assert_int_equal(f.dns_udp, 2);
	assert_int_equal(f.dns_tcp, -1);
	assert_int_equal(f.reach, 2);
	assert_int_equal(take(&f, &e, "listen=10.209.0.2", NULL, NULL), 0);
	assert_int_equal(f.pipelock, -1);
	assert_int_equal(take(&f, &e, NULL, NULL, NULL), -ENOENT);
	assert_int_equal(take(&f, &e, "listen=10.209.0.2", "pipelock=1", NULL), -EINVAL);
	assert_int_equal(take(&f, &e, "listen=10.209.0.2", "dns_tcp=1", NULL), -EINVAL);
	assert_int_equal(take(&f, &e, "listen=10.209.0.2", "listen=10.209.0.3", NULL), -EINVAL);
	assert_int_equal(take(&f, &e, "fds=/tmp/x", "pipelock=1", NULL), -EINVAL);
	assert_int_equal(take(&f, &e, "pipelock=1", "config=1", NULL), -EINVAL);
	assert_int_equal(take(&f, &e, "pipelock=1", "secret=1", NULL), -EINVAL);
	assert_int_equal(take(&f, &e, "pipelock=1", "secrets", NULL), -EINVAL);
	assert_int_equal(take(&f, &e, "pipelock=1", "log=1", NULL), -EINVAL);
	assert_int_equal(take(&f, &e, "pipelock=1", "secrets=60000", NULL), -EINVAL);
	for (int fd = 0; fd < 3; fd++)
		(void)fcntl(fd, F_SETFD, flags);
}

static void test_path(void **state)
{
	char relative[] = "fds=x.sock", longest[256] = "fds=/", listen[] = "listen=10.209.0.2";
	char *const texts[] = {relative, longest};
	const char *listen_text;
	struct init_fds f;

	(void)state;
	memset(longest + 5, 'x', 150);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		char *argv[] = {texts[i], listen, NULL};
		struct err e = ERR_INIT;

		assert_int_equal(init_fds_take(&f, argv, &listen_text, &e), -EINVAL);
		assert_non_null(strstr(e.text, "absolute path"));
	}
}

/* --- the listening sockets --- */

static void expect_socket(int fd, uint16_t port, int type)
{
	struct sockaddr_in sa;
	socklen_t n = sizeof(sa);
	int value = 0;

	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &n), 0);
	assert_int_equal(sa.sin_family, AF_INET);
	assert_int_equal(ntohs(sa.sin_port), port);
	assert_int_equal(ntohl(sa.sin_addr.s_addr), 0x0ad10002);
	n = sizeof(value);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &n), 0);
	assert_int_equal(value, type);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &n), 0);
	assert_int_equal(value, type == SOCK_STREAM);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static void test_listen(void **state)
{
	struct git_policy git = {0};
	struct bundle_config c = {.pinned = "10.209.0.2"};
	struct init_fds f;
	struct err e = ERR_INIT;

	(void)state;
	init_fds_init(&f);
	/* Where nobody has the address, and where the ports are free. */
	if (unshare(geteuid() == 0 ? CLONE_NEWNET : CLONE_NEWNET | CLONE_NEWUSER) < 0) {
		print_message("skipped: no network namespace can be made here\n");
		skip();
	}
	for (int with = 0; with < 4; with++) {
		c.git = with & 1 ? &git : NULL;
		c.is_supervised = with & 2;
		if (init_fds_listen(&f, &c, &e) < 0)
			fail_msg("%s", e.text);
		expect_socket(f.pipelock, 8888, SOCK_STREAM);
		expect_socket(f.dns_udp, 53, SOCK_DGRAM);
		expect_socket(f.dns_tcp, 53, SOCK_STREAM);
		if (c.git)
			expect_socket(f.gitgate, 9418, SOCK_STREAM);
		else
			assert_int_equal(f.gitgate, -1);
		if (c.is_supervised)
			expect_socket(f.supervise, 9100, SOCK_STREAM);
		else
			assert_int_equal(f.supervise, -1);
		close_all(&f);
	}
}

static void test_listen_refused(void **state)
{
	static const char *const texts[] = {"",
					    "0.0.0.0",
					    "0.1.2.3",
					    "255.255.255.255",
					    "224.0.0.1",
					    "239.1.1.1",
					    "240.0.0.1",
					    "::",
					    "::1",
					    "10.209.2",
					    "10.209.0.2 ",
					    " 10.209.0.2",
					    "010.209.0.2",
					    "10.209.0.256",
					    "0x0ad10002",
					    "10.209.0.2:80",
					    "10.209.0.2/32",
					    "localhost",
					    "*",
					    "10.209.0.2,0.0.0.0"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct bundle_config c = {.is_supervised = true};
		struct init_fds f;
		struct err e = ERR_INIT;

		init_fds_init(&f);
		(void)snprintf(c.pinned, sizeof(c.pinned), "%s", texts[i]);
		if (init_fds_listen(&f, &c, &e) != -EINVAL || f.pipelock >= 0)
			fail_msg("\"%s\" was taken", texts[i]);
	}
}

/* A port that nobody serves, or a configuration without its port, is a mistake on one side. */
static void test_git_belongs_together(void **state)
{
	struct git_remote remotes[] = {{.transport = GIT_TRANSPORT_HTTPS},
				       {.transport = GIT_TRANSPORT_WORKSPACE}};
	struct git_policy git = {.remotes = remotes, .n_remotes = 1};
	struct bundle_config without = {0}, with = {.git = &git};
	struct init_fds f;
	struct err e = ERR_INIT;

	(void)state;
	init_fds_init(&f);
	assert_int_equal(init_fds_check(&f, &without, &e), 0);
	assert_int_equal(init_fds_check(&f, &with, &e), -EINVAL);
	f.gitgate = 7;
	assert_int_equal(init_fds_check(&f, &with, &e), 0);
	assert_int_equal(init_fds_check(&f, &without, &e), -EINVAL);
	git.n_remotes = 2;
	assert_int_equal(init_fds_check(&f, &with, &e), -ENOENT);
	f.door = 8;
	assert_int_equal(init_fds_check(&f, &with, &e), 0);
}

/* All of what supervise needs, and none of it without. */
static void test_supervise_belongs_together(void **state)
{
	struct git_policy git = {0};
	struct bundle_config c = {.is_supervised = true}, without = {0};
	struct init_fds f;
	int *const needed[] = {&f.supervise, &f.desk_supervise, &f.desk_pipelock};
	struct err e = ERR_INIT;

	(void)state;
	init_fds_init(&f);
	for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
		assert_int_equal(init_fds_check(&f, &c, &e), -ENOENT);
		*needed[i] = 7;
		assert_int_equal(init_fds_check(&f, &without, &e), -EINVAL);
	}
	assert_int_equal(init_fds_check(&f, &c, &e), 0);
	/* git-gate's desk likewise. */
	f.desk_gitgate = 8;
	assert_int_equal(init_fds_check(&f, &c, &e), -EINVAL);
	c.git = &git;
	f.gitgate = 9;
	assert_int_equal(init_fds_check(&f, &c, &e), 0);
	f.desk_gitgate = -1;
	assert_int_equal(init_fds_check(&f, &c, &e), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_over_socket),
		cmocka_unit_test(test_least_over_socket),
		cmocka_unit_test(test_listeners_over_socket),
		cmocka_unit_test(test_refused_over_socket),
		cmocka_unit_test(test_log_becomes_output),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_path),
		cmocka_unit_test(test_listen_refused),
		cmocka_unit_test(test_git_belongs_together),
		cmocka_unit_test(test_supervise_belongs_together),
		cmocka_unit_test(test_listen),
	};

	address.sun_family = AF_UNIX;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/cb-init-fds-%d.sock",
		       (int)getpid());
	return cmocka_run_group_tests(tests, NULL, NULL);
}
