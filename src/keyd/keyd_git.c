/* gitssh names a remote by its place; which key that is, and which user it logs in as, is for keyd
 * to know. */
#include "keyd/keyd_int.h"

#include "base/log.h"

#include <errno.h>

int keyd_git_open(struct keyd *k, struct err *e)
{
	const struct git_policy *git = k->config.git;

	if (!git)
		return 0;
	for (size_t i = 0; i < git->n_remotes; i++) {
		const struct git_remote *r = &git->remotes[i];

		if (r->transport == GIT_TRANSPORT_SSH &&
		    (!r->has_credential || !vault_ssh_key(&k->vault, r->credential)))
			return err_set(e, -ENOENT, "the remote \"%s\" has no ssh key", r->name);
	}
	return git_policy_routes(git, k->config.policy, &k->git_routes, e);
}

/* NULL: not an ssh remote. */
static const struct git_key *find_key(const struct keyd *k, uint32_t place,
				      const struct git_remote **remote)
{
	const struct git_policy *git = k->config.git;

	if (!git || place >= git->n_remotes || git->remotes[place].transport != GIT_TRANSPORT_SSH)
		return NULL;
	*remote = &git->remotes[place];
	return vault_ssh_key(&k->vault, (*remote)->credential);
}

void keyd_git_key(struct keyd *k, struct keyd_asker *a, const struct keyd_request *q,
		  struct keyd_reply *r)
{
	const struct git_remote *remote;
	const struct git_key *key = find_key(k, q->index, &remote);

	(void)a;
	if (!key) {
		r->status = KEYD_DENIED;
		return;
	}
	_Static_assert(GIT_KEY_BLOB_MAX <= KEYD_DATA_MAX, "fits");
	memcpy(r->data, key->blob, key->blob_n);
	r->data_n = (uint32_t)key->blob_n;
}

void keyd_git_sign(struct keyd *k, struct keyd_asker *a, const struct keyd_request *q,
		   struct keyd_reply *r)
{
	const struct git_remote *remote;
	const struct git_key *key = find_key(k, q->index, &remote);
	struct err e = ERR_INIT;
	int n;

	(void)a;
	if (!key) {
		r->status = KEYD_DENIED;
		return;
	}
	n = git_key_sign_userauth(key, str_slice(q->data, q->data_n), remote->user, r->data, &e);
	if (n < 0) {
		log_error("gitssh, for \"%s\": %s", remote->name, e.text);
		r->status = n == -EBADMSG ? KEYD_BAD_REQUEST : KEYD_FAILED;
		return;
	}
	r->data_n = (uint32_t)n;
}
