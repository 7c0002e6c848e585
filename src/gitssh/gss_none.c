/*
 * Debian's libssh is built with GSSAPI, and its static archive wants a Kerberos library for that,
 * of which there is no static one. Kerberos has no place here: logging in is by key alone, and
 * ssh_userauth_gssapi() is never called. So that nobody links a resolver, a credential cache and a
 * configuration reader into the bundle for it, these are its functions, and each says no.
 *
 * libssh refers to them by name only; their types do not matter to the linker, and no header of
 * theirs is installed with it.
 */
#include <stddef.h>
#include <stdint.h>

#define GSS_S_UNAVAILABLE (16u << 16) /* RFC 2744, section 3.9.1 */

/* clang-format off */
#define NONE(name) uint32_t name(void); uint32_t name(void) { return GSS_S_UNAVAILABLE; }
/* clang-format on */

NONE(gss_accept_sec_context)
NONE(gss_acquire_cred)
NONE(gss_add_oid_set_member)
NONE(gss_create_empty_oid_set)
NONE(gss_display_name)
NONE(gss_display_status)
NONE(gss_get_mic)
NONE(gss_import_name)
NONE(gss_indicate_mechs)
NONE(gss_init_sec_context)
NONE(gss_inquire_cred)
NONE(gss_inquire_cred_by_mech)
NONE(gss_release_buffer)
NONE(gss_release_cred)
NONE(gss_release_name)
NONE(gss_release_oid_set)
NONE(gss_test_oid_set_member)
NONE(gss_verify_mic)

extern void *GSS_C_NT_HOSTBASED_SERVICE, *GSS_C_NT_USER_NAME;
void *GSS_C_NT_HOSTBASED_SERVICE, *GSS_C_NT_USER_NAME;
