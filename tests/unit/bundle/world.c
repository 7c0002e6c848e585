#include "world.h"

#include "base/clean.h"
#include "base/io.h"
#include "record/record.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define ARGS_MAX 10

const char *fake_bundle;

/* One bound route: credential 0 goes to /api/ of bound.example.com and nowhere else. */
static const char config[] =
	"{\"version\":1,\"slug\":\"t-1\",\"pinned\":\"10.209.0.2\",\"supervised\":%s,"
	"\"paused\":%s,\"uid_base\":%u,%s\"policy\":{\"version\":1,\"resolve\":[],\"routes\":["
	"{\"host\":\"bound.example.com\",\"ports\":[443],\"methods\":[\"GET\"],"
	"\"paths\":[\"/api/**\"],\"auth\":{\"scheme\":\"bearer\",\"credential\":0,"
	"\"header\":\"authorization\",\"placeholder\":\"cbph-0123456789abcdef0123456789abcdef\"},"
	"\"on_match\":\"block\",\"websocket\":false},"
	"{\"host\":\"other.example.com\",\"ports\":[443],\"methods\":[\"GET\"],\"paths\":[],"
	"\"on_match\":\"block\",\"websocket\":false}%s]}}";

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

int bundle_config_file(unsigned with, const char *routes, bool is_paused)
{
	char text[4096];
	struct err e = ERR_INIT;
	int n = snprintf(text, sizeof(text), config, with & WITH_SUPERVISE ? "true" : "false",
			 is_paused ? "true" : "false", geteuid() == 0 ? 61900u : 0u,
			 with & WITH_GIT ? git_config : "", routes);

	assert_true(n > 0 && (size_t)n < sizeof(text));
	return io_memfd_sealed("config", str_of(text), &e);
}

struct given bundle_given(struct bundle *b, unsigned with)
{
	char secrets[1024];
	struct bundle_secret_head head = {1 /* SCAN_KIND_SECRET */, 0, 0, 24};
	size_t n = sizeof(head) + 24;
	struct err e = ERR_INIT;
	struct given g;
	int pair[2];

	g.config = bundle_config_file(with, "", false);
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

void given_close(struct given *g)
{
	close(g->config);
	close(g->secrets);
	close(g->records);
	close(g->control);
}

/* The listening sockets are one for all: pipelock's stand-in takes the commands. The desks lead
 * nowhere. */
static size_t put_arguments(char args[][32], const struct bundle *b, const struct given *g,
			    unsigned with)
{
	const struct {
		const char *name;
		int fd;
		unsigned with;
	} all[] = {
		{"config", g->config, 0},
		{"secrets", g->secrets, 0},
		{"control", g->control, 0},
		{"records", g->records, 0},
		{"pipelock", b->listen_fd, 0},
		{"gitgate", b->listen_fd, WITH_GIT},
		{"supervise", b->listen_fd, WITH_SUPERVISE},
		{"desk_supervise", g->records, WITH_SUPERVISE},
		{"desk_pipelock", g->records, WITH_SUPERVISE},
		{"desk_gitgate", g->records, WITH_SUPERVISE | WITH_GIT},
	};
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		if ((all[i].with & with) == all[i].with)
			(void)snprintf(args[n++], 32, "%s=%d", all[i].name, all[i].fd);
	}
	return n;
}

void bundle_start(struct bundle *b, unsigned with)
{
	struct given g = bundle_given(b, with);
	char args[ARGS_MAX][32], *argv[ARGS_MAX + 3] = {NULL};
	size_t n;

	b->listen_fd = listen_on(b);
	n = put_arguments(args, b, &g, with);
	argv[0] = (char *)(uintptr_t)fake_bundle;
	argv[1] = (char *)(uintptr_t) "init";
	for (size_t i = 0; i < n; i++)
		argv[i + 2] = args[i];
	b->init = fork();
	if (b->init == 0) {
		close(b->control);
		(void)fcntl(g.config, F_SETFD, 0);
		(void)fcntl(g.secrets, F_SETFD, 0);
		(void)execv(fake_bundle, argv);
		_exit(127);
	}
	given_close(&g);
}

void bundle_stop(struct bundle *b)
{
	assert_int_equal(send(b->control, "{\"command\":\"stop\"}", 18, 0), 18);
}

void expect_event(struct bundle *b, const char *text)
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

/* A process's arguments, each with its NUL; 0: there are none. */
static size_t arguments_of(pid_t pid, char *out, size_t size)
{
	char path[64];
	_cleanup_close_ int fd = -1;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = read(fd, out, size);
	return n > 0 ? (size_t)n : 0;
}

bool role_has(pid_t pid, const char *name)
{
	char line[4096], want[32];
	size_t n = arguments_of(pid, line, sizeof(line));

	(void)snprintf(want, sizeof(want), "%s=", name);
	assert_true(n > 0);
	return memmem(line, n, want, strlen(want)) != NULL;
}

size_t children_of(pid_t pid, pid_t *out, size_t max)
{
	char path[64];
	_cleanup_fclose_ FILE *f = NULL;
	size_t n = 0;
	int child;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	f = fopen(path, "re");
	/* Not there: it has ended. */
	while (f && fscanf(f, "%d", &child) == 1) {
		if (n < max)
			out[n] = child;
		n++;
	}
	return n;
}

static bool is_role(pid_t pid, const char *name)
{
	char line[4096];
	size_t n = arguments_of(pid, line, sizeof(line));

	/* FILE "role" NAME … */
	return memmem(line, n, name, strlen(name) + 1) && memmem(line, n, "role", 5);
}

/* The event of a restart comes before the new process is what it will be. */
pid_t role_pid(struct bundle *b, const char *name)
{
	pid_t pids[BUNDLE_ROLE_COUNT + 1];

	for (int tries = 0; tries < 500; tries++) {
		size_t n = children_of(b->init, pids, ARRAY_LEN(pids));

		for (size_t i = 0; i < n && i < ARRAY_LEN(pids); i++)
			if (is_role(pids[i], name))
				return pids[i];
		(void)usleep(10000);
	}
	fail_msg("no role %s", name);
	return -1;
}

char command(struct bundle *b, char what)
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

void expect_gone(pid_t pid)
{
	for (int tries = 0; tries < 500 && kill(pid, 0) == 0; tries++)
		(void)usleep(10000);
	assert_int_equal(kill(pid, 0), -1);
}

void expect_end(struct bundle *b, int want_status, const pid_t *roles, size_t n)
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

void roles_of(struct bundle *b, pid_t *pids, size_t n)
{
	for (size_t r = 0; r < n; r++)
		pids[r] = role_pid(b, bundle_role_name((enum bundle_role)r));
}

int records_with(struct bundle *b, const char *text)
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

void wait_for_record(struct bundle *b, const char *text)
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

int remove_records(void **state)
{
	char path[64];

	(void)state;
	(void)snprintf(path, sizeof(path), "/tmp/cb-bundle-%d.jsonl", (int)getpid());
	(void)unlink(path);
	return 0;
}
