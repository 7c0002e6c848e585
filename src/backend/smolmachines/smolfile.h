/* A Smolfile, as smolvm 0.8.0 reads it: TOML 1.0 with exactly these keys. What is not set is not
 * written. Any other key of the network's would widen it, so there is no way to write one. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#define SMOLFILE_MAX (1u << 20)

struct smolfile {
	const char *image;
	const char *const *entrypoint, *const *cmd; /* lists: NULL-terminated, or NULL */
	const char *const *env;			    /* "NAME=value": smolvm keeps them readable */
	const char *workdir;			    /* absolute */
	unsigned cpus, memory_mib;		    /* 0: smolvm's own choice */
	const char *const *volumes;		    /* "HOST:GUEST" */
	const char *const *allow_cidrs;		    /* of [network] */
};

/* Appends. -EILSEQ: a text that is not UTF-8, which no TOML file holds. -ENOBUFS past out's cap. */
int smolfile_render(const struct smolfile *f, struct buf *out, struct err *e) _fallible_;
