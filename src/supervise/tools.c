#include "supervise/tools.h"

#include "supervise/answer.h"
#include "supervise/look.h"

#include "base/clean.h"
#include "base/json.h"

#include <assert.h>
#include <errno.h>

/* --- schemas --- */

#define STATES                                                                                     \
	"\"pending\",\"granted\",\"refused\",\"expired\",\"never\",\"invalid\",\"limited\","       \
	"\"unknown\",\"unavailable\""
#define OUT_REQUEST                                                                                \
	"{\"type\":\"object\",\"properties\":{"                                                    \
	"\"state\":{\"type\":\"string\",\"enum\":[" STATES "]},"                                   \
	"\"id\":{\"type\":\"integer\",\"description\":\"For request_status.\"},"                   \
	"\"scope\":{\"type\":\"string\",\"enum\":[\"once\",\"bottle\",\"always\"]},"               \
	"\"until\":{\"type\":\"string\"},"                                                         \
	"\"reason\":{\"type\":\"string\",\"description\":\"In the human's or the rule's "          \
	"words.\"},"                                                                               \
	"\"message\":{\"type\":\"string\",\"description\":\"What it means and what to do "         \
	"now.\"}},"                                                                                \
	"\"required\":[\"state\",\"message\"]}"
#define OUT_TOLD                                                                                   \
	"{\"type\":\"object\",\"properties\":{"                                                    \
	"\"state\":{\"type\":\"string\",\"enum\":[\"taken\",\"invalid\",\"limited\","              \
	"\"unknown\",\"unavailable\"]},"                                                           \
	"\"reason\":{\"type\":\"string\"},\"message\":{\"type\":\"string\"}},"                     \
	"\"required\":[\"state\",\"message\"]}"
#define OUT_POLICY                                                                                 \
	"{\"type\":\"object\",\"properties\":{"                                                    \
	"\"paused\":{\"type\":\"boolean\",\"description\":\"A human has paused the network: "      \
	"nothing is allowed until it is resumed.\"},"                                              \
	"\"routes\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{"           \
	"\"host\":{\"type\":\"string\"},"                                                          \
	"\"ports\":{\"type\":\"array\",\"items\":{\"type\":\"integer\"}},"                         \
	"\"methods\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},"                        \
	"\"paths\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},"                          \
	"\"credential_is_added\":{\"type\":\"boolean\",\"description\":\"The bundle adds a "       \
	"credential on the way; you do not need one.\"},"                                          \
	"\"websocket\":{\"type\":\"boolean\"},"                                                    \
	"\"granted_by\":{\"type\":\"integer\",\"description\":\"The request that a human "         \
	"granted; absent for the bottle's own routes.\"},"                                         \
	"\"once\":{\"type\":\"boolean\"}},"                                                        \
	"\"required\":[\"host\",\"ports\",\"methods\",\"paths\",\"credential_is_added\"]}},"       \
	"\"left_out\":{\"type\":\"integer\",\"description\":\"Further routes, which did not fit "  \
	"in.\"},\"state\":{\"type\":\"string\",\"enum\":[\"invalid\"]},"                           \
	"\"message\":{\"type\":\"string\"}}}"
#define OUT_REFUSALS                                                                               \
	"{\"type\":\"object\",\"properties\":{"                                                    \
	"\"refusals\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{"         \
	"\"record\":{\"type\":\"string\"},\"by\":{\"type\":\"string\"},"                           \
	"\"held\":{\"type\":\"boolean\",\"description\":\"It waited for a human.\"},"              \
	"\"reason\":{\"type\":\"string\"},\"rule\":{\"type\":\"string\"},"                         \
	"\"method\":{\"type\":\"string\"},\"host\":{\"type\":\"string\"},"                         \
	"\"port\":{\"type\":\"integer\"},\"path\":{\"type\":\"string\"},"                          \
	"\"ask\":{\"type\":\"object\",\"description\":\"The tool and arguments that ask for it; "  \
	"absent where nobody can grant it. Add a reason.\"}},"                                     \
	"\"required\":[\"record\",\"reason\"]}},"                                                  \
	"\"state\":{\"type\":\"string\",\"enum\":[\"invalid\"]},"                                  \
	"\"message\":{\"type\":\"string\"}}}"

#define IN(properties, required)                                                                   \
	"{\"type\":\"object\",\"properties\":{" properties "},\"required\":[" required             \
	"],\"additionalProperties\":false}"
#define IN_WAIT                                                                                    \
	"\"wait_seconds\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":55,\"default\":45,"      \
	"\"description\":\"How long to wait for the human before the answer is pending.\"}"
#define IN_REASON                                                                                  \
	"\"reason\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":1023,\"description\":"      \
	"\"Why you need it, for the human who decides: one or two plain sentences.\"}"
#define IN_RECORD                                                                                  \
	"\"record\":{\"type\":\"string\",\"pattern\":\"^[0-9a-fA-F]{16}$\",\"description\":"       \
	"\"The record of a refusal, as the refusal itself or recent_refusals names it.\"}"

