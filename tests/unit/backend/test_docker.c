/* What the docker backend asks an engine for: addresses, containers, the seccomp profile. The
 * engine itself is in the integration tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "backend/docker/docker_int.h"
#include "backend/docker/spec.h"

#include "base/clean.h"
#include "guest/guest.h"
#include "priv/agent_filter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- addresses --- */

static struct docker_taken taken;

static void take(const char *text)
{
	struct err e = ERR_INIT;

	assert_int_equal(docker_taken_add_text(&taken, text, &e), 0);
}

static uint32_t number(const char *address)
{
	struct in_addr a;

	assert_int_equal(inet_pton(AF_INET, address, &a), 1);
	return ntohl(a.s_addr);
}

static void test_range_block(void **state)
{
	struct docker_net n = {.id = ""};
	struct err e = ERR_INIT;

	(void)state;
	taken.n = 0;
	assert_int_equal(docker_range_pick(&n, &taken, 0, &e), 0);
	assert_string_equal(n.subnet, "10.210.0.0/29");
	assert_string_equal(n.gateway, "10.210.0.1");
	assert_string_equal(n.bundle, "10.210.0.2");
	assert_string_equal(n.agent, "10.210.0.3");
	assert_int_equal(docker_range_pick(&n, &taken, 3, &e), 0);
	assert_string_equal(n.subnet, "10.210.0.24/29");
	/* Every seed is one block of the first pool. */
	assert_int_equal(docker_range_pick(&n, &taken, UINT32_MAX, &e), 0);
	assert_string_equal(n.subnet, "10.210.255.248/29");
}

static void test_range_taken(void **state)
{
	static const char *const takes[] = {"10.210.0.0/29", "10.210.0.8/30", "10.210.0.23/32",
					    "10.210.0.12/32"};
	struct docker_net n = {.id = ""};
	struct err e = ERR_INIT;

	(void)state;
	taken.n = 0;
	for (size_t i = 0; i < ARRAY_LEN(takes); i++)
		take(takes[i]);
	assert_int_equal(docker_range_pick(&n, &taken, 0, &e), 0);
	assert_string_equal(n.subnet, "10.210.0.24/29");
	/* The last block of a pool is followed by its first. */
	take("10.210.255.248/29");
	assert_int_equal(docker_range_pick(&n, &taken, 8191, &e), 0);
	assert_string_equal(n.subnet, "10.210.0.24/29");
	/* A network around all of a pool, as a VPN may route. */
	take("10.0.0.0/8");
	assert_int_equal(docker_range_pick(&n, &taken, 0, &e), 0);
	assert_string_equal(n.subnet, "172.29.0.0/29");
	take("172.16.0.0/12");
	assert_int_equal(docker_range_pick(&n, &taken, 5000, &e), 0);
	assert_true(number(n.gateway) >> 14 == number("192.168.192.0") >> 14);
	take("192.168.0.0/16");
	assert_int_equal(docker_range_pick(&n, &taken, 0, &e), -EADDRNOTAVAIL);
	assert_non_null(strstr(e.text, "no addresses are free"));
}

static void test_range_random(void **state)
{
	struct docker_net n = {.id = ""};
	struct err e = ERR_INIT;

	(void)state;
	taken.n = 0;
	/* Whatever is picked is free, and stays picked. */
	for (uint32_t i = 0; i < 1000; i++) {
		uint32_t first;

		assert_int_equal(docker_range_pick(&n, &taken, i * 2654435761u, &e), 0);
		first = number(n.gateway) - 1;
		assert_int_equal(first % 8, 0);
		for (size_t k = 0; k < taken.n; k++)
			assert_true(taken.list[k].last < first || taken.list[k].first > first + 7);
		take(n.subnet);
	}
}

static void test_taken_text(void **state)
{
	static const char *const ignored[] = {"",    "10.1.2.3",  "fd00::/64", "10.1.2.3/33",
					      "x/8", "10.1.2.3/", "0.0.0.0/0"};
	struct err e = ERR_INIT;

	(void)state;
	taken.n = 0;
	for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
		take(ignored[i]);
	assert_int_equal(docker_taken_add_text(&taken, NULL, &e), 0);
	assert_int_equal(taken.n, 0);
	take("10.1.2.3/24");
	assert_int_equal(taken.list[0].first, number("10.1.2.0"));
	assert_int_equal(taken.list[0].last, number("10.1.2.255"));
	while (taken.n < DOCKER_TAKEN_MAX)
		take("10.1.2.3/32");
	assert_int_equal(docker_taken_add_text(&taken, "10.1.2.4/32", &e), -E2BIG);
}

