#include "gitgate/commands.h"

#include "base/clean.h"
#include "gitgate/pkt.h"

#define OID_HEX		  40
#define PACK_HEADER_BYTES 12
#define PACK_VERSION	  2

const char *commands_reason_name(enum commands_reason r)
{
	static const char *const names[] = {
#define X(constant, name) [COMMANDS_##constant] = (name),
		COMMANDS_REASONS(X)
#undef X
	};

	_Static_assert(ARRAY_LEN(names) == COMMANDS_REASON_COUNT, "one name per reason");
	return r < COMMANDS_REASON_COUNT ? names[r] : "?";
}

void commands_init(struct commands *c, uint64_t pack_max_bytes)
{
	memset(c, 0, sizeof(*c));
	c->pack_max_bytes = pack_max_bytes;
	buf_init(&c->head, COMMANDS_HEAD_MAX);
}

void commands_free(struct commands *c)
{
	buf_free(&c->head);
}

/* --- capabilities --- */

/* Values may be anything that git would print: they are not used. */
static bool capability_is_plain(struct str value)
{
	for (size_t i = 0; i < value.n; i++) {
		if (value.p[i] <= ' ' || value.p[i] > '~')
			return false;
	}
	return true;
}

static enum commands_reason capability_take(struct commands *c, struct str word)
{
	const struct {
		struct str name;
		bool *flag;
	} flags[] = {
		{STR_LIT("report-status"), &c->has_report},
		{STR_LIT("report-status-v2"), &c->has_report},
		{STR_LIT("side-band-64k"), &c->has_side_band},
		{STR_LIT("quiet"), &c->is_quiet},
		{STR_LIT("atomic"), &c->is_atomic},
		{STR_LIT("ofs-delta"), NULL},
		{STR_LIT("delete-refs"), NULL},
	};
	struct str name;
	bool has_value;
	struct str value = str_cut(word, '=', &name, &has_value);

	if (word.n > COMMANDS_CAPABILITY_MAX || !capability_is_plain(word))
		return COMMANDS_BAD_CAPABILITY;
	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		if (!str_eq(word, flags[i].name))
			continue;
		if (flags[i].flag)
			*flags[i].flag = true;
		return COMMANDS_OK;
	}
	if (str_eq(word, STR_LIT("push-options")))
		return COMMANDS_PUSH_OPTIONS;
	if (str_eq(name, STR_LIT("push-cert")))
		return COMMANDS_PUSH_CERT;
	if (has_value && str_eq(name, STR_LIT("object-format")))
		return str_eq(value, STR_LIT("sha1")) ? COMMANDS_OK : COMMANDS_OBJECT_FORMAT;
	if (has_value && (str_eq(name, STR_LIT("agent")) || str_eq(name, STR_LIT("session-id"))))
		return COMMANDS_OK;
	return COMMANDS_BAD_CAPABILITY;
}

static enum commands_reason capabilities_take(struct commands *c, struct str list)
{
	bool more = true;

	while (more) {
		enum commands_reason r;
		struct str word;

		list = str_cut(list, ' ', &word, &more);
		if (word.n == 0)
			continue;
		r = capability_take(c, word);
		if (r != COMMANDS_OK)
			return r;
	}
	return COMMANDS_OK;
}

/* --- lines --- */

static bool oid_take(char out[GIT_OID_SIZE], struct str hex)
{
	if (hex.n != OID_HEX)
		return false;
	for (size_t i = 0; i < OID_HEX; i++) {
		if (!ascii_is_digit(hex.p[i]) && !(hex.p[i] >= 'a' && hex.p[i] <= 'f'))
			return false;
	}
	return str_to_cstr(out, GIT_OID_SIZE, hex);
}

static enum commands_reason shallow_take(struct commands *c, struct str oid)
{
	char ignored[GIT_OID_SIZE];

	/* They stand before the commands. */
	if (c->n_updates > 0 || !oid_take(ignored, oid))
		return COMMANDS_BAD_SHALLOW;
	return ++c->n_shallow > COMMANDS_SHALLOW_MAX ? COMMANDS_TOO_MANY : COMMANDS_OK;
}

static enum commands_reason command_take(struct commands *c, struct str line)
{
	struct check_update *u;
	struct str ref = str_sub(line, 2 * (OID_HEX + 1), line.n);

	if (c->n_updates == CHECK_UPDATES_MAX)
		return COMMANDS_TOO_MANY;
	u = &c->updates[c->n_updates];
	if (line.n <= 2 * (OID_HEX + 1) || line.p[OID_HEX] != ' ' ||
	    line.p[2 * OID_HEX + 1] != ' ' || !oid_take(u->old_oid, str_sub(line, 0, OID_HEX)) ||
	    !oid_take(u->new_oid, str_sub(line, OID_HEX + 1, 2 * OID_HEX + 1)))
		return COMMANDS_BAD_COMMAND;
	if (commands_is_zero(u->old_oid) && commands_is_zero(u->new_oid))
		return COMMANDS_BAD_COMMAND;
	if (!git_ref_is_valid(ref) || !str_to_cstr(u->ref, sizeof(u->ref), ref))
		return COMMANDS_BAD_REF;
	for (size_t i = 0; i < c->n_updates; i++) {
		if (strcmp(c->updates[i].ref, u->ref) == 0)
			return COMMANDS_BAD_COMMAND;
	}
	c->has_pack_wanted |= !commands_is_zero(u->new_oid);
	c->n_updates++;
	return COMMANDS_OK;
}

