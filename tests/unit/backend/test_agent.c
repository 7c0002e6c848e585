/* What an agent that may ask finds, and one that may not does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "backend/agent_clone.h"
#include "backend/agent_env.h"
#include "base/clean.h"
#include "base/io.h"

#include <jansson.h>
#include <unistd.h>

static char *command[] = {(char *)"codex", (char *)"exec", (char *)"hi", NULL};

static struct plan some_plan(bool is_supervised)
{
	return (struct plan){.slug = (char *)"a-1",
			     .agent = (char *)"a",
			     .provider = (char *)"codex",
			     .command = command,
			     .n_command = 3,
			     .is_supervised = is_supervised};
}

static const char *variable(char *const *env, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; env[i]; i++) {
		if (strncmp(env[i], name, n) == 0 && env[i][n] == '=')
			return env[i] + n + 1;
	}
	return NULL;
}

static void test_environment(void **state)
{
	(void)state;
	for (int is_supervised = 0; is_supervised < 2; is_supervised++) {
		struct plan p = some_plan(is_supervised);
		char **env = agent_env_make(&p, "10.210.0.2");
		const char *url = variable(env, "CLAUDE_BOTTLE_SUPERVISE_URL");

		assert_int_equal(url != NULL, is_supervised);
		if (url)
			assert_string_equal(url, "http://10.210.0.2:9100/mcp");
		/* Not by way of pipelock. */
		assert_non_null(strstr(variable(env, "NO_PROXY"), "10.210.0.2"));
		agent_env_free(env);
	}
}

/* The file's text; NULL: there is none. */
static json_t *mcp_file(const struct plan *p)
{
	struct agent_file files[AGENT_FILES_MAX];
	json_t *out = NULL;
	struct err e = ERR_INIT;
	size_t n;

	assert_int_equal(agent_files_make(files, &n, p, "10.210.0.2", 1000, 1000, &e), 0);
	for (size_t i = 0; i < n; i++) {
		struct str text;

		if (strcmp(files[i].path, "/etc/claude-bottle/mcp.json") != 0)
			continue;
		assert_int_equal(lseek(files[i].fd, 0, SEEK_SET), 0);
		assert_int_equal(io_read_all(files[i].fd, 65536, &text, &e), 0);
		out = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, NULL);
		free((void *)(uintptr_t)text.p);
	}
	agent_files_free(files, n);
	return out;
}

static void test_file(void **state)
{
	struct plan p = some_plan(false);
	json_t *j, *server;

	(void)state;
	assert_null(mcp_file(&p));
	p = some_plan(true);
	j = mcp_file(&p);
	server = json_object_get(json_object_get(j, "mcpServers"), "claude-bottle");
	assert_string_equal(json_string_value(json_object_get(server, "type")), "http");
	assert_string_equal(json_string_value(json_object_get(server, "url")),
			    "http://10.210.0.2:9100/mcp");
	json_decref(j);
}

static void expect_command(const struct plan *p, bool has_option)
{
	char **argv = agent_command_make(p, "10.210.0.2");
	size_t n = has_option ? 2 : 0;

	assert_string_equal(argv[0], "codex");
	if (has_option) {
		assert_string_equal(argv[1], "-c");
		assert_string_equal(argv[2], "mcp_servers.claude-bottle.url="
					     "\"http://10.210.0.2:9100/mcp\"");
	}
	assert_string_equal(argv[n + 1], "exec");
	assert_string_equal(argv[n + 2], "hi");
	assert_null(argv[n + 3]);
	agent_command_free(argv);
}

static void test_codex(void **state)
{
	struct plan p = some_plan(true);

	(void)state;
	expect_command(&p, true);
	p.is_command_given = true;
	expect_command(&p, false);
	p = some_plan(true);
	p.provider = (char *)"claude"; /* it has the file */
	expect_command(&p, false);
	p = some_plan(false);
	expect_command(&p, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_codex),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
