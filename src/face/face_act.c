/* What a human does: one message to the bottle's keeper, and its answer (docs/SUPERVISE-FACES.md,
 * "Control messages"). */
#include "face/face_int.h"

#include "backend/keeper.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

/* Longer than the keeper waits for its bundle, so that it can say that it was not answered; and the
 * store's sync, and whatever it is busy with. */
#define FACE_ANSWER_MS (KEEPER_UPDATE_MS + 5000)
/* Until all of a bottle that was killed is undone. */
#define FACE_STOP_MS   30000
#define FACE_KILLED_MS 5000

static int hear(int sock, char *message, size_t size, struct err *e)
{
	struct pollfd p = {.fd = sock, .events = POLLIN};
	uint64_t deadline_ns = time_monotonic_ns() + FACE_ANSWER_MS * TIME_NS_PER_MS;
	ssize_t got;

	for (;;) {
		uint64_t now_ns = time_monotonic_ns();

		if (now_ns >= deadline_ns)
			return err_set(e, -EIO, "the keeper does not answer; look again");
		if (poll(&p, 1, (int)((deadline_ns - now_ns) / TIME_NS_PER_MS) + 1) <= 0)
			continue;
		got = recv(sock, message, size, MSG_DONTWAIT);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (got <= 0)
			return err_set(e, -EIO, "the keeper went away; look again");
		return (int)got;
	}
}

/* The answer's object, or NULL with e. */
static json_t *understand(const char *message, size_t n, struct err *e)
{
	json_t *j = json_loadb(message + 1, n - 1, JSON_REJECT_DUPLICATES, NULL);
	const char *text = json_string_value(json_object_get(j, "text"));
	char shown[ERR_TEXT_MAX];

	if (message[0] == KEEPER_DECIDED && text)
		return j;
	text_visible_once_cstr(shown, sizeof(shown),
			       str_of(text ? text : "no sense in its answer"));
	(void)err_set(e, message[0] == KEEPER_FAILED ? -EPROTO : -EIO, "the keeper: %s", shown);
	json_decref(j);
	return NULL;
}

/* Takes body. Nothing has happened after any error but -EIO. */
static int ask(const char *slug, char type, json_t *body, json_t **answer, struct err *e)
{
	_cleanup_free_ char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	_cleanup_free_ char *message = text ? mem_printf("%c%s", type, text) : NULL;
	_cleanup_close_ int dir = -1, sock = -1;
	char received[8192];
	int r;

	*answer = NULL;
	json_decref(body);
	if (!message)
		return err_set(e, -EINVAL, "the text is not UTF-8");
	r = bottles_open(slug, &dir, e);
	if (r == 0)
		r = bottles_connect(dir, slug, &sock, e);
	if (r < 0)
		return r;
	if (send(sock, message, strlen(message), MSG_NOSIGNAL) < 0)
		return err_errno(e, "send to the keeper of %s", slug);
	r = hear(sock, received, sizeof(received), e);
	if (r < 0)
		return r;
	*answer = understand(received, (size_t)r, e);
	return *answer ? 0 : e ? e->code : -EIO;
}

static int take_verdict(const json_t *answer, enum store_verdict *out, struct buf *said,
			struct err *e)
{
	static const char *const names[] = {[STORE_DECIDED] = "decided",
					    [STORE_NO_SUCH] = "no-such",
					    [STORE_ALREADY] = "already",
					    [STORE_STALE] = "stale",
					    [STORE_FORBIDDEN] = "forbidden"};
	const char *verdict = json_string_value(json_object_get(answer, "verdict"));
	const char *text = json_string_value(json_object_get(answer, "text"));
	bool is_in_force = json_is_true(json_object_get(answer, "in_force"));
	char shown[ERR_TEXT_MAX];

	text_visible_once_cstr(shown, sizeof(shown), str_of(text));
	/* Looked at, and nothing done: as good as not asked. */
	if (verdict && strcmp(verdict, "failed") == 0)
		return err_set(e, -EINVAL, "%s", shown);
	for (size_t i = 0; verdict && i < ARRAY_LEN(names); i++) {
		if (strcmp(verdict, names[i]) == 0 && (i != STORE_DECIDED || is_in_force)) {
			*out = (enum store_verdict)i;
			return buf_append_str(said, str_of(shown));
		}
	}
	return err_set(e, -EIO, "%s", shown);
}