static enum commands_reason line_take(struct commands *c, struct str line)
{
	enum commands_reason r = COMMANDS_OK;
	struct str capabilities, command;
	bool has_capabilities;

	if (line.n > COMMANDS_LINE_MAX)
		return COMMANDS_TOO_LARGE;
	if (str_ends(line, STR_LIT("\n")))
		line.n--;
	if (str_starts(line, STR_LIT("shallow ")))
		return shallow_take(c, str_sub(line, 8, line.n));
	if (str_starts(line, STR_LIT("push-cert")))
		return COMMANDS_PUSH_CERT;
	capabilities = str_cut(line, '\0', &command, &has_capabilities);
	if (has_capabilities) {
		/* On the first command alone; git would take those of a later one, too. */
		if (c->n_updates > 0)
			return COMMANDS_BAD_COMMAND;
		r = capabilities_take(c, capabilities);
	}
	return r == COMMANDS_OK ? command_take(c, command) : r;
}

/* --- the pack's header --- */

static uint32_t be32(const char *p)
{
	const unsigned char *u = (const unsigned char *)p;

	return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

static enum commands_reason header_take(struct commands *c, struct str header)
{
	if (memcmp(header.p, "PACK", 4) != 0 || be32(header.p + 4) != PACK_VERSION)
		return COMMANDS_BAD_PACK;
	c->n_objects = be32(header.p + 8);
	return c->n_objects > CHECK_OBJECTS_MAX ? COMMANDS_TOO_MANY_OBJECTS : COMMANDS_OK;
}

/* --- the whole --- */

static enum commands_reason lines_run(struct commands *c)
{
	while (c->state == COMMANDS_LINES) {
		enum commands_reason r = COMMANDS_OK;
		struct str data;
		size_t used;

		switch (pkt_next(str_sub(buf_str(&c->head), c->at, SIZE_MAX), &data, &used)) {
		case PKT_MORE:
			return COMMANDS_OK;
		case PKT_DATA:
			r = line_take(c, data);
			break;
		case PKT_FLUSH:
			if (c->n_updates == 0 && c->n_shallow > 0)
				r = COMMANDS_BAD_COMMAND;
			c->state = c->has_pack_wanted ? COMMANDS_HEADER : COMMANDS_END;
			break;
		case PKT_DELIM:
		case PKT_END:
		case PKT_BAD:
			return COMMANDS_BAD_LINE;
		}
		if (r != COMMANDS_OK)
			return r;
		c->at += used;
	}
	return COMMANDS_OK;
}

static enum commands_reason pack_count(struct commands *c, size_t n)
{
	c->pack_bytes += n;
	return c->pack_bytes > c->pack_max_bytes ? COMMANDS_PACK_TOO_LARGE : COMMANDS_OK;
}

static enum commands_reason head_run(struct commands *c, struct buf *out)
{
	struct str all = buf_str(&c->head);
	enum commands_reason r = lines_run(c);

	if (r != COMMANDS_OK || c->state == COMMANDS_LINES)
		return r;
	if (c->state == COMMANDS_END && c->at < all.n)
		return COMMANDS_TRAILING;
	if (c->state == COMMANDS_HEADER) {
		if (all.n - c->at < PACK_HEADER_BYTES)
			return COMMANDS_OK;
		r = header_take(c, str_sub(all, c->at, c->at + PACK_HEADER_BYTES));
		if (r == COMMANDS_OK)
			r = pack_count(c, all.n - c->at);
		if (r != COMMANDS_OK)
			return r;
		c->state = COMMANDS_PACK;
	}
	if (buf_append_str(out, all) < 0)
		return COMMANDS_TOO_LARGE;
	buf_reset(&c->head);
	return COMMANDS_OK;
}

enum commands_reason commands_feed(struct commands *c, struct str in, struct buf *out)
{
	enum commands_reason r;

	if (in.n == 0)
		return COMMANDS_OK;
	if (c->state == COMMANDS_END)
		return COMMANDS_TRAILING;
	if (c->state == COMMANDS_PACK) {
		r = pack_count(c, in.n);
		return r == COMMANDS_OK && buf_append_str(out, in) < 0 ? COMMANDS_TOO_LARGE : r;
	}
	/* A piece may hold a good part of the pack: the head's cap is not for that. */
	while (in.n > 0) {
		size_t n = in.n < buf_room(&c->head) ? in.n : buf_room(&c->head);

		if (n == 0 || buf_append(&c->head, in.p, n) < 0)
			return COMMANDS_TOO_LARGE;
		in = str_sub(in, n, in.n);
		r = head_run(c, out);
		if (r != COMMANDS_OK || in.n == 0)
			return r;
		if (c->state == COMMANDS_PACK || c->state == COMMANDS_END)
			return commands_feed(c, in, out);
	}
	return COMMANDS_OK;
}

enum commands_reason commands_end(const struct commands *c)
{
	return c->state == COMMANDS_PACK || c->state == COMMANDS_END ? COMMANDS_OK : COMMANDS_CUT;
}
