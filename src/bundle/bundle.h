/*
 * The bundle: how the host starts it, and what its init gives to each role.
 *
 * `claude-bottle-bundle init` takes everything through descriptors, each with a name; it holds
 * descriptors and never reads secrets' bytes. As a child of the keeper it inherits them, and its
 * command line names them as NAME=FD:
 *
 *   config=FD    sealed memory file: JSON, see bundle_config
 *   secrets=FD   sealed memory file: struct-free, length-prefixed values (keyd_secrets.h); read by
 *                keyd alone
 *   control=FD   SOCK_SEQPACKET to the backend: status lines out, commands in
 *   records=FD   the bottle's records.jsonl, open for reading and append
 *   rules=FD     the compiled rule database from the cache, or absent
 *   reach=FD     SOCK_SEQPACKET to the keeper, for egress alone, where the host's loopback is not
 *                the bundle's; or absent
 *   door=FD      SOCK_SEQPACKET to the keeper, for git-gate alone: the host's own repository
 *                (git_stream.h); or absent
 *   desk_supervise=FD desk_pipelock=FD desk_gitgate=FD
 *                SOCK_SEQPACKET to the keeper: what these roles ask of the human (ask.h); all three
 *                where the bottle is supervised, the last one only with git
 *   pipelock=FD  listening stream socket, made inside the wall
 *   gitgate=FD   the same on port 9418; there exactly when the configuration has git
 *   supervise=FD the same on port 9100; there exactly when the bottle is supervised
 *   dns_udp=FD dns_tcp=FD
 *
 * As process 1 of a container it gets fds=PATH instead: a SOCK_SEQPACKET socket of the keeper's,
 * waited for up to 10 s. From there it receives one message per descriptor: the name (one of the
 * above, or log, which becomes standard output and error) with exactly that descriptor; then "end"
 * with none. Engine and image never see what is passed. The listening sockets come like everything
 * else where the agent's wall is not of the engine's making, and nothing of the bundle listens in
 * the container's own network then. With listen=ADDRESS none may come: init makes them itself, on
 * the pinned address, which the interface may be given later: TCP 8888, with git TCP 9418, when
 * supervised TCP 9100, UDP and TCP 53.
 *
 * As root it needs CAP_SETUID and CAP_SETGID (roles get uids of their own), CAP_KILL (to end them),
 * CAP_SETPCAP (to take the others out of their bounding sets) and, where low ports are privileged,
 * CAP_NET_BIND_SERVICE; it drops all but the first four.
 */
#pragma once

#include "base/err.h"
#include "conf/git_policy.h"
#include "conf/policy.h"

/* GITGATE is there where the configuration has git, GITSSH where one of its remotes is reached by
 * ssh, SUPERVISE where the bottle is supervised. */
enum bundle_role {
	BUNDLE_ROLE_RECORD,
	BUNDLE_ROLE_KEYD,
	BUNDLE_ROLE_EGRESS,
	BUNDLE_ROLE_PIPELOCK,
	BUNDLE_ROLE_GITSSH,
	BUNDLE_ROLE_GITGATE,
	BUNDLE_ROLE_SUPERVISE,
	BUNDLE_ROLE_COUNT
};

const char *bundle_role_name(enum bundle_role r);

/* What a role finds after init re-executed it: fixed descriptor numbers, close-on-exec for
 * whatever it might start. -1 where a role has no such descriptor. */
struct bundle_role_env {
	enum bundle_role role;
	unsigned life; /* counted from 1 by init; see keyd_proto.h */
	unsigned uid;  /* to become, 0 to keep */
	int config_fd; /* all: sealed JSON, offset 0 */
	int ready_fd;  /* all: to init; the role writes one byte once it serves (bundle_role_ready)
			*/
	int record_fd; /* all but record: to the record role */
	int keyd_fd;   /* all but keyd and supervise: to keyd */
	int egress_fd; /* pipelock: SEQPACKET; sends one end of a stream socketpair per connection.
			* egress: the other side; receives them. egress has no address at all.
			* gitgate: the same over a channel of its own. */
	int git_egress_fd; /* egress: the other side of gitgate's */
	int dial_fd;	   /* gitssh: to egress, for TCP sockets (git_stream.h); egress: its side */
	int reach_fd;	   /* egress: to the keeper, see reach.h */
	/* record role */
	int records_file_fd;
	int record_in_fds[BUNDLE_ROLE_COUNT +
			  1]; /* struct record, by sender; the last one is init */
	/* keyd */
	int secrets_fd;
	int state_fd; /* memory file that outlives a keyd: CA and signing key */
	int asker_fds[BUNDLE_ROLE_COUNT + 1]; /* by role; the last one is init */
	/* pipelock; listen: gitgate and supervise as well, their own; rules: gitgate as well */
	int listen_fd, dns_udp_fd, dns_tcp_fd, rules_fd;
	/* gitgate; see git_stream.h */
	int ssh_fd;  /* to gitssh; -1: no remote is reached by ssh */
	int door_fd; /* to the keeper; -1: no workspace */
	/* gitssh */
	int stream_fd; /* the other side of ssh_fd */
	int news_fd;   /* supervise, pipelock, egress: from init (news.h); of this process alone */
	/* supervised bottles */
	int desk_fd;	/* supervise, pipelock, gitgate: to the keeper (desk.h) */
	int refused_fd; /* record: to supervise, a copy of each record of a block; supervise: its
			 * side */
};

