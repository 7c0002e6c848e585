/*
 * The bundle as the host sees it: readiness, restarts with their limit, an overstepping role, the
 * end of the host, and no process left behind in any of them. Real processes throughout.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"
#include "bundle/bundle.h"
#include "record/record.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#define ROLES 4 /* of a bottle without git: the first ones */

static const char *fake_bundle;

struct bundle {
	pid_t init;
	int control, listen_fd;
	char records[64];
	struct sockaddr_un address;
};

/* One bound route: credential 0 goes to /api/ of bound.example.com and nowhere else. */
static const char config[] =
	"{\"version\":1,\"slug\":\"t-1\",\"pinned\":\"10.209.0.2\",\"supervised\":false,"
	"\"uid_base\":%u,%s\"policy\":{\"version\":1,\"resolve\":[],\"routes\":["
	"{\"host\":\"bound.example.com\",\"ports\":[443],\"methods\":[\"GET\"],"
	"\"paths\":[\"/api/**\"],\"auth\":{\"scheme\":\"bearer\",\"credential\":0,"
	"\"header\":\"authorization\",\"placeholder\":\"cbph-0123456789abcdef0123456789abcdef\"},"
	"\"on_match\":\"block\",\"websocket\":false},"
	"{\"host\":\"other.example.com\",\"ports\":[443],\"methods\":[\"GET\"],\"paths\":[],"
	"\"on_match\":\"block\",\"websocket\":false}]}}";

static int listen_on(struct bundle *b)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	b->address = (struct sockaddr_un){.sun_family = AF_UNIX};
	(void)snprintf(b->address.sun_path, sizeof(b->address.sun_path), "/tmp/cb-bundle-%d.sock",
		       (int)getpid());
	(void)unlink(b->address.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&b->address, sizeof(b->address)), 0);
	assert_int_equal(listen(fd, 16), 0);
	return fd;
}

static const char git_config[] =
	"\"git_folder\":\"/nowhere/git\",\"git\":{\"version\":1,\"enforce_identity\":false,"
	"\"remotes\":[{\"name\":\"origin\",\"transport\":\"ssh\",\"host\":\"git.example.com\","
	"\"port\":22,\"user\":\"git\",\"path\":\"team/app.git\",\"credential\":3,\"host_key\":"
	"\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\","
	"\"branches\":[],\"protected\":[],\"tags\":[],\"protect_head\":true,\"force\":false,"
	"\"delete\":false,\"stale\":false,\"oversize\":false,\"max_object\":1,\"max_pack\":1,"
	"\"allow\":[]}]},";

struct given {
	int config, secrets, records, control;
};

/* A fresh one, of credential 3. */
static size_t put_ssh_key(char *out, size_t size)
{
	struct bundle_secret_head head = {.kind = BUNDLE_SECRET_SSH_KEY, .index = 3};
	EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	BIO *bio = BIO_new(BIO_s_mem());
	char *text;

	assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL), 1);
	head.length = (uint32_t)BIO_get_mem_data(bio, &text);
	assert_true(sizeof(head) + head.length <= size);
	memcpy(out, &head, sizeof(head));
	memcpy(out + sizeof(head), text, head.length);
	BIO_free(bio);
	EVP_PKEY_free(pkey);
	return sizeof(head) + head.length;
}

static struct given bundle_given(struct bundle *b, const char *git)
{
	char text[2048], secrets[1024];
	struct bundle_secret_head head = {1 /* SCAN_KIND_SECRET */, 0, 0, 24};
	size_t n = sizeof(head) + 24;
	struct err e = ERR_INIT;
	struct given g;
	int pair[2];

