/*
 * Stands in for claude-bottle-bundle in the tests of the keeper: answers "ready" and then every
 * connection with a refusal. The bottle's slug says how it misbehaves: "fake-fail" reports a
 * failure, "fake-mute" never gets ready, "fake-die" ends at the second connection (the first is the
 * canary's).
 */
#include "base/clean.h"
#include "base/io.h"
#include "bundle/bundle.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

static int argument(char **argv, const char *name)
{
	size_t n = strlen(name);
	uint64_t fd;

	for (; *argv; argv++) {
		if (strncmp(*argv, name, n) == 0 && (*argv)[n] == '=' &&
		    str_to_u64(str_of(*argv + n + 1), 65535, &fd) == 0)
			return (int)fd;
	}
	return -1;
}

static void say(int control, const char *text)
{
	(void)!send(control, text, strlen(text), MSG_NOSIGNAL);
}

static void answer(int listener)
{
	static const char refusal[] = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
	_cleanup_close_ int c = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	char request[1024];

	if (c >= 0 && io_wait(c, POLLIN, 1000) == 1 && recv(c, request, sizeof(request), 0) > 0)
		(void)!send(c, refusal, sizeof(refusal) - 1, MSG_NOSIGNAL);
}

static int serve(char **argv)
{
	int control = argument(argv, "control"), listener = argument(argv, "pipelock");
	int records = argument(argv, "records"), secrets = argument(argv, "secrets");
	struct str config = STR_NULL, values = STR_NULL;
	unsigned connections = 0;

	if (control < 0 || listener < 0 || records < 0 || secrets < 0 ||
	    argument(argv, "dns_udp") < 0 || argument(argv, "dns_tcp") < 0 ||
	    argument(argv, "rules") < 0 ||
	    io_read_all(argument(argv, "config"), 1u << 20, &config, NULL) < 0 ||
	    io_read_all(secrets, 1u << 20, &values, NULL) < 0) {
		say(control, "{\"event\":\"failed\",\"text\":\"a descriptor is missing\"}");
		return 1;
	}
	(void)!write(records, "{\"fake\":true}\n", 14);
	if (str_find(config, STR_LIT("fake-fail")) < config.n) {
		say(control, "{\"event\":\"failed\",\"text\":\"as the test asked\"}");
		return 1;
	}
	if (str_find(config, STR_LIT("fake-mute")) == config.n)
		say(control, "{\"event\":\"ready\",\"ca_pem\":\"FAKE-CA\\n\"}");
	for (;;) {
		struct pollfd fds[] = {{.fd = control, .events = POLLIN},
				       {.fd = listener, .events = POLLIN}};

		if (poll(fds, 2, -1) > 0 && fds[0].revents)
			return 0;
		if (fds[1].revents) {
			answer(listener);
			if (++connections == 2 && str_find(config, STR_LIT("fake-die")) < config.n)
				return 3;
		}
	}
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "rules-key") == 0)
		return printf("%064x\n", 1) > 0 ? 0 : 1;
	if (argc > 1 && strcmp(argv[1], "compile-rules") == 0)
		return printf("fake rules\n") > 0 ? 0 : 1;
	if (argc > 1 && strcmp(argv[1], "init") == 0)
		return serve(argv + 2);
	return 2;
}
