/*
 * The record role. Theory of operation: each sender has a SOCK_SEQPACKET channel of its own, whose
 * receiving end init keeps open too, so that records survive this process in the kernel's queue.
 * What is queued is written in one write(2); if the disk is full the role stops reading, the
 * queues fill, the senders' record_send() times out, and they refuse: no verdict is acted on that
 * is not on its way to the file. The sender's name is set by its channel, not by its own word.
 *
 * Every RECORD_CHECKPOINT_EVERY records, and RECORD_CHECKPOINT_MS after the first unsigned one,
 * keyd signs the chain's head.
 *
 * Of a supervised bottle the records of what was stopped go to supervise as well, for the agent who
 * asks what was refused lately. That is a copy for reading: whoever does not take it loses it.
 */
#include "bundle/bundle.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/text.h"
#include "base/timeutil.h"
#include "keyd/keyd_proto.h"
#include "net/loop.h"
#include "priv/priv.h"
#include "record/record.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define RECORD_BATCH		64
#define RECORD_CHECKPOINT_EVERY 1024
#define RECORD_CHECKPOINT_MS	1000
#define RECORD_RETRY_MS		200

struct scribe;

struct scribe_sender {
	struct loop_watch watch;
	struct scribe *scribe;
	const char *role;
};

struct scribe {
	struct loop *loop;
	int file_fd, keyd_fd;
	int refused_fd; /* -1: nobody to tell */
	off_t size;
	uint64_t seq;
	uint64_t unsigned_records;
	bool has_public_key;
	char hash_hex[RECORD_HASH_HEX];
	struct buf lines;
	struct scribe_sender senders[BUNDLE_ROLE_COUNT + 1];
	struct loop_timer sign_timer, retry_timer;
};

static struct scribe scribe;

/* Continues the chain of what is in the file; a last line that was cut by a crash goes away. */
static int scribe_resume(struct scribe *s, struct err *e)
{
	_cleanup_(buf_free) struct buf text = {0};
	struct stat st;
	off_t from;
	size_t end, begin;
	struct str tail, last, digits;
	bool found;

	record_chain_start(s->hash_hex);
	if (fstat(s->file_fd, &st) < 0)
		return err_errno(e, "stat records file");
	s->size = st.st_size;
	if (st.st_size == 0)
		return 0;
	buf_init(&text, 2 * RECORD_LINE_MAX);
	from = st.st_size > 2 * RECORD_LINE_MAX ? st.st_size - 2 * RECORD_LINE_MAX : 0;
	if (!buf_reserve(&text, (size_t)(st.st_size - from)))
		return err_set(e, -ENOMEM, "records file");
	if (pread(s->file_fd, text.p, (size_t)(st.st_size - from), from) != st.st_size - from)
		return err_set(e, -EIO, "read records file");
	buf_commit(&text, (size_t)(st.st_size - from));
	tail = buf_str(&text);
	end = tail.n;
	while (end > 0 && tail.p[end - 1] != '\n')
		end--;
	if (end < tail.n) {
		s->size -= (off_t)(tail.n - end);
		if (ftruncate(s->file_fd, s->size) < 0)
			return err_errno(e, "remove a cut record");
	}
	if (end == 0)
		return from == 0 ? 0 : err_set(e, -EBADMSG, "records file has no line end");
	begin = end - 1;
	while (begin > 0 && tail.p[begin - 1] != '\n')
		begin--;
	last = str_sub(tail, begin, end - 1);
	if (last.n < 80 || !str_starts(last, STR_LIT("{\"seq\":")))
		return err_set(e, -EBADMSG, "records file ends in something else");
	(void)str_cut(str_sub(last, 7, last.n), ',', &digits, &found);
	if (str_to_u64(digits, UINT64_MAX - 1, &s->seq) < 0)
		return err_set(e, -EBADMSG, "records file ends in a bad sequence number");
	memcpy(s->hash_hex, last.p + last.n - 66, 64);
	return 0;
}

static int scribe_add(struct scribe *s, const struct record *r)
{
	struct err e = ERR_INIT;

	if (record_to_line(&s->lines, r, s->seq + 1, time_realtime_ns(), s->hash_hex, &e) < 0 ||
	    buf_append(&s->lines, "\n", 1) < 0) {
		/* Bounded fields cannot overflow the buffer; if they do, stop rather than lose. */
		log_error("%s", e.text);
		loop_stop(s->loop, 1);
		return -EIO;
	}
	s->seq++;
	s->unsigned_records++;
	return 0;
}

static void scribe_copy(const struct scribe *s, const struct record *r)
{
	if (s->refused_fd < 0 || (r->verdict != RECORD_BLOCK && r->verdict != RECORD_HOLD))
		return;
	if (io_send_fds(s->refused_fd, r, sizeof(*r), NULL, 0, MSG_DONTWAIT) < 0)
		return; /* full, or supervise is being started again */
}

static void scribe_pause(struct scribe *s, bool is_paused)
{
	for (size_t i = 0; i < ARRAY_LEN(s->senders); i++) {
		if (s->senders[i].watch.fd >= 0)
			(void)loop_set(s->loop, &s->senders[i].watch, is_paused ? 0 : EPOLLIN);
	}
}

/* True when all is on file. */
static bool scribe_flush(struct scribe *s)
{
	while (buf_len(&s->lines) > 0) {
		struct str text = buf_str(&s->lines);
		ssize_t put = pwrite(s->file_fd, text.p, text.n, s->size);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0) {
			log_error("cannot write records, traffic stops until it works: %s",
				  strerror(errno));
			scribe_pause(s, true);
			loop_timer_set(s->loop, &s->retry_timer, RECORD_RETRY_MS);
			return false;
		}
		s->size += put;
		buf_consume(&s->lines, (size_t)put);
	}
	return true;
}

