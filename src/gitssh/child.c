/*
 * Theory of operation: one connection, from the socket that egress dialled to git's program on the
 * server, and then the pump. libssh is kept from everything but the socket: no configuration, no
 * known_hosts, no home folder (it would look all three up at once), no key file, no agent of
 * anybody's but the parent's. Names of algorithms are given here, so that neither a default of the
 * library nor the server's list brings an old one back.
 *
 * Everything that the server says is a stranger's: it reaches git-gate as the git protocol, or as a
 * line of why, in which what is not printable has been made visible.
 */
#include "gitssh/gitssh.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <libssh/libssh.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHILD_SAID_MAX 2048 /* of the server's standard error */

static const char kex[] = "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,"
			  "ecdh-sha2-nistp384,ecdh-sha2-nistp521,diffie-hellman-group16-sha512,"
			  "diffie-hellman-group18-sha512,diffie-hellman-group14-sha256";
static const char ciphers[] = "chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,"
			      "aes128-gcm@openssh.com,aes256-ctr,aes128-ctr";
static const char macs[] = "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,"
			   "hmac-sha2-256,hmac-sha2-512";
static const char key_types[] = "ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512,rsa-sha2-256";

static inline void session_free_p(ssh_session *s)
{
	ssh_free(*s);
}

static inline void key_free_p(ssh_key *k)
{
	ssh_key_free(*k);
}

/* --- small parts --- */

void gitssh_fingerprint(struct str blob, char out[64])
{
	unsigned char hash[32], text[48];
	size_t n;

	if (EVP_Q_digest(NULL, "SHA256", NULL, blob.p, blob.n, hash, NULL) != 1) {
		(void)snprintf(out, 64, "SHA256:?");
		return;
	}
	n = (size_t)EVP_EncodeBlock(text, hash, sizeof(hash));
	while (n > 0 && text[n - 1] == '=')
		n--;
	(void)snprintf(out, 64, "SHA256:%.*s", (int)n, (const char *)text);
}

/* A shell of the server's reads this. The characters that git_policy.h allows mean nothing to one
 * between single quotes; it is looked at again here, where it matters. */
int gitssh_command(char *out, size_t size, enum git_service service, const char *path)
{
	const char *program = service == GIT_UPLOAD_PACK ? "git-upload-pack" : "git-receive-pack";
	int n;

	if (!path[0] || path[0] == '-')
		return -EINVAL;
	for (const char *c = path; *c; c++) {
		if (!ascii_is_alnum(*c) && !strchr("-._~/+@", *c))
			return -EINVAL;
	}
	n = snprintf(out, size, "%s '%s'", program, path);
	return n < 0 || (size_t)n >= size ? -EINVAL : 0;
}

/* --- the connection --- */

static int take_socket(const struct gitssh_job *job, int *out, struct err *e)
{
	struct git_dial_reply reply;
	size_t n_fds = 1;
	int fd = -1;
	ssize_t n;

	if (io_wait(job->dial_fd, POLLIN, GITSSH_START_MS) != 1)
		return err_set(e, -ETIMEDOUT, "no connection was made in time");
	n = io_recv_fds(job->dial_fd, &reply, sizeof(reply), &fd, &n_fds, MSG_DONTWAIT);
	if (n != (ssize_t)sizeof(reply) || (reply.status == 0) != (n > 0 && n_fds == 1)) {
		if (n > 0 && n_fds == 1)
			close_fd(&fd);
		return err_set(e, -EPIPE, "no connection could be asked for");
	}
	if (reply.status != 0)
		return err_set(e, -ECONNREFUSED, "%s:%u: %.*s", job->remote->host,
			       job->remote->port, (int)strnlen(reply.text, sizeof(reply.text)),
			       reply.text);
	*out = fd;
	return 0;
}

/* "ssh-ed25519 AAAA…": the bytes. */
static int pinned_key(const char *text, uint8_t *out, size_t *n, struct str *type)
{
	bool found;
	struct str base64 = str_cut(str_of(text), ' ', type, &found);
	int got;

	if (!found || base64.n == 0 || base64.n % 4 != 0 || base64.n > GIT_HOST_KEY_MAX)
		return -EINVAL;
	got = EVP_DecodeBlock(out, (const unsigned char *)base64.p, (int)base64.n);
	if (got < 3)
		return -EINVAL;
	*n = (size_t)got - str_ends(base64, STR_LIT("=")) - str_ends(base64, STR_LIT("=="));
	return 0;
}