#define IN_EGRESS                                                                                  \
	"\"host\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":253,\"description\":"         \
	"\"A host name alone, such as api.example.com. A leading *. takes every name below; it "   \
	"is rarely granted.\"},"                                                                   \
	"\"ports\":{\"type\":\"array\",\"minItems\":1,\"maxItems\":8,\"items\":{"                  \
	"\"type\":\"integer\",\"minimum\":1,\"maximum\":65535},\"description\":\"[443] if "        \
	"absent.\"},"                                                                              \
	"\"methods\":{\"type\":\"array\",\"minItems\":1,\"maxItems\":7,\"items\":{"                \
	"\"type\":\"string\",\"enum\":[\"GET\",\"HEAD\",\"POST\",\"PUT\",\"PATCH\",\"DELETE\","    \
	"\"OPTIONS\"]},\"description\":\"GET and HEAD if absent.\"},"                              \
	"\"paths\":{\"type\":\"array\",\"minItems\":1,\"maxItems\":8,\"items\":{"                  \
	"\"type\":\"string\",\"minLength\":1,\"maxLength\":255},\"description\":\"Patterns such "  \
	"as /v1/items/*; * is within one segment, a last segment ** is all below. Every path if "  \
	"absent; a narrow list is granted sooner.\"}," IN_RECORD "," IN_REASON "," IN_WAIT
#define IN_PUSH                                                                                    \
	"\"remote\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":40},"                       \
	"\"ref\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":255,\"description\":"          \
	"\"Whole, such as refs/heads/main.\"},"                                                    \
	"\"commit\":{\"type\":\"string\",\"pattern\":\"^[0-9a-fA-F]{40}$\"}," IN_RECORD            \
	"," IN_REASON "," IN_WAIT
#define IN_CAPABILITY                                                                              \
	"\"what\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":500,\"description\":"         \
	"\"In words: a package, a mounted folder, a tool, a credential.\"},"                       \
	"\"reason\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":500}," IN_WAIT
#define IN_STATUS                                                                                  \
	"\"id\":{\"type\":\"integer\",\"minimum\":1,\"description\":\"As an earlier answer "       \
	"named it.\"}," IN_WAIT
#define IN_LIMIT   "\"limit\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":64,\"default\":10}"
#define IN_MESSAGE "\"message\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":1023}"

/* --- what each does --- */

static void tool_network_policy(const struct tools_view *view, struct args *a,
				struct tools_call *out)
{
	args_only(a, (const char *const[]){NULL});
	if (!a->wrong[0])
		out->answer = look_policy(view->policy, view->is_paused);
}

static void tool_recent_refusals(const struct tools_view *view, struct args *a,
				 struct tools_call *out)
{
	uint64_t limit = 10;

	args_only(a, (const char *const[]){"limit", NULL});
	args_integer(a, "limit", 1, REFUSED_MAX, &limit);
	if (!a->wrong[0])
		out->answer = refused_list(&view->refused, view->policy, (size_t)limit);
}

static void tool_request(struct args *a, struct tools_call *out)
{
	out->ask.op = ASK_REQUEST;
	args_wait(a, &out->wait_ms);
}

static void tool_request_egress(const struct tools_view *view, struct args *a,
				struct tools_call *out)
{
	(void)view;
	args_egress(a, &out->ask);
	tool_request(a, out);
}

static void tool_request_release(const struct tools_view *view, struct args *a,
				 struct tools_call *out)
{
	(void)view;
	args_release(a, &out->ask);
	tool_request(a, out);
}

static void tool_request_push(const struct tools_view *view, struct args *a, struct tools_call *out)
{
	(void)view;
	args_push(a, &out->ask);
	tool_request(a, out);
}

static void tool_request_capability(const struct tools_view *view, struct args *a,
				    struct tools_call *out)
{
	(void)view;
	args_capability(a, &out->ask);
	tool_request(a, out);
}

static void tool_request_status(const struct tools_view *view, struct args *a,
				struct tools_call *out)
{
	(void)view;
	out->ask.op = ASK_LOOK;
	args_only(a, (const char *const[]){"id", "wait_seconds", NULL});
	args_required(a, "id");
	args_integer(a, "id", 1, INT64_MAX, &out->ask.number);
	args_wait(a, &out->wait_ms);
}

static void tool_tell_human(const struct tools_view *view, struct args *a, struct tools_call *out)
{
	(void)view;
	out->ask.op = ASK_TELL;
	args_only(a, (const char *const[]){"message", NULL});
	args_text(a, "message", true, out->ask.reason, sizeof(out->ask.reason));
}

/* --- the table --- */

struct tool {
	const char *name, *title, *description, *in, *out;
	/* Annotations: it looks alone; the same once more adds nothing. */
	bool is_read_only, is_idempotent;
	void (*begin)(const struct tools_view *view, struct args *a, struct tools_call *out);
};

