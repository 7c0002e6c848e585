/*
 * The system's root certificates, made into X509 objects only when a chain asks for one by its
 * name. Theory of operation: at the start the bundle is decoded to DER, which is kept, with a hash
 * of each subject; OpenSSL's store asks us for what it has not seen yet, and gets all roots of that
 * name. Reading 150 certificates took 20 ms and 2 MiB of a role of which a few are ever used. One
 * that turns out not to be a certificate verifies nothing.
 */
#include "net/tls_priv.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <openssl/asn1.h>
#include <openssl/x509_vfy.h>

#define ROOT_DER_MAX 16384u

struct tls_root {
	unsigned long name_hash;
	size_t at, n; /* of tls_roots.der */
	X509 *cert;   /* once it was asked for */
};

struct tls_roots {
	uint8_t *der;
	size_t der_n;
	struct tls_root *list;
	size_t n, cap;
};

/* Enters or skips one DER element, which must have this tag; its bytes with the header in *all. */
static bool element(struct str *in, int tag, bool enters, struct str *all)
{
	const unsigned char *p = (const unsigned char *)in->p;
	long n = 0;
	int found = 0, class = 0, ret;
	size_t header;

	ret = ASN1_get_object(&p, &n, &found, &class, (long)in->n);
	if ((ret & 0x80) || (ret & 1) || n < 0 || found != tag)
		return false;
	header = (size_t)((const char *)p - in->p);
	if ((size_t)n > in->n - header)
		return false;
	*all = str_sub(*in, 0, header + (size_t)n);
	*in = enters ? str_sub(*all, header, all->n) : str_sub(*in, all->n, in->n);
	return true;
}

/* RFC 5280 section 4.1: the subject's name is the sixth element of what is signed. */
static bool subject_hash(struct str der, unsigned long *hash)
{
	struct str all, version = der;
	const unsigned char *p;
	X509_NAME *name;
	int is_done = 0;

	if (!element(&der, V_ASN1_SEQUENCE, true, &all) || all.n != version.n ||
	    !element(&der, V_ASN1_SEQUENCE, true, &all))
		return false;
	version = der;
	if (der.n > 0 && (uint8_t)der.p[0] == 0xa0 && element(&version, 0, false, &all))
		der = version;
	if (!element(&der, V_ASN1_INTEGER, false, &all) ||
	    !element(&der, V_ASN1_SEQUENCE, false, &all) ||
	    !element(&der, V_ASN1_SEQUENCE, false, &all) ||
	    !element(&der, V_ASN1_SEQUENCE, false, &all) ||
	    !element(&der, V_ASN1_SEQUENCE, false, &all))
		return false;
	p = (const unsigned char *)all.p;
	name = d2i_X509_NAME(NULL, &p, (long)all.n);
	if (!name)
		return false;
	*hash = X509_NAME_hash_ex(name, NULL, NULL, &is_done);
	X509_NAME_free(name);
	return is_done == 1;
}

/* One certificate's base64 text. */
static int root_add(struct tls_roots *r, struct str text, struct err *e)
{
	unsigned char coded[ROOT_DER_MAX / 3 * 4];
	struct tls_root root = {.at = r->der_n};
	size_t n = 0, pad = 0;
	int got;

	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] == '\n' || text.p[i] == '\r' || text.p[i] == ' ')
			continue;
		if (n == sizeof(coded))
			return err_set(e, -EFBIG, "a root certificate is too large");
		coded[n++] = (unsigned char)text.p[i];
	}
	while (pad < 2 && n > pad && coded[n - 1 - pad] == '=')
		pad++;
	got = n % 4 == 0 ? EVP_DecodeBlock(r->der + r->der_n, coded, (int)n) : -1;
	if (got < (int)pad)
		return err_set(e, -EBADMSG, "a root certificate is not base64");
	root.n = (size_t)got - pad;
	if (!subject_hash(str_slice(r->der + root.at, root.n), &root.name_hash))
		return err_set(e, -EBADMSG, "a root certificate has no name");
	r->der_n += root.n;
	r->list = mem_grow_array(r->list, &r->cap, r->n + 1, sizeof(*r->list));
	r->list[r->n++] = root;
	return 0;
}