static void scribe_checkpoint(struct scribe *s)
{
	struct keyd_request q = {.op = KEYD_OP_SIGN, .data_n = 32};
	struct keyd_reply reply;
	struct err e = ERR_INIT;
	struct record r;

	if (s->unsigned_records == 0 || !text_unhex(q.data, 32, str_slice(s->hash_hex, 64)))
		return;
	if (keyd_ask(s->keyd_fd, &q, &reply, KEYD_TIMEOUT_MS, &e) < 0 || reply.status != KEYD_OK ||
	    reply.data_n != 96) {
		log_warn("no checkpoint: %s", e.code ? e.text : "keyd refused");
		return;
	}
	if (!s->has_public_key) {
		record_init(&r, "record", RECORD_NOTE, "signing-key");
		text_hex(r.detail, reply.data + 64, 32);
		if (scribe_add(s, &r) < 0)
			return;
		/* The key's own record moved the head: sign that one next time round. */
		s->has_public_key = true;
		if (!text_unhex(q.data, 32, str_slice(s->hash_hex, 64)) ||
		    keyd_ask(s->keyd_fd, &q, &reply, KEYD_TIMEOUT_MS, &e) < 0 ||
		    reply.status != KEYD_OK || reply.data_n != 96)
			return;
	}
	record_init(&r, "record", RECORD_NOTE, "checkpoint");
	text_hex(r.detail, reply.data, 64);
	if (scribe_add(s, &r) == 0)
		s->unsigned_records = 0;
}

static void scribe_on_readable(struct loop_watch *w, uint32_t events)
{
	struct scribe_sender *from =
		(struct scribe_sender *)((char *)w - offsetof(struct scribe_sender, watch));
	struct scribe *s = from->scribe;
	struct record r;

	(void)events;
	for (int i = 0; i < RECORD_BATCH; i++) {
		ssize_t got = io_recv_fds(w->fd, &r, sizeof(r), NULL, NULL, MSG_DONTWAIT);

		if (got == -EAGAIN)
			break;
		if (got == 0) {
			/* init holds the other end too: this is init's death. */
			loop_stop(s->loop, 0);
			break;
		}
		if (got != (ssize_t)sizeof(r) || r.verdict >= RECORD_VERDICT_COUNT) {
			log_warn("dropped a malformed record of %s", from->role);
			continue;
		}
		(void)snprintf(r.role, sizeof(r.role), "%s", from->role);
		if (scribe_add(s, &r) < 0)
			return;
		scribe_copy(s, &r);
	}
	if (s->unsigned_records >= RECORD_CHECKPOINT_EVERY)
		scribe_checkpoint(s);
	/* Not moved by what comes later: attack: a request now and then would put the signature
	 * off. */
	if (scribe_flush(s) && s->sign_timer.due_ns == 0)
		loop_timer_set(s->loop, &s->sign_timer, RECORD_CHECKPOINT_MS);
}

static void scribe_on_sign(struct loop_timer *t)
{
	(void)t;
	scribe_checkpoint(&scribe);
	(void)scribe_flush(&scribe);
}

static void scribe_on_retry(struct loop_timer *t)
{
	(void)t;
	if (scribe_flush(&scribe))
		scribe_pause(&scribe, false);
}

static void scribe_on_signal(struct loop *l, int signo, void *ctx)
{
	(void)signo;
	(void)ctx;
	loop_stop(l, 0);
}

static int scribe_start(struct scribe *s, const struct bundle_role_env *env, struct err *e)
{
	int ret;

	s->loop = loop_new(e);
	if (!s->loop)
		return e->code;
	s->file_fd = env->records_file_fd;
	s->keyd_fd = env->keyd_fd;
	s->refused_fd = env->refused_fd;
	s->sign_timer.fn = scribe_on_sign;
	s->retry_timer.fn = scribe_on_retry;
	buf_init(&s->lines, (size_t)(RECORD_BATCH + 4) * 2 * RECORD_LINE_MAX);
	ret = scribe_resume(s, e);
	if (ret < 0)
		return ret;
	for (size_t i = 0; i < ARRAY_LEN(s->senders); i++) {
		struct scribe_sender *from = &s->senders[i];

		from->scribe = s;
		from->role = i < BUNDLE_ROLE_COUNT ? bundle_role_name((enum bundle_role)i) : "init";
		from->watch = (struct loop_watch){.fd = -1, .fn = scribe_on_readable};
		if (env->record_in_fds[i] < 0)
			continue;
		ret = loop_add(s->loop, &from->watch, env->record_in_fds[i], EPOLLIN, e);
		if (ret < 0)
			return ret;
	}
	return loop_signals(s->loop, (int[]){SIGTERM}, 1, scribe_on_signal, NULL, e);
}

int record_role_main(struct bundle_role_env *env)
{
	struct err e = ERR_INIT;
	struct priv_limits limits = {.files = 32, .file_size_bytes = (size_t)4 << 30};
	int status;

	if (scribe_start(&scribe, env, &e) < 0 ||
	    bundle_role_seal(env, &limits, false, PRIV_SECCOMP_FILE, &e) < 0)
		die("%s", e.text);
	bundle_role_ready(env);
	status = loop_run(scribe.loop);
	for (size_t i = 0; i < ARRAY_LEN(scribe.senders); i++) {
		if (scribe.senders[i].watch.fd >= 0)
			scribe_on_readable(&scribe.senders[i].watch, 0);
	}
	scribe_checkpoint(&scribe);
	return scribe_flush(&scribe) ? status : 1;
}
