/*
 * The beat: attacks that go on and on while the suite takes the bundle apart. One process for each
 * kind, so that a proxy that is away stalls none but its own clients. What may never arrive carries
 * one token each; what is allowed carries a number as well, so that the suite can tell what came
 * before from what came after.
 *
 * Output: one try a kind, at once, with the bundle's address. In the control each kind is done
 * once, and all must arrive.
 */
#include "probe/dlp.h"
#include "probe/probe.h"

#include "base/clean.h"
#include "base/log.h"
#include "base/mem.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define BEAT_PAUSE_US (10 * 1000)
#define BEAT_LIFE_S   600
#define BEAT_HOST     "ok.selftest.example"

static void beat_direct(const struct probe_env *env, const char *token, unsigned round)
{
	struct probe_target targets[PROBE_TARGETS_MAX];
	struct str hosts = str_of(env->hosts);
	size_t n = 0;

	(void)round;
	(void)snprintf(targets[n].address, sizeof(targets[n].address), "127.0.0.1");
	targets[n++].port = env->loop;
	while (n < PROBE_TARGETS_MAX &&
	       probe_list_next(&hosts, targets[n].address, sizeof(targets[n].address)))
		targets[n++].port = env->any;
	probe_connect_all(targets, n, 200);
	for (size_t i = 0; i < n; i++) {
		if (targets[i].fd >= 0)
			(void)!write(targets[i].fd, token, strlen(token));
	}
	probe_close_all(targets, n);
}

static void beat_forbidden(const struct probe_env *env, const char *token, unsigned round)
{
	static struct probe_reply r;
	_cleanup_free_ char *request =
		mem_printf("GET /%s HTTP/1.1\r\nHost: other.selftest.example\r\n\r\n", token);

	(void)round;
	probe_ask_tunnel(env, "other.selftest.example:443", "other.selftest.example",
			 str_of(request), &r);
}

static void beat_secret(const struct probe_env *env, const char *token, unsigned round)
{
	static struct probe_reply r;
	_cleanup_free_ char *secret = dlp_shaped_secret(token);
	_cleanup_free_ char *request = mem_printf(
		"GET /%s?data=%s HTTP/1.1\r\nHost: " BEAT_HOST "\r\n\r\n", token, secret);

	(void)round;
	probe_ask_tunnel(env, BEAT_HOST ":443", BEAT_HOST, str_of(request), &r);
}

static void beat_allowed(const struct probe_env *env, const char *token, unsigned round)
{
	static struct probe_reply r;
	_cleanup_free_ char *request =
		mem_printf("GET /%sn%u HTTP/1.1\r\nHost: " BEAT_HOST "\r\n\r\n", token, round);

	probe_ask_tunnel(env, BEAT_HOST ":443", BEAT_HOST, str_of(request), &r);
}

static const struct {
	const char *label;
	void (*fn)(const struct probe_env *env, const char *token, unsigned round);
} kinds[] = {
	{"direct", beat_direct},
	{"forbidden", beat_forbidden},
	{"secret", beat_secret},
	{"allowed", beat_allowed},
};

static pid_t beat_start(const struct probe_env *env, size_t i, const char *token)
{
	pid_t parent = getpid(), pid = fork();

	if (pid != 0)
		return pid;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent)
		_exit(1);
	for (unsigned round = 0; env->rounds == 0 || round < env->rounds; round++) {
		kinds[i].fn(env, token, round);
		(void)usleep(BEAT_PAUSE_US);
	}
	_exit(0);
}

int beat_main(const struct probe_env *env)
{
	const char *id = env->as ? env->as : "R02";
	char tokens[ARRAY_LEN(kinds)][PROBE_TOKEN_SIZE];

	(void)alarm(BEAT_LIFE_S);
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		probe_token(env, id, kinds[i].label, tokens[i]);
		probe_report(id, kinds[i].label, tokens[i], false, 0, env->pinned);
	}
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		if (beat_start(env, i, tokens[i]) < 0)
			die("fork");
	}
	while (wait(NULL) > 0)
		;
	(void)printf("end\n");
	return 0;
}
