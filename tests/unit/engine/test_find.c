/* Whose engine it is: the environment, contexts, the usual sockets, and what each says if not. */
#include "engine/engine_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* printf %s work | sha256sum */
#define WORK "00e13ed7af55b27622f1d6eab5bec0147e68efe28dc2b12461117afa1a5ed40e"

static char home[32];
static bool has_default;

int __real_access(const char *path, int mode);
int __wrap_access(const char *path, int mode);

int __wrap_access(const char *path, int mode)
{
	if (strcmp(path, "/var/run/docker.sock") == 0)
		return has_default ? 0 : -1;
	return __real_access(path, mode);
}

static int set_up(void **state)
{
	static const char *const names[] = {"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG",
					    "XDG_RUNTIME_DIR"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		(void)unsetenv(names[i]);
	has_default = true;
	(void)snprintf(home, sizeof(home), "/tmp/find-XXXXXX");
	return mkdtemp(home) && setenv("HOME", home, 1) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	return io_remove_tree(AT_FDCWD, home, NULL);
}

static void put(const char *name, const char *text)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", home, name);
	_cleanup_free_ char *dir = mem_strdup(path);

	*strrchr(dir, '/') = '\0';
	assert_int_equal(io_mkdir_p(dir, 0700, NULL), 0);
	assert_int_equal(io_write_file_atomic(AT_FDCWD, path, str_of(text), 0600, NULL), 0);
}

static void put_context(const char *hash, const char *text)
{
	_cleanup_free_ char *name = mem_printf(".docker/contexts/meta/%s/meta.json", hash);

	put(name, text);
}

