/*
 * N08, N12, F05: ways out that only a virtual machine has, by what its monitor does for it: user
 * networking that dials from the host, sockets to the host, shared folders. They are tried in any
 * bottle; where there is nothing of the kind the try is refused, or says so.
 */
#include "probe/probe.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "net/sock.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <linux/vm_sockets.h>

#define VSOCK_MS	  500
#define NO_VSOCK_LOOPBACK "this host's vsock does not lead to itself"

/* --- N08 --- */

/* A spelling is the resolver's business; here it becomes the address that a client would dial. */
static void try_spelling(const struct probe_env *env, const char *id, const char *spelling)
{
	char address[INET6_ADDRSTRLEN];
	struct in_addr a;

	(void)snprintf(address, sizeof(address), "%s", spelling);
	if (inet_aton(spelling, &a) != 0)
		(void)inet_ntop(AF_INET, &a, address, sizeof(address));
	/* The one listens on loopback alone; that one has an IPv6 brother. */
	probe_try_tcp(env, id, spelling, address, strchr(spelling, ':') ? env->any : env->loop);
}

static void run_n08(const struct probe_env *env, const char *id)
{
	/* Of user networking: the host itself, its resolver, its other services; of bridges and of
	 * macOS's: the first address. */
	static const char *const gateways[] = {"10.0.2.2",     "10.0.2.3",	"10.0.2.4",
					       "192.168.64.1", "192.168.127.1", "192.168.127.254"};
	static const char *const spellings[] = {"127.1", "0", "2130706433", "0.0.0.0",
						"0x7f000001"};

	for (size_t i = 0; i < ARRAY_LEN(gateways); i++) {
		const char *address = env->is_control ? "127.0.0.1" : gateways[i];
		_cleanup_free_ char *loop = mem_printf("%s-loop", gateways[i]);

		probe_try_tcp(env, id, gateways[i], address, env->any);
		probe_try_tcp(env, id, loop, address, env->loop);
	}
	probe_try_udp(env, id, "gateway-udp", env->is_control ? "127.0.0.1" : "10.0.2.2", env->any);
	probe_try_dns(env, id, "gateway-resolver", NULL, env->is_control ? "127.0.0.1" : "10.0.2.3",
		      env->is_control ? env->dns : 53, false, 1);
	for (size_t i = 0; i < ARRAY_LEN(spellings); i++)
		try_spelling(env, id, spellings[i]);
	if (env->is_control && !probe_has_address("::1", false))
		probe_skip(id, "::1", "this host has no IPv6");
	else
		try_spelling(env, id, "::1");
}

/* --- N12 --- */

/* Connected, or -errno. */
static int connect_vsock(unsigned cid, unsigned port)
{
	struct sockaddr_vm sa = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
	_cleanup_close_ int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t n = sizeof(int);
	int error = 0;

	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
		return take_fd(&fd);
	if (errno != EINPROGRESS)
		return -errno;
	if (io_wait(fd, POLLOUT, VSOCK_MS) != 1)
		return -ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0 || error)
		return -(error ? error : EIO);
	return take_fd(&fd);
}

/* True when somebody was met. */
static bool try_cid(const struct probe_env *env, const char *id, const char *label, unsigned cid)
{
	/* The canary's, and what monitors, agents of theirs and shells listen on. */
	const unsigned ports[] = {env->vsock, 1, 22, 53, 1024, 1025, 2375, 5000, 5252, 6000, 9999};
	char token[PROBE_TOKEN_SIZE], detail[96] = "";
	bool is_through = false;

	probe_token(env, id, label, token);
	for (size_t i = 0; i < (env->is_control ? 1 : ARRAY_LEN(ports)); i++) {
		int fd = ports[i] ? connect_vsock(cid, ports[i]) : -ENODEV;

		if (!is_through)
			(void)snprintf(detail, sizeof(detail), "CID %u port %u: %s", cid, ports[i],
				       fd >= 0 ? "connected" : strerror(-fd));
		is_through |= fd >= 0;
		if (fd >= 0) {
			sock_say(fd, str_of(token), VSOCK_MS);
			(void)close(fd);
		}
	}
	if (env->is_control && !is_through)
		probe_skip(id, label, NO_VSOCK_LOOPBACK);
	else
		probe_report(id, label, token, is_through, 0, detail);
	return is_through;
}

