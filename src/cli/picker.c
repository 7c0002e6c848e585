#include "cli/picker.h"

#include "cli/table.h"

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>

#define PICKER_TRIES 3

int picker_print(const struct plan_agent_info *agents, size_t n, struct buf *out)
{
	struct table t;
	int r;

	table_init(&t, 4);
	for (size_t i = 0; i < n; i++) {
		char number[24], in[PLACES_SLUG_MAX + 8];

		(void)snprintf(number, sizeof(number), "%3zu", i + 1);
		(void)snprintf(in, sizeof(in), "in %s", agents[i].bottle ? agents[i].bottle : "?");
		table_add(&t, TABLE_PLAIN,
			  (const char *const[]){number, agents[i].name, in, agents[i].description});
	}
	r = table_print(&t, false, out);
	table_free(&t);
	return r;
}

int picker_choose(const struct plan_agent_info *agents, size_t n, struct str answer, struct err *e)
{
	int found = -1;
	uint64_t number;
	char shown[64];

	answer = str_trim(answer);
	text_visible_cstr(shown, sizeof(shown), answer);
	if (answer.n == 0)
		return err_set(e, -EINVAL, "nothing was chosen");
	if (str_to_u64(answer, UINT32_MAX, &number) == 0) {
		if (number >= 1 && number <= n)
			return (int)(number - 1);
		return err_set(e, -EINVAL, "there is no number %s", shown);
	}
	for (size_t i = 0; i < n; i++) {
		struct str name = str_of(agents[i].name);

		if (str_eq(name, answer))
			return (int)i;
		if (!str_starts(name, answer))
			continue;
		if (found >= 0)
			return err_set(e, -EINVAL, "\"%s\" may mean %s or %s", shown,
				       agents[found].name, agents[i].name);
		found = (int)i;
	}
	return found >= 0 ? found : err_set(e, -EINVAL, "there is no agent \"%s\"", shown);
}

static int ask(const struct plan_agent_info *agents, size_t n, struct err *e)
{
	char line[128];
	struct buf out;
	int r;

	buf_init(&out, 1u << 20);
	r = picker_print(agents, n, &out);
	if (r == 0)
		(void)!io_write_all(STDERR_FILENO, buf_str(&out).p, buf_len(&out));
	buf_free(&out);
	for (unsigned i = 0; i < PICKER_TRIES; i++) {
		(void)fprintf(stderr, "Which agent? [1-%zu] ", n);
		if (!fgets(line, sizeof(line), stdin)) {
			(void)fputs("\n", stderr);
			break;
		}
		line[strcspn(line, "\r\n")] = '\0';
		*e = ERR_INIT;
		r = picker_choose(agents, n, str_of(line), e);
		if (r >= 0)
			return r;
		(void)fprintf(stderr, "%s\n", e->text);
	}
	return err_set(e, -ECANCELED, "no agent was chosen");
}

int picker_run(const char *home, const char *cwd, char **name, struct err *e)
{
	struct plan_agent_info *agents;
	size_t n;
	int r;

	*name = NULL;
	r = plan_list_agents(home, cwd, &agents, &n, e);
	if (r < 0)
		return r;
	if (n == 0)
		r = err_set(e, -ENOENT,
			    "there is no agent yet (\"claude-bottle init\" writes examples)");
	else
		r = ask(agents, n, e);
	if (r >= 0)
		*name = mem_strdup(agents[r].name);
	plan_agents_free(agents, n);
	return r < 0 ? r : 0;
}
