/* What containers are asked for (spec.c, spec_bundle.c); new references, NULL without memory or for
 * what is not UTF-8. */
#pragma once

#include "backend/docker/bundle_box.h"

json_t *docker_strings(char *const *list);
json_t *docker_spec_bundle(const struct bundle_box *box);

/* --- what both specs are made of --- */

/* A bind mount of the host's source. */
int spec_add_mount(json_t *list, const char *source, const char *target, bool is_read_only);
/* A file or folder of the bottle's own folder, read-only. */
int spec_add_own(json_t *list, const struct docker_owner *o, const char *below, const char *target);
/* What all containers have in common. caps and mounts are taken; caps NULL: none at all. */
json_t *spec_host_config(const char *network, json_t *caps, json_t *mounts);
/* 0: no limit. */
void spec_limit(json_t *host_config, uint64_t memory_bytes, uint64_t processes, uint64_t cpu_milli);
json_t *spec_sysctls(void);
json_t *spec_endpoint(const char *network, const char *address);
