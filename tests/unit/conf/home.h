/* A scratch home with manifests, for the tests of this folder, and what is made of them. What
 * cannot be made fails the test, with the reason. */
#pragma once

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "conf/manifest.h"
#include "conf/plan.h"

struct home {
	char path[64], cwd[96];
};

extern struct home home; /* of the test at hand, or of its group */

int home_setup(void **state);
int home_teardown(void **state);

/* path is under the home's or the work folder's root. */
void home_write(const char *root, const char *path, const char *text);
void home_bottle(const struct home *h, const char *name, const char *head);
void home_agent(const char *root, const char *name, const char *head, const char *body);

/* One bottle's head that is refused, where and with what. */
struct home_refused {
	const char *head;
	unsigned line, column;
	const char *why;
};

/* All of them are; says which are not. */
void home_refuses(const struct home_refused *rows, size_t n);
void home_load(struct manifest_bottle *b, const char *name);
void home_plan(struct plan *p, const struct plan_options *o);
bool home_warns(const struct plan *p, const char *part);