static void roots_clean(struct tls_roots **r)
{
	tls_roots_free(*r);
}

static struct str after(struct str text, struct str mark, struct str *before)
{
	const char *at = text.n ? memmem(text.p, text.n, mark.p, mark.n) : NULL;

	if (!at)
		return STR_NULL;
	*before = str_slice(text.p, (size_t)(at - text.p));
	return str_sub(text, before->n + mark.n, text.n);
}

int tls_roots_new(struct tls_roots **out, struct str pem, struct err *e)
{
	static const struct str begin = {"-----BEGIN CERTIFICATE-----", 27};
	static const struct str end = {"-----END CERTIFICATE-----", 25};
	_cleanup_(roots_clean) struct tls_roots *r = mem_zalloc(sizeof(*r));
	struct str body;
	uint8_t *tight;
	int ret;

	*out = NULL;
	/* Decoded text is shorter than text; the decoder writes up to two bytes more. */
	r->der = mem_zalloc(pem.n + 4);
	while ((pem = after(pem, begin, &body)).p) {
		pem = after(pem, end, &body);
		if (!pem.p)
			return err_set(e, -EBADMSG, "a root certificate is cut");
		ret = root_add(r, body, e);
		if (ret < 0)
			return err_prefix(e, "certificate %zu", r->n + 1);
	}
	tight = mem_zalloc(r->der_n + 1);
	memcpy(tight, r->der, r->der_n);
	free(r->der);
	r->der = tight;
	*out = take_ptr(&r);
	return 0;
}

void tls_roots_free(struct tls_roots *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->n; i++)
		X509_free(r->list[i].cert);
	free(r->list);
	free(r->der);
	free(r);
}

size_t tls_roots_count(const struct tls_roots *r)
{
	return r->n;
}

static bool root_load(struct tls_roots *r, struct tls_root *root, X509_STORE *store)
{
	const unsigned char *p = r->der + root->at;

	if (root->cert)
		return true;
	root->cert = d2i_X509(NULL, &p, (long)root->n);
	if (root->cert && X509_STORE_add_cert(store, root->cert) == 1)
		return true;
	X509_free(root->cert);
	root->cert = NULL;
	return false;
}

/* All roots of that name go to the store, where OpenSSL looks for the one that fits. */
static int by_subject(X509_LOOKUP *l, X509_LOOKUP_TYPE type, const X509_NAME *name,
		      X509_OBJECT *found)
{
	struct tls_roots *r = X509_LOOKUP_get_method_data(l);
	X509 *first = NULL;
	int is_done = 0;
	unsigned long hash;

	if (type != X509_LU_X509 || !name)
		return 0;
	hash = X509_NAME_hash_ex(name, NULL, NULL, &is_done);
	for (size_t i = 0; is_done && i < r->n; i++) {
		struct tls_root *root = &r->list[i];

		if (root->name_hash != hash || !root_load(r, root, X509_LOOKUP_get_store(l)) ||
		    X509_NAME_cmp(name, X509_get_subject_name(root->cert)) != 0)
			continue;
		first = first ? first : root->cert;
	}
	if (!first || X509_OBJECT_set1_X509(found, first) != 1)
		return 0;
	/* The caller takes a reference of its own and drops the object without freeing what it
	 * refers to: ours is in the list. */
	X509_free(first);
	return 1;
}

int tls_roots_attach(struct tls_roots *r, SSL_CTX *ctx, struct err *e)
{
	static X509_LOOKUP_METHOD *method;
	X509_LOOKUP *l;

	if (!method) {
		method = X509_LOOKUP_meth_new("roots by name");
		if (!method || X509_LOOKUP_meth_set_get_by_subject(method, by_subject) != 1)
			return err_set(e, -ENOMEM, "make a look-up of roots");
	}
	l = X509_STORE_add_lookup(SSL_CTX_get_cert_store(ctx), method);
	if (!l || X509_LOOKUP_set_method_data(l, r) != 1)
		return err_set(e, -ENOMEM, "add a look-up of roots");
	return 0;
}
