/* Any bytes as a path: looked at without harm, and nothing that a forgiving file system drops hides
 * git's own folder. */
#include "fuzz.h"

#include "conf/risky_path.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct str path = str_slice(data, n);
	char hidden[RISKY_PATH_MAX];
	const char *what;
	unsigned flags = risky_path_find(path, &what);

	if (!flags != !what || flags != risky_path_find(path, NULL))
		abort();
	/* Below any folder, git's own one is found. */
	if (n == 0 || n + 16 > sizeof(hidden) || str_chr(path, '/') < n)
		return 0;
	memcpy(hidden, path.p, n);
	memcpy(hidden + n, "/.gIt. /config", 14);
	if (!(risky_path_find(str_slice(hidden, n + 14), NULL) & RISKY_HOST))
		abort();
	return 0;
}
