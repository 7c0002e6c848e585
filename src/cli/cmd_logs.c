#include "cli/bottles.h"
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
	struct logs_chain *chain; /* of --verify, else NULL */
};

static int print_line(struct reader *rd, struct str line)
{
	struct buf out;
	int status = CLI_FAILED, r;

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

/* Every whole line that is buffered. */
static int take_lines(struct reader *rd, struct err *e)
{
	for (;;) {
		struct str all = buf_str(&rd->in);
		size_t n = str_chr(all, '\n');
		int r;

		if (n == all.n && n >= RECORD_LINE_MAX)
			return err_set(e, -EBADMSG, "a line is longer than any record");
		if (n == all.n)
			return 0;
		r = rd->chain ? logs_chain_add(rd->chain, str_sub(all, 0, n), e)
			      : print_line(rd, str_sub(all, 0, n));
		if (r < 0)
			return r;
		buf_consume(&rd->in, n + 1);
	}
}

/* Reads to the end of the file. */
static int read_on(struct reader *rd, struct err *e)
{
	for (;;) {
		char *p = buf_reserve(&rd->in, RECORD_LINE_MAX);
		ssize_t got = p ? read(rd->fd, p, RECORD_LINE_MAX) : 0;
		int r;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_errno(e, "read the records");
		if (got == 0)
			return 0;
		buf_commit(&rd->in, (size_t)got);
		r = take_lines(rd, e);
		if (r < 0)
			return r;
	}
}

static int follow(struct reader *rd, const char *slug, struct err *e)
{
	_cleanup_close_ int bottles = -1;
	struct bottles_entry b;
	int r = cli_bottles_open(false, &bottles, e);

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

static int report_verify(const struct logs_chain *c, const struct reader *rd)
{
	uint64_t unsigned_records = c->seq - c->n_signed;

	if (buf_len(&rd->in)) {
		cli_note("the chain breaks after record %" PRIu64 ": the last line is cut", c->seq);
		return CLI_FAILED;
	}
	(void)printf("%" PRIu64 " records, unbroken; signed checkpoints: %" PRIu64
		     "; records after the last of them: %" PRIu64 "\n",
		     c->seq, c->n_checkpoints, unsigned_records);
	return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

static int run(const struct cli_args *args)
{
	_cleanup_close_ int dir = -1, fd = -1;
	struct err e = ERR_INIT;
	struct logs_chain chain;
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
	rd.fd = fd;
	buf_init(&rd.in, 2 * RECORD_LINE_MAX);
	if (cli_has(args, OPT_VERIFY)) {
		logs_chain_start(&chain);
		rd.chain = &chain;
	}
	r = cli_has(args, OPT_FOLLOW) ? follow(&rd, b.slug, &e) : read_on(&rd, &e);
	if (r < 0 && rd.chain)
		(void)err_prefix(&e, "the chain breaks after record %" PRIu64, chain.seq);
	if (r == 0 && rd.chain)
		r = report_verify(&chain, &rd) == CLI_OK ? 0 : -EBADMSG;
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
	.complete = CLI_COMPLETE_SLUG,
};