/* The one way in which a role gives its powers away, in order: no new privileges, not dumpable,
 * limits, Landlock (no path at all), its own uid, seccomp (PRIV_SECCOMP_BASE plus sets). Everything
 * that needs the file system has been opened before. */
struct priv_limits;
int bundle_role_seal(const struct bundle_role_env *env, const struct priv_limits *limits,
		     bool may_dial, unsigned sets, struct err *e) _fallible_;
/* The same for a role that works on files: these paths and no others. Its limit of processes holds
 * only under a uid of its own; an ordinary user's would count everything that the user runs. */
struct priv_path;
int bundle_role_seal_paths(const struct bundle_role_env *env, const struct priv_limits *limits,
			   const struct priv_path *paths, size_t n_paths, bool may_dial,
			   unsigned sets, struct err *e) _fallible_;
/* Called by a role when its sockets are served and it has sealed itself. */
void bundle_role_ready(const struct bundle_role_env *env);

/* Each role's entry; returns the process's exit status. */
int record_role_main(struct bundle_role_env *env);
int keyd_role_main(struct bundle_role_env *env);
int egress_role_main(struct bundle_role_env *env);
int pipelock_role_main(struct bundle_role_env *env);
int gitssh_role_main(struct bundle_role_env *env);
int gitgate_role_main(struct bundle_role_env *env);
int supervise_role_main(struct bundle_role_env *env);

/* JSON of config=: {"version":1,"slug":…,"pinned":"10.209.0.2","inside":[…],"supervised":bool,
 *  "paused":bool, "uid_base":N (0: keep the uid),"policy":{…},"git":{…},"git_folder":"/…"}
 * (git_policy.h; both of git, or neither) inside is there when the bundle's network is not the
 * host's: the addresses of the host's interfaces when the bottle started, 1 to BUNDLE_INSIDE_MAX of
 * them. git_folder is git-gate's alone.
 */
#define BUNDLE_INSIDE_MAX      1024
#define BUNDLE_INSIDE_JSON_MAX 65536
#define BUNDLE_CONFIG_MAX      (POLICY_JSON_MAX_BYTES + GIT_JSON_MAX_BYTES + BUNDLE_INSIDE_JSON_MAX)
struct bundle_config {
	char slug[64];
	char pinned[46];
	unsigned uid_base; /* role r runs as uid_base + r; 0 where the bundle is not root */
	bool is_apart;	   /* from the host's network */
	char (*inside)[46];
	size_t n_inside;
	bool is_supervised;
	bool is_paused; /* nothing is allowed until it no longer is */
	struct policy *policy;
	struct git_policy *git; /* NULL: the bottle has no git */
	char *git_folder;	/* with git: git-gate's own */
};
int bundle_config_load(struct bundle_config *out, int config_fd, struct err *e) _fallible_;
void bundle_config_free(struct bundle_config *c);
/* Whether next may take the place of now while the bundle runs: all but the grants behind the
 * manifest's routes and the pause is the same. */
int bundle_config_check_next(const struct bundle_config *now, const struct bundle_config *next,
			     struct err *e) _fallible_;
/* Which roles there are with this configuration: 1 << role of each. */
unsigned bundle_config_roles(const struct bundle_config *c);

/* Messages on control=, one JSON object a datagram, at most BUNDLE_CONTROL_MAX bytes.
 * init -> host: {"event":"ready","ca_pem":"…"} {"event":"role","role":"egress","state":"restarted",
 *   "text":"…"}  {"event":"failed","text":"…"} (init exits with status 1 after it)
 *   {"event":"policy","generation":N}: every role enforces it (news.h)
 *   {"event":"policy-refused","generation":N,"text":"…"}: nothing has changed
 * host -> init: {"command":"stop"}; {"command":"policy","generation":N} with one descriptor, a
 * whole configuration. End of file on control means stop as well. */
#define BUNDLE_CONTROL_MAX 16384

/* secrets=: records of { u32 kind (enum scan_kind SECRET or CANARY or PLACEHOLDER, or
 * BUNDLE_SECRET_SSH_KEY), u32 index, u32 route-independent flags 0, u32 length, bytes } in host
 * byte order, until end of file. SECRET number N is credential N of the policy's auth, and of a git
 * remote's token; SSH_KEY number N the private key, as its file's text, of the ssh remotes with
 * credential N. */
#define BUNDLE_SECRET_SSH_KEY	 4
#define BUNDLE_SSH_KEY_MAX_BYTES 16384
struct bundle_secret_head {
	uint32_t kind, index, flags, length;
};
#define BUNDLE_SECRETS_MAX	 64
#define BUNDLE_SECRETS_MAX_BYTES (1u << 20)