	(void)snprintf(text, sizeof(text), config, geteuid() == 0 ? 61900u : 0u, git);
	g.config = io_memfd_sealed("config", str_of(text), &e);
	memcpy(secrets, &head, sizeof(head));
	memcpy(secrets + sizeof(head), "s3cr3t-value-of-the-test", 24);
	n += put_ssh_key(secrets + n, sizeof(secrets) - n);
	g.secrets = io_memfd_sealed("secrets", str_slice(secrets, n), &e);
	(void)snprintf(b->records, sizeof(b->records), "/tmp/cb-bundle-%d.jsonl", (int)getpid());
	(void)unlink(b->records);
	g.records = open(b->records, O_RDWR | O_CREAT | O_APPEND, 0600);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	b->control = pair[0];
	g.control = pair[1];
	return g;
}

static void given_close(struct given *g)
{
	close(g->config);
	close(g->secrets);
	close(g->records);
	close(g->control);
}

static void bundle_start_with(struct bundle *b, const char *git)
{
	struct given g = bundle_given(b, git);
	char args[6][32];

	b->listen_fd = listen_on(b);
	(void)snprintf(args[0], 32, "config=%d", g.config);
	(void)snprintf(args[1], 32, "secrets=%d", g.secrets);
	(void)snprintf(args[2], 32, "control=%d", g.control);
	(void)snprintf(args[3], 32, "records=%d", g.records);
	(void)snprintf(args[4], 32, "pipelock=%d", b->listen_fd);
	/* One socket for both: pipelock's stand-in takes the commands. */
	(void)snprintf(args[5], 32, "gitgate=%d", b->listen_fd);
	b->init = fork();
	if (b->init == 0) {
		close(b->control);
		(void)fcntl(g.config, F_SETFD, 0);
		(void)fcntl(g.secrets, F_SETFD, 0);
		(void)execl(fake_bundle, fake_bundle, "init", args[0], args[1], args[2], args[3],
			    args[4], *git ? args[5] : NULL, (char *)NULL);
		_exit(127);
	}
	given_close(&g);
}

static void bundle_start(struct bundle *b)
{
	bundle_start_with(b, "");
}

/* The next control message that contains text; fails the test if none comes. */
static void expect_event(struct bundle *b, const char *text)
{
	char message[BUNDLE_CONTROL_MAX + 1];

	for (;;) {
		ssize_t n;

		assert_int_equal(io_wait(b->control, POLLIN, 8000), 1);
		n = recv(b->control, message, BUNDLE_CONTROL_MAX, 0);
		assert_true(n > 0);
		message[n] = '\0';
		if (strstr(message, text))
			return;
		assert_null(strstr(message, "\"failed\""));
	}
}

/* Whether a role has the descriptor of this name. */
static bool role_has(pid_t pid, const char *name)
{
	char path[64], line[4096], want[32];
	_cleanup_close_ int fd = -1;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	(void)snprintf(want, sizeof(want), "%s=", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = read(fd, line, sizeof(line));
	assert_true(n > 0);
	return memmem(line, (size_t)n, want, strlen(want)) != NULL;
}

static pid_t role_pid_now(struct bundle *b, const char *name)
{
	char path[64], line[4096];
	_cleanup_fclose_ FILE *f = NULL;
	int pid;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)b->init, (int)b->init);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fscanf(f, "%d", &pid) == 1) {
		_cleanup_close_ int fd = -1;
		ssize_t n;

		(void)snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		n = read(fd, line, sizeof(line) - 1);
		/* argv: FILE "role" NAME … */
		if (n > 0 && memmem(line, (size_t)n, name, strlen(name) + 1) &&
		    memmem(line, (size_t)n, "role", 5))
			return pid;
	}
	return 0;
}

/* The event of a restart comes before the new process is what it will be. */
static pid_t role_pid(struct bundle *b, const char *name)
{
	pid_t pid = 0;

	for (int tries = 0; tries < 500 && pid == 0; tries++) {
		pid = role_pid_now(b, name);
		if (pid == 0)
			(void)usleep(10000);
	}
	assert_true(pid > 0);
	return pid;
}