static const struct tool tools[] = {
	{TOOL_NETWORK_POLICY, "What the network allows",
	 "Lists what this bottle may reach now: hosts, ports, methods and paths, what a human has "
	 "granted included. Everything else is refused. Look here before you try a host.",
	 IN("", ""), OUT_POLICY, true, true, tool_network_policy},
	{TOOL_RECENT_REFUSALS, "What was refused lately",
	 "Lists the last requests that the wall refused, newest first, each with its reason and, "
	 "where a human could allow it, the tool and arguments that ask for exactly that.",
	 IN(IN_LIMIT, ""), OUT_REFUSALS, true, true, tool_recent_refusals},
	{TOOL_REQUEST_EGRESS, "Ask to reach a host",
	 "Asks a human to let this bottle reach a host that is refused now. Give either \"host\" "
	 "with \"ports\", \"methods\" and \"paths\", or the \"record\" of a refusal, which asks "
	 "for exactly what was refused. Ask for the least that does; the human sees exactly what "
	 "would change. On \"granted\", retry the request.",
	 IN(IN_EGRESS, "\"reason\""), OUT_REQUEST, false, true, tool_request_egress},
	{TOOL_REQUEST_RELEASE, "Ask to let one stopped request through",
	 "Asks a human to let one request through that was held or refused because its content "
	 "looked like a credential. If it is none, say what it is. On \"granted\", a held request "
	 "goes on by itself; else send exactly the same one again.",
	 IN(IN_RECORD "," IN_REASON "," IN_WAIT, "\"record\",\"reason\""), OUT_REQUEST, false, true,
	 tool_request_release},
	{TOOL_REQUEST_PUSH, "Ask for a push that needs approval",
	 "Asks a human to approve one git push: one commit to one ref of one remote. Give either "
	 "the \"record\" of the refusal or \"remote\", \"ref\" and \"commit\". On \"granted\", "
	 "push again.",
	 IN(IN_PUSH, "\"reason\""), OUT_REQUEST, false, true, tool_request_push},
	{TOOL_REQUEST_CAPABILITY, "Ask for something else",
	 "Asks a human, in words, for something that this bottle lacks: a package, a mounted "
	 "folder, a tool. Nothing changes by itself; the answer is the human's words.",
	 IN(IN_CAPABILITY, "\"what\",\"reason\""), OUT_REQUEST, false, true,
	 tool_request_capability},
	{TOOL_REQUEST_STATUS, "How a request stands",
	 "Tells how an earlier request stands, by its id, and waits for the decision if asked to. "
	 "Use it after an answer was \"pending\".",
	 IN(IN_STATUS, "\"id\""), OUT_REQUEST, true, true, tool_request_status},
	{TOOL_TELL_HUMAN, "Tell the human something",
	 "Shows the human one line, such as what you are about to do or why you are stuck. There "
	 "is no answer, and nothing is decided by it.",
	 IN(IN_MESSAGE, "\"message\""), OUT_TOLD, false, false, tool_tell_human},
};

/* openWorldHint: what happens next is a human's matter, not this program's. */
static json_t *tool_annotations(const struct tool *t)
{
	return json_pack("{s:s, s:b, s:b, s:b, s:b}", "title", t->title, "readOnlyHint",
			 t->is_read_only, "destructiveHint", 0, "idempotentHint", t->is_idempotent,
			 "openWorldHint", !t->is_read_only);
}

static json_t *tool_describe(const struct tool *t, enum session_version v)
{
	json_t *j = json_pack("{s:s, s:s, s:o*}", "name", t->name, "description", t->description,
			      "inputSchema", json_loads(t->in, 0, NULL));

	if (v >= SESSION_2025_03_26)
		(void)json_object_set_new(j, "annotations", tool_annotations(t));
	if (v >= SESSION_2025_06_18) {
		(void)json_object_set_new(j, "title", json_string(t->title));
		(void)json_object_set_new(j, "outputSchema", json_loads(t->out, 0, NULL));
	}
	return j;
}

json_t *tools_list(enum session_version v)
{
	json_t *list = json_array();

	for (size_t i = 0; i < ARRAY_LEN(tools); i++)
		(void)json_array_append_new(list, tool_describe(&tools[i], v));
	return json_pack("{s:o}", "tools", list);
}

bool tools_begin(const struct tools_view *view, const char *name, json_t *arguments,
		 struct tools_call *out)
{
	struct args a = {.object = arguments};

	memset(out, 0, sizeof(*out));
	for (size_t i = 0; i < ARRAY_LEN(tools); i++) {
		if (strcmp(tools[i].name, name) != 0)
			continue;
		tools[i].begin(view, &a, out);
		if (a.wrong[0]) {
			out->answer = answer_error("invalid", a.wrong);
			out->is_error = true;
		}
		return true;
	}
	return false;
}

json_t *tools_result(json_t *content, bool is_error, enum session_version v)
{
	_cleanup_free_ char *text = json_dumps(content, JSON_COMPACT | JSON_ENSURE_ASCII);
	_cleanup_json_ json_t *structured = content;
	json_t *result = json_pack("{s:[{s:s, s:s}], s:b}", "content", "type", "text", "text",
				   text ? text : "", "isError", is_error);

	if (v >= SESSION_2025_06_18)
		(void)json_object_set(result, "structuredContent", structured);
	return result;
}