static void test_taken_networks(void **state)
{
	json_t *networks =
		json_loads("[{\"IPAM\":{\"Config\":[{\"Subnet\":\"10.210.0.0/"
			   "24\"},{\"Subnet\":\"fd00::/8\"}]}},"
			   "{\"IPAM\":{\"Config\":null}},{\"IPAM\":{}},{},7,"
			   "{\"IPAM\":{\"Config\":[{\"Gateway\":\"10.0.0.1\"},{\"Subnet\":5}]}}]",
			   0, NULL);
	struct docker_net n = {.id = ""};
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(docker_taken_read(&taken, networks, &e), 0);
	assert_int_equal(docker_range_pick(&n, &taken, 0, &e), 0);
	assert_true(number(n.gateway) > number("10.210.0.255"));
	json_decref(networks);
}

/* --- containers --- */

static struct plan plan;
static struct bottle bottle;
static char *no_env[] = {NULL};

static void make_bottle(void)
{
	static char *expose[] = {(char *)(uintptr_t) "/srv/a:b,c", NULL};

	plan = (struct plan){
		.slug = (char *)(uintptr_t) "worker-abc",
		.expose = expose,
		.n_expose = 1,
		.limits = {.memory_bytes = 64 << 20, .processes = 33, .cpu_milli = 1500}};
	bottle = (struct bottle){
		.plan = &plan,
		.owner = {.slug = "worker-abc",
			  .state_dir = (char *)(uintptr_t) "/state/worker-abc",
			  .dir = (char *)(uintptr_t) "/state/worker-abc/docker"},
		.home = (char *)(uintptr_t) "/state/worker-abc/home",
		.bundle_path = (char *)(uintptr_t) "/usr/libexec/bundle",
		.agent_image = {.id = "sha256:aa"},
		.wall = {.id = "1111", .bundle = "10.210.0.2", .agent = "10.210.0.3"},
		.agent_id = "3333",
		.uid = 1234,
		.gid = 5678,
		.env = no_env};
	bundle_box_init(&bottle.box, &bottle.owner, &plan, &bottle.wall);
	bottle.box.image = (struct image_info){.id = "sha256:bb"};
	bottle.box.outer = (struct docker_net){.id = "2222", .bundle = "10.211.0.2"};
}

static const char *text_of(const json_t *j, const char *key)
{
	const char *text = json_string_value(json_object_get(j, key));

	return text ? text : "(none)";
}

static bool has_text(const json_t *list, const char *text)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *s = json_string_value(json_array_get(list, i));

		if (s && strcmp(s, text) == 0)
			return true;
	}
	return false;
}

/* What holds for each container that is made. */
static json_t *expect_closed(const json_t *spec, const char *role)
{
	json_t *host = json_object_get(spec, "HostConfig");
	json_t *labels = json_object_get(spec, "Labels");
	json_t *mounts = json_object_get(host, "Mounts");

	assert_non_null(host);
	assert_true(json_is_false(json_object_get(host, "Privileged")));
	assert_true(has_text(json_object_get(host, "CapDrop"), "ALL"));
	assert_true(has_text(json_object_get(host, "SecurityOpt"), "no-new-privileges"));
	assert_int_equal(json_array_size(json_object_get(host, "SecurityOpt")), 2);
	assert_int_equal(json_array_size(json_object_get(host, "Devices")), 0);
	assert_string_equal(text_of(host, "IpcMode"), "private");
	assert_string_equal(text_of(host, "CgroupnsMode"), "private");
	assert_string_equal(text_of(host, "PidMode"), "");
	assert_string_equal(text_of(json_object_get(host, "LogConfig"), "Type"), "none");
	assert_null(json_object_get(host, "PortBindings"));
	assert_null(json_object_get(host, "Binds"));
	assert_string_equal(text_of(labels, DOCKER_LABEL_SLUG), "worker-abc");
	assert_string_equal(text_of(labels, DOCKER_LABEL_STATE), "/state/worker-abc");
	assert_string_equal(text_of(labels, DOCKER_LABEL_ROLE), role);
	for (size_t i = 0; i < json_array_size(mounts); i++) {
		const json_t *m = json_array_get(mounts, i);
		const json_t *options = json_object_get(m, "BindOptions");

		assert_string_equal(text_of(options, "Propagation"), "rprivate");
		assert_true(json_is_true(json_object_get(options, "NonRecursive")));
		assert_null(strstr(text_of(m, "Source"), "docker.sock"));
	}
	return host;
}

