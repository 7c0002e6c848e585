/* Renders Smolfiles of what others think of: on standard input one text after the other, each with
 * its NUL; on standard output for each a line with the length of its Smolfile, and that. The text
 * is everywhere in it. -1: it is refused. */
#include "backend/smolmachines/smolfile.h"
#include "base/io.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define INPUT_MAX (64u << 20)

static int render(const char *text)
{
	const char *const list[] = {text, "between", text, NULL};
	const struct smolfile f = {.image = text,
				   .entrypoint = list,
				   .cmd = list,
				   .env = list,
				   .workdir = text,
				   .cpus = 1,
				   .memory_mib = 2,
				   .volumes = list,
				   .allow_cidrs = list};
	struct buf out = BUF_INIT(SMOLFILE_MAX);
	struct err e = ERR_INIT;
	int ret = smolfile_render(&f, &out, &e);

	if (ret < 0)
		ret = printf("-1\n");
	else if (printf("%zu\n", buf_len(&out)) > 0)
		ret = fwrite(buf_str(&out).p, 1, buf_len(&out), stdout) == buf_len(&out);
	buf_free(&out);
	return ret > 0 ? 0 : 1;
}

int main(void)
{
	struct err e = ERR_INIT;
	struct str all;
	int ret = 0;

	if (io_read_all(STDIN_FILENO, INPUT_MAX, &all, &e) < 0)
		return 1;
	for (size_t at = 0; ret == 0 && at < all.n; at += strlen(all.p + at) + 1)
		ret = render(all.p + at);
	free((void *)(uintptr_t)all.p);
	return ret;
}
