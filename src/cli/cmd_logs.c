#include "bottles/bottles.h"
#include "cli/logs.h"
#include "cli/table.h"
#include "cli/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>

#define FOLLOW_PERIOD_MS 100

enum { OPT_FOLLOW, OPT_JSON, OPT_VERIFY };
static const struct cli_option options[] = {
	[OPT_FOLLOW] = {"follow", 'f', NULL, "wait for more until the bottle ends", 0},
	[OPT_JSON] = {"json", 0, NULL, "the records as they are, one JSON object a line", 0},
	[OPT_VERIFY] = {"verify", 0, NULL, "check the chain and its signatures instead", 0},
};

struct reader {
	int fd;
	struct buf in;
	bool is_json, has_colour;
};

static int print_line(void *ctx, struct str line, struct err *e)
{
	const struct reader *rd = ctx;
	struct buf out;
	int status = CLI_FAILED, r;

	(void)e; /* cli_print() has said what failed */
	buf_init(&out, 64u << 10);
	if (rd->is_json) {
		r = buf_append_str(&out, line);
		if (r == 0)
			r = buf_append(&out, "\n", 1);
	} else {
		r = logs_format(line, rd->has_colour, &out);
	}
	if (r == 0)
		status = cli_print(&out);
	buf_free(&out);
	return status == CLI_OK ? 0 : -EPIPE;
}

static int read_on(struct reader *rd, struct err *e)
{
	return logs_read(rd->fd, &rd->in, print_line, rd, e);
}

static int follow(struct reader *rd, const char *slug, struct err *e)
{
	_cleanup_close_ int bottles = -1;
	struct bottles_entry b;
	int r = places_bottles_open(false, &bottles, e);

	while (r == 0) {
		/* Life first, then the rest: what is written before the end is still read. */
		bool is_alive = bottles_load(bottles, slug, &b, NULL) == 0 && b.is_alive;

		r = read_on(rd, e);
		if (!is_alive)
			return r;
		(void)poll(NULL, 0, FOLLOW_PERIOD_MS);
	}
	return r;
}

static int verify(int dir, int fd)
{
	_cleanup_(runs_free) struct runs runs = {0};
	struct err e = ERR_INIT;
	struct logs_chain c;
	size_t n_cut;

	if (runs_load(dir, &runs, &e) < 0)
		return cli_fail(&e);
	logs_chain_start(&c, &runs);
	if (logs_chain_file(&c, fd, &n_cut, &e) < 0)
		return cli_fail(&e);
	if (n_cut) {
		cli_note("the chain breaks after record %" PRIu64 ": the last line is cut", c.seq);
		return CLI_FAILED;
	}
	(void)printf("%" PRIu64 " records, unbroken; signed checkpoints: %" PRIu64
		     "; records after the last of them: %" PRIu64 "\n",
		     c.seq, c.n_checkpoints, c.seq - c.n_signed);
	return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

static int run(const struct cli_args *args)
{
	_cleanup_close_ int dir = -1, fd = -1;
	struct err e = ERR_INIT;
	struct bottles_entry b;
	struct reader rd = {.is_json = cli_has(args, OPT_JSON),
			    .has_colour = table_may_colour(STDOUT_FILENO)};
	int r;

	if (cli_has(args, OPT_VERIFY) && (cli_has(args, OPT_FOLLOW) || rd.is_json))
		return cli_misuse(args, "--verify goes alone");
	if (bottles_find(args->positionals[0], &b, &dir, &e) < 0)
		return cli_fail(&e);
	fd = openat(dir, "records.jsonl", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		(void)err_errno(&e, "the records of %s", b.slug);
		return cli_fail(&e);
	}
	if (cli_has(args, OPT_VERIFY))
		return verify(dir, fd);
	rd.fd = fd;
	buf_init(&rd.in, 2 * RECORD_LINE_MAX);
	r = cli_has(args, OPT_FOLLOW) ? follow(&rd, b.slug, &e) : read_on(&rd, &e);
	buf_free(&rd.in);
	if (r < 0)
		return e.code ? cli_fail(&e) : CLI_FAILED;
	return CLI_OK;
}

const struct cli_verb cmd_logs = {
	.name = "logs",
	.fn = run,
	.summary = "show what a bottle asked for, and what became of it",
	.synopsis = "SLUG",
	.description =
		"--verify: exit status 1 and the place where the chain breaks, if it does.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.min_positionals = 1,
	.max_positionals = 1,
	.complete = CLI_COMPLETE_SLUG_ANY,
};