static const json_t *mount_at(const json_t *host, const char *target)
{
	const json_t *mounts = json_object_get(host, "Mounts");

	for (size_t i = 0; i < json_array_size(mounts); i++) {
		const json_t *m = json_array_get(mounts, i);

		if (strcmp(text_of(m, "Target"), target) == 0)
			return m;
	}
	fail_msg("nothing is mounted at %s", target);
	return NULL;
}

static void test_spec_agent(void **state)
{
	json_t *spec, *host, *endpoints;
	size_t n_writable = 0, n_mounts;

	(void)state;
	make_bottle();
	spec = docker_spec_agent(&bottle);
	host = expect_closed(spec, "agent");
	assert_int_equal(json_array_size(json_object_get(host, "CapAdd")), 0);
	assert_true(json_is_true(json_object_get(host, "ReadonlyRootfs")));
	assert_string_equal(text_of(spec, "User"), "1234:5678");
	assert_string_equal(text_of(spec, "Image"), "sha256:aa");
	assert_true(has_text(json_object_get(spec, "Entrypoint"), GUEST_BUNDLE));
	assert_int_equal(json_integer_value(json_object_get(host, "Memory")), 64 << 20);
	assert_int_equal(json_integer_value(json_object_get(host, "MemorySwap")), 64 << 20);
	assert_int_equal(json_integer_value(json_object_get(host, "PidsLimit")), 33);
	assert_int_equal(json_integer_value(json_object_get(host, "NanoCpus")), 1500000000);
	assert_true(has_text(json_object_get(host, "Dns"), "10.210.0.2"));
	/* On the wall alone, where the keeper said. */
	assert_string_equal(text_of(host, "NetworkMode"), "1111");
	endpoints = json_object_get(json_object_get(spec, "NetworkingConfig"), "EndpointsConfig");
	assert_int_equal(json_object_size(endpoints), 1);
	assert_string_equal(
		text_of(json_object_get(json_object_get(endpoints, "1111"), "IPAMConfig"),
			"IPv4Address"),
		"10.210.0.3");
	for (size_t i = 0; i < json_array_size(json_object_get(host, "Mounts")); i++) {
		const json_t *m = json_array_get(json_object_get(host, "Mounts"), i);

		n_writable += !json_is_true(json_object_get(m, "ReadOnly"));
	}
	assert_int_equal(n_writable, 1);
	assert_true(json_is_false(json_object_get(mount_at(host, "/home/agent"), "ReadOnly")));
	assert_string_equal(text_of(mount_at(host, "/srv/a:b,c"), "Source"), "/srv/a:b,c");
	/* Nothing that an inspection or an image could give away. */
	assert_int_equal(json_array_size(json_object_get(spec, "Env")), 1);
	assert_true(json_is_false(json_object_get(spec, "Tty")));
	n_mounts = json_array_size(json_object_get(host, "Mounts"));
	json_decref(spec);
	/* Who may ask is told where; it is not theirs to say. */
	plan.is_supervised = true;
	spec = docker_spec_agent(&bottle);
	host = expect_closed(spec, "agent");
	assert_int_equal(json_array_size(json_object_get(host, "Mounts")), n_mounts + 1);
	assert_true(json_is_true(json_object_get(mount_at(host, PLAN_MCP_FILE), "ReadOnly")));
	json_decref(spec);
	plan.has_writable_root = bottle.has_tty = true;
	spec = docker_spec_agent(&bottle);
	host = expect_closed(spec, "agent");
	assert_true(json_is_false(json_object_get(host, "ReadonlyRootfs")));
	assert_true(json_is_true(json_object_get(spec, "Tty")));
	json_decref(spec);
}

