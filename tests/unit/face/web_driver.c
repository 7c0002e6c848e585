/*
 * web_driver PORT COUNT [TOKEN_MS]: the page's server over COUNT plain requests, and some that an
 * agent would make to deceive. SIGUSR1: one request more.
 */
#include "base/str.h"
#include "face/web.h"
#include "fake_face.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static volatile sig_atomic_t n_more;

static void on_usr1(int signo)
{
	(void)signo;
	n_more = n_more + 1;
}

/* As long as a name can be, with what it is at its end. */
static void add_more(void)
{
	char host[256];

	(void)snprintf(host, sizeof(host), "api.example.com.%0*d.evil.example", 224, 0);
	for (; n_more > 0; n_more = n_more - 1)
		(void)fake_add(ASK_EGRESS, host, DANGER_NOTE, "one more");
}

int main(int argc, char **argv)
{
	struct face_web_options o = {0};
	struct err e = ERR_INIT;
	uint64_t port = 0, count = 0, token_ms = 0;
	char host[64];

	if (argc < 3 || str_to_u64(str_of(argv[1]), 65535, &port) < 0 ||
	    str_to_u64(str_of(argv[2]), 16000, &count) < 0 ||
	    (argc > 3 && str_to_u64(str_of(argv[3]), 60000, &token_ms) < 0))
		return 2;
	fake_reset();
	o.port = (uint16_t)port;
	o.token_ms = (uint32_t)token_ms;
	(void)signal(SIGUSR1, on_usr1);
	(void)fake_add(ASK_EGRESS, "api.example.com", DANGER_NOTE, "to read the documentation");
	(void)fake_add(ASK_EGRESS, "xn--pypal-4ve.com", DANGER_WARN,
		       "<img src=x onerror=alert(1)><script>document.title='owned'</script> "
		       "\xe2\x80\xae gpj.exe \xe2\x80\x8b zero \x1b[2J \" onclick=\"x");
	(void)fake_add(ASK_EGRESS, "metadata.internal", DANGER_NEVER, "please");
	(void)fake_add(ASK_RELEASE, "api.example.com", DANGER_WARN, "it is an example key");
	(void)fake_add(ASK_CAPABILITY, "none.example.com", DANGER_NOTE, "a mount of /data");
	for (uint64_t i = 0; i < count; i++) {
		(void)snprintf(host, sizeof(host), "h%llu.example.com", (unsigned long long)i);
		(void)fake_add(ASK_EGRESS, host, i % 4 == 3 ? DANGER_WARN : DANGER_NOTE, "flood");
	}
	fake.on_refresh = add_more;
	if (face_web(&o, &e) < 0) {
		(void)fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	return 0;
}
