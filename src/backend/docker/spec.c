/*
 * What a container is asked for. Everything that can be taken away is; what remains is written out
 * rather than left to the engine's defaults, which differ between versions and can be configured.
 */
#include "backend/docker/docker_int.h"
#include "backend/docker/spec.h"

#include "backend/agent_env.h"
#include "base/clean.h"
#include "base/mem.h"
#include "guest/guest.h"
#include "priv/agent_filter.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SPEC_PROFILE_MAX   65536
#define SPEC_CLOSER_PIDS   64
#define SPEC_CLOSER_MEMORY (64u << 20)

static json_t *spec_security(void)
{
	struct buf profile;
	json_t *list = NULL;

	buf_init(&profile, SPEC_PROFILE_MAX);
	if (buf_append_str(&profile, STR_LIT("seccomp=")) == 0 &&
	    agent_filter_profile(&profile) == 0)
		list = json_pack("[s, s%]", "no-new-privileges", buf_str(&profile).p,
				 buf_len(&profile));
	buf_free(&profile);
	return list;
}

static json_t *spec_mount(const char *source, const char *target, bool is_read_only)
{
	/* Private: what is mounted later on either side is not seen on the other. Not recursive:
	 * engines before 25 leave what is mounted below writable. */
	return json_pack("{s:s, s:s, s:s, s:b, s:{s:s, s:b}}", "Type", "bind", "Source", source,
			 "Target", target, "ReadOnly", (int)is_read_only, "BindOptions",
			 "Propagation", "rprivate", "NonRecursive", 1);
}

int spec_add_mount(json_t *list, const char *source, const char *target, bool is_read_only)
{
	return json_array_append_new(list, spec_mount(source, target, is_read_only));
}

int spec_add_own(json_t *list, const struct docker_owner *o, const char *below, const char *target)
{
	_cleanup_free_ char *source = mem_printf("%s/%s", o->dir, below);

	return spec_add_mount(list, source, target, true);
}

json_t *spec_host_config(const char *network, json_t *caps, json_t *mounts)
{
	return json_pack(
		"{s:s, s:b, s:b, s:[s], s:o, s:o, s:o, s:s, s:s, s:s, s:b, s:[], s:b, s:{s:s}, "
		"s:{s:s}, s:[{s:s, s:i, s:i}]}",
		"NetworkMode", network, "ReadonlyRootfs", 1, "Privileged", 0, "CapDrop", "ALL",
		"CapAdd", caps ? caps : json_array(), "SecurityOpt", spec_security(), "Mounts",
		mounts, "IpcMode", "private", "CgroupnsMode", "private", "PidMode", "", "Init", 0,
		"Devices", "OomKillDisable", 0, "RestartPolicy", "Name", "no", "LogConfig", "Type",
		"none", "Ulimits", "Name", "core", "Soft", 0, "Hard", 0);
}

void spec_limit(json_t *host_config, uint64_t memory_bytes, uint64_t processes, uint64_t cpu_milli)
{
	if (memory_bytes) {
		(void)json_object_set_new(host_config, "Memory",
					  json_integer((json_int_t)memory_bytes));
		/* The same: no swap besides. */
		(void)json_object_set_new(host_config, "MemorySwap",
					  json_integer((json_int_t)memory_bytes));
	}
	if (processes)
		(void)json_object_set_new(host_config, "PidsLimit",
					  json_integer((json_int_t)processes));
	if (cpu_milli)
		(void)json_object_set_new(host_config, "NanoCpus",
					  json_integer((json_int_t)cpu_milli * 1000000));
}

/* ICMP sockets are nobody's, and where the kernel has IPv6, the container has none. */
json_t *spec_sysctls(void)
{
	json_t *out = json_pack("{s:s}", "net.ipv4.ping_group_range", "1 0");

	if (access("/proc/sys/net/ipv6/conf/all/disable_ipv6", F_OK) == 0) {
		(void)json_object_set_new(out, "net.ipv6.conf.all.disable_ipv6", json_string("1"));
		(void)json_object_set_new(out, "net.ipv6.conf.default.disable_ipv6",
					  json_string("1"));
	}
	return out;
}

json_t *spec_endpoint(const char *network, const char *address)
{
	json_t *endpoint = json_pack("{s:{s:s}}", "IPAMConfig", "IPv4Address", address);

	return json_pack("{s:{s:o}}", "EndpointsConfig", network, endpoint);
}

/* --- the agent --- */

/* The folder, parts of it onto themselves, and its repository (workspace/workspace.h). The engine
 * sorts them by depth. */
static int spec_add_workspace(json_t *mounts, const struct workspace *w)
{
	_cleanup_free_ char *git = NULL;
	int bad;

	if (!w->path)
		return 0;
	bad = spec_add_mount(mounts, w->path, w->path, false);
	for (size_t i = 0; i < w->n_mounts; i++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", w->path, w->mounts[i].path);

		bad |= spec_add_mount(mounts, path, path, w->mounts[i].is_read_only);
	}
	git = mem_printf("%s/.git", w->path);
	if (w->git_file)
		bad |= spec_add_mount(mounts, w->git_file, git, true);
	bad |= spec_add_mount(mounts, w->git_dir, w->git_file ? WORKSPACE_GITDIR : git, false);
	if (w->objects)
		bad |= spec_add_mount(mounts, w->objects, WORKSPACE_OBJECTS, true);
	for (size_t i = 0; i < w->n_alternates; i++)
		bad |= spec_add_mount(mounts, w->alternates[i], w->alternates[i], true);
	return bad;
}