static char command(struct bundle *b, char what)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char answer = 0;

	assert_int_equal(connect(fd, (struct sockaddr *)&b->address, sizeof(b->address)), 0);
	assert_int_equal(send(fd, &what, 1, MSG_NOSIGNAL), 1);
	if (io_wait(fd, POLLIN, 8000) == 1)
		(void)recv(fd, &answer, 1, 0);
	close(fd);
	return answer;
}

static void expect_gone(pid_t pid)
{
	for (int tries = 0; tries < 500 && kill(pid, 0) == 0; tries++)
		(void)usleep(10000);
	assert_int_equal(kill(pid, 0), -1);
}

/* init is gone, with this status, and so is everything that it started. */
static void expect_end(struct bundle *b, int want_status, const pid_t *roles, size_t n)
{
	int status = -1;

	for (int i = 0; i < 800 && waitpid(b->init, &status, WNOHANG) == 0; i++)
		(void)usleep(10000);
	assert_int_equal(status, want_status);
	for (size_t i = 0; i < n; i++)
		expect_gone(roles[i]);
	close(b->control);
	close(b->listen_fd);
	(void)unlink(b->address.sun_path);
}

static void all_roles(struct bundle *b, pid_t pids[ROLES])
{
	for (int r = 0; r < ROLES; r++)
		pids[r] = role_pid(b, bundle_role_name((enum bundle_role)r));
}

/* Verifies the chain and counts the lines that hold text. */
static int records_with(struct bundle *b, const char *text)
{
	_cleanup_fclose_ FILE *f = fopen(b->records, "re");
	char line[RECORD_LINE_MAX + 2], hash[RECORD_HASH_HEX];
	uint64_t seq = 0;
	int found = 0;

	assert_non_null(f);
	record_chain_start(hash);
	while (fgets(line, sizeof(line), f)) {
		struct err e = ERR_INIT;

		line[strcspn(line, "\n")] = '\0';
		if (record_verify_line(str_of(line), &seq, hash, &e) < 0)
			fail_msg("%s: %s", e.text, line);
		found += strstr(line, text) != NULL;
	}
	return found;
}

/* While the bundle runs: a line may be half written, so only its being there counts. */
static void wait_for_record(struct bundle *b, const char *text)
{
	char line[RECORD_LINE_MAX + 2];
	bool is_there = false;

	for (int tries = 0; tries < 500 && !is_there; tries++) {
		_cleanup_fclose_ FILE *f = fopen(b->records, "re");

		while (f && !is_there && fgets(line, sizeof(line), f))
			is_there = strstr(line, text) != NULL;
		(void)usleep(10000);
	}
	assert_true(is_there);
}

static void test_ready_and_stop(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;

	(void)state;
	bundle_start(&b);
	expect_event(&b, "BEGIN CERTIFICATE");
	all_roles(&b, pids);
	assert_int_equal(command(&b, 'm'), '+');
	assert_int_equal(command(&b, 'r'), '+');
	assert_true(send(b.control, "{\"command\":\"stop\"}", 18, 0) == 18);
	expect_end(&b, 0, pids, ROLES);
	assert_int_equal(records_with(&b, "\"bundle-ready\""), 1);
	/* The channel says who sent it, whatever the sender claims. */
	assert_int_equal(records_with(&b, "\"role\":\"pipelock\",\"verdict\":\"allow\""), 1);
	assert_int_equal(records_with(&b, "\"signing-key\""), 1);
	assert_true(records_with(&b, "\"checkpoint\"") >= 1);
	/* A credential leaves keyd for its own host, port and path alone. */
	assert_int_equal(records_with(&b, "\"header-granted\""), 1);
	assert_int_equal(records_with(&b, "\"header-granted\",\"path\":\"0\""), 1);
	assert_int_equal(records_with(&b, "\"header-denied\""), 4);
}

static void test_host_goes_away(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;

	(void)state;
	bundle_start(&b);
	expect_event(&b, "\"ready\"");
	all_roles(&b, pids);
	(void)shutdown(b.control, SHUT_RDWR);
	expect_end(&b, 0, pids, ROLES);
}

