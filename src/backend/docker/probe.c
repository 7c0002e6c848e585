/* doctor, and what every start asks first: is there an engine, and can bottles be had of it. */
#include "backend/docker/docker_int.h"

#include "backend/host_git.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PROBE_UNITS_MIB (1u << 20)

int docker_engine(struct engine *out, struct err *e)
{
	/* Kept: the keeper is forked from the process that has asked already. */
	static struct engine known;
	int ret;

	if (known.api[0]) {
		*out = known;
		return 0;
	}
	ret = engine_find(out, e);
	if (ret == 0)
		ret = engine_connect(out, ENGINE_PING_MS, e);
	if (ret < 0)
		return ret;
	/* The agent's ids in the container must be its ids on the host, whose home it is given. */
	if (out->is_rootless || out->is_remapped)
		return err_set(e, -ENOTSUP,
			       "the Docker engine at %s gives containers other user ids than the "
			       "host's (%s), which bottles do not support yet",
			       out->socket, out->is_rootless ? "rootless" : "userns-remap");
	/* Its containers are not on this host: neither their sockets nor their networks are. */
	if (out->is_desktop)
		return err_set(e, -ENOTSUP,
			       "the Docker engine at %s is Docker Desktop's, in a virtual machine; "
			       "bottles need an engine on the host itself",
			       out->socket);
	known = *out;
	return 0;
}

int docker_offer(char why[BACKEND_WHY_MAX], struct err *e)
{
	struct engine en;
	int ret = docker_engine(&en, e);

	if (ret < 0)
		return ret;
	(void)snprintf(why, BACKEND_WHY_MAX, "Docker %.32s answers at %.64s (%.40s)", en.version,
		       en.socket, en.from);
	return 0;
}

static void probe_images(const struct engine *en, struct backend_check *checks, size_t *n)
{
	static const char *const providers[] = {"shell", "claude", "codex"};
	struct image_info info;
	struct backend_check *c;
	struct err e = ERR_INIT;
	bool is_there = image_find_bundle(en, &info, &e) == 0;

	c = backend_check_add(checks, n, "image bundle", is_there, false, "");
	(void)snprintf(c->text, sizeof(c->text),
		       is_there ? "%.160s, %u MiB" : "%.160s is made at the first start",
		       info.reference, (unsigned)(info.size_bytes / PROBE_UNITS_MIB));
	for (size_t i = 0; i < sizeof(providers) / sizeof(providers[0]); i++) {
		char name[32];

		is_there = image_find_agent(en, providers[i], NULL, &info, &e) == 0;
		(void)snprintf(name, sizeof(name), "image %s", providers[i]);
		c = backend_check_add(checks, n, name, is_there, false, "");
		if (is_there)
			(void)snprintf(c->text, sizeof(c->text), "%.160s, %u MiB", info.reference,
				       (unsigned)(info.size_bytes / PROBE_UNITS_MIB));
		else
			(void)snprintf(
				c->text, sizeof(c->text),
				"made when first needed, or by: claude-bottle image build %s",
				providers[i]);
	}
}

/* What the engine says of the kernel's limits. */
static void probe_limits(const struct engine *en, struct backend_check *checks, size_t *n)
{
	static const struct {
		const char *key, *name;
	} limits[] = {
		{"MemoryLimit", "memory"}, {"PidsLimit", "processes"}, {"CpuCfsQuota", "cpu"}};
	struct backend_check *c;
	char missing[64] = "";
	json_t *info = NULL;
	struct err e = ERR_INIT;

	if (engine_do(en, "GET", "/info", NULL, "ask for its state", &info, &e) < 0) {
		c = backend_check_add(checks, n, "limits", false, false, "");
		(void)snprintf(c->text, sizeof(c->text), "%.200s", e.text);
		return;
	}
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		if (json_is_true(json_object_get(info, limits[i].key)))
			continue;
		(void)snprintf(missing + strlen(missing), sizeof(missing) - strlen(missing), " %s",
			       limits[i].name);
	}
	json_decref(info);
	c = backend_check_add(checks, n, "limits", missing[0] == '\0', false, "");
	(void)snprintf(c->text, sizeof(c->text),
		       missing[0] ? "the kernel does not let the engine limit:%s"
				  : "memory, processes and cpu can be limited%s",
		       missing);
}

int docker_probe(struct backend_check checks[BACKEND_CHECKS_MAX], size_t *n, struct err *e)
{
	struct backend_check *c;
	struct engine en;
	int ret;

	*n = 0;
	ret = docker_engine(&en, e);
	c = backend_check_add(checks, n, "engine", ret == 0, true, "");
	if (ret < 0) {
		(void)snprintf(c->text, sizeof(c->text), "%.250s", e->text);
		return ret;
	}
	(void)snprintf(c->text, sizeof(c->text), "Docker %.40s, API %s, at %.100s (%.60s)",
		       en.version, en.api, en.socket, en.from);
	probe_limits(&en, checks, n);
	probe_images(&en, checks, n);
	if (*n < BACKEND_CHECKS_MAX)
		host_git_probe(&checks[(*n)++]);
	return 0;
}