static json_t *spec_agent_mounts(const struct bottle *b)
{
	static const char *const files[] = {
		"/etc/passwd",	      "/etc/group",    "/etc/hosts",	  "/etc/resolv.conf",
		"/etc/nsswitch.conf", "/etc/hostname", "/etc/machine-id",
	};
	json_t *mounts = json_array();
	int bad = 0;

	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		bad |= spec_add_own(mounts, &b->owner, files[i] + 1, files[i]);
	if (b->plan->git.n_remotes > 0)
		bad |= spec_add_own(mounts, &b->owner, &AGENT_GITCONFIG[1], AGENT_GITCONFIG);
	if (b->plan->is_supervised)
		bad |= spec_add_own(mounts, &b->owner, &PLAN_MCP_FILE[1], PLAN_MCP_FILE);
	bad |= spec_add_own(mounts, &b->owner, "etc/" DOCKER_CA_FILE, AGENT_CA_PATH);
	bad |= spec_add_own(mounts, &b->owner, "agent", GUEST_FOLDER "/run");
	bad |= spec_add_mount(mounts, b->bundle_path, GUEST_BUNDLE, true);
	bad |= spec_add_mount(mounts, b->home, AGENT_HOME, false);
	for (size_t i = 0; i < b->plan->n_expose; i++)
		bad |= spec_add_mount(mounts, b->plan->expose[i], b->plan->expose[i], true);
	bad |= spec_add_workspace(mounts, &b->workspace);
	if (bad) {
		json_decref(mounts);
		return NULL;
	}
	return mounts;
}

/* Memory files count against the container's memory. */
static json_t *spec_agent_tmpfs(const struct bottle *b)
{
	return b->plan->has_writable_root
		       ? json_pack("{s:s}", "/run", "rw,nosuid,nodev,mode=755,size=64m")
		       : json_pack("{s:s, s:s, s:s}", "/tmp", "rw,exec,nosuid,nodev,mode=1777",
				   "/var/tmp", "rw,exec,nosuid,nodev,mode=1777", "/run",
				   "rw,nosuid,nodev,mode=755,size=64m");
}

json_t *docker_strings(char *const *list)
{
	json_t *out = json_array();

	for (; list && *list; list++) {
		if (json_array_append_new(out, json_string(*list)) < 0) {
			json_decref(out);
			return NULL;
		}
	}
	return out;
}

json_t *docker_spec_agent(const struct bottle *b)
{
	const struct plan_limits *l = &b->plan->limits;
	json_t *host_config = spec_host_config(b->wall.id, NULL, spec_agent_mounts(b));
	char user[32];

	if (!host_config)
		return NULL;
	spec_limit(host_config, l->memory_bytes, l->processes, l->cpu_milli);
	(void)json_object_set_new(host_config, "ReadonlyRootfs",
				  json_boolean(!b->plan->has_writable_root));
	(void)json_object_set_new(host_config, "Sysctls", spec_sysctls());
	(void)json_object_set_new(host_config, "Tmpfs", spec_agent_tmpfs(b));
	(void)json_object_set_new(host_config, "Dns", json_pack("[s]", b->wall.bundle));
	(void)snprintf(user, sizeof(user), "%u:%u", (unsigned)b->uid, (unsigned)b->gid);
	/* An image's health check would be run by the engine beside process 1, before anybody has
	 * looked at the wall and without the guest's filter. */
	return json_pack(
		"{s:s, s:[s], s:[s, s], s:s, s:[s], s:o, s:o, s:o, s:s, s:s, s:b, s:b, s:b, s:b, "
		"s:b, s:b, s:{s:[s]}}",
		"Image", b->agent_image.id, "Entrypoint", GUEST_BUNDLE, "Cmd", "guest", "init",
		"User", user, "Env", "HOME=" AGENT_HOME, "Labels",
		docker_labels(&b->owner, "agent"), "HostConfig", host_config, "NetworkingConfig",
		spec_endpoint(b->wall.id, b->wall.agent), "Hostname", b->plan->slug, "WorkingDir",
		"/", "Tty", (int)b->has_tty, "OpenStdin", 1, "StdinOnce", 1, "AttachStdin", 1,
		"AttachStdout", 1, "AttachStderr", 1, "Healthcheck", "Test", "NONE");
}

/* --- what closes the agent's network where the keeper cannot --- */

json_t *docker_spec_closer(const struct bottle *b)
{
	json_t *host_config;
	char network[DOCKER_ID_SIZE + 16];

	(void)snprintf(network, sizeof(network), "container:%s", b->agent_id);
	host_config = spec_host_config(network, json_pack("[s]", "NET_ADMIN"), json_array());
	if (!host_config)
		return NULL;
	spec_limit(host_config, SPEC_CLOSER_MEMORY, SPEC_CLOSER_PIDS, 0);
	return json_pack("{s:s, s:[s], s:[s, s, s], s:s, s:[s], s:o, s:o, s:b, s:b}", "Image",
			 b->box.image.id, "Entrypoint", "/claude-bottle-bundle", "Cmd", "guest",
			 "close", b->wall.bundle, "User", "0:0", "Env", "PATH=/usr/bin", "Labels",
			 docker_labels(&b->owner, "closer"), "HostConfig", host_config,
			 "AttachStdout", 1, "AttachStderr", 1);
}