static void test_init_killed(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;

	(void)state;
	bundle_start(&b);
	expect_event(&b, "\"ready\"");
	all_roles(&b, pids);
	(void)kill(b.init, SIGKILL);
	expect_end(&b, SIGKILL, pids, ROLES);
}

/* Each role in turn dies, comes back, and everything still works: same CA, same channels. */
static void test_each_role_restarts(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;

	(void)state;
	bundle_start(&b);
	expect_event(&b, "\"ready\"");
	all_roles(&b, pids);
	for (int r = 0; r < ROLES; r++) {
		char text[64];

		(void)kill(pids[r], SIGKILL);
		(void)snprintf(text, sizeof(text), "\"role\":\"%s\"",
			       bundle_role_name((enum bundle_role)r));
		expect_event(&b, text);
		assert_int_equal(command(&b, 'm'), '+');
		assert_int_equal(command(&b, 'r'), '+');
	}
	all_roles(&b, pids);
	assert_true(send(b.control, "{\"command\":\"stop\"}", 18, 0) == 18);
	expect_end(&b, 0, pids, ROLES);
	assert_int_equal(records_with(&b, "\"role-restarted\""), ROLES);
}

static void test_restart_limit(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;

	(void)state;
	bundle_start(&b);
	expect_event(&b, "\"ready\"");
	for (int i = 0; i < 5; i++) {
		(void)kill(role_pid(&b, "egress"), SIGKILL);
		expect_event(&b, "\"role\":\"egress\"");
	}
	all_roles(&b, pids);
	(void)kill(pids[BUNDLE_ROLE_EGRESS], SIGKILL);
	expect_event(&b, "\"failed\"");
	expect_end(&b, 1 << 8, pids, ROLES);
}

/* pipelock asks for a credential: it gets none, and does not live to ask again. */
static void test_overstepping_role_is_killed(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;

	(void)state;
	bundle_start(&b);
	expect_event(&b, "\"ready\"");
	all_roles(&b, pids);
	(void)command(&b, 'h');
	expect_event(&b, "\"role\":\"pipelock\"");
	assert_int_equal(command(&b, 'm'), '+');
	assert_int_not_equal(role_pid(&b, "pipelock"), pids[BUNDLE_ROLE_PIPELOCK]);
	all_roles(&b, pids);
	assert_true(send(b.control, "{\"command\":\"stop\"}", 18, 0) == 18);
	expect_end(&b, 0, pids, ROLES);
	assert_int_equal(records_with(&b, "\"keyd-request-refused\""), 1);
}

static void test_filter_kill_is_named(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;

	(void)state;
#ifdef CLAUDE_BOTTLE_INSTRUMENTED
	print_message("skipped: the sanitizers' runtime needs calls that the filters refuse\n");
	skip();
#endif
	bundle_start(&b);
	expect_event(&b, "\"ready\"");
	assert_int_equal(command(&b, 'o'), '+');
	(void)command(&b, 'x');
	expect_event(&b, "system call filter");
	all_roles(&b, pids);
	(void)shutdown(b.control, SHUT_RDWR);
	expect_end(&b, 0, pids, ROLES);
}

/* --- as process 1 of a container --- */

/* init in pid and network namespaces of its own, told where its descriptors come from. False where
 * that cannot be done. */
static bool apart_spawn(struct bundle *b)
{
	char fds[128];

	b->listen_fd = -1;
	b->address = (struct sockaddr_un){.sun_family = AF_UNIX};
	(void)snprintf(b->address.sun_path, sizeof(b->address.sun_path), "/tmp/cb-bundle-%d.fds",
		       (int)getpid());
	(void)snprintf(fds, sizeof(fds), "fds=%s", b->address.sun_path);
	(void)unlink(b->address.sun_path);
	b->init = geteuid() != 0 ? -1
				 : (pid_t)syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNET | SIGCHLD,
						  NULL, NULL, NULL, 0);
	if (b->init == 0) {
		(void)execl(fake_bundle, fake_bundle, "init", fds, "listen=10.209.0.2",
			    (char *)NULL);
		_exit(127);
	}
	if (b->init < 0)
		print_message("skipped: only root makes pid and network namespaces here\n");
	return b->init > 0;
}

