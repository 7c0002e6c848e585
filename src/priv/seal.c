#include "priv/priv_int.h"

#include <signal.h>
#include <sys/wait.h>

/* Of descriptors that could be made, which the filter refuses besides; the kernel holds against it
 * how many poll() looks at. Whoever passes some is refused when there are more of them under way
 * than the second, of all processes of its uid; whoever walks folders has one open for each level.
 */
#define SEAL_FILES_MAX	    32
#define SEAL_FILES_MANY_MAX 1024

int priv_seal(const struct priv_seal *s, struct err *e)
{
	const struct priv_limits limits = {
		.files = s->sets & (PRIV_SECCOMP_PASS_FD | PRIV_SECCOMP_LIST) ? SEAL_FILES_MANY_MAX
									      : SEAL_FILES_MAX,
		/* Its output may be a file of the user's, as large as that may be. */
		.file_size_bytes = SIZE_MAX,
		/* Of all that this uid has: a fork would fail at once. */
		.processes = s->sets & PRIV_SECCOMP_FORK ? SIZE_MAX : 0,
	};
	int ret = priv_basics(e);

	if (ret == 0)
		ret = priv_limit(&limits, e);
	/* 1: no Landlock. Without OPEN there is no call that it would refuse. */
	if (ret == 0)
		ret = priv_landlock(s->paths, s->n_paths, false, e);
	if (ret >= 0)
		ret = priv_keep_caps(s->caps, e);
	return ret == 0 ? priv_seccomp_exactly(s->sets, e) : ret;
}

const char *priv_seal_why(int wait_status)
{
	return WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGSYS
		       ? ": it asked the kernel for what it never does, as one that was taken over "
			 "would"
		       : "";
}
