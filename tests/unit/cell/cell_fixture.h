/*
 * A cell in a wall of its own, with a folder that it may read (/shown, with the file "text") and
 * one that it may write (/kept), both below a folder that its uid cannot walk when the tests run as
 * root.
 */
#pragma once

#include "backend/walled/cgroup.h"
#include "backend/walled/wall.h"
#include "cell/cell.h"

struct cell_fixture {
	char top[64], shown[80], kept[80], program[96];
	struct wall wall;
	struct cgroup cgroup; /* empty */
	struct cell_bind binds[4];
	struct cell_spec spec;
	struct cell cell;
};

/* The executable to run as process 1, or the arguments' fault. "user" as the second argument: all
 * of it runs as an ordinary user, whoever has started it. */
void fixture_begin(int argc, char **argv);
/* All but the cell; spec is ready for cell_make(). */
void fixture_prepare(struct cell_fixture *f);
void fixture_make(struct cell_fixture *f);
void fixture_free(struct cell_fixture *f);

/* A shell's command in it. The status, or -errno. */
int fixture_script(struct cell_fixture *f, const char *script, char *out, size_t size);
/* The same, with descriptors, its output to out_fd; *pid is the stand-in. */
void fixture_start(struct cell_fixture *f, const char *script, int out_fd, const int *fds,
		   size_t n_fds, pid_t *pid);
/* The child's exit status. */
int fixture_wait(pid_t pid);
/* A line of text is in out. */
void fixture_assert_line(const char *out, const char *line);
/* Nobody holds the pipe's other end any more, within some seconds. */
bool fixture_has_ended(int fd);
bool fixture_has_landlock(void);
