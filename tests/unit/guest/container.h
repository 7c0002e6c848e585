/*
 * A container without an engine: guest init as process 1 of its own pid and mount namespace, in the
 * network of a scene, as the agent's user and without capabilities; and the keeper's ends of it.
 */
#pragma once

#include "scene.h"

#include "guest/guest_host.h"

struct container {
	char top[64], dir[80], home[80]; /* the socket's folder; the agent's $HOME */
	const struct scene *scene;
	unsigned uid;
	pid_t init;
	int listener, conn;
	int out;    /* what is written on its standard output and error */
	int master; /* of its terminal, if it has one */
	char said[8192];
};

extern const char *container_program;

/* Starts it; with a terminal as a runtime gives one. Nobody has accepted yet. */
void container_start(struct container *c, const struct scene *s, unsigned uid, bool has_tty);
/* Accepts it and has it look at the wall, which must hold. */
void container_open(struct container *c);
/* guest_go() with a shell's command. */
int container_go(struct container *c, const char *script, struct err *e);
/* All of it. */
void container_run(struct container *c, const struct scene *s, const char *script);
/* Reads what it says until text comes, or its end. False: the end, or nothing for a while. */
bool container_says(struct container *c, const char *text);
/* Waits for the end of process 1: its exit status, or 1000 + signal; -1 if it lives on. */
int container_wait(struct container *c);
/* Ends it if it lives, and removes all. */
void container_free(struct container *c);
/* Starts argv in it from outside, as an engine's exec does, with its output to the container's. It
 * has the number of the process that waits for it and ends with its status. */
pid_t container_exec(struct container *c, char *const *argv);
