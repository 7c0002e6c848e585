/* init: example manifests to begin with. What is there already is never touched. */
#include "cli/verbs.h"

#include "base/io.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum { OPT_JSON };
static const struct cli_option options[] = {
	[OPT_JSON] = {"json", 0, NULL, "list what was written as JSON", 0},
};

static const char bottle_claude[] =
	"---\n"
	"# What an agent in this bottle may reach, and with whose credentials.\n"
	"# Every key is explained in docs/MANIFEST.md.\n"
	"provider: claude\n"
	"\n"
	"# How the compartment is made; when absent it is chosen at start, of docker and native.\n"
	"# backend: qemu\n"
	"\n"
	"limits:\n"
	"  processes: 1024\n"
	"  # memory: 4GiB\n"
	"\n"
	"# Folders of this host that the agent may read, at the same path.\n"
	"# expose:\n"
	"#   - ~/src/docs\n"
	"\n"
	"# With this the agent can ask you for what is refused, and wait for your answer:\n"
	"# claude-bottle supervise shows what it asks. \"desktop\" tells you of each request.\n"
	"# supervise:\n"
	"#   notify: desktop\n"
	"\n"
	"egress:\n"
	"  # Nothing but these can be reached. A host without \"ports\" means port 443.\n"
	"  routes:\n"
	"    - host: api.anthropic.com\n"
	"      auth:\n"
	"        # The agent finds a placeholder in ANTHROPIC_API_KEY; the real key is taken\n"
	"        # from your environment at start and put in on the way out.\n"
	"        scheme: header\n"
	"        header: x-api-key\n"
	"        env: ANTHROPIC_API_KEY\n"
	"        token_ref: env:ANTHROPIC_API_KEY\n"
	"    # - host: registry.example.com\n"
	"    #   methods: [GET, HEAD]\n"
	"    # - host: api.github.com\n"
	"    #   paths: [\"/repos/me/**\"]\n"
	"    #   auth:\n"
	"    #     scheme: bearer\n"
	"    #     env: GH_TOKEN\n"
	"    #     token_ref: \"command:gh auth token\"\n"
	"---\n"
	"The text below the head of a bottle is for people.\n";

static const char bottle_closed[] = "---\n"
				    "# A bottle that can reach nothing at all.\n"
				    "provider: shell\n"
				    "egress:\n"
				    "  routes: []\n"
				    "---\n"
				    "To look around inside: claude-bottle start shell\n";

static const char agent_helper[] =
	"---\n"
	"name: helper\n"
	"description: Claude Code in a bottle that reaches its own API only\n"
	"bottle: claude\n"
	"# Keys of Claude Code's subagent files are passed on.\n"
	"# model: sonnet\n"
	"# tools: Read, Grep, Bash\n"
	"---\n"
	"Say in one sentence what you can see around you.\n";

static const char agent_shell[] = "---\n"
				  "name: shell\n"
				  "description: a shell in a bottle that reaches nothing\n"
				  "bottle: closed\n"
				  "---\n";

static const struct example {
	const char *folder, *file, *text;
} examples[] = {
	{"bottles", "claude.md", bottle_claude},
	{"bottles", "closed.md", bottle_closed},
	{"agents", "helper.md", agent_helper},
	{"agents", "shell.md", agent_shell},
};

/* 1 when written, 0 when something of that name is there. */
static int write_example(const char *base, const struct example *x, struct err *e)
{
	_cleanup_close_ int fd = -1;
	char path[PLACES_PATH_MAX + 64];
	int r;

	(void)snprintf(path, sizeof(path), "%s/%s", base, x->folder);
	r = io_mkdir_p(path, 0700, e);
	if (r < 0)
		return r;
	(void)snprintf(path, sizeof(path), "%s/%s/%s", base, x->folder, x->file);
	/* O_EXCL does not follow a link either, so nothing that exists can be changed. */
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 && errno == EEXIST)
		return 0;
	if (fd < 0)
		return err_errno(e, "create \"%s\"", path);
	r = io_write_all(fd, x->text, strlen(x->text));
	if (r < 0 || fsync(fd) < 0) {
		(void)unlink(path);
		return err_set(e, r < 0 ? r : -EIO, "cannot write \"%s\"", path);
	}
	return 1;
}

static int report(struct buf *out, const char *base, const int *written, bool is_json)
{
	int bad = is_json ? buf_printf(out, "{\"files\":[") : 0;

	for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
		char path[PLACES_PATH_MAX + 64];

		(void)snprintf(path, sizeof(path), "%s/%s/%s", base, examples[i].folder,
			       examples[i].file);
		if (!is_json) {
			bad |= buf_printf(out, "%s %s\n", written[i] ? "wrote" : "kept ", path);
			continue;
		}
		bad |= buf_printf(out, "%s{\"written\":%s,\"path\":", i ? "," : "",
				  written[i] ? "true" : "false");
		bad |= text_json(out, str_of(path));
		bad |= buf_append(out, "}", 1);
	}
	return bad | (is_json ? buf_printf(out, "]}\n")
			      : buf_printf(out, "next: claude-bottle start shell\n"));
}

static int run(const struct cli_args *args)
{
	_cleanup_(buf_free) struct buf out;
	char home[PLACES_PATH_MAX], base[PLACES_PATH_MAX + 32];
	int written[ARRAY_LEN(examples)];
	struct err e = ERR_INIT;

	buf_init(&out, 1u << 16);
	if (places_home(home, &e) < 0)
		return cli_fail(&e);
	(void)snprintf(base, sizeof(base), "%s/.claude-bottle", home);
	for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
		written[i] = write_example(base, &examples[i], &e);
		if (written[i] < 0)
			return cli_fail(&e);
	}
	if (report(&out, base, written, cli_has(args, OPT_JSON)) != 0)
		return CLI_FAILED;
	return cli_print(&out);
}

const struct cli_verb cmd_init = {
	.name = "init",
	.fn = run,
	.summary = "write example manifests",
	.synopsis = "",
	.description =
		"Writes commented examples of bottles and agents into ~/.claude-bottle. What is\n"
		"there already is kept as it is.",
	.options = options,
	.n_options = ARRAY_LEN(options),
};
