/* What the bundle's container is asked for. */
#include "backend/docker/spec.h"

#include "guest/guest.h"

#define SPEC_BUNDLE_MEMORY (512u << 20)
#define SPEC_BUNDLE_PIDS   64
#define SPEC_GIT_MEMORY	   (3ull << 30) /* packs are large, and several are made at a time */
#define SPEC_GIT_PIDS	   512

/* git-gate's folder, on disk: without a name, it goes with the container; the label is for what is
 * left when somebody else has removed that one. The image's folder, whose mode it takes over, is
 * anybody's to write: the bundle's init may not give it to a role. */
static json_t *spec_git_volume(const struct bundle_box *box)
{
	return json_pack("{s:s, s:s, s:b, s:{s:o}}", "Type", "volume", "Target",
			 BUNDLE_BOX_GIT_FOLDER, "ReadOnly", 0, "VolumeOptions", "Labels",
			 docker_labels(box->owner, "git"));
}

json_t *docker_spec_bundle(const struct bundle_box *box)
{
	const struct docker_net *first = box->wall ? box->wall : &box->outer;
	bool has_git = box->plan->git.n_remotes > 0;
	json_t *mounts = json_array(), *host_config;
	/* bundle/bundle.h says why these. */
	json_t *caps = json_pack("[s, s, s, s]", "SETUID", "SETGID", "KILL", "SETPCAP");
	json_t *words = json_pack("[s, s]", "init", "fds=" GUEST_SOCKET);

	/* Without a wall it is given its sockets, and makes none. */
	if (box->wall) {
		(void)json_array_append_new(caps, json_string("NET_BIND_SERVICE"));
		(void)json_array_append_new(words, json_sprintf("listen=%s", box->wall->bundle));
	}
	if (spec_add_own(mounts, box->owner, "bundle", GUEST_FOLDER "/run") < 0 ||
	    (has_git && json_array_append_new(mounts, spec_git_volume(box)) < 0)) {
		json_decref(mounts);
		mounts = NULL;
	}
	host_config = spec_host_config(first->id, caps, mounts);
	if (!host_config) {
		json_decref(words);
		return NULL;
	}
	spec_limit(host_config, has_git ? SPEC_GIT_MEMORY : SPEC_BUNDLE_MEMORY,
		   has_git ? SPEC_GIT_PIDS : SPEC_BUNDLE_PIDS, 0);
	(void)json_object_set_new(host_config, "Sysctls", spec_sysctls());
	(void)json_object_set_new(
		host_config, "Tmpfs",
		json_pack("{s:s}", "/tmp", "rw,nosuid,nodev,noexec,size=16m,mode=1777"));
	return json_pack("{s:s, s:[s], s:o, s:s, s:[s], s:o, s:o, s:o, s:s}", "Image",
			 box->image.id, "Entrypoint", "/claude-bottle-bundle", "Cmd", words, "User",
			 "0:0", "Env", "PATH=/usr/bin", "Labels",
			 docker_labels(box->owner, "bundle"), "HostConfig", host_config,
			 "NetworkingConfig", spec_endpoint(first->id, first->bundle), "Hostname",
			 "bundle");
}
