/* What the tests of the qemu backend's ports have in common: the machine's end, played. */
#pragma once

#include "backend/qemu/qemu_int.h"

#include <sys/types.h>

/* A stream: ours is the machine's end, theirs what the backend holds. */
struct port {
	int ours, theirs;
};
void port_open(struct port *p);
void port_close(struct port *p);
void port_send(const struct port *p, const void *data, size_t n);
/* A frame of this letter. */
void port_say(const struct port *p, char letter, struct str payload);
/* The next frame, of this letter; its payload, with a NUL behind it, on the heap. */
char *port_hear(const struct port *p, char letter, size_t *n);
/* The exit status of a child, 128 + signal. */
int wait_status(pid_t pid);
