/*
 * A registry of one image: what a microVM whose image is fetched from inside (smolvm 0.8) finds at
 * the bundle's address while it starts. A process of its own, `claude-bottle-bundle registry`,
 * which is given listening socket and blobs by descriptor, can open nothing else, and is ended by
 * the backend before the agent begins. The OCI distribution specification 1.1, pull alone: GET and
 * HEAD of /v2/, /v2/NAME/manifests/REFERENCE, /v2/NAME/blobs/DIGEST; everything else is refused.
 *
 *   claude-bottle-bundle registry listen=FD [uid=N] NAME TAG BLOB…   each blob is
 *       KIND=FD,sha256:HEX,SIZE with KIND manifest, config or layer. uid: what it becomes, where it
 * is started as root; else it keeps its own, without capabilities.
 */
#pragma once

#define REGISTRY_CONNECTIONS_MAX 32
#define REGISTRY_NAME		 "claude-bottle/agent" /* of the image; its tag is "bottle" */
#define REGISTRY_TAG		 "bottle"

int registry_main(int argc, char **argv);