/* Only the pinned key's own algorithms are offered: a server that has several keys shows that one,
 * and one that has not is told apart from one whose key is another. */
static int set_options(ssh_session s, const struct gitssh_job *job, int fd, struct err *e)
{
	const struct git_remote *r = job->remote;
	const bool no = false;
	const long seconds = GITSSH_CONNECT_MS / 1000;
	uint8_t blob[GIT_HOST_KEY_MAX];
	struct str type;
	size_t n;
	char host_key[64];
	const struct {
		enum ssh_options_e option;
		const void *value;
	} options[] = {
		{SSH_OPTIONS_PROCESS_CONFIG, &no},
		{SSH_OPTIONS_SSH_DIR, "/nonexistent"},
		{SSH_OPTIONS_KNOWNHOSTS, "/dev/null"},
		{SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null"},
		{SSH_OPTIONS_HOST, r->host},
		{SSH_OPTIONS_USER, r->user},
		{SSH_OPTIONS_FD, &fd},
		{SSH_OPTIONS_TIMEOUT, &seconds},
		{SSH_OPTIONS_KEY_EXCHANGE, kex},
		{SSH_OPTIONS_HOSTKEYS, host_key},
		{SSH_OPTIONS_CIPHERS_C_S, ciphers},
		{SSH_OPTIONS_CIPHERS_S_C, ciphers},
		{SSH_OPTIONS_HMAC_C_S, macs},
		{SSH_OPTIONS_HMAC_S_C, macs},
		{SSH_OPTIONS_COMPRESSION_C_S, "none"},
		{SSH_OPTIONS_COMPRESSION_S_C, "none"},
		{SSH_OPTIONS_PUBLICKEY_ACCEPTED_TYPES, key_types},
	};

	if (pinned_key(r->host_key, blob, &n, &type) < 0)
		return err_set(e, -EINVAL, "the pinned host key cannot be read");
	if (str_eq(type, STR_LIT("ssh-rsa")))
		type = STR_LIT("rsa-sha2-512,rsa-sha2-256");
	if (!str_to_cstr(host_key, sizeof(host_key), type))
		return err_set(e, -EINVAL, "the pinned host key's kind");
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		if (ssh_options_set(s, options[i].option, options[i].value) < 0)
			return err_set(e, -EINVAL, "the ssh library refuses option %d: %s",
				       (int)options[i].option, ssh_get_error(s));
	}
	return 0;
}

static int check_host_key(ssh_session s, const struct git_remote *r, struct err *e)
{
	_cleanup_(key_free_p) ssh_key key = NULL;
	_cleanup_free_ char *text = NULL;
	_cleanup_free_ char *line = NULL;
	uint8_t pinned[GIT_HOST_KEY_MAX], shown[GIT_HOST_KEY_MAX];
	char pinned_print[64], shown_print[64];
	size_t n = 0, shown_n = 0;
	struct str type;

	if (pinned_key(r->host_key, pinned, &n, &type) < 0)
		return err_set(e, -EINVAL, "the pinned host key cannot be read");
	if (ssh_get_server_publickey(s, &key) < 0 ||
	    ssh_pki_export_pubkey_base64(key, &text) != SSH_OK || strlen(text) > GIT_HOST_KEY_MAX)
		return err_set(e, -EKEYREJECTED, "the host key cannot be read");
	/* The type stands in the bytes as well. */
	if (asprintf(&line, "- %s", text) < 0)
		line = NULL;
	if (!line || pinned_key(line, shown, &shown_n, &type) < 0)
		return err_set(e, -EKEYREJECTED, "the host key cannot be read");
	if (str_eq(str_slice(pinned, n), str_slice(shown, shown_n)))
		return 0;
	gitssh_fingerprint(str_slice(pinned, n), pinned_print);
	gitssh_fingerprint(str_slice(shown, shown_n), shown_print);
	return err_set(e, -EKEYREJECTED,
		       "the host key is not the pinned one: %s shows %s, pinned is %s", r->host,
		       shown_print, pinned_print);
}

static enum gitssh_end connect_to(ssh_session s, const struct gitssh_job *job, struct err *e)
{
	int ret;

	if (ssh_connect(s) != SSH_OK) {
		(void)err_set(e, -EIO, "ssh to %s: %s", job->remote->host, ssh_get_error(s));
		return GITSSH_FAILED;
	}
	ret = check_host_key(s, job->remote, e);
	return ret == 0 ? GITSSH_OK : ret == -EKEYREJECTED ? GITSSH_HOST_KEY : GITSSH_FAILED;
}