static bool apart_start(struct bundle *b)
{
	_cleanup_close_ int listener = -1, c = -1;
	struct given g;
	int reach[2];

	if (!apart_spawn(b))
		return false;
	g = bundle_given(b, "");
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&b->address, sizeof(b->address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(io_wait(listener, POLLIN, 8000), 1);
	c = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_int_equal(io_send_fds(c, "config", 6, &g.config, 1, 0), 6);
	assert_int_equal(io_send_fds(c, "secrets", 7, &g.secrets, 1, 0), 7);
	assert_int_equal(io_send_fds(c, "control", 7, &g.control, 1, 0), 7);
	assert_int_equal(io_send_fds(c, "records", 7, &g.records, 1, 0), 7);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, reach), 0);
	assert_int_equal(io_send_fds(c, "reach", 5, &reach[1], 1, 0), 5);
	close(reach[0]);
	close(reach[1]);
	assert_int_equal(io_send_fds(c, "end", 3, NULL, 0, 0), 3);
	given_close(&g);
	return true;
}

static int apart_namespace(struct bundle *b, const char *name)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)b->init, name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* The address comes to the namespace only now; then one command to pipelock. */
static char apart_obey(struct bundle *b, char what)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0ad10002)};
	struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	struct ifreq add = {.ifr_name = "lo:1"};
	char answer = 0;
	int fd;

	memcpy(&add.ifr_addr, &sa, sizeof(sa));
	sa.sin_port = htons(8888);
	fd = setns(apart_namespace(b, "net"), CLONE_NEWNET) == 0
		     ? socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)
		     : -1;
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &up) < 0 || ioctl(fd, SIOCSIFADDR, &add) < 0 ||
	    connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || send(fd, &what, 1, 0) != 1 ||
	    io_wait(fd, POLLIN, 8000) != 1 || recv(fd, &answer, 1, 0) != 1)
		return 0;
	return answer;
}

static char apart_command(struct bundle *b, char what)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(apart_obey(b, what));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return (char)WEXITSTATUS(status);
}

/* A process that is left behind in init's pid namespace and then ends: in the namespace its parent
 * is process 1. */
static void apart_leave_stray(struct bundle *b)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		if (setns(apart_namespace(b, "pid"), CLONE_NEWPID) < 0)
			_exit(1);
		pid = fork();
		if (pid == 0 && fork() == 0)
			(void)poll(NULL, 0, 50);
		else if (pid > 0)
			(void)waitpid(pid, NULL, 0);
		_exit(pid < 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static int children_count(const struct bundle *b)
{
	char path[64];
	_cleanup_fclose_ FILE *f = NULL;
	int n = 0, pid;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)b->init, (int)b->init);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fscanf(f, "%d", &pid) == 1)
		n++;
	return n;
}

static void test_apart(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;
	int n = 0;

	(void)state;
	if (!apart_start(&b))
		skip();
	expect_event(&b, "\"ready\"");
	all_roles(&b, pids);
	assert_int_equal(apart_command(&b, 'm'), '+');
	for (int i = 0; i < 3; i++)
		apart_leave_stray(&b);
	for (int tries = 0; tries < 300 && (n = children_count(&b)) != ROLES; tries++)
		(void)usleep(10000);
	assert_int_equal(n, ROLES);
	/* A role that ends is no stray. */
	(void)kill(pids[BUNDLE_ROLE_EGRESS], SIGKILL);
	expect_event(&b, "\"role\":\"egress\"");
	all_roles(&b, pids);
	(void)kill(b.init, SIGTERM);
	expect_end(&b, 0, pids, ROLES);
	assert_int_equal(records_with(&b, "\"role-restarted\""), 1);
}

