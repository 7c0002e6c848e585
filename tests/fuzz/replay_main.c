/*
 * Runs a fuzz harness without libFuzzer, over its corpus: each file whole, and cut short at up to
 * REPLAY_CUTS places, since a parser's limits show at the ends of its input. Findings that `make
 * fuzz` made once stay found this way, in every build.
 */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define REPLAY_CUTS	 64
#define REPLAY_MAX_BYTES (4u << 20)

static size_t n_files, n_runs;

/* An exact heap copy each time, so that a sanitizer sees a read past the end. */
static void run_once(const char *bytes, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);

	if (!copy)
		abort();
	memcpy(copy, bytes, n);
	LLVMFuzzerTestOneInput(copy, n);
	free(copy);
	n_runs++;
}

static int replay_file(const char *path)
{
	static char bytes[REPLAY_MAX_BYTES];
	FILE *f = fopen(path, "rb");
	size_t n, step;

	if (!f) {
		perror(path);
		return 1;
	}
	n = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	fprintf(stderr, "%s: %zu bytes\n", path, n);
	run_once(bytes, n);
	step = n / REPLAY_CUTS + 1;
	for (size_t cut = 0; cut < n; cut += step)
		run_once(bytes, cut);
	n_files++;
	return 0;
}

static int replay_folder(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *entry;
	int status = 0;

	if (!d) {
		perror(path);
		return 1;
	}
	while ((entry = readdir(d))) {
		char name[4096];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		status |= replay_file(name);
	}
	closedir(d);
	return status;
}

int main(int argc, char **argv)
{
	int status = 0;

	for (int i = 1; i < argc; i++) {
		struct stat st;

		if (stat(argv[i], &st)) {
			perror(argv[i]);
			status = 1;
		} else {
			status |=
				S_ISDIR(st.st_mode) ? replay_folder(argv[i]) : replay_file(argv[i]);
		}
	}
	printf("%zu files, %zu runs\n", n_files, n_runs);
	if (n_files == 0) {
		fprintf(stderr, "an empty corpus tests nothing\n");
		status = 1;
	}
	return status;
}
