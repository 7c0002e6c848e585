/* What bubblewrap is told for an agent (backend/walled/bwrap.h says how). */
#pragma once

#include "backend/agent_env.h"
#include "backend/native/compartment.h"
#include "backend/walled/bwrap.h"

/* Inherited by the command's first instruction, which writes a byte to it and closes it. */
#define BWRAP_READY_FD 9
/* Likewise; the command is held until a line comes. */
#define BWRAP_HOLD_FD 8

struct bwrap_args {
	struct bwrap bwrap;
	int seccomp_fd;
};

/* Where bwrap finds what it binds: as a user the paths themselves; as root, staged ones, since the
 * agent's uid cannot walk into root's folders. */
struct bwrap_sources {
	const char *home, *ca;
	const char **expose;				      /* as many as the plan's */
	const char *workspace, *git_dir, *git_file, *objects; /* NULL: none */
	const char **alternates;
};
void bwrap_sources_free(struct bwrap_sources *s);

int bwrap_args_make(struct bwrap_args *a, const struct compartment *c,
		    const struct bwrap_sources *s, const struct agent_file *files, size_t n_files,
		    int info_fd, bool has_tty, struct err *e) _fallible_;
void bwrap_args_free(struct bwrap_args *a);
