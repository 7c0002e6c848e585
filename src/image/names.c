/* What the images are made of, and their names. */
#include "image/image_int.h"

#include "image/bootstrap.h"
#include "image_templates.h"

#include <errno.h>
#include <stdio.h>

/* Changes when what is made of the same inputs changes. */
#define NAMES_FORMAT "claude-bottle image 1"

/* Of a Debian that was pulled. */
static const char base_dockerfile[] = "ARG BASE\nFROM ${BASE}\n";

const struct image_template image_templates[IMAGE_KIND_COUNT] = {
	[IMAGE_BASE] = {.name = "base", .dockerfile = base_dockerfile, .below = -1},
	[IMAGE_TOOLS] = {.name = "tools",
			 .dockerfile = template_tools,
			 .files = {{"gather", template_gather}},
			 .below = IMAGE_BASE},
	[IMAGE_BUNDLE] = {.name = "bundle",
			  .dockerfile = template_bundle,
			  .below = IMAGE_TOOLS,
			  .has_program = true},
	[IMAGE_SHELL] = {.name = "shell",
			 .dockerfile = template_shell,
			 .files = {{"packages", template_packages}, {"settle", template_settle}},
			 .below = IMAGE_BASE},
	[IMAGE_CLAUDE] = {.name = "claude",
			  .dockerfile = template_claude,
			  .files = {{"fetch", template_fetch_claude},
				    {"fetch-package", template_fetch_package}},
			  .below = IMAGE_SHELL,
			  .needs_host = true},
	[IMAGE_CODEX] = {.name = "codex",
			 .dockerfile = template_codex,
			 .files = {{"fetch", template_fetch_codex},
				   {"fetch-package", template_fetch_package}},
			 .below = IMAGE_SHELL,
			 .needs_host = true},
};

const char *image_kind_name(enum image_kind kind)
{
	return image_templates[kind].name;
}

const char *image_file(enum image_kind kind, const char *name)
{
	const struct image_template *t = &image_templates[kind];

	for (size_t i = 0; i < IMAGE_FILES_MAX && t->files[i].name; i++) {
		if (strcmp(t->files[i].name, name) == 0)
			return t->files[i].text;
	}
	return NULL;
}

bool image_kind_parse(struct str name, enum image_kind *out)
{
	for (unsigned k = 0; k < IMAGE_KIND_COUNT; k++) {
		*out = (enum image_kind)k;
		if (str_eq(name, str_of(image_templates[k].name)))
			return true;
	}
	*out = IMAGE_BASE;
	return false;
}

/* With its length in front, so that no two lists of inputs are the same bytes. */
static int add(struct buf *b, const char *what, const char *value)
{
	struct str v = str_of(value ? value : "");
	int r = buf_printf(b, "%s %zu\n", what, v.n);

	return r == 0 ? buf_append_str(b, v) : r;
}

static int add_inputs(struct buf *b, const struct image_template *t, const char *below,
		      const char *program_hash)
{
	int bad = 0;

	bad |= add(b, "kind", t->name);
	bad |= add(b, "below", below);
	bad |= add(b, "Dockerfile", t->dockerfile);
	for (size_t i = 0; i < IMAGE_FILES_MAX && t->files[i].name; i++)
		bad |= add(b, t->files[i].name, t->files[i].text);
	if (t->has_program)
		bad |= add(b, "program", program_hash);
	for (size_t i = 0; t->below < 0 && bootstrap_recipe[i]; i++)
		bad |= add(b, "argument", bootstrap_recipe[i]);
	if (t->below < 0)
		bad |= add(b, "pulled", IMAGE_BASE_PULLED_NAME ":" IMAGE_BASE_PULLED_TAG);
	return bad;
}

int image_names_make(struct image_names *out, const char *version, const char *machine,
		     const char *program_hash, struct err *e)
{
	*out = (struct image_names){0};
	/* What an image stands on has a smaller number. */
	for (unsigned k = 0; k < IMAGE_KIND_COUNT; k++) {
		const struct image_template *t = &image_templates[k];
		_cleanup_(buf_free) struct buf b = BUF_INIT(1u << 20);
		char hex[65];
		int ret;

		if (t->has_program && !program_hash)
			continue;
		if (add(&b, NAMES_FORMAT, version) < 0 || add(&b, "machine", machine) < 0 ||
		    add_inputs(&b, t, t->below >= 0 ? out->reference[t->below] : NULL,
			       program_hash) < 0)
			return err_set(e, -ENOBUFS, "the inputs of the image \"%s\" are too many",
				       t->name);
		ret = image_sha256(buf_str(&b), hex, e);
		if (ret < 0)
			return ret;
		(void)snprintf(out->reference[k], sizeof(out->reference[k]), "%s%s:%.*s",
			       IMAGE_OURS, t->name, IMAGE_TAG_DIGITS, hex);
	}
	return 0;
}