int face_decide(const struct face_decision *d, enum store_verdict *out, struct buf *said,
		struct err *e)
{
	static const char *const scopes[] = {
		"once", [ASK_ONCE] = "once", [ASK_BOTTLE] = "bottle", [ASK_ALWAYS] = "always"};
	_cleanup_json_ json_t *answer = NULL;
	char hash[CHANGE_HASH_HEX], manifest[CHANGE_HASH_HEX];
	json_t *body;
	int r;

	text_hex(hash, d->hash, sizeof(d->hash));
	text_hex(manifest, d->manifest, sizeof(d->manifest));
	body = json_pack("{s:I, s:s, s:b, s:s, s:s, s:I, s:s, s:s, s:s}", "id", (json_int_t)d->id,
			 "hash", hash, "grant", (int)d->is_granted, "scope",
			 scopes[d->scope <= ASK_ALWAYS ? d->scope : 0], "release",
			 d->release == ASK_REDACT ? "redact" : "pass", "seconds",
			 (json_int_t)d->seconds, "manifest", manifest, "answer",
			 d->answer ? d->answer : "", "face", d->face);
	r = ask(d->slug, KEEPER_DECIDE, body, &answer, e);
	return r < 0 ? r : take_verdict(answer, out, said, e);
}

/* What is no decision has no verdict but "decided". */
static int act(const char *slug, char type, json_t *body, struct buf *said, struct err *e)
{
	_cleanup_json_ json_t *answer = NULL;
	enum store_verdict verdict;
	int r = ask(slug, type, body, &answer, e);

	if (r == 0)
		r = take_verdict(answer, &verdict, said, e);
	if (r == 0 && verdict != STORE_DECIDED)
		return err_set(e, verdict == STORE_NO_SUCH ? -ENOENT : -EINVAL, STR_FMT,
			       STR_ARG(buf_str(said)));
	return r;
}

int face_revoke(const char *slug, uint64_t id, const char *face, struct buf *said, struct err *e)
{
	int r = face_revoke_dead(slug, id, face, said, e);

	if (r != -EWOULDBLOCK)
		return r;
	return act(slug, KEEPER_REVOKE, json_pack("{s:I, s:s}", "id", (json_int_t)id, "face", face),
		   said, e);
}

int face_pause(const char *slug, bool is_paused, const char *face, struct buf *said, struct err *e)
{
	return act(slug, KEEPER_NETWORK,
		   json_pack("{s:b, s:s}", "paused", (int)is_paused, "face", face), said, e);
}

/* No answer is waited for but the end itself: a keeper that does not listen is killed, and the
 * bottle with it. */
int face_stop_now(const char *slug, struct buf *said, struct err *e)
{
	static const char stop[] = "k{\"grace_ms\":0,\"now\":true}";
	_cleanup_close_ int bottles = -1, dir = -1, sock = -1;
	struct bottles_entry b;
	int r = places_bottles_open(false, &bottles, e);

	static_assert(KEEPER_STOP == 'k', "the message's type");
	if (r == 0)
		r = bottles_open(slug, &dir, e);
	if (r == 0)
		r = bottles_load(bottles, slug, &b, e);
	if (r < 0)
		return r;
	if (!b.is_alive)
		return buf_printf(said, "%s is not running", slug);
	if (bottles_connect(dir, slug, &sock, NULL) < 0 ||
	    send(sock, stop, sizeof(stop) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ||
	    !bottles_wait_dead(slug, FACE_STOP_MS)) {
		bottles_kill_keeper(b.pid, dir);
		if (!bottles_wait_dead(slug, FACE_KILLED_MS))
			return err_set(e, -EBUSY,
				       "%s does not end: its keeper (pid %d) does not answer", slug,
				       (int)b.pid);
	}
	return buf_printf(said, "%s has ended", slug);
}
