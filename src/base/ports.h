/* The bundle's services, by the ports of its pinned address. The same in every backend, as agents,
 * their configuration and the allowlists of microVMs name them. */
#pragma once

#define SERVICE_PORT_PIPELOCK  8888
#define SERVICE_PORT_EGRESS    9099 /* must answer nobody from outside of the bundle */
#define SERVICE_PORT_GITGATE   9418
#define SERVICE_PORT_SUPERVISE 9100
#define SERVICE_PORT_DNS       53
#define SERVICE_PORT_REGISTRY  5000 /* while a microVM fetches its image, never beside an agent */

/* In the agent's environment where the bottle is supervised: where it asks, by MCP. */
#define SERVICE_SUPERVISE_ENV "CLAUDE_BOTTLE_SUPERVISE_URL"