/* The way to the host's network is for egress alone, whichever of its lives. */
static void test_apart_reach(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;

	(void)state;
	if (!apart_start(&b))
		skip();
	expect_event(&b, "\"ready\"");
	all_roles(&b, pids);
	for (int r = 0; r < ROLES; r++)
		assert_int_equal(role_has(pids[r], "reach"), r == BUNDLE_ROLE_EGRESS);
	(void)kill(pids[BUNDLE_ROLE_EGRESS], SIGKILL);
	expect_event(&b, "\"role\":\"egress\"");
	all_roles(&b, pids);
	assert_true(role_has(pids[BUNDLE_ROLE_EGRESS], "reach"));
	(void)kill(b.init, SIGTERM);
	expect_end(&b, 0, pids, ROLES);
}

static void test_apart_killed(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;

	(void)state;
	if (!apart_start(&b))
		skip();
	expect_event(&b, "\"ready\"");
	all_roles(&b, pids);
	(void)kill(b.init, SIGKILL);
	expect_end(&b, SIGKILL, pids, ROLES);
}

/* Process 1 hears no signal that it has no handler for. */
static void test_apart_ends_while_it_waits(void **state)
{
	struct bundle b = {.control = -1};
	siginfo_t ended = {0};

	(void)state;
	if (!apart_spawn(&b))
		skip();
	/* Not before it is there. */
	for (int tries = 0; tries < 300 && kill(b.init, SIGTERM) == 0; tries++) {
		(void)usleep(10000);
		if (waitid(P_PID, (id_t)b.init, &ended, WEXITED | WNOHANG | WNOWAIT) < 0 ||
		    ended.si_pid != 0)
			break;
	}
	expect_end(&b, (128 + SIGTERM) << 8, NULL, 0);
}

/* --- with git --- */

static pid_t child_of(pid_t parent)
{
	char path[64];
	int pid = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)parent, (int)parent);
	for (int tries = 0; tries < 500 && pid == 0; tries++) {
		_cleanup_fclose_ FILE *f = fopen(path, "re");

		if (f && fscanf(f, "%d", &pid) != 1)
			pid = 0;
		(void)usleep(10000);
	}
	assert_true(pid > 0);
	return pid;
}

static void git_roles(struct bundle *b, pid_t pids[BUNDLE_ROLE_COUNT])
{
	all_roles(b, pids);
	pids[BUNDLE_ROLE_GITSSH] = role_pid(b, "gitssh");
	pids[BUNDLE_ROLE_GITGATE] = role_pid(b, "gitgate");
}

/* Each has what it is for, and nothing of what the others have. */
static void test_git_roles(void **state)
{
	static const struct {
		const char *name;
		unsigned roles;
	} expected[] = {
		{"stream", 1u << BUNDLE_ROLE_GITSSH},
		{"dial", 1u << BUNDLE_ROLE_GITSSH | 1u << BUNDLE_ROLE_EGRESS},
		{"ssh", 1u << BUNDLE_ROLE_GITGATE},
		{"git_egress", 1u << BUNDLE_ROLE_EGRESS},
		{"egress",
		 1u << BUNDLE_ROLE_EGRESS | 1u << BUNDLE_ROLE_PIPELOCK | 1u << BUNDLE_ROLE_GITGATE},
		{"listen", 1u << BUNDLE_ROLE_PIPELOCK | 1u << BUNDLE_ROLE_GITGATE},
		{"secrets", 1u << BUNDLE_ROLE_KEYD},
	};
	pid_t pids[BUNDLE_ROLE_COUNT];
	struct bundle b;

	(void)state;
	bundle_start_with(&b, git_config);
	expect_event(&b, "\"ready\"");
	git_roles(&b, pids);
	for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
		for (unsigned r = 0; r < BUNDLE_ROLE_COUNT; r++)
			assert_int_equal(role_has(pids[r], expected[i].name),
					 (expected[i].roles >> r) & 1);
	}
	wait_for_record(&b, "\"heard\"");
	assert_true(send(b.control, "{\"command\":\"stop\"}", 18, 0) == 18);
	expect_end(&b, 0, pids, BUNDLE_ROLE_COUNT);
	/* What one wrote to the other over the channel between them. */
	assert_int_equal(records_with(&b, "\"role\":\"gitssh\",\"verdict\":\"note\""), 6);
	assert_int_equal(records_with(&b, "\"heard\""), 1);
	/* keyd gives gitssh what it needs to log in, and nothing besides. */
	assert_int_equal(records_with(&b, "\"as-expected\""), 5);
}