/* Owns agent_fd from here on, in the session. */
static enum gitssh_end log_in(ssh_session s, const struct gitssh_job *job, struct err *e)
{
	const long seconds = GITSSH_AUTH_MS / 1000;
	int ret;

	if (ssh_options_set(s, SSH_OPTIONS_TIMEOUT, &seconds) < 0 ||
	    ssh_set_agent_socket(s, job->agent_fd) != SSH_OK) {
		(void)err_set(e, -EIO, "the ssh library takes no agent");
		return GITSSH_FAILED;
	}
	ret = ssh_userauth_agent(s, NULL);
	if (ret == SSH_AUTH_SUCCESS)
		return GITSSH_OK;
	if (ret == SSH_AUTH_ERROR) {
		(void)err_set(e, -EIO, "ssh to %s: %s", job->remote->host, ssh_get_error(s));
		return GITSSH_FAILED;
	}
	(void)err_set(e, -EACCES,
		      "%s does not let %s in with this remote's key: is it a deploy key there?",
		      job->remote->host, job->remote->user);
	return GITSSH_AUTH;
}

static enum gitssh_end run(ssh_session s, const struct gitssh_job *job, struct buf *said,
			   struct err *e)
{
	ssh_channel channel = ssh_channel_new(s);
	char command[GIT_PATH_MAX + 64];
	int ret;

	if (gitssh_command(command, sizeof(command), job->service, job->remote->path) < 0) {
		(void)err_set(e, -EINVAL, "the remote's path cannot be said to a server");
		return GITSSH_FAILED;
	}
	if (!channel || ssh_channel_open_session(channel) != SSH_OK ||
	    ssh_channel_request_exec(channel, command) != SSH_OK) {
		(void)err_set(e, -EIO, "ssh to %s: %s", job->remote->host, ssh_get_error(s));
		return GITSSH_FAILED;
	}
	/* The parent's sign that the beginning is over, and nothing is signed any more. */
	(void)shutdown(job->agent_fd, SHUT_RDWR);
	ret = gitssh_pump(s, channel, job->stream_fd, GITSSH_SILENCE_MS, said, e);
	return ret == 0 ? GITSSH_OK : ret == -ETIMEDOUT ? GITSSH_SILENT : GITSSH_FAILED;
}

static enum gitssh_end child_run(const struct gitssh_job *job, struct buf *said, struct err *e)
{
	_cleanup_(session_free_p) ssh_session s = NULL;
	enum gitssh_end end;
	int fd = -1;

	if (take_socket(job, &fd, e) < 0)
		return e->code == -ETIMEDOUT ? GITSSH_SILENT : GITSSH_FAILED;
	s = ssh_new();
	if (!s) {
		(void)err_set(e, -ENOMEM, "no ssh session");
		return GITSSH_FAILED;
	}
	if (set_options(s, job, fd, e) < 0)
		return GITSSH_FAILED;
	end = connect_to(s, job, e);
	if (end == GITSSH_OK)
		end = log_in(s, job, e);
	if (end == GITSSH_OK)
		end = run(s, job, said, e);
	/* Whoever waits for the end of the stream need not wait for a farewell to the server. */
	(void)shutdown(job->stream_fd, SHUT_RDWR);
	return end;
}

int gitssh_child(const struct gitssh_job *job)
{
	char why[GIT_STREAM_WHY_MAX];
	struct err e = ERR_INIT;
	enum gitssh_end end;
	struct buf said, line;

	(void)ssh_set_log_level(SSH_LOG_NOLOG);
	buf_init(&said, CHILD_SAID_MAX);
	buf_init(&line, sizeof(e.text) + CHILD_SAID_MAX);
	end = child_run(job, &said, &e);
	if (end != GITSSH_OK) {
		(void)!buf_append_str(&line, str_of(e.text));
		if (buf_len(&said) > 0)
			(void)!buf_append_str(&line, STR_LIT(": "));
		(void)!buf_append_str(&line, str_trim(buf_str(&said)));
		text_visible_cstr(why, sizeof(why), buf_str(&line));
		(void)!io_write_all(job->why_fd, why, strlen(why));
	}
	buf_free(&said);
	buf_free(&line);
	return (int)end;
}