/* That these can be had outside is the control of their refusal here. */
static void try_vsock(const struct probe_env *env, const char *id)
{
	/* Its own loopback, of which the control makes use too, its host, its siblings. Outside
	 * nobody but this host is dialled: it may itself be a machine on another one. */
	static const struct {
		const char *label;
		unsigned cid;
	} cids[] = {{"hypervisor", VMADDR_CID_HYPERVISOR},
		    {"local", VMADDR_CID_LOCAL},
		    {"host", VMADDR_CID_HOST},
		    {"machine-3", 3},
		    {"machine-4", 4}};
	_cleanup_close_ int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int error = fd < 0 ? errno : 0;
	bool is_deaf = false;

	if (env->is_control && error)
		probe_skip(id, "socket", "this host's kernel has no vsock");
	else
		probe_report(id, "socket", "", !error, 0, error ? strerror(error) : "it was made");
	for (size_t i = 0; i < ARRAY_LEN(cids); i++) {
		/* One time-out is enough for all of them. */
		if (is_deaf)
			probe_skip(id, cids[i].label, NO_VSOCK_LOOPBACK);
		else
			is_deaf = !try_cid(env, id, cids[i].label,
					   env->is_control ? VMADDR_CID_LOCAL : cids[i].cid) &&
				  env->is_control;
	}
}

/* What a monitor and its machine talk over: who can open one speaks for the machine. */
static void try_ports(const struct probe_env *env, const char *id)
{
	static const char *const prefixes[] = {"vport", "hvc", "ttyS"};
	_cleanup_closedir_ DIR *dir = opendir("/dev");
	char detail[96] = "there is none";
	bool is_through = false;
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		_cleanup_free_ char *path = mem_printf("/dev/%s", entry->d_name);

		for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
			_cleanup_close_ int fd = -1;

			if (!str_starts(str_of(entry->d_name), str_of(prefixes[i])))
				continue;
			fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
			if (!is_through)
				(void)snprintf(detail, sizeof(detail), "%.60s: %s", path,
					       fd < 0 ? strerror(errno) : "opened");
			is_through |= fd >= 0;
		}
	}
	if (env->is_control && !is_through)
		probe_skip(id, "monitor-port",
			   "this host has no port to a monitor that could be opened");
	else
		probe_report(id, "monitor-port", "", is_through, 0, detail);
}

static void run_n12(const struct probe_env *env, const char *id)
{
	try_vsock(env, id);
	try_ports(env, id);
}

/* --- F05 --- */

/* Where a file system that a machine's host serves is mounted; false: there is none. */
static bool find_shared(char where[512])
{
	static const char *const kinds[] = {"virtiofs", "9p", "vboxsf", "fuse.vmhgfs-fuse"};
	_cleanup_fclose_ FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[1024], kind[64];

	while (f && fgets(line, sizeof(line), f)) {
		const char *rest = strstr(line, " - ");

		if (!rest || sscanf(rest, " - %63s", kind) != 1 ||
		    sscanf(line, "%*s %*s %*s %*s %511s", where) != 1)
			continue;
		for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
			if (strcmp(kind, kinds[i]) == 0)
				return true;
	}
	return false;
}

/* Past every look-up: by the file system's own number of its root. */
static int try_handle(const char *where)
{
	union {
		struct file_handle head;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} handle = {.head.handle_bytes = MAX_HANDLE_SZ};
	_cleanup_close_ int dir = open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_close_ int fd = -1;
	int mount_id;

	if (dir < 0 || name_to_handle_at(dir, "", &handle.head, &mount_id, AT_EMPTY_PATH) < 0)
		return errno;
	fd = open_by_handle_at(dir, &handle.head, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? errno : 0;
}

/* The canary's socket lies beside no bottle's folder. */
static void run_f05(const struct probe_env *env, const char *id)
{
	_cleanup_free_ char *out = NULL;
	char where[512] = "/";
	int error;

	if (!env->is_control && !find_shared(where)) {
		probe_skip(id, "shared-folder",
			   "nothing here is a file system of a machine's host (virtio-fs, 9p)");
		return;
	}
	out = mem_printf("%s/../../../../../../../..%s", where, env->path);
	error = access(out, F_OK) < 0 ? errno : 0;
	probe_report(id, "shared-folder", "", !error, 0, error ? strerror(error) : out);
	error = try_handle(where);
	if (env->is_control && error)
		probe_skip(id, "handle", "the control needs root, and a file system with handles");
	else
		probe_report(id, "handle", "", !error, 0, error ? strerror(error) : where);
}

const struct probe probes_machine[] = {{"N08", run_n08}, {"N12", run_n12}, {"F05", run_f05}};
const size_t n_probes_machine = ARRAY_LEN(probes_machine);
