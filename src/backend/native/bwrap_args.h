/* bubblewrap's command line as data: the arguments go through a memory file (--args), so that the
 * host's process list shows neither the agent's environment nor its files. */
#pragma once

#include "backend/agent_env.h"
#include "backend/native/compartment.h"

#define BWRAP_KEEP_MAX (AGENT_FILES_MAX + 8)
#define BWRAP_ARGV_MAX 512
/* Inherited by the command's first instruction, which writes a byte to it and closes it. Every
 * other descriptor that bubblewrap inherits lies at AGENT_FD_MIN or above. */
#define BWRAP_READY_FD 9
/* Likewise; the command is held until a line comes. */
#define BWRAP_HOLD_FD 8

struct bwrap_args {
	struct buf text; /* NUL-separated */
	char *argv[BWRAP_ARGV_MAX];
	size_t n_argv;
	int args_fd, seccomp_fd;
	int keep[BWRAP_KEEP_MAX]; /* descriptors that must survive the exec */
	size_t n_keep;
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

/* The absolute path of bwrap in the system's folders (PATH is not consulted), or NULL. */
const char *bwrap_find(void);
int bwrap_args_make(struct bwrap_args *a, const struct compartment *c,
		    const struct bwrap_sources *s, const struct agent_file *files, size_t n_files,
		    int info_fd, bool has_tty, struct err *e) _fallible_;
void bwrap_args_free(struct bwrap_args *a);