/* gitssh asks for a credential: as with pipelock. */
static void test_git_oversteps(void **state)
{
	pid_t pids[BUNDLE_ROLE_COUNT];
	struct bundle b;

	(void)state;
	bundle_start_with(&b, git_config);
	expect_event(&b, "\"ready\"");
	git_roles(&b, pids);
	(void)kill(pids[BUNDLE_ROLE_GITSSH], SIGUSR1);
	expect_event(&b, "\"role\":\"gitssh\"");
	(void)kill(pids[BUNDLE_ROLE_GITGATE], SIGUSR1);
	expect_event(&b, "\"role\":\"gitgate\"");
	git_roles(&b, pids);
	assert_true(send(b.control, "{\"command\":\"stop\"}", 18, 0) == 18);
	expect_end(&b, 0, pids, BUNDLE_ROLE_COUNT);
	assert_int_equal(records_with(&b, "\"keyd-request-refused\""), 2);
}

/* Killed, whatever it had started is gone before it is there again; the others did not notice. */
static void test_git_restarts(void **state)
{
	pid_t pids[BUNDLE_ROLE_COUNT], child;
	struct bundle b;

	(void)state;
	bundle_start_with(&b, git_config);
	expect_event(&b, "\"ready\"");
	git_roles(&b, pids);
	child = child_of(pids[BUNDLE_ROLE_GITGATE]);
	(void)kill(pids[BUNDLE_ROLE_GITGATE], SIGKILL);
	expect_event(&b, "\"role\":\"gitgate\"");
	expect_gone(child);
	(void)kill(pids[BUNDLE_ROLE_GITSSH], SIGKILL);
	expect_event(&b, "\"role\":\"gitssh\"");
	assert_int_equal(command(&b, 'm'), '+');
	assert_int_equal(role_pid(&b, "pipelock"), pids[BUNDLE_ROLE_PIPELOCK]);
	git_roles(&b, pids);
	child = child_of(pids[BUNDLE_ROLE_GITGATE]);
	assert_true(send(b.control, "{\"command\":\"stop\"}", 18, 0) == 18);
	expect_end(&b, 0, pids, BUNDLE_ROLE_COUNT);
	expect_gone(child);
}

static int remove_files(void **state)
{
	char path[64];

	(void)state;
	(void)snprintf(path, sizeof(path), "/tmp/cb-bundle-%d.jsonl", (int)getpid());
	(void)unlink(path);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ready_and_stop),
		cmocka_unit_test(test_host_goes_away),
		cmocka_unit_test(test_init_killed),
		cmocka_unit_test(test_each_role_restarts),
		cmocka_unit_test(test_restart_limit),
		cmocka_unit_test(test_overstepping_role_is_killed),
		cmocka_unit_test(test_filter_kill_is_named),
		cmocka_unit_test(test_git_roles),
		cmocka_unit_test(test_git_oversteps),
		cmocka_unit_test(test_git_restarts),
		cmocka_unit_test(test_apart),
		cmocka_unit_test(test_apart_reach),
		cmocka_unit_test(test_apart_killed),
		cmocka_unit_test(test_apart_ends_while_it_waits),
	};

	if (argc != 2)
		return 2;
	fake_bundle = argv[1];
	return cmocka_run_group_tests(tests, NULL, remove_files);
}