static void check(const char *socket, const char *from)
{
	struct err e = ERR_INIT;
	struct engine en;

	if (engine_find(&en, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(en.socket, socket);
	assert_string_equal(en.from, from);
	assert_string_equal(en.api, "");
}

/* One visible line with all of these in it. */
static void check_refused(int code, const char *a, const char *b)
{
	struct err e = ERR_INIT;
	struct engine en;

	assert_int_equal(engine_find(&en, &e), code);
	assert_int_equal(e.code, code);
	if (strncmp(e.text, "the Docker engine: ", 19) != 0 || !strstr(e.text, a) ||
	    !strstr(e.text, b))
		fail_msg("\"%s\" lacks \"%s\" or \"%s\"", e.text, a, b);
	for (const char *p = e.text; *p; p++)
		assert_true((unsigned char)*p >= 0x20 && *p != 0x7f);
}

static void set(const char *name, const char *value)
{
	assert_int_equal(setenv(name, value, 1), 0);
}

static void test_docker_host(void **state)
{
	char exact[120], over[120];

	(void)state;
	set("DOCKER_CONTEXT", "work"); /* counts less */
	set("DOCKER_HOST", "unix:///run/other.sock");
	check("/run/other.sock", "DOCKER_HOST");
	(void)snprintf(exact, sizeof(exact), "unix:///%0106d", 0);
	(void)snprintf(over, sizeof(over), "unix:///%0107d", 0);
	set("DOCKER_HOST", exact);
	check(exact + 7, "DOCKER_HOST");
	set("DOCKER_HOST", over);
	check_refused(-ENAMETOOLONG, "DOCKER_HOST names unix:///000", "at most 107 bytes");
	set("DOCKER_HOST", "unix://run/docker.sock");
	check_refused(-EINVAL, "DOCKER_HOST names unix://run/docker.sock", "absolute path");
	set("DOCKER_HOST", "unix://");
	check_refused(-EINVAL, "DOCKER_HOST names unix://", "absolute path");
	set("DOCKER_HOST", "unix:///run/\033[31mred\n.sock");
	check_refused(-EINVAL, "DOCKER_HOST names unix:///run/\\x1b[31mred\\n.sock",
		      "no control characters");
}

static void test_elsewhere(void **state)
{
	static const char *const addresses[] = {
		"tcp://127.0.0.1:2375",	   "ssh://me@build.example",
		"npipe:////./pipe/docker", "fd://",
		"/var/run/docker.sock",	   "UNIX:///run/docker.sock",
		"unix:/run/docker.sock"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
		set("DOCKER_HOST", addresses[i]);
		check_refused(-ENOTSUP, "DOCKER_HOST names ", addresses[i]);
		check_refused(-ENOTSUP, "only an engine on it (unix://…) can be used", "this host");
	}
	set("DOCKER_HOST", "tcp://\033]0;x\007");
	check_refused(-ENOTSUP, "tcp://\\x1b]0;x\\x07", "DOCKER_HOST");
}

static void test_default(void **state)
{
	_cleanup_free_ char *own = mem_printf("%s/docker.sock", home);

	(void)state;
	check("/var/run/docker.sock", "the default");
	set("DOCKER_HOST", ""); /* as if unset */
	set("DOCKER_CONTEXT", "default");
	check("/var/run/docker.sock", "the default");
	set("XDG_RUNTIME_DIR", home);
	put("docker.sock", "");
	check("/var/run/docker.sock", "the default");
	has_default = false;
	check(own, "XDG_RUNTIME_DIR");
	assert_int_equal(unlink(own), 0);
	check("/var/run/docker.sock", "the default");
	set("XDG_RUNTIME_DIR", "tmp");
	check("/var/run/docker.sock", "the default");
}

static void test_context(void **state)
{
	(void)state;
	set("DOCKER_CONTEXT", "work");
	check_refused(-ENOENT, "DOCKER_CONTEXT names the context \"work\"", "does not exist");
	put_context(WORK, "{\"Name\":\"work\",\"Endpoints\":{\"docker\":{\"Host\":"
			  "\"unix:///run/work.sock\"}}}");
	check("/run/work.sock", "context \"work\"");
	put_context(WORK, "{\"Endpoints\":{\"docker\":{\"Host\":\"ssh://me@far\"}}}");
	check_refused(-ENOTSUP, "context \"work\" names ssh://me@far", "(unix://…)");
	put_context(WORK, "{\"Endpoints\":{\"kubernetes\":{\"Host\":\"unix:///x\"}}}");
	check_refused(-EINVAL, "context \"work\"", "no address of an engine");
	put_context(WORK, "{\"Endpoints\":{\"docker\":{\"Host\":\"\"}}}");
	check_refused(-EINVAL, "context \"work\"", "no address of an engine");
	put_context(WORK, "[]");
	check_refused(-EINVAL, "context \"work\"", "no address of an engine");
	put_context(WORK, "{\n\"Endpoints\":");
	check_refused(-EINVAL, "meta.json\":2", "not JSON");
	put_context(WORK, "{\"Endpoints\":{\"docker\":{\"Host\":\"unix:///a\\u0000b\"}}}");
	check_refused(-EINVAL, "meta.json\":1", "not JSON");
	set("DOCKER_CONTEXT", "../../\033x");
	check_refused(-ENOENT, "\"../../\\x1bx\"", "does not exist");
}

static void test_config(void **state)
{
	static const char *const bad[] = {"{\"currentContext\":[]}", "[]"};
	_cleanup_free_ char *other = mem_printf("%s/.other", home);

	(void)state;
	put(".docker/config.json", "{\"auths\":{}}");
	check("/var/run/docker.sock", "the default");
	put(".docker/config.json", "{\"currentContext\":null}");
	check("/var/run/docker.sock", "the default");
	put(".docker/config.json", "{\"currentContext\":\"\"}");
	check("/var/run/docker.sock", "the default");
	put(".docker/config.json", "{\"currentContext\":\"work\"}");
	check_refused(-ENOENT, "/.docker/config.json names the context \"work\"", "does not exist");
	put_context(WORK, "{\"Endpoints\":{\"docker\":{\"Host\":\"unix:///run/work.sock\"}}}");
	check("/run/work.sock", "context \"work\"");
	set("DOCKER_CONTEXT", "default");
	check("/var/run/docker.sock", "the default");
	assert_int_equal(unsetenv("DOCKER_CONTEXT"), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		put(".docker/config.json", bad[i]);
		check_refused(-EINVAL, "/.docker/config.json", "\"currentContext\"");
	}
	put(".docker/config.json", "{");
	check_refused(-EINVAL, "/.docker/config.json\":1", "not JSON");
	put(".docker/config.json", "");
	check_refused(-EINVAL, "/.docker/config.json\":1", "not JSON");
	/* Another folder. */
	set("DOCKER_CONFIG", other);
	check("/var/run/docker.sock", "the default");
	put(".other/config.json", "{\"currentContext\":\"work\"}");
	check_refused(-ENOENT, "/.other/config.json", "does not exist");
}

static void test_config_bounds(void **state)
{
	_cleanup_free_ char *large = mem_zalloc(ENGINE_CONFIG_MAX + 2);

	(void)state;
	memset(large, ' ', ENGINE_CONFIG_MAX + 1);
	memcpy(large, "{}", 2);
	put(".docker/config.json", large);
	check_refused(-EFBIG, "/.docker/config.json", "larger than");
	large[ENGINE_CONFIG_MAX] = '\0';
	put(".docker/config.json", large);
	check("/var/run/docker.sock", "the default");
	/* A folder in the place of the file is not "no file". */
	put(".c/config.json/x", "");
	{
		_cleanup_free_ char *dir = mem_printf("%s/.c", home);

		set("DOCKER_CONFIG", dir);
	}
	check_refused(-EISDIR, "/.c/config.json", "directory");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_docker_host, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_elsewhere, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_default, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_context, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_config, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_config_bounds, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("engine-find", tests, NULL, NULL);
}
