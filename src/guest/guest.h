/*
 * Inside an agent's compartment whose kernel namespaces somebody else has made (a container, later
 * a virtual machine): commands of claude-bottle-bundle, which is mounted there read-only as
 * GUEST_FOLDER "/bundle".
 *
 *   guest init    process 1, as the agent's user: connects to the keeper at GUEST_SOCKET, runs the
 *                 canary when told, then starts the agent and is its init: reaps, passes signals on
 * to the agent's process group, ends with its status when it ends. guest exec -- ARGV   what is
 * started beside the agent: the same limits and filter, a session of its own, then ARGV. 127 not
 * found, 126 not executable. guest close PINNED   with CAP_NET_ADMIN in the compartment's network
 * namespace, before the agent begins: takes the default routes away, so that what is not the bundle
 * is unreachable at once, and makes the engine's resolver (GUEST_RESOLVER) unreachable. Idempotent.
 * Prints nothing; status 0 or 1 with one line.
 *
 * Before "go" nothing else runs in the compartment, so the first to connect is guest init. After it
 * the socket is closed: the agent could do nothing with it but end itself.
 */
#pragma once

#include "base/err.h"

#define GUEST_FOLDER	 "/.claude-bottle"
#define GUEST_BUNDLE	 GUEST_FOLDER "/bundle"
#define GUEST_SOCKET	 GUEST_FOLDER "/run/keeper.sock" /* SOCK_SEQPACKET */
#define GUEST_RESOLVER	 "127.0.0.11"
#define GUEST_CONNECT_MS 10000

/*
 * Messages, one datagram each: a letter, and with a letter from the keeper one sealed memory file
 * (SCM_RIGHTS) that holds a JSON object of at most GUEST_JSON_MAX bytes.
 *
 *   guest -> keeper  'h'              here: connected, nothing run yet
 *   keeper -> guest  'c' + struct guest_canary as JSON:
 *        {"pinned":"10.210.0.2","answers":[8888],"closed":[{"address":"…","port":N,"what":"…"}]}
 *        Each of answers must answer HTTP within 5 s (it may start meanwhile: refused is tried
 * again); each of closed must refuse or be unreachable within GUEST_CLOSED_MS, by TCP, and not
 * answer a UDP question either. Besides, without being told: no default route, no engine resolver,
 * no interface but lo and the wall's, no IPv6 address but ::1, egress's port 9099 closed. guest ->
 * keeper  'k'              the wall holds 'n' + text       it does not: which and why, one line
 *   keeper -> guest  'g' +
 * {"argv":[…],"tty":bool,"files":[{"path":".config/x","mode":384,"text":"…"}],
 *                    "limits":{"files":N,"file_size_bytes":N,"processes":N},"exposed":…}
 *        files are written below $HOME, never through a link, missing folders made 0700.
 *   guest -> keeper  's'              the agent's process exists; or 'n' + text
 */
#define GUEST_JSON_MAX	(4u << 20)
#define GUEST_CLOSED_MS 300

int guest_main(int argc, char **argv);
