/*
 * The process that carries what comes to a wall's listening sockets to a bundle that stands
 * elsewhere (backend/docker/bundle_apart.h): `claude-bottle-bundle carry`, a child of the keeper's
 * that dies with it. The sockets are its own alone, so that with its end the wall's ports are
 * closed. It is sealed as a role of the bundle that dials: it opens no file, starts no program, and
 * as root it is somebody whom nobody else is. Taken over (it parses nothing) it could dial as any
 * program of its user's; what it was given is the wall's sockets and nothing that is secret.
 *
 *   claude-bottle-bundle carry to=ADDRESS [uid=N] pipelock=FD dns_udp=FD dns_tcp=FD [gitgate=FD]
 *       [supervise=FD]   each to its service's port of ADDRESS
 */
#pragma once

int carry_main(int argc, char **argv);
