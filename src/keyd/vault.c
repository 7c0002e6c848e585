#include "keyd/vault.h"

#include "bundle/bundle.h"

#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

void vault_close(struct vault *v)
{
	for (size_t i = 0; i < v->n_ssh_keys; i++)
		git_key_free(&v->ssh_keys[i].key);
	free(v->ssh_keys);
	if (v->memory) {
		mem_wipe(v->memory, v->memory_size);
		(void)munmap(v->memory, v->memory_size);
	}
	mem_wipe(v, sizeof(*v));
}

static int vault_add_ssh_key(struct vault *v, const struct bundle_secret_head *head, char *text,
			     struct err *e)
{
	struct vault_ssh_key *k = &v->ssh_keys[v->n_ssh_keys];
	int ret;

	if (vault_ssh_key(v, head->index))
		return err_set(e, -EPROTO, "ssh key number %u came twice", head->index);
	ret = git_key_parse(&k->key, str_slice(text, head->length), e);
	mem_wipe(text, head->length);
	if (ret < 0)
		return ret;
	k->index = head->index;
	v->n_ssh_keys++;
	return 0;
}

static bool is_good_head(const struct bundle_secret_head *head)
{
	if (head->flags != 0 || head->length < SCAN_PRINT_WINDOW)
		return false;
	if (head->kind == BUNDLE_SECRET_SSH_KEY)
		return head->length <= BUNDLE_SSH_KEY_MAX_BYTES;
	return head->length <= SCAN_SECRET_MAX &&
	       (head->kind == SCAN_KIND_SECRET || head->kind == SCAN_KIND_CANARY ||
		head->kind == SCAN_KIND_PLACEHOLDER);
}

static int vault_parse(struct vault *v, size_t size, struct err *e)
{
	size_t at = 0;

	while (at < size) {
		struct bundle_secret_head head;
		int ret;

		if (size - at < sizeof(head))
			return err_set(e, -EPROTO, "the secrets file is cut");
		memcpy(&head, v->memory + at, sizeof(head));
		at += sizeof(head);
		if (head.length > size - at || v->n + v->n_ssh_keys == VAULT_MAX ||
		    !is_good_head(&head))
			return err_set(e, -EPROTO, "malformed secret number %zu",
				       v->n + v->n_ssh_keys);
		if (head.kind == BUNDLE_SECRET_SSH_KEY) {
			ret = vault_add_ssh_key(v, &head, v->memory + at, e);
			if (ret < 0)
				return ret;
		} else {
			v->secrets[v->n++] = (struct vault_secret){
				head.kind, head.index, {v->memory + at, head.length}};
		}
		at += head.length;
	}
	return 0;
}

int vault_open(struct vault *v, int fd, struct err *e)
{
	struct stat st;

	memset(v, 0, sizeof(*v));
	if (getrandom(&v->key, sizeof(v->key), 0) != (ssize_t)sizeof(v->key))
		return err_errno(e, "getrandom");
	v->key.multiplier |= 1;
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return err_errno(e, "stat secrets file");
	if (st.st_size == 0)
		return 0;
	if (st.st_size > BUNDLE_SECRETS_MAX_BYTES)
		return err_set(e, -EFBIG, "secrets file over %u bytes", BUNDLE_SECRETS_MAX_BYTES);
	v->memory_size = (size_t)st.st_size;
	v->memory = mmap(NULL, v->memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	if (v->memory == MAP_FAILED) {
		v->memory = NULL;
		return err_errno(e, "memory for secrets");
	}
	/* Both are best effort: an ordinary user's lock limit may be zero; core dumps are off
	 * anyway. */
	(void)mlock(v->memory, v->memory_size);
	(void)madvise(v->memory, v->memory_size, MADV_DONTDUMP);
	if (pread(fd, v->memory, v->memory_size, 0) != (ssize_t)v->memory_size)
		return err_set(e, -EIO, "read secrets file");
	v->ssh_keys = mem_zalloc_array(VAULT_MAX, sizeof(*v->ssh_keys));
	return vault_parse(v, v->memory_size, e);
}

struct str vault_credential(const struct vault *v, uint32_t index)
{
	for (size_t i = 0; i < v->n; i++) {
		if (v->secrets[i].kind == SCAN_KIND_SECRET && v->secrets[i].index == index)
			return v->secrets[i].value;
	}
	return STR_NULL;
}

const struct git_key *vault_ssh_key(const struct vault *v, uint32_t index)
{
	for (size_t i = 0; i < v->n_ssh_keys; i++) {
		if (v->ssh_keys[i].index == index)
			return &v->ssh_keys[i].key;
	}
	return NULL;
}