static void test_spec_bundle(void **state)
{
	json_t *spec, *host;

	(void)state;
	make_bottle();
	spec = docker_spec_bundle(&bottle.box);
	host = expect_closed(spec, "bundle");
	assert_int_equal(json_array_size(json_object_get(host, "CapAdd")), 5);
	assert_true(json_is_true(json_object_get(host, "ReadonlyRootfs")));
	assert_int_equal(json_array_size(json_object_get(host, "Mounts")), 1);
	assert_true(has_text(json_object_get(spec, "Cmd"), "listen=10.210.0.2"));
	json_decref(spec);
	spec = docker_spec_closer(&bottle);
	host = expect_closed(spec, "closer");
	assert_int_equal(json_array_size(json_object_get(host, "CapAdd")), 1);
	assert_true(has_text(json_object_get(host, "CapAdd"), "NET_ADMIN"));
	assert_string_equal(text_of(host, "NetworkMode"), "container:3333");
	assert_int_equal(json_array_size(json_object_get(host, "Mounts")), 0);
	json_decref(spec);
}

/* Behind another backend's wall it is on its own bridge alone, and makes no socket to listen. */
static void test_spec_bundle_alone(void **state)
{
	json_t *spec, *host, *endpoints;

	(void)state;
	make_bottle();
	bundle_box_init(&bottle.box, &bottle.owner, &plan, NULL);
	assert_null(bottle.box.wall);
	bottle.box.outer.id[0] = '2';
	(void)snprintf(bottle.box.outer.bundle, sizeof(bottle.box.outer.bundle), "10.211.0.2");
	spec = docker_spec_bundle(&bottle.box);
	host = expect_closed(spec, "bundle");
	assert_int_equal(json_array_size(json_object_get(spec, "Cmd")), 2);
	assert_true(has_text(json_object_get(spec, "Cmd"), "fds=" GUEST_SOCKET));
	assert_false(has_text(json_object_get(host, "CapAdd"), "NET_BIND_SERVICE"));
	assert_string_equal(text_of(host, "NetworkMode"), "2");
	endpoints = json_object_get(json_object_get(spec, "NetworkingConfig"), "EndpointsConfig");
	assert_int_equal(json_object_size(endpoints), 1);
	assert_non_null(json_object_get(endpoints, "2"));
	json_decref(spec);
}

/* A path that JSON cannot hold is no container without that mount. */
static void test_spec_not_utf8(void **state)
{
	json_t *spec;

	(void)state;
	make_bottle();
	bottle.home = (char *)(uintptr_t) "/state/\xff/home";
	spec = docker_spec_agent(&bottle);
	assert_null(spec);
}

/* --- the profile --- */

static void test_profile(void **state)
{
	struct buf text;
	json_t *profile, *rules;
	size_t n_plain = 0, n_clone = 0, n_socket = 0;

	(void)state;
	buf_init(&text, 65536);
	assert_int_equal(agent_filter_profile(&text), 0);
	profile = json_loadb(buf_str(&text).p, buf_len(&text), JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(profile);
	assert_string_equal(text_of(profile, "defaultAction"), "SCMP_ACT_ALLOW");
	assert_int_equal(json_array_size(json_object_get(profile, "architectures")), 1);
	rules = json_object_get(profile, "syscalls");
	for (size_t i = 0; i < json_array_size(rules); i++) {
		const json_t *rule = json_array_get(rules, i);
		const json_t *names = json_object_get(rule, "names");

		assert_string_equal(text_of(rule, "action"), "SCMP_ACT_ERRNO");
		assert_true(json_integer_value(json_object_get(rule, "errnoRet")) > 0);
		n_plain += !json_object_get(rule, "args");
		n_clone += has_text(names, "clone");
		n_socket += has_text(names, "socket");
		if (!json_object_get(rule, "args")) {
			assert_false(has_text(names, "execve"));
			assert_false(has_text(names, "clone"));
		}
	}
	assert_int_equal(n_plain, 2);
	assert_int_equal(n_clone, 7);
	assert_int_equal(n_socket, 13);
	json_decref(profile);
	buf_free(&text);
	buf_init(&text, 64);
	assert_int_equal(agent_filter_profile(&text), -ENOBUFS);
	buf_free(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_range_block),    cmocka_unit_test(test_range_taken),
		cmocka_unit_test(test_range_random),   cmocka_unit_test(test_taken_text),
		cmocka_unit_test(test_taken_networks), cmocka_unit_test(test_spec_agent),
		cmocka_unit_test(test_spec_bundle),    cmocka_unit_test(test_spec_bundle_alone),
		cmocka_unit_test(test_spec_not_utf8),  cmocka_unit_test(test_profile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
